//! The search index, in a file and on a server.

mod folder;
mod follow;
mod indexing;
mod server;
