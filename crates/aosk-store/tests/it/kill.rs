//! Durability: what was acknowledged is there after the writer was killed, and was synced before.

use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;

use aosk_abi::{Seq, Tenant};
use aosk_ports::{Journal, ProcessFilter};
use aosk_store::owner;

use crate::child::{ARGUMENTS, Ack, Other, WRITERS, command, pid};
use crate::support::{block_on, open, random, skip};

/// More rounds with `AOSK_KILL_ROUNDS`, other moments with `AOSK_KILL_SEED`.
#[test]
fn acknowledged_appends_survive_kill_9() {
    let number =
        |name, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (rounds, mut seed) = (number("AOSK_KILL_ROUNDS", 8), number("AOSK_KILL_SEED", 20_260_101));
    let dir = tempfile::tempdir().expect("a folder");
    let mut acks: Vec<Ack> = Vec::new();
    for round in 0..rounds {
        let mut other = Other::start("write", dir.path());
        acks.extend(Ack::parse(&other.line("ack ")));
        std::thread::sleep(Duration::from_micros(random(&mut seed) % 200_000));
        // The last line may be cut; an ack that was not heard binds nobody.
        let said = other.kill();
        let whole = said.rfind('\n').map_or("", |end| &said[..end]);
        acks.extend(whole.lines().filter_map(Ack::parse));
        assert_eq!(owner(dir.path()).expect("answers"), None, "the lock died with its owner");

        let store = open(dir.path());
        let local = Tenant::local();
        let listed = block_on(store.processes(&local, ProcessFilter::All)).expect("listed");
        assert_eq!(listed.len() as u64, WRITERS);
        for n in 0..WRITERS {
            // Reading verifies the chain.
            let read = block_on(store.read(&local, pid(n), Seq(0), usize::MAX)).expect("whole");
            let links: HashSet<_> = read.iter().map(|record| (record.seq.0, record.hash)).collect();
            for ack in acks.iter().filter(|ack| ack.n == n) {
                assert!(links.contains(&(ack.last, ack.hash)), "round {round}: {ack:?} is lost");
            }
        }
    }
    assert!(acks.len() as u64 >= rounds, "at least the first ack of each round was heard");
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
