//! Time and randomness.

use std::time::Duration;

use aosk_abi::Timestamp;
use futures::future::BoxFuture;

/// The only way to learn the time or to wait.
pub trait Clock: Send + Sync {
    /// The wall clock. It may step back; nothing may depend on its order.
    fn now(&self) -> Timestamp;

    /// Time since an arbitrary start; never steps back.
    fn monotonic(&self) -> Duration;

    /// Completes `duration` from now by the monotonic clock.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The only source of randomness.
pub trait Random: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}
