//! `aosk mem`.

use clap::Args;

/// `aosk mem`.
#[derive(Debug, Args)]
pub(crate) struct Mem {
    /// A pid, the beginning of one (4 or more characters), or an alias
    #[arg(required_unless_present = "top", conflicts_with = "top")]
    pub(crate) pid: Option<String>,

    /// List agents by the memory they use, the largest first
    #[arg(long, conflicts_with = "at")]
    pub(crate) top: bool,

    /// The window as it stood after that event of the journal
    #[arg(long, value_name = "SEQ")]
    pub(crate) at: Option<u64>,

    /// Leave nothing out: every page, or agents that have ended, too
    #[arg(short, long)]
    pub(crate) all: bool,

    /// One JSON object, with --top one a line; of an agent always with every page
    #[arg(long)]
    pub(crate) json: bool,
}
