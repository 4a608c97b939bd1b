//! Removal of processes that have ended: retention.
//!
//! A process goes whole, journal, saved folds and all, never a part of its chain; what it named goes with
//! the [collections](crate::collect) after that. Only what has ended goes, and of that only what nothing
//! that stays still needs:
//!
//! - a message or signal that waits for it, which would continue it;
//! - a message of its own that waits for another process;
//! - an unfinished process that names it in its first event or in what it waits for: its child;
//! - a process whose chain begins with another's, as a fork's does, and names it in its first event.
//!
//! Each transaction removes some and leaves a [record](Pruning) of them, or neither. It looks again, under
//! the rows' locks, at each process and the inbox: one that was continued meanwhile stays. On a server
//! months in which every process goes are emptied as one table, whatever their size; elsewhere a transaction
//! removes up to [`CHUNK`] processes or [`EVENTS`] events, or one process that has more: writers of a file wait
//! meanwhile, some 20 µs for each append that is removed.

mod record;

use std::collections::{BTreeMap, BTreeSet};

use aosk_abi::{Hash, Pid, Record, Tenant, Timestamp};
use aosk_ports::{InboxItem, Posted, Receipt, StoreError};

pub use record::{Gone, Pruned, Pruning};
pub(crate) use record::{Kept, verified};

use crate::copy::{Source, StorePlace, Sweep, Whole};

/// How many processes one transaction removes.
const CHUNK: usize = 64;

/// How many events they have together, unless one alone has more.
const EVENTS: u64 = 20_000;

/// Which processes may go. One that matches every condition given does; with none, none does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// Whose; everyone's where that is `None`.
    pub tenant: Option<Tenant>,
    /// Those whose last event happened before this moment.
    pub ended_before: Option<Timestamp>,
    /// All but so many of each tenant, those that ended last.
    pub keep: Option<u64>,
}

/// Why a process stays that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Something waits in its inbox.
    Awaited,
    /// A message of its own waits for another process.
    Sender,
    /// A process that stays names it: a child that has not ended, or a fork.
    Needed,
    /// It went on while the others were removed.
    GoesOn,
}

/// What a run removed and kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removal {
    /// How many processes were removed, or would be.
    pub processes: u64,
    /// How many events they had.
    pub events: u64,
    /// Those that were due and stay.
    pub kept: BTreeMap<(Tenant, Pid), Reason>,
}

/// Removes processes that have ended, beside whoever works on the store; a `dry` run only says which.
/// `at` and `by` stand in the records. Blocks; it must not be called on a thread that drives futures.
///
/// Reads the list of processes and the first event of each that has not ended. What was removed before an
/// error stays removed, with its record.
///
/// # Errors
/// [`Code::StoreOpen`](aosk_abi::Code::StoreOpen) where there is no store; a list or an event that cannot be
/// read, since nobody knows what it needs; what the store says.
pub fn prune(
    place: &StorePlace,
    rule: &Retention,
    (at, by): (Timestamp, &str),
    dry: bool,
) -> Result<Removal, StoreError> {
    let mut source = place.source()?;
    let (mut removal, mut doomed) = (Removal::default(), Vec::new());
    for (tenant, _) in source.tenants()? {
        if rule.tenant.as_ref().is_some_and(|only| *only != tenant) {
            continue;
        }
        let all = source.processes(&tenant)?;
        let mut due = due(&all, rule);
        for (pid, reason) in needed(&mut *source, &tenant, &all, &due)? {
            due.remove(&pid);
            removal.kept.insert((tenant.clone(), pid), reason);
        }
        let go: Vec<Receipt> = all
            .into_iter()
            .map(|whole| whole.receipt)
            .filter(|receipt| due.contains(&receipt.pid))
            .collect();
        if dry {
            removal.count(&go);
        }
        doomed.push((tenant, go));
    }
    drop(source);
    if dry {
        return Ok(removal);
    }
    let mut sweep = place.sweep()?;
    for (tenant, go) in doomed {
        for batch in sweep.batches(&tenant, go)? {
            let what = |processes: Vec<Gone>| Pruned {
                at,
                by: by.to_owned(),
                ended_before: rule.ended_before,
                keep: rule.keep,
                tenant: tenant.as_str().to_owned(),
                processes,
            };
            remove(&mut *sweep, &tenant, &batch, what, &mut removal)?;
        }
    }
    Ok(removal)
}

/// The records of what was removed from a store, by number.
///
/// # Errors
/// [`Code::StoreOpen`](aosk_abi::Code::StoreOpen) where there is no store,
/// [`Code::ChainBroken`](aosk_abi::Code::ChainBroken) where a record is missing or was altered.
pub fn prunings(place: &StorePlace) -> Result<Vec<Pruning>, StoreError> {
    verified(&place.source()?.prunings()?)
}

/// Processes that one transaction removes.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) receipts: Vec<Receipt>,
    /// The table that holds their journals, and nobody else's by the look of it.
    pub(crate) table: Option<String>,
}

impl Batch {
    /// Batches of a bounded size.
    pub(crate) fn some(receipts: Vec<Receipt>) -> Vec<Self> {
        let mut batches: Vec<Self> = Vec::new();
        let mut events = 0;
        for receipt in receipts {
            events += receipt.next.0;
            match batches.last_mut() {
                Some(last) if last.receipts.len() < CHUNK && events <= EVENTS => {
                    last.receipts.push(receipt);
                }
                _ => {
                    events = receipt.next.0;
                    batches.push(Self { receipts: vec![receipt], table: None });
                }
            }
        }
        batches
    }
}

impl Removal {
    fn count<'a>(&mut self, gone: impl IntoIterator<Item = &'a Receipt>) {
        for receipt in gone {
            self.processes += 1;
            self.events += receipt.next.0;
        }
    }
}

/// Removes a batch in a transaction, but for what went on meanwhile.
fn remove(
    sweep: &mut dyn Sweep,
    tenant: &Tenant,
    batch: &Batch,
    what: impl Fn(Vec<Gone>) -> Pruned,
    removal: &mut Removal,
) -> Result<(), StoreError> {
    sweep.begin_removal()?;
    let pids: Vec<Pid> = batch.receipts.iter().map(|receipt| receipt.pid).collect();
    let there = sweep.lock(tenant, &pids)?;
    // After the locks: who posts holds on to the process meanwhile.
    let posted = sweep.source().inbox(tenant)?;
    let mut gone = Vec::with_capacity(pids.len());
    for receipt in &batch.receipts {
        let key = || (tenant.clone(), receipt.pid);
        if !there.contains(receipt) {
            removal.kept.insert(key(), Reason::GoesOn);
        } else if let Some(reason) = awaited(&posted, receipt.pid) {
            removal.kept.insert(key(), reason);
        } else {
            gone.push(receipt);
        }
    }
    // In one record for each so many, since whoever reads one has all of it in memory.
    for some in gone.chunks(CHUNK) {
        let last = sweep.last_pruning()?;
        sweep
            .record(&Kept::after(last, &what(some.iter().map(|it| Gone::from(*it)).collect()))?)?;
    }
    let pids: Vec<Pid> = gone.iter().map(|receipt| receipt.pid).collect();
    if !pids.is_empty() {
        sweep.erase(tenant, &pids, batch.table.as_deref())?;
    }
    sweep.commit()?;
    removal.count(gone);
    Ok(())
}

/// Those that the rule lets go.
fn due(all: &[Whole], rule: &Retention) -> BTreeSet<Pid> {
    if rule.ended_before.is_none() && rule.keep.is_none() {
        return BTreeSet::new();
    }
    let mut ended: Vec<&Receipt> =
        all.iter().map(|it| &it.receipt).filter(|it| it.row.state.is_final()).collect();
    ended.sort_by_key(|receipt| std::cmp::Reverse((receipt.row.updated, receipt.pid)));
    let skip = rule.keep.map_or(0, |keep| usize::try_from(keep).unwrap_or(usize::MAX));
    let old = |receipt: &&Receipt| rule.ended_before.is_none_or(|end| receipt.row.updated < end);
    ended.into_iter().skip(skip).filter(old).map(|receipt| receipt.pid).collect()
}

/// Those of the due ones that something needs which stays.
fn needed(
    source: &mut dyn Source,
    tenant: &Tenant,
    all: &[Whole],
    due: &BTreeSet<Pid>,
) -> Result<BTreeMap<Pid, Reason>, StoreError> {
    let mut needed = BTreeMap::new();
    let posted = source.inbox(tenant)?;
    for pid in due {
        needed.extend(awaited(&posted, *pid).map(|reason| (*pid, reason)));
    }
    // Whoever stays may need others, which stay for it and need others.
    let mut looked = BTreeSet::new();
    loop {
        let mut found = BTreeSet::new();
        for whole in all {
            let Receipt { pid, row, .. } = &whole.receipt;
            let stays = !due.contains(pid) || needed.contains_key(pid);
            let needs = !row.state.is_final() || whole.origin != Hash::ZERO;
            if !stays || !needs || !looked.insert(*pid) {
                continue;
            }
            found.extend(serde_json::to_vec(&row.state).iter().flat_map(|state| pids(state)));
            let first: Option<Record> = source.first(whole)?;
            found.extend(first.iter().flat_map(|record| pids(&record.body)));
        }
        found.retain(|pid| due.contains(pid) && !needed.contains_key(pid));
        if found.is_empty() {
            return Ok(needed);
        }
        needed.extend(found.into_iter().map(|pid| (pid, Reason::Needed)));
    }
}

/// Why a process stays for what is posted, if it does.
fn awaited(posted: &[Posted], pid: Pid) -> Option<Reason> {
    let sender = pid.to_string();
    posted.iter().find_map(|(to, _, item)| match item {
        _ if *to == pid => Some(Reason::Awaited),
        InboxItem::Message { from, .. } if *from == sender => Some(Reason::Sender),
        InboxItem::Mail { from, .. } if *from == pid => Some(Reason::Sender),
        _ => None,
    })
}

/// Every string in JSON that is a pid.
fn pids(json: &[u8]) -> BTreeSet<Pid> {
    let text = String::from_utf8_lossy(json);
    text.split('"').filter(|part| part.len() == 36).filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aosk_abi::{Epoch, MicroDollars, ProcessState, Seq, Usage};
    use aosk_ports::ProcessRow;

    #[test]
    fn batches_are_bounded_in_processes_and_in_events() {
        let receipt = |events: u64| Receipt {
            tenant: Tenant::local(),
            pid: Pid::from_bytes([1; 16]),
            epoch: Epoch(1),
            next: Seq(events),
            head: Hash::ZERO,
            row: ProcessRow {
                name: String::new(),
                model: String::new(),
                state: ProcessState::Ready,
                steps: 0,
                usage: Usage::default(),
                spent: MicroDollars::ZERO,
                created: Timestamp::from_millis(0),
                updated: Timestamp::from_millis(0),
            },
        };
        let sizes = |events: &[u64]| {
            let batches = Batch::some(events.iter().map(|events| receipt(*events)).collect());
            batches.iter().map(|batch| batch.receipts.len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&[1; CHUNK - 1]), [CHUNK - 1]);
        assert_eq!(sizes(&[1; CHUNK]), [CHUNK]);
        assert_eq!(sizes(&[1; CHUNK + 1]), [CHUNK, 1]);
        assert_eq!(sizes(&[EVENTS - 1, 1, 1]), [2, 1]);
        assert_eq!(sizes(&[1, EVENTS + 1, 1, EVENTS]), [1, 1, 1, 1]);
    }

    #[test]
    fn every_pid_in_a_body_is_found_and_nothing_else() {
        let (a, b) = (Pid::from_bytes([1; 16]), Pid::from_bytes([2; 16]));
        let body = format!(r#"{{"n":1,"parent":"{a}","u":["{b}","x{b}","{}"]}}"#, "-".repeat(36));
        assert_eq!(pids(body.as_bytes()), BTreeSet::from([a, b]));
        assert!(pids(b"\xff\"").is_empty());
    }
}
