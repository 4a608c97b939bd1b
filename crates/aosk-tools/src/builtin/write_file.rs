//! `write_file`: makes a text the whole content of a file.

use std::path::Path;

use aosk_abi::{Effect, ToolResult};
use aosk_ports::ToolContext;
use serde::Deserialize;
use serde_json::json;

use super::{Builtin, Outcome, Runs, spec};
use crate::failure::refused;

/// The longest content, in characters. A model's reply is far shorter; programs that call tools
/// could send more.
pub const MAX_CHARS: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    path: String,
    content: String,
}

pub fn tool() -> Builtin<Arguments> {
    Builtin {
        spec: spec(
            "write_file",
            Effect::Idempotent,
            "Writes a text file of the workspace. Replaces the whole file if there is one; makes \
             missing folders.",
            &json!({
                "path": {
                    "type": "string",
                    "minLength": 1,
                    "description": "The file, relative to the workspace: notes/todo.md"
                },
                "content": {
                    "type": "string",
                    "maxLength": MAX_CHARS,
                    "description": "The whole new content of the file"
                },
            }),
            &["path", "content"],
        ),
        runs: Runs::Blocking,
        run,
    }
}

fn run(context: &ToolContext, arguments: Arguments) -> Outcome {
    let Arguments { path, content } = arguments;
    context.sandbox.write(Path::new(&path), content.as_bytes()).map_err(refused)?;
    let bytes = content.len();
    Ok(ToolResult::ok(format!("wrote {bytes} bytes to {path}")).with("bytes", bytes))
}
