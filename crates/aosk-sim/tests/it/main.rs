//! The simulated world keeps its own promises.
#![expect(clippy::expect_used, reason = "a helper of a test fails as the test does")]

mod command;
mod conformance;
mod flaws;
mod model;
mod silent;
mod simulation;
mod store;
mod tools;

use std::future::Future;

/// Runs in virtual time on one thread, and drops everything that still runs at the end.
fn in_virtual_time<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("runtime")
        .block_on(work)
}
