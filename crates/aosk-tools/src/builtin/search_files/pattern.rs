//! What is looked for, and in which files.

use std::path::Path;

use aosk_abi::ToolError;
use globset::{GlobBuilder, GlobMatcher};
use regex::bytes::{Regex, RegexBuilder};

use crate::failure::failed;
use crate::similar::shown;

/// The size of a compiled pattern. The worst found of this size, nested repeats of 5,000 states,
/// takes 0.2 ms for each byte: time is looked at between lines, and so is kept within a second.
const PATTERN_BYTES: usize = 2 << 20;
/// The expression that `pattern` writes, or what the model has to mend.
pub fn compile(pattern: &str) -> Result<Regex, ToolError> {
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => failed(
            "invalid_pattern",
            format!("{} takes more than {PATTERN_BYTES} bytes when compiled", shown(pattern)),
            "repeat less often, or put (?-u) in front so that \\w, \\d and \\s mean ASCII",
        ),
        error => {
            let error = error.to_string();
            let reason = error.lines().next_back().unwrap_or_default();
            failed(
                "invalid_pattern",
                format!("{} is no usable regular expression: {reason}", shown(pattern)),
                "put a backslash before each of . + * ? ( ) [ ] { } ^ $ | \\ that is meant as itself",
            )
        }
    })
}

/// Which files are searched.
pub struct Glob {
    matcher: GlobMatcher,
    /// Without a `/` it speaks of names, else of paths below the folder that is searched.
    of_names: bool,
}

impl Glob {
    /// The glob that `glob` writes, or what the model has to mend.
    pub fn new(glob: &str) -> Result<Self, ToolError> {
        let built = GlobBuilder::new(glob).literal_separator(true).build().map_err(|error| {
            failed(
                "invalid_glob",
                format!("{} is no usable glob: {}", shown(glob), error.kind()),
                "send a glob such as *.rs or src/**/*.md, or leave it out",
            )
        })?;
        Ok(Self { matcher: built.compile_matcher(), of_names: !glob.contains('/') })
    }

    /// Whether a file is searched, by its path below the folder that is searched.
    pub fn matches(&self, path: &Path) -> bool {
        let name = path.file_name().map(Path::new).unwrap_or(path);
        self.matcher.is_match(if self.of_names { name } else { path })
    }
}
