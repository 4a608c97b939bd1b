//! A rate limit of one resource: the generic cell rate algorithm, without rounding.
//!
//! GCRA (ITU-T I.371) needs one number: the theoretical arrival time, at which everything admitted
//! so far will have drained. Kept in nanoseconds it would round each token (at 7 million tokens
//! per second a token is 143 ns, of which 0.86 ns are lost, 0.6 %). So it is kept in nanoseconds
//! times the limit, where a token is exactly the window, and nothing is rounded.
//!
//! A refund is where plain GCRA breaks its promise: what a call reserved a while ago may have
//! drained since, and giving it back lets through what the window has no room for. Intervals that
//! begin after the reservation never held it. So a refund lowers the level no further than to what
//! was admitted since the reservation, which bounds all of those from above.

/// What the window has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// It has from that time on, in nanoseconds.
    Until(u64),
    /// It is more than the limit.
    Never,
}

/// In any interval of length *t* at most *limit · (1 + t / window)* is admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bucket {
    limit: u64,
    /// Nanoseconds.
    window: u64,
    /// When it will be empty, in nanoseconds times the limit.
    drained: u128,
    /// All that was ever admitted. It wraps: only differences have a meaning.
    admitted: u64,
}

impl Bucket {
    /// An empty one; `limit` and `window` are above 0.
    pub(crate) const fn new(limit: u64, window: u64) -> Self {
        Self { limit, window, drained: 0, admitted: 0 }
    }

    /// One that will have drained at `drained`, in nanoseconds.
    pub(crate) const fn filled(limit: u64, window: u64, drained: u64) -> Self {
        Self { limit, window, drained: drained as u128 * limit as u128, admitted: 0 }
    }

    pub(crate) const fn limit(&self) -> u64 {
        self.limit
    }

    pub(crate) const fn window(&self) -> u64 {
        self.window
    }

    fn cost(&self, amount: u64) -> u128 {
        u128::from(amount) * u128::from(self.window)
    }

    /// What it holds, in units times the window.
    fn level(&self, now: u64) -> u128 {
        self.drained.saturating_sub(self.start(now))
    }

    /// When it will be empty, in nanoseconds.
    pub(crate) fn empties(&self) -> u64 {
        u64::try_from(self.drained.div_ceil(u128::from(self.limit))).unwrap_or(u64::MAX)
    }

    /// What it holds, in units rounded up, and when it will be empty.
    pub(crate) fn held(&self, now: u64) -> (u64, Option<u64>) {
        let held = self.level(now).div_ceil(u128::from(self.window));
        let empty = self.empties();
        (u64::try_from(held).unwrap_or(u64::MAX), (empty > now).then_some(empty))
    }

    fn start(&self, now: u64) -> u128 {
        u128::from(now) * u128::from(self.limit)
    }

    /// Whether so much fits now.
    pub(crate) fn admits(&self, amount: u64, now: u64) -> Result<(), Full> {
        if amount > self.limit {
            return Err(Full::Never);
        }
        // What must have drained before: the level after it may be the limit.
        let room = self.cost(self.limit - amount);
        let at = self.drained.saturating_sub(room).div_ceil(u128::from(self.limit));
        match u64::try_from(at) {
            Ok(at) if at <= now => Ok(()),
            Ok(at) => Err(Full::Until(at)),
            Err(_) => Err(Full::Never),
        }
    }

    /// Adds an amount, whether it fits or not, and returns the mark by which it is settled.
    pub(crate) fn add(&mut self, amount: u64, now: u64) -> u64 {
        let level = self.level(now).saturating_add(self.cost(amount));
        self.drained = self.start(now).saturating_add(level);
        self.admitted = self.admitted.wrapping_add(amount);
        self.admitted
    }

    /// What was added as `reserved` with that mark was `used`.
    pub(crate) fn settle(&mut self, reserved: u64, used: u64, mark: u64, now: u64) {
        if used > reserved {
            self.add(used - reserved, now);
            return;
        }
        let level = self.level(now);
        let since = self.cost(self.admitted.wrapping_sub(mark));
        let less = level.saturating_sub(self.cost(reserved - used));
        self.drained = self.start(now) + less.max(level.min(since));
    }

    /// Another limit from now on. What it holds stays.
    pub(crate) fn resize(&mut self, limit: u64, window: u64, now: u64) {
        let mut held = self.level(now);
        // In another window a part of a unit counts as one.
        if window != self.window {
            held = held.div_ceil(u128::from(self.window)).saturating_mul(u128::from(window));
        }
        (self.limit, self.window) = (limit, window);
        self.drained = self.start(now).saturating_add(held);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn room_below_at_and_above_the_limit() {
        let bucket = Bucket::new(10, 1_000);
        assert_eq!(bucket.admits(10, 0), Ok(()));
        assert_eq!(bucket.admits(11, 0), Err(Full::Never));
        let mut bucket = bucket;
        bucket.add(10, 0);
        assert_eq!(bucket.admits(1, 99), Err(Full::Until(100)));
        assert_eq!(bucket.admits(1, 100), Ok(()));
        assert_eq!(bucket.admits(2, 100), Err(Full::Until(200)));
    }

    #[test]
    fn what_drained_is_not_given_back_a_second_time() {
        let mut bucket = Bucket::new(10, 1_000);
        let old = bucket.add(8, 0);
        let young = bucket.add(6, 2_000);
        bucket.settle(8, 0, old, 2_000);
        assert_eq!(bucket.admits(5, 2_000), Err(Full::Until(2_100)), "8 had drained already");
        bucket.settle(6, 1, young, 2_000);
        assert_eq!(bucket.admits(9, 2_000), Ok(()));
        assert_eq!(bucket.admits(10, 2_000), Err(Full::Until(2_100)));
    }

    #[test]
    fn another_limit_takes_nothing_away_and_gives_nothing_back() {
        let half = |window, limit| {
            let mut bucket = Bucket::new(1, 1_000);
            bucket.add(1, 0);
            bucket.resize(limit, window, 500);
            bucket.empties()
        };
        assert_eq!(half(1_000, 1), 1_000, "the same again");
        assert_eq!(half(1_000, 2), 750, "half of one, twice as fast");
        assert_eq!(half(2_000, 2), 1_500, "a part of one is one in another window");
    }

    proptest! {
        #[test]
        fn no_interval_holds_more_than_the_limit_lets_through(
            limit in 1..30_u64,
            calls in prop::collection::vec((0..30_u64, 0..30_u64, 0..400_u64, 0..900_u64), 1..80)
        ) {
            let window = 1_000;
            let mut bucket = Bucket::new(limit, window);
            let (mut now, mut open) = (0, Vec::new());
            // When each was admitted, and what it really used or still holds.
            let mut log: Vec<(u64, u64)> = Vec::new();
            for (most, used, gap, lasts) in calls {
                now += gap;
                open.retain(|&(end, reserved, used, mark, at): &(u64, u64, u64, u64, usize)| {
                    if end <= now {
                        bucket.settle(reserved, used, mark, now);
                        log[at].1 = used;
                    }
                    end > now
                });
                if bucket.admits(most, now).is_ok() {
                    let mark = bucket.add(most, now);
                    log.push((now, most));
                    open.push((now + lasts, most, used.min(most), mark, log.len() - 1));
                }
                for (from, &(start, _)) in log.iter().enumerate() {
                    let sum: u64 = log[from..].iter().map(|entry| entry.1).sum();
                    let bound = limit * window + (now - start) * limit;
                    prop_assert!(sum * window <= bound, "{sum} since {start} at {now}");
                }
            }
        }
    }
}
