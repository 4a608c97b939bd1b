//! The store in PostgreSQL, on real servers.

mod audit;
mod bad_input;
mod chaos;
mod conformance;
mod crash;
pub(crate) mod fight;
mod growth;
mod nodes;
mod recovery;
mod schema;
mod seat;
pub(crate) mod server;
mod sql;
mod tls;
mod writer;
