//! Who waits, in the orders that others use.

use std::collections::{BTreeSet, HashMap};

use super::model::{Agent, Job};
use crate::report::Failure;

/// Programs that wait for their next call.
pub trait Line {
    /// A program waits from `now` on for its call of that number.
    fn push(&mut self, number: usize, agent: &Agent, job: usize, now: u64) -> Result<(), Failure>;

    /// Whose call starts.
    fn pop(&mut self, now: u64) -> Result<Option<usize>, Failure>;

    /// The call of a program ended.
    fn ended(&mut self, number: usize, job: &Job, is_last: bool) -> Result<(), Failure>;
}

/// An order without tenants.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// First come, first served.
    Fifo,
    /// Each program in its turn.
    RoundRobin,
    /// Whose program has been served least (PLAS, Autellix 2025).
    LeastAttained,
    /// Whose program has least left, as an oracle knows.
    ShortestRemaining,
    /// Whose program would end first if all were served at once (FSP), as an oracle knows.
    FairSojourn,
}

/// Programs by a rank that is given when they begin to wait.
pub struct Simple {
    rule: Rule,
    waiting: BTreeSet<(u64, u64, usize)>,
    arrivals: u64,
    round: u64,
    /// The service that a program which was always there would have had.
    shared: f64,
    active: u64,
    attained: HashMap<usize, u64>,
    /// The next round of a program, or when it would end.
    tags: HashMap<usize, u64>,
}

impl Simple {
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            waiting: BTreeSet::new(),
            arrivals: 0,
            round: 0,
            shared: 0.0,
            active: 0,
            attained: HashMap::new(),
            tags: HashMap::new(),
        }
    }
}

impl Line for Simple {
    fn push(&mut self, number: usize, agent: &Agent, job: usize, _: u64) -> Result<(), Failure> {
        self.arrivals += 1;
        self.active += 1;
        let total = agent.jobs.iter().map(|job| job.service).sum::<u64>();
        let attained = self.attained.get(&number).copied().unwrap_or(0);
        let rank = match self.rule {
            Rule::Fifo => self.arrivals,
            Rule::RoundRobin => self.tags.get(&number).copied().unwrap_or(0).max(self.round),
            Rule::LeastAttained => attained,
            Rule::ShortestRemaining => agent.jobs[job..].iter().map(|job| job.service).sum(),
            Rule::FairSojourn => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a time"
                )]
                let shared = self.shared as u64;
                *self.tags.entry(number).or_insert(shared + total)
            }
        };
        self.waiting.insert((rank, self.arrivals, number));
        Ok(())
    }

    fn pop(&mut self, _: u64) -> Result<Option<usize>, Failure> {
        let Some((rank, _, number)) = self.waiting.pop_first() else {
            return Ok(None);
        };
        if let Rule::RoundRobin = self.rule {
            self.round = rank;
            self.tags.insert(number, rank + 1);
        }
        Ok(Some(number))
    }

    fn ended(&mut self, number: usize, job: &Job, _: bool) -> Result<(), Failure> {
        self.shared += job.service as f64 / self.active.max(1) as f64;
        self.active -= 1;
        *self.attained.entry(number).or_default() += job.service;
        Ok(())
    }
}
