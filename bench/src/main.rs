//! Benchmarks. Each prints one JSON object a line on stdout and its explanations on stderr.

mod floor;
mod history;
mod noop;
mod payload;
mod report;
mod steps;

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
}

fn main() -> std::process::ExitCode {
    let done = match Cli::parse().bench {
        Bench::Steps(args) => steps::run(&args),
        Bench::History(args) => history::run(&args),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            report::say(&format!("error: {error}"));
            std::process::ExitCode::FAILURE
        }
    }
}
