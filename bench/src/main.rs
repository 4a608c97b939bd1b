//! Benchmarks. Each prints one JSON object a line on stdout and its explanations on stderr.

mod asis;
mod audit;
mod blocked;
mod floor;
mod floor_postgres;
mod history;
mod idle;
mod kvcache;
mod lines;
mod memory;
mod model;
mod noop;
mod overhead;
mod paging;
mod payload;
mod place;
mod plan;
mod provider;
mod quota;
mod recall;
mod recover;
mod report;
mod sched;
mod sched_trace;
mod search;
mod shares;
mod start;
mod steps;
mod swap;
mod waiter;
mod write_latency;

use clap::{Parser, Subcommand};

/// The allocator of the `aosk` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "aosk-bench", about = "Benchmarks of the Agent OS Kernel")]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Durable steps per second through the kernel with a no-op model, beside a bare writer.
    Steps(steps::Args),
    /// Bytes per step at the beginning and at the end of a long history.
    History(history::Args),
    /// What a blocked process costs in memory and wake-ups, and how fast it wakes.
    Idle(idle::Args),
    /// How long it takes to recover very many blocked processes, and how much memory.
    Memory(memory::Args),
    /// How long it takes to open a store and to fold what is in it.
    Recover(recover::Args),
    /// How well a provider's hidden limits are used, and how many calls it refuses.
    Quota(quota::Args),
    /// From a process that is ready to its call, and how many processes the kernel ends in an hour.
    KernelOverhead(overhead::Args),
    /// What a decision of the scheduler costs, and how fair it is, with very many who wait.
    Sched(sched::Args),
    /// Whether agents of different weights get their shares of a real model.
    Shares(shares::Args),
    /// How long programs of a recorded trace wait, in the scheduler's order and in others.
    SchedTrace(sched_trace::Args),
    /// How long it takes to find what a process did in a window of time, among very many events.
    Audit(audit::Args),
    /// How long one durable append takes, alone.
    WriteLatency(write_latency::Args),
    /// What each replacement policy costs and forgets, on recorded runs of agents.
    Paging(paging::Args),
    /// Searches the constants of the default policy on half of the recorded runs.
    Tune(paging::tune::Args),
    /// What recorded sessions cost as they ran, and with their cache kept alive.
    Asis(asis::Args),
    /// How many tokens a real server evaluates, by how the context is kept.
    Kvcache(kvcache::Args),
    /// How long it takes to plan a prompt, by the number of pages in it.
    Plan(plan::Args),
    /// How long it takes to bring a page to a store of very many, and to have it back.
    Swap(swap::Args),
    /// How often the evidence of a question is in a context of a given share of the history.
    Recall(recall::Args),
    /// How long the nearest pages of a large memory take to find, and how many of them are right.
    Search(search::Args),
    /// From the start of the program to its first durable event.
    Start(start::Args),
}

fn main() -> std::process::ExitCode {
    let done = match Cli::parse().bench {
        Bench::Steps(args) => steps::run(&args),
        Bench::History(args) => history::run(&args),
        Bench::Idle(args) => idle::run(&args),
        Bench::Memory(args) => memory::run(&args),
        Bench::Recover(args) => recover::run(&args),
        Bench::Quota(args) => quota::run(&args),
        Bench::KernelOverhead(args) => overhead::run(&args),
        Bench::Sched(args) => sched::run(&args),
        Bench::Shares(args) => shares::run(&args),
        Bench::SchedTrace(args) => sched_trace::run(&args),
        Bench::Audit(args) => audit::run(&args),
        Bench::WriteLatency(args) => write_latency::run(&args),
        Bench::Paging(args) => paging::run(&args),
        Bench::Tune(args) => paging::tune::run(&args),
        Bench::Asis(args) => asis::run(&args),
        Bench::Kvcache(args) => kvcache::run(&args),
        Bench::Plan(args) => plan::run(&args),
        Bench::Swap(args) => swap::run(&args),
        Bench::Recall(args) => recall::run(&args),
        Bench::Search(args) => search::run(&args),
        Bench::Start(args) => start::run(&args),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            report::say(&format!("error: {error}"));
            std::process::ExitCode::FAILURE
        }
    }
}
