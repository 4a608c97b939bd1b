//! `aosk daemon`.

use clap::{Args, Subcommand};

/// `aosk daemon`.
#[derive(Debug, Args)]
pub(crate) struct Daemon {
    /// What to do with it.
    #[command(subcommand)]
    pub(crate) command: DaemonCommand,
}

/// What to do with the daemon.
#[derive(Debug, Subcommand)]
pub(crate) enum DaemonCommand {
    /// Start it in the background, if none runs
    Start(DaemonStart),

    /// Stop it between two steps; the next one goes on
    Stop,

    /// Say whether one runs, and what it does
    Status(DaemonStatus),

    /// Be the daemon, in the foreground: for service managers
    #[command(hide = true)]
    Run(DaemonRun),
}

/// `aosk daemon start`.
#[derive(Debug, Args)]
pub(crate) struct DaemonStart {
    /// Stop when nothing was to be done for that long; 0: never [default: 60]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) idle_stop: Option<u32>,
}

/// `aosk daemon status`.
#[derive(Debug, Args)]
pub(crate) struct DaemonStatus {
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `aosk daemon run`.
#[derive(Debug, Args)]
pub(crate) struct DaemonRun {
    /// Stop when nothing was to be done for that long; 0: never
    #[arg(long, value_name = "SECONDS", default_value_t = IDLE_STOP)]
    pub(crate) idle_stop: u32,

    /// Leave the terminal and session of whoever started it, and tell them on standard error, in
    /// JSON, why it cannot begin
    #[arg(long, hide = true)]
    pub(crate) detached: bool,
}

/// How many seconds without anything to do a daemon lives on, unless it is told.
pub(crate) const IDLE_STOP: u32 = 60;
