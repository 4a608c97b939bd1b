//! The scheduler: processes, devices and calls in flight.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use aosk_abi::{Priority, Tenant};

use crate::device::{Device, DeviceId, Load};
use crate::error::Error;
use crate::units::Units;
use crate::weight::weight;

/// A call that was dispatched. Numbers are never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DispatchId(u64);

/// The decision that a process makes its call now. It holds a slot until it is
/// [charged](Scheduler::charge).
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a dispatch holds a slot until it is charged"]
pub struct Dispatch<K> {
    /// The call.
    pub id: DispatchId,
    /// The process.
    pub key: K,
    /// Where it calls.
    pub device: DeviceId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    tenant: Tenant,
    weight: u32,
    /// Tells a process from an earlier one of the same key.
    admission: u64,
    waits: Option<(DeviceId, Units)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Flight<K> {
    key: K,
    tenant: Tenant,
    admission: u64,
    device: DeviceId,
    estimate: Units,
}

/// Start-time fair queueing over tenants and their processes, for each device.
///
/// # Bounds
///
/// Let *D* be the device's slots, *U* the greatest estimate or charge of a call in units (a call
/// that used nothing counts as 1), and *w* the weights: equal for tenants, that of the priority
/// for processes. Each bound holds between tenants and between the processes of one tenant, up to
/// one unit a flow for rounding.
///
/// **Service difference.** Let *f* and *g* wait without a break from an instant at which they
/// stood equal and had no call in flight; who wakes again before the next decision has made no
/// break. What they were charged since, *S*, differs at every later instant by at most
///
/// > *S_f/w_f − S_g/w_g ≤ D·U·(1/w_f + 1/w_g)*
///
/// Proof: when *f* was last dispatched, its virtual time was not above that of *g*. Adding what
/// its calls in flight may still be charged raises it by at most *D·U/w_f*, the new call
/// included, and nothing can raise it further until the next dispatch. The virtual time of *g*
/// is at most *D·U/w_g* above what *g* was charged, by the estimates of its calls in flight.
///
/// **Shares.** Where all flows wait without a break, weights sum to *W* and the total charged is
/// *T*, the share of *f* is off by at most *D·U·(1/w_f + 1/w_min)·W/T* of itself: the average of
/// the differences above. It falls with time, however wrong the estimates are.
///
/// **No starvation.** Let a process *f* that makes one call at a time wait, and let *n* siblings
/// of weights summing to *W*, also with one call at a time, be dispatched meanwhile. What these
/// calls are charged is at most
///
/// > *X = U·(W/w_f + 3·n)*
///
/// Proof: *f* wakes at most *U/w_f* above the queue's virtual time *V*. A waiting sibling *g* is
/// at most *2·U/w_g* below *V*, because *V* passes nobody who waits, and who sleeps keeps at most
/// two calls' worth of what *V* advances. It is dispatched only while it is not above *f*: all its
/// calls but the last add up to at most *w_g·U/w_f + 2·U*, and the last one is at most *U*.
///
/// With *m* other tenants dispatched meanwhile, all these calls together are charged at most
///
/// > *(m + 1)·X + m·(5·D + 3)·U*
///
/// because a tenant makes up to *D* calls at once, and what is in flight may be mistaken by *U* a
/// call: when *f* wakes (its tenant is up to *D·U* above *V*, another up to *(D + 2)·U* below),
/// while it waits (its tenant rises by up to *2·D·U* more) and when it is dispatched (*D·U*).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduler<K> {
    devices: Vec<Device<K>>,
    processes: BTreeMap<K, Process>,
    flights: BTreeMap<DispatchId, Flight<K>>,
    dispatches: u64,
    admissions: u64,
}

impl<K> Default for Scheduler<K> {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            processes: BTreeMap::new(),
            flights: BTreeMap::new(),
            dispatches: 0,
            admissions: 0,
        }
    }
}

impl<K: Ord + Clone + Debug> Scheduler<K> {
    /// A scheduler without devices and processes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a device that takes `slots` calls at once.
    ///
    /// # Errors
    /// [`Error::NoSlots`] for 0.
    pub fn add_device(&mut self, slots: usize) -> Result<DeviceId, Error> {
        if slots == 0 {
            return Err(Error::NoSlots);
        }
        self.devices.push(Device::new(slots));
        Ok(DeviceId(self.devices.len() - 1))
    }

    /// Changes how many calls a device takes at once. Calls in flight above the new number end in
    /// their own time.
    ///
    /// # Errors
    /// [`Error::NoSlots`] for 0, [`Error::UnknownDevice`].
    pub fn set_slots(&mut self, device: DeviceId, slots: usize) -> Result<(), Error> {
        if slots == 0 {
            return Err(Error::NoSlots);
        }
        self.device_mut(device)?.load.slots = slots;
        Ok(())
    }

    /// Holds a device for all its processes until `until`, a time of the clock that
    /// [`pick`](Self::pick) is given: its endpoint has asked for it. A pause is never shortened.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`].
    pub fn pause(&mut self, device: DeviceId, until: Duration) -> Result<(), Error> {
        let load = &mut self.device_mut(device)?.load;
        load.opens_at = load.opens_at.max(until);
        Ok(())
    }

    /// Makes a process known. It does not wait yet.
    ///
    /// # Errors
    /// [`Error::AlreadyAdmitted`].
    pub fn admit(&mut self, key: K, tenant: Tenant, priority: Priority) -> Result<(), Error> {
        if self.processes.contains_key(&key) {
            return Err(Error::AlreadyAdmitted(format!("{key:?}")));
        }
        let (weight, admission) = (weight(priority), self.admissions);
        self.admissions += 1;
        self.processes.insert(key, Process { tenant, weight, admission, waits: None });
        Ok(())
    }

    /// Changes how important a process is, from its next call on; one that waits keeps its place.
    ///
    /// # Errors
    /// [`Error::UnknownProcess`].
    pub fn renice(&mut self, key: &K, priority: Priority) -> Result<(), Error> {
        let process = self.processes.get_mut(key).ok_or_else(|| unknown(key))?;
        process.weight = weight(priority);
        for device in &mut self.devices {
            device.reweigh(&process.tenant, key, process.weight);
        }
        Ok(())
    }

    /// Makes a process unknown. Its calls in flight hold their slots, and its tenant owes for
    /// them, until they are charged.
    ///
    /// # Errors
    /// [`Error::UnknownProcess`].
    pub fn remove(&mut self, key: &K) -> Result<(), Error> {
        self.block(key)?;
        if let Some(process) = self.processes.remove(key) {
            for device in &mut self.devices {
                device.forget(&process.tenant, key);
            }
        }
        Ok(())
    }

    /// A process wants to make one call, estimated at `estimate`. It may do so while others of
    /// its calls are in flight.
    ///
    /// # Errors
    /// [`Error::UnknownProcess`], [`Error::UnknownDevice`]; [`Error::AlreadyWaiting`] where it
    /// waits for a call already.
    pub fn wake(&mut self, key: &K, device: DeviceId, estimate: Units) -> Result<(), Error> {
        let process = self.processes.get_mut(key).ok_or_else(|| unknown(key))?;
        if let Some((device, _)) = process.waits {
            return Err(Error::AlreadyWaiting { key: format!("{key:?}"), device });
        }
        let queue = self.devices.get_mut(device.0).ok_or(Error::UnknownDevice(device))?;
        queue.wake(&process.tenant, key, process.weight, estimate);
        process.waits = Some((device, estimate));
        Ok(())
    }

    /// A process does not want to make a call any more. Nothing happens where it did not.
    ///
    /// # Errors
    /// [`Error::UnknownProcess`].
    pub fn block(&mut self, key: &K) -> Result<(), Error> {
        let process = self.processes.get_mut(key).ok_or_else(|| unknown(key))?;
        if let Some((device, _)) = process.waits.take()
            && let Some(queue) = self.devices.get_mut(device.0)
        {
            queue.withdraw(&process.tenant, key);
        }
        Ok(())
    }

    /// Decides on one call that starts at `now`; `None` where no open device has both a free slot
    /// and someone who waits. `now` must come from a clock that never goes back. Takes O(log n)
    /// time in tenants and processes, and looks at each device once.
    pub fn pick(&mut self, now: Duration) -> Option<Dispatch<K>> {
        let number = self.devices.iter().position(|device| device.is_ready(now))?;
        let device = self.devices.get_mut(number)?;
        let (tenant, key) = device.first()?;
        // Who waits at a device is a process that waits: both change together.
        let process = self.processes.get_mut(&key)?;
        let (number, estimate) = process.waits.take()?;
        device.dispatch(&tenant, &key, estimate);
        let id = DispatchId(self.dispatches);
        self.dispatches += 1;
        let admission = process.admission;
        let flight = Flight { key: key.clone(), tenant, admission, device: number, estimate };
        self.flights.insert(id, flight);
        Some(Dispatch { id, key, device: number })
    }

    /// A call has ended, however it did, and used `actual`: frees its slot and settles its charge.
    /// A second time changes nothing.
    ///
    /// # Errors
    /// [`Error::UnknownDispatch`] for a call that was never dispatched.
    pub fn charge(&mut self, id: DispatchId, actual: Units) -> Result<(), Error> {
        if id.0 >= self.dispatches {
            return Err(Error::UnknownDispatch(id));
        }
        let Some(flight) = self.flights.remove(&id) else {
            return Ok(());
        };
        let process = self.processes.get(&flight.key);
        let is_same = process.is_some_and(|process| process.admission == flight.admission);
        if let Some(device) = self.devices.get_mut(flight.device.0) {
            let key = is_same.then_some(&flight.key);
            device.settle(&flight.tenant, key, flight.estimate, actual);
        }
        Ok(())
    }

    /// When to [`pick`](Self::pick) again even if nothing else happens: the first time after
    /// `now` at which a device opens that has a free slot and someone who waits.
    #[must_use]
    pub fn next_wakeup(&self, now: Duration) -> Option<Duration> {
        self.devices
            .iter()
            .filter(|device| device.is_wanted())
            .map(|device| device.load.opens_at)
            .filter(|opens_at| *opens_at > now)
            .min()
    }

    /// The device that a process waits for.
    #[must_use]
    pub fn waiting(&self, key: &K) -> Option<DeviceId> {
        self.processes.get(key)?.waits.map(|(device, _)| device)
    }

    /// How busy a device is.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`].
    pub fn load(&self, device: DeviceId) -> Result<Load, Error> {
        self.devices.get(device.0).map(|found| found.load).ok_or(Error::UnknownDevice(device))
    }

    fn device_mut(&mut self, device: DeviceId) -> Result<&mut Device<K>, Error> {
        self.devices.get_mut(device.0).ok_or(Error::UnknownDevice(device))
    }
}

fn unknown<K: Debug>(key: &K) -> Error {
    Error::UnknownProcess(format!("{key:?}"))
}
