//! What is simulated.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use aosk_abi::Tokens;

use crate::dice::{Chance, Dice};
use crate::faults::FaultPlan;
use crate::flaw::Flaw;

/// Of the faults that a world can have, a drawn one has three in four.
const LEFT_OUT: Chance = Chance::per_mille(250);

/// What is simulated: how many agents, in what weather, for how long at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// How many agents are spawned.
    pub agents: usize,
    /// Those of them that stay away.
    pub absent: BTreeSet<usize>,
    /// How many steps each may make.
    pub max_steps: u64,
    /// The window of the model; a small one makes the kernel evict.
    pub window: Tokens,
    /// How many calls the model takes at once.
    pub slots: usize,
    /// Whether there is a second model, which may be asked where the first fails for good. It has a
    /// slot of its own.
    pub spare: bool,
    /// Whether agents may begin others.
    pub families: bool,
    /// Whether kernels may have limits of their own for what is spent.
    pub limits: bool,
    /// What goes wrong.
    pub faults: FaultPlan,
    /// How long a machine lives at most before it is stopped or its power goes.
    pub lifetime: RangeInclusive<Duration>,
    /// How often a machine has a fuse, which cuts its power at one of its first 2,048 touches of
    /// the world.
    pub fuse: Chance,
    /// How many lives may end by force. The one after them meets no crash and has to bring every
    /// process to its end.
    pub lives: u32,
    /// The touch at which each life is cut, in place of everything else that could end one.
    pub script: Option<Vec<u64>>,
    /// How often, each two seconds or so, somebody outside sends a message or a signal.
    pub meddling: Chance,
    /// What is broken on purpose.
    pub flaw: Option<Flaw>,
}

impl Scenario {
    /// A machine that nothing happens to.
    #[must_use]
    pub const fn calm() -> Self {
        Self {
            agents: 6,
            absent: BTreeSet::new(),
            max_steps: 24,
            window: Tokens(64_000),
            slots: 4,
            spare: false,
            families: false,
            limits: false,
            faults: FaultPlan::calm(),
            lifetime: Duration::ZERO..=Duration::ZERO,
            fuse: Chance::NEVER,
            lives: 0,
            script: None,
            meddling: Chance::NEVER,
            flaw: None,
        }
    }

    /// A machine to which everything happens.
    #[must_use]
    pub fn rough() -> Self {
        Self {
            agents: 6,
            max_steps: 24,
            window: Tokens(6_000),
            slots: 3,
            spare: true,
            families: true,
            limits: true,
            faults: FaultPlan::rough(),
            lifetime: Duration::from_secs(1)..=Duration::from_secs(60),
            fuse: Chance::per_mille(500),
            lives: 40,
            meddling: Chance::per_mille(200),
            ..Self::calm()
        }
    }

    /// The world of a seed: of another size each time, and with a part of the faults. Where
    /// everything happens always, one fault hides what comes of another; a store that is full
    /// every minute lets nobody come far enough to be cut at the eviction of a page.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "scenario");
        let mut scenario = Self::rough();
        scenario.agents = 1 + dice.index(8);
        scenario.max_steps = 1 + dice.below(40);
        scenario.window = Tokens(3_000 + 500 * dice.below(14));
        scenario.slots = 1 + dice.index(4);
        for leave_out in scenario.knobs() {
            if dice.hits(LEFT_OUT) {
                leave_out(&mut scenario);
            }
        }
        scenario
    }

    /// What can be left out of the weather, one at a time.
    pub(super) fn knobs(&self) -> impl Iterator<Item = fn(&mut Self)> + use<> {
        let all: [fn(&mut Self); 31] = [
            |it| it.meddling = Chance::NEVER,
            |it| it.fuse = Chance::NEVER,
            |it| it.faults.disk.stall = Chance::NEVER,
            |it| it.faults.disk.full = Chance::NEVER,
            |it| it.faults.disk.io_error = Chance::NEVER,
            |it| it.faults.disk.crash_before = Chance::NEVER,
            |it| it.faults.disk.crash_after = Chance::NEVER,
            |it| it.faults.model.throttled = Chance::NEVER,
            |it| it.faults.model.transient = Chance::NEVER,
            |it| it.faults.model.garbage = Chance::NEVER,
            |it| it.faults.model.fatal = Chance::NEVER,
            |it| it.faults.model.stuck = Chance::NEVER,
            |it| it.faults.model.hang = Chance::NEVER,
            |it| it.faults.model.disconnect = Chance::NEVER,
            |it| it.faults.model.context_length = Chance::NEVER,
            |it| it.faults.model.lying_usage = Chance::NEVER,
            |it| it.faults.model.odd = Chance::NEVER,
            |it| it.faults.tools.fail = Chance::NEVER,
            |it| it.faults.tools.panic = Chance::NEVER,
            |it| it.faults.tools.crash_before = Chance::NEVER,
            |it| it.faults.tools.crash_after = Chance::NEVER,
            |it| it.faults.tools.latency = Duration::ZERO..=Duration::ZERO,
            |it| it.faults.disk.sync = Duration::ZERO..=Duration::ZERO,
            |it| it.faults.disk.read = Duration::ZERO..=Duration::ZERO,
            |it| it.faults.disk.unreadable = Chance::NEVER,
            |it| it.faults.disk.mute = Chance::NEVER,
            |it| it.faults.model.panic = Chance::NEVER,
            |it| it.faults.fall = Chance::NEVER,
            |it| it.spare = false,
            |it| it.limits = false,
            |it| it.families = false,
        ];
        all.into_iter()
    }

    /// Whether the life of that number, from 1, may end by force.
    pub(super) fn is_mortal(&self, life: u32) -> bool {
        match &self.script {
            Some(script) => usize::try_from(life).is_ok_and(|life| life <= script.len()),
            None => life <= self.lives,
        }
    }
}
