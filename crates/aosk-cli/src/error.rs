//! Errors as a user reads them: what was wrong, where it stands, what to do next.

use std::path::{Path, PathBuf};

use aosk_abi::Code;
use aosk_ports::StoreError;

use crate::diagnostics::TOLD;
use crate::exit::Exit;
use crate::print::{Ink, Stream};
use crate::text;

/// Why a command could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Error {
    /// The stable code.
    pub(crate) code: Code,
    message: String,
    place: Option<(PathBuf, Option<usize>)>,
    help: Vec<String>,
}

impl Error {
    /// An error with its code and words.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), place: None, help: Vec::new() }
    }

    /// The same error at a line of a file.
    pub(crate) fn at(mut self, file: impl AsRef<Path>, line: impl Into<Option<usize>>) -> Self {
        self.place = Some((file.as_ref().to_owned(), line.into()));
        self
    }

    /// The same error with something to do next.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// What was wrong and where, in one line.
    pub(crate) fn said(&self) -> String {
        let message = text::one_line(&self.message);
        match &self.place {
            Some((file, Some(line))) => format!("{}:{line}: {message}", file.display()),
            Some((file, None)) => format!("{}: {message}", file.display()),
            None => message,
        }
    }

    /// What to do next, the first thing first.
    pub(crate) fn helps(&self) -> &[String] {
        &self.help
    }

    /// The error in one line, what to do next included: for where there is room for no more.
    pub(crate) fn with_helps(&self) -> String {
        let helps = self.help.iter().map(String::as_str);
        std::iter::once(self.said().as_str()).chain(helps).collect::<Vec<_>>().join("; ")
    }

    /// How the program ends with it.
    pub(crate) fn exit(&self) -> Exit {
        Exit::of(self.code.as_str())
    }

    /// Writes it. A terminal gets lines of its width; others get them as they are, so that they
    /// can be searched.
    pub(crate) fn print(&self, stream: &Stream) {
        tracing::error!(target: TOLD, code = %self.code, "{}", self.said());
        let head = stream.paint(Ink::Error, &format!("error[{}]", self.code));
        let mut lines = vec![format!("{head}: {}", text::plain(&self.message))];
        if let Some((file, line)) = &self.place {
            let line = line.map(|line| format!(":{line}")).unwrap_or_default();
            let arrow = stream.paint(Ink::Quiet, "-->");
            lines.push(format!("  {arrow} {}{line}", text::plain(&file.display().to_string())));
        }
        for help in &self.help {
            lines.push(format!("{}: {}", stream.paint(Ink::Good, "help"), text::plain(help)));
        }
        for line in lines {
            stream.wrapped(&line);
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::new(error.code, error.message)
    }
}

/// Adds a "did you mean" where a known name is close.
pub(crate) fn nearest<'a>(
    wrong: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(wrong, name), name))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// A message of serde about an unknown name, with the nearest known one. Serde names the unknown
/// one first and then the known ones, each in backticks.
pub(crate) fn did_you_mean(message: &str) -> Option<String> {
    if !message.starts_with("unknown field") && !message.starts_with("unknown variant") {
        return None;
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let near = names.next().and_then(|wrong| nearest(wrong, names))?;
    Some(format!("did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_near_name_is_suggested() {
        let known = ["model", "max_steps", "tools"];
        assert_eq!(nearest("modle", known), Some("model"));
        assert_eq!(nearest("max_stesp", known), Some("max_steps"));
        assert_eq!(nearest("zzz", known), None);
        assert_eq!(
            did_you_mean("unknown field `modle`, expected one of `name`, `model`").as_deref(),
            Some("did you mean `model`?")
        );
        assert_eq!(did_you_mean("invalid type: string `modle`, expected `model`"), None);
    }
}
