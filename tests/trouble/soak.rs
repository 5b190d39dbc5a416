//! A soak: a million connections through a cap of 8. Every one of them is counted right, no descriptor stays behind, and the
//! daemon's own memory is what it was after the first few thousand.
//!
//! Takes minutes and both processors, so it runs only when asked for; `SOCKCAP_SOAK=30000` makes it smaller:
//!
//!     cargo test --release --test trouble soak -- --ignored --nocapture --test-threads=1

use crate::common::*;

fn soaked(when_full: &str, share: u64) -> Tally {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "8", "--when-full", when_full])
        .run(&["/bin/true"])
        .start();
    let fds = daemon.open_fds();
    let is_idle = || daemon.commands().is_empty() && daemon.open_fds() == fds;
    let (accepted, tally) = soak(&daemon, daemon.addr(0), when_full, share, is_idle, None);
    let Tally { served, refused } = tally;
    assert_eq!(daemon.stop(), Totals { accepted, served, refused, ..Totals::default() });
    tally
}

#[test]
#[ignore = "takes minutes"]
fn most_of_a_million_that_wait() {
    assert_eq!(soaked("wait", 75).refused, 0);
}

#[test]
#[ignore = "takes minutes"]
fn the_rest_of_a_million_some_of_them_refused() {
    assert!(soaked("refuse", 25).refused > 0, "nobody was refused: the cap was never reached");
}
