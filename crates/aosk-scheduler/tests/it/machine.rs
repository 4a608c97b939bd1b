//! A scheduler with one pool, for tests that go step by step.

use std::time::Duration;

use aosk_abi::{MicroDollars, Priority, Tenant, Tokens};
use aosk_scheduler::{
    Amounts, Budget, Class, DispatchId, Owner, Place, PoolId, PoolOptions, Quota, Rate, Scheduler,
    Settled, Step, Units, Used,
};

pub const TEN: Units = Units(10);
pub const MINUTE: Duration = Duration::from_secs(60);

pub fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

pub fn tenant(name: &str) -> Tenant {
    name.parse().expect("a name")
}

/// A step that reserves so much.
pub fn costing(input: u64, output: u64, money: u64) -> Step {
    let money = MicroDollars(money);
    let most = Amounts { input: Tokens(input), output: Tokens(output), money };
    Step { estimate: TEN, most, ..Step::default() }
}

pub fn used(input: u64, output: u64, money: u64) -> Used {
    Used { charge: TEN, amounts: Some(costing(input, output, money).most) }
}

pub fn per_minute(limit: u64) -> Option<Rate> {
    Some(Rate { limit, window: MINUTE })
}

pub fn money(limit: u64, window: Option<Duration>) -> Quota {
    let budget = Budget { limit: MicroDollars(limit), opened: Duration::ZERO, window };
    Quota { money: Some(budget), ..Quota::default() }
}

pub struct Machine {
    pub scheduler: Scheduler<u32>,
    pub pool: PoolId,
    pub now: Duration,
}

impl Machine {
    pub fn new(options: PoolOptions) -> Self {
        let mut scheduler = Scheduler::new();
        let pool = scheduler.add_pool(options).expect("slots");
        Self { scheduler, pool, now: Duration::ZERO }
    }

    /// Admits a process to a tenant with that many.
    pub fn admit(&mut self, key: u32, owner: &str, priority: u64) {
        let priority = Priority::new(priority).expect("0 to 99");
        self.scheduler.admit(key, tenant(owner), priority).expect("new");
    }

    pub fn admit_to(&mut self, key: u32, owner: &str, group: &str, class: Class) {
        let (tenant, group, priority) = (tenant(owner), group.to_owned(), Priority::DEFAULT);
        let place = Place { tenant, group, class, priority };
        self.scheduler.admit_to(key, &place).expect("new");
    }

    pub fn wake(&mut self, key: u32, step: impl Into<Step>) {
        self.scheduler.wake(&key, self.pool, step, self.now).expect("known");
    }

    pub fn quota(&mut self, owner: &Owner<u32>, quota: Quota) {
        self.scheduler.set_quota(owner, quota, self.now).expect("a quota");
    }

    pub fn pick(&mut self) -> Option<(DispatchId, u32)> {
        let dispatch = self.scheduler.pick(self.now)?;
        Some((dispatch.id, dispatch.key))
    }

    /// Everyone whom the pool takes now.
    pub fn pick_all(&mut self) -> Vec<(DispatchId, u32)> {
        std::iter::from_fn(|| self.pick()).collect()
    }

    pub fn charge(&mut self, id: DispatchId, used: impl Into<Used>) -> Settled {
        self.scheduler.charge(id, used).expect("it was dispatched")
    }

    /// Makes one call of ten units, which takes no time; whose it was.
    pub fn call(&mut self) -> u32 {
        let (id, key) = self.pick().expect("someone waits");
        self.charge(id, TEN);
        key
    }
}
