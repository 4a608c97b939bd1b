//! The flight recorder of a store's owner: a small file of slots, one for each process that is
//! being executed.
//!
//! Slots are written and never synced: what the system's cache holds outlives the program, and
//! that is all that is asked. A power loss takes them, and with them a suspicion that no process
//! deserves. Entering and leaving are one write of 16 bytes each, about a microsecond together.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use aosk_abi::Pid;
use aosk_ports::{FlightRecorder, StoreError};

use super::fault::file as file_error;

/// The bytes of a slot: a pid, or zeros where it is free.
const SLOT: usize = 16;

/// The recorder of the one who owns the store.
#[derive(Debug)]
pub struct Flight {
    file: File,
    slots: Mutex<Vec<Option<Pid>>>,
}

impl Flight {
    /// Opens the recorder beside the store in the folder `dir`, which the caller owns, and says
    /// whom the last owner was executing when it fell over. The suspicion is told once.
    ///
    /// # Errors
    /// `StoreIo` and its kin where the file cannot be read or written.
    pub fn open(dir: &Path) -> Result<(Self, Vec<Pid>), StoreError> {
        let path = dir.join("aosk.flight");
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
        let mut suspects: Vec<Pid> = left
            .as_chunks::<SLOT>()
            .0
            .iter()
            .filter(|slot| **slot != [0; SLOT])
            .map(|slot| Pid::from_bytes(*slot))
            .collect();
        suspects.sort_unstable();
        suspects.dedup();
        file.set_len(0).map_err(failed)?;
        Ok((Self { file, slots: Mutex::default() }, suspects))
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
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.iter().position(|slot| *slot == Some(pid)) {
            slots[slot] = None;
            self.write(slot, &[0; SLOT]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(n: u8) -> Pid {
        Pid::from_bytes([n; 16])
    }

    #[test]
    fn those_who_were_executed_at_the_end_are_told_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let (flight, before) = Flight::open(dir.path()).expect("opens");
        assert!(before.is_empty());
        for n in 1..=4 {
            flight.enter(pid(n));
        }
        for n in [2, 4] {
            flight.leave(pid(n));
        }
        flight.enter(pid(5));
        flight.enter(pid(5));
        flight.leave(pid(9));
        // Forgotten, not closed in any way: as after a kill.
        std::mem::forget(flight);
        let (flight, suspects) = Flight::open(dir.path()).expect("opens");
        assert_eq!(suspects, [pid(1), pid(3), pid(5)]);
        drop(flight);
        assert!(Flight::open(dir.path()).expect("opens").1.is_empty());
    }
}
