//! Leases: which node owns which process, and how a node knows in time that it does not.
//!
//! One row a node and not one an agent: a heartbeat costs what it costs once, however many agents
//! there are. Processes name their node, and whose node is gone may be taken over, in batches, each
//! under the next epoch, so that what the old node still sends is refused.
//!
//! Two clocks, never compared with each other. **The server's** says when a lease ends: `until` is
//! set from its `now()` and read against its `now()`, so a node whose wall clock is an hour off
//! loses nothing and steals nothing. **The node's monotonic clock** says when the node stops: a
//! lease of 15 s, counted from before its renewal was *sent*, minus a margin of a fifth. The server
//! counts its 15 s from later, when the renewal arrived, so even a node that hears nothing has
//! stopped 3 s before anybody can take over: time for what it had begun when it last looked, and for
//! a clock that runs slower than the server's by less than a fifth.
//!
//! A server that was away takes nobody's processes: a lease that lapsed is renewed when the server
//! is back, unless somebody took over meanwhile. Only that ends a node for good.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aosk_abi::{Code, Tenant};
use aosk_ports::{Receipt, Standing, StoreError};
use deadpool_postgres::Object;
use tokio::sync::watch;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::fault::Fault;
use super::process::{self, RECEIPT};
use super::session::{Backoff, Sessions};

/// How many renewals are due in a lease.
const RENEWALS: u32 = 5;

/// Which part of a lease is kept as a margin.
const MARGIN: u32 = 5;

/// A node's hold on its lease, as the node itself sees it.
#[derive(Debug)]
pub(super) struct Tenure {
    node: Uuid,
    lease: Duration,
    state: Mutex<State>,
    /// When the lease was held again after it had lapsed.
    resumed: Mutex<Option<Instant>>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Until this moment of the monotonic clock; the lease itself ends later.
    Until(Instant),
    /// Somebody took over.
    Lost,
}

impl Tenure {
    /// The tenure of a node whose registration was sent at `sent`.
    pub(super) fn new(node: Uuid, lease: Duration, sent: Instant) -> Self {
        let until = sent + (lease - lease / MARGIN);
        Self {
            node,
            lease,
            state: Mutex::new(State::Until(until)),
            resumed: Mutex::new(None),
            changed: watch::Sender::new(()),
        }
    }

    /// The number of this node; another one each time a store is opened.
    pub(super) const fn node(&self) -> Uuid {
        self.node
    }

    /// How long a lease is, in seconds, as the server takes it.
    fn seconds(&self) -> f64 {
        self.lease.as_secs_f64()
    }

    /// Where the node stands now.
    pub(super) fn standing(&self) -> Standing {
        match *self.lock() {
            State::Lost => Standing::Lost,
            State::Until(until) => match until.saturating_duration_since(Instant::now()) {
                Duration::ZERO => Standing::Lapsed,
                left => Standing::Held { left },
            },
        }
    }

    /// Whether the node still has its processes.
    ///
    /// # Errors
    /// `StoreLease` once somebody took over.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match *self.lock() {
            State::Until(_) => Ok(()),
            State::Lost => Err(lost()),
        }
    }

    /// Whether this node can tell a dead node from one that is only as late as itself.
    fn may_bury(&self) -> bool {
        let resumed = *self.resumed.lock().unwrap_or_else(PoisonError::into_inner);
        let lapsed = matches!(*self.lock(), State::Until(until) if until <= Instant::now());
        !lapsed && resumed.is_none_or(|since| since.elapsed() >= self.lease)
    }

    /// Tells when the standing changes by more than the passing of time.
    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// A renewal that was sent at `sent` was granted or, since somebody took over, was not.
    fn heard(&self, sent: Instant, granted: bool) {
        let mut state = self.lock();
        let before = *state;
        if granted && matches!(before, State::Until(until) if until <= Instant::now()) {
            *self.resumed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        *state = match *state {
            State::Until(until) if granted => {
                State::Until(until.max(sent + (self.lease - self.lease / MARGIN)))
            }
            _ => State::Lost,
        };
        let is_news = match (before, *state) {
            (State::Until(before), State::Until(_)) => before <= Instant::now(),
            (State::Until(_), State::Lost) => true,
            (State::Lost, _) => false,
        };
        drop(state);
        if is_news {
            self.changed.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lost() -> StoreError {
    StoreError::new(
        Code::StoreLease,
        "this node was silent for longer than its lease and others have taken its processes over; \
         stop it and start it again, it comes back as a new node",
    )
}

/// Enters a node into the table, in the place of one that is known to be gone.
pub(super) async fn register(
    client: &Object,
    label: &str,
    lease: Duration,
    former: Option<Uuid>,
) -> Result<Tenure, Fault> {
    if let Some(former) = former {
        client.execute("DELETE FROM nodes WHERE id = $1", &[&former]).await?;
    }
    let node = fresh()?;
    let sent = Instant::now();
    let statement = client
        .prepare_cached(
            "INSERT INTO nodes (id, label, until) \
             VALUES ($1, $2, now() + make_interval(secs => $3)) ON CONFLICT (id) DO NOTHING",
        )
        .await?;
    let label = super::text::stored(label);
    client.execute(&statement, &[&node, &label, &lease.as_secs_f64()]).await?;
    Ok(Tenure::new(node, lease, sent))
}

/// A number that nobody has.
pub(super) fn fresh() -> Result<Uuid, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        StoreError::new(
            Code::StoreIo,
            format!("the system gives no randomness for a number: {error}; try again"),
        )
    })?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

const RENEW: &str = "UPDATE nodes SET until = now() + make_interval(secs => $2) WHERE id = $1";

/// Renews the lease.
pub(super) async fn renew(client: &Object, tenure: &Tenure) -> Result<(), Fault> {
    let statement = client.prepare_cached(RENEW).await?;
    let sent = Instant::now();
    let changed = client.execute(&statement, &[&tenure.node, &tenure.seconds()]).await?;
    tenure.heard(sent, changed == 1);
    Ok(())
}

/// Renews the lease in time, for as long as it is polled.
pub(super) async fn keep(sessions: Arc<Sessions>, tenure: Arc<Tenure>) {
    let mut ticks = tokio::time::interval(tenure.lease / RENEWALS);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut backoff = Backoff::new();
        while let Err(fault) = once(&sessions, &tenure).await {
            match fault {
                Fault::Lost(what) => sessions.line.down(&what),
                other => {
                    let error = other.at(&sessions.address);
                    tracing::warn!(%error, "the lease of this node could not be renewed");
                }
            }
            backoff.pause().await;
        }
        if tenure.check().is_err() {
            tracing::error!("others have taken the processes of this node over; it must end");
            return;
        }
    }
}

async fn once(sessions: &Sessions, tenure: &Tenure) -> Result<(), Fault> {
    let client = sessions.upkeep.get().await?;
    renew(&client, tenure).await?;
    sessions.line.up();
    Ok(())
}

/// Gives the node up: its processes may be taken over at once, and the others are told.
pub(super) async fn resign(client: &Object, tenure: &Tenure, schema: &str) -> Result<(), Fault> {
    let statement = client.prepare_cached("DELETE FROM nodes WHERE id = $1").await?;
    client.execute(&statement, &[&tenure.node]).await?;
    client.batch_execute(&super::wake::notify(schema)).await?;
    Ok(())
}

/// That no living node owns a process.
const ORPHANED: &str = "NOT EXISTS (SELECT FROM nodes AS n WHERE n.id = p.owner_node)";

/// A call of [`take_over`]: its number, and whether it was begun before and its answer lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) number: Uuid,
    pub(super) again: bool,
}

/// Takes up to `limit` unfinished processes of the tenant over that no living node owns, the oldest
/// first.
///
/// To repeat it is safe: what it took before its answer was lost belongs to this node, which lives, so
/// nobody would ever take it up. It is found under the number of the very call.
pub(super) async fn take_over(
    client: &mut Object,
    tenure: &Tenure,
    tenant: &Tenant,
    limit: usize,
    call: Call,
) -> Result<Vec<Receipt>, Fault> {
    tenure.check()?;
    if !call.again && !may_find(client, tenure, tenant).await? {
        return Ok(Vec::new());
    }
    let may_bury = tenure.may_bury();
    let transaction = client.transaction().await?;
    // First one's own: a node that lapsed must not take itself for dead.
    let own = transaction.prepare_cached(RENEW).await?;
    let bury = transaction.prepare_cached("DELETE FROM nodes WHERE until < now()").await?;
    let lock = transaction
        .prepare_cached(&format!(
            "SELECT p.tenant, p.pid FROM processes AS p JOIN tenants AS t ON t.id = p.tenant \
             WHERE t.name = $1 AND NOT p.finished AND {ORPHANED} \
             ORDER BY p.tenant, p.pid LIMIT $2 FOR NO KEY UPDATE OF p SKIP LOCKED"
        ))
        .await?;
    // A row that another node took over between this statement's snapshot and its lock still looks
    // as if nobody owned it; under the lock and with a new snapshot it does not.
    let take = transaction
        .prepare_cached(&format!(
            "UPDATE processes AS p SET epoch = p.epoch + 1, owner_node = $1, claim = $4 \
             FROM UNNEST($2::int[], $3::uuid[]) AS o (tenant, pid) \
             WHERE p.tenant = o.tenant AND p.pid = o.pid AND {ORPHANED} RETURNING {RECEIPT}"
        ))
        .await?;
    let sent = Instant::now();
    let renewed = transaction.execute(&own, &[&tenure.node, &tenure.seconds()]).await?;
    if renewed == 0 {
        tenure.heard(sent, false);
        return Err(lost().into());
    }
    if may_bury {
        transaction.execute(&bury, &[]).await?;
    }
    if call.again {
        let before = transaction
            .prepare_cached(&format!(
                "SELECT {RECEIPT} FROM processes AS p JOIN tenants AS t ON t.id = p.tenant \
                 WHERE t.name = $1 AND NOT p.finished AND p.owner_node = $2 AND p.claim = $3 \
                 ORDER BY p.pid"
            ))
            .await?;
        let params: [&(dyn ToSql + Sync); 3] = [&tenant.as_str(), &tenure.node, &call.number];
        let taken = whole(tenant, &transaction.query(&before, &params).await?)?;
        if !taken.is_empty() {
            transaction.commit().await?;
            tenure.heard(sent, true);
            return Ok(taken);
        }
    }
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut keys: (Vec<i32>, Vec<Uuid>) = Default::default();
    for row in transaction.query(&lock, &[&tenant.as_str(), &limit]).await? {
        keys.0.push(row.try_get(0)?);
        keys.1.push(row.try_get(1)?);
    }
    let params: [&(dyn ToSql + Sync); 4] = [&tenure.node, &keys.0, &keys.1, &call.number];
    let mut taken = whole(tenant, &transaction.query(&take, &params).await?)?;
    transaction.commit().await?;
    tenure.heard(sent, true);
    taken.sort_by_key(|receipt| receipt.pid);
    Ok(taken)
}

/// Whether a node is dead, this one among them, or a process without a living one waits. Every node
/// asks each second, so it is one question that writes nothing, and its cost grows with the nodes
/// and not with the processes: of the index by owner it reads the first entry of each.
async fn may_find(client: &Object, tenure: &Tenure, tenant: &Tenant) -> Result<bool, Fault> {
    let statement = client
        .prepare_cached(
            "WITH RECURSIVE t AS (SELECT id FROM tenants WHERE name = $1), owners (id) AS ( \
             (SELECT p.owner_node FROM processes AS p WHERE p.tenant = (SELECT id FROM t) \
             AND NOT p.finished ORDER BY p.owner_node LIMIT 1) \
             UNION ALL SELECT (SELECT p.owner_node FROM processes AS p \
             WHERE p.tenant = (SELECT id FROM t) AND NOT p.finished AND p.owner_node > o.id \
             ORDER BY p.owner_node LIMIT 1) FROM owners AS o WHERE o.id IS NOT NULL) \
             SELECT NOT EXISTS (SELECT FROM nodes WHERE id = $2) \
             OR EXISTS (SELECT FROM nodes WHERE until < now()) \
             OR EXISTS (SELECT FROM processes AS p WHERE p.tenant = (SELECT id FROM t) \
             AND NOT p.finished AND p.owner_node IS NULL) \
             OR EXISTS (SELECT FROM owners AS o WHERE o.id IS NOT NULL \
             AND NOT EXISTS (SELECT FROM nodes AS n WHERE n.id = o.id))",
        )
        .await?;
    let row = client.query_one(&statement, &[&tenant.as_str(), &tenure.node]).await?;
    Ok(row.try_get(0)?)
}

/// The processes in rows that were taken over. One whose row is damaged is this node's all the same,
/// so that it does not stand in the way of the others at each later call: it is reported, and whoever
/// lists the processes hears of it.
fn whole(tenant: &Tenant, rows: &[Row]) -> Result<Vec<Receipt>, Fault> {
    let mut taken = Vec::with_capacity(rows.len());
    for row in rows {
        match process::receipt(tenant, row) {
            Err(Fault::Refused(error)) if error.code == Code::StoreCorrupt => {
                tracing::error!(%error, "a process was taken over that cannot go on");
            }
            receipt => taken.push(receipt?),
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn since(ago: Duration) -> Tenure {
        let sent = Instant::now().checked_sub(ago).expect("the machine is up for longer");
        Tenure::new(Uuid::nil(), LEASE, sent)
    }

    #[test]
    fn a_node_stops_a_fifth_of_its_lease_before_anybody_can_take_over() {
        let almost = since(Duration::from_millis(7_900)).standing();
        assert!(matches!(almost, Standing::Held { left } if left <= Duration::from_millis(100)));
        assert_eq!(since(Duration::from_secs(8)).standing(), Standing::Lapsed);
        assert_eq!(since(Duration::from_secs(9)).standing(), Standing::Lapsed);
    }

    #[test]
    fn a_lapsed_lease_is_held_again_and_a_lost_one_never() {
        let tenure = since(Duration::from_secs(60));
        let mut news = tenure.watch();
        let sent = Instant::now();
        tenure.heard(sent, true);
        assert!(matches!(tenure.standing(), Standing::Held { .. }));
        assert!(news.has_changed().expect("open"), "it was lapsed");
        news.mark_unchanged();
        tenure.heard(sent, true);
        assert!(!news.has_changed().expect("open"), "a renewal in time is no news");
        tenure.heard(sent, false);
        tenure.heard(sent, true);
        assert_eq!(tenure.standing(), Standing::Lost);
        assert_eq!(tenure.check().expect_err("lost").code, Code::StoreLease);
        assert!(news.has_changed().expect("open"));
    }

    #[test]
    fn a_node_that_was_cut_off_buries_nobody_for_a_lease() {
        let never = since(Duration::ZERO);
        assert!(never.may_bury());
        let cut_off = since(LEASE);
        assert!(!cut_off.may_bury(), "it does not hold its own");
        cut_off.heard(Instant::now(), true);
        assert!(!cut_off.may_bury(), "the others come back just now");
        let ago = |time| Instant::now().checked_sub(time);
        for (held, may) in [(LEASE - Duration::from_millis(100), false), (LEASE, true)] {
            *cut_off.resumed.lock().expect("whole") = ago(held);
            assert_eq!(cut_off.may_bury(), may, "{held:?}");
        }
    }

    #[test]
    fn an_answer_that_comes_late_counts_from_when_it_was_asked() {
        let tenure = since(Duration::ZERO);
        let long_ago = Instant::now().checked_sub(Duration::from_secs(60)).expect("up for longer");
        tenure.heard(long_ago, true);
        assert!(matches!(tenure.standing(), Standing::Held { .. }), "the newer one holds");
        let late = since(Duration::from_secs(60));
        late.heard(long_ago, true);
        assert_eq!(late.standing(), Standing::Lapsed);
    }
}
