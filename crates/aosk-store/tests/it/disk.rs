//! Disks that are full or may not be written.

use std::process::Command;

use aosk_abi::{Code, Seq, Tenant};
use aosk_conformance::{Scribe, Volume, skip};
use aosk_ports::{Journal, JournalWriter};
use aosk_store::{SqliteReader, SqliteStore};

use crate::child::pid;
use crate::support::{Mount, block_on, noise, open, options, refused};

#[test]
fn a_full_disk_refuses_and_loses_nothing_and_goes_on_when_there_is_room() {
    let Some(disk) = Volume::new(8) else {
        return skip("a file system in a file cannot be mounted here");
    };
    let local = Tenant::local();
    let filler = disk.path().join("some");
    std::fs::write(&filler, vec![1; 1 << 20]).expect("room");
    let dir = disk.path().join("store");
    let store = open(&dir);
    block_on(async {
        let mut scribes = Vec::new();
        for n in 0..3 {
            scribes.push(Scribe::new(&store, &local, pid(n)).await);
        }
        let mut full = None;
        for n in 0..400 {
            let scribe = &mut scribes[n as usize % 3];
            if let Err(error) = scribe.write(&store, &[&noise(n, 3000), &noise(n, 20_000)]).await {
                full = Some(error);
                break;
            }
        }
        assert_eq!(full.expect("8 MiB are full before 400 appends").code, Code::StoreFull);
        for scribe in &scribes {
            let read = store.read(&local, scribe.pid, Seq(0), usize::MAX).await.expect("whole");
            assert_eq!(read.last().map(|it| it.hash), Some(scribe.head), "acknowledged, no more");
        }

        // In flight together: what is acknowledged of it is there, and nothing else.
        let mut flight = Vec::new();
        for n in 0..30 {
            let scribe = &mut scribes[n as usize % 3];
            let append = scribe.append(&[&noise(n, 30_000)]);
            flight.push((n as usize % 3, append.clone(), store.append(append)));
        }
        for (n, append, ticket) in flight {
            match ticket.await {
                Ok(_) => scribes[n].follow(&append),
                Err(error) => {
                    assert!(matches!(error.code, Code::StoreFull | Code::StoreConflict), "{error}")
                }
            }
        }
        std::fs::remove_file(&filler).expect("room");
        for scribe in &mut scribes {
            scribe.write(&store, &[b"there is room again"]).await.expect("goes on");
        }
        drop(store);
        let store = open(&dir);
        for scribe in &scribes {
            let read = store.read(&local, scribe.pid, Seq(0), usize::MAX).await.expect("whole");
            assert_eq!(read.last().map(|it| it.hash), Some(scribe.head));
        }
    });
}

#[test]
fn a_disk_too_small_for_a_store_says_so() {
    let Some(disk) = Mount::new("64k") else {
        return skip("a small file system cannot be mounted here");
    };
    refused(SqliteStore::open(&options(disk.path())), Code::StoreFull);
    disk.remount("size=4m");
    drop(open(disk.path()));
}

#[test]
fn a_read_only_disk_is_named_as_such() {
    let Some(disk) = Mount::new("4m") else {
        return skip("a small file system cannot be mounted here");
    };
    drop(open(disk.path()));
    disk.remount("ro");
    refused(SqliteStore::open(&options(disk.path())), Code::StoreReadOnly);
    refused(SqliteReader::open(disk.path()), Code::StoreReadOnly);
    let nowhere = disk.path().join("another");
    refused(SqliteStore::open(&options(&nowhere)), Code::StoreReadOnly);
    disk.remount("rw");
    drop(open(disk.path()));
}

#[test]
fn a_read_only_file_is_named_as_such() {
    let Some(disk) = Mount::new("4m") else {
        return skip("a small file system cannot be mounted here");
    };
    drop(open(disk.path()));
    let file = disk.path().join("aosk.db");
    let mount = |arguments: &[&str]| {
        let done = Command::new("mount").args(arguments).arg(&file).status();
        assert!(done.is_ok_and(|status| status.success()), "mount {arguments:?}");
    };
    mount(&["--bind", file.to_str().expect("UTF-8")]);
    mount(&["-o", "remount,bind,ro"]);
    let answer = SqliteStore::open(&options(disk.path()));
    let unmounted = Command::new("umount").arg(&file).status();
    refused(answer, Code::StoreReadOnly);
    assert!(unmounted.is_ok_and(|status| status.success()));
}
