//! A clock in virtual time, with a wall that lies.
//!
//! The monotonic half is tokio's paused time: while every task waits, it jumps to the next timer,
//! so an hour of back-off costs nothing and two runs see the same instants. The wall half is what
//! real walls are: it follows the monotonic one, but now and then a time server or a person steps
//! it, by up to an hour either way. The step is a function of the seed and of the virtual time
//! alone, not of who asks or how often, so that one reading more changes nothing for the others.

use std::future::pending;
use std::time::Duration;

use aosk_abi::Timestamp;
use aosk_ports::Clock;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::dice::{Chance, Dice};
use crate::flaw::Flaw;
use crate::power::Power;

/// The wall clock stands still between two chances of a step for this long.
const STRETCH: Duration = Duration::from_secs(30);
/// The largest step either way.
const STEP_MS: u64 = 3_600_000;
/// The largest step where a battery is empty: ten years of 365 days.
const LEAP_MS: u64 = 10 * 365 * 24 * 3_600_000;
/// One stretch in five is off, and one in ten of those by years.
const OFF: Chance = Chance::per_mille(200);
const EMPTY: Chance = Chance::per_mille(100);
/// A flawed clock forgets one alarm in twenty.
const FORGOTTEN: Chance = Chance::per_mille(50);
/// Where every simulated history begins: 2025-01-01T00:00:00Z.
const BEGIN: Timestamp = Timestamp::from_millis(1_735_689_600_000);

/// The clock of one life of a simulated machine.
#[derive(Debug, Clone)]
pub struct SimClock {
    seed: u64,
    boot: Instant,
    before: Duration,
    power: Power,
    flaw: Option<Flaw>,
}

impl SimClock {
    /// A clock that starts now, in a runtime whose time is paused, on a machine whose earlier
    /// lives took `before` together.
    #[must_use]
    pub fn boot(seed: u64, before: Duration) -> Self {
        Self { seed, boot: Instant::now(), before, power: Power::on(), flaw: None }
    }

    /// The same clock, whose alarms need that power.
    #[must_use]
    pub fn powered(self, power: Power) -> Self {
        Self { power, ..self }
    }

    /// The same clock, with a flaw.
    pub(crate) fn flawed(self, flaw: Option<Flaw>) -> Self {
        Self { flaw, ..self }
    }

    /// The virtual time of all lives together up to now.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.before + self.boot.elapsed()
    }

    /// Whether it never rings, as a flawed one now and then does not.
    fn forgets(&self, duration: Duration) -> bool {
        let key = format!("{:?} {duration:?}", self.elapsed());
        self.flaw == Some(Flaw::ForgottenAlarm)
            && Dice::keyed(self.seed, "alarm", key.as_bytes()).hits(FORGOTTEN)
    }
}

/// What the walls of a world show at a time.
fn wall(seed: u64, elapsed: Duration) -> Timestamp {
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_millis(BEGIN.as_millis() - LEAP_MS)
        .plus_millis(millis)
        .plus_millis(skew(seed, elapsed))
}

/// By how many milliseconds the wall is ahead of an honest one, plus [`LEAP_MS`].
fn skew(seed: u64, elapsed: Duration) -> u64 {
    let stretch = elapsed.as_secs() / STRETCH.as_secs();
    let mut dice = Dice::keyed(seed, "clock", &stretch.to_le_bytes());
    if !dice.hits(OFF) {
        return LEAP_MS;
    }
    let most = if dice.hits(EMPTY) { LEAP_MS } else { STEP_MS };
    LEAP_MS - most + dice.below(2 * most + 1)
}

/// Whether somebody who looked at the wall at any time from `from` on, and then waited for as long
/// as it showed to be left until `until`, is done at `to`.
pub(crate) fn can_be_over(seed: u64, from: Duration, to: Duration, until: Timestamp) -> bool {
    let mut at = from;
    while at <= to {
        let left = Duration::from_millis(until.millis_since(wall(seed, at)));
        if at.saturating_add(left) <= to {
            return true;
        }
        at = STRETCH * u32::try_from(at.as_secs() / STRETCH.as_secs() + 1).unwrap_or(u32::MAX);
    }
    false
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        wall(self.seed, self.elapsed())
    }

    fn monotonic(&self) -> Duration {
        self.boot.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        if self.forgets(duration) {
            return Box::pin(pending());
        }
        let early = self.flaw == Some(Flaw::HastyAlarm);
        let duration = if early { duration / 2 } else { duration };
        self.power.guard(Box::pin(tokio::time::sleep(duration)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wall_steps_both_ways_and_the_monotonic_clock_never_back() {
        let clock = SimClock::boot(3, Duration::ZERO);
        let (mut back, mut jumps, mut far) = (0, 0, 0);
        let (mut wall, mut mono) = (clock.now(), clock.monotonic());
        for _ in 0..3000 {
            clock.sleep(Duration::from_secs(10)).await;
            let (next_wall, next_mono) = (clock.now(), clock.monotonic());
            assert_eq!(next_mono, mono + Duration::from_secs(10));
            back += u32::from(next_wall < wall);
            jumps += u32::from(next_wall > wall.plus_millis(10_000));
            let honest = BEGIN.plus_millis(u64::try_from(next_mono.as_millis()).expect("short"));
            let off = honest.as_millis().abs_diff(next_wall.as_millis());
            assert!(off <= LEAP_MS, "{off} ms off");
            far += u32::from(off > STEP_MS);
            (wall, mono) = (next_wall, next_mono);
        }
        assert!(back > 10 && jumps > 10 && far > 10, "{back} back, {jumps} jumps, {far} by years");
    }

    #[test]
    fn a_wait_is_over_when_it_has_passed_or_the_wall_says_so() {
        let (seconds, from) = (Duration::from_secs, Duration::from_secs(7));
        for seed in 0..200 {
            let until = wall(seed, from).plus_millis(5_000);
            assert!(!can_be_over(seed, from, seconds(11), until), "within a stretch nothing steps");
            assert!(can_be_over(seed, from, seconds(12), until));
        }
        let far = |seed| wall(seed, from).plus_millis(3_600_000);
        let early = (0..200).filter(|seed| can_be_over(*seed, from, seconds(600), far(*seed)));
        assert!(early.count() > 5, "a wall that steps forward ends waits");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_changes_nothing_and_a_reboot_goes_on() {
        let (asked, quiet) = (SimClock::boot(4, Duration::ZERO), SimClock::boot(4, Duration::ZERO));
        for _ in 0..100 {
            asked.sleep(Duration::from_secs(7)).await;
            let _ = asked.now();
        }
        assert_eq!(asked.now(), quiet.now());
        let reboot = SimClock::boot(4, asked.elapsed());
        assert_eq!(reboot.now(), asked.now());
        assert_eq!(reboot.monotonic(), Duration::ZERO);
    }
}
