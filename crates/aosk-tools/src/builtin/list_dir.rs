//! `list_dir`: the entries of a folder, one a line.

use std::ffi::OsStr;
use std::fmt::Write;
use std::path::Path;

use aosk_abi::{Effect, ToolResult};
use aosk_ports::{EntryKind, ToolContext};
use serde::Deserialize;
use serde_json::json;

use super::{Builtin, Outcome, Runs, spec};
use crate::failure::refused;

/// The most entries that are shown: about 12 KiB of usual names.
const MAX_ENTRIES: usize = 400;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    path: Option<String>,
}

pub fn tool() -> Builtin<Arguments> {
    Builtin {
        spec: spec(
            "list_dir",
            Effect::Pure,
            "Lists a folder of the workspace, one entry a line: folders end with /, files show \
             their size in bytes.",
            &json!({
                "path": {
                    "type": "string",
                    "minLength": 1,
                    "description": "The folder, relative to the workspace; absent: the workspace"
                },
            }),
            &[],
        ),
        runs: Runs::Blocking,
        run,
    }
}

fn run(context: &ToolContext, arguments: Arguments) -> Outcome {
    let path = arguments.path.as_deref().unwrap_or(".");
    let listing = context.sandbox.list(Path::new(path), MAX_ENTRIES).map_err(refused)?;
    let (shown, total) = (listing.entries.len(), listing.total);
    let mut text = String::new();
    for entry in listing.entries {
        let name = one_line(&entry.name);
        let _ = match entry.kind {
            EntryKind::File { len } => writeln!(text, "{name}  {len}"),
            EntryKind::Folder => writeln!(text, "{name}/"),
            EntryKind::Link => writeln!(text, "{name}  (link)"),
            EntryKind::Special => writeln!(text, "{name}  (neither file nor folder)"),
        };
    }
    let result = ToolResult::ok(text).with("entries", shown).with("total", total);
    Ok(if total == 0 {
        result.with("note", "the folder is empty")
    } else if shown < total {
        let note = format!(
            "the first {shown} of {total} entries; use search_files with a `glob` to find others"
        );
        result.with("note", note)
    } else {
        result
    })
}

/// A name as part of a line. Bytes that are not UTF-8 are shown as U+FFFD.
pub fn one_line(name: &OsStr) -> String {
    let name = name.to_string_lossy();
    if name.contains(char::is_control) {
        name.escape_debug().to_string()
    } else {
        name.into_owned()
    }
}
