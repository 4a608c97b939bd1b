//! What begins agents: in the foreground or by the daemon.

use std::ffi::OsString;
use std::path::PathBuf;

use aosk_abi::MicroDollars;
use clap::Args;

/// `aosk run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The manifest of the agent; with --resume: a pid, the beginning of one, or an alias
    #[arg(value_name = "AGENT.toml", required_unless_present = "resume")]
    pub(crate) agent: Option<OsString>,

    /// The task; `-` reads it from standard input. It goes to the agent, and to each --with agent
    /// whose manifest has none
    #[arg(value_name = "TASK", conflicts_with = "resume", allow_hyphen_values = true)]
    pub(crate) task: Option<OsString>,

    /// A further agent of the same run; may be given again
    #[arg(long, value_name = "OTHER.toml", conflicts_with = "resume")]
    pub(crate) with: Vec<PathBuf>,

    /// Go on with one unfinished agent, or with all where no pid is given
    #[arg(long)]
    pub(crate) resume: bool,

    /// The model, whatever the manifests name
    #[arg(long, value_name = "NAME", conflicts_with = "resume")]
    pub(crate) model: Option<String>,

    /// What this run may spend, in US dollars; with --resume it also raises the limit of an agent
    /// that is parked
    #[arg(long, value_name = "X", value_parser = dollars, allow_negative_numbers = true)]
    pub(crate) max_spend_usd: Option<MicroDollars>,

    /// Let a manifest use this folder as its workspace though it is outside the manifest's own
    #[arg(long, value_name = "DIR")]
    pub(crate) allow_workspace: Vec<PathBuf>,

    /// Play a recorded cassette instead of asking a model
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "record"])]
    pub(crate) cassette: Option<PathBuf>,

    /// Record the model's replies as a cassette
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,

    /// Print every event as a line of JSON, and nothing else, on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// `aosk spawn`.
#[derive(Debug, Args)]
pub(crate) struct Spawn {
    /// The manifest of the agent
    #[arg(value_name = "AGENT.toml")]
    pub(crate) agent: PathBuf,

    /// The task; `-` reads it from standard input
    #[arg(value_name = "TASK", allow_hyphen_values = true)]
    pub(crate) task: Option<OsString>,

    /// The model, whatever the manifest names
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,

    /// What the agent may spend, in US dollars, where its manifest allows no less
    #[arg(long, value_name = "X", value_parser = dollars, allow_negative_numbers = true)]
    pub(crate) max_spend_usd: Option<MicroDollars>,

    /// Let the manifest use this folder as its workspace though it is outside the manifest's own
    #[arg(long, value_name = "DIR")]
    pub(crate) allow_workspace: Vec<PathBuf>,

    /// A name of yours for the agent, which every later command takes for its pid
    #[arg(long, value_name = "NAME")]
    pub(crate) alias: Option<String>,

    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// An amount of US dollars.
pub(super) fn dollars(text: &str) -> Result<MicroDollars, String> {
    text.trim_start_matches('$')
        .parse()
        .ok()
        .and_then(MicroDollars::from_dollars)
        .ok_or_else(|| "give US dollars, 0 or more, for example 0.50".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_below_at_and_above_nothing() {
        assert!(dollars("-0.01").is_err());
        assert_eq!(dollars("0"), Ok(MicroDollars(0)));
        assert_eq!(dollars("$0.5"), Ok(MicroDollars(500_000)));
        for bad in ["", "nan", "inf", "ten", "1e30"] {
            assert!(dollars(bad).is_err(), "{bad:?}");
        }
    }
}
