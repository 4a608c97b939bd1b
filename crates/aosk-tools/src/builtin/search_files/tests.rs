use std::fs;
use std::time::Instant;

use aosk_sandbox::Workspace;

use aosk_abi::ToolResult;
use serde_json::json;

use super::walk::excerpt;
use super::*;

struct Tree {
    folder: tempfile::TempDir,
}

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs::write(path, text).expect("file");
        }
        Self { folder }
    }

    fn search(&self, arguments: serde_json::Value, limits: &Limits) -> Outcome {
        let workspace = Workspace::open(self.folder.path()).expect("openat2");
        let arguments = serde_json::from_value(arguments).expect("arguments");
        search(&workspace, &arguments, limits)
    }

    fn lines(&self, arguments: serde_json::Value) -> Vec<String> {
        let result = self.search(arguments, &LIMITS).expect("searched");
        assert_eq!(result.metadata["complete"], true, "{result:?}");
        let text = result.data.as_str().expect("text");
        text.lines().map(str::to_owned).collect()
    }
}

fn note(result: &ToolResult) -> Option<&str> {
    assert_eq!(result.metadata["complete"], !result.metadata.contains_key("note"));
    result.metadata.get("note").and_then(serde_json::Value::as_str)
}

#[test]
fn matches_come_by_name_with_their_place() {
    let tree = Tree::new(&[
        ("b.txt", "one\r\ntwo\nthree"),
        ("a/z.rs", "two"),
        ("a/b/c.md", "\n\nTwo\n"),
        (".git/config", "two"),
        ("binary", "two\0"),
        ("empty", ""),
    ]);
    std::os::unix::fs::symlink("a", tree.folder.path().join("link")).expect("link");
    let two = |more: serde_json::Value| {
        let mut arguments = json!({"pattern": "(?i)^two$"});
        for (key, value) in more.as_object().expect("object") {
            arguments[key] = value.clone();
        }
        tree.lines(arguments)
    };
    assert_eq!(two(json!({})), ["a/b/c.md:3: Two", "a/z.rs:1: two", "b.txt:2: two"]);
    assert_eq!(two(json!({"path": "."})), two(json!({})));
    assert_eq!(two(json!({"path": "a"})), ["a/b/c.md:3: Two", "a/z.rs:1: two"]);
    assert_eq!(two(json!({"path": "b.txt"})), ["b.txt:2: two"]);
    assert_eq!(two(json!({"path": "link"})), ["link/b/c.md:3: Two", "link/z.rs:1: two"]);
    assert_eq!(two(json!({"glob": "*.md"})), ["a/b/c.md:3: Two"]);
    assert_eq!(two(json!({"glob": "a/*"})), ["a/z.rs:1: two"]);
    assert_eq!(two(json!({"glob": "a/**/*.{md,rs}"})).len(), 2);
    assert_eq!(two(json!({"path": "a", "glob": "b/*"})), ["a/b/c.md:3: Two"]);
    assert_eq!(two(json!({"path": "b.txt", "glob": "*.md"})), ["no match in 0 files"]);
    assert_eq!(tree.lines(json!({"pattern": "nowhere"})), ["no match in 4 files"]);
    assert_eq!(tree.lines(json!({"pattern": "^$", "glob": "c.md"})).len(), 2);
}

#[test]
fn every_bound_holds_below_at_and_above_it_and_says_so() {
    let tree = Tree::new(&[("a", "x\nx\nxy\n"), ("b", "xxxx\nx"), ("c/d", "x")]);
    let all = json!({"pattern": "x"});
    let base = || Limits { ..LIMITS };
    let noted = |limits: &Limits| {
        note(&tree.search(all.clone(), limits).expect("searched")).map(str::to_owned)
    };
    let stopped = |what: &str| Some(format!("stopped after {what}: narrow pattern, path or glob"));

    for (matches, expected) in [(7, None), (6, None), (5, stopped("5 matches"))] {
        assert_eq!(noted(&Limits { matches, ..base() }), expected);
    }
    // Two files, a folder and its file.
    for (entries, expected) in [(5, None), (4, None), (3, stopped("3 files and folders"))] {
        assert_eq!(noted(&Limits { entries, ..base() }), expected);
    }
    // 7 + 6 + 1 bytes.
    for (bytes, expected) in [(15, None), (14, None), (13, stopped("13 bytes read"))] {
        assert_eq!(noted(&Limits { bytes, ..base() }), expected);
    }
    for (file_bytes, expected) in
        [(8, None), (7, None), (6, Some("1 files longer than 6 bytes were skipped".to_owned()))]
    {
        assert_eq!(noted(&Limits { file_bytes, ..base() }), expected);
    }
    for (line_bytes, expected) in
        [(5, None), (4, None), (3, Some("1 lines were searched up to byte 3".to_owned()))]
    {
        assert_eq!(noted(&Limits { line_bytes, ..base() }), expected);
    }
    assert_eq!(noted(&Limits { time: Duration::ZERO, ..base() }), stopped("0 s"));
}

#[test]
fn a_long_line_is_shown_around_its_match() {
    let line = |before: usize, after: usize| {
        excerpt(format!("{}X{}", "é".repeat(before), "é".repeat(after)).as_bytes(), before * 2)
    };
    assert_eq!(line(80, 79), format!("{}X{}", "é".repeat(80), "é".repeat(79)));
    assert_eq!(line(80, 80), format!("…{}X{}", "é".repeat(40), "é".repeat(80)));
    assert_eq!(line(80, 120), format!("…{}X{}…", "é".repeat(40), "é".repeat(119)));
    assert_eq!(line(0, 160), format!("X{}…", "é".repeat(159)));
    assert_eq!(excerpt(b"a\xffb", 2), "a\u{fffd}b");
}

#[test]
fn a_pattern_that_is_none_or_too_large_is_answered() {
    let tree = Tree::new(&[]);
    for (arguments, code, message) in [
        (json!({"pattern": "a("}), "invalid_pattern", "unclosed group"),
        (json!({"pattern": "(?:\\w{100}){100}"}), "invalid_pattern", "when compiled"),
        (json!({"pattern": "(a)\\1"}), "invalid_pattern", "backreferences"),
        (json!({"pattern": "a", "glob": "a["}), "invalid_glob", "unclosed"),
        (json!({"pattern": "a", "path": "../x"}), "outside_workspace", "../x"),
        (json!({"pattern": "a", "path": "x"}), "not_found", "x"),
    ] {
        let error = tree.search(arguments.clone(), &LIMITS).expect_err("failed");
        assert_eq!(error.code, code, "{arguments}");
        assert!(error.message.contains(message), "{error:?}");
    }
}

#[test]
fn the_worst_pattern_ends_in_time() {
    let tree = Tree::new(&[("a", &"ab".repeat(2 << 20)), ("b", &"ab ba\n".repeat(500_000))]);
    for pattern in ["(a*)*c", "(?:[ab]?){200}c", "(?-u)(?:\\w{1,100}x?){1,50}c"] {
        let started = Instant::now();
        tree.search(json!({"pattern": pattern}), &LIMITS).expect("searched");
        assert!(started.elapsed() < LIMITS.time * 2, "{pattern}: {:?}", started.elapsed());
    }
}
