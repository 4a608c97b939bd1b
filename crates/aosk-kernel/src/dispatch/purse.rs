//! Purses: who has money for a window of time, and what a process's calls are paid from.

use std::collections::{HashMap, HashSet};
use std::fmt;

use aosk_abi::{BlockedOn, Limits, Pid, QuotaOwner, Spend};
use aosk_scheduler::Scheduler;

use super::Dispatcher;

/// Whose money it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purse {
    /// That of all who share a pool, a tenant or a group.
    Shared(QuotaOwner),
    /// That of an agent and all that descend from it.
    Process(Pid),
}

/// As budgets are named in the store.
impl fmt::Display for Purse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared(owner) => owner.fmt(f),
            Self::Process(pid) => f.write_str(&BlockedOn::of_kin(*pid)),
        }
    }
}

/// What is known of the processes that have money of their own.
#[derive(Default)]
pub(super) struct Purses {
    of: HashMap<Pid, Limits>,
    /// Those of whom the scheduler does not know what they have spent of it.
    untold: HashSet<Pid>,
    /// How many there were when those of strangers were last thrown away.
    kept: usize,
}

impl Purses {
    /// A process that the scheduler knows, since just now perhaps, may use that.
    pub(super) fn set(
        &mut self,
        pid: Pid,
        limits: &Limits,
        is_new: bool,
        scheduler: &Scheduler<Pid>,
    ) {
        if limits.spend.is_none() {
            self.of.remove(&pid);
            return;
        }
        if is_new {
            self.untold.insert(pid);
        }
        // Who has ended is not looked for each time, but whenever their number may have doubled.
        if self.of.len() > 2 * self.kept + 16 {
            self.of.retain(|pid, _| scheduler.has_kin(pid));
            self.untold.retain(|pid| self.of.contains_key(pid));
            self.kept = self.of.len();
        }
        self.of.insert(pid, *limits);
    }

    /// The scheduler knows what is left of it.
    pub(super) fn is_told(&mut self, pid: Pid) {
        self.untold.remove(&pid);
    }

    pub(super) fn get(&self, pid: Pid) -> Option<Limits> {
        self.of.get(&pid).copied()
    }
}

impl Dispatcher {
    /// Whether the scheduler has still to hear what is left of that purse.
    pub(crate) fn is_untold(&self, purse: &Purse) -> bool {
        matches!(purse, Purse::Process(pid) if self.lock().purses.untold.contains(pid))
    }

    /// The purses that a call of the process is paid from: of those owners the ones that have money,
    /// then its own and those of all from whom it descends.
    pub(crate) fn purses(&self, pid: Pid, shared: [QuotaOwner; 3]) -> Vec<(Purse, Spend)> {
        let sharing = self.sharing();
        let mut found: Vec<(Purse, Spend)> = shared
            .into_iter()
            .filter_map(|owner| Some((sharing.limits(&owner)?.spend?, owner)))
            .map(|(spend, owner)| (Purse::Shared(owner), spend))
            .collect();
        drop(sharing);
        let queue = self.lock();
        if !queue.purses.of.is_empty() {
            let family = queue.scheduler.family(&pid);
            let has = |pid: &Pid| Some((Purse::Process(*pid), queue.purses.get(*pid)?.spend?));
            found.extend(family.filter_map(has));
        }
        found
    }
}
