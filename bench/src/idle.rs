//! `idle`: what a blocked process costs while nothing happens, and how fast it wakes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aosk_abi::{Pid, Tenant};
use aosk_kernel::{Notice, Observer};
use aosk_ports::{Inbox as _, InboxItem};
use aosk_store::SqliteReader;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::blocked::{fill, kernel, resident_bytes, wake_ups};
use crate::report::{Failure, quantile_ms, result, say};

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// How many processes there are at the first measurement.
    #[arg(long, default_value_t = 1000)]
    from: usize,
    /// How many there are at the second.
    #[arg(long, default_value_t = 11_000)]
    to: usize,
    /// How many pages each has.
    #[arg(long, default_value_t = 200)]
    pages: usize,
    /// For how many seconds nothing happens.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many processes are woken.
    #[arg(long, default_value_t = 500)]
    wakes: usize,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    store: &'static str,
    from: usize,
    to: usize,
    pages: usize,
    rss_from: u64,
    rss_to: u64,
    /// The slope between the two.
    bytes_per_process: f64,
    wake_ups_per_minute: f64,
    wakes: usize,
    wake_p50_ms: f64,
    wake_p99_ms: f64,
}

/// Tells when an event of a woken process is durable.
struct Durable(mpsc::UnboundedSender<Pid>);

impl Observer for Durable {
    fn notice(&self, pid: Pid, notice: &Notice<'_>) {
        if matches!(notice, Notice::Committed { .. }) {
            // Nobody listens while the processes are made.
            let _ = self.0.send(pid);
        }
    }
}

/// Fills a kernel twice and measures.
pub fn run(args: &Args) -> Result<(), Failure> {
    if args.from >= args.to || args.from == 0 || args.wakes > args.to {
        return Err("--from must be at least 1 and below --to, --wakes at most --to".into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(args))
}

async fn measure(args: &Args) -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let (sender, mut durable) = mpsc::unbounded_channel();
    let kernel = kernel(dir.path(), args.pages, Arc::new(Durable(sender)))?;
    // The first thousands warm caches and allocator up; the slope begins behind them.
    let mut pids = fill(&kernel, args.from).await?;
    while durable.try_recv().is_ok() {}
    let rss_from = resident_bytes()?;
    pids.extend(fill(&kernel, args.to - args.from).await?);
    while durable.try_recv().is_ok() {}
    let rss_to = resident_bytes()?;

    let before = wake_ups()?;
    let quiet = Duration::from_secs(args.seconds.max(1));
    // No sleep of the runtime's: its timers wake the processor on the way to their moment. The end
    // of this one is one wake-up.
    std::thread::sleep(quiet);
    let wake_ups = wake_ups()?.saturating_sub(before + 1);

    let reader = SqliteReader::open(dir.path())?;
    let mut latencies = Vec::with_capacity(args.wakes);
    while durable.try_recv().is_ok() {}
    // Spread over all of them, so that no cache knows the next one.
    let stride = (pids.len() / args.wakes.max(1)).max(1);
    for &pid in pids.iter().step_by(stride).take(args.wakes) {
        let item = InboxItem::Message { from: "user".to_owned(), text: "wake up".to_owned() };
        reader.post(&Tenant::local(), pid, item).await?;
        let posted = Instant::now();
        while durable.recv().await != Some(pid) {}
        latencies.push(posted.elapsed());
        while kernel.residents() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    latencies.sort_unstable();
    let row = Row {
        name: "aosk",
        store: "sqlite",
        from: args.from,
        to: args.to,
        pages: args.pages,
        rss_from,
        rss_to,
        bytes_per_process: ((rss_to as f64 - rss_from as f64) / (args.to - args.from) as f64)
            .round(),
        wake_ups_per_minute: (wake_ups as f64 * 60.0 / quiet.as_secs_f64()).round(),
        wakes: latencies.len(),
        wake_p50_ms: quantile_ms(&latencies, 0.5),
        wake_p99_ms: quantile_ms(&latencies, 0.99),
    };
    result(&row, args.json)?;
    say(&format!(
        "{} bytes a blocked process of {} pages; woken, its first event is durable after {} ms \
         (p99)",
        row.bytes_per_process, args.pages, row.wake_p99_ms
    ));
    kernel.stop(aosk_kernel::Stop::Now);
    kernel.quiet().await;
    Ok(())
}
