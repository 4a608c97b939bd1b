//! Power cuts: what a disk holds of what a program wrote, when the power goes.
//!
//! A program that is killed loses nothing that it wrote: the system still holds it. A machine
//! without power loses what was not synced, in no order. To see that, the program runs with a shim
//! (`LD_PRELOAD`, [`shim.c`](https://man7.org/linux/man-pages/man8/ld.so.8.html)) that writes down
//! its writes, names and syncs below one folder. Then the folder is made anew as a disk may hold
//! it: everything that was synced, and of the rest what a seed decides, down to single sectors.
//!
//! With [`Trouble`] calls fail on the way to the disk. What a failed sync was for stays in the
//! system's memory, where everybody can read it, and never reaches the disk unless it is written
//! again: that is how Linux has it since 4.13.
//!
//! It knows nothing of memory maps: what is written through one is taken for lost.

mod disk;
mod record;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use disk::Disk;

use crate::shim;

/// A folder on a disk whose power can be cut.
#[derive(Debug)]
pub struct Power {
    folder: PathBuf,
    log: PathBuf,
    shim: PathBuf,
    disk: Disk,
}

/// What goes wrong between a program and its disk, every time with EIO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// One sync of one file.
    Sync {
        /// The file's name in the folder.
        of: &'static str,
        /// Which, counted from 1.
        number: u64,
    },
    /// About one in so many reads, writes and syncs.
    OneIn {
        /// In how many.
        calls: u64,
        /// Decides which.
        seed: u64,
    },
}

impl Trouble {
    /// What a program needs in its environment to have it, beside that of its [`Power`].
    #[must_use]
    pub fn environment(self) -> Vec<(&'static str, OsString)> {
        let text = |number: u64| number.to_string().into();
        match self {
            Self::Sync { of, number } => {
                vec![("AOSK_POWER_FAIL_OF", of.into()), ("AOSK_POWER_FAIL_SYNC", text(number))]
            }
            Self::OneIn { calls, seed } => {
                vec![("AOSK_POWER_FAIL_ONE_IN", text(calls)), ("AOSK_POWER_FAIL_SEED", text(seed))]
            }
        }
    }
}

/// What was lost at a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Writes that were not synced, and are not on the disk, or not whole.
    pub writes: usize,
    /// Bytes that were synced in this life.
    pub synced: u64,
}

impl Power {
    /// The disk of `folder`, which is made where it is not there; its power is off. What the shim
    /// needs is put into `beside`, which must not be below the folder.
    ///
    /// # Panics
    /// Where the folders cannot be made, or `cc`, with which Rust links programs, is not there.
    #[must_use]
    pub fn new(folder: &Path, beside: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("a folder");
        let folder = folder.canonicalize().expect("a path");
        let shim = shim::build(include_str!("shim.c"), beside, "power");
        Self { folder, log: beside.join("power.log"), shim, disk: Disk::default() }
    }

    /// Turns the power on: what is in the folder now is on the disk. Answers the environment in
    /// which a program has to run.
    ///
    /// # Panics
    /// Where the folder cannot be read.
    pub fn on(&mut self) -> [(&'static str, OsString); 3] {
        self.disk = Disk::read(&self.folder);
        self.environment()
    }

    /// The same for one more program before the power is cut, after the one before is gone. What the
    /// system holds of that one in memory alone stays there.
    ///
    /// # Panics
    /// Where the shim's log says what cannot be.
    pub fn still_on(&mut self) -> [(&'static str, OsString); 3] {
        self.take_in(true);
        self.environment()
    }

    fn environment(&self) -> [(&'static str, OsString); 3] {
        [
            ("LD_PRELOAD", self.shim.clone().into()),
            ("AOSK_POWER_DIR", self.folder.clone().into()),
            ("AOSK_POWER_LOG", self.log.clone().into()),
        ]
    }

    /// Cuts the power, after the program is gone: the folder is as its disk may hold it.
    ///
    /// # Panics
    /// Where the shim's log says what cannot be, or the folder cannot be written.
    pub fn cut(&mut self, seed: u64) -> Loss {
        self.cut_of(seed, true)
    }

    /// The same for a disk that takes syncs and does not carry them out: whoever trusts it loses.
    ///
    /// # Panics
    /// As [`cut`](Self::cut).
    pub fn cut_of_a_disk_that_lies(&mut self, seed: u64) -> Loss {
        self.cut_of(seed, false)
    }

    fn cut_of(&mut self, seed: u64, is_honest: bool) -> Loss {
        self.take_in(is_honest);
        let loss = self.disk.cut(seed);
        self.disk.write(&self.folder);
        loss
    }

    /// Takes in what the program did, which may have been killed in the middle of the last line.
    fn take_in(&mut self, is_honest: bool) {
        let log = std::fs::read(&self.log).unwrap_or_default();
        for record in record::all(&log) {
            self.disk.happened(record, is_honest);
        }
        std::fs::write(&self.log, b"").expect("an empty log");
    }
}
