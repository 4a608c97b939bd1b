//! The folder of a demo: its store, its agents and their files.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aosk_abi::Code;

use super::CASSETTE;
use crate::error::Error;
use crate::processes::refuse_file;

/// What is unpacked, by its path below the demo's part of the folder. The agents come first.
const FILES: [(&str, &str); 6] = [
    ("sums.toml", include_str!("../../../../examples/first-run/sums.toml")),
    ("reader.toml", include_str!("../../../../examples/first-run/reader.toml")),
    ("writer.toml", include_str!("../../../../examples/first-run/writer.toml")),
    ("replies.jsonl", CASSETTE),
    ("files/bus.txt", include_str!("../../../../examples/first-run/files/bus.txt")),
    ("files/meeting.txt", include_str!("../../../../examples/first-run/files/meeting.txt")),
];

/// An unpacked demo.
pub(super) struct Folder {
    root: PathBuf,
    temporary: bool,
}

impl Folder {
    /// Unpacks into a data folder of the user's. A second demo there adds its agents to it.
    pub(super) fn at(dir: &Path) -> Result<Self, Error> {
        refuse_file(dir)?;
        let root = std::path::absolute(dir).map_err(|error| failed(dir, &error))?;
        make(&root)?;
        Self { root, temporary: false }.unpack()
    }

    /// Unpacks into a new folder of its own, which stays.
    pub(super) fn temporary() -> Result<Self, Error> {
        let base = std::env::temp_dir();
        let mut number = std::process::id();
        loop {
            let root = base.join(format!("aosk-demo-{number}"));
            // Not recursive: a folder or link of that name, whoever made it, is left alone.
            match DirBuilder::new().mode(0o700).create(&root) {
                Ok(()) => return Self { root, temporary: true }.unpack(),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    number = number.wrapping_add(1);
                }
                Err(error) => {
                    return Err(failed(&root, &error).help("give a folder: --data-dir DIR"));
                }
            }
        }
    }

    /// The folder that holds the store.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether nobody but the demo has anything in it.
    pub(super) const fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// The manifests.
    pub(super) fn agents(&self) -> [PathBuf; 3] {
        [0, 1, 2].map(|index| self.part().join(FILES[index].0))
    }

    /// The recorded replies.
    pub(super) fn cassette(&self) -> PathBuf {
        self.part().join("replies.jsonl")
    }

    /// The files that the agents see.
    pub(super) fn files(&self) -> PathBuf {
        self.part().join("files")
    }

    fn part(&self) -> PathBuf {
        self.root.join("demo")
    }

    fn unpack(self) -> Result<Self, Error> {
        make(&self.files())?;
        for (name, text) in FILES {
            write(&self.part().join(name), text)?;
        }
        Ok(self)
    }
}

fn make(dir: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| failed(dir, &error))
}

/// Writes a file that is not there yet. One of another content is somebody's work; it stays.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map_err(|error| failed(path, &error)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let found = std::fs::read(path).map_err(|error| failed(path, &error))?;
            if found == text.as_bytes() {
                return Ok(());
            }
            Err(Error::new(Code::CliFile, "this is not the demo's own file")
                .at(path, None)
                .help("nothing was changed; move it away, or give another --data-dir"))
        }
        Err(error) => Err(failed(path, &error)),
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::new(Code::CliFile, format!("cannot be written: {error}")).at(path, None)
}
