//! No path at all reaches the canary.

use std::path::PathBuf;

use proptest::prelude::*;

use crate::tree::{CANARY, DEPTH, MARKER, Tree};

fn component() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just("..".to_owned()),
        1 => prop::sample::select(vec![".", "", "/", "//"]).prop_map(str::to_owned),
        6 => prop::sample::select(vec![
            "file.txt", "sub", "deep", "to_file", "to_sub", "up", "out", "out_file", "absolute",
            "absolute_in", "loop", "nowhere", "pipe", "outside", "work",
            "canary.txt", "proc", "cwd", "etc", "tmp",
        ])
        .prop_map(str::to_owned),
        1 => "[^/]{0,6}",
    ]
}

#[derive(Debug, Clone, Copy)]
enum Start {
    Relative,
    Root,
    Workspace,
    Base,
}

fn path() -> impl Strategy<Value = (Start, Vec<String>)> {
    let start = prop::sample::select(vec![
        Start::Relative,
        Start::Relative,
        Start::Root,
        Start::Workspace,
        Start::Base,
    ]);
    (start, prop::collection::vec(component(), 0..DEPTH))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_path_reads_lists_or_writes_outside(paths in prop::collection::vec(path(), 32)) {
        let tree = Tree::new();
        for (start, components) in paths {
            let tail = components.join("/");
            let path = match start {
                Start::Relative => PathBuf::from(tail),
                Start::Root => PathBuf::from(format!("/{tail}")),
                Start::Workspace => PathBuf::from(format!("{}/{tail}", tree.work().display())),
                Start::Base => PathBuf::from(format!("{}/{tail}", tree.base.display())),
            };
            if let Ok(text) = tree.read(&path) {
                prop_assert!(!text.contains(CANARY), "{path:?} reads the canary");
            }
            if let Ok(names) = tree.names(&path) {
                prop_assert!(!names.iter().any(|name| name == MARKER), "{path:?} lists outside");
            }
            // Where this test fails, it must not have written to the host's root.
            if !matches!(start, Start::Root) {
                let _ = tree.write(&path, "x");
            }
            prop_assert!(tree.outside_is_untouched(), "{path:?} writes outside");
        }
    }
}
