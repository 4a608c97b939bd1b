//! How things stand while a kernel runs: quotas, devices, and who waits for them.
//!
//! All of it lives in memory and is gone with the kernel; what has to last is in journals.

use aosk_abi::{
    Limits, MicroDollars, Period, Pid, QuotaOwner, Rate, Scarce, Sharing, Timestamp, Usage,
};
use serde::{Deserialize, Serialize};

/// The quota of one owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaStanding {
    /// Whose: `pool NAME`, `tenant NAME`, `group NAME` or `process`.
    pub owner: String,
    /// Of a process: which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<Pid>,
    /// Each of its limits.
    pub limits: Vec<LimitStanding>,
}

impl QuotaStanding {
    /// The quotas that are shared, of which nothing is used.
    #[must_use]
    pub fn unused(sharing: &Sharing) -> Vec<Self> {
        sharing.owners().map(|(owner, limits)| Self::of_unused(&owner, limits)).collect()
    }

    pub(crate) fn of_unused(owner: &QuotaOwner, limits: &Limits) -> Self {
        const DAY: u64 = 86_400;
        let all = |scarce, limit, window_s| LimitStanding {
            scarce,
            limit,
            window_s,
            used: 0,
            reserved: 0,
            resets: None,
        };
        let rate = |scarce, rate: Option<Rate>| {
            rate.map(|rate| all(scarce, rate.limit(), Some(rate.seconds())))
        };
        let spend = limits.spend.map(|spend| {
            let window = spend.per.map(|per| match per {
                Period::Day => DAY,
                Period::Month => 30 * DAY,
            });
            all(Scarce::Money, spend.limit.0, window)
        });
        let calls = limits.calls_at_once.map(|calls| all(Scarce::Calls, calls.into(), None));
        let rates = [
            rate(Scarce::Requests, limits.requests),
            rate(Scarce::Input, limits.input_tokens),
            rate(Scarce::Output, limits.output_tokens),
        ];
        let limits = rates.into_iter().flatten().chain(spend).chain(calls).collect();
        Self { owner: owner.to_string(), pid: None, limits }
    }
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitStanding {
    /// What it is about.
    pub scarce: Scarce,
    /// The most: in a window, or at once. Money is in millionths of a dollar.
    pub limit: u64,
    /// The window in seconds; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_s: Option<u64>,
    /// What is used and has not come back; of calls at once, those in flight.
    pub used: u64,
    /// What calls in flight hold back besides: what they may still use.
    pub reserved: u64,
    /// When all of it is there again if nothing more is used; absent: it is, or no time brings it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets: Option<Timestamp>,
}

impl LimitStanding {
    /// What is used or reserved of it, in percent, rounded down.
    #[must_use]
    pub fn percent(&self) -> u64 {
        let share = u128::from(self.used.saturating_add(self.reserved)) * 100;
        u64::try_from(share / u128::from(self.limit.max(1))).unwrap_or(u64::MAX)
    }
}

/// A device: an endpoint that answers for a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceStanding {
    /// Its name, which quotas and events give it.
    pub name: String,
    /// The model as its endpoint calls it; absent where it was not connected yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How many calls it takes at once.
    pub slots: usize,
    /// How many it is given at once: fewer than its slots before it has answered and after it
    /// refused some.
    pub depth: usize,
    /// How many are in flight.
    pub in_flight: usize,
    /// How many processes wait for it.
    pub waiting: usize,
    /// The names that lead to it besides its own, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub serves: Vec<Serves>,
    /// The circuit where it is open: it failed again and again. Absent: it is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit: Option<CircuitStanding>,
    /// What its server said of itself last; absent where it cannot be asked or said nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerStanding>,
    /// Until when nobody asks it because it said so; absent: it is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Timestamp>,
    /// Whether it has answered anything since the kernel began.
    pub spoke: bool,
    /// Calls that it answered since the kernel began.
    pub answered: u64,
    /// Calls that it refused because it had too much to do.
    pub refused: u64,
    /// What it says it used.
    pub usage: Usage,
    /// What that cost.
    pub cost: MicroDollars,
    /// Tokens that came out in the last minute.
    pub output_last_minute: u64,
    /// Tokens that come out of one call in a second, as a mean over all, in thousandths.
    pub speed_milli: u64,
    /// The limits that it told of, as they stand.
    pub heard: Vec<LimitStanding>,
}

/// A name that leads to a device among others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serves {
    /// The name, as manifests give it.
    pub alias: String,
    /// The device's weight among those that share the calls of that name; absent: it is asked where
    /// they fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// The circuit of a device that failed again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CircuitStanding {
    /// Failures in a row.
    pub failures: u32,
    /// Since when it is open.
    pub since: Timestamp,
    /// Until when nobody asks; then one call at a time is let through until one ends well.
    pub until: Timestamp,
}

/// What a server says of itself, whoever's calls it works on. What it did not say is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerStanding {
    /// When it said so.
    pub at: Timestamp,
    /// How many calls it can work on at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u64>,
    /// How many it works on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<u64>,
    /// How many wait there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
    /// How many tokens its KV cache holds at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_tokens: Option<u64>,
    /// How much of that the calls that run hold, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_used_milli: Option<u64>,
    /// Tokens of prompts that it read in a second, in thousandths, between the last two times it
    /// was asked; absent where these lie more than a minute apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_per_s_milli: Option<u64>,
    /// Tokens that it wrote in a second, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_per_s_milli: Option<u64>,
}

/// Where a process stands in the queue of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessStanding {
    /// Which process.
    pub pid: Pid,
    /// The device.
    pub device: String,
    /// Whether it waits to ask it.
    pub waits: bool,
    /// How many of its calls are in flight there.
    pub in_flight: u32,
    /// How many tokens it was served less than its share among its group, by weighted virtual time;
    /// below 0: more.
    pub lag: i64,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standings {
    /// Quotas: those that are shared, by owner, then those of processes, by pid.
    pub quotas: Vec<QuotaStanding>,
    /// Devices, by name.
    pub devices: Vec<DeviceStanding>,
    /// Who waits for a device or asks it, by pid: at most [`MOST`](Self::MOST).
    pub processes: Vec<ProcessStanding>,
}

impl Standings {
    /// The most processes that are listed; beyond that those with the greatest lag.
    pub const MOST: usize = 10_000;
}
