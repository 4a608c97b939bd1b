//! The store in memory is a store.

use std::sync::Arc;

use aosk_conformance::{Site, conformance_tests};
use aosk_ports::Store;
use aosk_sim::{Disk, DiskFaults, MemoryStore, Power};

struct InMemory(Disk);

impl Site for InMemory {
    fn open(&mut self) -> Arc<dyn Store> {
        Arc::new(MemoryStore::open(&self.0, DiskFaults::calm(), Power::on()))
    }
}

conformance_tests!(InMemory(Disk::new(1)));
