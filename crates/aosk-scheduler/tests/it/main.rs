//! The promises of the scheduler.

#![allow(clippy::expect_used, reason = "what a test takes for granted may fail it")]

use aosk_scheduler::{Order, PoolOptions};

mod bounds;
mod families;
mod flights;
mod machine;
mod orders;
mod provider;
mod quotas;
mod random;
mod slots;
mod tuning;

/// A pool whose processes share by their weights.
const fn fair(slots: usize) -> PoolOptions {
    PoolOptions { order: Order::Fair, ..PoolOptions::new(slots) }
}
