//! The flight recorder of a store's owner: a small file of slots, one for each process that is
//! being executed.
//!
//! Slots are written and never synced: what the system's cache holds outlives the program, and
//! that is all that is asked. A power loss takes them, and with them a suspicion that no process
//! deserves. Entering and leaving are one write of 16 bytes each, about a microsecond together.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use aosk_abi::Pid;
use aosk_ports::{FlightRecorder, StoreError};

use super::fault::file as file_error;

/// The recorder's file, beside the store.
const FILE: &str = "aosk.flight";

/// The bytes of a slot: a pid, or zeros where it is free.
const SLOT: usize = 16;

/// The recorder of the one who owns the store.
#[derive(Debug)]
pub struct Flight {
    file: File,
    slots: Mutex<Vec<Option<Pid>>>,
    /// Whom the last owner was executing at its end. Each keeps its slots until it is cleared, so
    /// that the next owner hears of it again where this one dies before.
    suspects: Vec<Pid>,
}

impl Flight {
    /// Opens the recorder beside the store in the folder `dir`, which the caller owns.
    ///
    /// # Errors
    /// `StoreIo` and its kin where the file cannot be read or written.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        let failed = |error: std::io::Error| file_error(&path, &error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let left = std::fs::read(&path).map_err(failed)?;
        let pid = |slot: &[u8; SLOT]| (*slot != [0; SLOT]).then(|| Pid::from_bytes(*slot));
        let slots: Vec<Option<Pid>> = left.as_chunks::<SLOT>().0.iter().map(pid).collect();
        let mut suspects: Vec<Pid> = slots.iter().flatten().copied().collect();
        suspects.sort_unstable();
        suspects.dedup();
        Ok(Self { file, slots: Mutex::new(slots), suspects })
    }

    /// Lets the next owner of the folder `dir` hear of nobody: this one ends on purpose, whomever it
    /// is executing. What it still writes goes nowhere.
    ///
    /// # Errors
    /// `StoreIo` and its kin where the file cannot be removed.
    pub fn discard(dir: &Path) -> Result<(), StoreError> {
        let path = dir.join(FILE);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(file_error(&path, &error)),
            _ => Ok(()),
        }
    }

    /// Frees a slot of the process, and says whether there was one.
    fn free(&self, pid: Pid) -> bool {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.iter().position(|slot| *slot == Some(pid));
        if let Some(slot) = slot {
            slots[slot] = None;
            self.write(slot, &[0; SLOT]);
        }
        slot.is_some()
    }

    fn write(&self, slot: usize, bytes: &[u8; SLOT]) {
        // A recorder that cannot write misses a suspicion; it must not stop the flight.
        let _ = self.file.write_all_at(bytes, (slot * SLOT) as u64);
    }
}

impl FlightRecorder for Flight {
    fn enter(&self, pid: Pid) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let free = slots.iter().position(Option::is_none).unwrap_or(slots.len());
        if free == slots.len() {
            slots.push(None);
        }
        slots[free] = Some(pid);
        self.write(free, pid.as_bytes());
    }

    fn leave(&self, pid: Pid) {
        self.free(pid);
    }

    fn suspects(&self) -> Vec<Pid> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        self.suspects.iter().filter(|pid| slots.contains(&Some(**pid))).copied().collect()
    }

    fn clear(&self, suspect: Pid) {
        while self.free(suspect) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(n: u8) -> Pid {
        Pid::from_bytes([n; 16])
    }

    #[test]
    fn those_who_were_executed_at_the_end_are_told_until_they_are_cleared() {
        let dir = tempfile::tempdir().expect("a folder");
        let flight = Flight::open(dir.path()).expect("opens");
        assert!(flight.suspects().is_empty());
        for n in 1..=4 {
            flight.enter(pid(n));
        }
        for n in [2, 4] {
            flight.leave(pid(n));
        }
        flight.enter(pid(5));
        flight.enter(pid(5));
        flight.leave(pid(9));
        assert!(flight.suspects().is_empty(), "the last owner's, not one's own");
        // Forgotten, not closed in any way: as after a kill.
        std::mem::forget(flight);
        let flight = Flight::open(dir.path()).expect("opens");
        assert_eq!(flight.suspects(), [pid(1), pid(3), pid(5)]);
        flight.clear(pid(5));
        assert_eq!(flight.suspects(), [pid(1), pid(3)]);
        flight.enter(pid(6));
        flight.enter(pid(1));
        flight.leave(pid(1));
        std::mem::forget(flight);
        let flight = Flight::open(dir.path()).expect("opens");
        assert_eq!(flight.suspects(), [pid(1), pid(3), pid(6)], "those not cleared are told again");
        for suspect in flight.suspects() {
            flight.clear(suspect);
        }
        drop(flight);
        let flight = Flight::open(dir.path()).expect("opens");
        assert!(flight.suspects().is_empty());
        flight.enter(pid(7));
        Flight::discard(dir.path()).expect("removed");
        flight.enter(pid(8));
        std::mem::forget(flight);
        Flight::discard(dir.path()).expect("nothing is there");
        assert!(Flight::open(dir.path()).expect("opens").suspects().is_empty());
    }
}
