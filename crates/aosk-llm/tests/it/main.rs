//! The crate seen from outside: over real sockets, against a server that plays what it is told,
//! and against a real model server where there is one.

#![allow(clippy::expect_used, clippy::print_stderr, reason = "a test fails and reports this way")]

mod anthropic;
mod cassette;
mod constrained;
mod counts;
mod discover;
mod embeddings;
mod failures;
mod framing;
mod models;
mod proxies;
mod real;
mod refusals;
mod render;
mod sentence;
mod server;
mod stream;
mod support;
mod times;
mod tokens;
mod variants;
