//! What is left for agents that run, rest or have ended.

use std::ffi::OsString;

use aosk_abi::{MicroDollars, Priority};
use clap::Args;

use super::run::dollars;

/// `aosk kill`.
#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// Pids, beginnings of them (4 or more characters), or aliases
    #[arg(value_name = "PID", required = true)]
    pub(crate) pids: Vec<String>,
}

/// `aosk stop`.
#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// Pids, beginnings of them (4 or more characters), or aliases
    #[arg(value_name = "PID", required = true)]
    pub(crate) pids: Vec<String>,
}

/// `aosk cont`.
#[derive(Debug, Args)]
pub(crate) struct Cont {
    /// Pids, beginnings of them (4 or more characters), or aliases
    #[arg(value_name = "PID", required = true)]
    pub(crate) pids: Vec<String>,

    /// What each may spend in all from now on, in US dollars
    #[arg(long, value_name = "X", value_parser = dollars, allow_negative_numbers = true)]
    pub(crate) max_spend_usd: Option<MicroDollars>,
}

/// `aosk renice`.
#[derive(Debug, Args)]
pub(crate) struct Renice {
    /// The priority: 0 (most important) to 99
    #[arg(value_name = "N", value_parser = priority, allow_negative_numbers = true)]
    pub(crate) priority: Priority,

    /// Pids, beginnings of them (4 or more characters), or aliases
    #[arg(value_name = "PID", required = true)]
    pub(crate) pids: Vec<String>,
}

/// `aosk send`.
#[derive(Debug, Args)]
pub(crate) struct Send {
    /// A pid, the beginning of one (4 or more characters), or an alias
    pub(crate) pid: String,

    /// The message; `-` reads it from standard input
    #[arg(allow_hyphen_values = true)]
    pub(crate) text: OsString,
}

fn priority(text: &str) -> Result<Priority, String> {
    text.parse()
        .ok()
        .and_then(|number| Priority::new(number).ok())
        .ok_or_else(|| "give 0 (most important) to 99".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_below_at_and_above_the_bounds() {
        for (text, number) in [("0", Some(0)), ("99", Some(99)), ("100", None), ("-1", None)] {
            assert_eq!(priority(text).ok().map(Priority::get), number, "{text}");
        }
        for bad in ["", "high", "1.5"] {
            assert!(priority(bad).is_err(), "{bad:?}");
        }
    }
}
