//! Sweeps: many seeds on many threads, heard in their order.
//!
//! A simulation is one thread and shares nothing, so seeds are the unit that cores divide among
//! them. Reports are handed over in the order of the seeds, whichever ended first: the first
//! failing one is then the smallest, on any machine and any number of threads.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::simulation::Report;

/// Regressions as the file beside the crate's manifest has them.
const REGRESSIONS: &str = include_str!("../regressions.txt");

/// Seeds that once broke a promise, each with what it found. They run before all others.
pub fn regressions() -> impl Iterator<Item = (u64, &'static str)> {
    let lines = REGRESSIONS.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| {
        let (seed, found) = line.split_once(' ')?;
        Some((seed.parse().ok()?, found.trim()))
    })
}

/// Simulates seeds on that many threads, at least 1, and hands the reports over in the order of
/// the seeds until `hear` breaks.
pub fn sweep(
    seeds: Range<u64>,
    threads: usize,
    simulate: impl Fn(u64) -> Report + Sync,
    mut hear: impl FnMut(Report) -> ControlFlow<()>,
) {
    let (next, simulate) = (AtomicU64::new(seeds.start), &simulate);
    let (sender, reports) = mpsc::sync_channel(threads.max(1));
    thread::scope(|scope| {
        // Owned by the scope: when nobody hears any more, the threads find nobody to send to.
        let reports = reports;
        for _ in 0..threads.max(1) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || sender.send((seed, simulate(seed))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let (mut early, mut due) = (BTreeMap::new(), seeds.start);
        for (seed, report) in &reports {
            early.insert(seed, report);
            while let Some(report) = early.remove(&due) {
                due += 1;
                if hear(report).is_break() {
                    return;
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_heard_once_in_order_until_nobody_listens() {
        for threads in 0..5 {
            let mut heard = Vec::new();
            sweep(
                7..107,
                threads,
                |seed| {
                    if seed % 3 == 0 {
                        thread::yield_now();
                    }
                    Report { seed, ..Report::default() }
                },
                |report| {
                    heard.push(report.seed);
                    if report.seed == 56 {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                },
            );
            assert_eq!(heard, (7..57).collect::<Vec<_>>(), "{threads} threads");
        }
    }

    #[test]
    fn every_line_of_the_regressions_is_a_seed_and_a_word_or_a_comment() {
        let lines = REGRESSIONS.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(regressions().count(), lines);
        assert!(regressions().all(|(_, found)| !found.is_empty()));
    }
}
