//! The bell: how the owner of a store hears that somebody posted.
//!
//! Who posts opens a file for writing before it commits and closes it after; the owner watches for
//! that. The system closes the file also for one that is killed in between, so nothing that was
//! committed stays unheard. A signal on a socket would need a listener, and to watch the log of the
//! database would wake the owner at each of its own commits.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, OnceLock};

use aosk_ports::StoreError;

use super::fault::file as file_error;
use super::files::{BELL, Files};
use super::watch::Watch;

/// Held while posting; rings when the last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct Rope {
    _file: Arc<File>,
}

impl Rope {
    /// Takes hold of it.
    pub(super) fn take(files: &Files) -> Result<Self, StoreError> {
        let path = files.bell();
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map(|file| Self { _file: Arc::new(file) })
            .map_err(|error| file_error(&path, &error))
    }
}

/// The bell, as the owner hears it. It is hung up when it is first listened to.
#[derive(Debug)]
pub(super) struct Bell {
    files: Files,
    watch: OnceLock<Option<Watch>>,
}

impl Bell {
    pub(super) const fn new(files: Files) -> Self {
        Self { files, watch: OnceLock::new() }
    }

    /// What tells that it was rung; `None` where the system cannot tell.
    pub(super) fn watch(&self) -> Option<&Watch> {
        let hang = || match Watch::closing(self.files.dir(), BELL) {
            Ok(watch) => Some(watch),
            Err(error) => {
                tracing::warn!(%error, "the store's folder cannot be watched; looking now and then");
                None
            }
        };
        self.watch.get_or_init(hang).as_ref()
    }
}
