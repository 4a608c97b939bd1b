//! A small real file system: ext4 in a file, on a loop device.
//!
//! A disk that is full tells so when bytes are written, when they are synced, or not at all for
//! memory that pretends to be a disk; so what a store does about it is tried on the file system
//! that most of them stand on.

use std::ffi::OsStr;
use std::path::PathBuf;
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
        let image = volume.image();
        let file = std::fs::File::create(&image).expect("a file");
        file.set_len(mebibytes << 20).expect("a length");
        std::fs::create_dir(volume.path()).expect("a folder");
        let made = succeeds(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))
            && succeeds(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(volume.path()));
        made.then_some(volume)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    /// Breaks it down as a disk does that fails: from now on it is read-only, also for those who
    /// have files open.
    ///
    /// # Panics
    /// Where the system refuses.
    pub fn break_down(&self) {
        let mut mount = Command::new("mount");
        assert!(succeeds(mount.args(["-o", "remount,abort"]).arg(self.path())), "mount abort");
    }

    /// Checks it and mounts it anew. Nobody may have a file open on it.
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
        run("e2fsck", &["-p".as_ref(), image.as_ref()]);
        run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), path.as_ref()]);
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Takes all the room that is left.
    ///
    /// # Panics
    /// Where the system fails otherwise than for want of room.
    pub fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.filler()).expect("a file");
        for size in [1 << 16, 1 << 10] {
            let block = vec![1; size];
            loop {
                match file.write_all(&block).and_then(|()| file.sync_data()) {
                    Ok(()) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
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
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
