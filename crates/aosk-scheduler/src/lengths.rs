//! How long replies were: their mean, and what a share of them did not exceed.

use crate::history::History;

/// Buckets for each doubling: a bucket is at most a quarter wider than where it begins.
const PER_DOUBLING: usize = 4;

/// Doublings that are told apart; what is longer counts as the longest.
const DOUBLINGS: usize = 32;

/// As many are remembered in full; then all count half, so that what changes is noticed.
const REMEMBERED: u32 = 4_096;

/// Before as many were seen a quantile says less than the mean.
const FEW: u32 = 16;

/// By what of the past the next is guessed. Each is within what was seen, so no guess exceeds what
/// a call can use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Guess {
    /// The mean.
    #[default]
    Mean,
    /// What half of them did not exceed.
    Median,
    /// What nine of ten did not exceed.
    Ninetieth,
}

impl Guess {
    /// The share that is not exceeded, in hundredths; `None` for the mean.
    #[must_use]
    pub const fn percent(self) -> Option<u8> {
        match self {
            Self::Mean => None,
            Self::Median => Some(50),
            Self::Ninetieth => Some(90),
        }
    }
}

/// Lengths that were seen. 528 bytes, whatever it has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lengths {
    mean: History,
    seen: u32,
    buckets: [u32; PER_DOUBLING * DOUBLINGS],
}

impl Default for Lengths {
    fn default() -> Self {
        Self { mean: History::new(), seen: 0, buckets: [0; PER_DOUBLING * DOUBLINGS] }
    }
}

impl Lengths {
    /// One more was seen.
    pub fn see(&mut self, length: u64) {
        self.mean.see(length);
        self.buckets[bucket(length)] += 1;
        self.seen += 1;
        if self.seen > REMEMBERED {
            self.buckets.iter_mut().for_each(|count| *count /= 2);
            self.seen = self.buckets.iter().sum();
        }
    }

    /// What the next will probably be. The mean as [`History::next`] gives it with that prior; a
    /// quantile is rounded up by a quarter at most, and is the mean while few were seen. O(1).
    #[must_use]
    pub fn next(&self, guess: Guess, prior: u64, worth: u64) -> u64 {
        let mean = self.mean.next(prior, worth);
        let Some(percent) = guess.percent().filter(|_| self.seen >= FEW) else {
            return mean;
        };
        let wanted = (u64::from(self.seen) * u64::from(percent)).div_ceil(100);
        let mut below = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            below += u64::from(*count);
            if below >= wanted {
                return end_of(index);
            }
        }
        mean
    }
}

fn bucket(length: u64) -> usize {
    let length = length.max(1);
    let doubling = length.ilog2() as usize;
    // The two bits behind the first.
    let quarter = match doubling {
        0 => 0,
        1 => (length as usize & 1) << 1,
        _ => (length >> (doubling - 2)) as usize & 3,
    };
    (doubling * PER_DOUBLING + quarter).min(PER_DOUBLING * DOUBLINGS - 1)
}

/// The greatest length of a bucket.
fn end_of(index: usize) -> u64 {
    let (doubling, quarter) = (index / PER_DOUBLING, (index % PER_DOUBLING) as u64);
    (((5 + quarter) << doubling).div_ceil(4)).saturating_sub(1).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_quantile_is_above_its_share_and_at_most_a_quarter_too_high(
            mut lengths in prop::collection::vec(1..1_000_000_u64, 16..200),
        ) {
            let mut seen = Lengths::default();
            lengths.iter().for_each(|length| seen.see(*length));
            lengths.sort_unstable();
            for (guess, percent) in [(Guess::Median, 50), (Guess::Ninetieth, 90)] {
                let exact = lengths[(lengths.len() * percent).div_ceil(100) - 1];
                let told = seen.next(guess, 0, 0);
                prop_assert!(exact <= told && told <= exact + exact / 4, "{told} for {exact}");
            }
        }

        #[test]
        fn the_mean_is_that_of_the_history(lengths in prop::collection::vec(any::<u64>(), 0..40)) {
            let (mut seen, mut history) = (Lengths::default(), History::new());
            for length in lengths {
                seen.see(length);
                history.see(length);
            }
            prop_assert_eq!(seen.next(Guess::Mean, 300, 5), history.next(300, 5));
        }
    }

    #[test]
    fn few_are_no_quantile_and_what_was_long_ago_counts_less() {
        let mut seen = Lengths::default();
        (1..FEW).for_each(|_| seen.see(100));
        assert_eq!(seen.next(Guess::Ninetieth, 100, 1), 100);
        seen.see(100);
        assert_eq!(seen.next(Guess::Ninetieth, 100, 1), 111, "the end of its bucket");
        (0..REMEMBERED).for_each(|_| seen.see(100));
        (0..REMEMBERED).for_each(|_| seen.see(1));
        assert_eq!(seen.next(Guess::Median, 0, 0), 1);
        (0..3 * REMEMBERED).for_each(|_| seen.see(u64::MAX));
        assert!(seen.next(Guess::Median, 0, 0) >= 1 << 31);
    }
}
