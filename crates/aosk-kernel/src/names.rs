//! What a manifest can name, for those who check one before there is a kernel.

use aosk_context::POLICIES;

use crate::driver::Own;
use crate::program::Running;

/// The names that `program` can have.
pub const PROGRAMS: &[&str] = Running::NAMES;

/// The tools that every kernel has, which `tools` can name beside those that it is given.
pub const KERNEL_TOOLS: &[&str] = Own::NAMES;

/// The names that `context.policy` can have; the first is the default.
pub fn policies() -> impl Iterator<Item = &'static str> {
    POLICIES.iter().map(|policy| policy.name())
}
