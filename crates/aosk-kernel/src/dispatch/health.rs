//! The health of a device: a circuit breaker.
//!
//! An endpoint that fails call after call is left alone, by all who use it: each would only spend its
//! attempts there. [`OPENS_AFTER`] failures in a row open the circuit; nobody asks for [`FIRST_PAUSE`].
//! Then one call is let through at a time, until one ends well, which closes the circuit, or one fails,
//! which opens it for twice as long, up to [`LONGEST_PAUSE`]. A call that makes all its attempts alone
//! has [six](crate::Retry), so one agent never opens it, and nobody is told of a failure later than it
//! would have been; ten in a row come of many agents, or of one that begins again and again.
//!
//! Only what the endpoint is at fault for counts: connections that fail or break off, answers that
//! are none. One that has too much to do, or refuses a request, is alive.

use std::time::Duration;

/// Failures in a row after which the circuit opens.
pub(super) const OPENS_AFTER: u32 = 10;

/// For how long it opens first.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// For how long it opens at most.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The health of one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Health {
    failures: u32,
    open: Option<Open>,
}

/// An open circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Open {
    /// When it opened first.
    pub(super) since: Duration,
    pub(super) until: Duration,
    pause: Duration,
}

impl Health {
    /// A call ended well; whether the circuit was open until now.
    pub(super) fn well(&mut self) -> bool {
        std::mem::take(self).open.is_some()
    }

    /// A call failed; until when nobody is to ask, where that changes with it.
    pub(super) fn ill(&mut self, now: Duration) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        let (since, pause) = match self.open {
            // It was under way when the circuit opened.
            Some(open) if now < open.until => return None,
            Some(open) => (open.since, open.pause.saturating_mul(2).min(LONGEST_PAUSE)),
            None if self.failures < OPENS_AFTER => return None,
            None => (now, FIRST_PAUSE),
        };
        let until = now.saturating_add(pause);
        self.open = Some(Open { since, until, pause });
        Some(until)
    }

    /// Failures in a row.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// The circuit, where it is open. Behind its end one call at a time is let through.
    pub(super) const fn open(&self) -> Option<Open> {
        self.open
    }

    /// Whether a call can be sent there: any while the circuit is closed, one at a time when its
    /// pause is over, none before.
    pub(super) fn admits(&self, now: Duration, in_flight: usize) -> bool {
        self.open.is_none_or(|open| now >= open.until && in_flight == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn failures_in_a_row_below_and_at_the_bound_open_the_circuit_and_one_success_closes_it() {
        let mut health = Health::default();
        for _ in 1..OPENS_AFTER {
            assert_eq!(health.ill(at(5)), None);
        }
        assert!(!health.well(), "it was not open");
        for _ in 1..OPENS_AFTER {
            assert_eq!(health.ill(at(5)), None, "the count begins anew");
        }
        assert!(health.admits(at(5), 99));
        assert_eq!(health.ill(at(5)), Some(at(15)));
        assert_eq!(health.ill(at(14)), None, "what was under way changes nothing");
        let open = health.open().map(|open| (open.since, open.until));
        assert_eq!((open, health.failures()), (Some((at(5), at(15))), OPENS_AFTER + 1));
        assert!(!health.admits(Duration::from_millis(14_999), 0));
        assert!(health.admits(at(15), 0) && !health.admits(at(15), 1), "one at a time");
        assert!(health.well() && health.admits(at(15), 99));
        assert_eq!(health, Health::default());
    }

    #[test]
    fn each_failed_attempt_opens_it_for_twice_as_long_up_to_the_longest() {
        let mut health = Health::default();
        let mut now = Duration::ZERO;
        let mut pauses = Vec::new();
        for _ in 0..OPENS_AFTER + 7 {
            if let Some(until) = health.ill(now) {
                pauses.push((until - now).as_secs());
                now = until;
            }
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(health.open().map(|open| open.since), Some(Duration::ZERO), "ever since");
    }
}
