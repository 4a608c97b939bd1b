//! A server that is down: said once, and left alone for a while.
//!
//! What may be done without it (an estimate in place of a count, words in place of vectors) must not
//! wait ten seconds for a connection in every step, and must not write the same line to the log in
//! every step. So the first failure is a warning, those after it are not, and between them the server
//! is not asked: for as long as it said, else for 1 s, 2 s, 4 s and so on up to a minute.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aosk_ports::CallError;
use tokio::time::Instant;

/// How long it is left alone after its first failure.
const FIRST: Duration = Duration::from_secs(1);

/// How long it is left alone at most, where it does not say how long.
const LONGEST: Duration = Duration::from_secs(60);

/// What is known of a server's being down.
#[derive(Debug, Default)]
pub(crate) struct Outage(Mutex<Option<Down>>);

#[derive(Debug)]
struct Down {
    error: CallError,
    failures: u32,
    until: Instant,
}

impl Outage {
    fn lock(&self) -> MutexGuard<'_, Option<Down>> {
        // It is replaced as a whole, so a panic elsewhere did not harm it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last failure, while the server is to be left alone, with the time that is left.
    pub fn current(&self) -> Option<CallError> {
        let known = self.lock();
        let down = known.as_ref()?;
        let left = down.until.checked_duration_since(Instant::now()).filter(|it| !it.is_zero())?;
        Some(CallError { retry_after: Some(left), ..down.error.clone() })
    }

    /// The server failed. `without` is what happens meanwhile. Returns the error with the time for
    /// which it is left alone.
    pub fn failed(&self, error: CallError, without: &str) -> CallError {
        let mut known = self.lock();
        let failures = known.as_ref().map_or(0, |down| down.failures);
        if failures == 0 {
            tracing::warn!("{error}; until it answers again {without}");
        } else {
            tracing::debug!("again: {error}");
        }
        let pause = FIRST.saturating_mul(1 << failures.min(6)).min(LONGEST);
        let pause = error.retry_after.unwrap_or(pause);
        let error = CallError { retry_after: Some(pause), ..error };
        let until = Instant::now() + pause;
        *known = Some(Down { error: error.clone(), failures: failures + 1, until });
        error
    }

    /// The server answered. `who` it is, for the log.
    pub fn over(&self, who: &str) {
        if let Some(down) = self.lock().take() {
            tracing::warn!("{who} answers again, after {} failures", down.failures);
        }
    }
}

#[cfg(test)]
mod tests {
    use aosk_abi::{Code, FailureKind};

    use super::*;
    use crate::failure::error;

    fn failure(retry_after: Option<Duration>) -> CallError {
        let error = error(FailureKind::Transient, Code::LlmTransient, "down".to_owned());
        CallError { retry_after, ..error }
    }

    #[tokio::test(start_paused = true)]
    async fn the_pauses_double_up_to_a_minute_and_begin_anew_after_an_answer() {
        let outage = Outage::default();
        assert_eq!(outage.current(), None);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = Duration::from_secs(seconds);
            assert_eq!(outage.failed(failure(None), "").retry_after, Some(pause));
            tokio::time::advance(pause - Duration::from_millis(1)).await;
            let left = outage.current().expect("a millisecond before its end").retry_after;
            assert_eq!(left, Some(Duration::from_millis(1)));
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(outage.current(), None, "at its end");
        }
        outage.over("");
        assert_eq!(outage.failed(failure(None), "").retry_after, Some(Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_server_says_of_its_return_is_believed() {
        let outage = Outage::default();
        let hour = Some(Duration::from_secs(3_600));
        assert_eq!(outage.failed(failure(hour), "").retry_after, hour);
        assert_eq!(outage.current().expect("down").retry_after, hour);
    }
}
