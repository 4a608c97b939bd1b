//! Durability: what was acknowledged is there after the writer was killed, and was synced before.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use aosk_conformance::{Power, skip};
use aosk_store::{SqliteStore, owner};

use crate::child::{ARGUMENTS, Other, command};
use crate::ledger::{Ledger, rounds, seed, stores};
use crate::support::{options, random};

/// What is wrong with the store in a folder, which may not even open.
fn wrong(ledger: &mut Ledger, dir: &Path) -> Option<String> {
    match SqliteStore::open(&options(dir)) {
        Ok(store) => ledger.wrong(&store),
        Err(error) => Some(error.to_string()),
    }
}

#[test]
fn acknowledged_appends_survive_kill_9() {
    let mut seed = seed();
    for rounds in stores(rounds()) {
        let (dir, mut ledger) = (tempfile::tempdir().expect("a folder"), Ledger::default());
        for round in rounds {
            ledger.hear_and_kill(Other::start("write", dir.path()), &mut seed);
            assert_eq!(owner(dir.path()).expect("answers"), None, "the lock died with its owner");
            assert_eq!(wrong(&mut ledger, dir.path()), None, "round {round}");
        }
    }
}

#[test]
fn acknowledged_appends_survive_a_power_cut() {
    let (mut seed, mut writes, mut acks) = (seed(), 0, 0);
    for rounds in stores(rounds()) {
        let dir = tempfile::tempdir().expect("a folder");
        let beside = tempfile::tempdir().expect("a folder");
        let (mut power, mut ledger) = (Power::new(dir.path(), beside.path()), Ledger::default());
        for round in rounds {
            let other = Other::start_in("write", dir.path(), power.on());
            ledger.hear_and_kill(other, &mut seed);
            let loss = power.cut(random(&mut seed));
            assert!(loss.synced > 0, "the shim saw no sync");
            writes += loss.writes;
            assert_eq!(wrong(&mut ledger, dir.path()), None, "round {round}");
        }
        acks += ledger.acks.len();
    }
    println!("{{\"name\":\"power\",\"acks\":{acks},\"lost_writes\":{writes}}}");
    assert!(writes > 0, "the cuts took nothing: they proved nothing");
}

#[test]
fn a_disk_that_lies_about_its_syncs_is_found_out_by_the_same_check() {
    let (dir, beside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("one"));
    let mut power = Power::new(dir.path(), beside.path());
    let mut seed = 7;
    let found = (0..20).any(|_| {
        let mut ledger = Ledger::default();
        ledger.hear_and_kill(Other::start_in("write", dir.path(), power.on()), &mut seed);
        power.cut_of_a_disk_that_lies(random(&mut seed));
        match SqliteStore::open(&options(dir.path())) {
            Ok(store) => ledger.lost(&store).is_some(),
            Err(_) => true,
        }
    });
    assert!(found);
}

#[test]
fn a_sync_of_the_log_lies_between_every_write_and_its_ack() {
    let probe = Command::new("strace").args(["-e", "trace=none", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return skip("strace is not here or may not trace");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let trace = dir.path().join("trace");
    let run = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=write,pwrite64,fsync,fdatasync", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().expect("this binary"))
        .args(ARGUMENTS)
        .envs(command("write one by one", &dir.path().join("store")))
        .output()
        .expect("strace runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));

    let (mut written, mut synced, mut syncing, mut acks) = (false, false, HashSet::new(), 0);
    for line in std::fs::read_to_string(&trace).expect("a trace").lines() {
        let thread = line.split(' ').next().unwrap_or_default();
        let on_log = line.contains("aosk.db-wal>");
        let is_sync = line.contains("sync(");
        if on_log && line.contains("write") {
            (written, synced) = (true, false);
        } else if on_log && is_sync && line.contains("<unfinished") {
            syncing.insert(thread);
        } else if (on_log && is_sync || line.contains("sync resumed") && syncing.remove(thread))
            && line.ends_with("= 0")
        {
            synced = true;
        } else if line.contains("\"ack 0 ") {
            assert!(written && synced, "ack {acks} came before its sync: {line}");
            written = false;
            acks += 1;
        }
    }
    assert_eq!(acks, 20);
}
