//! The floor on a server: what its disk and PostgreSQL give to a program that does nothing else.
//!
//! One connection that inserts whatever waits as one statement of many rows, which is one
//! transaction and one round trip: the smallest program that makes the same promise with the same
//! waits. Its rows stay whole and uncompressed on their pages, as the store's own do for what does
//! not compress; else a body of 2 KB would cost it a second table and its index.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::floor::Floor;
use crate::payload::payload;
use crate::report::Failure;

struct Row {
    pid: Uuid,
    seq: i64,
    body: Vec<u8>,
    done: oneshot::Sender<()>,
}

/// What one statement takes, as much as the store's.
const GROUP: usize = 1024;

/// Runs `agents` tasks of `steps` steps each over one connection, in a schema of its own.
pub async fn run(
    url: &str,
    schema: &str,
    (seed, agents, steps, bytes): (u64, u64, u64, usize),
) -> Result<Floor, Failure> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let driver = tokio::spawn(connection);
    client
        .batch_execute(&format!(
            "CREATE SCHEMA {schema}; SET search_path TO {schema};
             CREATE TABLE journal(pid uuid NOT NULL, seq bigint NOT NULL, body bytea NOT NULL,
                                  PRIMARY KEY (pid, seq)) WITH (toast_tuple_target = 8160);
             ALTER TABLE journal ALTER COLUMN body SET STORAGE EXTERNAL;"
        ))
        .await?;
    let fsync: String = client.query_one("SHOW fsync", &[]).await?.try_get(0)?;
    if fsync != "on" {
        return Err(
            format!("the server runs with fsync={fsync}: this compares durable steps").into()
        );
    }
    let empty = size(&client).await?;
    let (queue, rows) = mpsc::unbounded_channel::<Row>();
    let writer = tokio::spawn(write(client, rows));
    let began = Instant::now();
    let tasks: Vec<_> = (0..agents)
        .map(|agent| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let pid = Uuid::from_u128(u128::from(agent.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
                let mut waits = Vec::with_capacity(usize::try_from(steps).unwrap_or(0));
                for seq in 0..steps {
                    let asked = Instant::now();
                    let body = payload(seed, agent, seq, bytes);
                    let (done, committed) = oneshot::channel();
                    let row = Row { pid, seq: seq.cast_signed(), body, done };
                    if queue.send(row).is_err() || committed.await.is_err() {
                        break;
                    }
                    waits.push(asked.elapsed());
                }
                waits
            })
        })
        .collect();
    drop(queue);
    let mut latencies: Vec<Duration> = Vec::new();
    for task in tasks {
        latencies.extend(task.await?);
    }
    let wall = began.elapsed();
    let client = writer.await??;
    if latencies.len() as u64 != agents * steps {
        return Err("the floor lost steps".into());
    }
    let bytes = size(&client).await? - empty;
    client.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await?;
    drop(client);
    driver.await??;
    latencies.sort_unstable();
    Ok(Floor { wall, latencies, bytes })
}

async fn size(client: &Client) -> Result<u64, Failure> {
    let row = client.query_one("SELECT pg_total_relation_size('journal')", &[]).await?;
    Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
}

async fn write(
    client: Client,
    mut rows: mpsc::UnboundedReceiver<Row>,
) -> Result<Client, tokio_postgres::Error> {
    let insert = client
        .prepare(
            "INSERT INTO journal(pid, seq, body) \
             SELECT * FROM UNNEST($1::uuid[], $2::bigint[], $3::bytea[])",
        )
        .await?;
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
    Ok(client)
}
