//! What a device's server said of its load.
//!
//! It is asked beside the steps, never in front of one: a call that waited for an answer would pay for
//! knowing. So what is known is up to [`FRESH`] old and more where nobody asked, and counts for
//! [`BELIEVED`]; after that a route goes by the kernel's own calls alone. What a reading adds to those
//! is the calls of others: of all that the server works on, those beyond the ones that this kernel
//! had there when it answered.

use std::time::Duration;

use aosk_ports::ServerLoad;

/// How old a reading gets before the server is asked again: a conversation takes seconds for a step,
/// and two requests in five of them cost a server nothing.
pub(super) const FRESH: Duration = Duration::from_secs(5);

/// How long a server that told nothing is left in peace.
const SILENT: Duration = Duration::from_secs(60);

/// For how long a route goes by a reading.
const BELIEVED: Duration = Duration::from_secs(15);

/// The longest time between two readings over which tokens a second mean something.
const SPAN: Duration = Duration::from_secs(60);

/// From which share of its KV cache on a server is full, in thousandths: what comes then drives out
/// others in mid-reply, who are read anew.
const FULL_MILLI: u64 = 950;

/// What is known of a server.
#[derive(Debug, Default)]
pub(super) struct Reading {
    asked: Option<Duration>,
    last: Option<Told>,
    rates: Rates,
}

/// An answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) load: ServerLoad,
    /// When it came.
    pub(super) at: Duration,
    /// Calls of others that it works on or keeps waiting.
    others: usize,
}

/// Tokens a second, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rates {
    pub(super) read: Option<u64>,
    pub(super) written: Option<u64>,
}

impl Reading {
    /// Whether the server is to be asked; then it counts as asked.
    pub(super) fn begin(&mut self, now: Duration) -> bool {
        let is_silent = match (self.asked, self.last) {
            (Some(asked), Some(last)) => last.at < asked,
            (asked, None) => asked.is_some(),
            (None, Some(_)) => false,
        };
        let pause = if is_silent { SILENT } else { FRESH };
        let is_due = self.asked.is_none_or(|asked| now >= asked.saturating_add(pause));
        if is_due {
            self.asked = Some(now);
        }
        is_due
    }

    /// It told that while `own` calls of this kernel were in flight there.
    pub(super) fn end(&mut self, load: ServerLoad, own: usize, now: Duration) {
        let there = load.running.unwrap_or(0).saturating_add(load.waiting.unwrap_or(0));
        let others = usize::try_from(there).unwrap_or(usize::MAX).saturating_sub(own);
        let before = self.last.replace(Told { load, at: now, others });
        self.rates = before.map_or_else(Rates::default, |before| {
            let span = now.saturating_sub(before.at);
            let rate = |before: Option<u64>, after: Option<u64>| {
                // A server that began anew counts from 0 again.
                let tokens = u128::from(after?.checked_sub(before?)?);
                let rate = (tokens * 1_000_000).checked_div(span.as_millis())?;
                (span <= SPAN).then(|| u64::try_from(rate).unwrap_or(u64::MAX))
            };
            Rates {
                read: rate(before.load.read, load.read),
                written: rate(before.load.written, load.written),
            }
        });
    }

    /// How many calls of others are there, as far as that is known.
    pub(super) fn others(&self, now: Duration) -> usize {
        self.believed(now).map_or(0, |told| told.others)
    }

    /// Whether another call would drive out one that runs.
    pub(super) fn is_full(&self, now: Duration) -> bool {
        let share = self.believed(now).and_then(|told| told.load.kv_used_milli);
        share.is_some_and(|share| share >= FULL_MILLI)
    }

    /// The last answer, with tokens a second.
    pub(super) const fn last(&self) -> Option<(Told, Rates)> {
        match self.last {
            Some(told) => Some((told, self.rates)),
            None => None,
        }
    }

    fn believed(&self, now: Duration) -> Option<Told> {
        self.last.filter(|told| now.saturating_sub(told.at) <= BELIEVED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const BUSY: ServerLoad = ServerLoad {
        slots: None,
        running: Some(4),
        waiting: Some(3),
        kv_tokens: None,
        kv_used_milli: Some(FULL_MILLI),
        read: Some(1_000),
        written: Some(100),
    };

    #[test]
    fn a_server_is_asked_every_five_seconds_and_one_that_tells_nothing_every_sixty() {
        let mut reading = Reading::default();
        assert!(reading.begin(at(100)) && !reading.begin(at(100)));
        assert!(!reading.begin(at(159)), "it told nothing");
        assert!(reading.begin(at(160)));
        reading.end(BUSY, 0, at(161));
        assert!(!reading.begin(at(164)) && reading.begin(at(165)));
        // What came late counts for when it came.
        assert!(!reading.begin(at(224)) && reading.begin(at(225)), "it fell silent");
    }

    #[test]
    fn the_calls_of_others_count_while_the_reading_is_believed_and_no_longer() {
        let mut reading = Reading::default();
        reading.end(BUSY, 5, at(10));
        for (now, others, is_full) in [(10, 2, true), (25, 2, true), (26, 0, false)] {
            assert_eq!((reading.others(at(now)), reading.is_full(at(now))), (others, is_full));
        }
        reading.end(ServerLoad { kv_used_milli: Some(FULL_MILLI - 1), ..BUSY }, 8, at(30));
        assert_eq!((reading.others(at(30)), reading.is_full(at(30))), (0, false));
    }

    #[test]
    fn tokens_a_second_are_between_two_readings_of_one_server_that_are_close() {
        let mut reading = Reading::default();
        reading.end(BUSY, 0, at(10));
        let rates = |reading: &Reading| reading.last().map(|(_, it)| (it.read, it.written));
        assert_eq!(rates(&reading), Some((None, None)));
        let later = ServerLoad { read: Some(7_000), written: Some(130), ..BUSY };
        reading.end(later, 0, at(70));
        assert_eq!(
            rates(&reading),
            Some((Some(100_000), Some(500))),
            "a minute, to the thousandth"
        );
        reading.end(BUSY, 0, at(71));
        assert_eq!(rates(&reading), Some((None, None)), "it began anew");
        reading.end(later, 0, at(132));
        assert_eq!(rates(&reading), Some((None, None)), "too long ago");
        reading.end(later, 0, at(132));
        assert_eq!(rates(&reading), Some((None, None)), "no time has passed");
    }
}
