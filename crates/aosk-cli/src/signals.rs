//! SIGINT, SIGTERM and SIGHUP as something to wait for.

use aosk_abi::Code;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::Error;
use crate::exit::Exit;

/// The signals that ask a program to end. From its making on they no longer do so by themselves.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// A terminal that went away, or a wish to look after things: SIGHUP. From its making on it no
/// longer ends the program.
pub(crate) struct Hangups(Signal);

impl Signals {
    pub(crate) fn listen() -> Result<Self, Error> {
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        Ok(Self { interrupt: listen(interrupt)?, terminate: listen(terminate)? })
    }

    /// The exit that the next signal leads to.
    pub(crate) async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
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

fn listen(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind)
        .map_err(|error| Error::new(Code::CliUsage, format!("cannot listen for signals: {error}")))
}
