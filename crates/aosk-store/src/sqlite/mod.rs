//! The SQLite backend.

mod append;
mod backup;
mod batch;
mod bell;
mod budget;
mod checkpoint;
mod chunked;
pub(crate) mod compress;
mod content;
mod fault;
mod files;
mod flight;
mod hashes;
mod holdings;
mod inbox;
mod journal;
mod lock;
mod log;
mod pool;
mod process;
mod prune;
mod queue;
mod reader;
mod schema;
mod search;
mod sizes;
mod span;
mod store;
mod tenant;
mod transfer;
mod varint;
#[cfg(target_os = "linux")]
mod watch;
#[cfg(not(target_os = "linux"))]
#[path = "unwatched.rs"]
mod watch;
mod writer;

pub use backup::{Backup, restore};
pub use flight::Flight;
pub use lock::{Hold, Owner, owner};
pub use reader::SqliteReader;
pub use schema::{SCHEMA, integrity, sqlite_version};
pub(crate) use search::SqliteShelf;
pub use sizes::{Sizes, TableSize, sizes};
pub use store::{Options, SqliteStore};
pub(crate) use transfer::{Broom, Intake, Snapshot};
pub use watch::Watch;
