//! Failures in words for the model: what was wrong, with the value, and what to do instead.

use aosk_abi::{ToolError, ToolResult};
use aosk_ports::SandboxError;
use serde_json::{Map, Value};

/// A failure with its code, what was wrong and what to do instead.
pub fn failed(code: &str, message: impl Into<String>, hint: impl Into<String>) -> ToolError {
    ToolError { code: code.to_owned(), message: message.into(), hint: Some(hint.into()) }
}

/// The result that a failure becomes.
pub fn into_result(error: ToolError) -> ToolResult {
    ToolResult { success: false, data: Value::Null, error: Some(error), metadata: Map::new() }
}

/// The failure that a refusal of the sandbox is to the model.
pub fn refused(error: SandboxError) -> ToolError {
    let (code, hint) = match &error {
        SandboxError::Invalid { .. } => {
            ("invalid_path", "send a path relative to the workspace, for example \"notes.txt\"")
        }
        SandboxError::Outside { .. } => {
            ("outside_workspace", "call list_dir with \".\" to see the files that you can reach")
        }
        SandboxError::NotFound { .. } => {
            ("not_found", "call list_dir on its folder to see the names that there are")
        }
        SandboxError::WrongKind { expected: "folder", .. } => {
            ("not_a_folder", "call read_file for a file, or give the path of a folder")
        }
        SandboxError::WrongKind { .. } => {
            ("not_a_file", "call list_dir for a folder, or give the path of a regular file")
        }
        SandboxError::Link { .. } => ("is_a_link", "give the path of the file itself"),
        SandboxError::NoWorkspace | SandboxError::Unsupported { .. } => {
            ("no_workspace", "go on without files, and say that you could not reach them")
        }
        SandboxError::Io { .. } => {
            ("io_error", "try another path, or go on without this file and say so")
        }
    };
    failed(code, error.to_string(), hint)
}

/// The same for an error while an opened file is read.
pub fn unreadable(path: &str, source: std::io::Error) -> ToolError {
    refused(SandboxError::Io { path: path.to_owned(), source })
}
