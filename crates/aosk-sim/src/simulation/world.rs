//! What outlives the machines of a simulation, and the machines themselves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{Manifest, ManifestError, Pid, Tenant};
use aosk_kernel::{Error, Kernel, Model, Options, Parts, Redactor, Spawn};
use aosk_ports::{Sandbox, Tool};
use aosk_sandbox::NoFiles;

use super::scenario::Scenario;
use super::witness::{Eye, Witness};
use crate::clock::SimClock;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::faults::FaultPlan;
use crate::ledger::Ledger;
use crate::model::SimModel;
use crate::power::Power;
use crate::random::SeededRandom;
use crate::store::MemoryStore;
use crate::tokens::SimTokenizer;
use crate::tools::SimTool;

/// What outlives a machine.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) scenario: Scenario,
    pub(super) tenant: Tenant,
    pub(super) disk: Disk,
    pub(super) model: Arc<SimModel>,
    pub(super) ledger: Ledger,
    pub(super) witness: Witness,
}

/// A machine on which a kernel runs.
pub(super) struct Machine {
    pub(super) power: Power,
    pub(super) store: MemoryStore,
    pub(super) kernel: Kernel,
    pub(super) eye: Eye,
    pub(super) dice: Dice,
}

impl World {
    pub(super) fn new(seed: u64, scenario: Scenario) -> Self {
        let faults = scenario.faults.model.clone();
        let model = SimModel::new(seed, scenario.window, scenario.slots, faults);
        Self {
            seed,
            scenario,
            tenant: Tenant::local(),
            disk: Disk::new(seed),
            model: Arc::new(model),
            ledger: Ledger::new(),
            witness: Witness::default(),
        }
    }

    /// The pid of an agent. It comes from an external name, so that the world can tell a process
    /// whose spawn was cut off from one that was never asked for.
    pub(super) fn pid(agent: usize) -> Pid {
        Pid::from_alias(&alias(agent))
    }

    /// Switches a machine on, in a runtime of its own whose time is paused. `faults` is what may
    /// go wrong with it; `before` the virtual time of the lives before.
    pub(super) fn boot(&self, before: Duration, faults: &FaultPlan) -> Result<Machine, Error> {
        let power = Power::on();
        let store = MemoryStore::open(&self.disk, faults.disk.clone(), power.clone());
        self.start(before, faults, power, store)
    }

    /// Switches a second machine on that takes over from one that still runs on the same disk.
    pub(super) fn usurp(
        &self,
        rival: &Machine,
        before: Duration,
        faults: &FaultPlan,
    ) -> Result<Machine, Error> {
        self.start(before, faults, rival.power.clone(), rival.store.beside())
    }

    fn start(
        &self,
        before: Duration,
        faults: &FaultPlan,
        power: Power,
        store: MemoryStore,
    ) -> Result<Machine, Error> {
        let eye = self.witness.watch();
        let mut dice = Dice::keyed(self.seed, "machine", &eye.machine.to_le_bytes());
        let tools = SimTool::all(self.seed, &self.ledger, &power, &faults.tools);
        let model = Model { device: self.model.clone(), tokenizer: Arc::new(SimTokenizer) };
        let parts = Parts {
            store: Arc::new(store.clone()),
            models: HashMap::from([(SimModel::NAME.to_owned(), model)]),
            connect: None,
            tools: tools
                .into_iter()
                .map(|tool| (tool.spec().name.clone(), tool as Arc<dyn Tool>))
                .collect(),
            sandbox: Arc::new(|_| Ok(Arc::new(NoFiles) as Arc<dyn Sandbox>)),
            clock: Arc::new(SimClock::boot(self.seed, before)),
            random: Arc::new(SeededRandom::new(dice.below(u64::MAX))),
            observer: Arc::new(eye.clone()),
            secrets: Redactor::default(),
        };
        let mut options = Options::new(self.tenant.clone(), format!("machine-{}", eye.machine));
        // Checkpoints often enough that short journals have some.
        options.checkpoint_events = 8 + dice.below(24);
        let kernel = Kernel::start(parts, options)?;
        Ok(Machine { power, store, kernel, eye, dice })
    }

    /// What an agent is spawned as; the same each time.
    pub(super) fn spawn(&self, agent: usize) -> Result<Spawn, ManifestError> {
        let mut dice = Dice::keyed(self.seed, "agent", &agent.to_le_bytes());
        let tool_steps = match dice.below(3) {
            0 => format!("[react]\nmax_tool_steps = {}\n", 1 + dice.below(10)),
            _ => String::new(),
        };
        // One agent in three meets its limit of a tenth of a cent or more.
        let quota = match dice.below(3) {
            0 => format!("[quota]\nspend_usd = {}\n", 0.001 * (1 + dice.below(20)) as f64),
            _ => String::new(),
        };
        let manifest = Manifest::from_toml(&format!(
            "name = \"agent {agent}\"\nsystem = \"{}\"\nmax_steps = {}\npriority = {}\n\
             tools = [\"look_up\", \"put_line\", \"send_line\"]\n{tool_steps}{quota}\
             [context]\ntail = {}\n",
            "You are simulated. ".repeat(dice.index(5)),
            1 + dice.below(self.scenario.max_steps),
            dice.below(100),
            dice.below(2) == 1,
        ))?;
        Ok(Spawn {
            manifest,
            model: SimModel::NAME.to_owned(),
            task: format!("The task of agent {agent} in world {}.", self.seed),
            alias: Some(alias(agent)),
            parent: None,
        })
    }
}

fn alias(agent: usize) -> String {
    format!("agent-{agent}")
}
