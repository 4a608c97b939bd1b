//! Power: how a simulated machine dies.
//!
//! `kill -9` gives a program no last word. Aborting a task does: its destructors run, and between
//! the decision and the abort other tasks take a few more turns in which they could still write to
//! a disk or call a tool. So a crash is a cut of the power, after which every device answers
//! nothing at all: what waits, waits for ever, and the owner of the executor drops it when it gets
//! to it. However late that is, the world has not moved.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::watch;

/// The power supply of one life of a machine. Clones are the same supply.
#[derive(Debug, Clone)]
pub struct Power(Arc<watch::Sender<Option<&'static str>>>);

impl Default for Power {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Power {
    /// A supply that is on.
    #[must_use]
    pub fn on() -> Self {
        Self::default()
    }

    /// Cuts it, for that reason. Where it is cut already, the first reason stays.
    pub fn cut(&self, why: &'static str) {
        self.0.send_if_modified(|cut| {
            let first = cut.is_none();
            if first {
                *cut = Some(why);
            }
            first
        });
    }

    /// Whether it is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.borrow().is_none()
    }

    /// Completes when it is cut, with the reason.
    pub async fn out(&self) -> &'static str {
        let mut cut = self.0.subscribe();
        loop {
            if let Some(why) = *cut.borrow_and_update() {
                return why;
            }
            // The sender lives in `self`, so the channel cannot close.
            if cut.changed().await.is_err() {
                pending::<()>().await;
            }
        }
    }

    /// Goes on while it is on; never where it is cut.
    pub(crate) async fn hold(&self) {
        if !self.is_on() {
            pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn a_cut_is_heard_once_and_holds_for_ever() {
        let power = Power::on();
        assert!(power.is_on());
        assert!(power.hold().now_or_never().is_some());
        assert!(power.out().now_or_never().is_none());
        power.clone().cut("first");
        power.cut("second");
        assert!(!power.is_on());
        assert!(power.hold().now_or_never().is_none());
        assert_eq!(power.out().now_or_never(), Some("first"));
    }
}
