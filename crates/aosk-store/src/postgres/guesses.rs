//! Where this node left its processes.
//!
//! A node that owns a process is the only one who writes to it, so it knows where the journal
//! stands without asking. It may be wrong: the process may have been taken over. So what is known
//! here is only ever a guess, which the server compares with its rows in the statement that writes,
//! and it never makes anybody's answer. A guess spares a round trip, which for a lone agent is a
//! third of a commit.

use std::collections::HashMap;

use aosk_abi::Pid;

use super::process::Place;

/// How many processes are remembered: some 200 bytes each, so 13 MB. Past that all are forgotten,
/// which costs each one round trip.
const MOST: usize = 1 << 16;

/// The guesses.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    places: HashMap<(i32, Pid), Place>,
    doubted: bool,
}

impl Guesses {
    /// Where the process stood when it was last heard of.
    pub(super) fn get(&self, key: (i32, Pid)) -> Option<&Place> {
        self.places.get(&key)
    }

    /// A commit left a process there. One that has ended is not written to again.
    pub(super) fn learn(&mut self, place: Place, ended: bool) {
        let key = (place.tenant, place.pid);
        if ended {
            self.places.remove(&key);
            return;
        }
        if self.places.len() >= MOST && !self.places.contains_key(&key) {
            self.places.clear();
        }
        self.places.insert(key, place);
    }

    /// A commit failed or its answer was lost: the next one asks, also for processes that it would
    /// make, which may be there by now.
    pub(super) fn doubt(&mut self) {
        self.places.clear();
        self.doubted = true;
    }

    /// A commit succeeded.
    pub(super) const fn trust(&mut self) {
        self.doubted = false;
    }

    /// Whether the next commit must ask.
    pub(super) const fn are_doubted(&self) -> bool {
        self.doubted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aosk_abi::{Epoch, Hash, Seq};

    fn place(number: usize) -> Place {
        let mut tail = [0; 10];
        tail[2..].copy_from_slice(&(number as u64).to_be_bytes());
        Place {
            tenant: 1,
            pid: Pid::from_parts(1, tail),
            epoch: Epoch(1),
            next: Seq(number as u64),
            head: Hash::ZERO,
            origin: Hash::ZERO,
            checkpoints: [None, None],
        }
    }

    fn count(guesses: &Guesses, of: usize) -> usize {
        (0..of).filter(|number| guesses.get((1, place(*number).pid)).is_some()).count()
    }

    #[test]
    fn as_many_processes_are_remembered_as_the_bound_says_and_no_more() {
        let mut guesses = Guesses::default();
        (0..MOST - 1).for_each(|number| guesses.learn(place(number), false));
        assert_eq!(count(&guesses, MOST), MOST - 1);
        guesses.learn(place(MOST - 1), false);
        assert_eq!(count(&guesses, MOST), MOST);
        guesses.learn(place(0), false);
        assert_eq!(count(&guesses, MOST), MOST, "it was known");
        guesses.learn(place(MOST), false);
        assert_eq!(count(&guesses, MOST + 1), 1);
    }

    #[test]
    fn what_has_ended_is_forgotten() {
        let mut guesses = Guesses::default();
        guesses.learn(place(7), false);
        guesses.learn(place(7), true);
        assert!(guesses.get((1, place(7).pid)).is_none());
    }
}
