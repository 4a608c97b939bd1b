//! An indexed heap: who has the smallest rank, when ranks change and members leave in between.
//!
//! Each parent has four children: half the levels of a binary heap, and the four lie side by side
//! in memory, so that a step down costs about one cache miss. With a million members a change
//! looks at ten levels, where a B-tree searched and split its nodes and cost 12 µs at the 99th
//! percentile. Each member's place is kept beside the nodes, so that it is moved without a search.

use crate::slab::{NONE, Slab};

const CHILDREN: usize = 4;

/// Members by rank, the smaller number first among equals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Heap {
    entries: Vec<(u128, u32)>,
}

impl Heap {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The smallest rank and whose it is.
    pub(crate) fn first(&self) -> Option<(u128, u32)> {
        self.entries.first().copied()
    }

    /// The rank of the member at that seat.
    pub(crate) fn rank(&self, seat: u32) -> Option<u128> {
        self.entries.get(seat as usize).map(|entry| entry.0)
    }

    /// Adds a node, or moves it where it is a member already. O(log n).
    pub(crate) fn put<N>(&mut self, nodes: &mut Slab<N>, id: u32, rank: u128) {
        let mut seat = nodes.seat(id) as usize;
        if seat >= self.entries.len() {
            seat = self.entries.len();
            self.entries.push((rank, id));
        }
        self.entries[seat].0 = rank;
        self.settle(nodes, seat);
    }

    /// Takes a node out; nothing happens where it is no member. O(log n).
    pub(crate) fn remove<N>(&mut self, nodes: &mut Slab<N>, id: u32) {
        let seat = nodes.seat(id) as usize;
        if seat >= self.entries.len() {
            return;
        }
        self.entries.swap_remove(seat);
        nodes.set_seat(id, NONE);
        if seat < self.entries.len() {
            self.settle(nodes, seat);
        }
    }

    /// Up to `limit` members near the root, in no order but the same at every run: those from
    /// which `descend` goes on to the children.
    pub(crate) fn visit(&self, limit: usize, mut descend: impl FnMut(u128, u32) -> bool) {
        let mut open = vec![0];
        for _ in 0..limit {
            let Some(seat) = open.pop() else { return };
            let Some(&(rank, id)) = self.entries.get(seat) else { continue };
            if descend(rank, id) {
                let first = seat * CHILDREN + 1;
                open.extend((first..first + CHILDREN).rev());
            }
        }
    }

    /// Moves the entry at `seat` to where it belongs, and tells all that move their seats.
    fn settle<N>(&mut self, nodes: &mut Slab<N>, mut seat: usize) {
        let entry = self.entries[seat];
        while seat > 0 {
            let parent = (seat - 1) / CHILDREN;
            if self.entries[parent] <= entry {
                break;
            }
            self.place(nodes, seat, self.entries[parent]);
            seat = parent;
        }
        loop {
            let first = seat * CHILDREN + 1;
            let last = (first + CHILDREN).min(self.entries.len());
            let least = (first..last).min_by_key(|&child| self.entries[child]);
            match least {
                Some(child) if self.entries[child] < entry => {
                    self.place(nodes, seat, self.entries[child]);
                    seat = child;
                }
                _ => break,
            }
        }
        self.place(nodes, seat, entry);
    }

    fn place<N>(&mut self, nodes: &mut Slab<N>, seat: usize, entry: (u128, u32)) {
        self.entries[seat] = entry;
        // A seat is below the number of nodes, which is below 2^32.
        nodes.set_seat(entry.1, u32::try_from(seat).unwrap_or(NONE));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_is_the_least_whoever_comes_moves_and_goes(
            moves in prop::collection::vec((0..40_u32, prop::option::of(0..20_u128)), 1..300)
        ) {
            let mut nodes = Slab::default();
            for _ in 0..40 {
                nodes.insert(());
            }
            let (mut heap, mut model) = (Heap::default(), BTreeSet::new());
            for (id, rank) in moves {
                model.retain(|entry: &(u128, u32)| entry.1 != id);
                match rank {
                    Some(rank) => {
                        heap.put(&mut nodes, id, rank);
                        model.insert((rank, id));
                    }
                    None => heap.remove(&mut nodes, id),
                }
                prop_assert_eq!(heap.first(), model.first().copied());
                for &(rank, id) in &model {
                    prop_assert_eq!(heap.rank(nodes.seat(id)), Some(rank));
                }
            }
        }
    }
}
