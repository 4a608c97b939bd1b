//! One case for each way out.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use aosk_ports::{DirEntry, EntryKind, Listing, Sandbox, SandboxError};
use aosk_sandbox::Workspace;

use crate::tree::{INSIDE, Tree};

#[test]
fn paths_and_links_that_stay_inside_are_followed() {
    let tree = Tree::new();
    let absolute = tree.work().join("file.txt");
    for path in [
        "file.txt",
        "./file.txt",
        "sub/../file.txt",
        "sub/deep/../../file.txt",
        "to_file",
        "to_sub/deep/file.txt",
        "up",
        absolute.to_str().expect("UTF-8"),
    ] {
        assert_eq!(tree.read(path).expect(path), INSIDE, "{path}");
    }
    assert_eq!(tree.names("to_sub").expect("folder"), ["deep"]);
    assert_eq!(tree.names(tree.work()).expect("folder"), tree.names(".").expect("folder"));
}

#[test]
fn every_way_out_is_refused_as_outside() {
    let tree = Tree::new();
    symlink("/", tree.work().join("root")).expect("link");
    symlink("/proc/self/root", tree.work().join("self")).expect("link");
    let canary = tree.outside().join("canary.txt");
    for path in [
        "..",
        "../outside/canary.txt",
        "sub/../../outside/canary.txt",
        "out/canary.txt",
        "out_file",
        "absolute/canary.txt",
        "absolute_in",
        "root/etc/hostname",
        "self/etc/hostname",
        "to_sub/../../outside/canary.txt",
        "/",
        "/etc/hostname",
        "/proc/self/root/etc/hostname",
        canary.to_str().expect("UTF-8"),
    ] {
        let read = tree.read(path);
        assert!(matches!(read, Err(SandboxError::Outside { .. })), "{path}: {read:?}");
    }
    for path in ["..", "out", "absolute", "root", "self", "/", "sub/../.."] {
        let listed = tree.names(path);
        assert!(matches!(listed, Err(SandboxError::Outside { .. })), "{path}: {listed:?}");
    }
    let beside = tree.base.join("new");
    for path in [
        "../new",
        "../new/new",
        "sub/../../new",
        "out/new",
        "out/new/new",
        "absolute/new",
        "to_sub/../../outside/canary.txt",
        beside.to_str().expect("UTF-8"),
    ] {
        let written = tree.write(path, "x");
        assert!(matches!(written, Err(SandboxError::Outside { .. })), "{path}: {written:?}");
    }
    assert!(tree.outside_is_untouched());
}

#[test]
fn links_of_the_kernel_are_not_followed_even_inside() {
    // A workspace in /proc, where `root` and `cwd` are links that jump over every boundary.
    let workspace = Workspace::open(Path::new("/proc/self")).expect("folder");
    for path in ["root/etc/hostname", "cwd/Cargo.toml", "root", "cwd"] {
        let opened = workspace.open(Path::new(path));
        assert!(matches!(opened, Err(SandboxError::Io { .. })), "{path}: {opened:?}");
    }
    assert!(workspace.open(Path::new("status")).is_ok());
}

#[test]
fn a_pipe_that_nobody_writes_does_not_hold_a_read_up() {
    let (answer, answered) = mpsc::channel();
    thread::spawn(move || answer.send(Tree::new().read("pipe")));
    let opened = answered.recv_timeout(Duration::from_secs(30)).expect("an answer");
    assert!(matches!(opened, Err(SandboxError::WrongKind { .. })), "{opened:?}");
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let tree = Tree::new();
    let _socket = UnixListener::bind(tree.work().join("socket")).expect("socket");
    for path in ["socket", "sub", "to_sub", "."] {
        let opened = tree.read(path);
        assert!(matches!(opened, Err(SandboxError::WrongKind { .. })), "{path}: {opened:?}");
        let written = tree.write(path, "x");
        assert!(
            matches!(written, Err(SandboxError::WrongKind { .. } | SandboxError::Link { .. })),
            "{path}: {written:?}"
        );
    }
    for path in ["file.txt", "pipe", "file.txt/x"] {
        let listed = tree.names(path);
        assert!(matches!(listed, Err(SandboxError::WrongKind { .. })), "{path}: {listed:?}");
    }
    let devices = Workspace::open(Path::new("/dev")).expect("folder");
    assert!(matches!(devices.open(Path::new("null")), Err(SandboxError::WrongKind { .. })));
}

#[test]
fn what_is_not_there_is_named_as_it_was_given() {
    let tree = Tree::new();
    for path in ["missing", "sub/missing", "missing/x", "nowhere", "file.txt/x"] {
        match tree.read(path) {
            Err(SandboxError::NotFound { path: shown }) => assert_eq!(shown, path),
            other => panic!("{path}: {other:?}"),
        }
    }
    assert!(matches!(tree.read("loop"), Err(SandboxError::Io { .. })));
}

#[test]
fn paths_that_are_none_are_refused() {
    let tree = Tree::new();
    let reason = |path: &str| match tree.read(path) {
        Err(SandboxError::Invalid { reason, .. }) => Some(reason),
        _ => None,
    };
    assert_eq!(reason(""), Some("is empty"));
    assert_eq!(reason("file.txt\0.png"), Some("holds U+0000"));
    assert_eq!(reason(&"n".repeat(255)), None);
    assert!(reason(&"n".repeat(256)).is_some());
    assert_eq!(reason(&"./".repeat(2047)), None, "4094 bytes");
    assert!(reason(&"./".repeat(2048)).is_some(), "4096 bytes");
}

#[test]
fn a_workspace_stays_the_folder_that_was_opened() {
    let tree = Tree::new();
    let moved = tree.base.join("moved");
    fs::rename(tree.work(), &moved).expect("rename");
    symlink(tree.outside(), tree.work()).expect("link");
    assert_eq!(tree.read("file.txt").expect("the old folder"), INSIDE);
    assert!(matches!(tree.read("canary.txt"), Err(SandboxError::NotFound { .. })));
}

#[test]
fn a_workspace_needs_an_existing_folder() {
    let tree = Tree::new();
    let error = |path: &Path| Workspace::open(path).expect_err("refused");
    assert!(matches!(error(&tree.work().join("missing")), SandboxError::NotFound { .. }));
    assert!(matches!(error(&tree.work().join("file.txt")), SandboxError::WrongKind { .. }));
    assert!(matches!(error(Path::new("")), SandboxError::NotFound { .. }));
    // Through a link it is opened, and known by both names.
    let link = tree.base.join("link");
    symlink(tree.work(), &link).expect("link");
    let workspace = Workspace::open(&link).expect("folder");
    assert!(workspace.open(&link.join("file.txt")).is_ok());
    assert!(workspace.open(&tree.work().join("file.txt")).is_ok());
}

#[test]
fn a_listing_holds_the_first_names_up_to_its_limit() {
    let tree = Tree::new();
    let folder = tree.work().join("many");
    fs::create_dir(&folder).expect("folder");
    for name in ["c", "a", "d", "b"] {
        fs::write(folder.join(name), name.repeat(3)).expect("file");
    }
    let list = |limit| tree.workspace.list(Path::new("many"), limit).expect("folder");
    let names = |listing: &Listing| -> Vec<_> {
        listing.entries.iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect()
    };
    for (limit, expected) in [
        (0, &[][..]),
        (3, &["a", "b", "c"]),
        (4, &["a", "b", "c", "d"]),
        (5, &["a", "b", "c", "d"]),
    ] {
        let listing = list(limit);
        assert_eq!(names(&listing), expected, "limit {limit}");
        assert_eq!(listing.total, 4);
    }
}

#[test]
fn a_listing_says_what_entries_are_without_following_them() {
    let tree = Tree::new();
    fs::write(tree.work().join(OsStr::from_bytes(b"\xff")), "").expect("file");
    let listing = tree.workspace.list(Path::new("."), usize::MAX).expect("folder");
    let kind = |name: &[u8]| {
        let found = listing.entries.iter().find(|entry| entry.name.as_bytes() == name);
        found.map(|DirEntry { kind, .. }| *kind).expect("listed")
    };
    assert_eq!(kind(b"file.txt"), EntryKind::File { len: 6 });
    assert_eq!(kind(b"sub"), EntryKind::Folder);
    assert_eq!(kind(b"out"), EntryKind::Link);
    assert_eq!(kind(b"pipe"), EntryKind::Special);
    assert_eq!(kind(b"\xff"), EntryKind::File { len: 0 });
}

#[test]
fn a_read_only_file_stays_as_it_is_even_for_the_super_user() {
    let tree = Tree::new();
    let path = tree.work().join("file.txt");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).expect("chmod");
    assert!(matches!(tree.write("file.txt", "x"), Err(SandboxError::Io { .. })));
    assert_eq!(tree.read("file.txt").expect("file"), INSIDE);
}
