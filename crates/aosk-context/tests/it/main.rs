//! The promises of the page table.

#![allow(clippy::expect_used, reason = "what a test takes for granted may fail it")]

mod again;
mod contradictions;
mod damage;
mod marks;
mod parts;
mod process;
mod reasons;
mod streams;
