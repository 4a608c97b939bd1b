//! Durability: what was acknowledged is there after the writer was killed, and was synced before.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use aosk_abi::{Seq, Tenant};
use aosk_conformance::{Power, skip};
use aosk_ports::{Journal, ProcessFilter, StoreError};
use aosk_store::{SqliteStore, owner};

use crate::child::{ARGUMENTS, Ack, Other, WRITERS, command, pid};
use crate::support::{block_on, open, options, random};

/// How many rounds, and the seed of their moments; more and others with these variables.
fn rounds_and_seed() -> (u64, u64) {
    let number =
        |name, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    (number("AOSK_KILL_ROUNDS", 8), number("AOSK_KILL_SEED", 20_260_101))
}

/// Kills a writer at a moment of its first 200 ms, and answers the acks that were heard.
fn kill_at_some_moment(mut other: Other, seed: &mut u64) -> Vec<Ack> {
    let mut acks: Vec<Ack> = Ack::parse(&other.line("ack ")).into_iter().collect();
    std::thread::sleep(Duration::from_micros(random(seed) % 200_000));
    // The last line may be cut; an ack that was not heard binds nobody.
    let said = other.kill();
    let whole = said.rfind('\n').map_or("", |end| &said[..end]);
    acks.extend(whole.lines().filter_map(Ack::parse));
    acks
}

/// The first ack whose event is not in the store; an error where that cannot be read.
fn lost(dir: &Path, acks: &[Ack]) -> Result<Option<Ack>, StoreError> {
    let store = SqliteStore::open(&options(dir))?;
    let local = Tenant::local();
    let mut there = HashSet::new();
    for receipt in block_on(store.processes(&local, ProcessFilter::All))? {
        // Reading verifies the chain.
        let read = block_on(store.read(&local, receipt.pid, Seq(0), usize::MAX))?;
        there.extend(read.iter().map(|record| (receipt.pid, record.seq.0, record.hash)));
    }
    let is_lost = |ack: &&Ack| !there.contains(&(pid(ack.n), ack.last, ack.hash));
    Ok(acks.iter().find(is_lost).copied())
}

#[test]
fn acknowledged_appends_survive_kill_9() {
    let (rounds, mut seed) = rounds_and_seed();
    let dir = tempfile::tempdir().expect("a folder");
    let mut acks = Vec::new();
    for round in 0..rounds {
        acks.extend(kill_at_some_moment(Other::start("write", dir.path()), &mut seed));
        assert_eq!(owner(dir.path()).expect("answers"), None, "the lock died with its owner");
        let lost = lost(dir.path(), &acks).expect("whole");
        assert!(lost.is_none(), "round {round}: {lost:?} is lost");
        let store = open(dir.path());
        let listed = block_on(store.processes(&Tenant::local(), ProcessFilter::All));
        assert_eq!(listed.expect("listed").len() as u64, WRITERS);
    }
    assert!(acks.len() as u64 >= rounds, "at least the first ack of each round was heard");
}

#[test]
fn acknowledged_appends_survive_a_power_cut() {
    let (rounds, mut seed) = rounds_and_seed();
    let (dir, beside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("one"));
    let mut power = Power::new(dir.path(), beside.path());
    let (mut acks, mut writes) = (Vec::new(), 0);
    for round in 0..rounds {
        let other = Other::start_in("write", dir.path(), power.on());
        acks.extend(kill_at_some_moment(other, &mut seed));
        let loss = power.cut(random(&mut seed));
        assert!(loss.synced > 0, "the shim saw no sync");
        writes += loss.writes;
        let lost = lost(dir.path(), &acks).expect("whole");
        assert!(lost.is_none(), "round {round}: {lost:?} is lost");
    }
    println!(
        "{{\"name\":\"power\",\"rounds\":{rounds},\"acks\":{},\"lost_writes\":{writes}}}",
        acks.len()
    );
    assert!(writes > 0, "{rounds} cuts took nothing: they proved nothing");
}

#[test]
fn a_disk_that_lies_about_its_syncs_is_found_out_by_the_same_check() {
    let (dir, beside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("one"));
    let mut power = Power::new(dir.path(), beside.path());
    let mut seed = 7;
    let found = (0..20).any(|_| {
        let other = Other::start_in("write", dir.path(), power.on());
        let acks = kill_at_some_moment(other, &mut seed);
        power.cut_of_a_disk_that_lies(random(&mut seed));
        lost(dir.path(), &acks).map_or(true, |lost| lost.is_some())
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
