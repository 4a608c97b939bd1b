//! A connection that lives in the task of the one who uses it.
//!
//! `tokio-postgres` splits a connection into a client, which is asked, and a future, which moves
//! bytes and is as a rule a task of its own. Then each answer of the server wakes that task, which
//! wakes the asker, and each question wakes it again; a scheduler that runs who was just woken next
//! on the same thread does so only a few times in a row, and past that a hand-over costs a call of
//! the system: 9 µs of a commit of 300. Here both are polled by one task, and what the one wakes the
//! other with stays inside it.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

/// The part of a connection that moves bytes. Its end is told to whoever uses the client.
pub(super) type Wire = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How often the two are polled in turn before other tasks have theirs. A commit takes two turns.
/// It must end: a runtime that wants its thread back says so by waking whom it refuses.
const TURNS: u32 = 8;

/// Where a new connection is left for its host.
#[derive(Clone, Default)]
pub(super) struct Berth(Arc<Mutex<Option<Wire>>>);

impl Berth {
    /// Leaves a connection. One that was not fetched is over.
    pub(super) fn leave(&self, wire: Wire) {
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(wire);
        drop(before);
    }

    fn fetch(&self) -> Option<Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Does `work` and moves the bytes of the connection that it uses, the last one that was left in
/// the berth.
pub(super) async fn host<T>(berth: &Berth, work: impl Future<Output = T>) -> T {
    let door = Arc::new(Door::default());
    let inner = Waker::from(Arc::clone(&door));
    let (mut work, mut wire) = (pin!(work), None::<Wire>);
    std::future::poll_fn(|outer| {
        door.outer.register(outer.waker());
        for _ in 0..TURNS {
            door.enter();
            let mut context = Context::from_waker(&inner);
            if let Poll::Ready(done) = work.as_mut().poll(&mut context) {
                return Poll::Ready(done);
            }
            if let Some(next) = berth.fetch() {
                wire = Some(next);
            }
            if let Some(bytes) = &mut wire
                && bytes.as_mut().poll(&mut context).is_ready()
            {
                wire = None;
            }
            if door.leave() {
                return Poll::Pending;
            }
        }
        outer.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// Nobody is being polled: a wake-up goes to the task.
const OUTSIDE: u8 = 0;
/// The task polls: a wake-up is noted.
const INSIDE: u8 = 1;
/// One was noted.
const WOKEN: u8 = 2;

/// Tells wake-ups from within from those that the task must hear.
#[derive(Default)]
struct Door {
    state: AtomicU8,
    outer: AtomicWaker,
}

impl Door {
    fn enter(&self) {
        self.state.store(INSIDE, Ordering::SeqCst);
    }

    /// Whether nobody was woken meanwhile. Otherwise the task is still inside.
    fn leave(&self) -> bool {
        let order = Ordering::SeqCst;
        self.state.compare_exchange(INSIDE, OUTSIDE, order, order).is_ok()
    }
}

impl Wake for Door {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let order = Ordering::SeqCst;
        if self.state.compare_exchange(INSIDE, WOKEN, order, order) == Err(OUTSIDE) {
            self.outer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::channel::mpsc;
    use futures::{SinkExt, StreamExt};

    use super::*;

    /// Counts how often a task is woken.
    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A wire that answers each number with the next one, and the two ends of its client.
    fn echo() -> (Wire, mpsc::Sender<u32>, mpsc::Receiver<u32>) {
        let (ask, mut asked) = mpsc::channel(1);
        let (mut answer, answers) = mpsc::channel(1);
        let wire = async move {
            while let Some(number) = asked.next().await {
                let _ = answer.send(number + 1).await;
            }
        };
        (Box::pin(wire), ask, answers)
    }

    #[test]
    fn a_question_and_its_answer_wake_nobody_outside() {
        let (wire, mut ask, mut answers) = echo();
        let berth = Berth::default();
        berth.leave(wire);
        let (silence, heard) = mpsc::channel::<()>(1);
        let mut task = pin!(host(&berth, async move {
            let mut heard = heard;
            for number in 0..3 {
                ask.send(number).await.expect("a wire that runs");
                assert_eq!(answers.next().await, Some(number + 1));
            }
            heard.next().await
        }));
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let mut context = Context::from_waker(&waker);
        assert!(task.as_mut().poll(&mut context).is_pending());
        // Three exchanges may take more turns than one poll has.
        while bell.0.swap(0, Ordering::SeqCst) > 0 {
            assert!(task.as_mut().poll(&mut context).is_pending());
        }
        drop(silence);
        assert_eq!(bell.0.load(Ordering::SeqCst), 1, "what comes from outside is heard");
        assert!(task.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn one_who_wakes_itself_for_ever_does_not_hold_the_thread() {
        let berth = Berth::default();
        let restless = std::future::poll_fn(|context| {
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        let mut task = pin!(host(&berth, restless));
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(bell.0.load(Ordering::SeqCst), 1, "it comes back");
    }

    #[test]
    fn a_connection_that_ends_is_replaced_by_the_next_one() {
        let berth = Berth::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(host(&berth, async {
            for _ in 0..3 {
                let (wire, mut ask, mut answers) = echo();
                berth.leave(wire);
                ask.send(7).await.expect("a wire that runs");
                assert_eq!(answers.next().await, Some(8));
            }
        }));
    }
}
