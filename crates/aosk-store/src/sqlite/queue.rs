//! A queue between callers and a thread, bounded by bytes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The queue. Every item gets the next number.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
    drained: Condvar,
    most: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<(usize, T)>,
    bytes: usize,
    pushed: u64,
    closed: bool,
}

impl<T> Queue<T> {
    /// An empty queue that holds up to `most` bytes, or one item that is larger.
    pub(super) fn new(most: usize) -> Self {
        Self {
            state: Mutex::new(State { items: VecDeque::new(), bytes: 0, pushed: 0, closed: false }),
            filled: Condvar::new(),
            drained: Condvar::new(),
            most,
        }
    }

    /// Adds an item of `bytes`; waits while there is no room. Gives the item back if the queue is
    /// closed.
    pub(super) fn push(&self, bytes: usize, item: T) -> Result<(), T> {
        let mut state = self.lock();
        while !state.closed && !state.items.is_empty() && state.bytes + bytes > self.most {
            state = self.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
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

    /// Takes the oldest items, at least one and no more than `most` bytes after it; waits for the
    /// first. Returns also the number of the last item taken. Empty only if the queue is closed
    /// and nothing is left.
    pub(super) fn take(&self, most: usize) -> (Vec<T>, u64) {
        let mut state = self.lock();
        while state.items.is_empty() && !state.closed {
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let mut taken = Vec::new();
        let mut sum = 0;
        while let Some((bytes, item)) =
            state.items.pop_front_if(|(bytes, _)| taken.is_empty() || sum + *bytes <= most)
        {
            sum += bytes;
            taken.push(item);
        }
        state.bytes -= sum;
        let last = state.pushed - state.items.len() as u64;
        drop(state);
        self.drained.notify_all();
        (taken, last)
    }

    /// Runs `act` with the number of the last item ever added, while none can be added.
    pub(super) fn still(&self, act: impl FnOnce(u64)) {
        let state = self.lock();
        act(state.pushed);
        drop(state);
    }

    /// Takes no more items; those that are there can still be taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
        self.drained.notify_all();
    }

    /// Takes no more items and drops those that are there.
    pub(super) fn abandon(&self) {
        self.close();
        let items = std::mem::take(&mut self.lock().items);
        drop(items);
    }

    // No code here panics while it holds the lock, and every state it can be left in is whole.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_full_queue_makes_callers_wait_and_a_large_item_passes_alone() {
        let queue = Arc::new(Queue::new(10));
        queue.push(6, 'a').expect("open");
        queue.push(4, 'b').expect("exactly full");
        let pusher = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.push(1, 'c').expect("open")
        });
        std::thread::sleep(Duration::from_millis(50));
        queue.still(|pushed| assert_eq!(pushed, 2, "one byte past the bound must wait"));
        assert_eq!(queue.take(100), (vec!['a', 'b'], 2));
        pusher.join().expect("pushed");
        assert_eq!(queue.take(100), (vec!['c'], 3));
        queue.push(11, 'd').expect("larger than the queue, but alone");
        assert_eq!(queue.take(1), (vec!['d'], 4));
    }

    #[test]
    fn a_group_is_bounded_by_bytes_below_at_and_above() {
        let queue = Queue::new(100);
        for (bytes, item) in [(4, 'a'), (5, 'b'), (1, 'c'), (1, 'd')] {
            queue.push(bytes, item).expect("open");
        }
        assert_eq!(queue.take(10), (vec!['a', 'b', 'c'], 3));
        assert_eq!(queue.take(10), (vec!['d'], 4));
    }

    #[test]
    fn a_closed_queue_hands_out_what_it_has_and_takes_nothing() {
        let queue = Queue::new(10);
        queue.push(1, 'a').expect("open");
        queue.close();
        assert_eq!(queue.push(1, 'b'), Err('b'));
        assert_eq!(queue.take(10), (vec!['a'], 1));
        assert_eq!(queue.take(10), (vec![], 1));
    }
}
