//! The kernel: a table of processes and the door through which they come in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aosk_abi::{
    Code, Epoch, Event, Hash, Manifest, MicroDollars, Pid, ProcessState, Recovered, Seq, Signal,
    SignalReceived, Spawned, SpendRaised, Tenant, ToolSpec, What,
};
use aosk_context::{POLICIES, Policy, policy_by_name};
use aosk_ports::{InboxId, InboxItem, ProcessFilter, Sandbox, StoreError};
use tokio::sync::{mpsc, watch};

use crate::budget::Budget;
use crate::contents::Contents;
use crate::dispatch::Dispatcher;
use crate::driver::{Batch, Driver, Outcome, Start, seal};
use crate::error::Error;
use crate::image::Image;
use crate::load::load;
use crate::options::{Model, Options, Parts};
use crate::program::Running;
use crate::shared::{Shared, Stop, StopSign};

/// What a new process is made of.
#[derive(Debug, Clone)]
pub struct Spawn {
    /// What it is. A relative `workspace` is relative to the current folder of the kernel.
    pub manifest: Manifest,
    /// The model that it asks; a name of [`Parts::models`].
    pub model: String,
    /// The task; not empty.
    pub task: String,
    /// An external name; the pid is made from it.
    pub alias: Option<String>,
    /// Who spawns it.
    pub parent: Option<Pid>,
}

/// A running kernel. Cheap to clone; all clones are one kernel.
#[derive(Clone)]
pub struct Kernel {
    shared: Arc<Shared>,
    table: Arc<Mutex<HashMap<Pid, Entry>>>,
}

struct Entry {
    inbox: mpsc::UnboundedSender<(InboxId, InboxItem)>,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// A process that is about to be driven.
struct Process {
    image: Image,
    manifest: Manifest,
    contents: Contents,
    batch: Batch,
}

/// What a manifest asks of the kernel, found.
struct Found {
    model: Model,
    policy: &'static dyn Policy,
    specs: Arc<[ToolSpec]>,
    sandbox: Arc<dyn Sandbox>,
}

impl Kernel {
    /// Starts a kernel. It must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Refused`] where a device has no slots.
    pub fn start(parts: Parts, options: Options) -> Result<Self, Error> {
        let infos: Vec<_> = parts.models.values().map(|model| model.device.info()).collect();
        let mut slots: Vec<(&str, usize)> =
            infos.iter().map(|info| (info.name.as_str(), info.slots)).collect();
        slots.sort_unstable();
        slots.dedup_by(|a, b| a.0 == b.0);
        let dispatcher = Dispatcher::new(parts.clock.clone(), slots.into_iter())?;
        let budget = Budget::new(options.spend_limit);
        let shared = Arc::new(Shared { parts, options, dispatcher, budget, stop: StopSign::new() });
        let kernel = Self { shared, table: Arc::default() };
        tokio::spawn(kernel.clone().deliver_inbox());
        Ok(kernel)
    }

    /// Whether the manifest could be spawned with that model, without spawning it. A run of many
    /// agents asks this for each before it begins with the first.
    ///
    /// # Errors
    /// [`Error::Refused`] as [`Kernel::spawn`] does.
    pub fn check(&self, manifest: &Manifest, model: &str) -> Result<(), Error> {
        self.find(manifest, model, None).map(drop)
    }

    /// Begins a process. When this returns, the process is durable and runs.
    ///
    /// # Errors
    /// [`Error::Refused`] where the request names a program, model, tool or workspace that there
    /// is not, or an empty task; [`Error::Store`] where it cannot be written down.
    pub async fn spawn(&self, request: Spawn) -> Result<Pid, Error> {
        self.refuse_if_stopping()?;
        let found = self.find(&request.manifest, &request.model, None)?;
        if request.task.trim().is_empty() {
            return Err(Error::refused(
                Code::KernelTask,
                "the task is empty: say what the agent shall do",
            ));
        }
        let parts = &self.shared.parts;
        let tenant = &self.shared.options.tenant;
        let contents = Contents::new(parts.store.content_key(tenant).await?);
        let pid = match &request.alias {
            Some(alias) => Pid::from_alias(alias),
            None => self.new_pid(),
        };
        let process = self.begin(pid, request, &found.specs, contents)?;
        let driver = self.driver(process, found)?;
        let driver = match driver.committed().await {
            Ok(driver) => driver,
            Err(error) => {
                self.forget(pid);
                return Err(error);
            }
        };
        self.drive(driver);
        Ok(pid)
    }

    /// Takes an unfinished process over and goes on with it where it stands. `raise` is a new
    /// spend limit. A suspended process is continued.
    ///
    /// # Errors
    /// [`Error::Refused`] where it has ended or runs already, or needs a model or tool that there
    /// is not; [`Error::Store`] or [`Error::Fold`] where its journal cannot be read.
    pub async fn resume(&self, pid: Pid, raise: Option<MicroDollars>) -> Result<(), Error> {
        self.refuse_if_stopping()?;
        if self.table().get(&pid).is_some_and(|entry| entry.outcome.borrow().is_none()) {
            return Err(Error::refused(
                Code::KernelNotResumable,
                format!("process {pid} is running already"),
            ));
        }
        let Shared { parts, options, .. } = self.shared.as_ref();
        let tenant = &options.tenant;
        // Fenced before it is read: what the last owner still appends would be missing here.
        let epoch = parts.store.claim(tenant, pid).await?;
        let mut image = load(parts.store.as_ref(), tenant, pid, None).await?;
        if let ProcessState::Exited { exit } = &image.state {
            return Err(Error::refused(
                Code::KernelNotResumable,
                format!("process {pid} has ended ({}); start a new one", exit.name()),
            ));
        }
        let mut contents = Contents::new(parts.store.content_key(tenant).await?);
        let spawned = &image.spawned;
        let settings = [(Seq(0), spawned.manifest), (Seq(0), spawned.tools)];
        contents.load(parts.store.as_ref(), tenant, pid, settings.into_iter()).await?;
        let manifest: Manifest = read(&contents, &spawned.manifest.hash, pid, "manifest")?;
        let specs: Vec<ToolSpec> = if spawned.tools.len == 0 {
            Vec::new()
        } else {
            read(&contents, &spawned.tools.hash, pid, "tools")?
        };
        let found = self.find(&manifest, &spawned.model, Some(specs))?;

        let from = image.epoch;
        image.epoch = epoch;
        let mut batch = Batch::new(image.head, image.next.0);
        let instance = options.instance.clone();
        let mut happened = vec![What::Recovered(Recovered { from, instance })];
        if let Some(limit) = raise {
            happened.push(What::SpendRaised(SpendRaised { limit }));
        }
        if matches!(image.state, ProcessState::Suspended { .. }) {
            happened.push(What::SignalReceived(SignalReceived { signal: Signal::Cont }));
        }
        for what in happened {
            let event = Event::new(parts.clock.now(), what);
            let record = seal(&image, &event)?;
            image
                .apply_event(&event, record.seq, record.hash)
                .map_err(|source| Error::Fold { pid, source })?;
            batch.push(record, []);
        }
        let driver = self.driver(Process { image, manifest, contents, batch }, found)?;
        self.drive(driver);
        Ok(())
    }

    /// Resumes every unfinished process of the tenant. One that cannot be resumed does not keep
    /// the others from it.
    ///
    /// # Errors
    /// [`Error::Store`] where the processes cannot be listed.
    pub async fn recover(&self) -> Result<Vec<(Pid, Result<(), Error>)>, Error> {
        let store = &self.shared.parts.store;
        let unfinished =
            store.processes(&self.shared.options.tenant, ProcessFilter::Unfinished).await?;
        let mut recovered = Vec::with_capacity(unfinished.len());
        for receipt in unfinished {
            recovered.push((receipt.pid, self.resume(receipt.pid, None).await));
        }
        Ok(recovered)
    }

    /// Waits until the kernel lets go of the process and says why; `None` for a process that this
    /// kernel never ran.
    pub async fn wait(&self, pid: Pid) -> Option<Outcome> {
        let mut outcome = self.table().get(&pid)?.outcome.clone();
        let settled = outcome.wait_for(Option::is_some).await.ok()?;
        settled.clone()
    }

    /// Waits for every process that this kernel was given so far.
    pub async fn wait_all(&self) -> Vec<(Pid, Outcome)> {
        let mut pids: Vec<Pid> = self.table().keys().copied().collect();
        pids.sort_unstable();
        let mut outcomes = Vec::with_capacity(pids.len());
        for pid in pids {
            outcomes.extend(self.wait(pid).await.map(|outcome| (pid, outcome)));
        }
        outcomes
    }

    /// Asks the kernel to stop; [`Kernel::wait_all`] waits until it has. A harder stop replaces a
    /// softer one, never the other way round.
    pub fn stop(&self, stop: Stop) {
        self.shared.stop.show(stop, self.shared.parts.clock.monotonic());
    }

    fn refuse_if_stopping(&self) -> Result<(), Error> {
        if self.shared.stop.is_run() { Ok(()) } else { Err(Error::Stopping) }
    }

    fn new_pid(&self) -> Pid {
        let mut random = [0; 10];
        self.shared.parts.random.fill(&mut random);
        Pid::from_parts(self.shared.parts.clock.now().as_millis(), random)
    }

    /// What the manifest asks for. `specs` are the recorded schemas of a process that was spawned
    /// before; a new one takes the tools' own.
    fn find(
        &self,
        manifest: &Manifest,
        model: &str,
        specs: Option<Vec<ToolSpec>>,
    ) -> Result<Found, Error> {
        let parts = &self.shared.parts;
        if !Running::NAMES.contains(&manifest.program.as_str()) {
            return Err(Error::refused(
                Code::KernelUnknownProgram,
                format!(
                    "there is no program {:?}; `program` can be: {}",
                    manifest.program,
                    Running::NAMES.join(", ")
                ),
            ));
        }
        let policy = policy_by_name(&manifest.context.policy).ok_or_else(|| {
            let names: Vec<_> = POLICIES.iter().map(|policy| policy.name()).collect();
            Error::refused(
                Code::Manifest,
                format!(
                    "there is no context policy {:?}; `policy` can be: {}",
                    manifest.context.policy,
                    names.join(", ")
                ),
            )
        })?;
        let model = parts.models.get(model).cloned().ok_or_else(|| {
            Error::refused(
                Code::LlmUnknownModel,
                format!("the model {model:?} is not connected to this kernel"),
            )
        })?;
        let info = model.device.info();
        if let Some(window) = manifest.context.window
            && window > info.window
        {
            return Err(Error::refused(
                Code::Manifest,
                format!(
                    "`window` is {window} tokens, and {} has {}: give at most that, or leave it out",
                    info.name, info.window
                ),
            ));
        }
        let own = manifest.tools.iter().map(|name| {
            parts.tools.get(name).map(|tool| tool.spec().clone()).ok_or_else(|| {
                let names: Vec<_> = parts.tools.keys().map(String::as_str).collect();
                Error::refused(
                    Code::KernelUnknownTool,
                    format!("there is no tool {name:?}; `tools` can name: {}", names.join(", ")),
                )
            })
        });
        let own = own.collect::<Result<Vec<_>, _>>()?;
        let sandbox = (parts.sandbox)(manifest.workspace.as_deref())
            .map_err(|error| Error::refused(Code::ToolWorkspace, error.to_string()))?;
        Ok(Found { model, policy, specs: specs.unwrap_or(own).into(), sandbox })
    }

    fn begin(
        &self,
        pid: Pid,
        request: Spawn,
        specs: &[ToolSpec],
        mut contents: Contents,
    ) -> Result<Process, Error> {
        let Spawn { manifest, model, task, alias, parent } = request;
        let secrets = &self.shared.parts.secrets;
        let json = |value: serde_json::Result<String>| {
            value.map_err(|error| Error::refused(Code::Manifest, error.to_string()))
        };
        let tools =
            if specs.is_empty() { String::new() } else { json(serde_json::to_string(specs))? };
        let manifest_text = json(serde_json::to_string(&manifest))?;
        let sealed = [&manifest_text, &manifest.system, &tools, &task]
            .map(|text| contents.seal(secrets.text(text).into_owned().into_bytes()));
        let [manifest_ref, system, tools, task] = sealed.each_ref().map(|c| c.reference());
        let spawned = Spawned {
            name: manifest.name.clone(),
            alias,
            parent,
            program: manifest.program.clone(),
            model,
            priority: manifest.priority,
            max_steps: manifest.max_steps,
            max_tool_steps: manifest.react.max_tool_steps,
            spend_limit: manifest.spend_limit(),
            manifest: manifest_ref,
            system,
            tools,
            task,
        };
        let tenant: &Tenant = &self.shared.options.tenant;
        let event = Event::new(self.shared.parts.clock.now(), What::Spawned(spawned));
        let record = aosk_abi::Record::seal(tenant, pid, Seq(0), Epoch(1), Hash::ZERO, &event)?;
        let image =
            Image::begin(tenant, pid, &record).map_err(|source| Error::Fold { pid, source })?;
        let mut batch = Batch::new(Hash::ZERO, 0);
        batch.push(record, sealed);
        Ok(Process { image, manifest, contents, batch })
    }

    /// Enters the process into the table and makes its driver.
    fn driver(&self, process: Process, found: Found) -> Result<Registered, Error> {
        let Process { image, manifest, contents, batch } = process;
        let pid = image.pid;
        let (inbox_sender, inbox) = mpsc::unbounded_channel();
        let (outcome_sender, outcome) = watch::channel(None);
        {
            let mut table = self.table();
            if table.get(&pid).is_some_and(|entry| entry.outcome.borrow().is_none()) {
                return Err(Error::refused(
                    Code::KernelNotResumable,
                    format!("process {pid} is running already"),
                ));
            }
            table.insert(pid, Entry { inbox: inbox_sender, outcome });
        }
        self.shared.dispatcher.admit(pid, &image.tenant, image.spawned.priority)?;
        let Found { model, policy, specs, sandbox } = found;
        let driver = Driver::new(Start {
            shared: self.shared.clone(),
            image,
            manifest,
            model,
            policy,
            specs,
            sandbox,
            contents,
            batch,
            inbox,
        });
        Ok(Registered { pid, driver, outcome: outcome_sender })
    }

    /// Drives the process in a task of its own. A panic in it is contained: it ends this
    /// process's run, and the journal still says where to go on.
    fn drive(&self, registered: Registered) {
        let Registered { pid, driver, outcome } = registered;
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let ended = tokio::spawn(driver.run()).await.unwrap_or_else(|error| Outcome::Broken {
                code: Code::KernelPanic,
                message: format!(
                    "the step loop of process {pid} failed inside itself ({error}); its journal \
                     is intact: resume it, and report this"
                ),
            });
            shared.dispatcher.remove(pid);
            outcome.send_replace(Some(ended));
        });
    }

    fn forget(&self, pid: Pid) {
        self.table().remove(&pid);
        self.shared.dispatcher.remove(pid);
    }

    /// Moves items of the inbox to the drivers of their processes until the kernel stops. What is
    /// for a process that does not run here stays in the inbox. An item is shown again until the
    /// append that takes it over is durable; its driver knows which it took.
    async fn deliver_inbox(self) {
        loop {
            let Shared { parts, options, .. } = self.shared.as_ref();
            match parts.store.pending(&options.tenant).await {
                Ok(items) => {
                    let table = self.table();
                    for (pid, id, item) in items {
                        if let Some(entry) = table.get(&pid) {
                            // A driver that is on its way out leaves the item where it is.
                            drop(entry.inbox.send((id, item)));
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot read the inbox"),
            }
            tokio::select! {
                biased;
                () = self.shared.stop.wait(false) => return,
                () = parts.clock.sleep(options.inbox_poll) => {}
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Pid, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A driver whose process is in the table.
struct Registered {
    pid: Pid,
    driver: Driver,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Registered {
    async fn committed(mut self) -> Result<Self, Error> {
        self.driver.commit().await?;
        Ok(self)
    }
}

fn read<T: serde::de::DeserializeOwned>(
    contents: &Contents,
    hash: &Hash,
    pid: Pid,
    what: &str,
) -> Result<T, Error> {
    let bytes = contents.bytes(hash).map(AsRef::as_ref).unwrap_or_default();
    serde_json::from_slice(bytes).map_err(|error| {
        let message = format!("the recorded {what} of process {pid} cannot be read: {error}");
        Error::Store(StoreError::new(Code::StoreCorrupt, message))
    })
}
