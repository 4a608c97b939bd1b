//! Listing a folder in bounded memory.

use std::collections::BinaryHeap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use aosk_ports::{DirEntry, EntryKind, Listing};
use rustix::fs::{AtFlags, Dir, FileType, statat};
use rustix::io::Errno;

/// The first `limit` entries by name. Memory follows `limit`, never the size of the folder; time
/// follows the folder's size, O(n log limit).
pub fn list(folder: OwnedFd, limit: usize) -> Result<Listing, Errno> {
    let mut dir = Dir::new(folder)?;
    let (mut first, mut total) = (BinaryHeap::new(), 0);
    while let Some(entry) = dir.read() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        total += 1;
        first.push(OsString::from(OsStr::from_bytes(name)));
        if first.len() > limit {
            first.pop();
        }
    }
    let mut entries = Vec::with_capacity(first.len());
    for name in first.into_sorted_vec() {
        match statat(dir.fd()?, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let len = u64::try_from(stat.st_size).unwrap_or(0);
                let kind = match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile => EntryKind::File { len },
                    FileType::Directory => EntryKind::Folder,
                    FileType::Symlink => EntryKind::Link,
                    _ => EntryKind::Special,
                };
                entries.push(DirEntry { name, kind });
            }
            // It was removed since its name was read.
            Err(Errno::NOENT) => total -= 1,
            Err(errno) => return Err(errno),
        }
    }
    Ok(Listing { entries, total })
}
