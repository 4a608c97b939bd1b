//! Whether the server answers, for everyone who shows it.

use std::time::SystemTime;

use tokio::sync::watch;

/// The state of the connection to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// It answers.
    Up,
    /// It does not. What is asked of the store waits.
    Down {
        /// Since when, by this machine's clock.
        since: SystemTime,
        /// What was said last.
        error: String,
    },
}

/// Keeps the state.
#[derive(Debug)]
pub(super) struct Line(watch::Sender<Link>);

impl Line {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Link::Up))
    }

    pub(super) fn watch(&self) -> watch::Receiver<Link> {
        self.0.subscribe()
    }

    /// The server has answered.
    pub(super) fn up(&self) {
        let was_down = self.0.send_if_modified(|link| {
            let was_down = *link != Link::Up;
            *link = Link::Up;
            was_down
        });
        if was_down {
            tracing::info!("the database answers again");
        }
    }

    /// The server has not answered.
    pub(super) fn down(&self, what: &str) {
        let mut was_up = false;
        self.0.send_modify(|link| {
            let since = match link {
                Link::Down { since, .. } => *since,
                Link::Up => {
                    was_up = true;
                    SystemTime::now()
                }
            };
            *link = Link::Down { since, error: what.to_owned() };
        });
        if was_up {
            tracing::warn!(error = what, "the database does not answer; agents wait until it does");
        }
    }
}
