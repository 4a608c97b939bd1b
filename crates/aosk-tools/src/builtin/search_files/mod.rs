//! `search_files`: the lines that match a regular expression.
//!
//! The walk follows no link, does not enter `.git` and goes by name, so that the same tree gives
//! the same answer. A pattern costs time in proportion to the text, whatever it is: the engine does
//! not backtrack. What bounds a search is in [`Limits`]; what it left out is in the result.

mod pattern;
#[cfg(test)]
mod tests;
mod walk;

use std::path::PathBuf;
use std::time::Duration;

use aosk_abi::Effect;
use aosk_ports::{Sandbox, ToolContext};
use serde::Deserialize;
use serde_json::json;

use self::pattern::{Glob, compile};
use self::walk::Search;
use super::{Builtin, Outcome, Runs, spec};
use crate::failure::refused;

/// What a search may use.
struct Limits {
    /// Files, folders and links looked at.
    entries: usize,
    /// Bytes read.
    bytes: u64,
    /// The longest file that is read.
    file_bytes: u64,
    /// The part of each line that is searched.
    line_bytes: usize,
    /// Lines found.
    matches: usize,
    /// Time.
    time: Duration,
}

const LIMITS: Limits = Limits {
    entries: 20_000,
    bytes: 64 << 20,
    file_bytes: 4 << 20,
    line_bytes: 4 << 10,
    matches: 100,
    time: Duration::from_secs(5),
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    pattern: String,
    path: Option<String>,
    glob: Option<String>,
}

pub fn tool() -> Builtin<Arguments> {
    Builtin {
        spec: spec(
            "search_files",
            Effect::Pure,
            "Finds the lines of text files in the workspace that match a regular expression. \
             Answers with file:line: text. Skips binary files and .git folders.",
            &json!({
                "pattern": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 500,
                    "description": "The regular expression: fn \\w+_test. Put (?i) in front to \
                                    ignore case"
                },
                "path": {
                    "type": "string",
                    "minLength": 1,
                    "description": "A folder or file to search; absent: the workspace"
                },
                "glob": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 200,
                    "description": "Only files whose name, or path below the folder, matches: \
                                    *.rs or src/**/*.md"
                },
            }),
            &["pattern"],
        ),
        runs: Runs::Blocking,
        run,
    }
}

fn run(context: &ToolContext, arguments: Arguments) -> Outcome {
    search(context.sandbox.as_ref(), &arguments, &LIMITS)
}

fn search(sandbox: &dyn Sandbox, arguments: &Arguments, limits: &Limits) -> Outcome {
    let regex = compile(&arguments.pattern)?;
    let glob = arguments.glob.as_deref().map(Glob::new).transpose()?;
    let base = match arguments.path.as_deref() {
        None | Some(".") => PathBuf::new(),
        Some(path) => PathBuf::from(path),
    };
    let mut search = Search::new(sandbox, regex, glob, limits, base);
    let stopped = search.walk().map_err(refused)?;
    Ok(search.result(stopped))
}
