//! Where the writer runs.
//!
//! **On the runtime of the kernel, where that has several threads.** Then a worker hands an append
//! to the writer and its answer to the agent without waking another thread, which twice a commit
//! costs 45 µs of the 410 that a lone agent waits. Otherwise it runs on the thread of the store.
//!
//! A runtime of somebody else's can end first, or wait for the store with the very thread that the
//! writer would need. So the writer can move: it is taken out between two polls with what it has in
//! hand and goes on at home, on the thread of the store. A group that was under way is judged again
//! there, like one whose answer was lost.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tokio::runtime::{Handle, RuntimeFlavor};

use super::writer::Writer;

/// The writer at work; it gives itself back when it is to move.
type Work = Pin<Box<dyn Future<Output = Option<Writer>> + Send>>;

/// The writer's seat on the caller's runtime. Empty where it is at home or has ended.
pub(super) struct Seat {
    work: Arc<Mutex<Option<Work>>>,
    moves: Arc<AtomicBool>,
    home: Handle,
}

impl Seat {
    /// Seats the writer on the caller's runtime, or at home.
    pub(super) fn take(writer: Writer, home: &Handle) -> Self {
        let mut seat = Self { work: Arc::default(), moves: Arc::default(), home: home.clone() };
        let Some(caller) = several() else {
            home.spawn(writer.run());
            return seat;
        };
        let work: Work = Box::pin(work(writer, Arc::clone(&seat.moves)));
        seat.work = Arc::new(Mutex::new(Some(work)));
        caller.spawn(Guest(Self {
            work: Arc::clone(&seat.work),
            moves: Arc::clone(&seat.moves),
            home: home.clone(),
        }));
        seat
    }

    /// Moves the writer home, unless it is there or has ended.
    pub(super) fn leave(&self) {
        self.moves.store(true, Ordering::SeqCst);
        self.poll(&mut Context::from_waker(Waker::noop()));
    }

    /// Whether there is nothing left to be done here.
    fn poll(&self, context: &mut Context<'_>) -> bool {
        // The lock of a writer that panicked is poisoned. Its callers were answered as it fell.
        let Ok(mut seat) = self.work.lock() else { return true };
        let Some(work) = &mut *seat else { return true };
        let Poll::Ready(moved) = work.as_mut().poll(context) else { return false };
        *seat = None;
        if let Some(writer) = moved {
            self.home.spawn(writer.run());
        }
        true
    }
}

/// The runtime of the caller, where it has one with several threads.
pub(super) fn several() -> Option<Handle> {
    let caller = Handle::try_current().ok();
    caller.filter(|caller| caller.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// Runs the writer until it is done or is to move, between two polls.
async fn work(mut writer: Writer, moves: Arc<AtomicBool>) -> Option<Writer> {
    let moved = {
        let mut serving = pin!(writer.serve());
        poll_fn(|context| {
            if moves.load(Ordering::SeqCst) {
                return Poll::Ready(true);
            }
            serving.as_mut().poll(context).map(|()| false)
        })
        .await
    };
    moved.then(|| writer.moved())
}

/// The task on a runtime that may end before the store.
struct Guest(Seat);

impl Future for Guest {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0.poll(context) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.leave();
    }
}
