//! What a rate is: `N/DURATION[:BURST]`, by the generic cell rate algorithm (ITU-T I.371, A) in whole nanoseconds.
//!
//! Each connection is a debt of one interval, DURATION / N, which is paid off by time alone. Who owes no more than BURST - 1 intervals
//! may have another one: BURST at once, and N in each DURATION from then on.
#![forbid(unsafe_code)]

use super::debts::Terms;
use std::fmt;
use std::time::Duration;

/// The longest time in which N may be counted. Nothing of it outlasts the daemon.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The longest time after which a whole burst is free again.
const LONGEST_BURST: u128 = LONGEST.as_nanos() * 366;

/// A rate that can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    per: Duration,
    burst: u32,
}

impl Rate {
    /// How many in how long, and how many at once.
    pub fn parts(self) -> (u32, Duration, u32) {
        (self.count, self.per, self.burst)
    }

    /// `count` connections in `per`, and `burst` of them at once; by default as many as `count`.
    ///
    /// # Errors
    /// In words that say what is wrong with which number.
    pub fn new(count: u32, per: Duration, burst: Option<u32>) -> Result<Rate, &'static str> {
        let burst = burst.unwrap_or(count);
        if count == 0 || burst == 0 {
            return Err("N and BURST are at least 1; 0 alone is no limit");
        }
        if per.is_zero() || per > LONGEST {
            return Err("DURATION is above 0 and at most one day");
        }
        if u128::from(count) > per.as_nanos() {
            return Err("N is at most one in a nanosecond");
        }
        let rate = Rate { count, per, burst };
        match rate.interval().as_nanos() * u128::from(burst) > LONGEST_BURST {
            true => Err("BURST is at most what is allowed in a year"),
            false => Ok(rate),
        }
    }

    /// From one connection to the next, in the long run. Rounded up, so that there is never one too many.
    pub fn interval(self) -> Duration {
        let per = self.per.as_nanos() as u64; // at most a day
        Duration::from_nanos(per.div_ceil(self.count.into()))
    }

    /// What may be owed, in time, by somebody who may have another connection.
    pub fn tolerance(self) -> Duration {
        self.interval() * (self.burst - 1) // at most a year
    }

    /// What is owed at this rate, as it is at another: for as many connections, of which none is forgotten. Rounded up.
    pub fn converted(self, debt: Duration, to: Rate) -> Duration {
        let nanos = debt.as_nanos().saturating_mul(to.interval().as_nanos()).div_ceil(self.interval().as_nanos());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// For a table of who owes what.
    pub fn terms(self) -> Terms {
        Terms { free: self.tolerance(), most: Duration::MAX, until_paid: false }
    }
}

/// As it is given, without a burst that is the default.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.count, humantime::format_duration(self.per).to_string().replace(' ', ""))?;
        if self.burst == self.count { Ok(()) } else { write!(f, ":{}", self.burst) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn rates_at_their_borders() {
        let ns = Duration::from_nanos;
        for (count, per, burst, interval, tolerance) in [
            (10, MINUTE, None, ns(6_000_000_000), ns(54_000_000_000)),
            (10, MINUTE, Some(1), ns(6_000_000_000), ns(0)),
            (1, MINUTE, None, MINUTE, ns(0)),
            (1, LONGEST, Some(366), LONGEST, LONGEST * 365),
            (3, Duration::from_secs(1), None, ns(333_333_334), ns(666_666_668)),
            (5, ns(5), None, ns(1), ns(4)),
            (4, ns(5), None, ns(2), ns(6)),
            (u32::MAX, LONGEST, None, ns(20_117), ns(20_117) * (u32::MAX - 1)),
        ] {
            let rate = Rate::new(count, per, burst).unwrap();
            assert_eq!((rate.interval(), rate.tolerance()), (interval, tolerance), "{rate}");
        }
        for (count, per, burst, why) in [
            (0, MINUTE, None, "N and BURST"),
            (1, MINUTE, Some(0), "N and BURST"),
            (1, Duration::ZERO, None, "DURATION"),
            (1, LONGEST + ns(1), None, "DURATION"),
            (6, ns(5), None, "N is at most"),
            (1, LONGEST, Some(367), "BURST"),
            (1, LONGEST, Some(u32::MAX), "BURST"),
        ] {
            assert!(Rate::new(count, per, burst).unwrap_err().starts_with(why), "{count}/{per:?}:{burst:?}");
        }
    }

    #[test]
    fn a_debt_is_one_for_as_many_connections_at_another_rate() {
        let rate = |count, seconds| Rate::new(count, Duration::from_secs(seconds), None).unwrap();
        let ns = Duration::from_nanos;
        for (from, to, debt, converted) in [
            (rate(1, 1), rate(1, 60), ns(2_500_000_000), MINUTE * 5 / 2),
            (rate(1, 60), rate(1, 1), MINUTE * 3, Duration::from_secs(3)),
            (rate(1, 3), rate(1, 1), ns(4), ns(2)),
            (rate(1, 3), rate(1, 1), ns(3), ns(1)),
            (rate(1, 3), rate(1, 1), ns(0), ns(0)),
        ] {
            assert_eq!(from.converted(debt, to), converted, "{from} {to} {debt:?}");
        }
        assert_eq!(rate(1_000_000_000, 1).converted(Duration::MAX / 2, rate(1, 86400)), ns(u64::MAX), "no overflow");
    }

    #[test]
    fn it_reads_as_it_was_given() {
        let said = |count, seconds, burst| Rate::new(count, Duration::from_secs(seconds), burst).unwrap().to_string();
        assert_eq!(said(10, 60, None), "10/1m");
        assert_eq!(said(10, 60, Some(10)), "10/1m");
        assert_eq!(said(10, 90, Some(3)), "10/1m30s:3");
    }
}
