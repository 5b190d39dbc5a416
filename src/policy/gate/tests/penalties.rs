//! What a source earns by how its commands end.
#![forbid(unsafe_code)]

use super::*;

const NANO: Duration = Duration::from_nanos(1);
const SHORT: Duration = Duration::from_secs(120);

/// A gate on which a source has a command that ends so, at that time.
struct Tried {
    gate: Gate,
    t0: Instant,
}

impl Tried {
    fn new(of: &[(Outcome, u32, bool)]) -> Tried {
        let penalty = |(outcome, seconds, always): &(Outcome, u32, bool)| Penalty {
            outcome: *outcome,
            span: SECOND * *seconds,
            always: *always,
        };
        let of = of.iter().map(penalty).collect();
        let penalties = Penalties { of, min: 15 * SECOND, max: 60 * SECOND };
        let exempt = vec!["192.0.2.99".parse().unwrap()];
        let rules = Rules { max_per_listener: vec![0], penalties, max_sources: 16, exempt, ..Rules::default() };
        Tried { gate: Gate::new(&rules, WhenFull::Refuse, Hold::default(), 1), t0: any_time() }
    }

    /// As if the command had been running since before, whatever the penalties say by now.
    fn ends(&mut self, second: u32, source: &str, outcome: Outcome, lasted: Duration) {
        let now = self.t0 + SECOND * second;
        let slot = self.gate.adopt(now, Some(0), source.parse().unwrap(), &mut VecDeque::new());
        self.gate.ended(now, slot, Ending { outcome, lasted }, &mut VecDeque::new());
    }

    fn left(&mut self, now: Instant, source: &str) -> Option<Duration> {
        match arrive(&mut self.gate, now, from(1, source, source.ends_with(".99"))).0 {
            Verdict::Admit(_) => None,
            Verdict::Refuse(refusal) => {
                assert_eq!(refusal.reason, named("penalty"));
                refusal.retry
            }
            Verdict::Hold => panic!(),
        }
    }

    fn seconds_left(&mut self, second: u32, source: &str) -> Option<u32> {
        let left = self.left(self.t0 + SECOND * second, source)?;
        assert_eq!(left.subsec_nanos(), 0);
        Some(left.as_secs() as u32)
    }
}

#[test]
fn they_add_up_to_the_least_that_is_enforced_and_never_exceed_the_most() {
    let mut tried = Tried::new(&[(Outcome::Status(5), 5, false)]);
    for left in [None, None, Some(15), Some(20)] {
        tried.ends(0, "192.0.2.1", Outcome::Status(5), SECOND);
        assert_eq!(tried.seconds_left(0, "192.0.2.1"), left);
    }
    assert_eq!(tried.seconds_left(0, "192.0.2.2"), None);
    assert_eq!(tried.seconds_left(19, "192.0.2.1"), Some(1), "until all has expired");
    let t0 = tried.t0;
    assert_eq!(tried.left(t0 + 20 * SECOND - NANO, "192.0.2.1"), Some(NANO));
    assert_eq!(tried.seconds_left(20, "192.0.2.1"), None);
    for left in [None, None].into_iter().chain((3..=12).map(|n| Some(5 * n))).chain([Some(60)]) {
        tried.ends(20, "192.0.2.1", Outcome::Status(5), SECOND);
        assert_eq!(tried.seconds_left(20, "192.0.2.1"), left);
    }
}

#[test]
fn what_has_expired_meanwhile_does_not_count() {
    let mut tried = Tried::new(&[(Outcome::Status(1), 14, false)]);
    tried.ends(0, "192.0.2.1", Outcome::Status(1), SECOND);
    tried.ends(14, "192.0.2.1", Outcome::Status(1), SECOND);
    assert_eq!(tried.seconds_left(14, "192.0.2.1"), None);
    tried.ends(27, "192.0.2.1", Outcome::Status(1), SECOND);
    assert_eq!(tried.seconds_left(27, "192.0.2.1"), Some(15));
}

#[test]
fn each_end_has_its_price() {
    let ends = [
        Outcome::Status(0),
        Outcome::Status(1),
        Outcome::Status(255),
        Outcome::Signal,
        Outcome::TimeLimit,
        Outcome::Oom,
    ];
    for priced in ends {
        for end in ends.into_iter().chain([Outcome::Unknown]) {
            let mut tried = Tried::new(&[(priced, 15, false)]);
            tried.ends(0, "192.0.2.1", end, SECOND);
            assert_eq!(tried.seconds_left(0, "192.0.2.1").is_some(), end == priced, "{priced:?} {end:?}");
        }
    }
}

#[test]
fn who_ran_for_long_earns_nothing_but_for_always() {
    for (always, lasted, is_penalized) in [
        (false, Duration::ZERO, true),
        (false, SHORT, true),
        (false, SHORT + NANO, false),
        (true, SHORT + NANO, true),
        (true, SHORT * 1000, true),
    ] {
        let mut tried = Tried::new(&[(Outcome::Signal, 20, always)]);
        tried.ends(0, "192.0.2.1", Outcome::Signal, lasted);
        assert_eq!(tried.seconds_left(0, "192.0.2.1").is_some(), is_penalized, "{always} {lasted:?}");
    }
}

#[test]
fn a_network_shares_them_and_the_exempt_have_none() {
    let mut tried = Tried::new(&[(Outcome::Status(1), 15, false)]);
    tried.ends(0, "2001:db8::1", Outcome::Status(1), SECOND);
    assert_eq!(tried.seconds_left(0, "2001:db8::2"), Some(15));
    assert_eq!(tried.seconds_left(0, "2001:db8:0:1::2"), None);
    tried.ends(0, "192.0.2.99", Outcome::Status(1), SECOND);
    assert_eq!(tried.seconds_left(0, "192.0.2.99"), None);
    tried.ends(0, "?", Outcome::Status(1), SECOND);
    assert_eq!(tried.seconds_left(0, "?"), None);
}

#[test]
fn the_words_say_when_it_is_over() {
    let mut tried = Tried::new(&[(Outcome::Status(1), 15, false)]);
    tried.ends(0, "2001:db8::1", Outcome::Status(1), SECOND);
    let now = tried.t0 + Duration::from_millis(100);
    let (Verdict::Refuse(refusal), _) = arrive(&mut tried.gate, now, from(1, "2001:db8::2", false)) else { panic!() };
    assert_eq!(refusal.to_string(), "penalty (15 s left) of this source");
    assert_eq!(refusal.grounds.figures.network().unwrap().to_string(), "2001:db8::/64");
}

/// `--max-sources` at its border.
#[test]
fn whoever_finds_no_room_is_told_of() {
    let of = vec![Penalty { outcome: Outcome::Signal, span: 15 * SECOND, always: false }];
    let penalties = Penalties { of, min: SECOND, max: 60 * SECOND };
    let rules = Rules { max_per_listener: vec![0], penalties, max_sources: 2, ..Rules::default() };
    let (mut gate, now) = (Gate::new(&rules, WhenFull::Refuse, Hold::default(), 1), any_time());
    for (host, untracked) in [(1, 0), (2, 0), (3, 1), (3, 1), (1, 0)] {
        let slot = gate.adopt(now, Some(0), format!("192.0.2.{host}").parse().unwrap(), &mut VecDeque::new());
        let told = step(|out| gate.ended(now, slot, Ending { outcome: Outcome::Signal, lasted: SECOND }, out));
        let expected = (untracked > 0).then_some(Action::Untracked(named("penalty"), untracked));
        assert_eq!(told, Vec::from_iter(expected), "{host}");
    }
}
