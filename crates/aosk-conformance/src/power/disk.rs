//! A model of a disk: what it holds for certain, and what it may hold.
//!
//! Of a file's bytes it holds what was synced; each sector of each later write may have reached it
//! or not. Names are changed in order, as a journaling file system does it: it holds the changes up
//! to some point, and at least those before the last sync of the folder, or of the file itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::Loss;
use super::record::Record;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

type File = usize;

#[derive(Debug, Default)]
pub(super) struct Disk {
    /// The names as the disk holds them for certain, and as the program sees them.
    held: BTreeMap<PathBuf, File>,
    seen: BTreeMap<PathBuf, File>,
    /// Changes of names that are not certain, oldest first.
    changes: Vec<Change>,
    files: Vec<Bytes>,
    synced: u64,
}

#[derive(Debug, Clone)]
enum Change {
    Create(PathBuf, File),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl Change {
    fn make(&self, names: &mut BTreeMap<PathBuf, File>) {
        match self {
            Self::Create(path, file) => {
                names.insert(path.clone(), *file);
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }
}

/// A file's bytes: what is certain, and what came after.
#[derive(Debug, Default)]
struct Bytes {
    held: Vec<u8>,
    later: Vec<Later>,
}

#[derive(Debug)]
enum Later {
    Write(usize, Vec<u8>),
    Resize(usize),
}

impl Later {
    /// Does it to `bytes`, as far as `arrives` says of each sector; whether that was all of it.
    fn make(self, bytes: &mut Vec<u8>, mut arrives: impl FnMut() -> bool) -> bool {
        match self {
            Self::Write(at, new) => {
                let mut whole = true;
                let mut from = 0;
                while from < new.len() {
                    let to = ((at + from) / SECTOR * SECTOR + SECTOR - at).min(new.len());
                    if arrives() {
                        if bytes.len() < at + to {
                            bytes.resize(at + to, 0);
                        }
                        bytes[at + from..at + to].copy_from_slice(&new[from..to]);
                    } else {
                        whole = false;
                    }
                    from = to;
                }
                whole
            }
            Self::Resize(len) => {
                let does = arrives();
                if does {
                    bytes.resize(len, 0);
                }
                does
            }
        }
    }
}

impl Disk {
    /// A disk that holds what is in the folder.
    pub(super) fn read(folder: &Path) -> Self {
        let mut disk = Self::default();
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let held = std::fs::read(&path).expect("a file");
            disk.held.insert(path, disk.files.len());
            disk.files.push(Bytes { held, later: Vec::new() });
        }
        disk.seen = disk.held.clone();
        disk
    }

    /// Takes in what the program did. A disk that is not honest forgets syncs.
    pub(super) fn happened(&mut self, record: Record<'_>, is_honest: bool) {
        match record {
            Record::Write { path, at, bytes } => {
                let at = usize::try_from(at).expect("an offset");
                self.later(path, Later::Write(at, bytes.to_vec()));
            }
            Record::Resize { path, len } => {
                let len = usize::try_from(len).expect("a length");
                self.later(path, Later::Resize(len));
            }
            Record::Create { path } => {
                let file = self.files.len();
                self.files.push(Bytes::default());
                self.change(Change::Create(path.to_owned(), file));
            }
            Record::Unlink { path } => self.change(Change::Unlink(path.to_owned())),
            Record::Rename { from, to } => {
                self.change(Change::Rename(from.to_owned(), to.to_owned()));
            }
            Record::Sync { path } if is_honest => self.sync(path),
            Record::Sync { .. } => {}
            Record::FailedSync { path } => self.forget(path),
        }
    }

    fn later(&mut self, path: &Path, later: Later) {
        // A file that has no name any more is nobody's.
        if let Some(&file) = self.seen.get(path) {
            self.files[file].later.push(later);
        }
    }

    fn change(&mut self, change: Change) {
        change.make(&mut self.seen);
        self.changes.push(change);
    }

    fn sync(&mut self, path: &Path) {
        let Some(&file) = self.seen.get(path) else {
            // A folder: all its names are certain.
            self.make_certain(self.changes.len());
            return;
        };
        let Bytes { held, later } = &mut self.files[file];
        for later in later.drain(..) {
            if let Later::Write(_, bytes) = &later {
                self.synced += bytes.len() as u64;
            }
            later.make(held, || true);
        }
        let is_its_making =
            |change: &Change| matches!(change, Change::Create(_, made) if *made == file);
        if let Some(made) = self.changes.iter().position(is_its_making) {
            self.make_certain(made + 1);
        }
    }

    /// What was written to a file since its last sync is for the program's eyes only from now on, as
    /// long as it is not written again.
    fn forget(&mut self, path: &Path) {
        if let Some(&file) = self.seen.get(path) {
            self.files[file].later.retain(|later| matches!(later, Later::Resize(_)));
        }
    }

    fn make_certain(&mut self, changes: usize) {
        for change in self.changes.drain(..changes) {
            change.make(&mut self.held);
        }
    }

    /// Cuts the power: what is left is certain.
    pub(super) fn cut(&mut self, seed: u64) -> Loss {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = |below: usize| random.next_u64() as usize % below;
        self.make_certain(draw(self.changes.len() + 1));
        self.changes.clear();
        self.seen.clone_from(&self.held);
        let mut writes = 0;
        for Bytes { held, later } in &mut self.files {
            // Nothing, everything, or some of it.
            let fate = draw(3);
            for later in later.drain(..) {
                let whole = later.make(held, || match fate {
                    0 => false,
                    1 => true,
                    _ => draw(2) == 0,
                });
                writes += usize::from(!whole);
            }
        }
        Loss { writes, synced: std::mem::take(&mut self.synced) }
    }

    /// Makes the folder anew as the disk holds it.
    pub(super) fn write(&self, folder: &Path) {
        std::fs::remove_dir_all(folder).expect("removed");
        std::fs::create_dir_all(folder).expect("a folder");
        for (path, &file) in &self.held {
            std::fs::write(path, &self.files[file].held).expect("written");
        }
    }
}
