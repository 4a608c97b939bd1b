//! The store in PostgreSQL, on real servers.

mod bad_input;
mod conformance;
mod crash;
mod growth;
mod nodes;
mod schema;
pub(crate) mod server;
mod sql;
mod tls;
mod writer;
