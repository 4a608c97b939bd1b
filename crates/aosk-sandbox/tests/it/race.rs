//! Someone swaps a folder for a link out of the workspace while it is used.

use std::fs;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::{Duration, Instant};

use aosk_ports::SandboxError;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::tree::{CANARY, INSIDE, MARKER, Tree};

/// Runs `attempt` while `swap/` is by turns a folder and a link to the outside.
fn while_swapped(tree: &Tree, mut attempt: impl FnMut()) {
    let (folder, link) = (tree.work().join("swap"), tree.work().join("swap_link"));
    fs::create_dir(&folder).expect("folder");
    fs::write(folder.join("canary.txt"), INSIDE).expect("file");
    symlink("../outside", &link).expect("link");
    thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            let end = Instant::now() + Duration::from_secs(2);
            while Instant::now() < end {
                renameat_with(CWD, &folder, CWD, &link, RenameFlags::EXCHANGE).expect("exchange");
            }
        });
        while !swapping.is_finished() {
            attempt();
        }
    });
}

#[test]
fn a_swapped_folder_never_leads_a_read_out() {
    let tree = Tree::new();
    let (mut inside, mut refused, mut naive) = (0, 0, 0);
    while_swapped(&tree, || {
        for path in ["swap/canary.txt", "sub/../swap/canary.txt"] {
            match tree.read(path) {
                Ok(text) => {
                    assert_eq!(text, INSIDE);
                    inside += 1;
                }
                Err(SandboxError::Outside { .. }) => refused += 1,
                Err(other) => panic!("{path}: {other}"),
            }
        }
        // The same path without a sandbox does lead out: the race is real.
        let text = fs::read_to_string(tree.work().join("swap/canary.txt")).expect("either");
        naive += usize::from(text == CANARY);
    });
    assert!(inside > 0 && refused > 0 && naive > 0, "{inside} {refused} {naive}");
}

#[test]
fn a_swapped_folder_never_leads_a_write_or_a_list_out() {
    let tree = Tree::new();
    let (mut inside, mut refused) = (0, 0);
    while_swapped(&tree, || {
        for outcome in [
            tree.write("swap/new.txt", "x"),
            tree.write("swap/made/new.txt", "x"),
            tree.names("swap").map(|names| assert!(!names.iter().any(|name| name == MARKER))),
        ] {
            match outcome {
                Ok(()) => inside += 1,
                Err(SandboxError::Outside { .. }) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        let _ = fs::remove_dir_all(tree.work().join("swap/made"));
        assert!(tree.outside_is_untouched());
    });
    assert!(inside > 0 && refused > 0, "{inside} {refused}");
    assert!(tree.outside_is_untouched());
}
