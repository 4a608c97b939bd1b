//! The walk through the files.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use aosk_abi::ToolResult;
use aosk_ports::{EntryKind, Sandbox, SandboxError};
use regex::bytes::Regex;

use super::Limits;
use super::pattern::Glob;
use crate::builtin::list_dir::one_line;

/// Characters of a found line that are shown, and how many of them stand before the match.
const SHOWN: usize = 160;
const SHOWN_BEFORE: usize = 40;

/// Why a search ended before its end.
pub enum Stopped {
    Bytes,
    Matches,
    Time,
}

#[derive(Default)]
struct Tally {
    entries: usize,
    /// Entries that were not looked at because the limit was reached.
    unseen: usize,
    files: usize,
    bytes: u64,
    matches: usize,
    binary: usize,
    too_long: usize,
    cut_lines: usize,
    unreadable: usize,
}

/// A search under way.
pub struct Search<'a> {
    sandbox: &'a dyn Sandbox,
    regex: Regex,
    glob: Option<Glob>,
    limits: &'a Limits,
    started: Instant,
    /// What is searched; empty for the workspace.
    base: PathBuf,
    found: String,
    tally: Tally,
}

impl<'a> Search<'a> {
    /// A search below `base`, which is empty for the workspace. Its time begins now.
    pub fn new(
        sandbox: &'a dyn Sandbox,
        regex: Regex,
        glob: Option<Glob>,
        limits: &'a Limits,
        base: PathBuf,
    ) -> Self {
        let (started, found, tally) = (Instant::now(), String::new(), Tally::default());
        Self { sandbox, regex, glob, limits, started, base, found, tally }
    }

    /// Walks the tree below the base, depth first, by name. The error is one of the base itself.
    pub fn walk(&mut self) -> Result<Option<Stopped>, SandboxError> {
        let mut waiting = match self.entries(Path::new("")) {
            Ok(entries) => entries,
            Err(SandboxError::WrongKind { expected: "folder", .. }) => {
                let file = self.sandbox.open(&self.base)?;
                let base = self.base.clone();
                let wanted = self.wanted(&base);
                return Ok(wanted.then(|| self.file(&base, file).err()).flatten());
            }
            Err(error) => return Err(error),
        };
        while let Some((path, kind)) = waiting.pop() {
            let step = match kind {
                EntryKind::Folder => {
                    match self.entries(&path) {
                        Ok(entries) => waiting.extend(entries),
                        Err(_) => self.tally.unreadable += 1,
                    }
                    self.in_time()
                }
                EntryKind::File { .. } if self.wanted(&path) => {
                    let full = self.base.join(&path);
                    match self.sandbox.open(&full) {
                        Ok(file) => self.file(&full, file),
                        Err(_) => {
                            self.tally.unreadable += 1;
                            Ok(())
                        }
                    }
                }
                _ => Ok(()),
            };
            if let Err(stopped) = step {
                return Ok(Some(stopped));
            }
        }
        Ok(None)
    }

    /// What stands in a folder, the last first, by its path below the base.
    fn entries(&mut self, folder: &Path) -> Result<Vec<(PathBuf, EntryKind)>, SandboxError> {
        let full = self.base.join(folder);
        let full = if full.as_os_str().is_empty() { Path::new(".") } else { &full };
        let room = self.limits.entries - self.tally.entries;
        let listing = self.sandbox.list(full, room)?;
        self.tally.entries += listing.entries.len();
        self.tally.unseen += listing.total - listing.entries.len();
        let entries = listing.entries.into_iter().rev();
        let entries = entries
            .filter(|entry| entry.name != ".git" || !matches!(entry.kind, EntryKind::Folder));
        Ok(entries.map(|entry| (folder.join(entry.name), entry.kind)).collect())
    }

    fn wanted(&self, path: &Path) -> bool {
        self.glob.as_ref().is_none_or(|glob| glob.matches(path))
    }

    fn file(&mut self, path: &Path, file: File) -> Result<(), Stopped> {
        self.in_time()?;
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        if length > self.limits.file_bytes {
            self.tally.too_long += 1;
            return Ok(());
        }
        if self.tally.bytes + length > self.limits.bytes {
            return Err(Stopped::Bytes);
        }
        // What is appended from now on is not read: the bounds hold for what was seen.
        let mut bytes = Vec::new();
        if file.take(length).read_to_end(&mut bytes).is_err() {
            self.tally.unreadable += 1;
            return Ok(());
        }
        self.tally.bytes += length;
        if bytes.iter().take(8192).any(|&byte| byte == 0) {
            self.tally.binary += 1;
            return Ok(());
        }
        self.tally.files += 1;
        if bytes.is_empty() {
            return Ok(());
        }
        let lines = bytes.strip_suffix(b"\n").unwrap_or(&bytes).split(|&byte| byte == b'\n');
        for (number, line) in (1..).zip(lines) {
            self.in_time()?;
            self.line(path, number, line.strip_suffix(b"\r").unwrap_or(line))?;
        }
        Ok(())
    }

    fn line(&mut self, path: &Path, number: u64, line: &[u8]) -> Result<(), Stopped> {
        let searched = &line[..line.len().min(self.limits.line_bytes)];
        self.tally.cut_lines += usize::from(searched.len() < line.len());
        let Some(found) = self.regex.find(searched) else {
            return Ok(());
        };
        if self.tally.matches == self.limits.matches {
            return Err(Stopped::Matches);
        }
        self.tally.matches += 1;
        let (path, text) = (one_line(path.as_os_str()), excerpt(searched, found.start()));
        let _ = writeln!(self.found, "{path}:{number}: {text}");
        Ok(())
    }

    fn in_time(&self) -> Result<(), Stopped> {
        if self.started.elapsed() > self.limits.time { Err(Stopped::Time) } else { Ok(()) }
    }

    /// What was found, and what was left out.
    pub fn result(self, stopped: Option<Stopped>) -> ToolResult {
        let Self { found, tally, limits, .. } = self;
        let mut notes = Vec::new();
        let stop = match stopped {
            Some(Stopped::Matches) => Some(format!("{} matches", limits.matches)),
            Some(Stopped::Bytes) => Some(format!("{} bytes read", limits.bytes)),
            Some(Stopped::Time) => Some(format!("{} s", limits.time.as_secs())),
            None if tally.unseen > 0 => Some(format!("{} files and folders", limits.entries)),
            None => None,
        };
        let complete = stop.is_none();
        if let Some(stop) = stop {
            notes.push(format!("stopped after {stop}: narrow pattern, path or glob"));
        }
        for (count, what) in [
            (tally.too_long, format!("files longer than {} bytes were skipped", limits.file_bytes)),
            (tally.unreadable, "files or folders could not be read".to_owned()),
            (tally.cut_lines, format!("lines were searched up to byte {}", limits.line_bytes)),
        ] {
            if count > 0 {
                notes.push(format!("{count} {what}"));
            }
        }
        let data =
            if tally.matches == 0 { format!("no match in {} files", tally.files) } else { found };
        let result = ToolResult::ok(data)
            .with("matches", tally.matches)
            .with("files", tally.files)
            .with("binary_files", tally.binary)
            .with("complete", complete && notes.is_empty());
        if notes.is_empty() { result } else { result.with("note", notes.join("; ")) }
    }
}

/// The part of a line around its match. Bytes that are not UTF-8 are shown as U+FFFD.
pub fn excerpt(line: &[u8], start: usize) -> String {
    let before = String::from_utf8_lossy(&line[..start]);
    let skipped = before.chars().count().saturating_sub(SHOWN_BEFORE);
    let whole = String::from_utf8_lossy(line);
    if whole.chars().count() <= SHOWN {
        return whole.into_owned();
    }
    let mut text: String = whole.chars().skip(skipped).take(SHOWN).collect();
    if skipped > 0 {
        text.insert(0, '…');
    }
    if whole.chars().count() > skipped + SHOWN {
        text.push('…');
    }
    text
}
