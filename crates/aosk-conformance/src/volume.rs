//! A small real file system: ext4 in a file, on a loop device.
//!
//! The file is in memory that has an end of its own. A disk breaks down by taking that memory away:
//! whatever is written from then on fails, as it does on a disk whose sectors cannot be written.
//! (`mount -o remount,abort` is quicker to write and of no use: about one time in six ext4 answers
//! an `fdatasync` that it interrupts with success, and the bytes are gone.)
//!
//! A disk that is full tells so when bytes are written, when they are synced, or not at all for
//! memory that pretends to be a disk; so what a store does about it is tried on the file system
//! that most of them stand on.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A file system that is mounted until it is dropped.
#[derive(Debug)]
pub struct Volume {
    folder: TempDir,
}

impl Volume {
    /// One of that many MiB; `None` where none can be mounted: that takes root, a loop device and
    /// `mkfs.ext4`.
    ///
    /// # Panics
    /// Where no temporary folder can be made.
    #[must_use]
    pub fn new(mebibytes: u64) -> Option<Self> {
        let folder = TempDir::new().expect("a folder");
        let volume = Self { folder };
        std::fs::create_dir(volume.disk()).expect("a folder");
        std::fs::create_dir(volume.path()).expect("a folder");
        let size = format!("size={}m", mebibytes + 1);
        let mut memory = Command::new("mount");
        if !succeeds(memory.args(["-t", "tmpfs", "-o", &size, "disk"]).arg(volume.disk())) {
            return None;
        }
        let image = volume.image();
        let file = File::create(&image).expect("a file");
        file.set_len(mebibytes << 20).expect("a length");
        let made = succeeds(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))
            && succeeds(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(volume.path()));
        made.then_some(volume)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    /// Breaks its disk down: from now on no block can be written that was not written before.
    ///
    /// # Panics
    /// Where the system fails otherwise than for want of room.
    pub fn break_down(&self) {
        take_all_room(&self.disk().join("taken"), false);
    }

    /// Gives it a disk that works, with all that was written, checks it and mounts it anew. Nobody may have a file open on it.
    ///
    /// # Panics
    /// Where the system refuses.
    pub fn repair(&self) {
        let (image, path) = (self.image(), self.path());
        let run = |program: &str, arguments: &[&OsStr]| {
            let output = Command::new(program).args(arguments).output().expect(program);
            // 1: what had to be mended was mended.
            assert!(matches!(output.status.code(), Some(0 | 1)), "{program}: {output:?}");
        };
        run("umount", &[path.as_ref()]);
        std::fs::remove_file(self.disk().join("taken")).expect("it was broken");
        run("e2fsck", &["-p".as_ref(), image.as_ref()]);
        run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), path.as_ref()]);
    }

    fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn image(&self) -> PathBuf {
        self.disk().join("image")
    }

    /// Takes all the room that is left.
    ///
    /// # Panics
    /// Where the system fails otherwise than for want of room.
    pub fn fill(&self) {
        take_all_room(&self.filler(), true);
    }

    /// Gives that room back.
    ///
    /// # Panics
    /// Where it was not filled.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Who still has a file open there keeps it until then; the folder is free at once. One
        // that was never mounted has nothing to unmount.
        for path in [self.path(), self.disk()] {
            let _ = Command::new("umount").arg("-l").arg(path).output();
        }
    }
}

/// Writes that file until its file system has no room.
fn take_all_room(path: &Path, sync: bool) {
    let mut file = File::create(path).expect("a file");
    for size in [1 << 16, 1 << 10] {
        let block = vec![1; size];
        loop {
            let written =
                file.write_all(&block).and_then(|()| if sync { file.sync_data() } else { Ok(()) });
            match written {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
