//! The PostgreSQL backend.

mod append;
mod batch;
mod census;
mod checkpoint;
mod connect;
mod content;
mod fault;
mod fragments;
mod group;
mod inbox;
mod journal;
mod lease;
mod link;
mod options;
mod partition;
mod process;
mod queue;
mod reader;
mod schema;
mod session;
mod store;
mod tenant;
mod text;
mod tls;
mod vectors;
mod wake;
mod writer;
mod writes;

pub use census::{Facts, Node, Occupied};
pub use link::Link;
pub use options::PostgresOptions;
pub use queue::Depth;
pub use reader::PostgresReader;
pub use schema::SCHEMA;
pub use store::PostgresStore;
