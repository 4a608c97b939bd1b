//! Durable steps per second of DBOS's Rust crate, one JSON object on stdout.
//!
//! An agent is a workflow; a step returns incompressible text, which the crate writes to the
//! database before the workflow goes on. The pool has 20 connections, everything else is as it comes.

use std::error::Error;
use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use dbos::{Config, DBOS, step};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

/// Durable steps per second of DBOS's Rust crate.
#[derive(Parser)]
struct Args {
    /// The server; a database is made on it and dropped again.
    #[arg(long, value_name = "URL")]
    postgres: String,
    #[arg(long, default_value_t = 64)]
    agents: u32,
    #[arg(long, default_value_t = 200)]
    steps: u32,
    /// Bytes a step.
    #[arg(long, default_value_t = 2048)]
    payload: usize,
}

/// Text of that length from the system's randomness, six bits a character.
fn text(length: usize) -> std::io::Result<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = vec![0; length];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 63)])).collect())
}

async fn size(admin: &mut PgConnection, name: &str) -> Result<i64, sqlx::Error> {
    let row = sqlx::query("SELECT pg_database_size($1)").bind(name).fetch_one(admin).await?;
    row.try_get(0)
}

/// The seconds that all took, and each step's.
async fn run(args: &Args, url: &str) -> Result<(Duration, Vec<Duration>), Box<dyn Error>> {
    let dbos = DBOS::new(Config {
        max_connections: 20,
        app_version: Some("1".to_owned()),
        ..Config::new("steps", url)
    });
    let taken = Arc::new(Mutex::new(Vec::new()));
    let (steps, payload, all) = (args.steps, args.payload, taken.clone());
    let agent = dbos.register_workflow("agent", move |_: u32| {
        let all = all.clone();
        async move {
            let mut own = Vec::new();
            for _ in 0..steps {
                let began = Instant::now();
                let say = || async move { dbos::Result::Ok(text(payload).unwrap_or_default()) };
                step::<_, dbos::EngineOnly, _, _>("say", say).await?;
                own.push(began.elapsed());
            }
            let count = own.len();
            if let Ok(mut all) = all.lock() {
                all.extend(own);
            }
            dbos::Result::<usize>::Ok(count)
        }
    })?;
    dbos.launch().await?;
    let began = Instant::now();
    let mut running = Vec::new();
    for number in 0..args.agents {
        running.push(agent.start(number).await?);
    }
    for handle in running {
        let count = handle.result().await?;
        if count != args.steps as usize {
            return Err(format!("an agent took {count} of {} steps", args.steps).into());
        }
    }
    let seconds = began.elapsed();
    dbos.shutdown().await;
    let mut taken = std::mem::take(&mut *taken.lock().map_err(|error| error.to_string())?);
    taken.sort();
    Ok((seconds, taken))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let mut admin = PgConnection::connect(&args.postgres).await?;
    let name = format!("dbos_steps_{}", std::process::id());
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await?;
    let (server, _) = args.postgres.rsplit_once('/').ok_or("the URL names no database")?;
    let done = run(&args, &format!("{server}/{name}")).await;
    let used = size(&mut admin, &name).await? - size(&mut admin, "template1").await?;
    let drop = format!("DROP DATABASE {name} WITH (FORCE)");
    sqlx::query(AssertSqlSafe(drop)).execute(&mut admin).await?;
    let (seconds, taken) = done?;
    let total = args.agents * args.steps;
    let milliseconds = |share: usize| taken[taken.len() * share / 100].as_secs_f64() * 1000.0;
    println!(
        "{}",
        json!({
            "peer": "dbos", "version": "0.5.0", "store": "postgres",
            "agents": args.agents, "steps": args.steps, "payload": args.payload,
            "steps_per_s": f64::from(total) / seconds.as_secs_f64(),
            "p50_ms": milliseconds(50), "p99_ms": milliseconds(99),
            "bytes_per_step": used / i64::from(total),
        })
    );
    Ok(())
}
