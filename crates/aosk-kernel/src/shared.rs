//! What all drivers of a kernel share.

use std::sync::Arc;

use tokio::sync::watch;

use crate::budget::Budget;
use crate::dispatch::Dispatcher;
use crate::options::{Options, Parts};

/// How a kernel is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Not at all.
    Run,
    /// Between two steps; calls and tools in flight get [`Options::grace`].
    Graceful,
    /// At once; what is in flight is given up as in a crash.
    Now,
}

/// What all drivers of a kernel share.
pub(crate) struct Shared {
    pub(crate) parts: Parts,
    pub(crate) options: Options,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) budget: Budget,
    pub(crate) stop: watch::Sender<Stop>,
}
