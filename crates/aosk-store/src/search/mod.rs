//! The search index: pages found again by words and by direction.
//!
//! It has a file, or tables, of its own and no part in a commit: a step that is acknowledged has not
//! waited for it. What is in it can be made again from the journals, so it is not migrated and not
//! backed up: another version of it, or a damaged one, is thrown away.

pub(crate) mod check;
mod directions;
mod follower;
mod fuse;
pub(crate) mod index;
mod indexing;
pub(crate) mod shelf;
pub(crate) mod sketch;
pub(crate) mod terms;

pub use follower::{Follower, Lag};
pub use index::SearchIndex;
pub use indexing::{Indexing, OpenIndex};
