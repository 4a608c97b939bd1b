//! The tools that touch files.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::Path;

use aosk_ports::{Listing, Sandbox, SandboxError};
use aosk_sandbox::NoFiles;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::desk::Desk;

#[tokio::test]
async fn what_is_written_is_read_back_and_listed() {
    let desk = Desk::new();
    let arguments = json!({"path": "notes/a.md", "content": "one\ntwo\n"});
    for _ in 0..2 {
        let text = desk.text("write_file", arguments.clone()).await;
        assert_eq!(text, "wrote 8 bytes to notes/a.md");
    }
    assert_eq!(desk.text("read_file", json!({"path": "notes/a.md"})).await, "one\ntwo\n");
    symlink("notes", desk.path("link")).expect("link");
    desk.put("new\nline", "");
    let listed = "link  (link)\nnew\\nline  0\nnotes/\n";
    assert_eq!(desk.text("list_dir", json!({})).await, listed);
    assert_eq!(desk.text("list_dir", json!({"path": "."})).await, listed);
    assert_eq!(desk.text("list_dir", json!({"path": "link"})).await, "a.md  8\n");
    let found = desk.text("search_files", json!({"pattern": "two"})).await;
    assert_eq!(found, "notes/a.md:2: two\n");
}

#[tokio::test]
async fn refusals_of_the_sandbox_tell_the_model_what_to_do() {
    let desk = Desk::new();
    desk.put("file", "x");
    symlink("file", desk.path("link")).expect("link");
    mknodat(CWD, desk.path("pipe"), FileType::Fifo, Mode::RUSR, 0).expect("FIFO");
    for (tool, arguments, code) in [
        ("read_file", json!({"path": "../x"}), "outside_workspace"),
        ("read_file", json!({"path": "/etc/hostname"}), "outside_workspace"),
        ("read_file", json!({"path": "missing"}), "not_found"),
        ("read_file", json!({"path": "."}), "not_a_file"),
        ("read_file", json!({"path": "pipe"}), "not_a_file"),
        ("read_file", json!({"path": "a\0b"}), "invalid_path"),
        ("list_dir", json!({"path": "file"}), "not_a_folder"),
        ("list_dir", json!({"path": ".."}), "outside_workspace"),
        ("search_files", json!({"pattern": "x", "path": ".."}), "outside_workspace"),
        ("write_file", json!({"path": "link", "content": ""}), "is_a_link"),
        ("write_file", json!({"path": "../x", "content": ""}), "outside_workspace"),
        ("write_file", json!({"path": "file/x", "content": ""}), "not_a_folder"),
    ] {
        let error = desk.error(tool, arguments.clone()).await;
        assert_eq!(error.code, code, "{tool} {arguments}: {error:?}");
        assert!(error.hint.is_some_and(|hint| !hint.is_empty()));
    }
    let desk = Desk::with_sandbox(NoFiles);
    assert_eq!(
        desk.text("read_file", json!({"path": "a"})).await,
        "Error (no_workspace): this process has no workspace; set `workspace` in its manifest. Hint: \
         go on without files, and say that you could not reach them."
    );
}

/// Reads a file as a model would: call, read the note, call again.
async fn read_on(desk: &Desk, path: &str, max_bytes: usize) -> (String, usize) {
    let (mut whole, mut calls) = (String::new(), 0);
    let mut place = json!({"path": path, "max_bytes": max_bytes});
    loop {
        let result = desk.call("read_file", place.clone()).await;
        assert!(result.success, "{place}: {result:?}");
        let text = result.data.as_str().expect("text");
        assert!(text.len() <= max_bytes && !text.is_empty());
        whole.push_str(text);
        calls += 1;
        let Some(note) = result.metadata.get("note").and_then(Value::as_str) else {
            return (whole, calls);
        };
        let (line, offset) = (&result.metadata["next_start_line"], &result.metadata["next_offset"]);
        place["start_line"] = line.clone();
        place["offset"] = offset.clone();
        let told = if *offset == 0 {
            format!("start_line {line}")
        } else {
            format!("start_line {line} and offset {offset}")
        };
        assert!(note.ends_with(&format!("call read_file with {told}")), "{note}");
    }
}

#[tokio::test]
async fn a_long_file_is_read_to_its_end_by_following_the_notes() {
    let desk = Desk::new();
    let lines: String = (0..500).map(|n| format!("{n} {}\n", "é字".repeat(n % 40))).collect();
    let one_line = "字é🦀".repeat(2000);
    let mixed = format!("a\n{one_line}\nb\n{lines}");
    for text in [&lines, &one_line, &mixed] {
        desk.put("file", text);
        for max_bytes in [64, 65, 66, 67, 1000, 15 * 1024] {
            let (whole, calls) = read_on(&desk, "file", max_bytes).await;
            assert_eq!(&whole, text);
            assert!(calls >= text.len().div_ceil(max_bytes));
        }
    }
}

#[tokio::test]
async fn a_part_fits_the_budget_of_a_result_with_its_note() {
    let desk = Desk::new();
    let max_bytes = 15 * 1024;
    for (length, cut) in [(max_bytes - 1, false), (max_bytes, false), (max_bytes + 1, true)] {
        desk.put("file", "x".repeat(length));
        let text = desk.text("read_file", json!({"path": "file", "max_bytes": max_bytes})).await;
        assert!(!text.contains("[cut:"), "the renderer cut it once more");
        assert_eq!(text.contains("to go on"), cut, "{length}");
    }
    let whole = desk.call("read_file", json!({"path": "file"})).await;
    assert_eq!(whole.metadata["bytes"], 8192);
    assert_eq!(whole.metadata["file_bytes"], max_bytes + 1);
}

#[tokio::test]
async fn lines_before_at_and_behind_the_end() {
    let desk = Desk::new();
    desk.put("file", "one\ntwo\nthree");
    desk.put("empty", "");
    let read = async |path: &str, line: u64| {
        desk.text("read_file", json!({"path": path, "start_line": line})).await
    };
    assert_eq!(read("file", 2).await, "two\nthree");
    assert_eq!(read("file", 3).await, "three");
    assert!(read("file", 4).await.starts_with("Error (past_end): \"file\" has only 3 lines"));
    assert_eq!(read("empty", 1).await, "[the file is empty]");
    assert!(read("empty", 2).await.starts_with("Error (past_end): \"empty\" has only 0 lines"));
    desk.put("file", "one\n");
    assert!(read("file", 2).await.starts_with("Error (past_end): \"file\" has only 1 lines"));
    let read =
        async |offset: u64| desk.text("read_file", json!({"path": "file", "offset": offset})).await;
    assert_eq!(read(3).await, "\n");
    assert!(read(4).await.starts_with("Error (past_end): \"file\" has only 4 bytes"));
    assert!(read(u64::MAX).await.starts_with("Error (past_end): \"file\" has only 4 bytes"));
}

#[tokio::test]
async fn lines_are_counted_up_to_a_bound_and_bytes_without_one() {
    let desk = Desk::new();
    let bound = 32_usize << 20;
    // The second line begins one byte before, at and behind the bound.
    for (first, found) in [(bound - 1, true), (bound, true), (bound + 1, false)] {
        let mut text = vec![b'x'; first - 1];
        text.extend(b"\nend");
        desk.put("file", &text);
        let result = desk.call("read_file", json!({"path": "file", "start_line": 2})).await;
        assert_eq!(result.success, found, "{result:?}");
        if !found {
            assert_eq!(result.error.expect("failed").code, "too_far");
        }
        let text = desk.text("read_file", json!({"path": "file", "offset": first})).await;
        assert_eq!(text, "end");
    }
}

#[tokio::test]
async fn what_is_no_text_is_said_to_be_none() {
    let desk = Desk::new();
    for (bytes, place) in [
        (&b"text\0more"[..], "byte 4"),
        (b"text\xffmore", "byte 4"),
        // A character that the end of the file cuts.
        (b"text\xe5\xad", "byte 4"),
        (b"\xff\xfea", "byte 0"),
    ] {
        desk.put("file", bytes);
        let error = desk.error("read_file", json!({"path": "file"})).await;
        assert_eq!(error.code, "not_text");
        assert!(error.message.contains(place), "{error:?}");
    }
    desk.put("file", "字");
    let error = desk.error("read_file", json!({"path": "file", "offset": 1})).await;
    assert_eq!(error.code, "not_text");
    assert!(error.hint.expect("hint").contains("inside a character"));
}

#[tokio::test]
async fn a_listing_below_at_and_above_its_bound() {
    let desk = Desk::new();
    let mut next = 0;
    for (count, cut) in [(0, false), (399, false), (400, false), (401, true)] {
        while next < count {
            desk.put(&format!("{next:04}"), "");
            next += 1;
        }
        let result = desk.call("list_dir", json!({})).await;
        assert_eq!(result.metadata["entries"], count.min(400));
        assert_eq!(result.metadata["total"], count);
        let note = result.metadata.get("note").and_then(Value::as_str).unwrap_or_default();
        assert_eq!(note.starts_with("the first 400 of 401 entries"), cut, "{note}");
        assert_eq!(note == "the folder is empty", count == 0);
    }
}

struct Faulty;

impl Sandbox for Faulty {
    fn isolation(&self) -> &'static str {
        "none"
    }

    fn open(&self, _: &Path) -> Result<File, SandboxError> {
        panic!("a fault of the program")
    }

    fn write(&self, _: &Path, _: &[u8]) -> Result<(), SandboxError> {
        panic!("a fault of the program")
    }

    fn list(&self, _: &Path, _: usize) -> Result<Listing, SandboxError> {
        panic!("a fault of the program")
    }
}

#[tokio::test]
async fn a_panic_on_a_blocking_thread_reaches_the_task_of_the_call() {
    let call = async { Desk::with_sandbox(Faulty).call("list_dir", json!({})).await };
    let error = tokio::spawn(call).await.expect_err("panicked");
    assert!(error.is_panic());
}
