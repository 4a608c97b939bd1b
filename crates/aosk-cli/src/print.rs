//! The only way to standard output and standard error.
//!
//! A reader that goes away (`aosk logs … | head`) is no error: what is left to say is dropped, and
//! commands that have nothing else to do end quietly. Secrets are taken out of everything on
//! standard error, because error texts quote what others said.

use std::borrow::Cow;
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use aosk_abi::Code;
use aosk_kernel::Redactor;

use crate::error::Error;
use crate::text;

/// The width of lines that no terminal bounds.
const WIDTH: usize = 80;

/// The height of a terminal that does not say.
const HEIGHT: usize = 24;

/// How many lines at the end of the terminal are a live display, to be drawn over.
static LIVE: Mutex<usize> = Mutex::new(0);

static SECRETS: RwLock<Option<Redactor>> = RwLock::new(None);

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a text means; the terminal's own palette says how that looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Went well.
    Good,
    /// Needs attention.
    Warning,
    /// Went wrong.
    Error,
    /// A name or heading.
    Strong,
    /// Less important than its surroundings.
    Quiet,
}

/// Standard output or standard error.
#[derive(Debug)]
pub(crate) struct Stream {
    error: bool,
    terminal: bool,
    color: bool,
    gone: AtomicBool,
}

/// Both streams of the program.
#[derive(Debug)]
pub(crate) struct Screen {
    /// Results.
    pub(crate) out: Stream,
    /// Progress, notes and errors.
    pub(crate) err: Stream,
}

impl Screen {
    /// The streams as they are, coloured as asked.
    pub(crate) fn new(color: Color) -> Self {
        let stream = |error, terminal| Stream {
            error,
            terminal,
            color: match color {
                Color::Always => true,
                Color::Never => false,
                Color::Auto => {
                    terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
                }
            },
            gone: AtomicBool::new(false),
        };
        Self {
            out: stream(false, std::io::stdout().is_terminal()),
            err: stream(true, std::io::stderr().is_terminal()),
        }
    }
}

/// Keeps these out of everything that is said on standard error from now on, instead of those that
/// were kept out before.
pub(crate) fn hide(secrets: Redactor) {
    *SECRETS.write().unwrap_or_else(PoisonError::into_inner) = Some(secrets);
}

/// `text` without the secrets that are known by now.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    match SECRETS.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
        Some(secrets) => secrets.text(text),
        None => text.into(),
    }
}

impl Stream {
    /// Whether a person watches.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether the stream is coloured.
    pub(crate) const fn is_colored(&self) -> bool {
        self.color
    }

    /// Columns of a line: the terminal's, or 80.
    pub(crate) fn width(&self) -> usize {
        self.size().map_or(WIDTH, |size| size.ws_col.into())
    }

    /// Lines of the terminal, or 24.
    pub(crate) fn height(&self) -> usize {
        self.size().map_or(HEIGHT, |size| size.ws_row.into())
    }

    fn size(&self) -> Option<rustix::termios::Winsize> {
        if !self.terminal {
            return None;
        }
        let size = if self.error {
            rustix::termios::tcgetwinsize(std::io::stderr())
        } else {
            rustix::termios::tcgetwinsize(std::io::stdout())
        };
        // Terminals that do not know their size say 0.
        size.ok().filter(|size| size.ws_col > 0 && size.ws_row > 0)
    }

    /// `text` in that ink, where the stream is coloured.
    pub(crate) fn paint(&self, ink: Ink, text: &str) -> String {
        if !self.color {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Good => "32",
            Ink::Warning => "33",
            Ink::Error => "1;31",
            Ink::Strong => "1",
            Ink::Quiet => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Writes a line.
    ///
    /// # Errors
    /// [`Error`] where the stream cannot take it; not where its reader has gone.
    pub(crate) fn line(&self, line: &str) -> Result<(), Error> {
        self.raw(&format!("{line}\n"))
    }

    /// Writes a line, on a terminal broken between words.
    pub(crate) fn wrapped(&self, line: &str) {
        let lines = if self.terminal { text::wrap(line, self.width()) } else { vec![line.into()] };
        for line in lines {
            // Notes have no second way out; a stream that refuses them leaves nobody to tell.
            let _ = self.line(&line);
        }
    }

    /// Writes text as it is, at once.
    ///
    /// # Errors
    /// As [`Stream::line`].
    pub(crate) fn raw(&self, text: &str) -> Result<(), Error> {
        if self.is_gone() {
            return Ok(());
        }
        let written = if self.error {
            write_error(text)
        } else {
            let mut stream = std::io::stdout().lock();
            stream.write_all(text.as_bytes()).and_then(|()| stream.flush())
        };
        match written {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.gone.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                let name = if self.error { "error" } else { "output" };
                Err(Error::new(Code::CliFile, format!("cannot write to standard {name}: {error}")))
            }
        }
    }

    /// Draws a live display over the one before. What is written in between appears above it.
    pub(crate) fn live(&self, lines: &[String]) {
        let mut shown = live();
        let mut text = up(*shown);
        for line in lines {
            text += &format!("{}\x1b[K\n", clean(line));
        }
        text += "\x1b[J";
        *shown = lines.len();
        // A display that cannot be drawn is missed by nobody.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    /// Whether the reader has gone, so that nothing more need be said.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

/// Writes to standard error, above a live display if there is one.
fn write_error(text: &str) -> std::io::Result<()> {
    let mut shown = live();
    let mut stream = std::io::stderr().lock();
    if *shown > 0 {
        stream.write_all(up(*shown).as_bytes())?;
        stream.write_all(b"\x1b[J")?;
        *shown = 0;
    }
    stream.write_all(clean(text).as_bytes())?;
    stream.flush()
}

/// Moves to the first column, so many lines up: a terminal may have echoed a key since.
fn up(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\r\x1b[{lines}A") }
}

fn live() -> MutexGuard<'static, usize> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `value` as a line of JSON.
///
/// # Errors
/// [`Error`] for a value that JSON cannot hold.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| {
        Error::new(Code::EventEncode, format!("not representable as JSON: {error}"))
    })
}

/// A tracing writer that keeps secrets out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        write_error(&String::from_utf8_lossy(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().lock().flush()
    }
}
