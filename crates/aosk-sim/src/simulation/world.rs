//! What outlives the machines of a simulation, and the machines themselves.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aosk_abi::{
    Limits, Manifest, ManifestError, MicroDollars, Pid, QuotaOwner, RestartSpec, RestartWhen,
    Spend, Tenant, Tokens,
};
use aosk_kernel::{Connect, Error, Kernel, Model, Options, Parts, Redactor, Spawn};
use aosk_ports::{InboxItem, Sandbox, Tool};
use aosk_sandbox::NoFiles;

use super::auditor::Auditor;
use super::devices::{Counter, Handle, Last};
use super::flight::{Flight, Recorder};
use super::scenario::Scenario;
use super::till::Till;
use super::wire::{Exchange, Wire};
use super::witness::{Eye, Witness};
use crate::clock::SimClock;
use crate::dice::{Chance, Dice};
use crate::disk::{Disk, content_key};
use crate::faults::FaultPlan;
use crate::flaw::Flaw;
use crate::ledger::Ledger;
use crate::model::SimModel;
use crate::power::Power;
use crate::random::SeededRandom;
use crate::speech::HELPER;
use crate::store::MemoryStore;
use crate::tools::SimTool;

/// By how much the window of the model that may be asked instead is larger: a prompt that was
/// planned for one is planned anew for the other.
const SPARE_WINDOW: Tokens = Tokens(500);

/// The tools of those that begin others.
const BEGINS: &str = ", \"spawn\", \"wait\"";

/// What outlives a machine.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) scenario: Scenario,
    pub(super) tenant: Tenant,
    pub(super) disk: Disk,
    /// The model that agents are spawned with, and the one that may be asked instead.
    pub(super) models: Arc<[Arc<SimModel>]>,
    pub(super) ledger: Ledger,
    pub(super) flight: Flight,
    pub(super) witness: Witness,
    pub(super) auditor: Auditor,
    /// The budget that all machines share, but for the last, which brings everything to its end.
    treasury: Option<Arc<Till>>,
    /// How often somebody was told to go on.
    urged: AtomicU64,
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
    /// Whether it takes up what comes for a process that it was never given.
    pub(super) adopts: bool,
    /// Whether all that it may spend has a limit, which nobody raises.
    pub(super) capped: bool,
}

impl World {
    pub(super) fn new(seed: u64, scenario: Scenario) -> Self {
        let faults = scenario.faults.model.clone();
        let (window, slots) = (scenario.window, scenario.slots);
        let spare = scenario
            .spare
            .then(|| Arc::new(SimModel::spare(seed, window + SPARE_WINDOW, 1, faults.clone())));
        let first = Arc::new(SimModel::new(seed, window, slots, faults));
        let models: Arc<[_]> = std::iter::once(first).chain(spare).collect();
        let (ledger, witness, tenant) = (Ledger::new(), Witness::default(), Tenant::local());
        let key = content_key(seed, &tenant);
        let mut dice = Dice::keyed(seed, "treasury", &[]);
        let treasury = (scenario.limits && dice.below(3) == 0).then(|| {
            let limit = MicroDollars(10_000 + dice.below(100_000));
            Arc::new(Till::new(Some(limit), None))
        });
        let auditor = Auditor::new(seed, key, &witness, &models, &ledger);
        Self {
            seed,
            disk: Disk::watched(seed, Box::new(auditor.clone()), scenario.flaw),
            scenario,
            tenant,
            models,
            ledger,
            flight: Flight::default(),
            witness,
            auditor,
            treasury,
            urged: AtomicU64::new(0),
        }
    }

    /// What an agent is told to go on with: no two messages of a user are alike.
    pub(super) fn urge(&self) -> InboxItem {
        let text =
            format!("go on, for the {}. time", 1 + self.urged.fetch_add(1, Ordering::SeqCst));
        InboxItem::Message { from: "user".to_owned(), text }
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
    /// go wrong with it; `before` the virtual time of the lives before; the last of all is not
    /// `mortal`.
    pub(super) fn boot(
        &self,
        before: Duration,
        faults: &FaultPlan,
        power: Power,
        mortal: bool,
    ) -> Result<Machine, Error> {
        let store = MemoryStore::open(&self.disk, faults.disk.clone(), power.clone());
        self.flight.begin();
        self.start(before, faults, power, store, mortal)
    }

    /// Switches a second machine on that takes over from one that still runs on the same disk.
    pub(super) fn usurp(
        &self,
        rival: &Machine,
        before: Duration,
        faults: &FaultPlan,
    ) -> Result<Machine, Error> {
        self.start(before, faults, rival.power.clone(), rival.store.beside(), true)
    }

    fn start(
        &self,
        before: Duration,
        faults: &FaultPlan,
        power: Power,
        store: MemoryStore,
        mortal: bool,
    ) -> Result<Machine, Error> {
        let flaw = self.scenario.flaw;
        let eye = self.witness.watch(&self.auditor, &power, flaw);
        let mut dice = Dice::keyed(self.seed, "machine", &eye.machine.to_le_bytes());
        let mut options = Options::new(self.tenant.clone(), format!("machine-{}", eye.machine));
        self.settle(&mut options, &mut dice, mortal);
        let till = Arc::new(Till::new(options.spend_limit, options.process_limit));
        if flaw == Some(Flaw::LooseBudget) {
            let loose = |limit: MicroDollars| MicroDollars(limit.0 * 100);
            options.spend_limit = options.spend_limit.map(loose);
            options.process_limit = options.process_limit.map(loose);
        }
        let treasury = self.treasury.as_ref().filter(|_| mortal);
        if let Some(limit) = treasury.and_then(|treasury| treasury.limit) {
            let limits = Limits { spend: Some(Spend { limit, per: None }), ..Limits::default() };
            let tenant = QuotaOwner::Tenant(self.tenant.clone());
            *options.sharing.limits_mut(&tenant) = limits;
        }
        let tools = SimTool::all(self.seed, &self.ledger, &power, &faults.tools);
        let last = Last::default();
        let handles = tools.into_iter().map(|tool| {
            let handle = Handle::new(tool, &power, &self.auditor, flaw, &last);
            (handle.spec().name.clone(), Arc::new(handle) as Arc<dyn Tool>)
        });
        let wire = |model| Wire::new(model, &power, &self.auditor, (&till, treasury), flaw);
        let counter = Arc::new(Counter(flaw));
        let model = Model { device: Arc::new(wire(&self.models[0])), tokenizer: counter.clone() };
        let connect = self.models.get(1).map(|spare| {
            let spare = match flaw {
                Some(Flaw::WrongModel) => wire(&self.models[0]).named(SimModel::SPARE),
                _ => wire(spare),
            };
            let dice = Mutex::new(Dice::keyed(self.seed, "exchange", &eye.machine.to_le_bytes()));
            let (power, unreachable) = (power.clone(), faults.model.unreachable);
            let exchange = Exchange { spare: Arc::new(spare), counter, power, unreachable, dice };
            Arc::new(exchange) as Arc<dyn Connect>
        });
        let spare =
            connect.as_ref().map(|_| (SimModel::NAME.to_owned(), vec![SimModel::SPARE.to_owned()]));
        let recorder = Recorder {
            flight: self.flight.clone(),
            power: power.clone(),
            fall: if mortal { faults.fall } else { Chance::NEVER },
            dice: Mutex::new(Dice::keyed(self.seed, "recorder", &eye.machine.to_le_bytes())),
        };
        let parts = Parts {
            store: Arc::new(store.clone()),
            models: HashMap::from([(SimModel::NAME.to_owned(), model)]),
            recorder: Some(Arc::new(recorder)),
            memory: None,
            alternatives: spare.into_iter().collect(),
            spreads: HashMap::new(),
            connect,
            tools: handles.collect(),
            sandbox: Arc::new(|_| Ok(Arc::new(NoFiles) as Arc<dyn Sandbox>)),
            clock: Arc::new(SimClock::boot(self.seed, before).powered(power.clone()).flawed(flaw)),
            random: Arc::new(SeededRandom::new(dice.below(u64::MAX))),
            observer: Arc::new(eye.clone()),
            secrets: Redactor::default(),
        };
        let (resident, adopts) = (options.resident, options.adopts);
        let capped = options.spend_limit.is_some();
        let kernel = Kernel::start(parts, options)?;
        Ok(Machine { power, store, kernel, eye, dice, resident, adopts, capped })
    }

    /// Draws how a kernel is set up.
    fn settle(&self, options: &mut Options, dice: &mut Dice, mortal: bool) {
        // Checkpoints often enough that short journals have some.
        options.checkpoint_events = 8 + dice.below(24);
        // Places so few that processes wait for one, and stays so short that they leave it again.
        options.resident = 1 + dice.index(8);
        options.stay_steps = 1 + dice.below(4);
        options.rest_after = dice.time(&(Duration::ZERO..=Duration::from_secs(4)));
        // The last machine of all has to bring everything to its end.
        options.adopts = !mortal || dice.below(2) == 1;
        if mortal && self.scenario.limits && dice.below(4) == 0 {
            options.spend_limit = Some(MicroDollars(5_000 + dice.below(50_000)));
        }
        if self.scenario.limits && dice.below(4) == 0 {
            options.process_limit = Some(MicroDollars(1_000 + dice.below(20_000)));
        }
        match self.scenario.flaw {
            Some(Flaw::SlowStop) => options.grace = Duration::from_secs(60),
            Some(Flaw::ShortRetry) => options.retry.attempts = 2,
            _ => {}
        }
    }

    /// What an agent needs to begin others: tools, and those that it may begin. Half of all do.
    fn helpers(&self, agent: usize) -> (&'static str, String) {
        let mut dice = Dice::keyed(self.seed, "helpers", &agent.to_le_bytes());
        if !self.scenario.families || dice.below(2) == 0 {
            return ("", String::new());
        }
        let helpers = HELPERS[..2].iter().map(|name| helper(&mut dice, name, 1));
        (BEGINS, helpers.collect())
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
        // Every other agent talks to others and waits for them.
        let own = match dice.below(2) {
            0 => ", \"send\", \"receive\", \"sleep\"",
            _ => "",
        };
        let (begins, helpers) = self.helpers(agent);
        let mut manifest = Manifest::from_toml(&format!(
            "name = \"agent {agent}\"\nsystem = \"{}\"\nmax_steps = {}\npriority = {}\n\
             tools = [\"look_up\", \"put_line\", \"send_line\"{own}{begins}]\n\
             {tool_steps}{quota}{restart}[context]\ntail = {}\n{helpers}",
            "You are simulated. ".repeat(dice.index(5)),
            1 + dice.below(self.scenario.max_steps),
            dice.below(100),
            dice.below(2) == 1,
        ))?;
        self.auditor.wants(Self::pid(agent), &manifest);
        match self.scenario.flaw {
            Some(Flaw::EndlessSteps) => manifest.max_steps += 1,
            Some(Flaw::RaisedLimit) => {
                manifest.quota.spend_usd = manifest.quota.spend_usd.map(|limit| limit * 10.0);
            }
            Some(Flaw::RichHelper) => {
                for helper in &mut manifest.children {
                    helper.quota.spend_usd = helper.quota.spend_usd.map(|limit| limit * 10.0);
                }
            }
            Some(Flaw::EagerRestart) => {
                let max = Some(manifest.restart.max.unwrap_or(0) + 1);
                manifest.restart =
                    RestartSpec { when: RestartWhen::Always, max, ..manifest.restart };
            }
            _ => {}
        }
        Ok(Spawn {
            manifest,
            model: SimModel::NAME.to_owned(),
            task: format!("The task of agent {agent} in world {}.", self.seed),
            alias: Some(alias(agent)),
            parent: None,
        })
    }
}

/// Some that agents may begin, one of which may begin another.
const HELPERS: [&str; 3] = ["helper 0", "helper 1", "helper 2"];

/// One of them; `depth` is how many stand above it.
fn helper(dice: &mut Dice, name: &str, depth: usize) -> String {
    let quota = match dice.below(3) {
        0 => format!("quota = {{ spend_usd = {} }}\n", 0.001 * (1 + dice.below(10)) as f64),
        _ => String::new(),
    };
    let restart = match dice.below(6) {
        0 => "restart = { when = \"on_failure\", max = 1 }\n",
        _ => "",
    };
    let begins = if depth < 2 && dice.below(3) == 0 { BEGINS } else { "" };
    let table = vec!["children"; depth].join(".");
    let (steps, priority) = (1 + dice.below(12), dice.below(100));
    let own = format!(
        "[[{table}]]\nname = \"{name}\"\nsystem = \"{HELPER}\"\nmax_steps = {steps}\n\
         priority = {priority}\n\
         tools = [\"put_line\", \"send_line\", \"send\", \"receive\", \"sleep\"{begins}]\n\
         {quota}{restart}"
    );
    match begins {
        "" => own,
        _ => own + &helper(dice, HELPERS[2], depth + 1),
    }
}

fn alias(agent: usize) -> String {
    format!("agent-{agent}")
}
