//! An order that is worked out only as far as it is asked for.
//!
//! An eviction lets go of the cheapest hundredths of a prompt; to sort all of a hundred thousand units
//! for it takes longer than to price them, and longer for each the more there are.

/// Things in ascending order of a number that each has, of equals in the order in which they came.
#[derive(Debug)]
pub(super) struct Order {
    /// By index.
    numbers: Vec<f32>,
    /// The keys of those that are in order: all up to its last, ascending.
    sorted: Vec<u64>,
    /// About how many are put in order the next time, besides those that are.
    stretch: usize,
}

/// The first stretch is that part of all, each further one twice as long.
const STRETCH: usize = 24;
/// How long a stretch becomes is guessed from every so many-th.
const SAMPLE: usize = 16;
/// So few are put in order at once.
const FEW: usize = 512;

impl Order {
    /// Of things that have those numbers, none of which is below zero.
    pub(super) fn of(numbers: Vec<f32>) -> Self {
        let stretch = numbers.len() / STRETCH;
        Self { numbers, sorted: Vec::with_capacity(2 * stretch), stretch }
    }

    /// The least number in each run of that many indices.
    pub(super) fn least(&self, run: usize) -> impl DoubleEndedIterator<Item = f32> {
        let least = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).min();
        self.numbers.chunks(run).filter_map(least).map(f32::from_bits)
    }

    /// What stands at that place: its number and its index.
    pub(super) fn get(&mut self, place: usize) -> Option<(f32, usize)> {
        while place >= self.sorted.len() && self.sorted.len() < self.numbers.len() {
            self.sort_on();
        }
        let key = *self.sorted.get(place)?;
        Some((f32::from_bits((key >> 32) as u32), key as u32 as usize))
    }

    /// The first place from `place` on where an index stands that is at least `from`.
    pub(super) fn seek(&mut self, mut place: usize, from: usize) -> Option<usize> {
        while self.get(place).is_some() {
            let mut behind = self.sorted[place..].iter();
            if let Some(found) = behind.position(|key| *key as u32 as usize >= from) {
                return Some(place + found);
            }
            place = self.sorted.len();
        }
        None
    }

    /// The indices in their order.
    pub(super) fn iter(&mut self) -> impl Iterator<Item = usize> {
        (0..).map_while(|place| self.get(place).map(|(_, index)| index))
    }

    /// Puts a stretch more in order.
    #[cold]
    fn sort_on(&mut self) {
        let from = self.sorted.last().map_or(0, |last| last + 1);
        let rest = self.numbers.len() - self.sorted.len();
        let mut to = u64::MAX;
        if rest > FEW && rest > 2 * self.stretch {
            let sample = keys(&self.numbers).step_by(SAMPLE).filter(|key| *key >= from);
            let mut sample: Vec<u64> = sample.collect();
            let nth = self.stretch / SAMPLE;
            if nth < sample.len() {
                to = *sample.select_nth_unstable(nth).1;
            }
        }
        let next = self.sorted.len();
        self.sorted.extend(keys(&self.numbers).filter(|key| (from..=to).contains(key)));
        self.sorted[next..].sort_unstable();
        self.stretch *= 2;
    }
}

/// The bits of a number, then its index: as one number it takes half the time to sort.
fn keys(numbers: &[f32]) -> impl Iterator<Item = u64> {
    // A process has at most 2^32 pages.
    let numbers = numbers.iter().zip(0_u64..);
    numbers.map(|(number, index)| (u64::from(number.to_bits()) << 32) | index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_far_as_it_is_asked_for_it_is_the_order_of_a_stable_sort(
            numbers in prop::collection::vec(0_u16..200, 0..3_000),
            places in prop::collection::vec(0_usize..3_100, 0..6),
        ) {
            let numbers: Vec<f32> = numbers.into_iter().map(|it| f32::from(it) / 7.0).collect();
            let mut order = Order::of(numbers.clone());
            let least = |run: &[f32]| run.iter().copied().fold(f32::INFINITY, f32::min);
            prop_assert!(order.least(30).eq(numbers.chunks(30).map(least)));
            let mut sorted: Vec<(f32, usize)> = numbers.into_iter().zip(0..).collect();
            sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
            for place in places {
                let mut behind = sorted.iter().enumerate().skip(place / 2);
                let found = behind.find(|(_, (_, index))| *index >= place);
                prop_assert_eq!(order.seek(place / 2, place), found.map(|(at, _)| at));
                prop_assert_eq!(order.get(place), sorted.get(place).copied());
            }
            let indices: Vec<usize> = order.iter().collect();
            prop_assert_eq!(indices, sorted.into_iter().map(|(_, index)| index).collect::<Vec<_>>());
        }
    }
}
