//! Kin: the quotas of processes, each with that of its parent behind it.
//!
//! A process's quota is no part of the process. Its children share it, and a parent that waits for
//! them has left memory, has ended, or lives on another machine: what its family used must be counted
//! all the same. So a quota stands in a node of its own, with a link to the parent's, and lives while
//! a process, a child's node or a call in flight refers to it. A node that nobody refers to any more and
//! whose process has not ended is kept until what was used has drained: else who sleeps for a minute
//! would come back to a whole quota.
//!
//! Who has neither a quota nor a parent has no node, and none is looked for: of a million such
//! processes a decision reads one number more. A child costs its parent's node and as many reads a
//! call as it has ancestors, at most [`GENERATIONS`].

use std::collections::{BTreeMap, BTreeSet};

use crate::gate::{Gate, Seat};
use crate::quota::{Marks, Meter};
use crate::slab::Slab;
use crate::step::Amounts;

/// How many ancestors a process has at most. A manifest describes its children's, and the readers of
/// such texts go no deeper either.
pub(crate) const GENERATIONS: usize = 64;

/// The quota of a process, and its place among its kin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kin<K> {
    pub(crate) key: K,
    /// Its parent's node; [`NONE`](crate::slab::NONE) where it has none.
    pub(crate) parent: u32,
    pub(crate) meter: Option<Box<Meter>>,
    /// Made when somebody finds no room.
    pub(crate) gate: Option<Box<Gate>>,
    /// Processes nearest to it, nodes of children, and calls in flight of such processes.
    holders: u32,
    /// Its process is gone for good.
    ended: bool,
    /// When it is forgotten, in nanoseconds, where nothing holds it.
    fades: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kindred<K> {
    pub(crate) nodes: Slab<Kin<K>>,
    of: BTreeMap<K, u32>,
    fading: BTreeSet<(u64, u32)>,
}

impl<K> Default for Kindred<K> {
    fn default() -> Self {
        Self { nodes: Slab::default(), of: BTreeMap::new(), fading: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Kindred<K> {
    /// The node of a process itself.
    pub(crate) fn of(&self, key: &K) -> Option<u32> {
        self.of.get(key).copied()
    }

    /// Adds the node of a process that has none; nothing holds it yet.
    pub(crate) fn insert(&mut self, key: K, parent: u32) -> u32 {
        self.hold(parent);
        let id = self.nodes.insert(Kin {
            key: key.clone(),
            parent,
            meter: None,
            gate: None,
            holders: 0,
            ended: false,
            fades: None,
        });
        self.of.insert(key, id);
        id
    }

    /// One more refers to the node, if it is one.
    pub(crate) fn hold(&mut self, id: u32) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        node.holders += 1;
        if let Some(at) = node.fades.take() {
            self.fading.remove(&(at, id));
        }
    }

    /// The node's process is there again, or gone for good.
    pub(crate) fn set_ended(&mut self, id: u32, ended: bool) {
        self.nodes[id].ended = ended;
    }

    /// One less refers to the node, if it is one.
    pub(crate) fn let_go(&mut self, id: u32, now: u64) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        node.holders -= 1;
        if node.holders > 0 {
            return;
        }
        let drained = node.meter.as_ref().and_then(|meter| meter.drained());
        match drained.filter(|at| *at > now && !node.ended) {
            Some(at) => {
                node.fades = Some(at);
                self.fading.insert((at, id));
            }
            None => self.forget(id, now),
        }
    }

    fn forget(&mut self, id: u32, now: u64) {
        let node = &self.nodes[id];
        let parent = node.parent;
        self.of.remove(&node.key);
        self.nodes.remove(id);
        self.let_go(parent, now);
    }

    /// Forgets those that nothing holds and that have drained.
    pub(crate) fn sweep(&mut self, now: u64) {
        while let Some(&(at, id)) = self.fading.first()
            && at <= now
        {
            self.fading.remove(&(at, id));
            self.forget(id, now);
        }
    }

    /// The node and those behind it, the nearest first.
    pub(crate) fn line(&self, id: u32) -> impl Iterator<Item = (u32, &Kin<K>)> {
        let with = |id| self.nodes.get(id).map(|node| (id, node));
        std::iter::successors(with(id), move |(_, node)| with(node.parent))
    }

    /// Whether the call fits now in all quotas from the node on.
    ///
    /// # Errors
    /// The last that has no room, nearest to the root.
    pub(crate) fn admits(
        &mut self,
        nearest: u32,
        seat: Seat,
        most: &Amounts,
        now: u64,
    ) -> Result<(), u32> {
        let (mut full, mut at) = (Ok(()), nearest);
        while let Some(kin) = self.nodes.get_mut(at) {
            let keeps_out = kin.gate.as_ref().is_some_and(|gate| gate.keeps_out(seat));
            let lacks = |meter: &mut Box<Meter>| meter.admits(most, now).is_err();
            if keeps_out || kin.meter.as_mut().is_some_and(lacks) {
                full = Err(at);
            }
            at = kin.parent;
        }
        full
    }

    /// Reserves from the node on what [`admits`](Self::admits) allowed.
    pub(crate) fn reserve(&mut self, nearest: u32, most: &Amounts, now: u64) -> Vec<(u32, Marks)> {
        let (mut marks, mut at) = (Vec::new(), nearest);
        while let Some(kin) = self.nodes.get_mut(at) {
            if let Some(meter) = &mut kin.meter {
                marks.push((at, meter.reserve(most, now)));
            }
            at = kin.parent;
        }
        marks
    }

    /// How many ancestors a process has whose nearest node is that one.
    pub(crate) fn depth(&self, id: u32) -> usize {
        self.line(id).count()
    }
}
