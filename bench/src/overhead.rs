//! `kernel-overhead`: what the kernel itself adds to processes whose model takes 50 ms.
//!
//! First all processes run at once, which tells the capacity. Then the same number arrives evenly
//! at half of that: at full load a queue grows without end, and its length says nothing of the
//! kernel.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aosk_abi::{Pid, What};
use aosk_kernel::{Notice, Observer, Stop};
use aosk_ports::{CallError, Device, DeviceInfo, Progress, RenderError, Rendered, Reply, Request};
use futures::future::{BoxFuture, try_join_all};
use serde::Serialize;

use crate::noop::{cut_off, free, rendered_as_nothing};
use crate::report::{Failure, cpu_seconds, quantile_ms, result, say};
use crate::steps::{open_watched, spawn};

/// How many steps a process makes.
const STEPS: u64 = 10;

/// How long the model takes.
const TAKES: Duration = Duration::from_millis(50);

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// How many processes run.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    agents: u64,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    agents: u64,
    steps: u64,
    model_ms: u128,
    fsync: bool,
    /// Processes in a second, all at once.
    capacity_per_s: f64,
    processes_per_hour: f64,
    offered_per_s: f64,
    /// From ready to dispatched, at half of the capacity.
    dispatch_p50_ms: f64,
    dispatch_p99_ms: f64,
    cpu_us_per_step: f64,
}

/// Runs both loads.
pub fn run(args: &Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (closed, cpu, _) = runtime.block_on(load(args.agents, Duration::ZERO))?;
    let capacity = args.agents as f64 / closed.as_secs_f64();
    let between = Duration::from_secs_f64(2.0 / capacity);
    let (_, _, waits) = runtime.block_on(load(args.agents, between))?;
    let round = |value: f64| (value * 10.0).round() / 10.0;
    let row = Row {
        name: "kernel-overhead",
        agents: args.agents,
        steps: STEPS,
        model_ms: TAKES.as_millis(),
        fsync: true,
        capacity_per_s: round(capacity),
        processes_per_hour: (capacity * 3600.0).round(),
        offered_per_s: round(capacity / 2.0),
        dispatch_p50_ms: quantile_ms(&waits, 0.5),
        dispatch_p99_ms: quantile_ms(&waits, 0.99),
        cpu_us_per_step: round(cpu / (args.agents * STEPS) as f64 * 1e6),
    };
    result(&row, args.json)?;
    say("bars: dispatch_p99_ms up to 5, processes_per_hour from 200,000");
    Ok(())
}

/// Runs that many processes, one each `between`: how long it took, with how much processor time, and
/// the sorted waits from ready to dispatched.
async fn load(agents: u64, between: Duration) -> Result<(Duration, f64, Vec<Duration>), Failure> {
    let dir = tempfile::tempdir()?;
    let slots = usize::try_from(agents)?;
    let device = Arc::new(Steady(free("noop", 32 * 1024, slots)));
    let watch = Arc::new(Watch::default());
    let kernel = open_watched(dir.path(), device, watch.clone())?;
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let pids = if between.is_zero() {
        try_join_all((0..agents).map(|_| spawn(&kernel, STEPS))).await?
    } else {
        let arrivals = (0_u32..).zip(0..agents).map(|(number, _)| {
            let kernel = kernel.clone();
            async move {
                tokio::time::sleep(between * number).await;
                spawn(&kernel, STEPS).await
            }
        });
        try_join_all(arrivals).await?
    };
    kernel.wait_each(&pids).await;
    let (took, used) = (began.elapsed(), cpu_seconds() - cpu);
    kernel.stop(Stop::Graceful);
    Ok((took, used, watch.waits()))
}

/// A model that answers after its time.
struct Steady(DeviceInfo);

impl Device for Steady {
    fn info(&self) -> &DeviceInfo {
        &self.0
    }

    fn render(&self, _: &Request) -> Result<Rendered, RenderError> {
        Ok(rendered_as_nothing())
    }

    fn call<'a>(
        &'a self,
        _: &'a Rendered,
        _: &'a Request,
        _: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<Reply, CallError>> {
        Box::pin(async {
            tokio::time::sleep(TAKES).await;
            Ok(cut_off("noop"))
        })
    }
}

/// Notes when processes are ready and when they have their slot: a plan is made right behind that.
#[derive(Default)]
struct Watch(Mutex<(HashMap<Pid, Instant>, Vec<Duration>)>);

impl Watch {
    fn waits(&self) -> Vec<Duration> {
        let mut waits =
            std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).1);
        waits.sort_unstable();
        waits
    }
}

impl Observer for Watch {
    fn notice(&self, pid: Pid, notice: &Notice<'_>) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match notice {
            Notice::Happened { event, .. } => match event.what {
                What::LlmReturned(_) => drop(noted.0.insert(pid, Instant::now())),
                What::Planned(_) => {
                    if let Some(ready) = noted.0.remove(&pid) {
                        noted.1.push(ready.elapsed());
                    }
                }
                _ => {}
            },
            // The first step is ready when the process is durable.
            Notice::Committed { last, .. } if last.0 == 0 => {
                noted.0.insert(pid, Instant::now());
            }
            _ => {}
        }
    }
}
