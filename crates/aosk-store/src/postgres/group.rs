//! One transaction for the appends of many processes.
//!
//! One round trip where the node knows how its processes stand, two where it must ask.
//!
//! A node is the only writer of what it owns, so as a rule its [guesses](Guesses) are right: the
//! appends are judged by them, and one flight writes everything and commits. The statement that
//! moves the processes on compares each with its guess, under its lock, and fails the transaction
//! where one is not there. Of 64 agents that step at once this is one statement, as short as a plain
//! `INSERT`.
//!
//! Where anything is not plain (a process that is not known, an append that is repeated or refused,
//! an inbox item that is taken over, a guess that was wrong) a first round trip begins the
//! transaction and locks the rows of all its processes. Then the appends are judged, one after the
//! other in the order of the calls, by the very rules of the embedded store; what is refused is left
//! out of the second. Each round trip is a pipeline, so the number of statements in it costs no
//! waiting.
//!
//! Rows are locked in the order of tenant and pid, so two writers of the same processes wait for
//! each other and never in a circle.
//!
//! **The database is the only truth.** No answer is made from a guess: what is acknowledged was
//! compared in the database by the transaction that wrote it, and what is refused was read under
//! its locks. A group that fails leaves nothing to take back, and one whose answer was lost is
//! judged again: what is there is acknowledged, what is not is written.

use std::collections::{BTreeMap, HashMap, HashSet};

use aosk_abi::{Pid, Seq};
use aosk_ports::{Committed, StoreError};
use deadpool_postgres::Object;
use futures::future::{OptionFuture, try_join, try_join_all, try_join3};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::append::Prepared;
use super::fault::Fault;
use super::guesses::Guesses;
use super::journal;
use super::lone::{self, Ready};
use super::process::{self, PLACE, Place, uuid};
use super::tenant::TenantRow;
use super::writer::Key;
use super::writes;
use crate::check::{self, Reached, follows};

/// A place in a group: whose append it is, and the append, or why it is refused whatever the
/// database says.
pub(super) struct Entry<'a> {
    pub(super) key: &'a Key,
    pub(super) work: Result<(&'a Prepared, TenantRow), StoreError>,
}

/// The answers to the first appends of a group, in order. The rest was not judged and is to be run
/// in the next group.
pub(super) type Outcomes = Vec<Result<Committed, StoreError>>;

/// Runs a group for `node`. An error is the whole group's; its connection is then of no more use,
/// and the guesses are doubted, so that a repetition asks.
pub(super) async fn run(
    ready: &Ready,
    entries: &[Entry<'_>],
    node: Uuid,
    guesses: &mut Guesses,
) -> Result<Outcomes, Fault> {
    let ended = attempt(ready, entries, node, guesses).await;
    if ended.is_err() {
        guesses.doubt();
    }
    ended
}

async fn attempt(
    ready: &Ready,
    entries: &[Entry<'_>],
    node: Uuid,
    guesses: &mut Guesses,
) -> Result<Outcomes, Fault> {
    if let Some(outcome) = commit_lone(ready, entries, guesses).await? {
        return Ok(vec![Ok(outcome)]);
    }
    let client = &ready.client;
    if !guesses.are_doubted()
        && let Some(group) = Judged::foresee(entries, guesses)
    {
        group.commit(client, node, Begun::No, guesses).await?;
        let works = entries.iter().filter_map(|entry| entry.work.as_ref().ok());
        return Ok(works.map(|(append, _)| Ok(Committed { last: append.last })).collect());
    }
    let (places, items) = begin(client, entries).await?;
    let mut group = Judged { places, items, ..Judged::default() };
    let mut outcomes = Outcomes::with_capacity(entries.len());
    let mut refused: HashMap<&Key, StoreError> = HashMap::new();
    for Entry { key, work } in entries {
        let verdict = match (refused.get(key), work) {
            (Some(error), _) => Err(follows(error).into()),
            (None, Err(error)) => Err(error.clone().into()),
            (None, Ok((append, tenant))) => group.judge(client, append, tenant).await,
        };
        match verdict {
            Ok(Verdict::Accepted(last)) => outcomes.push(Ok(Committed { last })),
            Ok(Verdict::AfterThisGroup) => break,
            Err(Fault::Refused(error)) => {
                refused.entry(key).or_insert_with(|| error.clone());
                outcomes.push(Err(error));
            }
            Err(fault) => return Err(fault),
        }
    }
    group.commit(client, node, Begun::Yes, guesses).await?;
    Ok(outcomes)
}

/// Commits a group of one plain append to a process that is known. It is what an agent that is alone
/// waits for at each step, so nothing is gathered for it.
async fn commit_lone(
    ready: &Ready,
    entries: &[Entry<'_>],
    guesses: &mut Guesses,
) -> Result<Option<Committed>, Fault> {
    let [Entry { work: Ok((append, tenant)), .. }] = entries else { return Ok(None) };
    let known = guesses.get((tenant.id, append.pid));
    let Some(place) =
        known.filter(|place| lone::is_plain(append) && goes_on(place, append, tenant))
    else {
        return Ok(None);
    };
    lone::commit(ready, append, tenant.id, &place.reached()).await?;
    guesses.learn(after(place.clone(), append), append.row.state.is_final());
    Ok(Some(Committed { last: append.last }))
}

/// Whether an append is new and continues its process there, with contents of its tenant.
fn goes_on(place: &Place, append: &Prepared, tenant: &TenantRow) -> bool {
    let judged = place.reached().may_hold(append.pid, append.epoch, append.first, append.prev);
    matches!(judged, Ok(false)) && append.contents.iter().all(|it| it.is_sealed_with(&tenant.key))
}

/// Begins the transaction, locks the processes of the group and the inbox items that it takes over.
async fn begin(
    client: &Object,
    entries: &[Entry<'_>],
) -> Result<(BTreeMap<(i32, Pid), Place>, HashSet<(i32, Pid, i64)>), Fault> {
    let lock = client
        .prepare_cached(&format!(
            "SELECT {PLACE} FROM processes AS p \
             JOIN UNNEST($1::int[], $2::uuid[]) AS w (tenant, pid) \
             ON p.tenant = w.tenant AND p.pid = w.pid \
             ORDER BY p.tenant, p.pid FOR NO KEY UPDATE OF p"
        ))
        .await?;
    let works = || entries.iter().filter_map(|entry| entry.work.as_ref().ok());
    let keys: HashSet<(i32, Uuid)> =
        works().map(|(append, tenant)| (tenant.id, uuid(append.pid))).collect();
    let (tenants, pids): (Vec<i32>, Vec<Uuid>) = keys.into_iter().unzip();
    let wanted: Vec<i64> =
        works().flat_map(|(append, _)| &append.consumed).map(|item| item.0).collect();
    let take = client
        .prepare_cached(
            "SELECT tenant, pid, id FROM inbox WHERE id = ANY ($1) ORDER BY id FOR UPDATE",
        )
        .await?;
    let params: [&(dyn ToSql + Sync); 2] = [&tenants, &pids];
    let take_params: [&(dyn ToSql + Sync); 1] = [&wanted];
    let ((), (rows, taken)) = try_join(client.batch_execute("BEGIN"), async {
        let items: OptionFuture<_> =
            (!wanted.is_empty()).then(|| client.query(&take, &take_params)).into();
        try_join(client.query(&lock, &params), async { items.await.transpose() }).await
    })
    .await?;
    let mut places = BTreeMap::new();
    for row in &rows {
        let place = Place::read(row)?;
        places.insert((place.tenant, place.pid), place);
    }
    let mut items = HashSet::new();
    for row in taken.iter().flatten() {
        items.insert((row.try_get(0)?, process::pid(row, 1)?, row.try_get(2)?));
    }
    Ok((places, items))
}

enum Verdict {
    /// It is or will be in the journal, up to this event.
    Accepted(Seq),
    /// What it must be compared with is written by this very group.
    AfterThisGroup,
}

/// Whether the transaction was begun already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begun {
    Yes,
    No,
}

/// What a group will write.
#[derive(Default)]
struct Judged<'a> {
    /// Where its processes stand, after what was accepted so far.
    places: BTreeMap<(i32, Pid), Place>,
    /// Inbox items that wait and are not taken over yet.
    items: HashSet<(i32, Pid, i64)>,
    /// Processes that the group writes to, and those of them that it makes.
    touched: HashSet<(i32, Pid)>,
    fresh: HashSet<(i32, Pid)>,
    /// Where those that it moves on stand before it.
    before: BTreeMap<(i32, Pid), Reached>,
    /// What is written, with the tenant's number.
    writes: Vec<(&'a Prepared, i32)>,
}

impl<'a> Judged<'a> {
    /// The group as the guesses have it, where all of it just goes on from there.
    fn foresee(entries: &[Entry<'a>], guesses: &Guesses) -> Option<Self> {
        let mut group = Self::default();
        for Entry { work, .. } in entries {
            let (append, tenant) = work.as_ref().ok()?;
            let key = (tenant.id, append.pid);
            let known = group.places.get(&key).or_else(|| guesses.get(key)).cloned();
            let is_new = known.is_none();
            // A process that is made must not be there: its key is refused a second time.
            if is_new && append.first != Seq(0) {
                return None;
            }
            let place = known.unwrap_or_else(|| beginning(append, tenant));
            if !goes_on(&place, append, tenant) || !append.consumed.is_empty() {
                return None;
            }
            group.accept(append, place, is_new);
        }
        Some(group)
    }

    async fn judge(
        &mut self,
        client: &Object,
        append: &'a Prepared,
        tenant: &TenantRow,
    ) -> Result<Verdict, Fault> {
        let key = (tenant.id, append.pid);
        let is_new = !self.places.contains_key(&key);
        let place = self.places.get(&key).cloned().unwrap_or_else(|| beginning(append, tenant));
        if place.reached().may_hold(append.pid, append.epoch, append.first, append.prev)? {
            if self.touched.contains(&key) {
                return Ok(Verdict::AfterThisGroup);
            }
            let count = append.links.len();
            let stored = journal::read(client, &append.tenant, &place, append.first, count).await?;
            let is_there = stored.iter().map(|record| record.hash).eq(append.links.iter().copied());
            if is_there {
                return Ok(Verdict::Accepted(append.last));
            }
            return Err(check::taken(append.pid, append.first, append.last, place.next).into());
        }
        let foreign = append.contents.iter().find(|it| !it.is_sealed_with(&tenant.key));
        if let Some(content) = foreign {
            return Err(check::foreign_content(append.pid, content.hash()).into());
        }
        let mut taken = HashSet::new();
        for item in &append.consumed {
            let waits = self.items.contains(&(tenant.id, append.pid, item.0));
            if !waits || !taken.insert(item.0) {
                return Err(check::no_item(append.pid, item.0).into());
            }
        }

        self.items.retain(|(_, _, id)| !taken.contains(id));
        self.accept(append, place, is_new);
        Ok(Verdict::Accepted(append.last))
    }

    /// Takes in an append that continues its process at `place`.
    fn accept(&mut self, append: &'a Prepared, place: Place, is_new: bool) {
        let key = (place.tenant, place.pid);
        if is_new {
            self.fresh.insert(key);
        }
        if !self.fresh.contains(&key) {
            self.before.entry(key).or_insert_with(|| place.reached());
        }
        self.touched.insert(key);
        self.writes.push((append, place.tenant));
        self.places.insert(key, after(place, append));
    }

    /// Writes what was accepted, commits, and learns where the processes stand.
    async fn commit(
        self,
        client: &Object,
        node: Uuid,
        begun: Begun,
        guesses: &mut Guesses,
    ) -> Result<(), Fault> {
        self.write(client, node, begun).await?;
        guesses.trust();
        let newest: HashMap<_, _> =
            self.writes.iter().map(|(append, tenant)| ((*tenant, append.pid), *append)).collect();
        for (key, append) in newest {
            if let Some(place) = self.places.get(&key) {
                guesses.learn(place.clone(), append.row.state.is_final());
            }
        }
        Ok(())
    }

    async fn write(&self, client: &Object, node: Uuid, begun: Begun) -> Result<(), Fault> {
        let writes = if self.writes.is_empty() {
            Vec::new()
        } else {
            writes::of(&self.writes, &self.places, &self.before, node)
        };
        let mut statements = Vec::with_capacity(writes.len());
        for write in &writes {
            statements.push(client.prepare_cached(write.sql).await?);
        }
        let params: Vec<Vec<&(dyn ToSql + Sync)>> =
            writes.iter().map(|it| it.params.iter().map(|it| &**it as _).collect()).collect();
        let executed = statements
            .iter()
            .zip(&params)
            .map(async |(statement, params)| client.execute(statement, params).await);
        // A single statement is a transaction by itself.
        let alone = begun == Begun::No && writes.len() == 1;
        let say = |is_needed: bool, word: &'static str| {
            OptionFuture::from(is_needed.then(|| client.batch_execute(word)))
        };
        let begin = say(begun == Begun::No && !alone, "BEGIN");
        let commit = say(!alone, "COMMIT");
        // Where one fails, the server turns the commit into a rollback.
        let heard = |said: Option<Result<(), _>>| said.transpose().map_err(Fault::from);
        let executed = async { try_join_all(executed).await.map_err(Fault::from) };
        try_join3(async { heard(begin.await) }, executed, async { heard(commit.await) }).await?;
        Ok(())
    }
}

/// Where a process stands after an append.
fn after(place: Place, append: &Prepared) -> Place {
    let [newest, before] = place.checkpoints;
    let checkpoints = match &append.checkpoint {
        Some(saved) => [Some(saved.seq), newest],
        None => [newest, before],
    };
    Place { next: append.last.next(), head: append.head(), checkpoints, ..place }
}

/// Where a process stands that its first append makes.
fn beginning(append: &Prepared, tenant: &TenantRow) -> Place {
    Place {
        tenant: tenant.id,
        pid: append.pid,
        epoch: append.epoch,
        next: Seq(0),
        head: append.prev,
        origin: append.prev,
        checkpoints: [None, None],
    }
}
