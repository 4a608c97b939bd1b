//! Power cuts: what a disk holds of what a program wrote, when the power goes.
//!
//! A program that is killed loses nothing that it wrote: the system still holds it. A machine
//! without power loses what was not synced, in no order. To see that, the program runs with a shim
//! (`LD_PRELOAD`, [`shim.c`](https://man7.org/linux/man-pages/man8/ld.so.8.html)) that writes down
//! its writes, names and syncs below one folder. Then the folder is made anew as a disk may hold
//! it: everything that was synced, and of the rest what a seed decides, down to single sectors.
//!
//! It knows nothing of memory maps: what is written through one is taken for lost.

mod disk;
mod record;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use disk::Disk;

const SHIM: &str = include_str!("shim.c");

/// A folder on a disk whose power can be cut.
#[derive(Debug)]
pub struct Power {
    folder: PathBuf,
    log: PathBuf,
    shim: PathBuf,
    disk: Disk,
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
        let (source, shim) = (beside.join("power.c"), beside.join("power.so"));
        std::fs::write(&source, SHIM).expect("the shim's source");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&shim, &source])
            .arg("-ldl")
            .status()
            .expect("a C compiler");
        assert!(built.success(), "the shim is built");
        Self { folder, log: beside.join("power.log"), shim, disk: Disk::default() }
    }

    /// Turns the power on: what is in the folder now is on the disk. Answers the environment in
    /// which a program has to run.
    ///
    /// # Panics
    /// Where the folder cannot be read.
    pub fn on(&mut self) -> [(&'static str, OsString); 3] {
        self.disk = Disk::read(&self.folder);
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
        let log = std::fs::read(&self.log).unwrap_or_default();
        for record in record::all(&log) {
            self.disk.happened(record, is_honest);
        }
        let loss = self.disk.cut(seed);
        self.disk.write(&self.folder);
        std::fs::write(&self.log, b"").expect("an empty log");
        loss
    }
}
