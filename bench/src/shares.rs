//! `shares`: twelve agents of weights 1 : 2 : 4 in three tenants, on a real model.
//!
//! All of them always want a call. Each asks a question of its own and gets a reply of its own
//! length, so calls differ in what they are charged: the tokens that the server says it used. They go on
//! until every tenant was charged so much that the scheduler's bound on the error of a share comes to
//! a twentieth; so service decides when it ends, and never time. Tenants weigh the same; agents weigh
//! by their priorities, as in the kernel, and the order inside a tenant is by weight alone.

use std::time::{Duration, Instant};

use aosk_abi::{CacheLife, Priority, Role, Sampling, Tenant, Tokens, ToolCalls};
use aosk_llm::{Models, Options, Remote};
use aosk_ports::{Device as _, Message, Part, Request};
use aosk_scheduler::{DispatchId, History, Order, PoolId, PoolOptions, Scheduler, Units, Weight};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use serde::Serialize;

use crate::report::{Failure, result, say};

/// Four of each weight; they are dealt to the tenants in turn.
const AGENTS: usize = 12;
const TENANTS: usize = 3;

/// The most that a share may be off, and the part of that which the bound promises at the end.
const BAR: f64 = 0.05;

/// The tokens of a reply before any was seen, and as how many replies that counts.
const FIRST_GUESS: (u64, u64) = (6, 4);

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// Where the server is; `./x bench shares` starts one.
    #[arg(long)]
    url: String,
    /// How many calls are in flight at once.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=4))]
    depth: u64,
    /// The part of the service to go on for, in percent: below 100 the bound promises less.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100))]
    percent: u64,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    model: String,
    agents: usize,
    tenants: usize,
    depth: u64,
    percent: u64,
    calls: u64,
    /// Charged in all, and what each tenant had to be charged at least, in tokens.
    charged: u64,
    threshold: u64,
    /// The greatest estimate or charge of a call.
    greatest: u64,
    seconds: f64,
    /// The greatest part by which a share is off, of itself: of tenants in all, of agents in their
    /// tenant.
    worst_tenant_error: f64,
    worst_agent_error: f64,
    shares: Vec<Share>,
}

#[derive(Serialize)]
struct Share {
    tenant: usize,
    weight: u64,
    charged: u64,
    share: f64,
    due: f64,
}

/// Asks until the bound is below the bar.
pub fn run(args: &Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let row = runtime.block_on(ask(args))?;
    let worst = row.worst_tenant_error.max(row.worst_agent_error);
    result(&row, args.json)?;
    say(&format!("bar: errors up to {BAR}; the worst is {worst:.4}"));
    Ok(())
}

struct Line {
    scheduler: Scheduler<usize>,
    pool: PoolId,
    histories: Vec<History>,
    charged: Vec<u64>,
    greatest: u64,
    depth: u64,
}

impl Line {
    fn new(depth: u64) -> Result<Self, Failure> {
        let mut scheduler = Scheduler::new();
        let options = PoolOptions::new(usize::try_from(depth)?);
        let pool = scheduler.add_pool(PoolOptions { order: Order::Fair, ..options })?;
        for agent in 0..AGENTS {
            let tenant: Tenant = format!("t{}", agent % TENANTS).parse()?;
            scheduler.admit(agent, tenant, priority(agent)?)?;
        }
        let (histories, charged) = (vec![History::new(); AGENTS], vec![0; AGENTS]);
        Ok(Self { scheduler, pool, histories, charged, greatest: 0, depth })
    }

    fn wake(&mut self, agent: usize, now: Duration) -> Result<(), Failure> {
        let input = question(agent).len() as u64 / 4;
        let estimate = input + self.histories[agent].next(FIRST_GUESS.0, FIRST_GUESS.1);
        self.greatest = self.greatest.max(estimate);
        Ok(self.scheduler.wake(&agent, self.pool, Units(estimate), now)?)
    }

    fn charge(&mut self, agent: usize, id: DispatchId, used: (u64, u64)) -> Result<(), Failure> {
        let charge = used.0 + used.1;
        self.histories[agent].see(used.1);
        self.greatest = self.greatest.max(charge);
        self.charged[agent] += charge;
        self.scheduler.charge(id, Units(charge))?;
        Ok(())
    }

    fn of_tenant(&self, tenant: usize) -> u64 {
        (0..AGENTS).filter(|agent| agent % TENANTS == tenant).map(|agent| self.charged[agent]).sum()
    }

    /// What a tenant has to be charged for each of its agents' shares to be off by no more than the
    /// bar: D·U·(1/w + 1/w_min)·W over it, for the lightest of the tenant whose agents weigh most.
    fn threshold(&self) -> u64 {
        let of = |tenant| (0..AGENTS).filter(move |agent| agent % TENANTS == tenant).map(weight);
        let heaviest = (0..TENANTS).map(|tenant| of(tenant).sum::<u64>()).max().unwrap_or(0);
        2 * self.depth * self.greatest * heaviest * 20
    }
}

async fn ask(args: &Args) -> Result<Row, Failure> {
    let env = |name: &str| (name == "OPENAI_BASE_URL").then(|| args.url.clone());
    let (spec, endpoint) = Models::embedded().select("local", &env)?;
    let device = Remote::connect(spec, endpoint, Options::default()).await?;
    let mut line = Line::new(args.depth)?;
    let (began, mut calls, mut told) = (Instant::now(), 0, 0);
    let mut flights = FuturesUnordered::new();
    for agent in 0..AGENTS {
        line.wake(agent, began.elapsed())?;
    }
    loop {
        while let Some(dispatch) = line.scheduler.pick(began.elapsed()) {
            let device = &device;
            flights.push(async move {
                let request = request(dispatch.key);
                let reply = match device.render(&request) {
                    Ok(rendered) => device.call(&rendered, &request, &()).await.map_err(Into::into),
                    Err(error) => Err(Failure::from(error)),
                };
                (dispatch.key, dispatch.id, reply)
            });
        }
        let (agent, id, reply) = flights.next().await.ok_or("nobody asks")?;
        let usage = reply?.usage.ok_or("the server does not say what it used")?;
        line.charge(agent, id, (usage.input.0, usage.output.0))?;
        line.wake(agent, began.elapsed())?;
        calls += 1;
        let least = (0..TENANTS).map(|tenant| line.of_tenant(tenant)).min().unwrap_or(0);
        let threshold = line.threshold() * args.percent / 100;
        if least >= threshold {
            break;
        }
        if least * 10 / threshold.max(1) > told {
            told = least * 10 / threshold.max(1);
            say(&format!("{calls} calls, {least} of {threshold} tokens a tenant"));
        }
    }
    Ok(row(args, &line, device.info().model.clone(), calls, began.elapsed()))
}

fn row(args: &Args, line: &Line, model: String, calls: u64, took: Duration) -> Row {
    let charged: u64 = line.charged.iter().sum();
    let round = |value: f64| (value * 1e4).round() / 1e4;
    let off = |share: f64, due: f64| (share / due - 1.0).abs();
    let tenants = (0..TENANTS).map(|tenant| line.of_tenant(tenant) as f64 / charged as f64);
    let worst_tenant = tenants.map(|share| off(share, 1.0 / TENANTS as f64)).fold(0.0, f64::max);
    let mut worst_agent: f64 = 0.0;
    let mut shares = Vec::new();
    for agent in 0..AGENTS {
        let tenant = agent % TENANTS;
        let siblings = (0..AGENTS).filter(|other| other % TENANTS == tenant);
        let due = weight(agent) as f64 / siblings.map(weight).sum::<u64>() as f64;
        let share = line.charged[agent] as f64 / line.of_tenant(tenant) as f64;
        worst_agent = worst_agent.max(off(share, due));
        shares.push(Share {
            tenant,
            weight: weight(agent),
            charged: line.charged[agent],
            share: round(share),
            due: round(due),
        });
    }
    Row {
        name: "shares",
        model,
        agents: AGENTS,
        tenants: TENANTS,
        depth: args.depth,
        percent: args.percent,
        calls,
        charged,
        threshold: line.threshold() * args.percent / 100,
        greatest: line.greatest,
        seconds: round(took.as_secs_f64()),
        worst_tenant_error: round(worst_tenant),
        worst_agent_error: round(worst_agent),
        shares,
    }
}

/// 50, 40 and 30: each is worth twice the one before.
fn priority(agent: usize) -> Result<Priority, Failure> {
    Ok(Priority::new(50 - 10 * (agent as u64 / 4))?)
}

/// 1, 2 or 4, as the priorities weigh.
fn weight(agent: usize) -> u64 {
    let of = |agent| priority(agent).map_or(1, |it| u64::from(Weight::of(it).get()));
    of(agent) / of(0)
}

fn question(agent: usize) -> String {
    format!("Say the number {agent} in words. {}", "Be brief. ".repeat(agent % 5))
}

/// The agent's question, with replies of up to 1 to 6 tokens.
fn request(agent: usize) -> Request {
    Request {
        messages: vec![Message {
            role: Role::User,
            parts: [Part::Text(question(agent).into())].into(),
        }],
        tail: None,
        tools: [].into(),
        may_call: false,
        tool_calls: ToolCalls::Native,
        max_output: Tokens(1 + agent as u64 * 5 % 6),
        sampling: Sampling { temperature: Some(0.0), ..Sampling::default() },
        cache_key: format!("shares-{agent}"),
        slot: None,
        settled: 0,
        lasting: 0,
        life: CacheLife::Short,
    }
}
