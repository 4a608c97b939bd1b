//! Removal of contents that nothing names.
//!
//! What is stored once for a tenant stays for as long as an event of any of its journals, or an item of
//! its inbox, names it, or the list of a content in chunks that is itself to stay; and for a while, what
//! came in by itself to be named later. Saved folds name nothing else than the events that they are made of. A run
//! reads every journal, verified, and looks in each body for every string that could be a content's
//! address, whatever the event is: it rather keeps too much than misunderstands what a newer version
//! wrote.
//!
//! A content is deleted by the second run in a row that finds it unnamed, each run being a generation.
//! The deleting transaction keeps writers out and looks again at everything that was written since the
//! journals were read, so a writer that names a content again either comes before it, and the content
//! stays, or after it, and stores the content anew. Such a transaction deletes few at a time: writers
//! wait for some milliseconds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use aosk_abi::{Code, Hash, Pid, Seq, Tenant};
use aosk_ports::{Receipt, StoreError};

use super::{Source, StorePlace, Whole};
use crate::prune::{Batch, Kept};

/// How many contents one transaction deletes: of chunks 64 MiB.
const CHUNK: usize = 64;

/// What a run found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Contents that something names, each chunk being one and the list of them another.
    pub named: u64,
    /// Contents that nothing names and the run before found so, too: deleted, unless it was a dry run.
    pub deleted: u64,
    /// The bytes that they take in the store. Its file keeps them as free space for what comes.
    pub deleted_bytes: u64,
    /// Contents that nothing names, for the first time: the next run deletes them if that is so then.
    pub suspected: u64,
}

/// A store as a whole, from which nobody else can remove and to which nobody else can add a content
/// that it has, while a transaction is open.
pub(crate) trait Sweep {
    /// Begins a transaction that keeps writers out.
    fn begin(&mut self) -> Result<(), StoreError>;

    /// What is there now.
    fn source(&mut self) -> &mut dyn Source;

    /// Deletes contents and answers how many bytes they took.
    fn delete(&mut self, tenant: &Tenant, hashes: &[Hash]) -> Result<u64, StoreError>;

    /// Puts these in the place of all suspects of the tenant.
    fn suspect(&mut self, tenant: &Tenant, hashes: &[Hash]) -> Result<(), StoreError>;

    /// Forgets what was kept though nothing named it, and is kept no longer.
    fn let_go(&mut self, tenant: &Tenant) -> Result<(), StoreError>;

    /// Whether nobody has begun to look after the store for so long; then the caller has now.
    fn take_turn(&mut self, every: Duration) -> Result<bool, StoreError>;

    /// How to remove these processes: which in one transaction.
    fn batches(&mut self, tenant: &Tenant, go: Vec<Receipt>) -> Result<Vec<Batch>, StoreError>;

    /// Begins a transaction in which nobody else removes processes.
    fn begin_removal(&mut self) -> Result<(), StoreError>;

    /// Keeps these processes as they are until the end of the transaction; answers those there are.
    fn lock(&mut self, tenant: &Tenant, pids: &[Pid]) -> Result<Vec<Receipt>, StoreError>;

    /// Removes processes that are locked, with all that is theirs alone. Where their journals are all
    /// that `table` holds, it is emptied.
    fn erase(
        &mut self,
        tenant: &Tenant,
        pids: &[Pid],
        table: Option<&str>,
    ) -> Result<(), StoreError>;

    /// The number and link of the newest record of removed processes.
    fn last_pruning(&mut self) -> Result<Option<(u64, Hash)>, StoreError>;

    fn record(&mut self, kept: &Kept) -> Result<(), StoreError>;

    fn commit(&mut self) -> Result<(), StoreError>;
}

/// Deletes the contents of a store that nothing named in two generations, beside whoever works on it;
/// a `dry` run only says what it would delete. Blocks for as long as it takes to read all journals, with
/// 32 bytes of memory for each large content and each chunk of one; it must not be called on a thread that drives futures.
///
/// # Errors
/// [`Code::StoreOpen`] where there is no store; damage of a journal, since nobody knows what it named;
/// what the store says. What was deleted before stays deleted.
pub fn collect(place: &StorePlace, dry: bool) -> Result<Collected, StoreError> {
    collect_at(place, dry, Pace::Full)
}

/// How fast journals are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As fast as can be.
    Full,
    /// A fifth of that.
    Low,
}

impl Pace {
    /// Rests after work that began then.
    fn rest(self, begun: Instant) {
        if self == Self::Low {
            std::thread::sleep(begun.elapsed() * 4);
        }
    }
}

/// The same, reading at that pace.
pub(crate) fn collect_at(
    place: &StorePlace,
    dry: bool,
    pace: Pace,
) -> Result<Collected, StoreError> {
    let mut source = place.source()?;
    let mut sights = BTreeMap::new();
    let (mut collected, mut doomed) = (Collected::default(), Vec::new());
    for (tenant, _) in source.tenants()? {
        let mut sight = Sight::of(&mut *source, &tenant)?;
        let all = sight.unnamed.len() as u64;
        sight.look(&mut *source, &tenant, pace)?;
        collected.named += all - sight.unnamed.len() as u64;
        let suspects = source.suspects(&tenant)?;
        let again: Vec<Hash> =
            suspects.into_iter().filter(|hash| sight.unnamed.contains(hash)).collect();
        collected.suspected += (sight.unnamed.len() - again.len()) as u64;
        if dry {
            collected.deleted += again.len() as u64;
            collected.deleted_bytes += source.stored_bytes(&tenant, &again)?;
        }
        doomed.push((tenant.clone(), again));
        sights.insert(tenant, sight);
    }
    drop(source);
    if dry {
        return Ok(collected);
    }
    let mut sweep = place.sweep()?;
    for (tenant, hashes) in doomed {
        let Some(sight) = sights.get_mut(&tenant) else { continue };
        // What came meanwhile is looked at beside the writers, so that they wait for little of it.
        sight.look(sweep.source(), &tenant, pace)?;
        for chunk in hashes.chunks(CHUNK) {
            sweep.begin()?;
            sight.look(sweep.source(), &tenant, Pace::Full)?;
            let named = |hash: &&Hash| sight.unnamed.contains(*hash);
            let still: Vec<Hash> = chunk.iter().filter(named).copied().collect();
            collected.deleted_bytes += sweep.delete(&tenant, &still)?;
            sweep.commit()?;
            collected.deleted += still.len() as u64;
            collected.named += (chunk.len() - still.len()) as u64;
            still.iter().for_each(|hash| {
                sight.unnamed.remove(hash);
            });
        }
        sweep.begin()?;
        sight.look(sweep.source(), &tenant, Pace::Full)?;
        let left: Vec<Hash> = sight.unnamed.iter().copied().collect();
        sweep.suspect(&tenant, &left)?;
        sweep.let_go(&tenant)?;
        sweep.commit()?;
    }
    Ok(collected)
}

/// How much of a tenant's journals was looked at, and what nothing in that names.
struct Sight {
    unnamed: HashSet<Hash>,
    /// The chunks of contents that stand in some.
    lists: HashMap<Hash, Vec<Hash>>,
    ends: HashMap<Pid, (Seq, Hash)>,
}

impl Sight {
    /// Before anything was looked at: every content is unnamed.
    fn of(source: &mut dyn Source, tenant: &Tenant) -> Result<Self, StoreError> {
        let (mut unnamed, mut after) = (HashSet::new(), None);
        loop {
            let hashes = source.blobs(tenant, after)?;
            let Some(last) = hashes.last() else { break };
            after = Some(*last);
            unnamed.extend(hashes);
        }
        let mut sight = Self { unnamed, lists: HashMap::new(), ends: HashMap::new() };
        for hash in source.lists(tenant)? {
            sight.learn(source, tenant, hash)?;
            sight.unnamed.insert(hash);
        }
        Ok(sight)
    }

    /// Takes note of the chunks of a content, if it stands in some.
    fn learn(
        &mut self,
        source: &mut dyn Source,
        tenant: &Tenant,
        hash: Hash,
    ) -> Result<(), StoreError> {
        if let Some(list) = source.list(tenant, hash)? {
            let chunks = list.chunks().iter().map(|chunk| chunk.address).collect();
            self.lists.insert(hash, chunks);
        }
        Ok(())
    }

    /// Looks at everything that was not looked at yet.
    fn look(
        &mut self,
        source: &mut dyn Source,
        tenant: &Tenant,
        pace: Pace,
    ) -> Result<(), StoreError> {
        for whole in source.processes(tenant)? {
            let pid = whole.receipt.pid;
            let now = (whole.receipt.next, whole.receipt.head);
            let seen = self.ends.get(&pid).copied();
            if seen == Some(now) {
                continue;
            }
            let begin = (Seq(0), whole.origin);
            let from = seen.unwrap_or(begin);
            let read_from = Instant::now();
            match self.read(source, &whole, from) {
                // It was removed since it was listed.
                Err(error) if error.code == Code::StoreUnknownProcess => continue,
                // It was removed meanwhile, and is another by the same pid.
                Err(error)
                    if from != begin
                        && matches!(error.code, Code::ChainBroken | Code::StoreCorrupt) =>
                {
                    self.read(source, &whole, begin)?;
                }
                read => read?,
            }
            self.ends.insert(pid, now);
            pace.rest(read_from);
        }
        for hash in source.held(tenant)? {
            // It may have come in since the lists were read, made of chunks that were there.
            if !self.lists.contains_key(&hash) {
                self.learn(source, tenant, hash)?;
            }
            self.keep(hash);
        }
        for (_, _, item) in source.inbox(tenant)? {
            if let Ok(item) = serde_json::to_vec(&item) {
                self.hear(&item);
            }
        }
        Ok(())
    }

    fn read(
        &mut self,
        source: &mut dyn Source,
        whole: &Whole,
        (mut next, mut prev): (Seq, Hash),
    ) -> Result<(), StoreError> {
        let end = (whole.receipt.next, whole.receipt.head);
        while next < end.0 {
            let appends = source.appends(whole, next, prev)?;
            let records = appends.iter().flat_map(|append| &append.records);
            // More may have been written since the end was looked up.
            for record in records.take_while(|record| record.seq < end.0) {
                self.hear(&record.body);
                (next, prev) = (record.seq.next(), record.hash);
            }
            if appends.is_empty() {
                break;
            }
        }
        if (next, prev) == end {
            return Ok(());
        }
        Err(StoreError::new(
            Code::ChainBroken,
            format!(
                "process {}: its journal ends at event {next} and not at {}; nothing is deleted \
                 from a damaged store: `aosk store check` says more",
                whole.receipt.pid, end.0
            ),
        ))
    }

    /// Takes note of every address in a body.
    fn hear(&mut self, body: &[u8]) {
        for hash in addresses(body) {
            self.keep(hash);
        }
    }

    /// Takes a content out of those that nothing names, with its chunks.
    fn keep(&mut self, hash: Hash) {
        self.unnamed.remove(&hash);
        for chunk in self.lists.get(&hash).into_iter().flatten() {
            self.unnamed.remove(chunk);
        }
    }
}

/// Every string of 64 hexadecimal digits in JSON.
fn addresses(body: &[u8]) -> BTreeSet<Hash> {
    let mut found = BTreeSet::new();
    let mut from = 0;
    while let Some(at) = body.get(from..).and_then(|rest| rest.iter().position(|it| *it == b'"')) {
        from += at + 1;
        let text = body.get(from..from + 64).filter(|_| body.get(from + 64) == Some(&b'"'));
        let text = text.and_then(|text| std::str::from_utf8(text).ok());
        found.extend(text.and_then(|text| text.parse::<Hash>().ok()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_in_a_body_is_found_and_nothing_else() {
        let (a, b) = (Hash::of(b"a"), Hash::of(b"b"));
        let body = format!(r#"{{"c":"{a}","n":1,"t":"say \"x\"","u":["{b}","{b}0"]}}"#);
        assert_eq!(addresses(body.as_bytes()), BTreeSet::from([a, b]));
        for none in ["", "\"", "\"\"", &format!("\"{a}"), &format!("{a}\"")] {
            assert!(addresses(none.as_bytes()).is_empty(), "{none}");
        }
    }
}
