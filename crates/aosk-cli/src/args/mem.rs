//! `aosk mem`.

use aosk_abi::{PageKind, Timestamp};
use clap::{Args, Subcommand};

use super::moment::moment;

/// `aosk mem`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Mem {
    /// What else than a window is wanted.
    #[command(subcommand)]
    pub(crate) command: Option<MemCommand>,

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

/// What else of the memory is wanted.
#[derive(Debug, Subcommand)]
pub(crate) enum MemCommand {
    /// Find pages of any agent by what they say, those that left the window too
    Search(MemSearch),
}

/// `aosk mem search`.
#[derive(Debug, Args)]
pub(crate) struct MemSearch {
    /// What the pages are about, in words of any script or parts of names
    pub(crate) query: String,

    /// Only of this agent: a pid, the beginning of one, or an alias
    #[arg(long)]
    pub(crate) pid: Option<String>,

    /// Only of this kind: task, message, reply, tool_call or tool_result
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub(crate) kind: Option<Kind>,

    /// Only what happened from then on: a moment, or how long ago, as 15m
    #[arg(long, value_name = "T", value_parser = moment)]
    pub(crate) since: Option<Timestamp>,

    /// Only what happened before then
    #[arg(long, value_name = "T", value_parser = moment)]
    pub(crate) until: Option<Timestamp>,

    /// How many pages at most, 1 to 100
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) limit: u16,

    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// A kind of pages that are searched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind(pub(crate) PageKind);

fn kind(text: &str) -> Result<Kind, String> {
    Ok(Kind(match text {
        "task" => PageKind::Task,
        "message" => PageKind::Message,
        "reply" => PageKind::Reply,
        "tool_call" => PageKind::ToolCall,
        "tool_result" => PageKind::ToolResult,
        _ => return Err("give task, message, reply, tool_call or tool_result".to_owned()),
    }))
}
