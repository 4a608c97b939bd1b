//! `aosk store copy`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aosk_abi::Code;
use aosk_store::{Copied, PostgresOptions, StorePlace, copy as copy_store};
use serde::Serialize;

use crate::args::StoreCopy;
use crate::config::StoreAt;
use crate::error::Error;
use crate::exit::Exit;
use crate::figures::bytes;
use crate::print::{Screen, json};
use crate::processes;
use crate::wiring::node_label;

/// What `aosk store copy --json` prints.
#[derive(Serialize)]
struct Report {
    tenants: u64,
    processes: usize,
    events: u64,
    blobs: u64,
    blob_bytes: u64,
    chunked: u64,
    checkpoints: u64,
    inbox_items: u64,
    prunings: u64,
    /// The link after the last event of each process, by `TENANT/PID`, the same on both sides.
    heads: BTreeMap<String, String>,
}

/// The place that an argument names: `sqlite:FOLDER` or `postgres://…`.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub(crate) fn place(argument: &str) -> Result<StorePlace, String> {
    match argument.split_once(':') {
        Some(("sqlite", folder)) if !folder.is_empty() => {
            Ok(StorePlace::Sqlite(PathBuf::from(folder)))
        }
        Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
            match StoreAt::of_server(argument).map_err(|error| error.said())? {
                StoreAt::Server(options) => Ok(StorePlace::Postgres(PostgresOptions {
                    label: node_label(std::process::id(), "aosk store copy"),
                    ..*options
                })),
                StoreAt::Folder => Err("a folder is sqlite:FOLDER".to_owned()),
            }
        }
        _ => Err("a store is sqlite:FOLDER or postgres://USER@HOST:PORT/DATABASE".to_owned()),
    }
}

/// Runs blocking work on whole stores where it holds nobody up.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, aosk_ports::StoreError> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    let ended = |error| Error::new(Code::StoreClosed, format!("the copy ended early: {error}"));
    Ok(done.map_err(ended)??)
}

pub(super) async fn copy(args: &StoreCopy, screen: &Screen) -> Result<Exit, Error> {
    for place in [&args.from, &args.to] {
        if let StorePlace::Sqlite(dir) = place {
            processes::refuse_file(dir)?;
        }
    }
    let (from, to) = (args.from.clone(), args.to.clone());
    let copied = aside(move || copy_store(&from, &to)).await?;
    let Copied { tenants, events, blobs, blob_bytes, chunked, checkpoints, items, prunings, heads } =
        copied;
    if args.format.json {
        let shown = heads
            .iter()
            .map(|((tenant, pid), (_, head))| (format!("{tenant}/{pid}"), head.to_string()));
        let report = Report {
            tenants,
            processes: heads.len(),
            events,
            blobs,
            blob_bytes,
            chunked,
            checkpoints,
            inbox_items: items,
            prunings,
            heads: shown.collect(),
        };
        screen.out.line(&json(&report)?)?;
    } else {
        let size = bytes(blob_bytes);
        screen.out.line(&format!(
            "{tenants} tenants, {count} processes, {events} events, {blobs} large contents ({size}), \
             {checkpoints} checkpoints, {items} inbox items; {count} of {count} chains end with the \
             same hash on both sides",
            count = heads.len(),
        ))?;
    }
    screen.err.wrapped(&format!(
        "The copy is in {}. Where the source still runs agents, there are two of each now.",
        args.to
    ));
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_named_by_its_kind_and_place() {
        let shown = |argument| place(argument).map(|place| place.to_string());
        assert_eq!(shown("sqlite:/data/x").as_deref(), Ok("/data/x"));
        let server = shown("postgres://kernel:secret@db.example/agents");
        assert_eq!(server.as_deref(), Ok("postgres://db.example:5432/agents"));
        for bad in ["", "/data/x", "sqlite:", "postgres:db", "mysql://x/y"] {
            assert!(shown(bad).is_err(), "{bad}");
        }
    }
}
