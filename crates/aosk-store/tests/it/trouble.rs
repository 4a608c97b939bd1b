//! Disks on which calls fail: what was acknowledged outlives them, whatever the system still shows.

use aosk_abi::Code;
use aosk_conformance::{Power, Trouble};

use crate::child::{Other, hold};
use crate::ledger::{Ledger, rounds, seed};
use crate::support::{open, random};

/// After a failed sync the system shows bytes that the disk does not have, and never will have by
/// a later sync. Who opens the store next must not build on them: a log is believed up to its first
/// gap only.
#[test]
fn what_is_acknowledged_after_a_failed_sync_outlives_a_power_cut() {
    let mut seed = seed();
    for round in 0..3 {
        let dir = tempfile::tempdir().expect("a folder");
        let beside = tempfile::tempdir().expect("a folder");
        drop(open(dir.path()));
        let (mut power, mut ledger) = (Power::new(dir.path(), beside.path()), Ledger::default());

        let trouble = Trouble::Sync { of: "aosk.db-wal", number: 20 + round };
        let environment = power.on().into_iter().chain(trouble.environment());
        let mut first = Other::start_in("write", dir.path(), environment);
        assert_eq!(first.line("refused "), format!("refused {}", Code::StoreIo));
        ledger.kill(first);
        let mut next = Other::start_in("write", dir.path(), power.still_on());
        ledger.hear(&mut next, 20);
        ledger.kill(next);
        power.cut(random(&mut seed));
        assert_eq!(ledger.lost(&open(dir.path())), None);
    }
}

/// Pages that were moved into the file and not synced yet are forgotten by a later sync that fails.
/// The log still has them, and must have them until they were moved again.
#[test]
fn what_was_moved_into_the_file_before_a_failed_sync_outlives_a_power_cut() {
    let dir = tempfile::tempdir().expect("a folder");
    let beside = tempfile::tempdir().expect("a folder");
    drop(open(dir.path()));
    let (mut power, mut ledger) = (Power::new(dir.path(), beside.path()), Ledger::default());
    let trouble = Trouble::Sync { of: "aosk.db", number: 1 };
    let environment = power.on().into_iter().chain(trouble.environment());
    let mut other = Other::start_in("write", dir.path(), environment);
    ledger.hear(&mut other, 300);
    // While this is open only what came before it is moved, which is no reason for a sync.
    let snapshot = hold(dir.path()).expect("a snapshot");
    ledger.hear(&mut other, 3000);
    drop(snapshot);
    ledger.hear(&mut other, 3000);
    ledger.kill(other);
    power.cut(seed());
    assert_eq!(ledger.lost(&open(dir.path())), None);
}

/// Reads, writes and syncs fail at random, one life after the other; then the power is cut. Once in
/// three rounds of the others, for each begins with a store that is made on such a disk.
#[test]
fn acknowledged_appends_survive_calls_that_fail_and_a_power_cut() {
    let mut seed = seed();
    let (mut acks, mut refused, mut lives) = (0, 0, 0);
    for round in 0..rounds() / 3 {
        let dir = tempfile::tempdir().expect("a folder");
        let beside = tempfile::tempdir().expect("a folder");
        let (mut power, mut ledger) = (Power::new(dir.path(), beside.path()), Ledger::default());
        power.on();
        for _ in 0..2 {
            let trouble = Trouble::OneIn { calls: 40 << (round % 4), seed: random(&mut seed) };
            let environment = power.still_on().into_iter().chain(trouble.environment());
            let other = Other::start_in("write through trouble", dir.path(), environment);
            ledger.hear_and_kill(other, &mut seed);
            lives += 1;
        }
        power.cut(random(&mut seed));
        assert_eq!(ledger.lost(&open(dir.path())), None, "round {round}");
        acks += ledger.acks.len();
        refused += ledger.refused;
    }
    println!("{{\"name\":\"trouble\",\"lives\":{lives},\"acks\":{acks},\"refused\":{refused}}}");
    assert!(refused > 0, "nothing failed: it proved nothing");
}
