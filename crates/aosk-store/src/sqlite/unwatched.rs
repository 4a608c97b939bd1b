//! Watching where there is no inotify: nothing is watched, and whoever asks looks now and then.
//!
//! Other systems have means of their own. Each would be a second mechanism that says whether
//! something was heard, so until one is built and tested, none is pretended.

use std::convert::Infallible;
use std::ffi::CStr;
use std::io::{Error, ErrorKind};
use std::path::Path;

/// What is watched: on this system nothing can be.
#[derive(Debug)]
pub struct Watch(Infallible);

impl Watch {
    /// Refuses.
    ///
    /// # Errors
    /// Always [`ErrorKind::Unsupported`].
    pub fn removal(_: &Path, _: &'static CStr) -> std::io::Result<Self> {
        Err(unsupported())
    }

    /// Refuses.
    ///
    /// # Errors
    /// Always [`ErrorKind::Unsupported`].
    pub(super) fn closing(_: &Path, _: &'static CStr) -> std::io::Result<Self> {
        Err(unsupported())
    }

    /// There is none for which this could be asked.
    pub async fn changed(&self) {
        match self.0 {}
    }
}

fn unsupported() -> Error {
    Error::new(ErrorKind::Unsupported, "this system has no inotify")
}
