//! The kernel on a store in memory and a device that says what the test tells it to say.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says why"
)]

mod apart;
mod budget;
mod conversation;
mod counting;
mod crash;
mod edges;
mod fail_points;
mod fallback;
mod family;
mod fold;
mod health;
mod kill;
mod kin;
mod life;
mod limits;
mod mail;
mod many;
mod mentions;
mod nodes;
mod parts;
mod quota;
mod reading;
mod recall;
mod recall_query;
mod recovery;
mod rest;
mod restart;
mod seen;
mod signals;
mod spend;
mod support;
mod tuning;
