//! Texts for an agent, tasks and messages: from the command line, standard input or the manifest.

use std::ffi::OsStr;
use std::io::Read;

use aosk_abi::Code;

use crate::error::Error;

/// The longest text, in bytes: about 250,000 tokens, more than most windows hold. Larger material
/// belongs into files, of which an agent reads what it needs.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// What a text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// It begins an agent.
    Task,
    /// It is for one that is there.
    Message,
}

impl For {
    const fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Message => "message",
        }
    }
}

/// The text that stands on the command line; `-` reads it from standard input.
///
/// # Errors
/// [`Error`] for one that is empty, too long or not UTF-8.
pub(crate) fn given(what: For, argument: &OsStr) -> Result<String, Error> {
    if argument != "-" {
        let text = argument.to_str().ok_or_else(|| not_utf8(what, None))?;
        return check(what, text.to_owned());
    }
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(
        |error| Error::new(Code::KernelTask, format!("cannot read the {}: {error}", what.name())),
    )?;
    if bytes.len() > MAX_BYTES {
        return Err(too_long(what, format!("more than {MAX_BYTES}")));
    }
    check(
        what,
        String::from_utf8(bytes)
            .map_err(|error| not_utf8(what, Some(error.utf8_error().valid_up_to())))?,
    )
}

/// The text, if it can be one.
///
/// # Errors
/// [`Error`] for one that is empty or too long.
pub(crate) fn check(what: For, text: String) -> Result<String, Error> {
    let name = what.name();
    if text.trim().is_empty() {
        return Err(Error::new(Code::KernelTask, format!("the {name} is empty")).help(
            match what {
                For::Task => "say what the agent shall do: aosk run AGENT.toml \"…\"",
                For::Message => "say what the agent shall hear: aosk send PID \"…\"",
            },
        ));
    }
    if text.len() > MAX_BYTES {
        return Err(too_long(what, text.len().to_string()));
    }
    if text.contains('\0') {
        return Err(Error::new(Code::KernelTask, format!("the {name} holds the character U+0000"))
            .help(format!("a {name} is text; put binary material into a file of the workspace")));
    }
    Ok(text)
}

fn too_long(what: For, bytes: String) -> Error {
    let name = what.name();
    Error::new(Code::KernelTask, format!("the {name} has {bytes} bytes; the most is {MAX_BYTES}"))
        .help(format!(
            "put the material into a file of the agent's workspace and name the file in the {name}"
        ))
}

fn not_utf8(what: For, at: Option<usize>) -> Error {
    let place = at.map(|at| format!(" (byte {at})")).unwrap_or_default();
    Error::new(Code::KernelTask, format!("the {} is not UTF-8{place}", what.name()))
        .help("convert it, for example with iconv -f LATIN1 -t UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_below_at_and_above_the_longest() {
        for bytes in [1, MAX_BYTES - 1, MAX_BYTES] {
            assert!(check(For::Task, "x".repeat(bytes)).is_ok());
        }
        assert!(check(For::Message, "x".repeat(MAX_BYTES + 1)).is_err());
        for empty in ["", " \n\t"] {
            assert!(check(For::Task, empty.into()).is_err());
        }
    }
}
