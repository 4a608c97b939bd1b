//! `sched`: what a decision of the scheduler costs, and how fair it is, with very many who wait.
//!
//! Every process waits always: whose call ends waits again at once, so that the number of runnable
//! processes never falls. Tenants have weights 1, 2 and 4; calls charge 1 to 2,000 units; pool and
//! tenants have quotas of requests, input and output that are checked, reserved and settled with
//! every call and never reached. One thread, no clock but for the figures.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use aosk_abi::{MicroDollars, Priority, Tenant, Tokens};
use aosk_scheduler::{
    Amounts, DispatchId, Order, Owner, PoolId, PoolOptions, Quota, Rate, Scheduler, Step, Units,
    Used, Weight,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use serde::Serialize;

use crate::report::{Failure, result};

/// The greatest charge of a call.
const GREATEST: u64 = 2_000;

/// How often the bound is checked.
const CHECKS: u64 = 488;

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// How many processes wait at every moment.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    runnable: u32,
    /// To how many tenants they belong.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    tenants: u32,
    /// How many calls are in flight.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    depth: u32,
    /// How many decisions.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    decisions: u64,
    /// Whether calls are estimated at the most that they can use (T1), or at what they will use
    /// with an error of up to twice and half (T2).
    #[arg(long, value_enum, default_value_t = Estimates::Mean)]
    estimates: Estimates,
    /// The seed of charges and of which call ends next.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Estimates {
    Upper,
    Mean,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    runnable: u32,
    tenants: u32,
    depth: u32,
    decisions: u64,
    estimates: Estimates,
    seed: u64,
    /// Whole rounds: a call is settled, its process waits again, a decision is made.
    decisions_per_s: u64,
    /// The decision alone: `pick` with its reservations.
    p50_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    /// Settling and waking.
    settle_p99_ns: u64,
    worst_share_error: f64,
    t1_checks: u64,
    t1_held: u64,
    /// How long it took to admit all processes and let them wait.
    admitted_s: f64,
    /// How long it took to wake up to 100,000 who had been blocked.
    storm: usize,
    storm_s: f64,
}

struct Load {
    scheduler: Scheduler<u32>,
    pool: PoolId,
    tenants: u32,
    /// The weight of each tenant, and what its settled calls were charged.
    weights: Vec<u32>,
    served: Vec<u64>,
    estimates: Estimates,
    random: ChaCha8Rng,
    flights: VecDeque<(DispatchId, u32)>,
    /// What each process's next call will be charged.
    sizes: Vec<u16>,
}

/// Loads the scheduler and counts.
pub fn run(args: &Args) -> Result<(), Failure> {
    let started = Instant::now();
    let mut load = Load::new(args)?;
    for process in 0..args.runnable {
        load.admit(process)?;
    }
    let admitted = started.elapsed();
    let (mut picks, mut settles) = (Histogram::default(), Histogram::default());
    let every = (args.decisions / CHECKS).max(1);
    let (mut checks, mut held) = (0, 0);
    let mut busy = Duration::ZERO;
    for number in 1..=args.decisions {
        let before = Instant::now();
        if load.flights.len() == args.depth as usize {
            load.end_one()?;
        }
        let between = Instant::now();
        let dispatch = load.scheduler.pick(Duration::from_micros(number));
        let after = Instant::now();
        let dispatch = dispatch.ok_or("nobody could be dispatched: a quota is too small")?;
        load.flights.push_back((dispatch.id, dispatch.key));
        settles.add(between - before);
        picks.add(after - between);
        busy += after - before;
        if args.runnable <= args.depth {
            load.end_one()?;
        }
        if number % every == 0 {
            checks += 1;
            held += u64::from(load.holds(args.depth));
        }
    }
    while !load.flights.is_empty() {
        load.end_one()?;
    }
    let worst_share_error = load.worst_share_error();
    let (storm, storm_s) = load.storm(args.runnable)?;
    let row = Row {
        name: "sched",
        runnable: args.runnable,
        tenants: args.tenants,
        depth: args.depth,
        decisions: args.decisions,
        estimates: args.estimates,
        seed: args.seed,
        decisions_per_s: per_second(args.decisions, busy),
        p50_ns: picks.quantile(0.5),
        p99_ns: picks.quantile(0.99),
        p999_ns: picks.quantile(0.999),
        settle_p99_ns: settles.quantile(0.99),
        worst_share_error: (worst_share_error * 1e6).round() / 1e6,
        t1_checks: checks,
        t1_held: held,
        admitted_s: admitted.as_secs_f64(),
        storm,
        storm_s,
    };
    result(&row, args.json)
}

impl Load {
    fn new(args: &Args) -> Result<Self, Failure> {
        let mut scheduler = Scheduler::new();
        let options = PoolOptions {
            order: Order::Fsp,
            greatest: Units(GREATEST),
            ..PoolOptions::new(args.depth as usize)
        };
        let pool = scheduler.add_pool(options)?;
        let minute = Duration::from_secs(60);
        let rate = Some(Rate { limit: 1 << 50, window: minute });
        let quota = Quota { requests: rate, input: rate, output: rate, ..Quota::default() };
        scheduler.set_quota(&Owner::Pool(pool), quota, Duration::ZERO)?;
        let mut weights = Vec::new();
        for number in 0..args.tenants {
            let weight = 1 << (number % 3);
            scheduler.weigh_tenant(&tenant(number)?, Weight::new(weight)?);
            scheduler.set_quota(&Owner::Tenant(tenant(number)?), quota, Duration::ZERO)?;
            weights.push(weight);
        }
        Ok(Self {
            scheduler,
            pool,
            tenants: args.tenants,
            served: vec![0; weights.len()],
            weights,
            estimates: args.estimates,
            random: ChaCha8Rng::seed_from_u64(args.seed),
            flights: VecDeque::new(),
            sizes: vec![0; args.runnable as usize],
        })
    }

    fn admit(&mut self, process: u32) -> Result<(), Failure> {
        let owner = tenant(process % self.tenants)?;
        self.scheduler.admit(process, owner, Priority::DEFAULT)?;
        self.wake(process)
    }

    fn wake(&mut self, process: u32) -> Result<(), Failure> {
        let random = self.random.next_u64();
        let size = 1 + random % GREATEST;
        let estimate = match self.estimates {
            Estimates::Upper => GREATEST,
            Estimates::Mean => (size * (50 + (random >> 32) % 151) / 100).clamp(1, GREATEST),
        };
        self.sizes[process as usize] = u16::try_from(size)?;
        let most = Amounts {
            input: Tokens(GREATEST),
            output: Tokens(GREATEST),
            money: MicroDollars::ZERO,
        };
        let step = Step { estimate: Units(estimate), most, ..Step::default() };
        Ok(self.scheduler.wake(&process, self.pool, step, Duration::ZERO)?)
    }

    /// One of the calls in flight ends, and its process waits again.
    fn end_one(&mut self) -> Result<(), Failure> {
        let last = self.flights.len() - 1;
        let which = usize::try_from(self.random.next_u64())? % self.flights.len();
        self.flights.swap(which, last);
        let (id, process) = self.flights.pop_back().ok_or("no call is in flight")?;
        let size = u64::from(self.sizes[process as usize]);
        let (input, output) = (Tokens(size), Tokens(size));
        let amounts = Some(Amounts { input, output, money: MicroDollars::ZERO });
        self.scheduler.charge(id, Used { charge: Units(size), amounts })?;
        self.served[(process % self.tenants) as usize] += size;
        self.wake(process)
    }

    /// Whether the service of any two tenants differs by no more than the bound: with upper
    /// estimates T1, *C/w_f + D·C/w_g*, else T2, which adds *D·C/w_f*.
    fn holds(&self, depth: u32) -> bool {
        // Times the least common multiple of the weights, so that nothing is rounded.
        let unit = |weight: &u32| i128::from(4 / weight);
        let (depth, greatest) = (i128::from(depth), i128::from(GREATEST));
        let ahead = match self.estimates {
            Estimates::Upper => greatest,
            Estimates::Mean => greatest + depth * greatest,
        };
        let flows = || self.served.iter().zip(&self.weights);
        let most = flows().map(|(served, weight)| (i128::from(*served) - ahead) * unit(weight));
        let least =
            flows().map(|(served, weight)| (i128::from(*served) + depth * greatest) * unit(weight));
        // Two units are for the rounding of virtual time, one a flow.
        most.max() <= least.min().map(|least| least + 2 * 4)
    }

    /// The greatest relative difference between a tenant's share and that of its weight.
    fn worst_share_error(&self) -> f64 {
        let total: u64 = self.served.iter().sum();
        let weights: u32 = self.weights.iter().sum();
        let errors = self.served.iter().zip(&self.weights).map(|(&served, &weight)| {
            let due = total as f64 * f64::from(weight) / f64::from(weights);
            (served as f64 / due - 1.0).abs()
        });
        errors.fold(0.0, f64::max)
    }

    /// Blocks many and wakes them all; how many, and how long the waking took.
    fn storm(&mut self, runnable: u32) -> Result<(usize, f64), Failure> {
        let many = runnable.min(100_000);
        for process in 0..many {
            self.scheduler.block(&process)?;
        }
        let started = Instant::now();
        for process in 0..many {
            self.wake(process)?;
        }
        Ok((many as usize, started.elapsed().as_secs_f64()))
    }
}

fn tenant(number: u32) -> Result<Tenant, Failure> {
    Ok(format!("t{number}").parse()?)
}

fn per_second(count: u64, time: Duration) -> u64 {
    let per_second = u128::from(count) * 1_000_000_000 / time.as_nanos().max(1);
    u64::try_from(per_second).unwrap_or(u64::MAX)
}

/// Times in nanoseconds.
#[derive(Default)]
struct Histogram {
    times: Vec<u32>,
}

impl Histogram {
    fn add(&mut self, time: Duration) {
        self.times.push(u32::try_from(time.as_nanos()).unwrap_or(u32::MAX));
    }

    fn quantile(&mut self, share: f64) -> u64 {
        self.times.sort_unstable();
        let last = self.times.len().saturating_sub(1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=last")]
        let index = (last as f64 * share).round() as usize;
        self.times.get(index).copied().unwrap_or(0).into()
    }
}
