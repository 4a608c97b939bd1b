//! The queue in front of the devices.
//!
//! The scheduler decides; this keeps who waits for its decision and wakes them. A turn that is
//! dropped leaves the queue, a slot that is dropped frees its place, so neither a killed process
//! nor a panic can leak capacity.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use aosk_abi::{Code, Pid, Priority, Tenant};
use aosk_ports::Clock;
use aosk_scheduler::{DispatchId, PoolId, PoolOptions, Scheduler, Units};
use tokio::sync::oneshot;

use crate::error::Error;

/// Hands out the devices' slots.
pub(crate) struct Dispatcher {
    clock: Arc<dyn Clock>,
    queue: Mutex<Queue>,
    itself: Weak<Self>,
}

struct Queue {
    scheduler: Scheduler<Pid>,
    /// With the number of their slots.
    devices: HashMap<String, (PoolId, usize)>,
    waiting: HashMap<Pid, (Units, oneshot::Sender<Slot>)>,
    alarm: Option<Duration>,
}

/// A place in a device: one call may be in flight.
pub(crate) struct Slot {
    dispatcher: Arc<Dispatcher>,
    id: DispatchId,
    /// What is charged when it is given back: the estimate until the real use is known.
    charge: Units,
}

/// A process's wait for its turn.
pub(crate) struct Turn {
    dispatcher: Arc<Dispatcher>,
    pid: Pid,
    granted: oneshot::Receiver<Slot>,
}

impl Dispatcher {
    pub(crate) fn new<'a>(
        clock: Arc<dyn Clock>,
        devices: impl Iterator<Item = (&'a str, usize)>,
    ) -> Result<Arc<Self>, Error> {
        let (scheduler, waiting) = (Scheduler::new(), HashMap::new());
        let queue = Queue { scheduler, devices: HashMap::new(), waiting, alarm: None };
        let dispatcher = Arc::new_cyclic(|itself| Self {
            clock,
            queue: Mutex::new(queue),
            itself: itself.clone(),
        });
        for (name, slots) in devices {
            dispatcher.add(name, slots)?;
        }
        Ok(dispatcher)
    }

    /// Adds a device that takes `slots` calls at once, if it is not there.
    pub(crate) fn add(&self, name: &str, slots: usize) -> Result<(), Error> {
        let refused = |why: String| {
            let message = format!("the device {name:?} cannot be used: {why}");
            Err(Error::refused(Code::KernelSetup, message))
        };
        let mut queue = self.lock();
        match queue.devices.get(name) {
            Some((_, known)) if *known == slots => Ok(()),
            Some((_, known)) => refused(format!(
                "it is given with {known} slots and with {slots}; one name stands for one endpoint"
            )),
            None if slots == 0 => refused("it has no slots; give it at least 1".to_owned()),
            None => {
                let device = queue.scheduler.add_pool(PoolOptions::new(slots)).map_err(bug)?;
                queue.devices.insert(name.to_owned(), (device, slots));
                Ok(())
            }
        }
    }

    /// Makes a process known, if it is not.
    pub(crate) fn admit(&self, pid: Pid, tenant: &Tenant, priority: Priority) -> Result<(), Error> {
        match self.lock().scheduler.admit(pid, tenant.clone(), priority) {
            // A sleeper keeps its account.
            Ok(()) | Err(aosk_scheduler::Error::AlreadyAdmitted(_)) => Ok(()),
            Err(error) => Err(bug(error)),
        }
    }

    /// Changes how important a process is, if it is known.
    pub(crate) fn renice(&self, pid: Pid, priority: Priority) {
        // One that is unknown is admitted with what its journal says.
        drop(self.lock().scheduler.renice(&pid, priority));
    }

    /// Forgets a process.
    pub(crate) fn remove(&self, pid: Pid) {
        // An unknown process is what is wanted.
        drop(self.lock().scheduler.remove(&pid));
    }

    /// Puts the process into the queue of a device for a call of about `estimate` tokens.
    pub(crate) fn queue(
        self: &Arc<Self>,
        pid: Pid,
        device: &str,
        estimate: u64,
    ) -> Result<Turn, Error> {
        let (grant, granted) = oneshot::channel();
        let (estimate, now) = (Units(estimate), self.clock.monotonic());
        {
            let mut queue = self.lock();
            let device = queue.device(device)?;
            queue.scheduler.wake(&pid, device, estimate, now).map_err(bug)?;
            queue.waiting.insert(pid, (estimate, grant));
        }
        self.pump();
        Ok(Turn { dispatcher: self.clone(), pid, granted })
    }

    /// Lets nobody begin a call on the device for that long.
    pub(crate) fn pause(&self, device: &str, wait: Duration) -> Result<(), Error> {
        let until = self.clock.monotonic().saturating_add(wait);
        let mut queue = self.lock();
        let device = queue.device(device)?;
        queue.scheduler.pause(device, until).map_err(bug)
    }

    /// Hands out every slot that is free, and sets an alarm for the next device that opens.
    fn pump(self: &Arc<Self>) {
        let mut queue = self.lock();
        let now = self.clock.monotonic();
        // Slots whose process left the queue a moment ago are given back after the lock is freed.
        let mut unwanted = Vec::new();
        while let Some(dispatch) = queue.scheduler.pick(now) {
            let slot = |charge| Slot { dispatcher: self.clone(), id: dispatch.id, charge };
            match queue.waiting.remove(&dispatch.key) {
                Some((estimate, grant)) => unwanted.extend(grant.send(slot(estimate)).err()),
                None => unwanted.push(slot(Units(0))),
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
        drop(queue);
        drop(unwanted);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn device(&self, name: &str) -> Result<PoolId, Error> {
        self.devices.get(name).map(|(device, _)| *device).ok_or_else(|| {
            Error::refused(Code::LlmUnknownModel, format!("no device is named {name:?}"))
        })
    }
}

impl Slot {
    /// Gives the slot back and charges what the call used; the estimate where that is not known.
    pub(crate) fn settle(mut self, used: Option<u64>) {
        if let Some(used) = used {
            self.charge = Units(used);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.dispatcher.lock().scheduler.charge(self.id, self.charge));
        self.dispatcher.pump();
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
        let mut queue = self.dispatcher.lock();
        if queue.waiting.remove(&self.pid).is_some() {
            drop(queue.scheduler.block(&self.pid));
        }
    }
}

fn bug(error: aosk_scheduler::Error) -> Error {
    Error::refused(Code::KernelFold, format!("the scheduler refused: {error}"))
}
