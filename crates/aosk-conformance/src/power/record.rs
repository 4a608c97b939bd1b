//! What the shim wrote down.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// One deed of the program.
#[derive(Debug, Clone, Copy)]
pub(super) enum Record<'a> {
    Write { path: &'a Path, at: u64, bytes: &'a [u8] },
    Resize { path: &'a Path, len: u64 },
    Sync { path: &'a Path },
    FailedSync { path: &'a Path },
    Create { path: &'a Path },
    Unlink { path: &'a Path },
    Rename { from: &'a Path, to: &'a Path },
}

/// The records of a log, in their order. The last may be cut: its program was killed.
pub(super) fn all(mut log: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        let (head, rest) = log.split_first_chunk::<32>()?;
        let number = |n: usize| {
            let bytes = head[n * 8..].first_chunk().expect("four numbers of 8 bytes");
            u64::from_le_bytes(*bytes)
        };
        let (path, rest) = rest.split_at_checked(usize::try_from(number(1)).ok()?)?;
        let (bytes, rest) = rest.split_at_checked(usize::try_from(number(3)).ok()?)?;
        log = rest;
        let path = Path::new(OsStr::from_bytes(path));
        Some(match number(0) {
            1 => Record::Write { path, at: number(2), bytes },
            2 => Record::Resize { path, len: number(2) },
            3 => Record::Sync { path },
            4 => Record::Create { path },
            5 => Record::Unlink { path },
            7 => Record::FailedSync { path },
            6 => Record::Rename { from: path, to: Path::new(OsStr::from_bytes(bytes)) },
            kind => panic!("the shim has no record of kind {kind}"),
        })
    })
}
