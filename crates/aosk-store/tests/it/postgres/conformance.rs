//! The suite that every backend passes, wherever its writer runs.

use std::sync::Arc;

use aosk_conformance::{ContentSite, Site, WholeStore};
use aosk_ports::Store;
use aosk_store::{PostgresOptions, PostgresStore};

use super::seat::GUESTS;
use super::server::{is_here, options};

/// A schema whose stores are opened by a thread without a runtime, or by one of a runtime that has
/// several.
struct Schema {
    options: PostgresOptions,
    is_guest: bool,
}

impl Schema {
    fn open(&self) -> Arc<PostgresStore> {
        let _caller = self.is_guest.then(|| GUESTS.enter());
        Arc::new(PostgresStore::open(&self.options).expect("a store that opens"))
    }
}

impl Site for Schema {
    fn open(&mut self) -> Arc<dyn Store> {
        Self::open(self)
    }
}

impl ContentSite for Schema {
    fn open(&mut self) -> Arc<dyn WholeStore> {
        Self::open(self)
    }
}

mod at_home {
    use super::*;

    fn schema() -> Schema {
        Schema { options: options(), is_guest: false }
    }

    aosk_conformance::conformance_tests!(when is_here() => schema());
    aosk_conformance::content_store_tests!(when is_here() => schema());
}

mod as_a_guest {
    use super::*;

    fn schema() -> Schema {
        Schema { options: options(), is_guest: true }
    }

    aosk_conformance::conformance_tests!(when is_here() => schema());
}
