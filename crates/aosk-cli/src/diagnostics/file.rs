//! A log file that never grows past a bound, written by several processes at once.
//!
//! What rolls by the hour, as ready-made appenders do, is bounded by nothing when something goes
//! wrong in a loop; so this one rolls by size: 4 files of 4 MiB, 16 MiB in all. An entry is
//! written under the lock of the folder, in one call, to the file that has the name at that
//! moment. So entries of two processes never mix, neither appends to a file that the other has
//! rolled away, and the bound holds for both together. That costs some 10 µs an entry, which is
//! nothing at the rate of notes and bearable at that of traces; no file stays open in between.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

/// How much is kept.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Bytes of one file.
    file: u64,
    /// How many files there are, the one that is written included.
    files: usize,
    /// Bytes of one entry; the rest of a longer one is cut. At most those of a file.
    entry: usize,
}

const LIMITS: Limits = Limits { file: 4 << 20, files: 4, entry: 64 << 10 };

/// What stands where an entry was cut.
const CUT: &str = " … (cut)\n";

/// How often the lock is tried and how long in between. Whoever holds it does so for some
/// microseconds, unless it was stopped just then; an entry is not worth waiting longer.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// A log, by the folder that it is kept in.
#[derive(Debug)]
pub(super) struct LogFile {
    folder: PathBuf,
    limits: Limits,
}

impl LogFile {
    /// The log in that folder, which is made with mode 0700 if it is not there.
    pub(super) fn open(folder: PathBuf) -> Result<Self> {
        Self::with(folder, LIMITS)
    }

    fn with(folder: PathBuf, limits: Limits) -> Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self { folder, limits })
    }

    /// Appends an entry, which ends with its line.
    pub(super) fn append(&self, entry: &str) -> Result<()> {
        let entry = self.cut(entry);
        let _lock = self.lock()?;
        let mut file = self.newest()?;
        let size = file.metadata()?.len();
        if size > 0 && size + entry.len() as u64 > self.limits.file {
            self.roll()?;
            file = self.newest()?;
        }
        file.write_all(entry.as_bytes())
    }

    /// The entry, cut at its bound.
    fn cut(&self, entry: &str) -> String {
        if entry.len() <= self.limits.entry {
            return entry.to_owned();
        }
        let end = entry.floor_char_boundary(self.limits.entry.saturating_sub(CUT.len()));
        format!("{}{CUT}", &entry[..end])
    }

    /// Holds the lock until it is dropped; the system drops it with the process.
    fn lock(&self) -> Result<File> {
        let folder = File::open(&self.folder)?;
        for _ in 0..TRIES {
            match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(folder),
                Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(PAUSE),
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::new(ErrorKind::WouldBlock, "another process holds it"))
    }

    /// The file that is written.
    fn newest(&self) -> Result<File> {
        OpenOptions::new().append(true).create(true).mode(0o600).open(self.name(0))
    }

    /// Moves each file one name on; the oldest is gone.
    fn roll(&self) -> Result<()> {
        for age in (1..self.limits.files).rev() {
            match std::fs::rename(self.name(age - 1), self.name(age)) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn name(&self, age: usize) -> PathBuf {
        match age {
            0 => self.folder.join("aosk.log"),
            age => self.folder.join(format!("aosk.log.{age}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// The files' contents, the newest first.
    fn files(log: &LogFile) -> Vec<String> {
        (0..9).map_while(|age| std::fs::read_to_string(log.name(age)).ok()).collect()
    }

    fn small() -> (tempfile::TempDir, LogFile) {
        let dir = tempfile::tempdir().expect("folder");
        let limits = Limits { file: 100, files: 3, entry: 40 };
        let log = LogFile::with(dir.path().join("logs"), limits).expect("made");
        (dir, log)
    }

    fn line(bytes: usize) -> String {
        format!("{}\n", "x".repeat(bytes - 1))
    }

    #[test]
    fn a_file_below_at_and_above_its_bound() {
        let (_dir, log) = small();
        for (bytes, sizes) in [(40, vec![40]), (40, vec![80]), (20, vec![100]), (1, vec![1, 100])] {
            log.append(&line(bytes)).expect("written");
            assert_eq!(files(&log).iter().map(String::len).collect::<Vec<_>>(), sizes);
        }
    }

    #[test]
    fn an_entry_below_at_and_above_its_bound() {
        let (_dir, log) = small();
        for bytes in [39, 40] {
            assert_eq!(log.cut(&line(bytes)), line(bytes));
        }
        let cut = log.cut(&line(41));
        assert!(cut.len() <= 40 && cut.ends_with(CUT), "{cut:?}");
        // A character of several bytes is kept or cut as a whole.
        assert!(log.cut(&format!("{}\n", "語".repeat(40))).ends_with(CUT));
    }

    #[test]
    fn no_more_than_the_files_are_kept_and_nobody_else_may_read_them() {
        let (_dir, log) = small();
        for number in 0..50 {
            log.append(&format!("entry {number:>30}\n")).expect("written");
        }
        let kept = files(&log);
        assert_eq!(kept.len(), 3);
        assert!(kept.iter().all(|file| file.len() <= 100));
        assert!(kept[0].ends_with("49\n"), "{kept:?}");
        let mode = |path: PathBuf| path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(log.name(0)), 0o600);
        assert_eq!(mode(log.folder.clone()), 0o700);
    }

    #[test]
    fn an_entry_is_given_up_where_the_lock_is_never_free() {
        let (_dir, log) = small();
        let holder = File::open(&log.folder).expect("there");
        flock(&holder, FlockOperation::NonBlockingLockExclusive).expect("free");
        let error = log.append("late\n").expect_err("held");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        drop(holder);
        log.append("in time\n").expect("free again");
        assert_eq!(files(&log), ["in time\n"]);
    }

    #[test]
    fn two_processes_at_once_keep_every_entry_whole_and_the_bound() {
        const ENTRIES: usize = 300;
        const FOLDER: &str = "TEST_LOG_FOLDER";
        let limits = |file| Limits { file, files: 3, entry: 100 };
        let line = |number| format!("{:>8} {number:>6} {}\n", std::process::id(), "x".repeat(40));
        if let Some(folder) = std::env::var_os(FOLDER) {
            // This is one of the two: the test runs itself again for each.
            let file = if folder.to_string_lossy().ends_with("large") { 1 << 20 } else { 2_000 };
            let log = LogFile::with(folder.into(), limits(file)).expect("made");
            (0..ENTRIES).for_each(|number| log.append(&line(number)).expect("written"));
            return;
        }
        let dir = tempfile::tempdir().expect("folder");
        for size in ["large", "small"] {
            let folder = dir.path().join(size);
            let name = "diagnostics::file::tests::\
                        two_processes_at_once_keep_every_entry_whole_and_the_bound";
            let both = [(); 2].map(|()| {
                let this = std::env::current_exe().expect("a test");
                let mut command = std::process::Command::new(this);
                command.args(["--exact", name]).env(FOLDER, &folder);
                command.stdout(std::process::Stdio::null()).spawn().expect("runs")
            });
            for mut child in both {
                assert!(child.wait().expect("ends").success());
            }
            let log = LogFile::with(folder, limits(0)).expect("there");
            let kept = files(&log);
            let lines: Vec<&str> = kept.iter().flat_map(|file| file.lines()).collect();
            assert!(lines.iter().all(|entry| entry.len() + 1 == line(0).len()), "{lines:?}");
            if size == "large" {
                assert_eq!(lines.len(), 2 * ENTRIES, "none is lost");
            } else {
                assert_eq!(kept.len(), 3);
                assert!(kept.iter().all(|file| file.len() <= 2_000));
            }
        }
    }

    #[test]
    fn what_all_files_hold_together_is_what_the_user_is_told() {
        assert_eq!(LIMITS.file * LIMITS.files as u64, 16 << 20);
        assert!(LIMITS.entry as u64 <= LIMITS.file);
    }
}
