//! `aosk store status` of a store on a server.

use std::collections::BTreeMap;

use aosk_store::{POSTGRES_SCHEMA, PostgresOptions, PostgresReader};
use serde::Serialize;

use crate::args::StoreFormat;
use crate::config::Settings;
use crate::error::Error;
use crate::exit::Exit;
use crate::figures::{bytes, moment};
use crate::print::{Screen, json};
use crate::processes::{Processes, Works, state_name};
use crate::text::one_line;

/// What `aosk store status --json` prints.
#[derive(Serialize)]
struct Report<'a> {
    kind: &'static str,
    /// Without the password.
    address: String,
    /// The name of the schema on the server, and its version.
    schema_name: String,
    schema: usize,
    postgresql: String,
    vectors: bool,
    bytes: u64,
    /// How many processes are in which state.
    processes: BTreeMap<&'static str, usize>,
    nodes: Vec<NodeFacts<'a>>,
}

#[derive(Serialize)]
struct NodeFacts<'a> {
    label: &'a str,
    since: u64,
    /// How many unfinished processes it owns.
    processes: u64,
}

pub(super) async fn status(
    args: &StoreFormat,
    settings: &Settings,
    options: &PostgresOptions,
    screen: &Screen,
) -> Result<Exit, Error> {
    let reader = PostgresReader::open(options)?;
    let works = Works::ask(settings, &reader).await?;
    let mut processes: BTreeMap<&str, usize> = BTreeMap::new();
    for receipt in Processes::read(&reader).await?.all() {
        *processes.entry(state_name(receipt, &works)).or_default() += 1;
    }
    let (facts, nodes) = (reader.facts().await?, reader.nodes().await?);
    let occupied = reader.occupied().await?;
    let report = Report {
        kind: "postgresql",
        address: facts.address,
        schema_name: facts.schema,
        schema: POSTGRES_SCHEMA,
        postgresql: facts.server,
        vectors: facts.vectors,
        bytes: occupied.iter().map(|table| table.bytes + table.index_bytes).sum(),
        processes,
        nodes: nodes
            .iter()
            .map(|node| NodeFacts {
                label: &node.label,
                since: node.since.as_millis(),
                processes: node.processes,
            })
            .collect(),
    };
    if args.json {
        screen.out.line(&json(&report)?)?;
        return Ok(Exit::Done);
    }
    let out = &screen.out;
    let vectors = if report.vectors { "with vectors" } else { "without vectors" };
    out.line(&format!("server     {} (PostgreSQL {})", report.address, report.postgresql))?;
    out.line(&format!("schema     {} in {}, {vectors}", report.schema, report.schema_name))?;
    out.line(&format!("size       {}", bytes(report.bytes)))?;
    let states = report.processes.iter().map(|(state, count)| format!("{count} {state}"));
    let states = states.collect::<Vec<_>>().join(", ");
    let states = if states.is_empty() { "none" } else { &states };
    out.line(&format!("processes  {states}"))?;
    for node in &nodes {
        let (label, since) = (one_line(&node.label), moment(node.since));
        out.line(&format!("node       {label} since {since}, {} unfinished", node.processes))?;
    }
    if nodes.is_empty() {
        out.line("node       none")?;
    }
    Ok(Exit::Done)
}
