//! `aosk quota`.

use std::str::FromStr;

use aosk_abi::{Rate, Spend};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};

/// `aosk quota`.
#[derive(Debug, Args)]
pub(crate) struct Quota {
    #[command(subcommand)]
    pub(crate) command: QuotaCommand,
}

/// What is to be done with quotas.
#[derive(Debug, Subcommand)]
pub(crate) enum QuotaCommand {
    /// Show limits, what is used and reserved, and when it comes back
    Show(QuotaShow),
    /// Set what a model, tenant, group or agent may use
    Set(QuotaSet),
}

/// `aosk quota show`.
#[derive(Debug, Args)]
pub(crate) struct QuotaShow {
    /// One agent: a pid, the beginning of one (4 or more characters), or an alias
    #[arg(value_name = "PID")]
    pub(crate) pid: Option<String>,

    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// `aosk quota set`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("limits").required(true).multiple(true),
    override_usage = "aosk quota set [OPTIONS] <LIMITS> <OWNER> <NAME>"
)]
pub(crate) struct QuotaSet {
    /// Whose quota: pool (a model), tenant, group or agent
    #[arg(value_name = "OWNER", hide_possible_values = true)]
    pub(crate) owner: OwnerKind,

    /// The name of the model, tenant or group; the pid or alias of the agent
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// Calls begun, such as 60/minute; none: no limit
    #[arg(long, value_name = "RATE", value_parser = limit::<Rate>, group = "limits")]
    pub(crate) requests: Option<Limit<Rate>>,

    /// Tokens that go in, such as 200000/minute; none: no limit
    #[arg(long, value_name = "RATE", value_parser = limit::<Rate>, group = "limits")]
    pub(crate) input_tokens: Option<Limit<Rate>>,

    /// Tokens that come out, such as 20000/minute; none: no limit
    #[arg(long, value_name = "RATE", value_parser = limit::<Rate>, group = "limits")]
    pub(crate) output_tokens: Option<Limit<Rate>>,

    /// Calls in flight, at least 1; none: no limit
    #[arg(long, value_name = "N", value_parser = calls, group = "limits")]
    pub(crate) calls_at_once: Option<Limit<u32>>,

    /// US dollars, such as 5/day, 100/month, or 20 for good; none: no limit
    #[arg(long, value_name = "X", value_parser = limit::<Spend>, group = "limits")]
    pub(crate) spend: Option<Limit<Spend>>,
}

/// Whose quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OwnerKind {
    /// All who use a model.
    Pool,
    /// All agents of a tenant.
    Tenant,
    /// All agents of a group.
    Group,
    /// An agent and all that descend from it.
    Agent,
}

/// What becomes of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit<T> {
    /// It is lifted.
    None,
    /// It is that.
    Is(T),
}

impl<T> Limit<T> {
    /// The limit, if it is one.
    pub(crate) fn into_option(self) -> Option<T> {
        match self {
            Self::None => None,
            Self::Is(limit) => Some(limit),
        }
    }
}

fn limit<T: FromStr<Err: ToString>>(text: &str) -> Result<Limit<T>, String> {
    match text {
        "none" => Ok(Limit::None),
        text => text.parse().map(Limit::Is).map_err(|error: T::Err| error.to_string()),
    }
}

fn calls(text: &str) -> Result<Limit<u32>, String> {
    match limit(text) {
        Ok(Limit::Is(0)) => Err("0 lets nothing through: give at least 1, or `none`".to_owned()),
        Ok(limit) => Ok(limit),
        Err(_) => Err("give a whole number from 1 on, or `none`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_at_once_below_at_and_above_one() {
        assert!(calls("0").is_err() && calls("-1").is_err() && calls("1.5").is_err());
        assert_eq!(calls("1"), Ok(Limit::Is(1)));
        assert_eq!(calls("4294967295"), Ok(Limit::Is(u32::MAX)));
        assert!(calls("4294967296").is_err());
        assert_eq!(calls("none"), Ok(Limit::None));
    }
}
