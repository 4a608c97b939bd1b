//! A workspace with a canary outside and every kind of way out inside.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use aosk_ports::{Sandbox, SandboxError};
use aosk_sandbox::Workspace;
use rustix::fs::{CWD, FileType, Mode, mknodat};

pub const CANARY: &str = "canary-5d1f";
/// A name that stands in every folder around the workspace and in none inside.
pub const MARKER: &str = "marker-5d1f";
pub const INSIDE: &str = "inside";

/// How deep below the temporary folder everything stands, so that a sandbox that fails its tests
/// does its harm in there.
pub const DEPTH: usize = 9;

/// ```text
/// marker-5d1f
/// outside/marker-5d1f
/// outside/canary.txt        holds the canary
/// work/                     the workspace
///   file.txt  sub/deep/file.txt
///   to_file -> file.txt     to_sub -> sub        up -> sub/../file.txt
///   out -> ../outside       out_file -> ../outside/canary.txt
///   absolute -> /…/outside  absolute_in -> /…/work/file.txt
///   loop -> loop            nowhere -> missing
///   pipe                    a FIFO that nobody writes
/// ```
pub struct Tree {
    top: tempfile::TempDir,
    pub base: PathBuf,
    pub workspace: Workspace,
}

impl Tree {
    pub fn new() -> Self {
        let top = tempfile::tempdir().expect("temporary folder");
        let base: PathBuf =
            std::iter::once(top.path()).chain((0..DEPTH).map(|_| Path::new("around"))).collect();
        let (outside, work) = (base.join("outside"), base.join("work"));
        fs::create_dir_all(&outside).expect("folder");
        fs::write(outside.join("canary.txt"), CANARY).expect("file");
        fs::write(outside.join(MARKER), "").expect("file");
        fs::write(base.join(MARKER), "").expect("file");
        fs::create_dir_all(work.join("sub/deep")).expect("folder");
        fs::write(work.join("file.txt"), INSIDE).expect("file");
        fs::write(work.join("sub/deep/file.txt"), INSIDE).expect("file");
        let link = |target: &Path, name: &str| symlink(target, work.join(name)).expect("link");
        for (name, target) in [
            ("to_file", "file.txt"),
            ("to_sub", "sub"),
            ("up", "sub/../file.txt"),
            ("out", "../outside"),
            ("out_file", "../outside/canary.txt"),
            ("loop", "loop"),
            ("nowhere", "missing"),
        ] {
            link(Path::new(target), name);
        }
        link(&outside, "absolute");
        link(&work.join("file.txt"), "absolute_in");
        mknodat(CWD, work.join("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("FIFO");
        let workspace = Workspace::open(&work).expect("a host with openat2");
        Self { top, base, workspace }
    }

    pub fn work(&self) -> PathBuf {
        self.base.join("work")
    }

    pub fn outside(&self) -> PathBuf {
        self.base.join("outside")
    }

    pub fn read(&self, path: impl AsRef<Path>) -> Result<String, SandboxError> {
        let mut text = String::new();
        self.workspace.open(path.as_ref())?.read_to_string(&mut text).expect("readable UTF-8");
        Ok(text)
    }

    pub fn write(&self, path: impl AsRef<Path>, text: &str) -> Result<(), SandboxError> {
        self.workspace.write(path.as_ref(), text.as_bytes())
    }

    /// The names of a folder's entries.
    pub fn names(&self, path: impl AsRef<Path>) -> Result<Vec<String>, SandboxError> {
        let listing = self.workspace.list(path.as_ref(), usize::MAX)?;
        Ok(listing.entries.iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect())
    }

    /// Whether nothing around the workspace was touched.
    pub fn outside_is_untouched(&self) -> bool {
        let names = |folder: &Path| {
            let entries = fs::read_dir(folder).expect("folder");
            let mut names: Vec<_> =
                entries.map(|entry| entry.expect("entry").file_name()).collect();
            names.sort();
            names
        };
        let mut above = self.base.ancestors().skip(1);
        above.by_ref().take(DEPTH).all(|folder| names(folder) == ["around"])
            && above.next() == self.top.path().parent()
            && names(&self.base) == [MARKER, "outside", "work"]
            && names(&self.outside()) == ["canary.txt", MARKER]
            && fs::read_to_string(self.outside().join("canary.txt")).expect("file") == CANARY
    }
}
