//! What outlives the machines of a simulation, and the machines themselves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{Manifest, ManifestError, Pid, Tenant};
use aosk_kernel::{Error, Kernel, Model, Options, Parts, Redactor, Spawn};
use aosk_ports::{Sandbox, Tool};
use aosk_sandbox::NoFiles;

use super::auditor::Auditor;
use super::devices::{Counter, Handle, Wire};
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
    pub(super) auditor: Auditor,
}

/// A machine on which a kernel runs.
pub(super) struct Machine {
    pub(super) power: Power,
    pub(super) store: MemoryStore,
    pub(super) kernel: Kernel,
    pub(super) eye: Eye,
    pub(super) dice: Dice,
    /// How many processes may be in memory at once.
    pub(super) resident: usize,
}

impl World {
    pub(super) fn new(seed: u64, scenario: Scenario) -> Self {
        let faults = scenario.faults.model.clone();
        let model = Arc::new(SimModel::new(seed, scenario.window, scenario.slots, faults));
        let (ledger, witness) = (Ledger::new(), Witness::default());
        let auditor = Auditor::new(&witness, &model, &ledger);
        Self {
            seed,
            disk: Disk::watched(seed, Box::new(auditor.clone()), scenario.flaw),
            scenario,
            tenant: Tenant::local(),
            model,
            ledger,
            witness,
            auditor,
        }
    }

    /// The agents that there are.
    pub(super) fn agents(&self) -> impl Iterator<Item = usize> + Clone {
        (0..self.scenario.agents).filter(|agent| !self.scenario.absent.contains(agent))
    }

    /// The pid of an agent. It comes from an external name, so that the world can tell a process
    /// whose spawn was cut off from one that was never asked for.
    pub(super) fn pid(agent: usize) -> Pid {
        Pid::from_alias(&alias(agent))
    }

    /// Switches a machine on, in a runtime of its own whose time is paused. `faults` is what may
    /// go wrong with it; `before` the virtual time of the lives before.
    pub(super) fn boot(
        &self,
        before: Duration,
        faults: &FaultPlan,
        power: Power,
    ) -> Result<Machine, Error> {
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
        let flaw = self.scenario.flaw;
        let eye = self.witness.watch(&self.auditor, &power, flaw);
        let mut dice = Dice::keyed(self.seed, "machine", &eye.machine.to_le_bytes());
        let tools = SimTool::all(self.seed, &self.ledger, &power, &faults.tools);
        let handles = tools.into_iter().map(|tool| {
            let handle = Handle::new(tool, &power, &self.auditor, flaw);
            (handle.spec().name.clone(), Arc::new(handle) as Arc<dyn Tool>)
        });
        let device = Arc::new(Wire::new(&self.model, &power, &self.auditor, flaw));
        let model = Model { device, tokenizer: Arc::new(Counter(flaw)) };
        let parts = Parts {
            store: Arc::new(store.clone()),
            models: HashMap::from([(SimModel::NAME.to_owned(), model)]),
            recorder: None,
            alternatives: HashMap::new(),
            connect: None,
            tools: handles.collect(),
            sandbox: Arc::new(|_| Ok(Arc::new(NoFiles) as Arc<dyn Sandbox>)),
            clock: Arc::new(SimClock::boot(self.seed, before).powered(power.clone())),
            random: Arc::new(SeededRandom::new(dice.below(u64::MAX))),
            observer: Arc::new(eye.clone()),
            secrets: Redactor::default(),
        };
        let mut options = Options::new(self.tenant.clone(), format!("machine-{}", eye.machine));
        // Checkpoints often enough that short journals have some.
        options.checkpoint_events = 8 + dice.below(24);
        // Places so few that processes wait for one, and stays so short that they leave it again.
        let resident = 1 + dice.index(8);
        options.resident = resident;
        options.stay_steps = 1 + dice.below(4);
        options.rest_after = dice.time(&(Duration::ZERO..=Duration::from_secs(4)));
        options.adopts = dice.below(2) == 1;
        let kernel = Kernel::start(parts, options)?;
        Ok(Machine { power, store, kernel, eye, dice, resident })
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
        let restart = match dice.below(6) {
            0 => "[restart]\nwhen = \"always\"\nmax = 1\n",
            1 => "[restart]\nwhen = \"on_failure\"\nmax = 2\nwait_s = 3\n",
            _ => "",
        };
        let manifest = Manifest::from_toml(&format!(
            "name = \"agent {agent}\"\nsystem = \"{}\"\nmax_steps = {}\npriority = {}\n\
             tools = [\"look_up\", \"put_line\", \"send_line\"]\n{tool_steps}{quota}{restart}\
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
