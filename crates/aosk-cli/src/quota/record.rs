//! Who set which quota, and when: a file that only grows, beside the settings that it is about.
//!
//! Agents' journals say what their quota became, but only to those who waited for it. This says it of
//! every change, also where nobody was told. A line is durable before the settings change, so there is
//! no change without one; one that could not be made has a second line that says so.

use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aosk_abi::{Code, Limits, QuotaOwner};
use serde::Serialize;

use crate::config::Folders;
use crate::error::Error;

/// A change.
#[derive(Serialize)]
struct Change<'a> {
    /// Milliseconds since 1970.
    at: u64,
    /// Who, as this machine numbers its users.
    uid: u32,
    /// On which machine.
    host: String,
    owner: String,
    before: &'a Limits,
    after: &'a Limits,
    /// Why it was not made after all.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
}

/// Keeps that the owner's limits are about to change, or could not be changed.
///
/// # Errors
/// [`Error`] where the line cannot be made durable: then nothing is to be changed.
pub(super) fn keep(
    folders: &Folders,
    owner: &QuotaOwner,
    (before, after): (&Limits, &Limits),
    failed: Option<&Error>,
) -> Result<(), Error> {
    let now = jiff::Timestamp::now().as_millisecond();
    let change = Change {
        at: u64::try_from(now).unwrap_or(0),
        uid: rustix::process::getuid().as_raw(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        owner: owner.to_string(),
        before,
        after,
        failed: failed.map(Error::said),
    };
    let line = crate::print::json(&change)?;
    let path = folders.quota_changes();
    append(&path, &line).map_err(|error| {
        let message = format!("{} cannot be written: {error}", path.display());
        Error::new(Code::CliConfig, message).help("no quota changes without a line there")
    })
}

fn append(path: &Path, line: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
    // Whoever was cut off in the middle of a line must not take the next one with it.
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    let break_before = if last == [b'\n'] { "" } else { "\n" };
    file.write_all(format!("{break_before}{line}\n").as_bytes())?;
    file.sync_data()
}
