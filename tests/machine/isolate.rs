//! Commands apart from each other, on a kernel whose Landlock has scopes, and on one that has not.

use crate::common::line;
use crate::guest::{Machine, ask, connect};

/// Its pid; then what it can do to another process, and whether it may link a file into another folder.
const TAKEN: &str = "
echo $$
while read -r what pid; do
    case $what in
    signal) kill -0 \"$pid\" 2>/dev/null ;;
    memory) (: <\"/proc/$pid/mem\") 2>/dev/null ;;
    link) rm -rf /tmp/a /tmp/b; mkdir /tmp/a /tmp/b && : >/tmp/a/file && ln -f /tmp/a/file /tmp/b/file && mv /tmp/b/file /tmp/a/other ;;
    esac && echo works || echo denied
done
";

/// Before Linux 6.12 traces and memory are closed and signals are not, which is said; no access to files is lost on either.
pub fn a_command_is_kept_apart_as_far_as_the_kernel_can(machine: &Machine) {
    let has_scopes = match machine.ok("uname -r") {
        release if release.starts_with("6.1.") => false,
        release if release.starts_with("6.12.") => true,
        other => panic!("which Landlock has Linux {other}?"),
    };
    for is_apart in [true, false] {
        machine.serve("", if is_apart { "--isolate=signals" } else { "" }, TAKEN);
        let (mut taken, mut neighbour) = (connect(), connect());
        let (_, pid) = (line(&mut taken), line(&mut neighbour));
        let mut tried = |what: &str| ask(&mut taken, &format!("{what} {pid}"));
        assert_eq!(tried("memory"), if is_apart { "denied" } else { "works" }, "is apart: {is_apart}");
        assert_eq!(tried("signal"), if is_apart && has_scopes { "denied" } else { "works" }, "is apart: {is_apart}");
        assert_eq!(tried("link"), "works", "is apart: {is_apart}");
        drop((taken, neighbour));
        if is_apart && !has_scopes {
            machine.until_said("signals still pass between them: that needs Linux 6.12 (Landlock ABI 6, here it is 2)");
        }
        machine.until_status("0/100 active, 0 waiting, 0 refused, 2 served");
        machine.assert_unharmed();
        machine.ok("systemctl stop probe.socket probe.service");
    }
}
