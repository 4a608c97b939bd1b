//! How much a device gives: tokens in the last minute.

use std::time::Duration;

/// A minute in pieces of five seconds: what is told is off by less than a twelfth.
const PIECES: usize = 12;
const PIECE: u64 = 5;

/// Tokens of the last minute.
#[derive(Debug, Default)]
pub(super) struct LastMinute {
    pieces: [u64; PIECES],
    /// The number of the newest piece since the clock began.
    newest: u64,
}

impl LastMinute {
    pub(super) fn add(&mut self, tokens: u64, now: Duration) {
        self.turn(now);
        let place = self.place(self.newest);
        self.pieces[place] = self.pieces[place].saturating_add(tokens);
    }

    pub(super) fn sum(&mut self, now: Duration) -> u64 {
        self.turn(now);
        self.pieces.iter().fold(0, |sum, piece| sum.saturating_add(*piece))
    }

    /// Empties the pieces that have passed.
    fn turn(&mut self, now: Duration) {
        let now = now.as_secs() / PIECE;
        let passed = now.saturating_sub(self.newest).min(PIECES as u64);
        for piece in 0..passed {
            let place = self.place(now - piece);
            self.pieces[place] = 0;
        }
        self.newest = self.newest.max(now);
    }

    fn place(&self, piece: u64) -> usize {
        // Less than 12.
        usize::try_from(piece % PIECES as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_counts_for_a_minute_and_a_clock_that_goes_back_changes_nothing() {
        let at = Duration::from_secs;
        let mut last = LastMinute::default();
        last.add(7, at(100));
        last.add(5, at(130));
        assert_eq!(last.sum(at(159)), 12);
        assert_eq!(last.sum(at(90)), 12);
        assert_eq!(last.sum(at(160)), 5, "a minute after the first");
        last.add(1, at(130));
        assert_eq!(last.sum(at(189)), 6);
        assert_eq!(last.sum(at(100_000)), 0);
    }
}
