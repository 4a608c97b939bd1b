//! The model: places that serve calls one at a time, programs that come, think and come again.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::line::Line;
use super::trace::Program;
use crate::report::Failure;

/// The first of them owns half of the programs.
pub const TENANTS: usize = 8;

/// One call, in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    pub service: u64,
    /// How long the program thinks after it.
    pub think: u64,
    pub input: u64,
    pub output: u64,
}

#[derive(Debug, Clone)]
pub struct Agent {
    pub tenant: usize,
    pub arrives: u64,
    pub jobs: Vec<Job>,
}

/// What became of a program, in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Delay {
    pub tenant: usize,
    pub waited: u64,
    /// Its service and think time.
    pub alone: u64,
}

impl Delay {
    pub fn turnaround(&self) -> u64 {
        self.waited + self.alone
    }
}

/// Everything that comes, and the places that serve it.
pub struct World {
    pub places: usize,
    pub agents: Vec<Agent>,
}

/// How long a call takes, in microseconds.
pub const fn service(input: u64, output: u64) -> u64 {
    300_000 + input * 125 + output * 1_000_000 / 60
}

impl World {
    /// The trace at that load. The seed says to whom programs belong.
    pub fn new(programs: &[Program], load: f64, seed: u64) -> Self {
        let calls = || programs.iter().flat_map(|program| &program.calls);
        let work = calls().map(|call| service(call.input, call.output)).sum::<u64>() as f64;
        let span = calls().map(|call| call.at).max().unwrap_or(0).max(1) as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 1")]
        let places = (work / (span * load)).round().max(1.0) as usize;
        // Places are whole; what rounding took from the load the pace of arrivals gives back.
        let stretch = work / (span * load) / places as f64;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let agents = programs.iter().map(|program| {
            let number = random.next_u32();
            let small = 1 + (number >> 1) as usize % (TENANTS - 1);
            let tenant = if number % 2 == 0 { 0 } else { small };
            let first = program.calls.first().map_or(0, |call| call.at);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time")]
            let arrives = (first as f64 * stretch) as u64;
            let jobs = program.calls.iter().enumerate().map(|(number, call)| {
                let service = service(call.input, call.output);
                let next = program.calls.get(number + 1).map_or(0, |next| next.at);
                let think = next.saturating_sub(call.at + service);
                Job { service, think, input: call.input, output: call.output }
            });
            Agent { tenant, arrives, jobs: jobs.collect() }
        });
        Self { places, agents: agents.collect() }
    }

    /// Serves all of it in the order that the line gives.
    pub fn run(&self, line: &mut dyn Line) -> Result<Vec<Delay>, Failure> {
        // When; whether a call ends, and ends go before arrivals; whose.
        let mut events: BTreeSet<(u64, bool, usize)> = BTreeSet::new();
        for (number, agent) in self.agents.iter().enumerate() {
            events.insert((agent.arrives, true, number));
        }
        let mut next_job = vec![0; self.agents.len()];
        let mut since = vec![0; self.agents.len()];
        let mut waited = vec![0; self.agents.len()];
        let mut busy = 0;
        let mut delays = Vec::new();
        while let Some((now, comes, number)) = events.pop_first() {
            let agent = &self.agents[number];
            if comes {
                since[number] = now;
                line.push(number, agent, next_job[number], now)?;
            } else {
                busy -= 1;
                let job = agent.jobs[next_job[number]];
                next_job[number] += 1;
                let is_last = next_job[number] == agent.jobs.len();
                line.ended(number, &job, is_last)?;
                if is_last {
                    let alone = agent.jobs.iter().map(|job| job.service + job.think).sum();
                    delays.push(Delay { tenant: agent.tenant, waited: waited[number], alone });
                } else {
                    events.insert((now + job.think, true, number));
                }
            }
            // All that happens at one moment comes before what is decided then.
            if events.first().is_some_and(|event| event.0 == now) {
                continue;
            }
            while busy < self.places
                && let Some(number) = line.pop(now)?
            {
                busy += 1;
                waited[number] += now - since[number];
                let job = self.agents[number].jobs[next_job[number]];
                events.insert((now + job.service, false, number));
            }
        }
        if delays.len() != self.agents.len() {
            return Err(format!("{} of {} ended", delays.len(), self.agents.len()).into());
        }
        Ok(delays)
    }
}
