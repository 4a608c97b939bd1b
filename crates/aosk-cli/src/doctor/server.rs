//! The store on a server. Looking makes nothing there.

use aosk_abi::Code;
use aosk_store::{POSTGRES_SCHEMA, PostgresOptions, PostgresReader};

use super::Check;
use super::folder::holds;
use crate::error::Error;
use crate::figures::moment;
use crate::text::one_line;

/// Looks at the server, the store on it and who works on that.
pub(super) async fn look(options: &PostgresOptions) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Err(error) = ask(options, &mut checks).await {
        // One of an older schema: the next run migrates it.
        let can_run = error.code == Code::StoreOpen && checks.is_empty();
        checks.push(Check::missing("store", &error).or_warn(can_run));
    }
    checks
}

async fn ask(options: &PostgresOptions, checks: &mut Vec<Check>) -> Result<(), Error> {
    let Some(reader) = PostgresReader::find(options)? else {
        let said = format!("{}: answers; no store yet, the first run makes it", options.shown()?);
        checks.push(Check::ok("server", said));
        return Ok(());
    };
    let facts = reader.facts().await?;
    let said = format!("{}: PostgreSQL {}", facts.address, facts.server);
    checks.push(Check::ok("server", said));
    checks.push(holds(&reader, POSTGRES_SCHEMA).await?);
    checks.push(match facts.vectors {
        true => Check::ok("vectors", "context_storage has its column of vectors"),
        false => Check::warn(
            "vectors",
            "the server has no pgvector, or this role may not use it; all else works",
            "install it and start a kernel again; docs/errors/AOSK-S018.md says how",
        ),
    });
    let nodes = reader.nodes().await?;
    let alive = nodes.iter().map(|node| {
        let (label, since) = (one_line(&node.label), moment(node.since));
        format!("{label} since {since}, with {} unfinished agents", node.processes)
    });
    let alive: Vec<String> = alive.collect();
    let said =
        if alive.is_empty() { "nobody runs agents on it now".into() } else { alive.join("; ") };
    checks.push(Check::ok("nodes", said));
    Ok(())
}
