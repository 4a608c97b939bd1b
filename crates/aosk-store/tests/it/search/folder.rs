//! The index in a folder.

use std::sync::Arc;

use aosk_conformance::Library;
use aosk_ports::{Embedder, Retriever};
use aosk_store::SearchIndex;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }
}

impl Library for Folder {
    fn open(&mut self, embedder: Option<Arc<dyn Embedder>>) -> Arc<dyn Retriever> {
        Arc::new(SearchIndex::in_folder(self.0.path(), embedder).expect("an index that opens"))
    }
}

aosk_conformance::retrieval_tests!(Folder::new());
