//! Having the system forget what it read of a database's files.
//!
//! `posix_fadvise` with `DONTNEED` needs no privilege but the right to read the file, drops what is
//! clean and not in use, and says nothing of how much that was. So whether it worked is looked at,
//! with reads that fail where they would have to wait for the disk.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::report::Failure;

/// The places of all files together at which is looked.
#[cfg(target_os = "linux")]
const LOOKS: u64 = 512;

/// The files of a database.
#[derive(Debug)]
pub struct Files(Vec<PathBuf>);

impl Files {
    /// Every file below that folder that can be read; none where the folder cannot.
    pub fn below(folder: &Path) -> Self {
        let mut files = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                    Ok(kind) if kind.is_file() && File::open(entry.path()).is_ok() => {
                        files.push(entry.path());
                    }
                    _ => {}
                }
            }
        }
        Self(files)
    }

    /// Brings to the disk what is written: the system forgets nothing else.
    pub fn settle(&self) -> Result<(), Failure> {
        self.each(|file| Ok(file.sync_all()?))
    }

    /// Has the system forget what it read.
    pub fn forget(&self) -> Result<(), Failure> {
        self.each(forget)
    }

    fn each(&self, act: fn(&File) -> Result<(), Failure>) -> Result<(), Failure> {
        // A server may have removed one meanwhile.
        self.0.iter().filter_map(|path| File::open(path).ok()).try_for_each(|file| act(&file))
    }

    /// The share of their bytes that the system still has in memory, looked at in some hundred
    /// places; `None` where that cannot be seen. Looking may bring the places into memory.
    pub fn remembered(&self) -> Option<f64> {
        let open = self.0.iter().filter_map(|path| File::open(path).ok());
        let files: Vec<(File, u64)> =
            open.filter_map(|file| file.metadata().ok().map(|facts| (file, facts.len()))).collect();
        remembered(&files)
    }
}

#[cfg(target_os = "linux")]
fn forget(file: &File) -> Result<(), Failure> {
    Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?)
}

#[cfg(not(target_os = "linux"))]
fn forget(_: &File) -> Result<(), Failure> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn remembered(files: &[(File, u64)]) -> Option<f64> {
    use std::io::IoSliceMut;

    use rustix::io::{Errno, ReadWriteFlags, preadv2};

    let step = (files.iter().map(|(_, len)| len).sum::<u64>() / LOOKS).max(1);
    let (mut looked, mut there) = (0_u32, 0_u32);
    for (file, len) in files {
        for offset in (step / 2..*len).step_by(usize::try_from(step).ok()?) {
            let mut byte = [0];
            let read =
                preadv2(file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT);
            match read {
                Ok(_) => there += 1,
                Err(Errno::AGAIN) => {}
                // A file system that does not know such reads.
                Err(_) => return None,
            }
            looked += 1;
        }
    }
    (looked > 0).then(|| f64::from(there) / f64::from(looked))
}

#[cfg(not(target_os = "linux"))]
fn remembered(_: &[(File, u64)]) -> Option<f64> {
    None
}
