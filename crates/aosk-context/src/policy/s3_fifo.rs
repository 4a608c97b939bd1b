//! S3-FIFO (Yang and others, SOSP 2023): most objects are needed once, so what is new stays in a
//! small queue and leaves fast unless it is needed there.

use std::collections::VecDeque;

use super::{LOW_WATER, Policy, Ratings, Unit, View, part};

/// New units stand in a small queue, a tenth of the room; those that were needed stand in the main
/// queue, where each access is worth one more round, at most three.
///
/// The queues are worked out anew from the accesses at each eviction, so that replay needs no
/// state of a policy: what was never needed is the small queue, the rest is the main one.
#[derive(Debug, Clone, Copy, Default)]
pub struct S3Fifo;

impl Policy for S3Fifo {
    fn name(&self) -> &'static str {
        "s3_fifo"
    }

    fn evict(&self, view: &View<'_>) -> Vec<usize> {
        let units = view.units;
        let sum = |queue: &[usize]| queue.iter().map(|&index| units[index].tokens).sum();
        let (mut main, small): (Vec<usize>, Vec<usize>) =
            (0..units.len()).partition(|&index| units[index].accesses > 0);
        main.sort_by_key(|&index| entered(&units[index]));
        let mut small_tokens: aosk_abi::Tokens = sum(&small);
        let small_room = part(view.capacity.saturating_sub(view.pinned), SMALL);
        let mut main: VecDeque<(usize, u32)> =
            main.into_iter().map(|index| (index, units[index].accesses.min(ROUNDS))).collect();
        let mut small = VecDeque::from(small);
        let order = std::iter::from_fn(|| {
            if small_tokens > small_room || main.is_empty() {
                let index = small.pop_front()?;
                small_tokens = small_tokens.saturating_sub(units[index].tokens);
                return Some(index);
            }
            // Each round takes one from a count of at most three: this ends.
            loop {
                let (index, rounds) = main.pop_front()?;
                match rounds.checked_sub(1) {
                    Some(left) if left > 0 => main.push_back((index, left)),
                    _ => return Some(index),
                }
            }
        });
        let order: Vec<usize> = order.collect();
        view.down_to(LOW_WATER, order)
    }

    fn rate(&self, view: &View<'_>, leaving: &[usize]) -> Ratings {
        let row = |unit: &Unit| [unit.accesses.into(), unit.last_access.into()];
        let rows = leaving.iter().map(|&index| row(&view.units[index]));
        Ratings::of(["accesses", "last_access"], rows)
    }
}

/// When it came to the main queue, and its place among those that came at once.
const fn entered(unit: &Unit) -> (u32, aosk_abi::PageId) {
    (unit.last_access, unit.first)
}

/// The share of the room that the small queue has.
const SMALL: aosk_abi::Ppm = aosk_abi::Ppm(100_000);
/// How many rounds in the main queue accesses are worth at most.
const ROUNDS: u32 = 3;
