//! The queue between callers and the writer, bounded by bytes and by count.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::seat::several;

/// What waits for the writer. A queue that stays deep says that the server is slower than the
/// agents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Appends that were not yet given to the server.
    pub appends: usize,
    /// What they hold in memory, about.
    pub bytes: usize,
}

/// The queue. Every item gets the next number.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Notify,
    drained: Condvar,
    most: Depth,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<(usize, T)>,
    bytes: usize,
    pushed: u64,
    closed: bool,
    /// How many callers wait for room. To wake nobody is a call of the system all the same.
    waiting: usize,
}

impl<T> Queue<T> {
    /// An empty queue that holds up to `most`, or one item that is larger.
    pub(super) fn new(most: Depth) -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                bytes: 0,
                pushed: 0,
                closed: false,
                waiting: 0,
            }),
            filled: Notify::new(),
            drained: Condvar::new(),
            most,
        }
    }

    /// Adds an item of `bytes`; waits while there is no room. Gives the item back if the queue is
    /// closed.
    pub(super) fn push(&self, bytes: usize, item: T) -> Result<(), T> {
        let is_full = |state: &State<T>| {
            !state.closed
                && !state.items.is_empty()
                && (state.bytes + bytes > self.most.bytes || state.items.len() >= self.most.appends)
        };
        let mut state = self.lock();
        if is_full(&state) {
            drop(state);
            state = blocking(|| {
                let mut state = self.lock();
                while is_full(&state) {
                    state.waiting += 1;
                    state = self.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.waiting -= 1;
                }
                state
            });
        }
        if state.closed {
            return Err(item);
        }
        state.bytes += bytes;
        state.pushed += 1;
        state.items.push_back((bytes, item));
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes the oldest items, at least one and no more than `most` together; waits for the first.
    /// Returns also the number of the first. Empty only if the queue is closed and nothing is left.
    pub(super) async fn take(&self, most: Depth) -> (u64, Vec<T>) {
        loop {
            if let Some(taken) = self.take_now(most) {
                return taken;
            }
            self.filled.notified().await;
        }
    }

    /// The same where it need not wait; `None` while there is nothing.
    pub(super) fn take_now(&self, most: Depth) -> Option<(u64, Vec<T>)> {
        let mut state = self.lock();
        if state.items.is_empty() && !state.closed {
            return None;
        }
        let first = state.pushed + 1 - state.items.len() as u64;
        let (mut taken, mut sum) = (Vec::new(), 0);
        while taken.len() < most.appends
            && let Some((bytes, item)) = state
                .items
                .pop_front_if(|(bytes, _)| taken.is_empty() || sum + *bytes <= most.bytes)
        {
            sum += bytes;
            taken.push(item);
        }
        state.bytes -= sum;
        let is_awaited = state.waiting > 0;
        drop(state);
        if is_awaited {
            self.drained.notify_all();
        }
        Some((first, taken))
    }

    /// Runs `act` with the number of the last item ever added, while none can be added.
    pub(super) fn still(&self, act: impl FnOnce(u64)) {
        let state = self.lock();
        act(state.pushed);
        drop(state);
    }

    /// What waits.
    pub(super) fn depth(&self) -> Depth {
        let state = self.lock();
        Depth { appends: state.items.len(), bytes: state.bytes }
    }

    /// Whether nothing more is taken in.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Takes no more items; those that are there can still be taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
        self.drained.notify_all();
    }

    // No code here panics while it holds the lock, and every state it can be left in is whole.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Blocks the thread. Where it is a runtime's, its other tasks go on elsewhere; the writer may be
/// one of them.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match several() {
        Some(_) => tokio::task::block_in_place(work),
        None => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    const ANY: Depth = Depth { appends: 99, bytes: 100 };

    fn take<T>(queue: &Queue<T>, most: Depth) -> (u64, Vec<T>) {
        queue.take_now(most).expect("something to take")
    }

    fn waits(queue: Arc<Queue<char>>, bytes: usize) {
        let before = queue.depth();
        let pusher = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.push(bytes, 'z').expect("open")
        });
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(queue.depth(), before, "past the bound it must wait");
        take(&queue, ANY);
        pusher.join().expect("pushed");
        assert_eq!(take(&queue, ANY).1, ['z']);
    }

    #[test]
    fn a_full_queue_makes_callers_wait_and_a_large_item_passes_alone() {
        let queue = Arc::new(Queue::new(Depth { appends: 3, bytes: 10 }));
        queue.push(6, 'a').expect("open");
        queue.push(4, 'b').expect("exactly full of bytes");
        waits(Arc::clone(&queue), 1);
        for item in ['a', 'b', 'c'] {
            queue.push(1, item).expect("exactly full of items");
        }
        waits(Arc::clone(&queue), 1);
        queue.push(11, 'd').expect("larger than the queue, but alone");
        assert_eq!(take(&queue, Depth { appends: 1, bytes: 1 }).1, ['d']);
    }

    #[test]
    fn a_group_is_bounded_by_bytes_and_by_count_below_at_and_above() {
        let queue = Queue::new(ANY);
        for (bytes, item) in [(4, 'a'), (5, 'b'), (1, 'c'), (1, 'd'), (0, 'e'), (0, 'f')] {
            queue.push(bytes, item).expect("open");
        }
        assert_eq!(take(&queue, Depth { appends: 9, bytes: 10 }), (1, vec!['a', 'b', 'c']));
        assert_eq!(take(&queue, Depth { appends: 2, bytes: 10 }), (4, vec!['d', 'e']));
        assert_eq!(take(&queue, ANY), (6, vec!['f']));
    }

    #[test]
    fn a_closed_queue_hands_out_what_it_has_and_takes_nothing() {
        let queue = Queue::new(ANY);
        assert!(queue.take_now(ANY).is_none(), "open and empty");
        queue.push(1, 'a').expect("open");
        queue.close();
        assert_eq!(queue.push(1, 'b'), Err('b'));
        assert_eq!(take(&queue, ANY), (1, vec!['a']));
        assert_eq!(take(&queue, ANY), (2, vec![]));
    }
}
