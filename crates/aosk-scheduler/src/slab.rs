//! Nodes by number: what the trees are made of.
//!
//! A node is found by its number in one step and keeps it while it lives, so that queues can refer
//! to each other without pointers or reference counts. Numbers of removed nodes are given again,
//! the last one first: that depends on nothing but the calls made, and runs repeat exactly.

use std::ops::{Index, IndexMut};

/// No node.
pub(crate) const NONE: u32 = u32::MAX;

/// Nodes, and for each its seat in the heap that it is a member of. Seats lie apart from the nodes:
/// a change of a heap touches those of ten members, which would be ten cache misses at 300 bytes a
/// node and are one or two at four.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slab<T> {
    nodes: Vec<Option<T>>,
    seats: Vec<u32>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { nodes: Vec::new(), seats: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Adds a node. 2^32 - 1 of them would take hundreds of gigabytes.
    pub(crate) fn insert(&mut self, node: T) -> u32 {
        if let Some(id) = self.free.pop() {
            self.nodes[id as usize] = Some(node);
            return id;
        }
        let id = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        assert!(id != NONE, "fewer than 2^32 - 1 processes");
        self.nodes.push(Some(node));
        self.seats.push(NONE);
        id
    }

    pub(crate) fn remove(&mut self, id: u32) {
        if self.nodes[id as usize].take().is_some() {
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
        self.nodes.iter().flatten()
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        self.nodes.get(id as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.nodes.get_mut(id as usize)?.as_mut()
    }
}

#[expect(clippy::expect_used, reason = "whoever removes a node removes what refers to it")]
impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, id: u32) -> &T {
        self.nodes[id as usize].as_ref().expect("a node that something refers to is there")
    }
}

#[expect(clippy::expect_used, reason = "whoever removes a node removes what refers to it")]
impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, id: u32) -> &mut T {
        self.nodes[id as usize].as_mut().expect("a node that something refers to is there")
    }
}
