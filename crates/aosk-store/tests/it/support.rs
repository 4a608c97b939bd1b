//! What the tests share.

use std::path::Path;
use std::process::Command;

use aosk_abi::Code;
use aosk_ports::StoreError;
use aosk_store::{Options, SqliteStore};

pub(crate) fn options(dir: &Path) -> Options {
    Options { dir: dir.to_owned(), command: "a test".to_owned() }
}

pub(crate) fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(&options(dir)).expect("a store that opens")
}

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

#[track_caller]
pub(crate) fn refused<T>(answer: Result<T, StoreError>, code: Code) -> StoreError {
    let error = answer.err().expect("a refusal");
    assert_eq!(error.code, code, "{error}");
    error
}

/// Bytes that do not compress, from a seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend(random(&mut state).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The next number of a seeded sequence (xorshift).
pub(crate) fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// A small file system of its own, unmounted when dropped.
pub(crate) struct Mount(tempfile::TempDir);

impl Mount {
    /// Mounts `size` (as `mount` takes it) of memory; `None` where that is not allowed.
    pub(crate) fn new(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder");
        mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "none"], dir.path())
            .then_some(Self(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(mount(&["-o", &options], self.path()), "remount {options}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(done.is_ok_and(|status| status.success()), "umount {:?}", self.path());
    }
}

fn mount(arguments: &[&str], target: &Path) -> bool {
    let run = Command::new("mount").args(arguments).arg(target).output();
    run.is_ok_and(|output| output.status.success())
}
