//! `aosk store size`.

use std::path::Path;

use aosk_store::{Sizes, TableSize, sizes};
use serde::Serialize;

use super::open;
use crate::args::StoreFormat;
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

pub(super) fn size(args: &StoreFormat, dir: &Path, screen: &Screen) -> Result<Exit, Error> {
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

/// What a table or index holds, in words.
fn what(name: &str) -> &'static str {
    match name {
        "journal" => "events, and the contents of up to 4 KiB beside them",
        "blobs" => "larger contents: prompts, replies, results",
        "checkpoints" => "saved folds, from which processes are read back",
        "stretches" => "what of saved folds never changes again",
        "spans" => "where the events of long journals are",
        "processes" => "what lists show of each process",
        "inbox" => "what waits for a process's owner",
        "tenants" => "tenants and their keys",
        _ => "an index",
    }
}
