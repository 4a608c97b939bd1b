//! What the past says of the next: how much a call will probably use.

/// The mean of what was seen, in whole units. It takes two numbers, whatever it has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct History {
    count: u64,
    sum: u64,
}

impl History {
    /// Nothing was seen.
    #[must_use]
    pub const fn new() -> Self {
        Self { count: 0, sum: 0 }
    }

    /// One more was seen. After half of all that the sum can hold both numbers are halved, so that
    /// the mean goes on.
    pub const fn see(&mut self, value: u64) {
        if self.sum.checked_add(value).is_none() {
            self.sum /= 2;
            self.count /= 2;
        }
        self.sum = self.sum.saturating_add(value);
        self.count += 1;
    }

    /// What the next will probably be, where without any history it would be `prior`, which counts
    /// as much as `worth` that were seen. A process's history with its tenant's mean as the prior
    /// follows the process as fast as there is reason to. Without history and worth it is `prior`.
    #[must_use]
    pub fn next(&self, prior: u64, worth: u64) -> u64 {
        let sum = u128::from(self.sum) + u128::from(prior) * u128::from(worth);
        let count = u128::from(self.count) + u128::from(worth);
        sum.checked_div(count).and_then(|mean| u64::try_from(mean).ok()).unwrap_or(prior)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_moves_from_the_prior_to_the_mean() {
        let mut history = History::new();
        assert_eq!(history.next(340, 2), 340);
        assert_eq!(history.next(340, 0), 340);
        history.see(100);
        assert_eq!(history.next(340, 2), 260);
        for _ in 0..998 {
            history.see(100);
        }
        assert_eq!(history.next(340, 2), 100);
    }

    #[test]
    fn the_greatest_values_do_not_end_it() {
        let mut history = History::new();
        for _ in 0..10 {
            history.see(u64::MAX);
        }
        assert!(history.next(u64::MAX, u64::MAX) > u64::MAX / 10);
    }
}
