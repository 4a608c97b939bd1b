//! The suite that every backend passes.

use std::sync::Arc;

use aosk_conformance::{ContentSite, Site, WholeStore};
use aosk_ports::Store;
use aosk_store::{PostgresOptions, PostgresStore};

use super::server::{is_here, options};

struct Schema(PostgresOptions);

impl Site for Schema {
    fn open(&mut self) -> Arc<dyn Store> {
        Arc::new(PostgresStore::open(&self.0).expect("a store that opens"))
    }
}

impl ContentSite for Schema {
    fn open(&mut self) -> Arc<dyn WholeStore> {
        Arc::new(PostgresStore::open(&self.0).expect("a store that opens"))
    }
}

aosk_conformance::conformance_tests!(when is_here() => Schema(options()));
aosk_conformance::content_store_tests!(when is_here() => Schema(options()));
