# Runs in the machine, as the unit machine.service: the tests whose names come in by the second serial line, one after the
# other, each in a process of its own. Out go what it prints, each line behind a `|`, and `= STATUS`.

touch /usr/bin/sockcap /usr/bin/sockcapctl
for program in sockcap sockcapctl; do
    mount --bind /payload/$program /usr/bin/$program
done
# Memory for a file is that of the group which reads it first: a service at its limit would lose the programs that it runs, and read
# them over and over again.
cat /payload/sockcap /bin/sh /bin/cat >/dev/null
cp /payload/units/* /usr/lib/systemd/system/
systemctl daemon-reload
# The nearest that there is to another machine is the loopback of VSOCK.
modprobe vsock_loopback

stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
echo ready >&3
while read -r test <&3; do
    {
        # Longer than any fuse of a case, shorter than the one outside.
        SOCKCAP_MACHINE=here timeout -k 5 500 /payload/machine --exact "$test" --nocapture --test-threads=1
        status=$?
        echo $status >/run/status
        if [ $status != 0 ]; then
            echo # the words before it may end without
            systemctl status --no-pager -n 0 'probe*'
            echo "the end of the journal:"
            journalctl -q -b -n 100 --no-pager -o short-monotonic
        fi
    } 2>&1 </dev/null 3>&- | sed -u 's/^/|/; $a\' >&3
    read -r status </run/status
    echo "= $status" >&3
done
