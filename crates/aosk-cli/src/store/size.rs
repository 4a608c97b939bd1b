//! `aosk store size`.

use std::path::Path;

use aosk_store::{Occupied, PostgresOptions, PostgresReader, Sizes, TableSize, sizes};
use serde::Serialize;

use super::open;
use crate::args::StoreFormat;
use crate::config::{Settings, StoreAt};
use crate::error::Error;
use crate::exit::Exit;
use crate::figures::bytes;
use crate::print::{Screen, json};

/// What `aosk store size --json` prints.
#[derive(Serialize)]
struct Report {
    total_bytes: u64,
    free_bytes: u64,
    parts: Vec<Part>,
}

#[derive(Serialize)]
struct Part {
    name: String,
    what: &'static str,
    bytes: u64,
    unused_bytes: u64,
}

pub(super) async fn size(
    args: &StoreFormat,
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    match &settings.store {
        StoreAt::Folder => of_file(args, &settings.data_dir, screen),
        StoreAt::Server(options) => of_server(args, options, screen).await,
    }
}

fn of_file(args: &StoreFormat, dir: &Path, screen: &Screen) -> Result<Exit, Error> {
    drop(open(dir)?);
    let Sizes { total, free, tables } = sizes(dir)?;
    let part = |TableSize { name, bytes, unused }| Part {
        what: what(&name),
        name,
        bytes,
        unused_bytes: unused,
    };
    let mut parts: Vec<Part> = tables.into_iter().map(part).collect();
    parts.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    if args.json {
        let report = Report { total_bytes: total, free_bytes: free, parts };
        screen.out.line(&json(&report)?)?;
        return Ok(Exit::Done);
    }
    for Part { name, what, bytes: size, .. } in &parts {
        screen.out.line(&format!("{:>9}  {name}  {what}", bytes(*size)))?;
    }
    screen.out.line(&format!("{:>9}  free pages, which later events use", bytes(free)))?;
    screen.out.line(&format!("{:>9}  in all", bytes(total)))?;
    Ok(Exit::Done)
}

/// What `aosk store size --json` prints of a store on a server.
#[derive(Serialize)]
struct ServerReport {
    total_bytes: u64,
    parts: Vec<ServerPart>,
}

#[derive(Serialize)]
struct ServerPart {
    name: String,
    what: &'static str,
    bytes: u64,
    index_bytes: u64,
}

async fn of_server(
    args: &StoreFormat,
    options: &PostgresOptions,
    screen: &Screen,
) -> Result<Exit, Error> {
    let occupied = PostgresReader::open(options)?.occupied().await?;
    let part = |Occupied { table, bytes, index_bytes }| ServerPart {
        what: what_on_server(&table),
        name: table,
        bytes,
        index_bytes,
    };
    let parts: Vec<ServerPart> = occupied.into_iter().map(part).collect();
    let total = parts.iter().map(|part| part.bytes + part.index_bytes).sum();
    if args.json {
        screen.out.line(&json(&ServerReport { total_bytes: total, parts })?)?;
        return Ok(Exit::Done);
    }
    for ServerPart { name, what, bytes: size, index_bytes } in &parts {
        let line = format!("{:>9}  {name}  {what}; indexes {}", bytes(*size), bytes(*index_bytes));
        screen.out.line(&line)?;
    }
    screen.out.line(&format!("{:>9}  in all, unused space included", bytes(total)))?;
    Ok(Exit::Done)
}

/// What a table on a server holds, in words.
fn what_on_server(name: &str) -> &'static str {
    match name {
        "journal" => "events, and the small contents beside them",
        "embeddings" => "vectors of contents",
        "nodes" => "who works on the store",
        "posts" => "which signals and messages were posted in the last day",
        "fragments" | "kinds" => "what the views need to read events",
        "schema_migrations" => "which schema it is",
        search if search.starts_with("search_") => "the search index, which can be made again",
        other => what(other),
    }
}

/// What a table or index holds, in words.
fn what(name: &str) -> &'static str {
    match name {
        "journal" => "events, and the contents of up to 4 KiB beside them",
        "blobs" => "larger contents: prompts, replies, results",
        "checkpoints" => "saved folds, from which processes are read back",
        "stretches" => "what of saved folds never changes again",
        "prunings" => "which processes were removed",
        "budgets" => "what has been drawn of shared budgets",
        "upkeep" => "when the store was last looked after",
        "chunked" => "which chunks make up long contents",
        "held" => "what came in by itself, until something names it",
        "suspects" => "what the last gc found to be named by nothing",
        "spans" => "where the events of long journals are",
        "processes" => "what lists show of each process",
        "inbox" => "what waits for a process's owner",
        "tenants" => "tenants and their keys",
        _ => "an index",
    }
}
