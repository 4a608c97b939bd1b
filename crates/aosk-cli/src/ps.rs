//! `aosk ps`: which processes there are. It reads beside whoever owns the store, takes nothing
//! over and recovers nothing.

use std::collections::HashMap;
use std::time::Duration;

use aosk_abi::{Pid, ProcessState, Scarce, Timestamp, Usage};
use aosk_kernel::{ProcessStanding, Standings};
use aosk_ports::Receipt;
use serde::Serialize;

use crate::args::Ps;
use crate::config::Settings;
use crate::daemon;
use crate::error::Error;
use crate::exit::Exit;
use crate::figures::{duration, signed, tokens};
use crate::print::{Ink, Screen};
use crate::processes::{Processes, Works, state, state_name, waits_for};
use crate::quota;
use crate::reader;
use crate::text::{self, one_line};

/// How long a daemon may take to tell what it counts; it waits for servers for most of that.
const PATIENCE: Duration = Duration::from_millis(700);

/// The share of a budget from which on it is told of, in percent.
const NEARLY: u64 = 80;

/// A process as a line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    pid: String,
    name: &'a str,
    model: &'a str,
    state: &'static str,
    /// What the state knows of itself: what is waited for, how it ended.
    detail: &'a ProcessState,
    steps: u64,
    usage: Usage,
    spent_microdollars: u64,
    created: u64,
    updated: u64,
    /// What it waits for; absent: for nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    waits_for: String,
    /// How many tokens it was served less than its share, where it wants a call and a daemon counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    lag: Option<i64>,
    /// Of a store on a server: the living node that owns the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
}

pub(crate) async fn ps(args: &Ps, settings: &Settings, screen: &Screen) -> Result<Exit, Error> {
    let Some(reader) = reader::open(settings)? else {
        if !args.json {
            screen.err.wrapped(&format!(
                "Nothing was run in {} yet. `aosk init` writes an agent to begin with.",
                settings.store.shown(&settings.data_dir)
            ));
        }
        return Ok(Exit::Done);
    };
    let works = Works::ask(settings, &*reader).await?;
    let standings = standings(settings).await;
    let stands: HashMap<Pid, &ProcessStanding> =
        standings.iter().flat_map(|it| &it.processes).map(|it| (it.pid, it)).collect();
    let processes = Processes::read(&*reader).await?;
    let shown: Vec<&Receipt> =
        if args.all { processes.all().collect() } else { processes.unfinished().collect() };
    if args.json {
        for receipt in &shown {
            screen.out.line(&json(receipt, &works, &stands)?)?;
        }
        return Ok(Exit::Done);
    }
    if let Some(owner) = works.said() {
        screen.err.wrapped(&owner);
    }
    if shown.is_empty() {
        let more = match args.all {
            true => String::new(),
            false => {
                format!(" `aosk ps --all{}` lists those that have ended.", settings.same_store)
            }
        };
        screen.err.wrapped(&format!("No process is unfinished.{more}"));
        return Ok(Exit::Done);
    }
    let now = jiff::Timestamp::now().as_millisecond();
    let now = Timestamp::from_millis(u64::try_from(now).unwrap_or(0));
    let mut rows: Vec<Vec<String>> = vec![
        ["PID", "NAME", "MODEL", "STEPS", "TOKENS", "COST", "AGE", "STATE"]
            .map(str::to_owned)
            .into(),
    ];
    // Only a daemon tells who is behind its share.
    let is_counted = standings.is_some();
    if is_counted {
        rows[0].insert(7, "LAG".to_owned());
    }
    let is_shared = works.is_shared();
    if is_shared {
        rows[0].push("NODE".to_owned());
    }
    rows.extend(shown.iter().map(|receipt| {
        let row = &receipt.row;
        let node = is_shared.then(|| one_line(works.node(receipt.pid).unwrap_or("none")));
        let lag = is_counted
            .then(|| stands.get(&receipt.pid).map_or_else(|| "-".to_owned(), |it| signed(it.lag)));
        let cells = [
            processes.short(receipt.pid),
            one_line(&row.name),
            one_line(&row.model),
            row.steps.to_string(),
            tokens(row.usage.input + row.usage.output),
            row.spent.to_string(),
            duration(now.millis_since(row.created)),
        ];
        let state = state_name(receipt, &works).to_owned();
        cells.into_iter().chain(lag).chain([state]).chain(node).collect()
    }));
    let last = rows[0].len() - 1;
    let cut = if is_shared { vec![1, 2, last] } else { vec![1, 2] };
    let numbers: Vec<usize> = (3..=6 + usize::from(is_counted)).collect();
    let mut lines = text::table(&rows, &numbers, &cut, screen.out.width()).into_iter();
    if let Some(head) = lines.next() {
        screen.out.line(&screen.out.paint(Ink::Strong, &head))?;
    }
    for (line, receipt) in lines.zip(&shown) {
        screen.out.line(&line)?;
        let waits = matches!(
            receipt.row.state,
            ProcessState::Blocked { .. } | ProcessState::Suspended { .. }
        );
        let standing = stands.get(&receipt.pid).copied();
        let said = match waits {
            true if !works.is_interrupted(receipt) => state(receipt, &works),
            true => String::new(),
            false => match waits_for(&receipt.row.state, standing) {
                none if none.is_empty() => none,
                what => format!("waits for: {what}"),
            },
        };
        if !said.is_empty() {
            for line in text::wrap(&format!("  {said}"), screen.out.width()) {
                screen.out.line(&screen.out.paint(Ink::Quiet, &line))?;
            }
        }
    }
    standings.iter().for_each(|standings| warn(standings, screen));
    if !works.is_somebody() && shown.iter().any(|receipt| works.is_interrupted(receipt)) {
        let same = &settings.same_store;
        screen.err.wrapped(&format!(
            "Interrupted agents go on with `aosk run --resume{same} [PID]`, or all of them in the \
             background with `aosk daemon start{same}`.",
        ));
    }
    Ok(Exit::Done)
}

/// What a daemon counts. One that does not answer at once keeps nobody from the list.
async fn standings(settings: &Settings) -> Option<Standings> {
    let standings = tokio::time::timeout(PATIENCE, daemon::standings(settings)).await;
    standings.ok()?.ok()?
}

/// Says which budgets are nearly spent.
fn warn(standings: &Standings, screen: &Screen) {
    for quota in &standings.quotas {
        let budgets = quota.limits.iter().filter(|one| one.scarce == Scarce::Money);
        for one in budgets.filter(|one| one.percent() >= NEARLY) {
            let said = format!(
                "{} % of {} of {} is spent or reserved.",
                one.percent(),
                quota::limit(one),
                one_line(&quota.owner)
            );
            screen.err.wrapped(&screen.err.paint(Ink::Warning, &said));
        }
    }
}

fn json(
    receipt: &Receipt,
    works: &Works,
    stands: &HashMap<Pid, &ProcessStanding>,
) -> Result<String, Error> {
    let row = &receipt.row;
    let standing = stands.get(&receipt.pid).copied();
    let line = Line {
        pid: receipt.pid.to_string(),
        name: &row.name,
        model: &row.model,
        state: state_name(receipt, works),
        detail: &row.state,
        steps: row.steps,
        usage: row.usage,
        spent_microdollars: row.spent.0,
        created: row.created.as_millis(),
        updated: row.updated.as_millis(),
        waits_for: waits_for(&row.state, standing),
        lag: standing.map(|standing| standing.lag),
        node: works.node(receipt.pid),
    };
    crate::print::json(&line)
}
