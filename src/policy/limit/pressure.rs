//! `--max-pressure`: a second and further command only while tasks are not stalled too much of the time for lack of processors,
//! memory or I/O.
//!
//! It says no from the limit on, and yes again below 0.8 of it, so that it does not turn at each reading. One command may always run:
//! the pressure may be another's, or that one's.
#![forbid(unsafe_code)]

use super::rule::{Census, Gauge, Kind, Limit, No, Reading, Rules, Stage, Until, Who};
use crate::policy::grounds::{Figures, Info};
use crate::policy::resource::Resource;
use std::time::{Duration, Instant};

/// Where it opens again, as a part of the limit.
const OPENS_AT: f64 = 0.8;
/// How long an event of the kernel closes it. There is at most one in each [`EVENT_WINDOW`], and under steady pressure they come a
/// few milliseconds later than that, now and then after two of them.
pub const EVENT_HOLDS: Duration = Duration::from_millis(4500);
/// In what time the limit has to be reached for an event: who has no CAP_SYS_RESOURCE may have multiples of 2 s alone (psi.rst).
pub const EVENT_WINDOW: Duration = Duration::from_secs(2);

pub(super) const KIND: Kind = Kind {
    info: &Info {
        slug: "pressure",
        message_id: "5c1cbd7bcb154a4b9f7e0b4d4b1d0a0c",
        option: Some("max-pressure"),
        summary: "pressure too high",
        is_of_source: false,
        words: |grounds, f| match grounds.figures {
            Figures::Pressure { resource, is, below, .. } => {
                write!(f, "{resource} pressure {is:.1} % is not below {below:.1} %")
            }
            _ => f.write_str("pressure too high"),
        },
    },
    stage: Stage::Start,
    spares_exempt: false,
    build,
};

/// One resource.
#[derive(Clone, Copy, Debug)]
struct Valve {
    resource: Resource,
    /// In percent.
    max: f64,
    /// As it was read last.
    is: f64,
    is_closed: bool,
    /// The kernel has told that it is over the limit.
    event_until: Option<Instant>,
}

#[derive(Debug)]
struct Pressure {
    valves: Vec<Valve>,
}

fn build(rules: &Rules) -> Option<Box<dyn Limit>> {
    let valve = |(resource, max): &(Resource, f64)| Valve {
        resource: *resource,
        max: *max,
        is: 0.0,
        is_closed: false,
        event_until: None,
    };
    let valves: Vec<_> = rules.max_pressure.iter().map(valve).collect();
    (!valves.is_empty()).then(|| Box::new(Pressure { valves }) as Box<dyn Limit>)
}

impl Limit for Pressure {
    fn ask(&self, now: Instant, census: &Census, _: Who) -> Result<(), No> {
        match self.closed(now, census.active) {
            Some(no) if census.active > 0 => Err(no),
            _ => Ok(()),
        }
    }

    fn closed(&self, now: Instant, active: u32) -> Option<No> {
        self.valves.iter().find_map(|valve| {
            let Valve { resource, max, is, is_closed, event_until } = *valve;
            let event_until = event_until.filter(|until| *until > now);
            let until = match (is_closed, event_until) {
                (true, _) => Until::AReading,
                (false, Some(until)) => Until::Then(until),
                (false, None) => return None,
            };
            // What has closed it is at least the limit, and what opens it is below less than that.
            let below = if is >= max || !is_closed { max } else { max * OPENS_AT };
            let is = if is_closed { is } else { is.max(max) };
            Some(No { figures: Figures::Pressure { resource, is, below, active }, until })
        })
    }

    fn gauge(&self) -> Option<Gauge> {
        Some(Gauge::Pressure)
    }

    /// Its limits are those of the start: events of the kernel depend on them.
    fn keep(&mut self, _: Instant, _: &Rules) -> bool {
        true
    }

    fn read(&mut self, now: Instant, reading: Reading) {
        match reading {
            Reading::Pressure(levels) => {
                for valve in &mut self.valves {
                    valve.is = levels[valve.resource as usize].unwrap_or(0.0);
                    let limit = if valve.is_closed { valve.max * OPENS_AT } else { valve.max };
                    valve.is_closed = valve.is >= limit;
                }
            }
            Reading::PressureEvent(resource) => {
                for valve in self.valves.iter_mut().filter(|valve| valve.resource == resource) {
                    valve.event_until = Some(now + EVENT_HOLDS);
                }
            }
            Reading::Load(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(max: &[(Resource, f64)]) -> Box<dyn Limit> {
        build(&Rules { max_pressure: max.to_vec(), ..Rules::default() }).unwrap()
    }

    fn says_no(limit: &dyn Limit, now: Instant, active: u32) -> Option<No> {
        limit.ask(now, &Census { active, ..Census::default() }, Who::Anybody(0)).err()
    }

    #[test]
    fn it_closes_at_the_limit_and_opens_below_four_fifths_of_it() {
        let (mut limit, now) = (of(&[(Resource::Memory, 20.0)]), Instant::now());
        for (level, is_closed) in
            [(19.99, false), (20.0, true), (16.0, true), (15.99, false), (19.99, false), (90.0, true), (0.0, false)]
        {
            // Of the others nothing was asked.
            limit.read(now, Reading::Pressure([Some(99.0), Some(level), Some(99.0)]));
            let no = says_no(&*limit, now, 1);
            assert_eq!(no.is_some(), is_closed, "{level}");
            assert!(no.is_none_or(|no| no.until == Until::AReading));
            assert_eq!(says_no(&*limit, now, 0), None, "never the last");
            assert_eq!(limit.closed(now, 0).is_some(), is_closed, "but it is closed");
        }
        limit.read(now, Reading::Pressure([None; 3]));
        assert_eq!(says_no(&*limit, now, 1), None, "what cannot be read is no pressure");
    }

    #[test]
    fn the_words_are_true_on_both_sides_of_the_limit() {
        let (mut limit, now) = (of(&[(Resource::Io, 20.0)]), Instant::now());
        for (level, words) in [(34.5, (34.5, 20.0)), (17.0, (17.0, 16.0))] {
            limit.read(now, Reading::Pressure([None, None, Some(level)]));
            let Some(No { figures: Figures::Pressure { is, below, .. }, .. }) = says_no(&*limit, now, 1) else {
                panic!()
            };
            assert_eq!((is, below), words);
        }
    }

    #[test]
    fn an_event_closes_it_for_a_while() {
        let (mut limit, now) = (of(&[(Resource::Cpu, 50.0), (Resource::Memory, 20.0)]), Instant::now());
        limit.read(now, Reading::PressureEvent(Resource::Io));
        assert_eq!(says_no(&*limit, now, 1), None, "nobody asked for it");
        limit.read(now, Reading::PressureEvent(Resource::Memory));
        let no = says_no(&*limit, now, 1).unwrap();
        assert_eq!(no.until, Until::Then(now + EVENT_HOLDS));
        assert!(matches!(no.figures, Figures::Pressure { resource: Resource::Memory, is: 20.0, below: 20.0, .. }));
        assert!(says_no(&*limit, now + EVENT_HOLDS - Duration::from_nanos(1), 1).is_some());
        assert_eq!(says_no(&*limit, now + EVENT_HOLDS, 1), None);
    }
}
