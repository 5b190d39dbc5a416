//! Commands apart from each other, on kernels whose Landlock has scopes, has none, or which have no Landlock.

use crate::common::line;
use crate::guest::{Machine, ask, connect};
use crate::kernels::Kernel;

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

/// Before Linux 6.12 traces and memory are closed and signals are not, and before 5.19 neither, which is said; no access to files is lost
/// on any.
pub fn a_command_is_kept_apart_as_far_as_the_kernel_can(machine: &Machine) {
    let abi = Kernel::of(machine).landlock_abi;
    let (has_domains, has_scopes) = (abi.is_some(), abi.is_some_and(|abi| abi >= 6));
    for is_apart in [true, false] {
        // What cannot be had and is named is an error.
        let wish = if has_domains { "--isolate=signals" } else { "--isolate=-signals" };
        machine.serve("", if is_apart { wish } else { "" }, TAKEN);
        let (mut taken, mut neighbour) = (connect(), connect());
        let (_, pid) = (line(&mut taken), line(&mut neighbour));
        let mut tried = |what: &str| ask(&mut taken, &format!("{what} {pid}"));
        assert_eq!(tried("memory"), if is_apart && has_domains { "denied" } else { "works" }, "is apart: {is_apart}");
        assert_eq!(tried("signal"), if is_apart && has_scopes { "denied" } else { "works" }, "is apart: {is_apart}");
        assert_eq!(tried("link"), "works", "is apart: {is_apart}");
        drop((taken, neighbour));
        let said = match abi {
            None => {
                "commands run without --isolate=signals, which cannot be had here: the kernel has no Landlock: it needs Linux 5.19"
            }
            _ if !has_scopes => "signals still pass between them: that needs Linux 6.12 (Landlock ABI 6, here it is 2)",
            _ => "",
        };
        if is_apart {
            machine.until_said(said);
            let told =
                abi.map_or("(cannot be had: the kernel has no Landlock".into(), |abi| format!("(Landlock ABI {abi}"));
            let check = machine
                .ok("env -u SOCKCAP_MACHINE sockcap --check --listen 127.0.0.1:0 --isolate=-signals -- /bin/true");
            assert!(check.contains(&format!("signals {told}")), "{check}");
        }
        machine.until_status("0/100 active, 0 waiting, 0 refused, 2 served");
        machine.assert_unharmed();
        machine.ok("systemctl stop probe.socket probe.service");
    }
}
