//! Restarts: when a process that ended begins again.

use serde::{Deserialize, Serialize};

use crate::process::Exit;

/// When a process that ended begins again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartWhen {
    /// Never.
    #[default]
    Never,
    /// When it failed.
    OnFailure,
    /// However it ended, unless it was killed.
    Always,
}

/// Whether a process begins again when it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartSpec {
    /// When.
    #[serde(default)]
    pub when: RestartWhen,
    /// How often in the life of the process, at least 1; absent: without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
    /// How long it waits before it begins again, in seconds; after a failure it waits twice as long
    /// each time.
    #[serde(default = "one")]
    pub wait_s: u64,
    /// The longest wait, in seconds.
    #[serde(default = "five_minutes")]
    pub max_wait_s: u64,
}

const fn one() -> u64 {
    1
}

const fn five_minutes() -> u64 {
    300
}

impl Default for RestartSpec {
    fn default() -> Self {
        Self { when: RestartWhen::Never, max: None, wait_s: one(), max_wait_s: five_minutes() }
    }
}

impl RestartSpec {
    /// How long a process that ended so waits before it begins again, in milliseconds, if it does;
    /// `restarts` is how often it did before.
    #[must_use]
    pub fn wait_ms(&self, exit: &Exit, restarts: u64) -> Option<u64> {
        let failed = matches!(exit, Exit::Failed { .. });
        let wanted = match self.when {
            RestartWhen::Never => false,
            RestartWhen::OnFailure => failed,
            RestartWhen::Always => exit.can_be_continued(),
        };
        if !wanted || self.max.is_some_and(|max| restarts >= max) {
            return None;
        }
        // A failure is likely to last; an end that is not one is what was asked for.
        let doublings = if failed { u32::try_from(restarts).unwrap_or(63).min(63) } else { 0 };
        let seconds = self.wait_s.saturating_mul(1 << doublings).min(self.max_wait_s);
        Some(seconds.saturating_mul(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_follow_the_exit_the_bound_and_the_cap() {
        let message = crate::ContentRef { hash: crate::Hash::ZERO, len: 0 };
        let failed = Exit::Failed { code: "AOSK-L007".to_owned(), message };
        let done = Exit::Completed { answer: None };
        let spec = |when| RestartSpec { when, max: Some(3), wait_s: 2, max_wait_s: 7 };
        assert_eq!(spec(RestartWhen::Never).wait_ms(&failed, 0), None);
        let waits = [0, 1, 2, 3].map(|n| spec(RestartWhen::OnFailure).wait_ms(&failed, n));
        assert_eq!(waits, [Some(2000), Some(4000), Some(7000), None]);
        assert_eq!(spec(RestartWhen::OnFailure).wait_ms(&done, 0), None);
        assert_eq!(spec(RestartWhen::Always).wait_ms(&done, 2), Some(2000));
        assert_eq!(spec(RestartWhen::Always).wait_ms(&Exit::Killed, 0), None);
        let endless = RestartSpec { max: None, ..spec(RestartWhen::OnFailure) };
        assert_eq!(endless.wait_ms(&failed, u64::MAX), Some(7000));
    }
}
