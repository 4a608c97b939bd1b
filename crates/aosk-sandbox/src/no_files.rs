//! No files at all.

use std::fs::File;
use std::path::Path;

use aosk_ports::{Listing, Sandbox, SandboxError};

/// The sandbox of a process without a workspace: every call is refused with a word on how to get
/// one.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFiles;

impl Sandbox for NoFiles {
    fn isolation(&self) -> &'static str {
        "no-files"
    }

    fn open(&self, _: &Path) -> Result<File, SandboxError> {
        Err(SandboxError::NoWorkspace)
    }

    fn write(&self, _: &Path, _: &[u8]) -> Result<(), SandboxError> {
        Err(SandboxError::NoWorkspace)
    }

    fn list(&self, _: &Path, _: usize) -> Result<Listing, SandboxError> {
        Err(SandboxError::NoWorkspace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_reachable_without_a_workspace() {
        let path = Path::new("/etc/hostname");
        assert!(matches!(NoFiles.open(path), Err(SandboxError::NoWorkspace)));
        assert!(matches!(NoFiles.write(path, b""), Err(SandboxError::NoWorkspace)));
        assert!(matches!(NoFiles.list(path, 1), Err(SandboxError::NoWorkspace)));
    }
}
