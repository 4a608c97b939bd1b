//! When something last happened, for a daemon that stops when nothing does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aosk_abi::Pid;
use aosk_kernel::{Kernel, Notice, Observer};

use crate::diagnostics;
use crate::text::one_line;

/// How often one looks whether a client that outstays the idle time has left. A client is cut off
/// after 10 seconds of silence.
const PAUSE: Duration = Duration::from_secs(1);

/// What happens in a daemon.
pub(super) struct Activity {
    last: Mutex<Instant>,
    clients: AtomicUsize,
}

/// A client, for as long as it is connected.
pub(super) struct Visit<'a>(&'a Activity);

impl Activity {
    pub(super) fn new() -> Self {
        Self { last: Mutex::new(Instant::now()), clients: AtomicUsize::new(0) }
    }

    /// Counts a client; `None` where there are `most` already.
    pub(super) fn visit(&self, most: usize) -> Option<Visit<'_>> {
        self.touch();
        let before = self.clients.fetch_add(1, Ordering::SeqCst);
        let visit = Visit(self);
        (before < most).then_some(visit)
    }

    /// Waits until nothing has run, waited for a turn or for a moment, and nobody has come, for
    /// that long; zero: for ever.
    pub(super) async fn ceased(&self, kernel: &Kernel, idle: Duration) {
        if idle.is_zero() {
            return std::future::pending().await;
        }
        loop {
            kernel.quiet().await;
            let left = idle.saturating_sub(self.last().elapsed());
            if !left.is_zero() {
                tokio::time::sleep(left).await;
            } else if self.clients.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(PAUSE).await;
            } else if kernel.is_quiet() {
                return;
            }
        }
    }

    /// Waits until those who came have left, or for that long.
    pub(super) async fn left(&self, patience: Duration) {
        let until = Instant::now() + patience;
        while self.clients.load(Ordering::SeqCst) > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.touch();
        self.0.clients.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Observer for Activity {
    fn notice(&self, pid: Pid, notice: &Notice<'_>) {
        self.touch();
        if let Notice::Committed { row, .. } = notice
            && let aosk_abi::ProcessState::Exited { exit } = &row.state
        {
            let (name, exit) = (one_line(&row.name), exit.name());
            tracing::info!(target: diagnostics::TOLD, "{name} ({pid}) {exit}");
        }
    }
}
