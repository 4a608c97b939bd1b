//! `aosk store gc`.

use aosk_abi::Tenant;
use aosk_store::{Collected, StorePlace, collect};
use serde::Serialize;

use super::copy::aside;
use super::{open, whole};
use crate::args::StoreGc;
use crate::config::Settings;
use crate::error::Error;
use crate::exit::Exit;
use crate::figures::bytes;
use crate::memory;
use crate::print::{Screen, json};

/// What `aosk store gc --json` prints.
#[derive(Serialize)]
struct Report {
    dry_run: bool,
    named: u64,
    deleted: u64,
    deleted_bytes: u64,
    suspected: u64,
}

pub(super) async fn gc(
    args: &StoreGc,
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    let dry_run = args.dry_run;
    let place = whole(settings, "aosk store gc");
    if let StorePlace::Sqlite(dir) = &place {
        drop(open(dir)?);
    }
    let collected = aside(move || collect(&place, dry_run)).await?;
    if !dry_run {
        memory::tidy(settings, &Tenant::local(), screen).await;
    }
    let Collected { named, deleted, deleted_bytes, suspected } = collected;
    if args.format.json {
        let report = Report { dry_run, named, deleted, deleted_bytes, suspected };
        screen.out.line(&json(&report)?)?;
        return Ok(Exit::Done);
    }
    let did = if dry_run { "would be deleted" } else { "deleted" };
    let size = bytes(deleted_bytes);
    screen.out.line(&format!(
        "{deleted} large contents ({size}) {did}; {suspected} more are named by nothing now, and go \
         with the next run if that is so then; {named} are named"
    ))?;
    Ok(Exit::Done)
}
