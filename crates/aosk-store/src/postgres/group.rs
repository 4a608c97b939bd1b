//! One transaction for the appends of many processes.
//!
//! Two round trips: the first begins the transaction and locks the rows of all its processes, the
//! second writes everything and commits. Between them the appends are judged, one after the other in
//! the order of the calls, by the very rules of the embedded store; what is refused is left out of
//! the second. Each round trip is a pipeline, so the number of statements in it costs no waiting.
//!
//! Rows are locked in the order of tenant and pid, so two writers of the same processes wait for
//! each other and never in a circle.
//!
//! **The database is the only truth.** Epochs, heads and places are read under their locks, never
//! kept, so a group that fails leaves nothing to take back, and one whose answer was lost is judged
//! again: what is there is acknowledged, what is not is written.

use std::collections::{BTreeMap, HashMap, HashSet};

use aosk_abi::{Pid, Seq};
use aosk_ports::{Committed, StoreError};
use deadpool_postgres::Object;
use futures::future::{OptionFuture, try_join, try_join_all};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::append::Prepared;
use super::fault::Fault;
use super::journal;
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

/// Runs a group for `node`. An error is the whole group's, and its connection is of no more use.
pub(super) async fn run(
    client: &Object,
    entries: &[Entry<'_>],
    node: Uuid,
) -> Result<Outcomes, Fault> {
    let (places, items) = begin(client, entries).await?;
    let mut group = Judged {
        places,
        items,
        touched: HashSet::new(),
        fresh: HashSet::new(),
        writes: Vec::new(),
    };
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
    group.commit(client, node).await?;
    Ok(outcomes)
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

/// What a group will write.
struct Judged<'a> {
    /// Where its processes stand, after what was accepted so far.
    places: BTreeMap<(i32, Pid), Place>,
    /// Inbox items that wait and are not taken over yet.
    items: HashSet<(i32, Pid, i64)>,
    /// Processes that the group writes to, and those of them that it makes.
    touched: HashSet<(i32, Pid)>,
    fresh: HashSet<(i32, Pid)>,
    /// What is written, with the first event's place.
    writes: Vec<(&'a Prepared, i32)>,
}

impl<'a> Judged<'a> {
    async fn judge(
        &mut self,
        client: &Object,
        append: &'a Prepared,
        tenant: &TenantRow,
    ) -> Result<Verdict, Fault> {
        let key = (tenant.id, append.pid);
        let is_new = !self.places.contains_key(&key);
        let place = self.places.get(&key).cloned().unwrap_or(Place {
            tenant: tenant.id,
            pid: append.pid,
            epoch: append.epoch,
            next: Seq(0),
            head: append.prev,
            origin: append.prev,
            checkpoints: [None, None],
        });
        let reached = Reached { epoch: place.epoch, next: place.next, head: place.head };
        if reached.may_hold(append.pid, append.epoch, append.first, append.prev)? {
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
        let [newest, before] = place.checkpoints;
        let checkpoints = match &append.checkpoint {
            Some(saved) => [Some(saved.seq), newest],
            None => [newest, before],
        };
        let next = append.last.next();
        self.places.insert(key, Place { next, head: append.head(), checkpoints, ..place });
        self.touched.insert(key);
        if is_new {
            self.fresh.insert(key);
        }
        self.writes.push((append, tenant.id));
        Ok(Verdict::Accepted(append.last))
    }

    /// Writes what was accepted and commits.
    async fn commit(self, client: &Object, node: Uuid) -> Result<(), Fault> {
        if self.writes.is_empty() {
            client.batch_execute("COMMIT").await?;
            return Ok(());
        }
        let writes = writes::of(&self.writes, &self.places, &self.fresh, node);
        let mut statements = Vec::with_capacity(writes.len());
        for write in &writes {
            statements.push(client.prepare_cached(write.sql).await?);
        }
        let params: Vec<Vec<&(dyn ToSql + Sync)>> =
            writes.iter().map(|it| it.params.iter().map(|it| &**it as _).collect()).collect();
        let executed = statements
            .iter()
            .zip(&params)
            .map(|(statement, params)| client.execute(statement, params));
        // Where one fails, the server turns the commit into a rollback.
        try_join(try_join_all(executed), client.batch_execute("COMMIT")).await?;
        Ok(())
    }
}
