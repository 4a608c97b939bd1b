//! The scheduler, as a line.

use std::collections::HashMap;
use std::time::Duration;

use aosk_abi::{Priority, Tenant};
use aosk_scheduler::{DispatchId, History, PoolId, PoolOptions, Scheduler, Units};

use super::line::Line;
use super::model::{Agent, Job, TENANTS, World, service};
use crate::report::Failure;

/// The tokens of a reply before any was seen, and as how many replies that counts.
const FIRST_GUESS: (u64, u64) = (300, 5);

/// As how many of its own replies the tenant's mean counts for a program.
const TENANT_COUNTS: u64 = 2;

/// Charges in milliseconds of service.
pub struct Ours {
    scheduler: Scheduler<usize>,
    pool: PoolId,
    tenants: Vec<(Tenant, History)>,
    programs: HashMap<usize, (usize, History)>,
    flights: HashMap<usize, DispatchId>,
}

impl Ours {
    pub fn new(world: &World) -> Result<Self, Failure> {
        let mut scheduler = Scheduler::new();
        let pool = scheduler.add_pool(PoolOptions::new(world.places))?;
        let mut tenants = Vec::new();
        for number in 0..TENANTS {
            tenants.push((format!("t{number}").parse()?, History::new()));
        }
        let (programs, flights) = (HashMap::new(), HashMap::new());
        Ok(Self { scheduler, pool, tenants, programs, flights })
    }
}

impl Line for Ours {
    fn push(&mut self, number: usize, agent: &Agent, job: usize, now: u64) -> Result<(), Failure> {
        let (tenant, others) = &self.tenants[agent.tenant];
        if let std::collections::hash_map::Entry::Vacant(entry) = self.programs.entry(number) {
            self.scheduler.admit(number, tenant.clone(), Priority::DEFAULT)?;
            entry.insert((agent.tenant, History::new()));
        }
        let (_, own) = &self.programs[&number];
        // What a scheduler knows: the prompt, and how long replies were before.
        let output = own.next(others.next(FIRST_GUESS.0, FIRST_GUESS.1), TENANT_COUNTS);
        let estimate = Units(service(agent.jobs[job].input, output) / 1_000);
        Ok(self.scheduler.wake(&number, self.pool, estimate, Duration::from_micros(now))?)
    }

    fn pop(&mut self, now: u64) -> Result<Option<usize>, Failure> {
        let dispatch = self.scheduler.pick(Duration::from_micros(now));
        Ok(dispatch.map(|dispatch| {
            self.flights.insert(dispatch.key, dispatch.id);
            dispatch.key
        }))
    }

    fn ended(&mut self, number: usize, job: &Job, is_last: bool) -> Result<(), Failure> {
        let id = self.flights.remove(&number).ok_or("a call ended that never began")?;
        self.scheduler.charge(id, Units(job.service / 1_000))?;
        if let Some((tenant, own)) = self.programs.get_mut(&number) {
            own.see(job.output);
            self.tenants[*tenant].1.see(job.output);
        }
        if is_last {
            self.scheduler.remove(&number)?;
            self.programs.remove(&number);
        }
        Ok(())
    }
}
