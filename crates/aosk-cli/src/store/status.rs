//! `aosk store status`.

use std::collections::BTreeMap;
use std::sync::Arc;

use aosk_kernel::SystemClock;
use aosk_ports::Clock;
use aosk_store::{Owner, SCHEMA, owner, sqlite_version};
use serde::Serialize;

use super::{open, server};
use crate::args::StoreFormat;
use crate::config::{Settings, StoreAt};
use crate::error::Error;
use crate::exit::Exit;
use crate::figures::bytes;
use crate::memory;
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
    /// How far the search index is behind; absent where there is none yet or none that can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    search: Option<SearchFacts>,
    owner: Option<OwnerFacts<'a>>,
}

#[derive(Serialize)]
struct SearchFacts {
    /// The events that it has not read.
    events_behind: u64,
    /// For how long the oldest of them has been there.
    behind_ms: u64,
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
    let reader = Arc::new(open(dir)?);
    let works = Works::ask(settings, &*reader).await?;
    let mut processes: BTreeMap<&str, usize> = BTreeMap::new();
    for receipt in Processes::read(&*reader).await?.all() {
        *processes.entry(state_name(receipt, &works)).or_default() += 1;
    }
    // An index that cannot be read holds up no word on the store.
    let lag = memory::lag(dir, reader.clone()).await;
    let search = lag.as_ref().ok().copied().flatten().map(|lag| SearchFacts {
        events_behind: lag.events,
        behind_ms: lag.millis(SystemClock::new().now()),
    });
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
        search,
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
    let search = match lag {
        Err(error) => format!("cannot be read: {error}"),
        Ok(_) => said(report.search.as_ref()),
    };
    out.line(&format!("search     {search}"))?;
    let owner = works.said().unwrap_or_else(|| "nobody".to_owned());
    out.line(&format!("owner      {owner}"))?;
    Ok(Exit::Done)
}

fn said(search: Option<&SearchFacts>) -> String {
    match search {
        None => "nothing is indexed yet".to_owned(),
        Some(SearchFacts { events_behind: 0, .. }) => "up to date".to_owned(),
        Some(SearchFacts { events_behind, behind_ms }) => {
            format!("{events_behind} events behind, for {} s", behind_ms.div_ceil(1_000))
        }
    }
}
