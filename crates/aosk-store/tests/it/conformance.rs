//! The suite that every backend passes.

use std::sync::Arc;

use aosk_conformance::{ContentSite, Site, WholeStore};
use aosk_ports::Store;

use crate::support::open;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }
}

impl Site for Folder {
    fn open(&mut self) -> Arc<dyn Store> {
        Arc::new(open(self.0.path()))
    }
}

impl ContentSite for Folder {
    fn open(&mut self) -> Arc<dyn WholeStore> {
        Arc::new(open(self.0.path()))
    }
}

aosk_conformance::conformance_tests!(Folder::new());
aosk_conformance::content_store_tests!(Folder::new());
