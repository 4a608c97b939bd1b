//! Stays in memory: how a process comes in, is driven, and leaves again.

use std::time::Duration;

use aosk_abi::{
    BlockedOn, Code, Epoch, Hash, Manifest, MicroDollars, Pid, ProcessState, Recovered, Seq,
    Signal, SignalReceived, SpendRaised, ToolSpec, Unblocked, What,
};
use aosk_ports::StoreError;
use tokio::sync::{mpsc, watch};

use super::Kernel;
use super::crash::{contained, panicked, why};
use super::table::{Entry, Herald, Stay};
use crate::contents::Contents;
use crate::driver::{Driver, Ended, InboxReceiver, Means, Outcome, left_of};
use crate::errands::Errand;
use crate::error::Error;
use crate::flight::Recorded;
use crate::load::load_from;
use crate::process::{Process, Rest};
use crate::shared::Shared;

/// How long a sleeper keeps its account with the scheduler. After that the queue has advanced past
/// what it owed or had coming.
const ACCOUNT_KEPT: Duration = Duration::from_secs(60);

impl Kernel {
    /// Puts a process into the line for a place in memory, or right into one that is free, unless
    /// the kernel stops.
    pub(super) fn line_up(&self, pid: Pid, stay: Stay) {
        {
            let mut table = self.table();
            let herald = match table.get(pid) {
                Some(Entry::Driven { .. } | Entry::Lined { .. }) => return,
                // Asked with the table in hand: what stands in it when a stop is shown is let go.
                _ if !self.shared.stop.is_run() => return,
                known => herald_of(known),
            };
            table.set(pid, Entry::Lined { stay, herald });
        }
        self.fill_places();
    }

    /// Brings processes of the line into the places that are free.
    pub(super) fn fill_places(&self) {
        if !self.shared.stop.is_run() {
            return;
        }
        let mut table = self.table();
        while let Some((pid, stay, herald)) = table.next_in_line() {
            let (sender, inbox) = mpsc::unbounded_channel();
            table.set(pid, Entry::Driven { inbox: sender, herald });
            tokio::spawn(self.clone().come_in(pid, stay, inbox));
        }
        self.count_line(&table);
    }

    /// Reads a process back and drives it. A panic on the way is contained as one in its driver is.
    async fn come_in(self, pid: Pid, stay: Stay, inbox: InboxReceiver) {
        let mut epoch = stay.epoch;
        let recorder = self.shared.parts.recorder.clone();
        let read = Recorded::new(self.bring_in(pid, &mut epoch, stay, inbox), recorder, pid);
        let ended = match contained(read).await {
            Ok(Ok(Ok(driver))) => return self.accompany(driver).await,
            Ok(Ok(Err(outcome))) => outcome,
            Ok(Err(Error::Stopping)) => Outcome::Stopped,
            Ok(Err(error)) => Outcome::broken(&error),
            Err(panic) => {
                // What it had sent may be under way, so it is claimed before it is read again.
                epoch = None;
                Outcome::broken(&panicked(pid, &panic))
            }
        };
        self.settle(pid, epoch, Ended::Outcome(ended));
    }

    /// A driver for a process as its journal has it, or what the process rests for. What waits for
    /// it is taken first: that may end it, and needs no model. `epoch` is the one under which it is
    /// owned, also where this fails.
    async fn bring_in(
        &self,
        pid: Pid,
        epoch: &mut Option<Epoch>,
        stay: Stay,
        mut inbox: InboxReceiver,
    ) -> Result<Result<Driver, Outcome>, Error> {
        let mut process = self.load(pid, stay.epoch).await?;
        *epoch = Some(process.image.epoch);
        // What was seen before the process was this kernel's alone may be in its journal by now.
        self.table().touch(pid);
        while inbox.try_recv().is_ok() {}
        for (id, item) in self.shared.waits_for(&process.image).await? {
            process.take(id, item)?;
        }
        // What it heard is written down even where it cannot be driven.
        process.commit().await?;
        self.shared.end_children(&process.image).await;
        if let Some(rest) = process.rest() {
            return Ok(Err(rest.into()));
        }
        let means = self.means(&mut process).await?;
        Ok(Ok(Driver::new(process, means, inbox, stay.waited)))
    }

    /// Runs a driver in a task of its own. A panic in it is contained: it ends this process's stay,
    /// is written down, and the process is taken up again where its journal says, until it has
    /// crashed so often that a person has to look at it.
    pub(super) async fn accompany(self, driver: Driver) {
        let (pid, epoch, sent) = (driver.pid(), driver.epoch(), driver.sent());
        let run = Recorded::new(driver.run(), self.shared.parts.recorder.clone(), pid);
        let ended = match tokio::spawn(run).await {
            Ok(ended) => ended,
            Err(error) => {
                let noted = contained(self.note_crash(pid, epoch, &sent, &why(error))).await;
                match noted.unwrap_or_else(|panic| Err(panicked(pid, &panic))) {
                    Ok(Some(rest)) => Ended::Outcome(rest.into()),
                    Ok(None) => Ended::Yielded,
                    Err(error) => Ended::Outcome(Outcome::broken(&error)),
                }
            }
        };
        self.settle(pid, Some(epoch), ended);
    }

    /// Enters what became of a stay, and gives the place to the next.
    pub(super) fn settle(&self, pid: Pid, epoch: Option<Epoch>, ended: Ended) {
        // An append that failed may have been written all the same, and with it an end.
        if let Ended::Outcome(Outcome::Exited(_) | Outcome::Broken { .. }) = &ended {
            self.shared.errands.ended(pid);
        }
        // Whom it has something for comes first: else it might look as if nothing ran any more.
        self.run_errands();
        let mut table = self.table();
        let Some(Entry::Driven { herald, .. }) = table.remove(pid) else {
            return;
        };
        let ended = match ended {
            Ended::Asleep(..) | Ended::Waiting(_) | Ended::Yielded
                if !self.shared.stop.is_run() =>
            {
                Ended::Outcome(Outcome::Stopped)
            }
            ended => ended,
        };
        match ended {
            Ended::Asleep(left, until) => {
                let due = self.shared.parts.clock.monotonic().saturating_add(left);
                // What nobody waits for and what no longer counts is not kept: of ten thousand
                // sleepers it would be most of the memory.
                let herald = (herald.receiver_count() > 0).then_some(herald);
                if left >= ACCOUNT_KEPT {
                    self.shared.dispatcher.dismiss(pid);
                }
                table.set(pid, Entry::Asleep { epoch, until, due, herald });
                self.nudge.notify_one();
            }
            Ended::Waiting(on) => {
                let herald = Some(herald);
                table.set(pid, Entry::Waiting { epoch, on, herald });
            }
            Ended::Yielded => {
                let stay = Stay { epoch, waited: None };
                table.set(pid, Entry::Lined { stay, herald });
            }
            Ended::Outcome(outcome) => {
                match &outcome {
                    Outcome::Parked(_) | Outcome::Suspended => {
                        table.set(pid, Entry::Resting { epoch });
                    }
                    Outcome::Broken { code, message } => {
                        tracing::warn!(%pid, %code, "cannot go on with the process: {message}");
                        let outcome = Box::new(outcome.clone());
                        table.set(pid, Entry::Broken { epoch, outcome });
                    }
                    Outcome::Exited(_) | Outcome::Stopped => {}
                }
                self.shared.dispatcher.take_back(pid);
                match &outcome {
                    Outcome::Exited(_) => self.shared.dispatcher.remove(pid),
                    _ => self.shared.dispatcher.dismiss(pid),
                }
                herald.send_replace(Some(outcome));
            }
        }
        drop(table);
        if self.shared.errands.has_news(pid) {
            self.shared.errands.leave(Errand::Look(pid));
        }
        self.run_errands();
        self.fill_places();
        let given_up = self.table().given_up();
        for (herald, on) in given_up {
            herald.send_replace(Some(Outcome::Parked(on)));
        }
        self.settled.notify_waiters();
    }

    /// Brings in those who have something to look at, or to begin with.
    pub(super) fn run_errands(&self) {
        for errand in self.shared.errands.collect() {
            let (Errand::Look(pid) | Errand::Begin(pid, _)) = errand;
            let epoch = match (self.table().get(pid), errand) {
                (
                    Some(
                        Entry::Asleep { epoch, .. }
                        | Entry::Waiting { epoch, .. }
                        | Entry::Resting { epoch },
                    ),
                    _,
                ) => *epoch,
                (None, Errand::Begin(_, epoch)) => epoch,
                _ => continue,
            };
            self.line_up(pid, Stay { epoch, waited: None });
        }
    }

    /// Enters a process that waits for a moment which is not near, without reading it back, unless
    /// the kernel stops; whether it is one. Without an epoch it is taken over when it wakes.
    pub(super) fn lay_to_sleep(
        &self,
        pid: Pid,
        epoch: Option<Epoch>,
        state: &ProcessState,
    ) -> bool {
        let ProcessState::Blocked { on: BlockedOn::Timer { until }, since } = state else {
            return false;
        };
        let clock = &self.shared.parts.clock;
        let left = left_of(*until, *since, clock.now());
        if left < self.shared.options.rest_after {
            return false;
        }
        let due = clock.monotonic().saturating_add(left);
        let mut table = self.table();
        if self.shared.stop.is_run() {
            table.set(pid, Entry::Asleep { epoch, until: *until, due, herald: None });
            self.nudge.notify_one();
        }
        true
    }

    /// A process as its journal has it, owned under `epoch`; without one it is taken over, after
    /// the flight recorder was heard.
    pub(super) async fn load(&self, pid: Pid, epoch: Option<Epoch>) -> Result<Process, Error> {
        if epoch.is_none() {
            self.hear_recorder().await;
        }
        self.take_in(pid, epoch).await
    }

    pub(super) async fn take_in(&self, pid: Pid, epoch: Option<Epoch>) -> Result<Process, Error> {
        let Shared { parts, options, .. } = self.shared.as_ref();
        let tenant = &options.tenant;
        self.shared.leased().await?;
        // Fenced before it is read: what the last owner still appends would be missing here.
        let epoch = match epoch {
            Some(epoch) => epoch,
            None => {
                let there = parts.store.process(tenant, pid).await?;
                // A process that is not there has no epoch; the claim says so.
                let read = there.map_or(Epoch(1), |there| there.epoch);
                if let Some(owner) = parts.store.elsewhere(tenant, pid).await? {
                    return Err(owned(pid, &owner));
                }
                parts.store.claim(tenant, pid, read).await?
            }
        };
        let mut loaded = load_from(parts.store.as_ref(), tenant, pid, None).await?;
        let image = &mut loaded.image;
        let contents = Contents::new(parts.store.content_key(tenant).await?);
        let from = std::mem::replace(&mut image.epoch, epoch);
        let ended = image.state.is_final();
        let mut process = Process::new(self.shared.clone(), loaded, contents);
        // It was claimed, here or in a batch, and its journal does not say so yet.
        if from != epoch && !ended {
            let instance = options.instance.clone();
            process.emit(What::Recovered(Recovered { from, instance }))?;
        }
        Ok(process)
    }

    /// What the process's recorded manifest asks for.
    pub(super) async fn means(&self, process: &mut Process) -> Result<Means, Error> {
        let Shared { parts, options, .. } = self.shared.as_ref();
        let (pid, spawned) = (process.pid(), &process.image.spawned);
        let settings = [(Seq(0), spawned.manifest), (Seq(0), spawned.tools)];
        process
            .contents
            .load(parts.store.as_ref(), &options.tenant, pid, settings.into_iter())
            .await?;
        let (known, spawned) = (&process.contents, &process.image.spawned);
        let manifest: Manifest = recorded(known, pid, &spawned.manifest.hash, "manifest")?;
        let specs: Vec<ToolSpec> = match spawned.tools.len {
            0 => Vec::new(),
            _ => recorded(known, pid, &spawned.tools.hash, "tools")?,
        };
        self.shared.find(&manifest, &process.image.model, Some(specs)).await
    }
}

/// Those who wait for the process go on waiting; of one that nobody can wait for, a new herald.
pub(super) fn herald_of(entry: Option<&Entry>) -> Herald {
    match entry {
        Some(
            Entry::Asleep { herald: Some(herald), .. }
            | Entry::Waiting { herald: Some(herald), .. },
        ) => herald.clone(),
        _ => watch::channel(None).0,
    }
}

/// Brings a process to go on that rests, as its owner asks.
pub(super) fn go_on(process: &mut Process, raise: Option<MicroDollars>) -> Result<(), Error> {
    if let ProcessState::Exited { exit } = &process.image.state {
        return Err(Error::refused(
            Code::KernelNotResumable,
            format!("process {} has ended ({}); start a new one", process.pid(), exit.name()),
        ));
    }
    if let Some(limit) = raise {
        process.emit(What::SpendRaised(SpendRaised { limit }))?;
    }
    match &process.image.state {
        ProcessState::Suspended { .. } => {
            process.emit(What::SignalReceived(SignalReceived { signal: Signal::Cont }))
        }
        ProcessState::Blocked {
            on:
                BlockedOn::Quota { .. }
                | BlockedOn::Review { .. }
                | BlockedOn::Limit { until: None, .. },
            ..
        } => process.emit(What::Unblocked(Unblocked {})),
        _ => Ok(()),
    }
}

/// What a process rests for in that state, as those who wait for it hear it.
pub(super) fn resting(state: &ProcessState) -> Option<Outcome> {
    Rest::of(state).map(Into::into)
}

impl From<Rest> for Outcome {
    fn from(rest: Rest) -> Self {
        match rest {
            Rest::Exited(exit) => Self::Exited(exit),
            Rest::Suspended => Self::Suspended,
            Rest::Parked(on) => Self::Parked(on),
        }
    }
}

/// The error for a process that another node of the store works on.
fn owned(pid: Pid, owner: &str) -> Error {
    Error::refused(
        Code::StoreOwned,
        format!(
            "process {pid} belongs to another node of this store, {owner}, which goes on with it; \
             signals and messages reach it there"
        ),
    )
}

pub(super) fn running(pid: Pid) -> Error {
    Error::refused(Code::KernelNotResumable, format!("process {pid} is running already"))
}

/// What a process was spawned with, as a content of its journal says.
pub(super) fn recorded<T: serde::de::DeserializeOwned>(
    contents: &Contents,
    pid: Pid,
    hash: &Hash,
    what: &str,
) -> Result<T, Error> {
    let bytes = contents.bytes(hash).map(AsRef::as_ref).unwrap_or_default();
    serde_json::from_slice(bytes).map_err(|error| {
        let message = format!("the recorded {what} of process {pid} cannot be read: {error}");
        Error::Store(StoreError::new(Code::StoreCorrupt, message))
    })
}
