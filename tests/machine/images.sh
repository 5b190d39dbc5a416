#!/bin/sh
# Makes what tests/machine/ boots: the kernel of a Debian release, and a disk with the root tree that tests/system/roots.sh
# has built of that release (systemd 252 with Linux 6.1, 257 with 6.12).
#
# They land in ${SOCKCAP_RIG_DIR:-target/rig}/SUITE.machine/ as `kernel` and `root.ext4`, by one rename, and are left alone
# while this script and the tree are the same. The packages come from where mmdebstrap takes them by default. Needs root,
# mmdebstrap and mke2fs.
#
#   tests/machine/images.sh [bookworm] [trixie]
set -eu

cd "$(dirname "$0")/../.."
dir=${SOCKCAP_RIG_DIR:-target/rig}

[ $# -gt 0 ] || set -- bookworm trixie
[ "$(id -u)" = 0 ] || { echo "images.sh: must be root" >&2; exit 1; }
PATH=$PATH:/usr/sbin:/sbin
for tool in mmdebstrap mke2fs; do
    command -v $tool >/dev/null || { echo "images.sh: $tool is not installed" >&2; exit 1; }
done

for suite; do
    tree=$dir/$suite made=$dir/$suite.machine
    [ -e "$tree/.rig-stamp" ] || tests/system/roots.sh "$suite"
    wanted=$(cksum <tests/machine/images.sh; stat -c %Y "$tree/.rig-stamp"; cat "$tree/.rig-stamp")
    [ "$(cat "$made/stamp" 2>/dev/null)" = "$wanted" ] && continue

    new=$(mktemp -d "$dir/.$suite.machine.XXXXXX")
    trap 'rm -rf -- "$new"' EXIT
    # Unpacked alone: nothing of it is run on this machine, and no initial RAM disk is made. The kernel has its drivers for
    # NVMe and ext4 built in.
    mmdebstrap --quiet --variant=extract --include=linux-image-cloud-amd64,kmod --format=tar "$suite" "$new/kernel.tar"
    mkdir "$new/kernel.tree"
    tar -C "$new/kernel.tree" --numeric-owner --wildcards -xf "$new/kernel.tar" './boot/vmlinuz-*' '*bin/kmod' '*bin/modprobe' \
        '*bin/depmod' '*/libkmod.so*' '*/modules.*' '*/kernel/net/vmw_vsock/v*' '*/kernel/block/*' '*/kernel/fs/overlayfs/*' \
        '*/kernel/fs/fuse/*' '*/kernel/drivers/virtio/*' '*/kernel/drivers/block/virtio_blk.*'
    cp "$new/kernel.tree"/boot/vmlinuz-* "$new/kernel"
    rm -r "$new/kernel.tree/boot"

    root=$new/root
    cp -a --reflink=auto "$tree" "$root"
    rm -rf "$root"/boot/* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*
    # Older packages have these folders beside /usr.
    for part in bin sbin lib usr/bin usr/sbin usr/lib; do
        [ ! -d "$new/kernel.tree/$part" ] || cp -a "$new/kernel.tree/$part/." "$root/usr/${part#usr/}/"
    done
    for modules in "$root"/usr/lib/modules/*; do
        chroot "$root" depmod "${modules##*/}"
    done
    mkdir -p "$root/payload" "$root/var/log/journal"
    echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
    echo machine >"$root/etc/hostname"
    echo '/dev/nvme0n1 / ext4 defaults 0 0' >"$root/etc/fstab"
    cat >"$root/etc/systemd/system/machine.service" <<'UNIT'
[Unit]
Description=Cases of the test program machine
Requires=basic.target
After=basic.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
# Whoever runs out of memory or processes, it is not who tells of it.
OOMScoreAdjust=-1000
TasksMax=infinity
ExecStart=/bin/sh -c 'modprobe -a virtio_pci virtio_blk && mount -t ext4 -o ro /dev/vda /payload && exec sh /payload/guest.sh'
UNIT
    # Each would cost time at the start, and no case needs it.
    for unit in getty@tty1.service serial-getty@ttyS0.service systemd-random-seed.service systemd-hwdb-update.service \
        systemd-boot-random-seed.service ldconfig.service systemd-journal-catalog-update.service \
        systemd-update-done.service systemd-update-utmp.service systemd-pstore.service systemd-udev-trigger.service \
        systemd-udev-settle.service systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket \
        sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount dev-mqueue.mount modprobe@.service \
        systemd-tmpfiles-setup-dev-early.service systemd-network-generator.service systemd-binfmt.service \
        proc-sys-fs-binfmt_misc.automount systemd-modules-load.service kmod-static-nodes.service e2scrub_reap.service; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done

    # They would run anew whenever units are read.
    mkdir -p "$root/etc/systemd/system-generators"
    for generator in "$root"/usr/lib/systemd/system-generators/*; do
        ln -s /dev/null "$root/etc/systemd/system-generators/${generator##*/}"
    done

    # No journal: what is written goes with the machine.
    truncate -s 1500M "$new/root.ext4"
    mke2fs -q -t ext4 -O ^has_journal,^metadata_csum -E lazy_itable_init=0,root_owner=0:0 -d "$root" "$new/root.ext4"
    rm -rf "$root" "$new/kernel.tree" "$new/kernel.tar"
    printf '%s\n' "$wanted" >"$new/stamp"
    rm -rf -- "$made"
    mv "$new" "$made"
    trap - EXIT
    echo "images.sh: made $made"
done
