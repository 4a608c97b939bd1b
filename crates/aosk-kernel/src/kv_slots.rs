//! Which process has which slot of a server's KV cache.
//!
//! A server that keeps the newest prompt of each slot chooses the slot of a call by what it begins
//! with. Processes begin alike, with one system prompt and one list of tools, and so take one slot in
//! turns while others stand empty: two agents on a server of four slots each had 97 tokens evaluated
//! in every call, of which 11 were new. So a process names its slot and keeps it while it is warm:
//! until it ends, or until a process without one needs it and it is the one that called longest ago.
//!
//! Nothing of it is written down. After a restart the search begins where the process's id says, so
//! that it mostly finds the slot that it had. What a server was told by another kernel is not known:
//! where the calls of two meet in one slot, the server lets the later wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aosk_abi::Pid;

/// A slot of one device.
#[derive(Debug, Clone, Copy, Default)]
struct Holder {
    pid: Option<Pid>,
    /// The number of the call that took it last.
    taken: u64,
    is_busy: bool,
}

impl Holder {
    const fn is_free(&self) -> bool {
        self.pid.is_none() && !self.is_busy
    }
}

#[derive(Debug, Default)]
struct Taken {
    devices: HashMap<String, Vec<Holder>>,
    calls: u64,
}

/// The slots of all devices whose calls name one.
#[derive(Debug, Default)]
pub(crate) struct KvSlots(Mutex<Taken>);

impl KvSlots {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Each change is one assignment, so a panic elsewhere did not harm them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slot for the next call of that process, of `slots` that the device has; `None` where all
    /// are taken by calls in flight, and then the server is to choose. O(`slots`).
    pub(crate) fn take(self: &Arc<Self>, device: &str, slots: usize, pid: Pid) -> Option<KvSlot> {
        let mut all = self.lock();
        all.calls += 1;
        let call = all.calls;
        let held = all.devices.entry(device.to_owned()).or_default();
        // A server that was started anew may have another number of them.
        held.resize(slots, Holder::default());
        let own = held.iter().position(|slot| slot.pid == Some(pid) && !slot.is_busy);
        let first = first(pid, slots);
        let free = || (first..slots).chain(0..first).find(|&slot| held[slot].is_free());
        let oldest = || {
            let idle = (0..slots).filter(|&slot| !held[slot].is_busy);
            idle.min_by_key(|&slot| held[slot].taken)
        };
        let number = own.or_else(free).or_else(oldest)?;
        held[number] = Holder { pid: Some(pid), taken: call, is_busy: true };
        Some(KvSlot { held: self.clone(), device: device.to_owned(), number })
    }

    /// The process has ended.
    pub(crate) fn leave(&self, pid: Pid) {
        for slot in self.lock().devices.values_mut().flatten() {
            if slot.pid == Some(pid) {
                slot.pid = None;
            }
        }
    }
}

/// Where the search for a free slot begins: the end of a pid is random.
fn first(pid: Pid, slots: usize) -> usize {
    usize::from(pid.as_bytes()[15]).checked_rem(slots).unwrap_or(0)
}

/// A slot for as long as a call is in flight.
#[derive(Debug)]
pub(crate) struct KvSlot {
    held: Arc<KvSlots>,
    device: String,
    number: usize,
}

impl KvSlot {
    /// Which slot it is, from 0.
    pub(crate) const fn number(&self) -> usize {
        self.number
    }
}

impl Drop for KvSlot {
    fn drop(&mut self) {
        let mut all = self.held.lock();
        let slot = all.devices.get_mut(&self.device).and_then(|held| held.get_mut(self.number));
        if let Some(slot) = slot {
            slot.is_busy = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(last: u8) -> Pid {
        let mut bytes = [0; 16];
        bytes[15] = last;
        Pid::from_bytes(bytes)
    }

    /// The slot of a call that is over at once.
    fn call(held: &Arc<KvSlots>, slots: usize, last: u8) -> Option<usize> {
        held.take("d", slots, pid(last)).map(|slot| slot.number())
    }

    #[test]
    fn a_process_keeps_its_slot_until_it_called_longest_ago_and_another_needs_one() {
        let held = Arc::new(KvSlots::default());
        // The second begins where the first sits and goes on to the next; the third goes round.
        assert_eq!([1, 4, 2].map(|last| call(&held, 3, last)), [Some(1), Some(2), Some(0)]);
        assert_eq!([4, 1, 2].map(|last| call(&held, 3, last)), [Some(2), Some(1), Some(0)]);
        assert_eq!(call(&held, 3, 7), Some(2), "4 called longest ago");
        assert_eq!(call(&held, 3, 4), Some(1), "then 1 had");
        held.leave(pid(7));
        assert_eq!(call(&held, 3, 9), Some(2), "whoever ends leaves its slot");
        assert_eq!(call(&held, 3, 2), Some(0));
        assert_eq!(held.take("other", 3, pid(2)).map(|slot| slot.number()), Some(2));
    }

    #[test]
    fn no_call_takes_the_slot_of_one_in_flight() {
        let held = Arc::new(KvSlots::default());
        let flights: Vec<_> = [0, 1].iter().map(|&last| held.take("d", 2, pid(last))).collect();
        assert_eq!(call(&held, 2, 2), None, "the server is to choose");
        drop(flights);
        assert_eq!(call(&held, 2, 2), Some(0));
        assert_eq!(call(&held, 2, 1), Some(1));
    }

    #[test]
    fn a_server_may_come_back_with_fewer_slots_or_none() {
        let held = Arc::new(KvSlots::default());
        let flight = held.take("d", 4, pid(3));
        assert_eq!(call(&held, 1, 3), Some(0));
        drop(flight);
        assert_eq!(call(&held, 0, 3), None);
    }
}
