//! How quotas stand: what is used of them, what is held back, and when it comes back.

use aosk_abi::{Pid, Scarce, Timestamp};
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
