//! Ownership and the files of a store.

use std::os::unix::fs::PermissionsExt;

use aosk_abi::{Code, Tenant};
use aosk_ports::Journal;
use aosk_store::{SqliteStore, owner};

use crate::child::Other;
use crate::support::{block_on, open, options, refused};

#[test]
fn a_second_owner_is_told_who_the_first_is() {
    let dir = tempfile::tempdir().expect("a folder");
    assert_eq!(owner(dir.path()).expect("answers"), None);
    let mut other = Other::start("own", dir.path());
    other.line("owned");

    let error = refused(SqliteStore::open(&options(dir.path())), Code::StoreOwned);
    assert!(error.message.contains(&format!("process {} (a test)", other.os_pid())), "{error}");
    let found = owner(dir.path()).expect("answers").expect("owned");
    assert_eq!((found.os_pid, found.command.as_str()), (other.os_pid(), "a test"));
    let age = std::time::SystemTime::now().duration_since(
        std::time::UNIX_EPOCH + std::time::Duration::from_millis(found.since.as_millis()),
    );
    assert!(age.is_ok_and(|age| age.as_secs() < 60), "{found:?}");

    other.kill();
    assert_eq!(owner(dir.path()).expect("answers"), None);
    let store = open(dir.path());
    refused(SqliteStore::open(&options(dir.path())), Code::StoreOwned);
    drop(store);
    drop(open(dir.path()));
}

#[test]
fn asking_for_the_owner_never_looks_like_one() {
    let dir = tempfile::tempdir().expect("a folder");
    drop(open(dir.path()));
    let asking = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while asking.load(std::sync::atomic::Ordering::Relaxed) {
                owner(dir.path()).expect("answers");
            }
        });
        let opened: Vec<_> =
            (0..30).map(|_| SqliteStore::open(&options(dir.path())).err()).collect();
        asking.store(false, std::sync::atomic::Ordering::Relaxed);
        assert!(opened.iter().all(Option::is_none), "{opened:?}");
    });
}

#[test]
fn nobody_else_may_read_the_files() {
    let above = tempfile::tempdir().expect("a folder");
    let dir = above.path().join("data/aosk");
    let store = open(&dir);
    block_on(store.content_key(&Tenant::local())).expect("a commit, so that the log is there");
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path).expect("there").permissions().mode() & 0o777
    };
    assert_eq!(mode(&dir), 0o700);
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(&dir).expect("a folder") {
        let entry = entry.expect("an entry");
        assert_eq!(mode(&entry.path()), 0o600, "{entry:?}");
        names.push(entry.file_name().into_string().expect("UTF-8"));
    }
    names.sort();
    assert_eq!(names, ["aosk.db", "aosk.db-shm", "aosk.db-wal", "aosk.lock"]);
}

#[test]
fn a_crash_while_the_database_is_made_leaves_no_store() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("aosk.db.new"), b"half a database").expect("written");
    drop(open(dir.path()));
    assert!(!dir.path().join("aosk.db.new").exists());
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("file");
    std::fs::write(&file, b"").expect("written");
    let error = refused(SqliteStore::open(&options(&file.join("store"))), Code::StoreOpen);
    assert!(error.message.contains("file/store"), "{error}");
}
