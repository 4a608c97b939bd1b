//! The kernel: a table of processes and the door through which they come in.

mod crash;
mod delivery;
mod kin;
mod lineage;
mod node;
mod quota;
mod restored;
mod seat;
mod spawn;
mod stay;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aosk_abi::{Code, Manifest, MicroDollars, Pid};
use aosk_ports::ProcessFilter;
use tokio::sync::{Notify, OnceCell, mpsc};

use crate::books::Books;
use crate::budget::Budget;
use crate::contents::Contents;
use crate::dispatch::Dispatcher;
use crate::driver::{Driver, Ended, Outcome};
use crate::errands::Errands;
use crate::error::Error;
use crate::options::{Options, Parts};
use crate::shared::{Shared, Stop, StopSign};

pub use spawn::Spawn;
pub(crate) use spawn::heir;

use stay::resting;
use table::{Ending, Entry, Stay, Table};

/// A running kernel. Cheap to clone; all clones are one kernel.
#[derive(Clone)]
pub struct Kernel {
    shared: Arc<Shared>,
    table: Arc<Mutex<Table>>,
    /// Woken when something may have come into the inbox, or an alarm was set.
    nudge: Arc<Notify>,
    /// Woken when a process leaves memory.
    settled: Arc<Notify>,
    /// Set when what an earlier kernel's flight recorder tells was written down.
    accused: Arc<OnceCell<()>>,
}

impl Kernel {
    /// Starts a kernel. It must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is no place in memory, a device has no slots or is given
    /// with two numbers of them, or a weight or quota is out of range.
    pub fn start(parts: Parts, options: Options) -> Result<Self, Error> {
        if options.resident == 0 {
            return Err(Error::refused(
                Code::KernelSetup,
                "`resident` is 0: a kernel with no place in memory runs nothing; give at least 1",
            ));
        }
        let mut infos: Vec<_> = parts.models.values().map(|model| model.device.info()).collect();
        infos.sort_unstable_by_key(|info| (&info.name, info.slots));
        let (clock, observer) = (parts.clock.clone(), parts.observer.clone());
        let dispatcher = Dispatcher::new(clock, observer, &options.sharing, infos.into_iter())?;
        let budget = Budget::new(options.spend_limit);
        let source = (parts.clock.clone(), parts.random.clone());
        let tenant = options.tenant.clone();
        let books = Books::new(parts.store.clone(), source, dispatcher.clone(), tenant);
        let table = Arc::new(Mutex::new(Table::new(options.resident)));
        let (stop, lined) = (StopSign::new(), std::sync::atomic::AtomicUsize::new(0));
        let models = Mutex::new(parts.models.clone());
        let errands = Errands::default();
        let shared = Arc::new(Shared {
            parts,
            options,
            models,
            dispatcher,
            budget,
            books,
            errands,
            kv_slots: Arc::default(),
            stop,
            lined,
        });
        let (nudge, settled, accused) = (Arc::default(), Arc::default(), Arc::default());
        let kernel = Self { shared, table, nudge, settled, accused };
        if kernel.shared.parts.store.others().is_some() {
            tokio::spawn(kernel.clone().watch_lease());
        }
        tokio::spawn(kernel.clone().deliver());
        Ok(kernel)
    }

    /// Whether the manifest could be spawned with that model, without spawning it. A run of many
    /// agents asks this for each before it begins with the first.
    ///
    /// # Errors
    /// [`Error::Refused`] as [`Kernel::spawn`] does.
    pub async fn check(&self, manifest: &Manifest, model: &str) -> Result<(), Error> {
        self.shared.find(manifest, model, None).await.map(drop)
    }

    /// Begins a process. When this returns, the process is durable and runs, or stands in line
    /// where [`Options::resident`] others do.
    ///
    /// # Errors
    /// [`Error::Refused`] where the request names a program, model, tool or workspace that there
    /// is not, a value out of range, more than the model takes, or an empty task; [`Error::Store`] where it cannot be written down.
    pub async fn spawn(&self, request: Spawn) -> Result<Pid, Error> {
        self.refuse_if_stopping()?;
        self.shared.leased().await?;
        let means = self.shared.find(&request.manifest, &request.model, None).await?;
        if request.task.trim().is_empty() {
            return Err(Error::refused(
                Code::KernelTask,
                "the task is empty: say what the agent shall do",
            ));
        }
        let parts = &self.shared.parts;
        let contents = Contents::new(parts.store.content_key(&self.shared.options.tenant).await?);
        let pid = match &request.alias {
            Some(alias) => Pid::from_alias(alias),
            None => self.shared.new_pid(),
        };
        let limit = request.manifest.spend_limit();
        let mut process = self.shared.begin(pid, request, limit, &means.specs, contents)?;
        let (sender, inbox) = mpsc::unbounded_channel();
        let seat = self.seat(pid, sender)?;
        process.commit().await?;
        seat.keep();
        if self.table().is_overfull() {
            self.settle(pid, Some(process.image.epoch), Ended::Yielded);
        } else {
            tokio::spawn(self.clone().accompany(Driver::new(process, means, inbox, None)));
        }
        Ok(pid)
    }

    /// Takes an unfinished process over and goes on with it where it stands, whether or not there
    /// is a place in memory. `raise` is a new spend limit. A suspended process is continued; one
    /// that waits for a higher spend limit tries again.
    ///
    /// # Errors
    /// [`Error::Refused`] where it has ended or runs already, here or on another node, or needs a model or tool that there
    /// is not; [`Error::Store`] or [`Error::Fold`] where its journal cannot be read.
    pub async fn resume(&self, pid: Pid, raise: Option<MicroDollars>) -> Result<(), Error> {
        self.refuse_if_stopping()?;
        let (sender, mut inbox) = mpsc::unbounded_channel();
        // Entered before it is claimed: nobody else may bring it in meanwhile, whom the claim would
        // cut off.
        let seat = self.seat(pid, sender)?;
        let mut process = self.load(pid, seat.epoch()).await?;
        // What was seen before may be in the journal by now; if not, it is shown again.
        self.table().touch(pid);
        while inbox.try_recv().is_ok() {}
        stay::go_on(&mut process, raise)?;
        let means = self.means(&mut process).await?;
        seat.keep();
        tokio::spawn(self.clone().accompany(Driver::new(process, means, inbox, None)));
        Ok(())
    }

    /// Takes over every unfinished process of the tenant that has something to do, as places in
    /// memory become free, and answers which. Those that wait for something from outside are left
    /// alone until it comes. What keeps one from going on is its [`Outcome`]. On a store of several
    /// nodes what a living one owns stays with it.
    ///
    /// # Errors
    /// [`Error::Stopping`]; [`Error::Store`] where the processes cannot be listed.
    pub async fn recover(&self) -> Result<Vec<Pid>, Error> {
        self.refuse_if_stopping()?;
        self.hear_recorder().await;
        let store = &self.shared.parts.store;
        let tenant = &self.shared.options.tenant;
        if store.others().is_some() {
            let mut recovered = Vec::new();
            loop {
                let (begun, more) = self.adopt().await?;
                recovered.extend(begun);
                if !more {
                    return Ok(recovered);
                }
            }
        }
        let unfinished = store.processes(tenant, ProcessFilter::Unfinished).await?;
        let mut recovered = Vec::new();
        for receipt in unfinished {
            let state = &receipt.row.state;
            if resting(state).is_some() || self.table().get(receipt.pid).is_some() {
                continue;
            }
            if !self.lay_to_sleep(receipt.pid, None, state) {
                self.line_up(receipt.pid, Stay::TAKE_OVER);
            }
            recovered.push(receipt.pid);
        }
        Ok(recovered)
    }

    /// Takes up what waits for a process in the inbox, whether or not this kernel
    /// [adopts](Options::adopts) others. It goes on only where it can: a process that a signal ends
    /// or suspends needs no model for that.
    pub fn attend(&self, pid: Pid) {
        let epoch = match self.table().get(pid) {
            Some(Entry::Driven { .. } | Entry::Lined { .. }) => return,
            Some(
                Entry::Asleep { epoch, .. }
                | Entry::Waiting { epoch, .. }
                | Entry::Resting { epoch },
            ) => *epoch,
            Some(Entry::Broken { .. }) | None => None,
        };
        self.line_up(pid, Stay { epoch, waited: None });
    }

    /// Waits until the kernel lets go of the process and says why; `None` for one that is not
    /// there, or that no kernel has taken up since it was cut off.
    pub async fn wait(&self, pid: Pid) -> Option<Outcome> {
        let ending = self.table().ending(pid);
        match ending {
            Some(Ending::Known(outcome)) => return Some(outcome),
            Some(Ending::Ahead(mut outcome)) => {
                return outcome.wait_for(Option::is_some).await.ok()?.clone();
            }
            None => {}
        }
        let Shared { parts, options, .. } = self.shared.as_ref();
        match parts.store.process(&options.tenant, pid).await {
            Ok(receipt) => {
                let stopped = (!self.shared.stop.is_run()).then_some(Outcome::Stopped);
                resting(&receipt?.row.state).or(stopped)
            }
            Err(error) => Some(Outcome::broken(&error.into())),
        }
    }

    /// Waits for each of these processes as [`Kernel::wait`] does, in the same order.
    pub async fn wait_each(&self, pids: &[Pid]) -> Vec<(Pid, Outcome)> {
        let mut outcomes = Vec::with_capacity(pids.len());
        for &pid in pids {
            outcomes.extend(self.wait(pid).await.map(|outcome| (pid, outcome)));
        }
        outcomes
    }

    /// Waits until no process runs, stands in line or waits for a moment. A kernel that was asked to
    /// stop then gives back what it had drawn of budgets and not spent.
    pub async fn quiet(&self) {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            if self.table().is_quiet() {
                break;
            }
            settled.await;
        }
        if !self.shared.stop.is_run()
            && let Err(error) = self.shared.books.close().await
        {
            tracing::warn!(%error, "what was drawn of a budget stays spent until its window ends");
        }
    }

    /// Whether no process runs, stands in line or waits for a moment.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.table().is_quiet()
    }

    /// How many processes are in memory.
    #[must_use]
    pub fn residents(&self) -> usize {
        self.table().residents()
    }

    /// The first `limit` processes, by pid, that the kernel could not go on with, each with the
    /// code and the words of why.
    #[must_use]
    pub fn broken(&self, limit: usize) -> Vec<(Pid, Code, String)> {
        self.table().broken(limit)
    }

    /// Looks at the inbox now: something was posted.
    ///
    /// # Errors
    /// [`Error::Stopping`]: this kernel takes nothing up any more, and what was posted waits for the
    /// next one.
    pub fn nudge(&self) -> Result<(), Error> {
        self.refuse_if_stopping()?;
        self.nudge.notify_one();
        Ok(())
    }

    /// Asks the kernel to stop; [`Kernel::quiet`] waits until it has. A harder stop replaces a
    /// softer one, never the other way round.
    pub fn stop(&self, stop: Stop) {
        self.shared.stop.show(stop, self.shared.parts.clock.monotonic());
        if stop != Stop::Run {
            // Those that are not in memory stop by never coming back into it.
            let waiting = self.table().dismiss_waiting();
            for (pid, herald) in waiting {
                self.shared.dispatcher.dismiss(pid);
                if let Some(herald) = herald {
                    herald.send_replace(Some(Outcome::Stopped));
                }
            }
            self.settled.notify_waiters();
        }
    }

    fn refuse_if_stopping(&self) -> Result<(), Error> {
        if self.shared.stop.is_run() { Ok(()) } else { Err(Error::Stopping) }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the number that drivers look at.
    fn count_line(&self, table: &Table) {
        self.shared.lined.store(table.waiting(), std::sync::atomic::Ordering::Relaxed);
    }
}
