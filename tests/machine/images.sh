#!/bin/sh
# Makes what tests/machine/ boots: a disk with the root tree that tests/system/roots.sh has built of a Debian release, and two
# kernels with their modules on it:
#
#   bookworm (systemd 252)    its own, Linux 6.1, and bullseye's, 5.10
#   trixie (systemd 257)      its own, 6.12, and the newest that its backports have
#
# They land in ${SOCKCAP_RIG_DIR:-target/rig}/SUITE.machine/ as `root.ext4` and NAME.kernel, by one rename, and are left alone
# while this script and the tree are the same. The packages come from where mmdebstrap takes them by default. Needs root,
# mmdebstrap and mke2fs.
#
# bullseye is on its way to the archive, and backports come and go, so a mirror may not have the second kernel. That is no error,
# then: what would run on it is skipped, and says so; and it is looked for again at the next run.
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

# A kernel, as `$1.kernel`, and its modules, and what else of it these patterns name: what a suite, or the backports to it, has by this
# name. The package of the release itself is asked for by `/`, since that of its security updates may be gone already.
#
# Unpacked alone: nothing of it is run on this machine, and no initial RAM disk is made. The kernel has its drivers for NVMe and
# ext4 built in.
unpack() {
    name=$1 from=$2 packages=$3
    shift 3
    # From the mirror that mmdebstrap has chosen.
    # shellcheck disable=SC2016  # for that shell
    more='sed -n "s,^\(deb .*\) \([a-z]*\) main$,\1 \2-backports main,p" "$1/etc/apt/sources.list" >"$1/etc/apt/sources.list.d/more.list"'
    [ "$name" = backports ] || more=true
    mmdebstrap --quiet --variant=extract --include="$packages" --format=tar --setup-hook="$more" "$from" "$new/kernel.tar" || return
    tar -C "$new/kernel.tree" --numeric-owner --wildcards -xf "$new/kernel.tar" '*/vmlinuz*' '*/modules.*' \
        '*/kernel/net/vmw_vsock/v*' '*/kernel/block/*' '*/kernel/fs/overlayfs/*' '*/kernel/fs/fuse/*' \
        '*/kernel/drivers/virtio/*' '*/kernel/drivers/block/virtio_blk.*' "$@"
    # Newer packages have it among the modules.
    find "$new/kernel.tree" -name 'vmlinuz*' -type f -exec mv {} "$new/$name.kernel" \;
    rm -rf "$new/kernel.tree/boot"
}

for suite; do
    tree=$dir/$suite made=$dir/$suite.machine
    [ -e "$tree/.rig-stamp" ] || tests/system/roots.sh "$suite"
    wanted=$(cksum <tests/machine/images.sh; stat -c %Y "$tree/.rig-stamp"; cat "$tree/.rig-stamp")
    [ "$(cat "$made/stamp" 2>/dev/null)" = "$wanted" ] && continue

    new=$(mktemp -d "$dir/.$suite.machine.XXXXXX")
    trap 'rm -rf -- "$new"' EXIT
    mkdir "$new/kernel.tree"
    unpack "$suite" "$suite" linux-image-cloud-amd64,kmod '*bin/kmod' '*bin/modprobe' '*bin/depmod' '*/libkmod.so*'
    case $suite in
        bookworm) second=bullseye from=bullseye package=linux-image-cloud-amd64/bullseye ;;
        *) second=backports from=$suite package=linux-image-cloud-amd64/$suite-backports ;;
    esac
    if ! unpack "$second" "$from" "$package"; then
        wanted="$wanted, and the kernel of $second" # the next run has another wish
        echo "images.sh: WARNING: no kernel of $second; tests on it will be SKIPPED" >&2
    fi

    root=$new/root
    mkdir "$root"
    cp -a --reflink=auto "$tree/." "$root"
    rm -rf "${root:?}"/boot/* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*
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
