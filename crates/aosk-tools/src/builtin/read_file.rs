//! `read_file`: a part of a text file that fits into a result.
//!
//! A place in a file is a line and a number of bytes behind its start. Lines are what models and
//! `search_files` speak of; the bytes reach into a line that is longer than a result, and, with
//! the first line, any place of a file that is too long to count its lines.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use aosk_abi::{Effect, ToolError, ToolResult};
use aosk_ports::ToolContext;
use serde::Deserialize;
use serde_json::json;

use super::{Builtin, Outcome, Runs, spec};
use crate::failure::{failed, refused, unreadable};

/// What is read at most: with its note it fits the budget of a result.
const MAX_BYTES: usize = 15 * 1024;
const DEFAULT_BYTES: usize = 8 * 1024;
/// Every character fits, so that each call gets further.
const MIN_BYTES: usize = 64;
/// How far lines are counted: a tenth of a second of reading.
const COUNTED: u64 = 32 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    path: String,
    start_line: Option<u64>,
    offset: Option<u64>,
    max_bytes: Option<usize>,
}

pub fn tool() -> Builtin<Arguments> {
    Builtin {
        spec: spec(
            "read_file",
            Effect::Pure,
            "Reads a text file of the workspace. A long file is cut; the result then says with \
             which start_line or offset to go on.",
            &json!({
                "path": {
                    "type": "string",
                    "minLength": 1,
                    "description": "The file, relative to the workspace: src/main.rs"
                },
                "start_line": {
                    "type": "integer",
                    "minimum": 1,
                    "description": "The line to begin with, from 1; absent: 1"
                },
                "offset": {
                    "type": "integer",
                    "minimum": 0,
                    "description": "Bytes to skip from the start of start_line; absent: 0"
                },
                "max_bytes": {
                    "type": "integer",
                    "minimum": MIN_BYTES,
                    "maximum": MAX_BYTES,
                    "description": format!("The most bytes to read; absent: {DEFAULT_BYTES}")
                },
            }),
            &["path"],
        ),
        runs: Runs::Blocking,
        run,
    }
}

fn run(context: &ToolContext, arguments: Arguments) -> Outcome {
    let file = context.sandbox.open(Path::new(&arguments.path)).map_err(refused)?;
    read(file, &arguments)
}

fn read(file: File, arguments: &Arguments) -> Outcome {
    let line = arguments.start_line.unwrap_or(1);
    let offset = arguments.offset.unwrap_or(0);
    let max_bytes = arguments.max_bytes.unwrap_or(DEFAULT_BYTES);
    let shown = &arguments.path;
    let io = |error| unreadable(shown, error);
    let mut file = BufReader::with_capacity(64 << 10, file);
    let skipped = match skip_lines(&mut file, line - 1).map_err(io)? {
        Skipped::To(bytes) => bytes,
        Skipped::Past { lines } => return Err(past_end(shown, &format!("{lines} lines"))),
        Skipped::TooFar => {
            return Err(failed(
                "too_far",
                format!("line {line} of {shown:?} lies beyond its first {COUNTED} bytes"),
                "leave start_line out and send offset, the number of bytes to skip",
            ));
        }
    };
    let length = file.get_ref().metadata().map_err(io)?.len();
    let start = skipped.saturating_add(offset);
    if start > length || (start == length && start > 0) {
        let end =
            if offset == 0 { format!("{} lines", line - 1) } else { format!("{length} bytes") };
        return Err(past_end(shown, &end));
    }
    file.seek(SeekFrom::Start(start)).map_err(io)?;
    let mut bytes = Vec::with_capacity(max_bytes + 1);
    file.take(max_bytes as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    let text = match text(&bytes, max_bytes) {
        Ok(text) => text,
        Err(at) => {
            let place = start + at as u64;
            return Err(failed(
                "not_text",
                format!("{shown:?} ({length} bytes) is not UTF-8 text: see byte {place}"),
                "it is a binary file or has another encoding, or offset lies inside a character: \
                 go on without its content",
            ));
        }
    };
    let result = ToolResult::ok(text).with("bytes", text.len()).with("file_bytes", length);
    if bytes.is_empty() {
        return Ok(result.with("note", "the file is empty"));
    }
    if text.len() == bytes.len() {
        return Ok(result);
    }
    let whole_lines = offset == 0 && text.ends_with('\n');
    let (next_line, next_offset) = if whole_lines {
        (line + text.matches('\n').count() as u64, 0)
    } else {
        (line, offset + text.len() as u64)
    };
    let mut place = format!("start_line {next_line}");
    if next_offset > 0 {
        place = format!("{place} and offset {next_offset}");
    }
    let note = format!(
        "bytes {start} to {} of {length}; to go on, call read_file with {place}",
        start + text.len() as u64
    );
    Ok(result
        .with("truncated", true)
        .with("next_start_line", next_line)
        .with("next_offset", next_offset)
        .with("note", note))
}

enum Skipped {
    /// The line begins behind that many bytes.
    To(u64),
    /// The file ends before the line.
    Past { lines: u64 },
    /// The line begins behind more than [`COUNTED`] bytes.
    TooFar,
}

fn skip_lines(file: &mut impl BufRead, mut lines: u64) -> std::io::Result<Skipped> {
    let (mut bytes, mut seen) = (0, 0);
    let mut inside = false;
    while lines > 0 {
        if bytes > COUNTED {
            return Ok(Skipped::TooFar);
        }
        let buffer = file.fill_buf()?;
        if buffer.is_empty() {
            return Ok(Skipped::Past { lines: seen + u64::from(inside) });
        }
        let used = match buffer.iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                (lines, seen, inside) = (lines - 1, seen + 1, false);
                end + 1
            }
            None => {
                inside = true;
                buffer.len()
            }
        };
        bytes += used as u64;
        file.consume(used);
    }
    Ok(if bytes > COUNTED { Skipped::TooFar } else { Skipped::To(bytes) })
}

/// The text at the front of `bytes`, at most `most` bytes of it: all, or what ends with a line, or
/// what ends with a character. The error is the place of the byte that is none.
fn text(bytes: &[u8], most: usize) -> Result<&str, usize> {
    if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
        return Err(at);
    }
    let cut = bytes.len() > most;
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // The last character goes on behind what was read.
        Err(error) if error.error_len().is_none() && cut => {
            str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(error) => return Err(error.valid_up_to()),
    };
    if !cut {
        return Ok(valid);
    }
    let front = &valid[..valid.floor_char_boundary(most)];
    Ok(front.rfind('\n').map_or(front, |end| &front[..=end]))
}

fn past_end(path: &str, length: &str) -> ToolError {
    failed("past_end", format!("{path:?} has only {length}"), "send a smaller start_line or offset")
}
