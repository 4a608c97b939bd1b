//! The store on real disks: conformance, damage, full and read-only media, killed owners.

#![expect(clippy::expect_used, reason = "a test fails this way")]

mod child;
mod conformance;
mod copy;
mod damage;
mod disk;
mod format;
mod gc;
mod growth;
mod kill;
mod leases;
mod ledger;
mod owner;
mod postgres;
mod prune;
mod reader;
mod search;
mod stream;
mod support;
mod trouble;
