//! The promises of the scheduler.

#![allow(clippy::expect_used, reason = "what a test takes for granted may fail it")]

mod bounds;
mod flights;
mod slots;
