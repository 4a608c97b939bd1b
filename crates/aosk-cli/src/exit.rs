//! Exit codes: what a script learns without reading a word.

use std::process::ExitCode;

use aosk_abi::Code;

/// How the program ends. The order is that of the worse news: where agents of one run end
/// differently, the greatest decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// Everything that was asked for is done.
    Done,
    /// An agent failed, refused, was killed or ran out of steps.
    Failed,
    /// An agent waits for a higher spend limit, or for a higher quota.
    Parked,
    /// The model endpoint failed or cannot be used.
    Endpoint,
    /// The store failed, or the daemon that owns it.
    Store,
    /// The command line, a manifest or the configuration is wrong.
    Usage,
    /// Stopped by SIGHUP: its terminal went away.
    HungUp,
    /// Stopped by SIGINT.
    Interrupted,
    /// Stopped by SIGTERM.
    Terminated,
}

/// The table that `aosk --help` shows.
pub(crate) const HELP: &str = "\
Exit codes:
  0    every agent completed
  1    an agent failed, refused, was killed or reached its step limit
  2    the command line, a manifest or the configuration is wrong
  3    an agent is parked: a limit or quota does not cover its next call
  4    the store failed, or its daemon
  5    the model endpoint failed
  129  the terminal went away (SIGHUP)
  130  interrupted (SIGINT); 143: terminated (SIGTERM)
Where agents of one run end differently: the first of 129/130/143, 4, 5, 3, 1.
`aosk doctor` ends with the code that `aosk run` would end with, `aosk daemon
status` with 1 where none runs. To spawn, signal or send ends with 0 when that
is durable; what becomes of the agent is `aosk show`'s to say.";

impl Exit {
    /// The number.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Parked => 3,
            Self::Store => 4,
            Self::Endpoint => 5,
            Self::HungUp => 129,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// The exit that an error with that stable code leads to.
    pub(crate) fn of(code: &str) -> Self {
        let is = |known: Code| known.as_str() == code;
        if is(Code::LlmModelTable) {
            return Self::Usage;
        }
        if is(Code::KernelSpendLimit) || is(Code::KernelQuota) {
            return Self::Parked;
        }
        if [
            Code::KernelUnknownTool,
            Code::KernelUnknownProgram,
            Code::KernelNotResumable,
            Code::KernelTask,
        ]
        .into_iter()
        .any(is)
        {
            return Self::Usage;
        }
        if is(Code::CliDaemon) {
            return Self::Store;
        }
        match code.as_bytes().get(5) {
            Some(b'C' | b'T') => Self::Usage,
            Some(b'S') => Self::Store,
            Some(b'L') => Self::Endpoint,
            _ if is(Code::Manifest) => Self::Usage,
            // Event bytes come out of the store.
            Some(b'A') => Self::Store,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.number().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_code_leads_to_the_exit_of_whose_fault_it_is() {
        for (code, exit) in [
            (Code::CliUsage, Exit::Usage),
            (Code::Manifest, Exit::Usage),
            (Code::LlmModelTable, Exit::Usage),
            (Code::KernelTask, Exit::Usage),
            (Code::LlmAuth, Exit::Endpoint),
            (Code::StoreOwned, Exit::Store),
            (Code::CliDaemon, Exit::Store),
            (Code::CliState, Exit::Usage),
            (Code::ChainBroken, Exit::Store),
            (Code::KernelSpendLimit, Exit::Parked),
            (Code::KernelQuota, Exit::Parked),
            (Code::KernelRefused, Exit::Failed),
            (Code::ContextOverflow, Exit::Failed),
        ] {
            assert_eq!(Exit::of(code.as_str()), exit, "{code}");
        }
    }

    #[test]
    fn the_help_and_the_manual_say_the_same() {
        let manual = include_str!("../../../docs/cli.md");
        let rows: Vec<(&str, &str)> = HELP
            .lines()
            .filter_map(|line| line.trim_start().split_once("  "))
            .map(|(number, meaning)| (number, meaning.trim()))
            .collect();
        assert_eq!(rows.len(), 8, "{rows:?}");
        for (number, meaning) in rows {
            let meaning = meaning.split(';').next().unwrap_or(meaning);
            assert!(manual.contains(&format!("| {number} | {meaning} |")), "{number} {meaning}");
        }
    }

    #[test]
    fn the_help_names_every_number() {
        for exit in [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Parked,
            Exit::Store,
            Exit::Endpoint,
            Exit::HungUp,
            Exit::Interrupted,
            Exit::Terminated,
        ] {
            assert!(HELP.contains(&exit.number().to_string()), "{exit:?}");
        }
    }
}
