//! The queue in front of the devices.
//!
//! The scheduler decides; this keeps who waits for its decision and wakes them. A turn that is
//! dropped leaves the queue, a slot that is dropped frees its place, so neither a killed process
//! nor a panic can leak capacity.
//!
//! A call reserves what it may take of every quota on its way when it gets its slot, before its
//! prompt is planned: to plan first would show the model what was true when it came into the queue.
//! So what is reserved is an upper estimate, and a plan that turns out larger goes back into the
//! queue with its own size.

mod flow;
mod health;
mod lending;
mod purse;
mod quota;
mod reading;
mod route;
mod share;
mod slot;
mod standing;
mod tuning;
mod window;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use aosk_abi::{BlockedOn, BudgetWarned, Code, Limits, Pid, Priority, Scarce, Sharing, Tuned};
use aosk_ports::{Clock, Device, DeviceInfo, ServerLoad};
use aosk_scheduler::{
    Amounts, Guess, Lengths, Owner, Place, PoolId, Resource, Scheduler, Short, Step, Units, Wait,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::health::Health;
use self::lending::Lending;
use self::reading::Reading;
use crate::error::Error;
use crate::observe::Observer;
use purse::Purses;
use standing::Given;
use tuning::Tuning;

pub(crate) use purse::Purse;
pub(crate) use route::{Candidate, choose};
pub(crate) use slot::{Ear, Slot};
pub(crate) use window::window;

/// How many calls of the model's default output, a quarter each, are believed of a device that
/// has not answered yet.
const PRIOR_WORTH: u64 = 4;

/// How many calls a device is given at once before it has said anything: of two hundred that came
/// together, a limit of forty refused seventy that it would have told of.
const BEFORE_IT_SPOKE: usize = 8;

/// Hands out the devices' slots.
pub(crate) struct Dispatcher {
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    sharing: Mutex<Sharing>,
    queue: Mutex<Queue>,
    itself: Weak<Self>,
}

struct Queue {
    scheduler: Scheduler<Pid>,
    devices: HashMap<String, Pool>,
    /// By the numbers of the pools.
    names: Vec<String>,
    waiting: HashMap<Pid, Waiting>,
    lending: Lending,
    purses: Purses,
    alarm: Option<Duration>,
    /// Warnings that stand in no journal yet, and in whose they belong.
    warned: Vec<(Pid, BudgetWarned)>,
    /// Settings that were chosen and stand in no journal yet, and in whose they belong.
    tuned: Vec<(Pid, Tuned)>,
}

/// A wish for a call.
struct Waiting {
    ask: Ask,
    since: Duration,
    grant: oneshot::Sender<Slot>,
}

/// What is known of a device.
struct Pool {
    id: PoolId,
    slots: usize,
    /// Whether it has answered anything yet.
    spoke: bool,
    /// How long its replies were, in tokens.
    outputs: Lengths,
    /// What moves its setting, where it shall be moved.
    tuning: Option<Tuning>,
    given: Given,
    health: Health,
    reading: Reading,
}

/// What a process asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    /// How many tokens probably go in.
    pub(crate) input: u64,
    /// The most that the call can take of quotas.
    pub(crate) most: Amounts,
    /// When the call should begin, from now.
    pub(crate) deadline: Option<Duration>,
}

/// A process's wait for its turn.
pub(crate) struct Turn {
    dispatcher: Arc<Dispatcher>,
    pid: Pid,
    granted: oneshot::Receiver<Slot>,
}

/// Why a process waits, and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// As everybody sees it.
    pub(crate) on: BlockedOn,
    /// Until there is room; `None` where no time makes room.
    pub(crate) left: Option<Duration>,
}

/// One from whom a process descends, and what it may use; `None` where the scheduler knew it.
pub(crate) type Above = (Pid, Option<Limits>);

impl Dispatcher {
    pub(crate) fn new<'a>(
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
        sharing: &Sharing,
        devices: impl Iterator<Item = &'a DeviceInfo>,
    ) -> Result<Arc<Self>, Error> {
        let mut scheduler = Scheduler::new();
        share::tenants(&mut scheduler, sharing, now_of(clock.as_ref()))?;
        let queue = Queue {
            scheduler,
            devices: HashMap::new(),
            names: Vec::new(),
            waiting: HashMap::new(),
            lending: Lending::default(),
            purses: Purses::default(),
            alarm: None,
            warned: Vec::new(),
            tuned: Vec::new(),
        };
        let dispatcher = Arc::new_cyclic(|itself| Self {
            clock,
            observer,
            sharing: Mutex::new(sharing.clone()),
            queue: Mutex::new(queue),
            itself: itself.clone(),
        });
        for info in devices {
            dispatcher.add(info)?;
        }
        Ok(dispatcher)
    }

    /// Adds a device, if it is not there.
    pub(crate) fn add(&self, info: &DeviceInfo) -> Result<(), Error> {
        let (name, slots) = (info.name.as_str(), info.slots);
        let refused = |why: String| {
            let message = format!("the device {name:?} cannot be used: {why}");
            Err(Error::refused(Code::KernelSetup, message))
        };
        let mut queue = self.lock();
        match queue.devices.get(name) {
            Some(known) if known.slots == slots => Ok(()),
            Some(known) => refused(format!(
                "it is given with {} slots and with {slots}; one name stands for one endpoint",
                known.slots
            )),
            None if slots == 0 => refused("it has no slots; give it at least 1".to_owned()),
            None => {
                let spec = self.sharing().pools.get(name).cloned().unwrap_or_default();
                let few = DeviceInfo { slots: slots.min(BEFORE_IT_SPOKE), ..info.clone() };
                let now = now_of(&*self.clock);
                let (id, tuner) = share::pool(&mut queue.scheduler, &few, &spec, now)?;
                queue.names.push(name.to_owned());
                queue.devices.insert(
                    name.to_owned(),
                    Pool {
                        id,
                        slots,
                        spoke: false,
                        outputs: Lengths::default(),
                        tuning: tuner.map(Tuning::new),
                        given: Given::default(),
                        health: Health::default(),
                        reading: Reading::default(),
                    },
                );
                Ok(())
            }
        }
    }

    /// Makes a process known, if it is not, with those from whom it descends, the parent first; whether
    /// all of them were known that were said to be.
    pub(crate) fn admit(
        &self,
        pid: Pid,
        place: &Place,
        limits: &Limits,
        above: &[Above],
    ) -> Result<bool, Error> {
        let now = now_of(&*self.clock);
        let queue = &mut *self.lock();
        if above.iter().any(|(pid, known)| known.is_none() && !queue.scheduler.has_kin(pid)) {
            return Ok(false);
        }
        queue.settle(|lending| lending.take_back(pid));
        let priority = queue.lending.own(pid, place.priority);
        let place = Place { priority, ..place.clone() };
        let quota = |limits: &Option<Limits>| share::quota(&limits.unwrap_or_default(), now);
        let stood = queue.scheduler.has_kin(&pid);
        let ancestors: Vec<_> = above.iter().map(|(pid, limits)| (*pid, quota(limits))).collect();
        match queue.scheduler.admit_under(pid, &place, &ancestors) {
            Ok(()) => {
                share::limit(&mut queue.scheduler, &Owner::Process(pid), limits, "quota", now)?;
                let new = above.iter().filter_map(|(pid, limits)| Some((*pid, (*limits)?, true)));
                for (pid, limits, is_new) in new.chain([(pid, *limits, !stood)]) {
                    queue.purses.set(pid, &limits, is_new, &queue.scheduler);
                }
            }
            // A sleeper keeps its account.
            Err(aosk_scheduler::Error::AlreadyAdmitted(_)) => {
                queue.scheduler.renice(&pid, priority).map_err(bug)?;
            }
            Err(error) => {
                let message = format!("process {pid} cannot be scheduled: {error}");
                return Err(Error::refused(Code::KernelSetup, message));
            }
        }
        Ok(true)
    }

    /// Whether the process is known, or one that descends from it.
    pub(crate) fn has_kin(&self, pid: Pid) -> bool {
        self.lock().scheduler.has_kin(&pid)
    }

    /// Changes how important a process is, if it is known.
    pub(crate) fn renice(&self, pid: Pid, priority: Priority) {
        let mut queue = self.lock();
        if queue.scheduler.place(&pid).is_some() {
            let priority = queue.lending.own(pid, priority);
            // One that is unknown is admitted with what its journal says.
            drop(queue.scheduler.renice(&pid, priority));
        }
    }

    /// The process waits for those, who are as important as it is meanwhile.
    pub(crate) fn lend(&self, waiter: Pid, priority: Priority, to: &[Pid]) {
        self.lock().settle(|lending| lending.lend(waiter, priority, to));
    }

    /// The process waits for nobody any more.
    pub(crate) fn take_back(&self, waiter: Pid) {
        self.lock().settle(|lending| lending.take_back(waiter));
    }

    /// Forgets a process that has ended.
    pub(crate) fn remove(&self, pid: Pid) {
        let mut queue = self.forget(pid);
        // An unknown process is what is wanted.
        drop(queue.scheduler.remove(&pid));
    }

    /// Forgets a process that may come back, but not what it used of its quota.
    pub(crate) fn dismiss(&self, pid: Pid) {
        let mut queue = self.forget(pid);
        drop(queue.scheduler.dismiss(&pid));
    }

    fn forget(&self, pid: Pid) -> MutexGuard<'_, Queue> {
        let mut queue = self.lock();
        queue.lending.forget(pid);
        queue.warned.retain(|(whose, _)| *whose != pid);
        queue.tuned.retain(|(whose, _)| *whose != pid);
        queue
    }

    /// Puts the process into the queue of a device. The inner error is what it waits for that no
    /// time brings: its call is larger than a whole window of a quota.
    pub(crate) fn queue(
        self: &Arc<Self>,
        pid: Pid,
        device: &str,
        ask: Ask,
    ) -> Result<Result<Turn, Held>, Error> {
        let (grant, granted) = oneshot::channel();
        let now = self.clock.monotonic();
        {
            let mut queue = self.lock();
            let pool = queue.device(device)?;
            let prior = ask.most.output.0 / 4;
            let guess = pool.tuning.as_ref().map_or_else(Guess::default, Tuning::guess);
            let output = pool.outputs.next(guess, prior, PRIOR_WORTH);
            let estimate = ask.input.saturating_add(output);
            let step = Step {
                estimate: Units(estimate),
                most: ask.most,
                deadline: ask.deadline.map(|deadline| now.saturating_add(deadline)),
                warm: None,
            };
            let id = pool.id;
            match queue.scheduler.wake(&pid, id, step, now) {
                Ok(()) => {}
                Err(error) => {
                    let never = queue.scheduler.never_fits(&pid, id, &ask.most);
                    let (owner, resource) = never.ok_or_else(|| bug(error))?;
                    let (owner, scarce) = (queue.owner(&owner, pid), scarce(resource));
                    let on = BlockedOn::Limit { owner, scarce, until: None };
                    return Ok(Err(Held { on, left: None }));
                }
            }
            queue.waiting.insert(pid, Waiting { ask, since: now, grant });
        }
        self.pump();
        Ok(Ok(Turn { dispatcher: self.clone(), pid, granted }))
    }

    /// What keeps a process that waits for its turn; `None` where that is only its turn, or a free
    /// slot.
    pub(crate) fn held(&self, pid: Pid) -> Option<Held> {
        let queue = self.lock();
        let (owner, short) = match queue.scheduler.waits_for(&pid)? {
            Wait::Turn { .. } => return None,
            Wait::Quota { short: Short { resource: Resource::Concurrency, .. }, .. } => {
                return None;
            }
            Wait::Quota { owner, short } => (owner, Some(short)),
            Wait::Pause { pool, until } => {
                let left = until.saturating_sub(self.clock.monotonic());
                let owner = queue.owner(&Owner::Pool(pool), pid);
                return Some(self.until(owner, Scarce::Pause, Some(left)));
            }
        };
        let short = short?;
        let left = short.until.map(|until| until.saturating_sub(self.clock.monotonic()));
        Some(self.until(queue.owner(&owner, pid), scarce(short.resource), left))
    }

    fn until(&self, owner: String, scarce: Scarce, left: Option<Duration>) -> Held {
        let now = self.clock.now();
        let millis = |left: Duration| u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let until = left.map(|left| now.plus_millis(millis(left)));
        Held { on: BlockedOn::Limit { owner, scarce, until }, left }
    }

    /// How the device stands as one to ask. One that is not known has no calls and can be asked.
    pub(crate) fn candidate(&self, device: &str) -> Candidate {
        let queue = self.lock();
        let idle = Candidate { weight: 1, calls: 0, admits: true, is_full: false, is_warm: false };
        let Some(pool) = queue.devices.get(device) else {
            return idle;
        };
        let Ok(load) = queue.scheduler.load(pool.id) else {
            return idle;
        };
        let (own, now) = (load.in_flight + load.waiting, self.clock.monotonic());
        Candidate {
            calls: own.saturating_add(pool.reading.others(now)),
            admits: pool.health.admits(now, own),
            is_full: pool.reading.is_full(now),
            ..idle
        }
    }

    /// Has the device's server asked how loaded it is, where it can be asked and what is known is old.
    /// What is returned completes when it has answered; nobody needs to wait for it.
    pub(crate) fn look(self: &Arc<Self>, device: &Arc<dyn Device>) -> Option<JoinHandle<()>> {
        drop(device.load()?);
        let name = &device.info().name;
        let now = self.clock.monotonic();
        let is_due = self.lock().devices.get_mut(name).is_some_and(|it| it.reading.begin(now));
        if !is_due {
            return None;
        }
        let (itself, device) = (self.itself.clone(), device.clone());
        Some(tokio::spawn(async move {
            let Some(asked) = device.load() else { return };
            let told = asked.await;
            if let (Some(told), Some(dispatcher)) = (told, itself.upgrade()) {
                dispatcher.told(&device.info().name, told);
            }
        }))
    }

    fn told(&self, device: &str, load: ServerLoad) {
        let now = self.clock.monotonic();
        let mut queue = self.lock();
        let Queue { scheduler, devices, .. } = &mut *queue;
        if let Some(pool) = devices.get_mut(device) {
            let own = scheduler.load(pool.id).map_or(0, |load| load.in_flight);
            pool.reading.end(load, own, now);
        }
    }

    /// A call on the device ended well.
    pub(crate) fn well(self: &Arc<Self>, device: &str) -> Result<(), Error> {
        {
            let mut queue = self.lock();
            let pool = queue.device(device)?;
            if !pool.health.well() {
                return Ok(());
            }
            let (id, slots) = (pool.id, pool.slots);
            tracing::info!(device, "answers again");
            queue.scheduler.set_slots(id, slots).map_err(bug)?;
        }
        self.pump();
        Ok(())
    }

    /// A call on the device failed by the device's fault.
    pub(crate) fn ill(&self, device: &str) -> Result<(), Error> {
        let now = self.clock.monotonic();
        let mut queue = self.lock();
        let pool = queue.device(device)?;
        let (id, until) = (pool.id, pool.health.ill(now));
        if let Some(until) = until {
            let pause = until.saturating_sub(now);
            tracing::warn!(device, "fails again and again; nobody asks it for {pause:?}");
            queue.scheduler.pause(id, until).map_err(bug)?;
            // Then one at a time, until one ends well.
            queue.scheduler.set_slots(id, 1).map_err(bug)?;
        }
        Ok(())
    }

    /// Lets nobody begin a call on the device for that long.
    pub(crate) fn pause(&self, device: &str, wait: Duration) -> Result<(), Error> {
        let until = self.clock.monotonic().saturating_add(wait);
        let mut queue = self.lock();
        let id = queue.device(device)?.id;
        queue.scheduler.pause(id, until).map_err(bug)
    }

    /// Hands out every slot that is free, and sets an alarm for the next device that opens.
    fn pump(self: &Arc<Self>) {
        let mut queue = self.lock();
        let now = self.clock.monotonic();
        // Slots whose process left the queue a moment ago are given back after the lock is freed.
        let mut unwanted = Vec::new();
        while let Some(dispatch) = queue.scheduler.pick(now) {
            let Some(Waiting { ask, since, grant }) = queue.waiting.remove(&dispatch.key) else {
                unwanted.push(Slot::unwanted(self.clone(), &dispatch));
                continue;
            };
            let slot = Slot::new(self.clone(), &dispatch, ask, since);
            match grant.send(slot) {
                Ok(()) => queue.goes(dispatch.key, dispatch.pool),
                Err(slot) => unwanted.push(slot),
            }
        }
        let next = queue.scheduler.next_wakeup(now);
        if let Some(at) = next
            && queue.alarm.is_none_or(|set| at < set || set <= now)
        {
            queue.alarm = Some(at);
            let (itself, sleep) = (self.itself.clone(), self.clock.sleep(at.saturating_sub(now)));
            tokio::spawn(async move {
                sleep.await;
                if let Some(dispatcher) = itself.upgrade() {
                    dispatcher.pump();
                }
            });
        }
        let warned = self.take_warnings(&mut queue, now);
        drop(queue);
        self.tell(&warned);
        drop(unwanted);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Makes those as important as a change of what is lent says.
    fn settle(&mut self, change: impl FnOnce(&mut Lending) -> Vec<(Pid, Priority)>) {
        for (pid, priority) in change(&mut self.lending) {
            // One that is unknown here is admitted with what it is lent then.
            drop(self.scheduler.renice(&pid, priority));
        }
    }

    fn device(&mut self, name: &str) -> Result<&mut Pool, Error> {
        self.devices.get_mut(name).ok_or_else(|| {
            Error::refused(Code::LlmUnknownModel, format!("no device is named {name:?}"))
        })
    }

    /// A device has answered: it is given as many calls as it has slots.
    fn hears(&mut self, pool: PoolId) {
        let name = &self.names[pool.index()];
        if let Some(device) = self.devices.get_mut(name).filter(|device| !device.spoke) {
            device.spoke = true;
            // It has slots: that was checked when it was added.
            drop(self.scheduler.set_slots(pool, device.slots));
        }
    }

    /// Whose quota that is, in words to a process.
    fn owner(&self, owner: &Owner<Pid>, to: Pid) -> String {
        match owner {
            Owner::Pool(id) => match self.names.get(id.index()) {
                Some(name) => format!("pool {name}"),
                None => format!("pool {}", id.index()),
            },
            Owner::Tenant(tenant) => format!("tenant {}", tenant.as_str()),
            Owner::Group(_, group) => format!("group {group}"),
            Owner::Process(pid) if *pid == to => BlockedOn::OWN.to_owned(),
            Owner::Process(pid) => BlockedOn::of_kin(*pid),
        }
    }
}

impl Future for Turn {
    type Output = Result<Slot, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.granted).poll(context).map_err(|_| Error::Stopping)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let left = {
            let mut queue = self.dispatcher.lock();
            let left = queue.waiting.remove(&self.pid).is_some();
            if left {
                drop(queue.scheduler.block(&self.pid));
            }
            left
        };
        // Its wish may have been what held others back.
        if left {
            self.dispatcher.pump();
        }
    }
}

fn now_of(clock: &dyn Clock) -> share::Now {
    share::Now { wall: clock.now(), monotonic: clock.monotonic() }
}

const fn scarce(resource: Resource) -> Scarce {
    match resource {
        Resource::Requests => Scarce::Requests,
        Resource::Input => Scarce::Input,
        Resource::Output => Scarce::Output,
        Resource::Money => Scarce::Money,
        Resource::Concurrency => Scarce::Calls,
    }
}

fn bug(error: aosk_scheduler::Error) -> Error {
    Error::refused(Code::KernelFold, format!("the scheduler refused: {error}"))
}
