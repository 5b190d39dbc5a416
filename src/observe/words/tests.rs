//! Numbers, sources and errors in words.
#![forbid(unsafe_code)]

use super::*;
use crate::policy::gate::WhenFull;
use crate::policy::reason::Reason;
use crate::policy::throttle::Summary;

/// One is no "1 commands", and no number makes nonsense.
#[test]
fn numbers_read_as_they_are_spoken() {
    let killing = |active, strays| Event::Killing { signal: "SIGTERM", active, strays }.to_string();
    assert_eq!(killing(1, 0), "sending SIGTERM to 1 command still running");
    assert_eq!(killing(2, 0), "sending SIGTERM to 2 commands still running");
    assert_eq!(killing(0, 1), "sending SIGTERM to 1 process left behind by commands");
    assert_eq!(killing(0, 2), "sending SIGTERM to 2 processes left behind by commands");
    assert_eq!(killing(1, 1), "sending SIGTERM to 1 command still running and 1 other process of the service");
    assert_eq!(killing(2, 2), "sending SIGTERM to 2 commands still running and 2 other processes of the service");
    let taken = |running, unknown, held| Event::TakenOver { running, unknown, held, sources: vec![] }.to_string();
    assert_eq!(taken(1, 0, 1), "took over from the previous daemon: 1 command running, 1 client held");
    assert_eq!(taken(0, 0, 2), "took over from the previous daemon: 0 commands running, 2 clients held");
    let stopping = |is_forced| {
        let asked_by = "root (pid 9)".to_owned();
        Event::Stopping { id: 17, pid: 4242, is_forced, asked_by }.to_string()
    };
    assert_eq!(stopping(false), "stopping the command of connection 17 (pid 4242), as asked by root (pid 9)");
    assert_eq!(stopping(true), "killing the command of connection 17 (pid 4242), as asked by root (pid 9)");
    let again = |failures| Event::AcceptResumed { failures, lasted: Duration::from_secs(2) }.to_string();
    assert_eq!(again(1), "accepting again after 1 failure in 2.0 s");
    assert_eq!(again(3), "accepting again after 3 failures in 2.0 s");
    assert_eq!(Event::Lost { count: 1 }.to_string(), "lost 1 log entry: the log did not accept them in time");
    let told = |max, dry_run: &str| {
        let (dry_run, command) = (dry_run.to_owned(), "/bin/cat".to_owned());
        Event::Ready { max, when_full: WhenFull::Refuse, dry_run, command }.to_string()
    };
    let ready = |max| told(max, "");
    assert!(told(3, "max-rate").ends_with("(refuse when full; dry run: max-rate), command /bin/cat"));
    assert_eq!(ready(0), "ready: unlimited connections (refuse when full), command /bin/cat");
    assert_eq!(ready(1), "ready: at most 1 connection at once (refuse when full), command /bin/cat");
}

#[test]
fn who_most_of_it_came_from() {
    let of = |text: &str, count| (text.parse().unwrap(), count);
    let sources = vec![of("192.0.2.7", 301), of("2001:db8:1::/64", 90), of("uid=7", 1)];
    let summary = |sources| {
        let reason = Reason::QUEUE_FULL;
        Event::RejectedMore(Summary { reason, count: 495, lasted: Duration::from_secs(10), sources })
    };
    let Event::RejectedMore(all) = summary(sources.clone()) else { return };
    let most = "; most from 192.0.2.7 (301), 2001:db8:1::/64 (90), uid=7 (1)";
    let refused = "495 more connections in the last 10.0 s: queue full";
    assert_eq!(Event::WouldRejectMore(all).to_string(), format!("dry run: would reject {refused}{most}"));
    assert_eq!(summary(sources.clone()).to_string(), format!("refused {refused}{most}"));
    assert_eq!(summary(vec![]).to_string(), format!("refused {refused}"));
    let taken = Event::TakenOver { running: 390, unknown: 0, held: 2, sources };
    let took = "took over from the previous daemon: 390 commands running, 2 clients held";
    assert_eq!(taken.to_string(), format!("{took}{most}"));
}

#[test]
fn an_errno_has_its_name() {
    let said = How::NotStarted(11).to_string();
    assert_eq!(said, "did not start (Resource temporarily unavailable (EAGAIN))");
}
