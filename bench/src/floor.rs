//! The floor: what the disk and SQLite give to a program that does nothing else.
//!
//! A bare writer thread with group commit over a rowid table with `UNIQUE(pid, seq)`, WAL and
//! `synchronous=FULL`: the smallest program that makes the same promise (a step is acknowledged
//! when it is on the disk) with the same waits (one a step).

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::payload::payload;
use crate::report::Failure;

/// What a run of the floor measured.
pub struct Floor {
    /// Wall time of all steps.
    pub wall: Duration,
    /// Sorted waits.
    pub latencies: Vec<Duration>,
    /// Bytes that the steps added to the database.
    pub bytes: u64,
}

struct Row {
    pid: [u8; 16],
    seq: u64,
    body: Vec<u8>,
    done: oneshot::Sender<()>,
}

/// Runs `agents` tasks of `steps` steps each over one writer.
pub async fn run(
    dir: &Path,
    seed: u64,
    agents: u64,
    steps: u64,
    bytes: usize,
) -> Result<Floor, Failure> {
    let path = dir.join("floor.db");
    let database = Connection::open(&path)?;
    database.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
         CREATE TABLE journal(pid BLOB NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL,
                              UNIQUE(pid, seq));",
    )?;
    let pages = "PRAGMA page_count";
    let size = "PRAGMA page_size";
    let count = |database: &Connection, pragma| {
        database.query_row(pragma, [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
    };
    let empty = count(&database, pages)?;
    let (queue, rows) = mpsc::channel::<Row>();
    let writer = std::thread::spawn(move || write(database, &rows));
    let began = Instant::now();
    let tasks: Vec<_> = (0..agents)
        .map(|agent| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut pid = [0; 16];
                pid[..8].copy_from_slice(&agent.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
                let mut waits = Vec::with_capacity(usize::try_from(steps).unwrap_or(0));
                for seq in 0..steps {
                    let asked = Instant::now();
                    let body = payload(seed, agent, seq, bytes);
                    let (done, committed) = oneshot::channel();
                    if queue.send(Row { pid, seq, body, done }).is_err() || committed.await.is_err()
                    {
                        break;
                    }
                    waits.push(asked.elapsed());
                }
                waits
            })
        })
        .collect();
    drop(queue);
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await?);
    }
    let wall = began.elapsed();
    let database = writer.join().map_err(|_| "the floor's writer failed")??;
    if latencies.len() as u64 != agents * steps {
        return Err("the floor lost steps".into());
    }
    let bytes = (count(&database, pages)? - empty) * count(&database, size)?;
    latencies.sort_unstable();
    Ok(Floor { wall, latencies, bytes })
}

fn write(database: Connection, rows: &mpsc::Receiver<Row>) -> rusqlite::Result<Connection> {
    while let Ok(first) = rows.recv() {
        let mut group = vec![first];
        group.extend(rows.try_iter());
        database.execute_batch("BEGIN IMMEDIATE")?;
        {
            let mut insert =
                database.prepare_cached("INSERT INTO journal(pid, seq, body) VALUES(?, ?, ?)")?;
            for row in &group {
                insert.execute((&row.pid[..], row.seq.cast_signed(), &row.body[..]))?;
            }
        }
        database.execute_batch("COMMIT")?;
        for row in group {
            // A task that went away does not wait any more.
            let _ = row.done.send(());
        }
    }
    Ok(database)
}
