//! Quotas while the kernel runs: what each limit is, how it stands, and who is warned of it.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use aosk_abi::{
    BlockedOn, BudgetWarned, Limits, MicroDollars, Pid, QuotaOwner, Sharing, Timestamp,
};
use aosk_scheduler::{Gauge, Owner, Warning};

use super::{Dispatcher, Purse, Queue, bug, now_of, scarce, share};
use crate::error::Error;
use crate::observe::Warned;
use crate::standing::{LimitStanding, QuotaStanding};

impl Dispatcher {
    pub(super) fn sharing(&self) -> MutexGuard<'_, Sharing> {
        self.sharing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what an owner may use from now on; what it had before. A model that was not asked yet
    /// will have it.
    pub(crate) fn limit(
        self: &Arc<Self>,
        owner: &QuotaOwner,
        limits: Limits,
    ) -> Result<Limits, Error> {
        let before = std::mem::replace(self.sharing().limits_mut(owner), limits);
        {
            let mut queue = self.lock();
            if let Some(whose) = queue.known(&Purse::Shared(owner.clone())) {
                let quota = share::quota(&limits, now_of(&*self.clock));
                let now = self.clock.monotonic();
                queue.scheduler.set_quota(&whose, quota, now).map_err(bug)?;
            }
        }
        self.pump();
        Ok(before)
    }

    /// Sets what a process and all that descend from it may use from now on. Whoever comes in later
    /// brings it along.
    pub(crate) fn limit_process(self: &Arc<Self>, pid: Pid, limits: &Limits) -> Result<(), Error> {
        {
            let mut queue = self.lock();
            if !queue.scheduler.has_kin(&pid) {
                return Ok(());
            }
            let quota = share::quota(limits, now_of(&*self.clock));
            let now = self.clock.monotonic();
            queue.scheduler.set_quota(&Owner::Process(pid), quota, now).map_err(bug)?;
            let queue = &mut *queue;
            queue.purses.set(pid, limits, false, &queue.scheduler);
        }
        self.pump();
        Ok(())
    }

    /// Another window of a budget begins, of which so much is left.
    pub(crate) fn begin_window(
        self: &Arc<Self>,
        purse: &Purse,
        left: MicroDollars,
    ) -> Result<(), Error> {
        let shared = match purse {
            Purse::Shared(owner) => self.sharing().limits(owner).copied(),
            Purse::Process(_) => None,
        };
        {
            let mut queue = self.lock();
            let Some(whose) = queue.known(purse) else { return Ok(()) };
            let limits = match purse {
                Purse::Shared(_) => shared,
                Purse::Process(pid) => queue.purses.get(*pid),
            };
            if let Some(limits) = limits {
                let now = now_of(&*self.clock);
                share::limit(&mut queue.scheduler, &whose, &limits, &purse.to_string(), now)?;
            }
            queue.scheduler.begin_window(&whose, left).map_err(bug)?;
            if let Purse::Process(pid) = purse {
                queue.purses.is_told(*pid);
            }
        }
        self.pump();
        Ok(())
    }

    /// How every quota stands: those that are shared, in the order of their owners, then those of
    /// processes, by pid.
    pub(crate) fn quotas(&self) -> Vec<QuotaStanding> {
        let shared = self.sharing().clone();
        let (now, wall) = (self.clock.monotonic(), self.clock.now());
        let queue = self.lock();
        let mut standings = Vec::new();
        for (owner, limits) in shared.owners() {
            let whose = queue.known(&Purse::Shared(owner.clone()));
            let gauges = whose.map(|whose| queue.scheduler.gauges(&whose, now));
            standings.push(match gauges.filter(|gauges| !gauges.is_empty()) {
                Some(gauges) => {
                    let limits = gauges.iter().map(|gauge| standing(gauge, now, wall)).collect();
                    QuotaStanding { owner: owner.to_string(), pid: None, limits }
                }
                None => QuotaStanding::of_unused(&owner, limits),
            });
        }
        let mut own: Vec<Pid> = queue.scheduler.limited().copied().collect();
        own.sort_unstable();
        for pid in own {
            let gauges = queue.scheduler.gauges(&Owner::Process(pid), now);
            // Nothing is left of one that was lifted.
            if !gauges.is_empty() {
                let limits = gauges.iter().map(|gauge| standing(gauge, now, wall)).collect();
                standings.push(QuotaStanding {
                    owner: BlockedOn::OWN.to_owned(),
                    pid: Some(pid),
                    limits,
                });
            }
        }
        standings
    }

    /// The warnings that a process's calls brought about and that stand in no journal yet.
    pub(crate) fn warnings_of(&self, pid: Pid) -> Vec<BudgetWarned> {
        let mut queue = self.lock();
        if queue.warned.is_empty() {
            return Vec::new();
        }
        let of = |it: &mut (Pid, BudgetWarned)| it.0 == pid;
        queue.warned.extract_if(.., of).map(|(_, warned)| warned).collect()
    }

    /// Keeps the warnings that came up for the journals that they belong in.
    pub(super) fn take_warnings(&self, queue: &mut Queue, now: Duration) -> Vec<Warned> {
        let warnings = queue.scheduler.take_warnings();
        let mut told = Vec::with_capacity(warnings.len());
        for Warning { owner, by, percent, limit, until } in warnings {
            let owner = queue.owner(&owner, by);
            told.push(Warned { owner: owner.clone(), percent });
            let until = until.map(|until| at(until, now, self.clock.now()));
            queue.warned.push((by, BudgetWarned { limit, owner, percent, until }));
        }
        told
    }

    pub(super) fn tell(&self, warned: &[Warned]) {
        for Warned { owner, percent } in warned {
            tracing::warn!("{percent} % of the budget of {owner} is spent or reserved");
        }
        warned.iter().for_each(|warned| self.observer.warned(warned));
    }
}

impl Queue {
    /// No more than that is left of a budget: others have spent of it.
    pub(super) fn leave(&mut self, purse: &Purse, left: MicroDollars, now: Duration) {
        if let Some(whose) = self.known(purse) {
            // Its pool is there.
            drop(self.scheduler.leave(&whose, left, now));
        }
    }

    /// The owner as the scheduler knows it; `None` for a pool that was not asked yet and for a process
    /// that is gone.
    fn known(&self, purse: &Purse) -> Option<Owner<Pid>> {
        Some(match purse {
            Purse::Shared(QuotaOwner::Pool(name)) => Owner::Pool(self.devices.get(name)?.id),
            Purse::Shared(QuotaOwner::Tenant(tenant)) => Owner::Tenant(tenant.clone()),
            Purse::Shared(QuotaOwner::Group(tenant, group)) => {
                Owner::Group(tenant.clone(), group.clone())
            }
            Purse::Process(pid) if self.scheduler.has_kin(pid) => Owner::Process(*pid),
            Purse::Process(_) => return None,
        })
    }
}

/// A moment of the monotonic clock on the wall's.
pub(super) fn at(moment: Duration, now: Duration, wall: Timestamp) -> Timestamp {
    let left = moment.saturating_sub(now).as_millis();
    wall.plus_millis(u64::try_from(left).unwrap_or(u64::MAX))
}

/// A moment of the monotonic clock that has passed, on the wall's.
pub(super) fn ago(moment: Duration, now: Duration, wall: Timestamp) -> Timestamp {
    let passed = u64::try_from(now.saturating_sub(moment).as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_millis(wall.as_millis().saturating_sub(passed))
}

pub(super) fn standing(gauge: &Gauge, now: Duration, wall: Timestamp) -> LimitStanding {
    LimitStanding {
        scarce: scarce(gauge.resource),
        limit: gauge.limit,
        window_s: gauge.window.map(|window| window.as_secs()),
        used: gauge.used,
        reserved: gauge.reserved,
        resets: gauge.resets.map(|moment| at(moment, now, wall)),
    }
}
