//! The stores of the Agent OS Kernel: [`SqliteStore`], one folder, one SQLite file, nothing to set
//! up; and [`PostgresStore`], one schema of a server that many nodes share.
//!
//! 1. **Acknowledged is durable.** A [`Ticket`](aosk_ports::Ticket) resolves after the log was
//!    synced, never before. There is no switch for that.
//! 2. **One owner a process, many readers.** Of a file whoever holds its lock is the only one to
//!    write journals; on a server whoever holds a lease. Everyone else reads beside them and posts to
//!    the inbox.
//! 3. **One row an append**, never changed. What can be recomputed is not stored: a step costs some
//!    500 bytes beyond its contents in a file and 770 on a server, at any length of the history.
//! 4. **Nothing is taken on trust.** Every read recomputes the hash chain and the hash of every
//!    content; damage is an error that names the process and the event.
//! 5. **The database is the only truth.** No head, epoch or key is cached across transactions, so
//!    a failed commit leaves nothing to repair.
//! 6. **One meaning.** What an append is refused for, with which code, at which bounds, does not
//!    depend on the backend: the same checks run for both, and the same suite of tests.
//!
//! What the embedded store cannot see: SQLite ends its log at the first frame with a wrong checksum. A log that is
//! damaged on the disk after it was synced therefore loses its end without an error.
//!
//! ```
//! use aosk_abi::Tenant;
//! use aosk_ports::{Journal, ProcessFilter};
//! use aosk_store::{Options, SqliteReader, SqliteStore, owner};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = std::env::temp_dir().join(format!("aosk-store-example-{}", std::process::id()));
//! let store = SqliteStore::open(&Options { dir: dir.clone(), command: "example".into() })?;
//! assert_eq!(owner(&dir)?.map(|owner| owner.command), Some("example".into()));
//!
//! let reader = SqliteReader::open(&dir)?;
//! let running = reader.processes(&Tenant::local(), ProcessFilter::Unfinished);
//! assert!(running.await?.is_empty());
//!
//! drop(store);
//! assert_eq!(owner(&dir)?, None);
//! # std::fs::remove_dir_all(dir)?;
//! # Ok(())
//! # }
//! ```
//!
//! On a server:
//!
//! ```no_run
//! use aosk_store::{PostgresOptions, PostgresStore};
//!
//! let options = PostgresOptions::new("postgres://kernel:secret@db.example/agents", "node 1");
//! let store = PostgresStore::open(&options)?;
//! println!("{} appends wait", store.queue_depth().appends);
//! # Ok::<(), aosk_ports::StoreError>(())
//! ```

mod check;
mod copy;
mod postgres;
mod prune;
mod search;
mod sqlite;
mod upkeep;

pub use copy::{Collected, Copied, StorePlace, collect, copy};
pub use postgres::{
    Depth, Facts, Link, Node, NodeId, Occupied, PostgresOptions, PostgresReader, PostgresStore,
    SCHEMA as POSTGRES_SCHEMA,
};
pub use prune::{Gone, Pruned, Pruning, Reason, Removal, Retention, prune, prunings};
pub use search::{Follower, Indexing, Lag, OpenIndex, SearchIndex};
pub use sqlite::{
    Backup, Flight, Hold, Options, Owner, SCHEMA, Sizes, SqliteReader, SqliteStore, TableSize,
    Watch, integrity, owner, restore, sizes, sqlite_version,
};
pub use upkeep::{Upkeep, upkeep};
