//! Policies: which units leave first.
//!
//! A policy gives each unit a worth and nothing else. What may leave at all, how much leaves and
//! when is decided by the table, so that no policy can split a tool call from its result, evict a
//! pinned page or fill the window.

use aosk_abi::{PageId, Ppm, Seq, Tokens};

/// Pages that leave together, as a policy sees them. Only units that may leave are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// The event that began it.
    pub id: Seq,
    /// Its first page: units with a smaller one are older.
    pub first: PageId,
    /// The size of its pages together.
    pub tokens: Tokens,
    /// The importance of its most important page.
    pub importance: Ppm,
}

/// An order in which units leave. It must depend on nothing but its argument.
pub trait Policy: Send + Sync {
    /// The name that manifests and plans use.
    fn name(&self) -> &'static str;

    /// What keeping `unit` is worth: the unit of the least worth leaves first, and of equals the
    /// oldest.
    fn worth(&self, unit: &Unit) -> u64;
}

/// The oldest unit leaves first.
#[derive(Debug, Clone, Copy, Default)]
pub struct TruncateOldest;

impl Policy for TruncateOldest {
    fn name(&self) -> &'static str {
        "truncate_oldest"
    }

    fn worth(&self, _: &Unit) -> u64 {
        0
    }
}

/// The least important unit leaves first, the oldest among equals.
#[derive(Debug, Clone, Copy, Default)]
pub struct Importance;

impl Policy for Importance {
    fn name(&self) -> &'static str {
        "importance"
    }

    fn worth(&self, unit: &Unit) -> u64 {
        unit.importance.0.into()
    }
}

/// Every policy; the first is the default.
pub const POLICIES: &[&dyn Policy] = &[&TruncateOldest, &Importance];

/// The policy that a manifest names.
#[must_use]
pub fn policy_by_name(name: &str) -> Option<&'static dyn Policy> {
    POLICIES.iter().copied().find(|policy| policy.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_is_found_by_its_name_and_no_other_is() {
        for policy in POLICIES {
            let found = policy_by_name(policy.name()).map(|found| found.name());
            assert_eq!(found, Some(policy.name()));
        }
        assert!(policy_by_name("Truncate_Oldest").is_none());
    }

    #[test]
    fn the_default_of_manifests_is_the_first_policy() {
        assert_eq!(aosk_abi::ContextSpec::default().policy, POLICIES[0].name());
    }
}
