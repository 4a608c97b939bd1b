//! SIGINT, SIGTERM and SIGHUP as something to wait for.
//!
//! A terminal that goes away tells whoever runs on it with SIGHUP. A run in the foreground stops
//! between two steps then, since nobody watches it any more; a daemon has no terminal, so to it
//! the signal can only be a person's wish.

use aosk_abi::Code;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::Error;
use crate::exit::Exit;

/// The signals that ask a program to end. From its making on they no longer do so by themselves.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

/// The wish to look after things: SIGHUP to a program that it is not to end. From its making on it
/// no longer does so by itself.
pub(crate) struct Hangups(Signal);

impl Signals {
    /// SIGINT and SIGTERM.
    pub(crate) fn listen() -> Result<Self, Error> {
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        let (interrupt, terminate) = (listen(interrupt)?, listen(terminate)?);
        Ok(Self { interrupt, terminate, hangup: None })
    }

    /// The same and SIGHUP, for a program that belongs to a terminal. Where whoever started it has
    /// SIGHUP ignored, as `nohup` does, it is to outlive the terminal, and stays so.
    pub(crate) fn of_terminal() -> Result<Self, Error> {
        let hangup = match is_hangup_ignored() {
            true => None,
            false => Some(listen(SignalKind::hangup())?),
        };
        Ok(Self { hangup, ..Self::listen()? })
    }

    /// The exit that the next signal leads to.
    pub(crate) async fn next(&mut self) -> Exit {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
            _ = hangup => Exit::HungUp,
        }
    }
}

impl Hangups {
    pub(crate) fn listen() -> Result<Self, Error> {
        listen(SignalKind::hangup()).map(Self)
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

/// Whether this program was started with SIGHUP ignored, as far as the system tells: Linux does.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // SIGHUP is the first of them.
    ignored.is_some_and(|mask| mask & 1 == 1)
}

fn listen(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind)
        .map_err(|error| Error::new(Code::CliUsage, format!("cannot listen for signals: {error}")))
}
