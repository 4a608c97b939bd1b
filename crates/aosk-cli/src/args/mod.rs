//! The command line.

mod daemon;
mod inbox;
mod mem;
pub(crate) mod moment;
mod quota;
mod run;
mod store;

use std::path::PathBuf;

use aosk_abi::Timestamp;
use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::exit;
use crate::print::Color;
use crate::top::Sort;
use crate::version;

pub(crate) use daemon::{Daemon, DaemonCommand, DaemonRun, DaemonStart, DaemonStatus, IDLE_STOP};
pub(crate) use inbox::{Cont, Kill, Renice, Send, Stop};
pub(crate) use mem::{Mem, MemCommand, MemSearch};
pub(crate) use quota::{OwnerKind, Quota, QuotaCommand, QuotaSet, QuotaShow};
pub(crate) use run::{Run, Spawn};
pub(crate) use store::{
    Store, StoreBackup, StoreCheck, StoreCommand, StoreCopy, StoreFormat, StoreGc, StoreGet,
    StorePrune, StorePut, StoreRestore,
};

/// Run AI agents on one journal: nothing they did is lost, and everything can be looked up.
#[derive(Debug, Parser)]
#[command(
    name = "aosk",
    version = version::LINE,
    max_term_width = 80,
    after_help = FIRST_STEPS,
    after_long_help = format!("{FIRST_STEPS}\n\n{}\n\n{CONFIGURATION}", exit::HELP),
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,

    #[command(flatten)]
    pub(crate) global: Global,
}

const FIRST_STEPS: &str = "\
Examples:
  aosk demo                                see it work: no model, no network
  aosk doctor                              what is set up, what is missing
  aosk init                                write a commented agent.toml
  aosk run agent.toml \"What is 17 * 23?\"   run it and watch
  aosk spawn agent.toml \"…\"                run it in the background
  aosk ps                                  what is unfinished
  aosk logs -f PID                         what an agent does, as it does it

`aosk help COMMAND` shows examples of each command.";

const CONFIGURATION: &str = "\
Configuration: flags > AOSK_* variables > ./aosk.toml > your config.toml, which
is in $XDG_CONFIG_HOME/aosk.
  model          AOSK_MODEL          the model of manifests that name none
  max_spend_usd  AOSK_MAX_SPEND_USD  what a run may spend, in US dollars (1.00)
  data_dir       AOSK_DATA_DIR       where journals are ($XDG_DATA_HOME/aosk)
  store          AOSK_STORE          a folder, or postgres://… for a server
  lease_seconds  AOSK_LEASE_SECONDS  when a silent node counts as dead (15)
  retention      AOSK_RETENTION      how long ended agents stay: 30d (for ever)
  color          AOSK_COLOR          auto, always or never
Endpoints and keys come from variables such as OPENAI_BASE_URL and
OPENAI_API_KEY, or from keys.toml (mode 0600) beside config.toml; models.toml
there extends the table of models. AOSK_LOG sets what is logged: to standard
error, and by whoever owns the store to logs/aosk.log in the data folder (at
most 16 MiB). The daemon keeps the environment that it was started in.";

/// What holds for every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// When to colour: auto, always or never
    #[arg(long, global = true, value_enum, value_name = "WHEN", hide_possible_values = true)]
    pub(crate) color: Option<Color>,

    /// Where journals are kept
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Which store: a folder, or postgres://USER@HOST/DATABASE
    #[arg(long, global = true, value_name = "STORE")]
    pub(crate) store: Option<String>,

    /// Say more about what happens inside; twice: still more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Play a recorded run of three agents: no model, no network, no key
    #[command(after_help = "\
Examples:
  aosk demo                        in a new temporary folder, which is kept
  aosk demo --data-dir ./try       in a folder of yours

The model's replies are recorded. All else is real: kernel, journal, tools and
store. No setting of yours plays a part, and nothing is sent anywhere.")]
    Demo,

    /// Say what is set up, what is missing and how to get it
    #[command(after_help = "\
Examples:
  aosk doctor
  aosk doctor --offline            ask no endpoint
  aosk doctor --json | jq '.checks[] | select(.status != \"ok\")'

It changes and makes nothing. Endpoints for which an address or key is set, and
the usual ports of servers on this machine, are asked for their list of models,
for at most 5 seconds. It ends with 0 where `aosk run` has what it needs, else
with the code that `aosk run` would end with.")]
    Doctor(Doctor),

    /// Write a commented manifest to begin with
    #[command(after_help = "\
Examples:
  aosk init                 writes agent.toml
  aosk init poet.toml
  aosk init agents/         writes agents/agent.toml")]
    Init(Init),

    /// Run agents in the foreground, or go on with unfinished ones
    #[command(
        after_help = "\
Examples:
  aosk run agent.toml \"What is 17 * 23?\"
  aosk run agent.toml - < task.txt
  aosk run planner.toml --with critic.toml --with writer.toml \"Plan a garden\"
  aosk run agent.toml --json \"…\" | jq .kind
  aosk run --resume                   every unfinished agent
  aosk run --resume 0199f3a2          one of them
  aosk run --resume 0199f3a2 --max-spend-usd 2

Ctrl-C stops between two steps, within 5 seconds; a second one stops at once.
Either way nothing that was acknowledged is lost: `aosk run --resume` goes on.",
        override_usage = "\
aosk run [OPTIONS] AGENT.toml [TASK]
       aosk run [OPTIONS] --resume [PID]"
    )]
    Run(Run),

    /// Hand an agent to the daemon, which runs it in the background
    #[command(after_help = "\
Examples:
  aosk spawn agent.toml \"What is 17 * 23?\"
  aosk spawn agent.toml - < task.txt
  aosk spawn agent.toml --alias digest \"…\"    a name for every later command
  aosk logs -f $(aosk spawn agent.toml \"…\")

It prints the pid and starts the daemon where none runs. The agent may spend the
lesser of its manifest's limit and yours; `aosk cont` raises that.")]
    Spawn(Spawn),

    /// Start, stop or look at the daemon that runs agents in the background
    #[command(after_help = "\
Examples:
  aosk daemon start --idle-stop 0    until it is stopped
  aosk daemon status
  aosk daemon stop

`aosk spawn` starts it where none runs. It goes on with every unfinished agent
of its store, asks models as the environment says that it was started in, and
stops by itself when nothing was to be done for 60 seconds.")]
    Daemon(Daemon),

    /// End agents; what is in flight is cancelled
    #[command(after_help = "\
Examples:
  aosk kill 0199f3a2
  aosk kill 0199f3a2 digest")]
    Kill(Kill),

    /// Suspend agents between two steps
    #[command(after_help = "\
Examples:
  aosk stop 0199f3a2
  aosk cont 0199f3a2                 go on")]
    Stop(Stop),

    /// Let suspended agents go on, or parked ones with a higher spend limit
    #[command(after_help = "\
Examples:
  aosk cont 0199f3a2
  aosk cont 0199f3a2 --max-spend-usd 2")]
    Cont(Cont),

    /// Change how important agents are: 0 (most) to 99
    #[command(after_help = "\
Examples:
  aosk renice 10 0199f3a2
  aosk renice 90 0199f3a2 digest")]
    Renice(Renice),

    /// Send a message to an agent; one that has ended goes on with it
    #[command(after_help = "\
Examples:
  aosk send 0199f3a2 \"And in Celsius?\"
  aosk send 0199f3a2 - < remarks.txt")]
    Send(Send),

    /// List unfinished agents
    #[command(after_help = "\
Examples:
  aosk ps
  aosk ps --all
  aosk ps --json | jq -r .pid")]
    Ps(Ps),

    /// Show quotas, or set what a model, tenant, group or agent may use
    #[command(after_help = "\
Examples:
  aosk quota show
  aosk quota show 0199f3a2                 what one agent may use
  aosk quota set pool gpt-5-mini --spend 10/day --requests 100/minute
  aosk quota set tenant local --calls-at-once 8
  aosk quota set group batch --spend none  no budget of its own any more
  aosk quota set agent 0199f3a2 --requests 20/minute   it and its children

A limit is written into your config.toml, that of an agent into its journal, and
holds in a running daemon at once; agents that wait for it go on where there is
room now. What is not named stays as it is. What an agent may spend in all is
raised by `aosk cont --max-spend-usd`.")]
    Quota(Quota),

    /// Watch agents, endpoints and quotas on a whole screen
    #[command(after_help = "\
Examples:
  aosk top
  aosk top --sort cost --every 5

Keys: up and down choose an agent; s stop, c cont, r renice, k kill; o another
order; q quit. LAG is how many tokens an agent was served less than its share,
by weighted virtual time; who has a negative one was served more.")]
    Top(Top),

    /// Show endpoints: calls, queues, tokens a second, limits, health
    #[command(after_help = "\
Examples:
  aosk devices
  aosk devices --json | jq '{name, waiting, server}'

It asks the daemon, which knows what its endpoints answered since it began, and
asks servers that tell of their load (llama.cpp, vLLM) for slots and KV room.")]
    Devices(Devices),

    /// Show the journal of an agent
    #[command(after_help = "\
Examples:
  aosk logs 0199f3a2
  aosk logs -f 0199f3a2                   go on until it ends
  aosk logs --contents 0199f3a2           with prompts, replies and results
  aosk logs --since 15m 0199f3a2          the last quarter of an hour
  aosk logs --since 2026-11-23T09:00 --until 2026-11-23T09:30 0199f3a2
  aosk logs --json 0199f3a2 | jq 'select(.kind == \"exited\").body'")]
    Logs(Logs),

    /// Show an agent: its state, account, answer and error in full
    #[command(after_help = "\
Examples:
  aosk show 0199f3a2
  aosk show --json 0199f3a2 | jq -r .answer")]
    Show(Show),

    /// Show the context window of an agent as a map, or who uses how much memory
    #[command(
        after_help = "\
Examples:
  aosk mem 0199f3a2
  aosk mem 0199f3a2 --at 57             as it stood after event 57
  aosk mem --top
  aosk mem search \"when does the ferry leave\"
  aosk mem search parse_manifest --kind tool_result --since 2h
  aosk mem 0199f3a2 --json | jq '.pages[] | select(.place == \"swapped\")'

Of an agent it shows the room that the window has, what takes it, and each page:
its size, its age in turns of the model, how often it was needed since it came,
how important it is, and the event that holds it. `+` came and `-` left with the
newest plan. What left is swapped: it stands in the journal, whole.",
        override_usage = "\
aosk mem [OPTIONS] PID
       aosk mem [OPTIONS] --top
       aosk mem search [OPTIONS] QUERY"
    )]
    Mem(Mem),

    /// Look after the store as a whole: check, back up, restore
    #[command(after_help = "\
Examples:
  aosk store status
  aosk store size --json | jq .parts
  aosk store check                     every chain, fold and content
  aosk store backup friday.aosk        while agents run
  aosk store check friday.aosk
  aosk store restore friday.aosk --data-dir ./elsewhere

A restored agent goes on where the backup stands. A tool call that was in flight
then is not made again: nobody knows whether it took effect, and the agent is
told so.")]
    Store(Store),

    /// Print the version and the facts of this build
    #[command(after_help = "\
Examples:
  aosk version
  aosk version --json | jq -r .commit")]
    Version(Version),

    /// Print a script that completes commands in a shell
    #[command(after_help = "\
Examples:
  aosk completions bash > ~/.local/share/bash-completion/completions/aosk
  aosk completions zsh > \"${fpath[1]}/_aosk\"
  aosk completions fish > ~/.config/fish/completions/aosk.fish")]
    Completions(Completions),

    /// Print the manual page, or write those of all commands
    #[command(after_help = "\
Examples:
  aosk man | man -l -
  aosk man --dir ~/.local/share/man/man1")]
    Man(Man),
}

/// `aosk doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Ask no endpoint
    #[arg(long)]
    pub(crate) offline: bool,

    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `aosk version`.
#[derive(Debug, Args)]
pub(crate) struct Version {
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `aosk completions`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// `aosk man`.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Write a page for each command into this folder, over those of an earlier version
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// `aosk init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The file to write, or a folder for an agent.toml
    #[arg(default_value = "agent.toml")]
    pub(crate) path: PathBuf,
}

/// `aosk ps`.
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// List those that have ended, too
    #[arg(short, long)]
    pub(crate) all: bool,

    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// `aosk top`.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// How often it looks, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub(crate) every: u16,

    /// The first order: lag, cost, tokens, name or state
    #[arg(
        long,
        value_name = "ORDER",
        value_enum,
        default_value = "lag",
        hide_possible_values = true
    )]
    pub(crate) sort: Sort,
}

/// `aosk devices`.
#[derive(Debug, Args)]
pub(crate) struct Devices {
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// `aosk logs`.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// A pid, the beginning of one (4 or more characters), or an alias
    pub(crate) pid: String,

    /// Go on until the agent ends
    #[arg(short, long, conflicts_with = "until")]
    pub(crate) follow: bool,

    /// From then on: a moment such as 2026-11-23T09:30:00Z, a local one without the Z, or how long
    /// ago, as 15m, 2h or 3d
    #[arg(long, value_name = "T", value_parser = moment::moment)]
    pub(crate) since: Option<Timestamp>,

    /// Only what happened before then
    #[arg(long, value_name = "T", value_parser = moment::moment)]
    pub(crate) until: Option<Timestamp>,

    /// Show the texts that the events name
    #[arg(long)]
    pub(crate) contents: bool,

    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// `aosk show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// A pid, the beginning of one (4 or more characters), or an alias
    pub(crate) pid: String,

    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
