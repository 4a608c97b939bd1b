//! What a workspace promises, held against real folders, links, pipes and a process that swaps
//! them meanwhile.
#![cfg(target_os = "linux")]
#![expect(clippy::expect_used, reason = "a test whose world cannot be built has failed")]

mod confinement;
mod escape;
mod race;
mod tree;
mod writing;
