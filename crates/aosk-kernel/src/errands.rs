//! Errands between the processes of a kernel: who has something to look at.
//!
//! These are hints. What a message says is in the inbox and how a child ended is in its journal, and
//! whoever waits looks there each time it comes into memory. A hint that is lost with its kernel costs
//! the time until the next look, never the thing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aosk_abi::{Epoch, Pid};
use tokio::sync::Notify;

/// Somebody who has something to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// It rests, perhaps, and something came that it may wait for.
    Look(Pid),
    /// It was spawned, or nobody goes on with it: under the epoch in which this kernel owns it, or
    /// none where it is to be taken over.
    Begin(Pid, Option<Epoch>),
}

/// Parents that wait, and children whose parents may be on another node.
#[derive(Default)]
struct Kin {
    /// Who waits for a child.
    parents: BTreeMap<Pid, Pid>,
    /// Those of whom a child has ended since they looked.
    have_news: BTreeSet<Pid>,
    /// The children that were at work here, each with its parent.
    guarded: BTreeMap<Pid, Pid>,
}

/// What processes do for each other.
#[derive(Default)]
pub(crate) struct Errands {
    due: Mutex<Vec<Errand>>,
    kin: Mutex<Kin>,
    /// Rung when an errand is due.
    pub(crate) bell: Notify,
    /// Held while it is settled who may wait, or whether a mailbox has room: one at a time.
    pub(crate) desk: tokio::sync::Mutex<()>,
}

impl Errands {
    /// There is an errand to run.
    pub(crate) fn leave(&self, errand: Errand) {
        lock(&self.due).push(errand);
        self.bell.notify_one();
    }

    /// The errands that are due, in the order in which they were left.
    pub(crate) fn collect(&self) -> Vec<Errand> {
        std::mem::take(&mut lock(&self.due))
    }

    /// The parent is about to look whether these have ended, and to wait for those that have not.
    pub(crate) fn await_ends(&self, parent: Pid, children: &[Pid]) {
        let mut kin = lock(&self.kin);
        kin.have_news.remove(&parent);
        kin.parents.extend(children.iter().map(|child| (*child, parent)));
    }

    /// A process has ended, or may have: whoever waits for it has something to look at.
    pub(crate) fn ended(&self, pid: Pid) {
        let mut kin = lock(&self.kin);
        kin.guarded.remove(&pid);
        if let Some(parent) = kin.parents.remove(&pid) {
            kin.have_news.insert(parent);
            drop(kin);
            self.leave(Errand::Look(parent));
        }
    }

    /// A child is at work here: whether its parent has ended is looked at from now on.
    pub(crate) fn guard(&self, child: Pid, parent: Pid) {
        lock(&self.kin).guarded.insert(child, parent);
    }

    /// Nobody here need look after the child any more.
    pub(crate) fn let_go(&self, child: Pid) {
        lock(&self.kin).guarded.remove(&child);
    }

    /// The children that are looked after, each with its parent.
    pub(crate) fn guarded(&self) -> Vec<(Pid, Pid)> {
        lock(&self.kin).guarded.iter().map(|(child, parent)| (*child, *parent)).collect()
    }

    /// Whether a child has ended since the parent looked. It is about to look again.
    pub(crate) fn has_news(&self, parent: Pid) -> bool {
        lock(&self.kin).have_news.remove(&parent)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
