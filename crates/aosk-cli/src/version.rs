//! `aosk version`: which build this is, as a report of a fault needs it.

use aosk_abi::Kind;
use serde::Serialize;

use crate::args::Version;
use crate::error::Error;
use crate::exit::Exit;
use crate::print::{Ink, Screen};
use crate::text;

/// The version, and the commit where the build knows it: what `aosk --version` prints.
pub(crate) const LINE: &str = env!("BUILD_VERSION");

/// The facts of this build, as one JSON object.
#[derive(Serialize)]
struct Facts {
    version: &'static str,
    /// Absent where it was built outside of a checkout.
    commit: Option<&'static str>,
    target: &'static str,
    profile: &'static str,
    rustc: &'static str,
    sqlite: &'static str,
    /// The schema of the stores that it writes.
    store_schema: usize,
    /// How many kinds of events it knows, and the newest version of any of their bodies.
    event_kinds: usize,
    event_version: u16,
    checkpoint_version: u16,
}

fn facts() -> Facts {
    Facts {
        version: env!("CARGO_PKG_VERSION"),
        commit: Some(env!("BUILD_COMMIT")).filter(|commit| !commit.is_empty()),
        target: env!("BUILD_TARGET"),
        profile: env!("BUILD_PROFILE"),
        rustc: env!("BUILD_RUSTC"),
        sqlite: aosk_store::sqlite_version(),
        store_schema: aosk_store::SCHEMA,
        event_kinds: Kind::ALL.len(),
        event_version: Kind::ALL.iter().map(|kind| kind.version()).max().unwrap_or(0),
        checkpoint_version: aosk_kernel::CHECKPOINT_VERSION,
    }
}

pub(crate) fn version(args: &Version, screen: &Screen) -> Result<Exit, Error> {
    let facts = facts();
    if args.json {
        screen.out.line(&crate::print::json(&facts)?)?;
        return Ok(Exit::Done);
    }
    screen.out.line(&screen.out.paint(Ink::Strong, &format!("aosk {}", facts.version)))?;
    let rows = [
        ("commit", facts.commit.unwrap_or("not built from a checkout").to_owned()),
        ("target", format!("{}, {}", facts.target, facts.profile)),
        ("compiler", facts.rustc.to_owned()),
        ("SQLite", facts.sqlite.to_owned()),
        ("store", format!("schema {}", facts.store_schema)),
        ("events", format!("{} kinds, versions to {}", facts.event_kinds, facts.event_version)),
        ("checkpoints", format!("version {}", facts.checkpoint_version)),
    ];
    let widest = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in rows {
        let name = screen.out.paint(Ink::Quiet, &text::left(name, widest));
        screen.out.line(&format!("{name}  {value}"))?;
    }
    Ok(Exit::Done)
}
