//! Nodes by number: what the trees are made of.
//!
//! A node is found by its number in one step and keeps it while it lives, so that queues can refer
//! to each other without pointers or reference counts. Numbers of removed nodes are given again,
//! the last one first: that depends on nothing but the calls made, and runs repeat exactly.

use std::ops::{Index, IndexMut};

/// No node.
pub(crate) const NONE: u32 = u32::MAX;

/// Nodes lie in pieces of so many: a power of two. One array of all would be copied each time that it
/// doubles, and of the 2.0 s in which a million processes came in, 1.2 s went into clearing pages for
/// such copies.
const PIECE: usize = 1 << 10;

/// Nodes, and for each its seat in the heap that it is a member of. Seats lie apart from the nodes:
/// a change of a heap touches those of ten members, which would be ten cache misses at 300 bytes a
/// node and are one or two at four.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slab<T> {
    /// Full ones, and one that is not.
    pieces: Vec<Vec<Option<T>>>,
    seats: Vec<u32>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { pieces: Vec::new(), seats: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Adds a node. 2^32 - 1 of them would take hundreds of gigabytes.
    pub(crate) fn insert(&mut self, node: T) -> u32 {
        if let Some(id) = self.free.pop() {
            *self.slot(id) = Some(node);
            return id;
        }
        let id = u32::try_from(self.seats.len()).unwrap_or(NONE);
        assert!(id != NONE, "fewer than 2^32 - 1 processes");
        match self.pieces.last_mut() {
            Some(last) if last.len() < PIECE => last.push(Some(node)),
            // The first grows as it is needed: most schedulers have few.
            None => self.pieces.push(vec![Some(node)]),
            Some(_) => {
                let mut next = Vec::with_capacity(PIECE);
                next.push(Some(node));
                self.pieces.push(next);
            }
        }
        self.seats.push(NONE);
        id
    }

    fn slot(&mut self, id: u32) -> &mut Option<T> {
        let id = id as usize;
        &mut self.pieces[id / PIECE][id % PIECE]
    }

    pub(crate) fn remove(&mut self, id: u32) {
        if self.slot(id).take().is_some() {
            self.free.push(id);
        }
    }

    /// The node's place in its heap; [`NONE`] where it is in none.
    pub(crate) fn seat(&self, id: u32) -> u32 {
        self.seats[id as usize]
    }

    pub(crate) fn set_seat(&mut self, id: u32, seat: u32) {
        self.seats[id as usize] = seat;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten().flatten()
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        let id = id as usize;
        self.pieces.get(id / PIECE)?.get(id % PIECE)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let id = id as usize;
        self.pieces.get_mut(id / PIECE)?.get_mut(id % PIECE)?.as_mut()
    }
}

#[expect(clippy::expect_used, reason = "whoever removes a node removes what refers to it")]
impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, id: u32) -> &T {
        self.get(id).expect("a node that something refers to is there")
    }
}

#[expect(clippy::expect_used, reason = "whoever removes a node removes what refers to it")]
impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, id: u32) -> &mut T {
        self.get_mut(id).expect("a node that something refers to is there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_keep_their_numbers_below_at_and_above_a_piece() {
        let mut slab = Slab::default();
        let piece = u32::try_from(PIECE).expect("small");
        for number in 0..2 * piece + 1 {
            assert_eq!(slab.insert(number), number);
        }
        for id in [0, piece - 1, piece, piece + 1, 2 * piece] {
            assert_eq!(slab[id], id);
            slab.remove(id);
            assert_eq!(slab.get(id), None);
            assert_eq!(slab.insert(id), id, "the number is given again");
        }
        assert_eq!(slab.get(2 * piece + 1), None);
        assert!(slab.iter().copied().eq(0..2 * piece + 1));
    }
}
