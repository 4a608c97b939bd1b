//! What a kernel tells those who watch it.

use aosk_abi::{BlockedOn, Event, Pid, Seq};
use aosk_ports::{Delta, ProcessRow};

/// Something that a watcher may want to show. Notices are hints for the eye: the truth is the
/// journal.
#[derive(Debug)]
pub enum Notice<'a> {
    /// An event was made; it is not durable yet.
    Happened {
        /// Where it will stand.
        seq: Seq,
        /// The event.
        event: &'a Event,
    },
    /// Everything up to here is durable.
    Committed {
        /// The last durable event.
        last: Seq,
        /// The process as lists show it.
        row: &'a ProcessRow,
    },
    /// A reply comes in.
    Streaming(Delta),
    /// The process waits for something that is not worth an event.
    Waiting(BlockedOn),
}

/// A budget that is nearly spent. It is told once for each share in each window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warned {
    /// Whose: `pool NAME`, `tenant NAME` or `group NAME`.
    pub owner: String,
    /// The share that is spent or reserved, in percent: 80 or 95.
    pub percent: u8,
}

/// Hears notices. Called from the step loop; must not block.
pub trait Observer: Send + Sync {
    /// Something happened to that process.
    fn notice(&self, pid: Pid, notice: &Notice<'_>);

    /// A budget that processes share is nearly spent.
    fn warned(&self, warned: &Warned) {
        let _ = warned;
    }
}

impl Observer for () {
    fn notice(&self, _: Pid, _: &Notice<'_>) {}
}
