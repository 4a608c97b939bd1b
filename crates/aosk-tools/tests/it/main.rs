//! What the built-in tools promise, called as a kernel calls them, on real workspaces.
#![expect(clippy::expect_used, reason = "a test whose world cannot be built has failed")]

mod arguments;
mod desk;
mod files;
