//! `aosk store status`.

use std::collections::BTreeMap;

use aosk_store::{Owner, SCHEMA, owner, sqlite_version};
use serde::Serialize;

use super::{open, server};
use crate::args::StoreFormat;
use crate::config::{Settings, StoreAt};
use crate::error::Error;
use crate::exit::Exit;
use crate::figures::bytes;
use crate::print::{Screen, json};
use crate::processes::{Processes, Works, state_name};

/// What `aosk store status --json` prints.
#[derive(Serialize)]
struct Report<'a> {
    folder: String,
    kind: &'static str,
    schema: usize,
    sqlite: &'static str,
    /// The bytes of the database and of its log.
    file_bytes: u64,
    log_bytes: u64,
    /// How many processes are in which state.
    processes: BTreeMap<&'static str, usize>,
    owner: Option<OwnerFacts<'a>>,
}

#[derive(Serialize)]
struct OwnerFacts<'a> {
    os_pid: u32,
    command: &'a str,
    since: u64,
}

pub(super) async fn status(
    args: &StoreFormat,
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    if let StoreAt::Server(options) = &settings.store {
        return server::status(args, settings, options, screen).await;
    }
    let dir = &settings.data_dir;
    let reader = open(dir)?;
    let works = Works::ask(settings, &reader).await?;
    let mut processes: BTreeMap<&str, usize> = BTreeMap::new();
    for receipt in Processes::read(&reader).await?.all() {
        *processes.entry(state_name(receipt, &works)).or_default() += 1;
    }
    let owner = owner(dir)?;
    let length = |name| std::fs::metadata(dir.join(name)).map_or(0, |found| found.len());
    let report = Report {
        folder: dir.display().to_string(),
        kind: "sqlite",
        schema: SCHEMA,
        sqlite: sqlite_version(),
        file_bytes: length("aosk.db"),
        log_bytes: length("aosk.db-wal"),
        processes,
        owner: owner.as_ref().map(|Owner { os_pid, command, since }| OwnerFacts {
            os_pid: *os_pid,
            command,
            since: since.as_millis(),
        }),
    };
    if args.json {
        screen.out.line(&json(&report)?)?;
        return Ok(Exit::Done);
    }
    let out = &screen.out;
    out.line(&format!("folder     {}", report.folder))?;
    out.line(&format!("schema     {} (SQLite {})", report.schema, report.sqlite))?;
    out.line(&format!(
        "size       {} and a log of {}",
        bytes(report.file_bytes),
        bytes(report.log_bytes)
    ))?;
    let states = report.processes.iter().map(|(state, count)| format!("{count} {state}"));
    let states = states.collect::<Vec<_>>().join(", ");
    let states = if states.is_empty() { "none" } else { &states };
    out.line(&format!("processes  {states}"))?;
    let owner = works.said().unwrap_or_else(|| "nobody".to_owned());
    out.line(&format!("owner      {owner}"))?;
    Ok(Exit::Done)
}
