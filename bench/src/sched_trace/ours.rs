//! The scheduler, as a line: with its own setting, or with one that a bandit chooses.

use std::collections::HashMap;
use std::time::Duration;

use aosk_abi::{Priority, Tenant};
use aosk_scheduler::{
    DispatchId, Ended, History, Knobs, Lengths, PoolId, PoolOptions, Scheduler, Tuner, Units,
};

use super::line::Line;
use super::model::{Agent, Job, TENANTS, World, service};
use crate::report::Failure;

/// The tokens of a reply before any was seen, and as how many replies that counts.
const FIRST_GUESS: (u64, u64) = (300, 5);

/// As how many of its own replies the tenant's mean counts for a program.
const TENANT_COUNTS: u64 = 2;

/// The longest aging that a tuned pool may have, as the kernel sets it up.
const LONGEST_AGING: Duration = Duration::from_secs(60);

/// Charges in milliseconds of service.
pub struct Ours {
    scheduler: Scheduler<usize>,
    pool: PoolId,
    tenants: Vec<(Tenant, Lengths)>,
    programs: HashMap<usize, (usize, History)>,
    /// Its call, when it was wished for and when it began, in microseconds.
    flights: HashMap<usize, (DispatchId, u64, u64)>,
    since: HashMap<usize, u64>,
    tuner: Option<Tuner>,
}

impl Ours {
    pub fn new(world: &World) -> Result<Self, Failure> {
        Self::of(PoolOptions::new(world.places), None)
    }

    /// The same with a bandit of that seed.
    pub fn tuned(world: &World, seed: u64) -> Result<Self, Failure> {
        let base = PoolOptions::new(world.places);
        let options = PoolOptions { aging: LONGEST_AGING, ..base };
        Self::of(options, Some(Tuner::new(&options, Knobs::of(&base), seed)))
    }

    fn of(options: PoolOptions, tuner: Option<Tuner>) -> Result<Self, Failure> {
        let mut scheduler = Scheduler::new();
        let pool = scheduler.add_pool(options)?;
        if let Some(tuner) = &tuner {
            scheduler.tune(pool, tuner.knobs())?;
        }
        let mut tenants = Vec::new();
        for number in 0..TENANTS {
            tenants.push((format!("t{number}").parse()?, Lengths::default()));
        }
        let (programs, flights, since) = (HashMap::new(), HashMap::new(), HashMap::new());
        Ok(Self { scheduler, pool, tenants, programs, flights, since, tuner })
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
        let guess = self.tuner.as_ref().map_or_else(Default::default, |tuner| tuner.knobs().guess);
        let output = own.next(others.next(guess, FIRST_GUESS.0, FIRST_GUESS.1), TENANT_COUNTS);
        let estimate = Units(service(agent.jobs[job].input, output) / 1_000);
        self.since.insert(number, now);
        Ok(self.scheduler.wake(&number, self.pool, estimate, Duration::from_micros(now))?)
    }

    fn pop(&mut self, now: u64) -> Result<Option<usize>, Failure> {
        let dispatch = self.scheduler.pick(Duration::from_micros(now));
        Ok(dispatch.map(|dispatch| {
            let since = self.since.remove(&dispatch.key).unwrap_or(now);
            self.flights.insert(dispatch.key, (dispatch.id, since, now));
            dispatch.key
        }))
    }

    fn ended(&mut self, number: usize, job: &Job, is_last: bool) -> Result<(), Failure> {
        let call = self.flights.remove(&number);
        let (id, since, began) = call.ok_or("a call ended that never began")?;
        let charge = Units(job.service / 1_000);
        self.scheduler.charge(id, charge)?;
        if let Some(tuner) = &mut self.tuner {
            let waited = Duration::from_micros(began - since);
            let took = Duration::from_micros(job.service);
            if let Some(choice) = tuner.see(&Ended { waited, took, charge }) {
                self.scheduler.tune(self.pool, choice.knobs)?;
            }
        }
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
