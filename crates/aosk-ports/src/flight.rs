//! The flight recorder: what outlives a kernel that falls over.

use aosk_abi::Pid;

/// Remembers, past the end of the program, which processes it was executing. Whoever starts next
/// learns from it who may have taken the kernel down.
pub trait FlightRecorder: Send + Sync {
    /// The kernel begins to execute something for the process; called on the thread that does.
    /// Must not block for longer than a write to the system's cache.
    fn enter(&self, pid: Pid);

    /// It is done with that.
    fn leave(&self, pid: Pid);

    /// Whom the last kernel was executing when it fell over, each once, as far as they are not
    /// cleared.
    fn suspects(&self) -> Vec<Pid>;

    /// What befell the suspect is durable elsewhere: it is one no more, whatever happens next.
    fn clear(&self, suspect: Pid);
}
