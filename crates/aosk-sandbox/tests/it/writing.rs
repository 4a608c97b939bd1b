//! Writing replaces whole files and leaves nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use aosk_ports::{Sandbox, SandboxError};

use crate::tree::{INSIDE, Tree};

#[test]
fn a_write_makes_missing_folders_and_twice_is_once() {
    let tree = Tree::new();
    for path in ["new.txt", "x/y/z.txt", "sub/../q/r.txt", "to_sub/s.txt", "file.txt"] {
        for _ in 0..2 {
            tree.write(path, "text").expect(path);
            assert_eq!(tree.read(path).expect(path), "text");
        }
    }
    assert_eq!(fs::read_to_string(tree.work().join("sub/s.txt")).expect("file"), "text");
    let absolute = tree.work().join("made/here.txt");
    tree.write(&absolute, "text").expect("inside");
    assert_eq!(fs::read_to_string(absolute).expect("file"), "text");
}

#[test]
fn a_write_leaves_no_other_file_whether_it_succeeds_or_not() {
    let tree = Tree::new();
    let before = tree.names(".").expect("folder");
    tree.write("file.txt", "text").expect("file");
    tree.write(format!("{}.txt", "n".repeat(252)), "x").expect_err("256 bytes of name");
    tree.write("pipe", "x").expect_err("a pipe");
    tree.write("sub", "x").expect_err("a folder");
    assert_eq!(tree.names(".").expect("folder"), before);
    tree.write(format!("{}.txt", "n".repeat(251)), "x").expect("255 bytes of name");
}

#[test]
fn a_link_is_not_written_through_and_not_replaced() {
    let tree = Tree::new();
    for path in ["to_file", "out_file", "nowhere", "absolute_in"] {
        let written = tree.write(path, "x");
        assert!(matches!(written, Err(SandboxError::Link { .. })), "{path}: {written:?}");
    }
    assert_eq!(tree.read("file.txt").expect("file"), INSIDE);
    assert!(tree.outside_is_untouched());
    assert!(!tree.work().join("missing").exists());
    // A folder that is a link to nowhere cannot be made.
    assert!(matches!(tree.write("nowhere/x", "x"), Err(SandboxError::NotFound { .. })));
}

#[test]
fn a_file_in_the_place_of_a_folder_is_named() {
    let tree = Tree::new();
    match tree.write("file.txt/x", "x") {
        Err(SandboxError::WrongKind { path, expected }) => {
            assert_eq!((path.as_str(), expected), ("file.txt", "folder"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_replaced_file_keeps_its_permissions_but_no_set_uid() {
    let tree = Tree::new();
    let path = tree.work().join("file.txt");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4751)).expect("chmod");
    tree.write("file.txt", "x").expect("file");
    assert_eq!(fs::metadata(&path).expect("file").permissions().mode() & 0o7777, 0o751);
}

#[test]
fn a_reader_finds_the_old_or_the_new_content_and_never_a_part() {
    let tree = Tree::new();
    let (old, new) = ("a".repeat(200_000), "b".repeat(100_000));
    tree.write("big", &old).expect("file");
    let mut reads = 0;
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for _ in 0..100 {
                tree.write("big", &new).expect("file");
                tree.write("big", &old).expect("file");
            }
        });
        while !writing.is_finished() {
            let text = tree.read("big").expect("always there");
            assert!(text == old || text == new, "{} bytes", text.len());
            reads += 1;
        }
    });
    assert!(reads > 0);
}

#[test]
fn writers_of_one_file_do_not_mix() {
    let tree = Tree::new();
    let texts: Vec<String> = (0..4).map(|n| n.to_string().repeat(50_000)).collect();
    let tree = &tree;
    thread::scope(|scope| {
        for text in &texts {
            scope.spawn(move || {
                for _ in 0..25 {
                    tree.workspace.write("one".as_ref(), text.as_bytes()).expect("file");
                }
            });
        }
    });
    assert!(texts.contains(&tree.read("one").expect("file")));
    assert!(!tree.names(".").expect("folder").iter().any(|name| name.ends_with(".tmp")));
}
