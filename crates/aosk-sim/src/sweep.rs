//! Sweeps: many seeds on many threads, heard in their order.
//!
//! A simulation is one thread and shares nothing, so seeds are the unit that cores divide among
//! them. Reports are handed over in the order of the seeds, whichever ended first: the first
//! failing one is then the same, on any machine and any number of threads. While one seed is slow
//! the others run ahead of it, up to a bound: what is not heard yet stays in memory.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::process;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::simulation::Report;

/// Regressions as the file beside the crate's manifest has them.
const REGRESSIONS: &str = include_str!("../regressions.txt");

/// How many seeds each thread may be ahead of the one that is to be heard next.
const AHEAD: u64 = 64;
/// Between two looks whether a seed hangs.
const LOOK: Duration = Duration::from_secs(1);
/// The exit code of a program in which a seed hung.
const HUNG: i32 = 3;

/// In this real time a seed ends by far: the slowest of 1,000 took 0.7 s beside another one.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Seeds that once broke a promise, each with what it found. They run before all others.
pub fn regressions() -> impl Iterator<Item = (u64, &'static str)> {
    let lines = REGRESSIONS.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| {
        let (seed, found) = line.split_once(' ')?;
        Some((seed.parse().ok()?, found.trim()))
    })
}

/// Where a sweep stands.
struct Field<I> {
    state: Mutex<State<I>>,
    moved: Condvar,
    /// How far the threads may be ahead.
    window: u64,
}

struct State<I> {
    seeds: I,
    taken: u64,
    heard: u64,
    closed: bool,
    /// The seeds that run, by place, and since when.
    running: BTreeMap<u64, (u64, Instant)>,
}

/// Simulates seeds on that many threads, at least 1, and hands the reports over in the order of
/// the seeds until `hear` breaks; those that found nothing come without their trace.
///
/// Nobody can stop a simulation that hangs: where one takes longer than `patience` of real time,
/// its seed is written to standard error and the program ends, with exit code 3.
pub fn sweep<I>(
    seeds: impl IntoIterator<IntoIter = I>,
    threads: usize,
    patience: Duration,
    simulate: impl Fn(u64) -> Report + Sync,
    mut hear: impl FnMut(Report) -> ControlFlow<()>,
) where
    I: Iterator<Item = u64> + Send,
{
    let threads = threads.max(1);
    let (seeds, running) = (seeds.into_iter(), BTreeMap::new());
    let state = State { seeds, taken: 0, heard: 0, closed: false, running };
    let (state, moved, window) = (Mutex::new(state), Condvar::new(), AHEAD * threads as u64);
    let (field, simulate) = (&Field { state, moved, window }, &simulate);
    let (sender, reports) = mpsc::sync_channel(threads);
    thread::scope(|scope| {
        // Owned by the scope: when nobody hears any more, the threads find nobody to send to.
        let reports = reports;
        let _closing = Closing(field);
        for _ in 0..threads {
            let sender = sender.clone();
            scope.spawn(move || {
                let _closing = Closing(field);
                while let Some((place, seed)) = field.take() {
                    let mut report = simulate(seed);
                    if report.is_clean() {
                        report.trace = Vec::new();
                    }
                    field.leave(place, patience);
                    if sender.send((place, report)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let (mut early, mut due) = (BTreeMap::new(), 0);
        loop {
            match reports.recv_timeout(patience.min(LOOK)) {
                Ok((place, report)) => drop(early.insert(place, report)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Some(seed) = field.hangs(Instant::now(), patience) {
                end(seed, patience);
            }
            while let Some(report) = early.remove(&due) {
                due += 1;
                if hear(report).is_break() {
                    return;
                }
            }
            field.lock().heard = due;
            field.moved.notify_all();
        }
    });
}

impl<I: Iterator<Item = u64>> Field<I> {
    /// The next seed and its place, when it may run; `None` where none is left or nobody hears.
    fn take(&self) -> Option<(u64, u64)> {
        let mut state = self.lock();
        while !state.closed && state.taken >= state.heard + self.window {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let seed = if state.closed { None } else { state.seeds.next() }?;
        let place = state.taken;
        state.taken += 1;
        state.running.insert(place, (seed, Instant::now()));
        Some((place, seed))
    }
}

impl<I> Field<I> {
    /// The seed at that place came to its end, which may be too late.
    fn leave(&self, place: u64, patience: Duration) {
        let ran = self.lock().running.remove(&place);
        if let Some((seed, _)) = ran.filter(|(_, since)| since.elapsed() > patience) {
            end(seed, patience);
        }
    }

    /// A seed that has run for longer than `patience`.
    fn hangs(&self, now: Instant, patience: Duration) -> Option<u64> {
        let state = self.lock();
        let late = |since: Instant| now.saturating_duration_since(since) > patience;
        let mut running = state.running.values();
        running.find(|(_, since)| late(*since)).map(|(seed, _)| *seed)
    }

    fn lock(&self) -> MutexGuard<'_, State<I>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the field for everyone when nobody hears any more. A thread that has no seed left closes
/// nothing that is still to be done: then none is left for the others.
struct Closing<'a, I>(&'a Field<I>);

impl<I> Drop for Closing<'_, I> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.moved.notify_all();
    }
}

/// Ends the program, in which a seed hangs.
fn end(seed: u64, patience: Duration) -> ! {
    let seconds = patience.as_secs();
    // The exit code says it too, where nobody can read this.
    drop(writeln!(
        io::stderr(),
        "seed {seed} has not come to its end within {seconds} s of real time; to see it again: \
         ./x sim --from {seed} --seeds 1"
    ));
    process::exit(HUNG)
}

#[cfg(test)]
mod tests {
    use std::panic::{catch_unwind, resume_unwind};
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn quick(seed: u64) -> Report {
        Report { seed, ..Report::default() }
    }

    #[test]
    fn every_seed_is_heard_once_in_order_until_nobody_listens() {
        for threads in 0..5 {
            let mut heard = Vec::new();
            let simulate = |seed| {
                if seed % 3 == 0 {
                    thread::yield_now();
                }
                quick(seed)
            };
            sweep([3].into_iter().chain(7..107), threads, PATIENCE, simulate, |report| {
                heard.push(report.seed);
                if report.seed == 56 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            let expected: Vec<_> = [3].into_iter().chain(7..57).collect();
            assert_eq!(heard, expected, "{threads} threads");
        }
    }

    #[test]
    fn the_others_run_ahead_of_a_slow_seed_up_to_the_bound() {
        let (begun, window) = (AtomicU64::new(0), AHEAD * 2);
        let simulate = |seed| {
            begun.fetch_add(1, Ordering::SeqCst);
            while seed == 0 && begun.load(Ordering::SeqCst) < window {
                thread::yield_now();
            }
            if seed == 0 {
                // Whoever passes the bound does it now.
                thread::sleep(Duration::from_millis(50));
                assert_eq!(begun.load(Ordering::SeqCst), window);
            }
            quick(seed)
        };
        let mut heard = 0;
        sweep(0..1000, 2, PATIENCE, simulate, |_| {
            heard += 1;
            ControlFlow::Continue(())
        });
        assert_eq!(heard, 1000);
    }

    #[test]
    fn a_simulation_that_panics_ends_the_sweep() {
        let simulate =
            |seed| if seed == 3 { resume_unwind(Box::new("on purpose")) } else { quick(seed) };
        let swept =
            catch_unwind(|| sweep(0..1000, 2, PATIENCE, simulate, |_| ControlFlow::Continue(())));
        assert!(swept.is_err());
    }

    #[test]
    fn a_seed_hangs_above_the_bound_and_not_at_it() {
        let (since, patience) = (Instant::now(), Duration::from_secs(60));
        let running = BTreeMap::from([(0, (17, since))]);
        let state = State { seeds: 0..0, taken: 1, heard: 0, closed: false, running };
        let field = Field { state: Mutex::new(state), moved: Condvar::new(), window: 1 };
        assert_eq!(field.hangs(since + patience, patience), None);
        let above = since + patience + Duration::from_millis(1);
        assert_eq!(field.hangs(above, patience), Some(17));
    }

    #[test]
    fn every_line_of_the_regressions_is_a_seed_and_a_word_or_a_comment() {
        let lines = REGRESSIONS.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(regressions().count(), lines);
        assert!(regressions().all(|(_, found)| !found.is_empty()));
    }
}
