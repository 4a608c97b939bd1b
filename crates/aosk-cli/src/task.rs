//! The task: from the command line, standard input or the manifest.

use std::ffi::OsStr;
use std::io::Read;

use aosk_abi::Code;

use crate::error::Error;

/// The longest task, in bytes: about 250,000 tokens, more than most windows hold. Larger material
/// belongs into files, of which an agent reads what it needs.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// The task that stands on the command line; `-` reads it from standard input.
///
/// # Errors
/// [`Error`] for a task that is empty, too long or not UTF-8.
pub(crate) fn given(argument: &OsStr) -> Result<String, Error> {
    if argument != "-" {
        let text = argument.to_str().ok_or_else(|| not_utf8(None))?;
        return check(text.to_owned());
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::new(Code::KernelTask, format!("cannot read the task: {error}")))?;
    if bytes.len() > MAX_BYTES {
        return Err(too_long(format!("more than {MAX_BYTES}")));
    }
    check(
        String::from_utf8(bytes)
            .map_err(|error| not_utf8(Some(error.utf8_error().valid_up_to())))?,
    )
}

/// The task, if it is one.
///
/// # Errors
/// [`Error`] for a task that is empty or too long.
pub(crate) fn check(task: String) -> Result<String, Error> {
    if task.trim().is_empty() {
        return Err(Error::new(Code::KernelTask, "the task is empty")
            .help("say what the agent shall do: aosk run AGENT.toml \"…\""));
    }
    if task.len() > MAX_BYTES {
        return Err(too_long(task.len().to_string()));
    }
    if task.contains('\0') {
        return Err(Error::new(Code::KernelTask, "the task holds the character U+0000")
            .help("a task is text; put binary material into a file of the workspace"));
    }
    Ok(task)
}

fn too_long(bytes: String) -> Error {
    Error::new(Code::KernelTask, format!("the task has {bytes} bytes; the most is {MAX_BYTES}"))
        .help("put the material into a file of the agent's workspace and name the file in the task")
}

fn not_utf8(at: Option<usize>) -> Error {
    let place = at.map(|at| format!(" (byte {at})")).unwrap_or_default();
    Error::new(Code::KernelTask, format!("the task is not UTF-8{place}"))
        .help("convert it, for example with iconv -f LATIN1 -t UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_below_at_and_above_the_longest() {
        for bytes in [1, MAX_BYTES - 1, MAX_BYTES] {
            assert!(check("x".repeat(bytes)).is_ok());
        }
        assert!(check("x".repeat(MAX_BYTES + 1)).is_err());
        for empty in ["", " \n\t"] {
            assert!(check(empty.into()).is_err());
        }
    }
}
