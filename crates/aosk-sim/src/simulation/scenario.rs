//! What is simulated.

use std::ops::RangeInclusive;
use std::time::Duration;

use aosk_abi::Tokens;

use crate::dice::Chance;
use crate::faults::FaultPlan;

/// What is simulated: how many agents, in what weather, for how long at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// How many agents are spawned.
    pub agents: usize,
    /// How many steps each may make.
    pub max_steps: u64,
    /// The window of the model; a small one makes the kernel evict.
    pub window: Tokens,
    /// How many calls the model takes at once.
    pub slots: usize,
    /// What goes wrong.
    pub faults: FaultPlan,
    /// How long a machine lives at most before it is stopped or its power goes.
    pub lifetime: RangeInclusive<Duration>,
    /// How many lives may end by force. The one after them meets no crash and has to bring every
    /// process to its end.
    pub lives: u32,
    /// How often, each two seconds, somebody outside sends a message or a signal.
    pub meddling: Chance,
}

impl Scenario {
    /// A machine that nothing happens to.
    #[must_use]
    pub const fn calm() -> Self {
        Self {
            agents: 6,
            max_steps: 24,
            window: Tokens(64_000),
            slots: 4,
            faults: FaultPlan::calm(),
            lifetime: Duration::ZERO..=Duration::ZERO,
            lives: 0,
            meddling: Chance::NEVER,
        }
    }

    /// A machine to which everything happens.
    #[must_use]
    pub const fn rough() -> Self {
        Self {
            agents: 6,
            max_steps: 24,
            window: Tokens(6_000),
            slots: 3,
            faults: FaultPlan::rough(),
            lifetime: Duration::from_secs(1)..=Duration::from_secs(60),
            lives: 40,
            meddling: Chance::per_mille(200),
        }
    }
}
