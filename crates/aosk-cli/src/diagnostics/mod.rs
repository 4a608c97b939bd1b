//! What happens inside, for those who look for a fault: on standard error and in a file.
//!
//! Standard error gets warnings (`-v` and `-vv` more) and is gone with the terminal. So whoever
//! owns a store also writes a log beside it: notes and worse, who began and how it ended, every
//! error that was shown. `AOSK_LOG` sets both. Commands that only read write no log: reading
//! changes nothing.

mod file;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use aosk_abi::Code;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::error::Error;
use crate::print;
use crate::text::plain;
use file::LogFile;

/// The target of what the user has been told already: it goes to the file alone. Modules of this
/// program log as `aosk::…`, so it is no other's.
pub(crate) const TOLD: &str = "aosk";

/// The log of the store that this program owns, once it does.
static FILE: OnceLock<LogFile> = OnceLock::new();

/// Begins to log as `AOSK_LOG` says, else as `-v` does.
///
/// # Errors
/// [`Error`] for an `AOSK_LOG` that is no filter.
pub(crate) fn start(verbose: u8) -> Result<(), Error> {
    let (terminal, file) = match verbose {
        0 => ("warn", "info"),
        1 => ("info", "info"),
        _ => ("debug", "debug"),
    };
    let set = std::env::var("AOSK_LOG").ok().filter(|directives| !directives.is_empty());
    let filter = |level: &str| match &set {
        Some(directives) => EnvFilter::try_new(directives).map_err(|error| {
            Error::new(Code::CliConfig, format!("the variable AOSK_LOG is {directives:?}: {error}"))
                .help("give a level, such as debug, or pairs, such as aosk_kernel=trace,warn")
        }),
        None => Ok(EnvFilter::new(level)),
    };
    let not_told = tracing_subscriber::filter::filter_fn(|event| event.target() != TOLD);
    let terminal = fmt::layer()
        .with_ansi(false)
        .with_writer(|| print::Log)
        .with_filter(filter(terminal)?)
        .with_filter(not_told);
    let file = fmt::layer().with_ansi(false).with_writer(|| ToFile).with_filter(filter(file)?);
    tracing_subscriber::registry().with(terminal).with(file).init();
    Ok(())
}

/// Where the log of the store in `dir` is kept.
pub(crate) fn folder(dir: &Path) -> PathBuf {
    dir.join("logs")
}

/// Keeps the log in `dir` from now on. Whoever calls this owns the store there.
pub(crate) fn keep_in(dir: &Path) {
    match LogFile::open(folder(dir)) {
        // A program owns one store; a second log would tell of the first one's.
        Ok(file) => drop(FILE.set(file)),
        Err(error) => {
            let folder = folder(dir);
            tracing::warn!("no log is kept in {}: {error}", folder.display());
        }
    }
}

/// A tracing writer into the file: one entry a call, without secrets and without what would drive
/// the terminal of whoever reads it.
struct ToFile;

impl Write for ToFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        static FAILED: AtomicBool = AtomicBool::new(false);

        if let Some(file) = FILE.get() {
            let text = String::from_utf8_lossy(bytes);
            let written = file.append(&entry(&print::clean(&text)));
            if let Err(error) = written
                && !FAILED.swap(true, Ordering::Relaxed)
            {
                // Not by tracing, which is what called. The run goes on: its journal is elsewhere.
                let _ = writeln!(print::Log, "warning: the log cannot be written: {error}");
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The text as one entry: it begins with the process that wrote it, since several may write to one
/// file, and its further lines are indented, so that no text can look like an entry of its own.
fn entry(text: &str) -> String {
    let text = plain(text.trim_end()).replace('\n', "\n    ");
    format!("[{}] {text}\n", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_cannot_be_forged_by_its_text_nor_drive_a_terminal() {
        let entry = entry("ERROR said: x\n2026-01-01 ERROR forged \x1b[2J\n");
        assert_eq!(entry.lines().filter(|line| !line.starts_with(' ')).count(), 1, "{entry:?}");
        assert!(!entry.contains('\x1b') && entry.ends_with('\n'), "{entry:?}");
    }
}
