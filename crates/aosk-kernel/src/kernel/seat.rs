//! Seats: a process's entry while somebody who asked for it by name brings it in.
//!
//! Whoever waits for a spawn or a resume may stop waiting, and each await in it may fail. A seat
//! that is not kept gives the table back what was there before, so that no process stays entered
//! as one that is in memory and is driven by nobody.

use aosk_abi::{Epoch, Pid};

use super::Kernel;
use super::stay::{herald_of, running};
use super::table::Entry;
use crate::driver::InboxSender;
use crate::error::Error;

/// The entry of a process that is on its way into memory.
pub(super) struct Seat<'a> {
    kernel: &'a Kernel,
    pid: Pid,
    before: Option<Entry>,
    kept: bool,
}

impl Kernel {
    /// Enters a process as one that is in memory, place or no place.
    pub(super) fn seat(&self, pid: Pid, inbox: InboxSender) -> Result<Seat<'_>, Error> {
        let mut table = self.table();
        if matches!(table.get(pid), Some(Entry::Driven { .. } | Entry::Lined { .. })) {
            return Err(running(pid));
        }
        let before = table.remove(pid);
        let herald = herald_of(before.as_ref());
        table.set(pid, Entry::Driven { inbox, herald });
        drop(table);
        Ok(Seat { kernel: self, pid, before, kept: false })
    }
}

impl Seat<'_> {
    /// The epoch under which the process is owned; `None`: it is to be taken over.
    pub(super) const fn epoch(&self) -> Option<Epoch> {
        match &self.before {
            Some(
                Entry::Asleep { epoch, .. }
                | Entry::Waiting { epoch, .. }
                | Entry::Resting { epoch },
            ) => *epoch,
            _ => None,
        }
    }

    /// The process is driven from now on.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let mut table = self.kernel.table();
        table.remove(self.pid);
        match self.before.take() {
            // It was claimed, or nobody knows: the epoch that was held is not held any more.
            Some(Entry::Broken { outcome, .. }) => {
                table.set(self.pid, Entry::Broken { epoch: None, outcome });
            }
            Some(before) => table.set(self.pid, before),
            None => {}
        }
        drop(table);
        self.kernel.settled.notify_waiters();
        // The delivery gives the place to the next: this may run where nothing can be spawned.
        self.kernel.nudge.notify_one();
    }
}
