//! The process table: what the kernel keeps of each process that has not ended.
//!
//! A process that waits for something from outside, or for a moment, costs its entry here and
//! nothing else: no task, no image. One that is ready but finds no place in memory stands in line
//! with as little, so however many processes come back at once, memory is bounded by the places.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use aosk_abi::{BlockedOn, Code, Epoch, Pid, Timestamp};
use tokio::sync::watch;

use crate::driver::{InboxSender, Outcome};

/// Tells those who wait for a process what became of it.
pub(super) type Herald = watch::Sender<Option<Outcome>>;

/// What the kernel keeps of a process. The epoch is the one under which the kernel owns it; where
/// there is none it is still to be taken over.
pub(super) enum Entry {
    /// It is in memory; a driver acts for it.
    Driven { inbox: InboxSender, herald: Herald },
    /// It waits for a place in memory.
    Lined { stay: Stay, herald: Herald },
    /// It waits for a moment.
    Asleep { epoch: Option<Epoch>, until: Timestamp, due: Duration, herald: Option<Herald> },
    /// It waits for other processes, without an end of its own. Nobody need wait for it any more once
    /// nothing else runs here.
    Waiting { epoch: Option<Epoch>, on: BlockedOn, herald: Option<Herald> },
    /// It waits for something from outside.
    Resting { epoch: Option<Epoch> },
    /// The kernel could not go on with it.
    Broken { epoch: Option<Epoch>, outcome: Box<Outcome> },
}

/// What the next stay of a process in memory begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stay {
    /// The epoch under which this kernel owns it; `None`: it is still to be taken over.
    pub(super) epoch: Option<Epoch>,
    /// A moment that it has waited for already.
    pub(super) waited: Option<Timestamp>,
}

impl Stay {
    /// Of a process that another kernel had, or none.
    pub(super) const TAKE_OVER: Self = Self { epoch: None, waited: None };
}

/// How a process's stay with the kernel ends.
pub(super) enum Ending {
    /// It has ended so.
    Known(Outcome),
    /// It runs, stands in line or sleeps; this tells when the kernel lets go of it.
    Ahead(watch::Receiver<Option<Outcome>>),
}

/// The table. Ended processes are not in it: their end is in the store.
pub(super) struct Table {
    /// Each with the change that entered it.
    entries: BTreeMap<Pid, (u64, Entry)>,
    /// How many changes there were: a clock that tells what is older than what.
    changes: u64,
    line: VecDeque<Pid>,
    alarms: BTreeSet<(Duration, Pid)>,
    /// How many processes may be in memory at once. Who is asked for by name comes in beyond it.
    places: usize,
    driven: usize,
}

impl Table {
    pub(super) fn new(places: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            changes: 0,
            line: VecDeque::new(),
            alarms: BTreeSet::new(),
            places,
            driven: 0,
        }
    }

    pub(super) fn get(&self, pid: Pid) -> Option<&Entry> {
        self.entries.get(&pid).map(|(_, entry)| entry)
    }

    /// Counts as a change of the process's entry.
    pub(super) fn touch(&mut self, pid: Pid) {
        self.changes += 1;
        if let Some((made, _)) = self.entries.get_mut(&pid) {
            *made = self.changes;
        }
    }

    /// How the process's stay ends, as far as the store does not know it better.
    pub(super) fn ending(&mut self, pid: Pid) -> Option<Ending> {
        match self.entries.get_mut(&pid) {
            Some((_, Entry::Driven { herald, .. } | Entry::Lined { herald, .. })) => {
                Some(Ending::Ahead(herald.subscribe()))
            }
            Some((_, Entry::Asleep { herald, .. })) => {
                let herald = herald.get_or_insert_with(|| watch::channel(None).0);
                Some(Ending::Ahead(herald.subscribe()))
            }
            Some((_, Entry::Waiting { on, herald: None, .. })) => {
                Some(Ending::Known(Outcome::Parked(on.clone())))
            }
            Some((_, Entry::Waiting { herald: Some(herald), .. })) => {
                Some(Ending::Ahead(herald.subscribe()))
            }
            Some((_, Entry::Broken { outcome, .. })) => {
                Some(Ending::Known(outcome.as_ref().clone()))
            }
            Some((_, Entry::Resting { .. })) | None => None,
        }
    }

    /// The first `limit` processes, by pid, that the kernel could not go on with, and why.
    pub(super) fn broken(&self, limit: usize) -> Vec<(Pid, Code, String)> {
        let broken = self.entries.iter().filter_map(|(pid, (_, entry))| match entry {
            Entry::Broken { outcome, .. } => match outcome.as_ref() {
                Outcome::Broken { code, message } => Some((*pid, *code, message.clone())),
                _ => None,
            },
            _ => None,
        });
        broken.take(limit).collect()
    }

    /// The number of the newest change.
    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether the process's entry was made after the change with that number.
    pub(super) fn is_newer(&self, pid: Pid, change: u64) -> bool {
        self.entries.get(&pid).is_some_and(|(made, _)| *made > change)
    }

    /// Enters a process, in place of what was there.
    pub(super) fn set(&mut self, pid: Pid, entry: Entry) {
        self.remove(pid);
        match &entry {
            Entry::Driven { .. } => self.driven += 1,
            Entry::Lined { .. } => self.line.push_back(pid),
            Entry::Asleep { due, .. } => {
                self.alarms.insert((*due, pid));
            }
            Entry::Waiting { .. } | Entry::Resting { .. } | Entry::Broken { .. } => {}
        }
        self.changes += 1;
        self.entries.insert(pid, (self.changes, entry));
    }

    pub(super) fn remove(&mut self, pid: Pid) -> Option<Entry> {
        let entry = self.entries.remove(&pid).map(|(_, entry)| entry);
        match &entry {
            Some(Entry::Driven { .. }) => self.driven -= 1,
            Some(Entry::Lined { .. }) => self.line.retain(|waiting| *waiting != pid),
            Some(Entry::Asleep { due, .. }) => {
                self.alarms.remove(&(*due, pid));
            }
            Some(Entry::Waiting { .. } | Entry::Resting { .. } | Entry::Broken { .. }) | None => {}
        }
        entry
    }

    pub(super) fn has_place(&self) -> bool {
        self.driven < self.places
    }

    /// Whether somebody came in beyond the places.
    pub(super) const fn is_overfull(&self) -> bool {
        self.driven > self.places
    }

    pub(super) const fn residents(&self) -> usize {
        self.driven
    }

    /// The next process that finds a place.
    pub(super) fn next_in_line(&mut self) -> Option<(Pid, Stay, Herald)> {
        if !self.has_place() {
            return None;
        }
        let pid = self.line.pop_front()?;
        match self.entries.remove(&pid) {
            Some((_, Entry::Lined { stay, herald })) => Some((pid, stay, herald)),
            // The line holds those that are lined up and no others.
            _ => None,
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.line.len()
    }

    /// When the next sleeper wakes.
    pub(super) fn next_alarm(&self) -> Option<Duration> {
        self.alarms.first().map(|(due, _)| *due)
    }

    /// A sleeper whose moment has come.
    pub(super) fn due(&self, now: Duration) -> Option<Pid> {
        self.alarms.first().filter(|(due, _)| *due <= now).map(|(_, pid)| *pid)
    }

    /// Whether nothing runs, waits for a place or for a moment.
    pub(super) fn is_quiet(&self) -> bool {
        self.driven == 0 && self.line.is_empty() && self.alarms.is_empty()
    }

    /// Where nothing runs any more: those who wait for others in vain, and who waits for them.
    pub(super) fn given_up(&mut self) -> Vec<(Herald, BlockedOn)> {
        if !self.is_quiet() {
            return Vec::new();
        }
        let entries = self.entries.values_mut();
        let waiting = entries.filter_map(|(_, entry)| match entry {
            Entry::Waiting { on, herald, .. } => Some((herald.take()?, on.clone())),
            _ => None,
        });
        waiting.collect()
    }

    /// Everyone who waits in line, for others or for a moment, taken out.
    pub(super) fn dismiss_waiting(&mut self) -> Vec<(Pid, Option<Herald>)> {
        let waits = |entry: &Entry| {
            matches!(entry, Entry::Lined { .. } | Entry::Asleep { .. } | Entry::Waiting { .. })
        };
        let pids: Vec<Pid> = self
            .entries
            .iter()
            .filter(|(_, (_, entry))| waits(entry))
            .map(|(pid, _)| *pid)
            .collect();
        let taken = pids.into_iter().filter_map(|pid| match self.entries.remove(&pid) {
            Some((_, Entry::Lined { herald, .. })) => Some((pid, Some(herald))),
            Some((_, Entry::Asleep { herald, .. } | Entry::Waiting { herald, .. })) => {
                Some((pid, herald))
            }
            _ => None,
        });
        let taken = taken.collect();
        self.line.clear();
        self.alarms.clear();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(n: u8) -> Pid {
        Pid::from_bytes([n; 16])
    }

    fn lined() -> Entry {
        Entry::Lined { stay: Stay::TAKE_OVER, herald: watch::channel(None).0 }
    }

    fn driven() -> Entry {
        let (inbox, _) = tokio::sync::mpsc::unbounded_channel();
        Entry::Driven { inbox, herald: watch::channel(None).0 }
    }

    #[test]
    fn places_below_at_and_above_the_bound() {
        let mut table = Table::new(2);
        table.set(pid(1), driven());
        table.set(pid(3), lined());
        table.set(pid(4), lined());
        assert!(table.has_place());
        let (first, ..) = table.next_in_line().expect("one place is free");
        assert_eq!(first, pid(3), "who came first goes first");
        table.set(first, driven());
        assert!(!table.has_place() && !table.is_overfull());
        assert!(table.next_in_line().is_none());
        table.set(pid(5), driven());
        assert!(table.is_overfull(), "one more than there are places");
        table.remove(pid(1));
        assert!(table.next_in_line().is_none());
        table.remove(pid(5));
        assert_eq!(table.next_in_line().map(|(pid, ..)| pid), Some(pid(4)));
    }

    #[test]
    fn alarms_ring_in_order_and_not_for_who_is_gone() {
        let mut table = Table::new(1);
        for (n, due) in [(1, 30), (2, 10), (3, 20)] {
            let due = Duration::from_secs(due);
            let until = Timestamp::from_millis(0);
            table.set(pid(n), Entry::Asleep { epoch: Some(Epoch(1)), until, due, herald: None });
        }
        assert_eq!(table.next_alarm(), Some(Duration::from_secs(10)));
        assert_eq!(table.due(Duration::from_secs(9)), None);
        assert_eq!(table.due(Duration::from_secs(10)), Some(pid(2)));
        table.set(pid(2), Entry::Resting { epoch: Some(Epoch(1)) });
        assert_eq!(table.next_alarm(), Some(Duration::from_secs(20)));
        assert!(!table.is_quiet());
        assert_eq!(table.dismiss_waiting().len(), 2);
        assert!(table.is_quiet());
    }
    #[test]
    fn how_a_stay_ends_is_one_question_whatever_the_process_does() {
        let mut table = Table::new(1);
        table.set(pid(1), driven());
        assert!(matches!(table.ending(pid(1)), Some(Ending::Ahead(_))));
        for n in [1, 2, 3] {
            let outcome = Outcome::Broken { code: Code::KernelFold, message: format!("no {n}") };
            table.set(pid(n), Entry::Broken { epoch: None, outcome: Box::new(outcome) });
        }
        assert!(matches!(table.ending(pid(1)), Some(Ending::Known(Outcome::Broken { .. }))));
        table.set(pid(2), Entry::Resting { epoch: None });
        assert!(table.ending(pid(2)).is_none() && table.ending(pid(9)).is_none());
        let named =
            |limit| -> Vec<Pid> { table.broken(limit).into_iter().map(|(pid, ..)| pid).collect() };
        assert_eq!(named(1), [pid(1)]);
        assert_eq!(named(2), [pid(1), pid(3)]);
        assert_eq!(named(9), [pid(1), pid(3)]);
    }
}
