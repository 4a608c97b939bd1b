//! The command line as its users meet it: the real binary, real stores, a small model endpoint on
//! a loopback port, signals and all.

#![expect(clippy::expect_used, reason = "a test whose world cannot be built has failed")]

mod bad_input;
mod cassettes;
mod configuration;
mod daemon;
mod demo;
mod diagnostics;
mod doctor;
mod endpoint;
mod flight;
mod help;
mod inbox;
mod lifecycle;
mod mem;
mod output;
mod pages;
mod postgres;
mod quota;
mod real_model;
mod scene;
mod secrets;
mod socket;
mod store;
mod takeover;
mod tap;
mod team;
mod terminal;
mod volume;
mod world;
