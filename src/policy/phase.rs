//! The life of a daemon: what a request, the time, or having nothing to do means in each of its phases.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// How long a hand-over waits for refused clients that have not closed; others wait in the kernel's queue meanwhile.
pub const REPLIES: Duration = Duration::from_secs(1);
/// How long the kernel may take to end what was sent SIGKILL: more, and it hangs in a device or a network file system.
pub const KILLED_END: Duration = Duration::from_secs(5);
/// While stopping, the manager is asked for more time this often.
pub const EXTEND_EVERY: Duration = Duration::from_secs(2);
/// What keeps a daemon from an idle exit without any event of its own is looked at no more often than this.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It serves.
    Running,
    /// The living may finish until then.
    Draining(Instant),
    /// They have been sent SIGTERM and may react until then.
    Ending(Instant),
    /// They have been sent SIGKILL. Who has not ended by then cannot be ended.
    Killing(Instant),
    /// They are left to the next daemon, as soon as the refused have their replies, or then.
    HandingOver(Instant),
    /// Nothing runs or waits.
    Idle,
}

/// What is to be done now that a phase has begun, or lasts.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nobody is accepted any more, and nobody waits any longer.
    Drain,
    /// All that runs is sent SIGTERM.
    Terminate,
    /// All that runs is sent SIGKILL.
    Kill,
    /// The manager is asked for more time.
    AskForTime,
    /// Nobody is accepted any more: whoever comes is the next daemon's.
    Leave,
}

/// What the administrator has set.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// `--drain-timeout`.
    pub drain_timeout: Duration,
    /// `--kill-grace`.
    pub kill_grace: Duration,
    /// `--idle-exit`; `None` is off.
    pub idle_exit: Option<Duration>,
}

/// The phase that the daemon is in.
#[derive(Debug)]
pub struct Phase {
    terms: Terms,
    stage: Stage,
    extend_at: Option<Instant>,
    idle_since: Option<Instant>,
    /// No idle exit before that.
    not_before: Option<Instant>,
}

impl Phase {
    /// It serves.
    pub fn new(terms: Terms) -> Phase {
        Phase { terms, stage: Stage::Running, extend_at: None, idle_since: None, not_before: None }
    }

    /// How far the end has come.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether it serves.
    pub fn is_running(&self) -> bool {
        self.stage == Stage::Running
    }

    /// How long the living may take, once it drains.
    pub fn patience(&self) -> Duration {
        self.terms.drain_timeout
    }

    /// Begins the stop, or takes its next step at once.
    pub fn stop(&mut self, now: Instant) -> Option<Step> {
        match self.stage {
            Stage::Running | Stage::HandingOver(_) | Stage::Idle => {
                self.enter(now, Stage::Draining(now + self.terms.drain_timeout));
                Some(Step::Drain)
            }
            Stage::Draining(_) => Some(self.terminate(now)),
            Stage::Ending(_) => Some(self.kill(now)),
            Stage::Killing(_) => None,
        }
    }

    /// The same, but whoever presses Ctrl-C a second time has waited long enough.
    pub fn interrupt(&mut self, now: Instant) -> Option<Step> {
        match self.stage {
            Stage::Draining(_) => Some(self.kill(now)),
            _ => self.stop(now),
        }
    }

    /// Begins to leave everything to the next daemon.
    pub fn hand_over(&mut self, now: Instant) -> Option<Step> {
        if !self.is_running() {
            return None;
        }
        self.stage = Stage::HandingOver(now + REPLIES);
        Some(Step::Leave)
    }

    /// There is nothing to wait for. Whoever comes from here on is the next daemon's.
    pub fn end_idle(&mut self) -> Step {
        self.stage = Stage::Idle;
        Step::Leave
    }

    /// What is left while it drains are no commands, so there is none whose time it would be.
    pub fn skip_draining(&mut self, now: Instant) -> Option<Step> {
        matches!(self.stage, Stage::Draining(_)).then(|| self.terminate(now))
    }

    /// Time has passed. Call it again as long as there is a step.
    pub fn on_time(&mut self, now: Instant) -> Option<Step> {
        match self.stage {
            Stage::Draining(until) if until <= now => Some(self.terminate(now)),
            Stage::Ending(until) if until <= now => Some(self.kill(now)),
            Stage::Draining(_) | Stage::Ending(_) | Stage::Killing(_) => {
                let at = self.extend_at.filter(|at| *at <= now)?;
                self.extend_at = Some(at.max(now) + EXTEND_EVERY);
                Some(Step::AskForTime)
            }
            _ => None,
        }
    }

    /// When time matters.
    pub fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Draining(until) | Stage::Ending(until) | Stage::Killing(until) => {
                self.extend_at.into_iter().chain([until]).min()
            }
            Stage::HandingOver(until) => Some(until),
            Stage::Running | Stage::Idle => None,
        }
    }

    /// Whole seconds until the living are killed, while they may finish.
    pub fn seconds_left(&self, now: Instant) -> Option<u64> {
        match self.stage {
            Stage::Running | Stage::HandingOver(_) | Stage::Idle => None,
            Stage::Draining(until) | Stage::Ending(until) => Some(until.saturating_duration_since(now).as_secs()),
            Stage::Killing(_) => Some(0),
        }
    }

    /// Something may have become of somebody since it was last looked.
    pub fn is_not_idle(&mut self) {
        self.idle_since = None;
    }

    /// Whether anything runs or waits now.
    pub fn note(&mut self, now: Instant, is_busy: bool) {
        if self.terms.idle_exit.is_none() || !self.is_running() || is_busy {
            self.idle_since = None;
        } else {
            self.idle_since.get_or_insert(now);
        }
    }

    /// Since when nothing has run or waited, if that matters.
    pub fn idle_since(&self) -> Option<Instant> {
        self.idle_since
    }

    /// When an idle daemon ends.
    pub fn idle_deadline(&self) -> Option<Instant> {
        Some(self.idle_since? + self.terms.idle_exit?).max(self.not_before)
    }

    /// Something runs that is nobody's connection, and whose end is no event: idleness begins anew, if it has gone by the next look.
    pub fn put_off_idle_exit(&mut self, now: Instant) {
        (self.idle_since, self.not_before) = (Some(now), Some(now + LOOK_EVERY));
    }

    fn terminate(&mut self, now: Instant) -> Step {
        self.enter(now, Stage::Ending(now + self.terms.kill_grace));
        Step::Terminate
    }

    fn kill(&mut self, now: Instant) -> Step {
        self.enter(now, Stage::Killing(now + KILLED_END));
        Step::Kill
    }

    fn enter(&mut self, now: Instant, stage: Stage) {
        (self.stage, self.extend_at) = (stage, Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TERMS: Terms = Terms { drain_timeout: Duration::from_secs(30), kill_grace: SECOND, idle_exit: Some(SECOND) };

    fn phase(stage: Stage) -> Phase {
        Phase { stage, ..Phase::new(TERMS) }
    }

    /// What each request leads to in each phase.
    #[test]
    fn a_table_of_phases_and_requests() {
        let now = Instant::now();
        let (drain, end, kill) = (now + TERMS.drain_timeout, now + TERMS.kill_grace, now + KILLED_END);
        let later = now + SECOND * 60;
        let (draining, ending) =
            (Some((Step::Drain, Stage::Draining(drain))), Some((Step::Terminate, Stage::Ending(end))));
        let killing = Some((Step::Kill, Stage::Killing(kill)));
        let handing_over = Some((Step::Leave, Stage::HandingOver(now + REPLIES)));
        for (stage, stop, interrupt, hand_over) in [
            (Stage::Running, draining, draining, handing_over),
            (Stage::HandingOver(later), draining, draining, None),
            (Stage::Idle, draining, draining, None),
            (Stage::Draining(later), ending, killing, None),
            (Stage::Ending(later), killing, killing, None),
            (Stage::Killing(later), None, None, None),
        ] {
            let ask = |ask: fn(&mut Phase, Instant) -> Option<Step>| {
                let mut phase = phase(stage);
                let step = ask(&mut phase, now);
                assert!(step.is_some() || phase.stage == stage, "{stage:?}");
                step.map(|step| (step, phase.stage))
            };
            assert_eq!(ask(Phase::stop), stop, "{stage:?}");
            assert_eq!(ask(Phase::interrupt), interrupt, "{stage:?}");
            assert_eq!(ask(Phase::hand_over), hand_over, "{stage:?}");
        }
    }

    #[test]
    fn a_stop_takes_its_steps_in_time_and_asks_for_more() {
        let (mut phase, begin) = (Phase::new(TERMS), Instant::now());
        let mut steps = vec![(0, phase.stop(begin))];
        for second in 0..40 {
            let now = begin + SECOND * second;
            while let Some(step) = phase.on_time(now) {
                steps.push((second, Some(step)));
            }
            assert!(
                phase.deadline().is_some_and(|at| at > now || matches!(phase.stage, Stage::Killing(_))),
                "{second}"
            );
        }
        let words = |from: u32, to: u32| (from..to).step_by(2).map(|second| (second, Some(Step::AskForTime)));
        let expected: Vec<_> = [(0, Some(Step::Drain))]
            .into_iter()
            .chain(words(0, 30))
            .chain([(30, Some(Step::Terminate)), (30, Some(Step::AskForTime))])
            .chain([(31, Some(Step::Kill))])
            .chain(words(31, 40))
            .collect();
        assert_eq!(steps, expected);
    }

    #[test]
    fn how_long_the_living_have() {
        let now = Instant::now();
        let left = |stage, now| phase(stage).seconds_left(now);
        assert_eq!(phase(Stage::Running).patience(), TERMS.drain_timeout);
        for stage in [Stage::Running, Stage::HandingOver(now + SECOND), Stage::Idle] {
            assert_eq!(left(stage, now), None, "{stage:?}");
        }
        for stage in [Stage::Draining(now + SECOND * 7), Stage::Ending(now + SECOND * 7)] {
            assert_eq!(left(stage, now), Some(7), "{stage:?}");
            assert_eq!(left(stage, now + SECOND / 2), Some(6), "{stage:?}: whole seconds");
            assert_eq!(left(stage, now + SECOND * 8), Some(0), "{stage:?}");
        }
        assert_eq!(left(Stage::Killing(now + SECOND * 7), now), Some(0));
    }

    #[test]
    fn draining_alone_is_skipped() {
        let now = Instant::now();
        let later = now + SECOND * 60;
        for stage in
            [Stage::Running, Stage::HandingOver(later), Stage::Idle, Stage::Ending(later), Stage::Killing(later)]
        {
            let mut phase = phase(stage);
            assert_eq!((phase.skip_draining(now), phase.stage), (None, stage));
        }
        let mut phase = phase(Stage::Draining(later));
        assert_eq!(phase.skip_draining(now), Some(Step::Terminate));
        assert_eq!(phase.stage, Stage::Ending(now + TERMS.kill_grace));
    }

    #[test]
    fn idleness_begins_with_the_last_and_ends_with_the_next() {
        let (mut phase, now) = (Phase::new(TERMS), Instant::now());
        phase.note(now, true);
        assert_eq!((phase.idle_since(), phase.idle_deadline()), (None, None));
        phase.note(now, false);
        phase.note(now + SECOND / 2, false);
        assert_eq!((phase.idle_since(), phase.idle_deadline()), (Some(now), Some(now + SECOND)));
        phase.put_off_idle_exit(now);
        phase.note(now, false);
        assert_eq!((phase.idle_since(), phase.idle_deadline()), (Some(now), Some(now + SECOND)));
        phase.is_not_idle();
        assert_eq!(phase.idle_deadline(), None);
        let mut eager = Phase::new(Terms { idle_exit: Some(SECOND / 100), ..TERMS });
        eager.put_off_idle_exit(now);
        assert_eq!(eager.idle_deadline(), Some(now + LOOK_EVERY), "not a hundred looks in a second");
        phase.note(now, false);
        let _ = phase.hand_over(now);
        phase.note(now, false);
        assert_eq!(phase.idle_deadline(), None, "it ends anyway");
        let mut always = Phase::new(Terms { idle_exit: None, ..TERMS });
        always.note(now, false);
        assert_eq!(always.idle_since(), None);
    }
}
