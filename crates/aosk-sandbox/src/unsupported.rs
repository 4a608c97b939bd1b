//! The workspace of hosts without `openat2`.
//!
//! A walk that opens one component after the other could confine there too, but it would be a
//! second mechanism with races of its own. Until it is built and tested, nothing is opened.

use std::convert::Infallible;
use std::fs::File;
use std::path::Path;

use aosk_ports::{Listing, Sandbox, SandboxError};

/// A workspace cannot be opened on this host, so there is none.
#[derive(Debug)]
pub struct Workspace(Infallible);

impl Workspace {
    /// Refuses.
    ///
    /// # Errors
    /// Always [`SandboxError::Unsupported`].
    pub fn open(_: &Path) -> Result<Self, SandboxError> {
        Err(SandboxError::Unsupported {
            missing: "openat2 of Linux 5.6 or newer; this is another operating system".to_owned(),
        })
    }
}

impl Sandbox for Workspace {
    fn isolation(&self) -> &'static str {
        match self.0 {}
    }

    fn open(&self, _: &Path) -> Result<File, SandboxError> {
        match self.0 {}
    }

    fn write(&self, _: &Path, _: &[u8]) -> Result<(), SandboxError> {
        match self.0 {}
    }

    fn list(&self, _: &Path, _: usize) -> Result<Listing, SandboxError> {
        match self.0 {}
    }
}
