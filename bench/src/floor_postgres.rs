//! The floors on a server: what its disk and PostgreSQL give to a program that does nothing else.
//!
//! There are three, since a server, unlike a file, commits for many at once by itself and lets several
//! nodes write:
//!
//! - **`floor`**: a connection an agent, up to [`CONNECTIONS`], and one row a commit. What a plain
//!   program does, and what peers are compared with. The server syncs its log once for all who wait.
//! - **`floor_grouped`**: one connection that inserts whatever waits as one statement of many rows,
//!   which is one transaction and one round trip: what the smallest program does that works as the
//!   store does. With many agents it spares the server the work of all but one of their
//!   transactions; with one agent both do the same.
//! - **`floor_fenced`**: as `floor`, and the same statement compares and sets the place and the epoch
//!   of the row's process. The other two keep no promise that whoever lost a process writes nothing
//!   more to it; this one tells what that promise costs by itself.
//!
//! Their rows stay whole and uncompressed on their pages, as the
//! store's own do for what does not compress; else a body of 2 KB would cost a second table and its
//! index.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::{Client, NoTls, Statement};
use uuid::Uuid;

use crate::floor::Floor;
use crate::payload::payload;
use crate::report::Failure;

/// How many connections the agents of `floor` share. A server allows 100 unless it is told
/// otherwise, and keeps three of them for its owner. More would also give less: on two cores 1,024
/// agents make 19,000 to 21,000 steps a second over 32, 19,000 to 20,000 over 64, 16,000 to 18,000
/// over 128 and 13,000 over 256.
const CONNECTIONS: u64 = 64;

/// What one statement of `floor_grouped` takes, as much as the store's.
const GROUP: usize = 1024;

/// How a floor commits.
#[derive(Debug, Clone, Copy)]
pub enum Commits {
    /// One row each, over many connections.
    Single,
    /// Many rows each, over one.
    Grouped,
    /// One row each and the place of its process, over many connections.
    Fenced,
}

impl Commits {
    /// What results call the floor.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Single => "floor",
            Self::Grouped => "floor_grouped",
            Self::Fenced => "floor_fenced",
        }
    }
}

struct Row {
    pid: Uuid,
    seq: i64,
    body: Vec<u8>,
    done: oneshot::Sender<()>,
}

/// An agent's way to the server.
#[derive(Clone)]
enum Way {
    /// A connection of its own, or one where its statements stand in line with those of others.
    Own(Arc<Client>, Statement),
    /// The queue of the one writer.
    Shared(mpsc::UnboundedSender<Row>),
}

impl Way {
    /// Commits a row.
    async fn commit(&self, pid: Uuid, seq: i64, body: Vec<u8>) -> Result<(), Failure> {
        match self {
            Self::Own(client, insert) => {
                if client.execute(insert, &[&pid, &seq, &body]).await? != 1 {
                    return Err(format!("process {pid} does not stand at {seq}").into());
                }
            }
            Self::Shared(queue) => {
                let (done, committed) = oneshot::channel();
                queue.send(Row { pid, seq, body, done })?;
                committed.await?;
            }
        }
        Ok(())
    }
}

/// Runs `agents` tasks of `steps` steps each in a schema of its own.
pub async fn run(
    url: &str,
    schema: &str,
    commits: Commits,
    (seed, agents, steps, bytes): (u64, u64, u64, usize),
) -> Result<Floor, Failure> {
    let looker = connect(url).await?;
    looker
        .batch_execute(&format!(
            "CREATE SCHEMA {schema};
             CREATE TABLE {schema}.journal(pid uuid NOT NULL, seq bigint NOT NULL,
                                           body bytea NOT NULL, PRIMARY KEY (pid, seq))
                 WITH (toast_tuple_target = 8160);
             CREATE TABLE {schema}.processes(pid uuid PRIMARY KEY, next_seq bigint NOT NULL,
                                             epoch bigint NOT NULL) WITH (fillfactor = 50);
             ALTER TABLE {schema}.journal ALTER COLUMN body SET STORAGE EXTERNAL;"
        ))
        .await?;
    let fsync: String = looker.query_one("SHOW fsync", &[]).await?.try_get(0)?;
    if fsync != "on" {
        return Err(
            format!("the server runs with fsync={fsync}: this compares durable steps").into()
        );
    }
    if matches!(commits, Commits::Fenced) {
        let pids: Vec<Uuid> = (0..agents).map(pid).collect();
        let place = format!("INSERT INTO {schema}.processes SELECT unnest($1::uuid[]), 0, 0");
        looker.execute(&place, &[&pids]).await?;
    }
    let empty = size(&looker, schema).await?;
    let (ways, writer) = ways(url, schema, commits, agents).await?;
    let began = Instant::now();
    let tasks: Vec<_> = (0..agents)
        .zip(ways.iter().cycle().cloned())
        .map(|(agent, way)| {
            tokio::spawn(async move {
                let mut waits = Vec::with_capacity(usize::try_from(steps)?);
                for seq in 0..steps {
                    let asked = Instant::now();
                    let body = payload(seed, agent, seq, bytes);
                    way.commit(pid(agent), seq.cast_signed(), body).await?;
                    waits.push(asked.elapsed());
                }
                Ok::<_, Failure>(waits)
            })
        })
        .collect();
    drop(ways);
    let mut latencies: Vec<Duration> = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let wall = began.elapsed();
    if let Some(writer) = writer {
        writer.await??;
    }
    let bytes = size(&looker, schema).await? - empty;
    looker.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await?;
    latencies.sort_unstable();
    Ok(Floor { wall, latencies, bytes })
}

/// The process of that agent.
fn pid(agent: u64) -> Uuid {
    Uuid::from_u128(u128::from(agent.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// A connection; it ends with its client.
async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // Whoever uses the client hears of the connection's end.
    tokio::spawn(connection);
    Ok(client)
}

type Writer = tokio::task::JoinHandle<Result<(), tokio_postgres::Error>>;

/// The ways that agents take, in turn, and the one writer where there is one.
async fn ways(
    url: &str,
    schema: &str,
    commits: Commits,
    agents: u64,
) -> Result<(Vec<Way>, Option<Writer>), Failure> {
    let insert = format!("INSERT INTO {schema}.journal(pid, seq, body)");
    let one = match commits {
        Commits::Single | Commits::Grouped => format!("{insert} VALUES ($1, $2, $3)"),
        Commits::Fenced => format!(
            "WITH moved AS (UPDATE {schema}.processes SET next_seq = $2::bigint + 1 \
             WHERE pid = $1 AND next_seq = $2::bigint AND epoch = 0 RETURNING 1) \
             {insert} SELECT $1, $2::bigint, $3 FROM moved"
        ),
    };
    match commits {
        Commits::Single | Commits::Fenced => {
            let own = (0..agents.min(CONNECTIONS)).map(async |_| {
                let client = connect(url).await?;
                let statement = client.prepare(&one).await?;
                Ok::<_, tokio_postgres::Error>(Way::Own(Arc::new(client), statement))
            });
            Ok((try_join_all(own).await?, None))
        }
        Commits::Grouped => {
            let client = connect(url).await?;
            let many = "SELECT * FROM UNNEST($1::uuid[], $2::bigint[], $3::bytea[])";
            let statement = client.prepare(&format!("{insert} {many}")).await?;
            let (queue, rows) = mpsc::unbounded_channel::<Row>();
            let writer = tokio::spawn(write(client, statement, rows));
            Ok((vec![Way::Shared(queue)], Some(writer)))
        }
    }
}

async fn size(client: &Client, schema: &str) -> Result<u64, Failure> {
    let sql = format!("SELECT pg_total_relation_size('{schema}.journal')");
    let row = client.query_one(&sql, &[]).await?;
    Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
}

async fn write(
    client: Client,
    insert: Statement,
    mut rows: mpsc::UnboundedReceiver<Row>,
) -> Result<(), tokio_postgres::Error> {
    let mut group = Vec::new();
    while rows.recv_many(&mut group, GROUP).await > 0 {
        let pids: Vec<Uuid> = group.iter().map(|row| row.pid).collect();
        let seqs: Vec<i64> = group.iter().map(|row| row.seq).collect();
        let bodies: Vec<&[u8]> = group.iter().map(|row| row.body.as_slice()).collect();
        client.execute(&insert, &[&pids, &seqs, &bodies]).await?;
        for row in group.drain(..) {
            // A task that went away does not wait any more.
            let _ = row.done.send(());
        }
    }
    Ok(())
}
