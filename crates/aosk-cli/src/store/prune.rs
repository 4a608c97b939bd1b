//! `aosk store prune` and `aosk store pruned`.

use std::collections::BTreeMap;

use aosk_abi::{Tenant, Timestamp};
use aosk_kernel::SystemClock;
use aosk_ports::Clock;
use aosk_store::{Pruning, Reason, Removal, Retention, StorePlace, prune as remove, prunings};
use serde::Serialize;

use super::copy::aside;
use super::{open, whole};
use crate::args::{StoreFormat, StorePrune};
use crate::config::Settings;
use crate::error::Error;
use crate::exit::Exit;
use crate::figures::moment;
use crate::memory;
use crate::print::{Screen, json};
use crate::wiring::node_label;

/// What `aosk store prune --json` prints.
#[derive(Serialize)]
struct Report {
    dry_run: bool,
    processes: u64,
    events: u64,
    /// Those that were due and stay, and why.
    kept: BTreeMap<String, &'static str>,
}

pub(super) async fn prune(
    args: &StorePrune,
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    let dry_run = args.dry_run;
    let place = place(settings, "aosk store prune")?;
    let tenant = args.tenant.clone().unwrap_or_else(Tenant::local);
    let rule =
        Retention { tenant: Some(tenant.clone()), ended_before: args.older_than, keep: args.keep };
    let by = node_label(std::process::id(), "aosk store prune");
    let at = SystemClock::new().now();
    let Removal { processes, events, kept } =
        aside(move || remove(&place, &rule, (at, &by), dry_run)).await?;
    if !dry_run {
        memory::tidy(settings, &tenant, screen).await;
    }
    if args.format.json {
        let kept = kept.into_iter().map(|((_, pid), reason)| (pid.to_string(), word(reason)));
        let report = Report { dry_run, processes, events, kept: kept.collect() };
        screen.out.line(&json(&report)?)?;
        return Ok(Exit::Done);
    }
    let did = if dry_run { "would be removed" } else { "removed" };
    screen.out.line(&format!("{processes} processes with {events} events {did}"))?;
    for ((_, pid), reason) in &kept {
        screen.out.line(&format!("{pid} stays: {}", said(*reason)))?;
    }
    if processes > 0 && !dry_run {
        screen.err.wrapped(
            "What only they named goes with the second `aosk store gc` from now; `aosk store \
             pruned` lists them.",
        );
    }
    Ok(Exit::Done)
}

const fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::Awaited => "awaited",
        Reason::Sender => "sender",
        Reason::Needed => "needed",
        Reason::GoesOn => "goes_on",
    }
}

const fn said(reason: Reason) -> &'static str {
    match reason {
        Reason::Awaited => "a message or signal waits for it",
        Reason::Sender => "a message that it sent waits for another",
        Reason::Needed => "another process that stays needs it",
        Reason::GoesOn => "it goes on",
    }
}

/// What `aosk store pruned --json` prints for each removal.
#[derive(Serialize)]
struct Line<'a> {
    number: u64,
    at: u64,
    by: &'a str,
    tenant: &'a str,
    /// The link of the chain of records after this one.
    link: String,
    processes: Vec<Process>,
}

#[derive(Serialize)]
struct Process {
    pid: String,
    events: u64,
    /// The link of its chain after its last event.
    head: String,
    created: u64,
    updated: u64,
}

pub(super) async fn pruned(
    args: &StoreFormat,
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    let place = place(settings, "aosk store pruned")?;
    for Pruning { number, what, link } in aside(move || prunings(&place)).await? {
        if args.json {
            let processes = what.processes.iter().map(|gone| Process {
                pid: gone.pid.to_string(),
                events: gone.events.0,
                head: gone.head.to_string(),
                created: gone.created.as_millis(),
                updated: gone.updated.as_millis(),
            });
            let line = Line {
                number,
                at: what.at.as_millis(),
                by: &what.by,
                tenant: &what.tenant,
                link: link.to_string(),
                processes: processes.collect(),
            };
            screen.out.line(&json(&line)?)?;
            continue;
        }
        for gone in &what.processes {
            let span = |from: Timestamp, until| format!("{} to {}", moment(from), moment(until));
            screen.out.line(&format!(
                "{}  {}  {} events, {}, ended with {}",
                moment(what.at),
                gone.pid,
                gone.events,
                span(gone.created, gone.updated),
                gone.head
            ))?;
        }
    }
    Ok(Exit::Done)
}

/// The store of the settings, which must be there.
fn place(settings: &Settings, command: &str) -> Result<StorePlace, Error> {
    let place = whole(settings, command);
    if let StorePlace::Sqlite(dir) = &place {
        drop(open(dir)?);
    }
    Ok(place)
}
