//! `aosk ps`: which processes there are. It reads beside whoever owns the store, takes nothing
//! over and recovers nothing.

use std::time::Duration;

use aosk_abi::{ProcessState, Scarce, Timestamp, Usage};
use aosk_kernel::Standings;
use aosk_ports::Receipt;
use serde::Serialize;

use crate::args::Ps;
use crate::config::Settings;
use crate::daemon;
use crate::error::Error;
use crate::exit::Exit;
use crate::figures::{duration, tokens};
use crate::print::{Ink, Screen};
use crate::processes::{Processes, Works, state, state_name};
use crate::quota;
use crate::reader;
use crate::text::{self, one_line};

/// How long a daemon may take to tell of its budgets.
const PATIENCE: Duration = Duration::from_millis(500);

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
    let processes = Processes::read(&*reader).await?;
    let shown: Vec<&Receipt> =
        if args.all { processes.all().collect() } else { processes.unfinished().collect() };
    if args.json {
        for receipt in &shown {
            screen.out.line(&json(receipt, &works)?)?;
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
    let is_shared = works.is_shared();
    if is_shared {
        rows[0].push("NODE".to_owned());
    }
    rows.extend(shown.iter().map(|receipt| {
        let row = &receipt.row;
        let node = is_shared.then(|| one_line(works.node(receipt.pid).unwrap_or("none")));
        let cells = [
            processes.short(receipt.pid),
            one_line(&row.name),
            one_line(&row.model),
            row.steps.to_string(),
            tokens(row.usage.input + row.usage.output),
            row.spent.to_string(),
            duration(now.millis_since(row.created)),
            state_name(receipt, &works).to_owned(),
        ];
        cells.into_iter().chain(node).collect()
    }));
    let cut: &[usize] = if is_shared { &[1, 2, 8] } else { &[1, 2] };
    let mut lines = text::table(&rows, &[3, 4, 5, 6], cut, screen.out.width()).into_iter();
    if let Some(head) = lines.next() {
        screen.out.line(&screen.out.paint(Ink::Strong, &head))?;
    }
    for (line, receipt) in lines.zip(&shown) {
        screen.out.line(&line)?;
        let waits = matches!(
            receipt.row.state,
            ProcessState::Blocked { .. } | ProcessState::Suspended { .. }
        );
        if waits && !works.is_interrupted(receipt) {
            for line in text::wrap(&format!("  {}", state(receipt, &works)), screen.out.width()) {
                screen.out.line(&screen.out.paint(Ink::Quiet, &line))?;
            }
        }
    }
    warn(settings, screen).await;
    if !works.is_somebody() && shown.iter().any(|receipt| works.is_interrupted(receipt)) {
        let same = &settings.same_store;
        screen.err.wrapped(&format!(
            "Interrupted agents go on with `aosk run --resume{same} [PID]`, or all of them in the \
             background with `aosk daemon start{same}`.",
        ));
    }
    Ok(Exit::Done)
}

/// Says which budgets are nearly spent, where a daemon counts them. One that does not answer at once
/// keeps nobody from the list.
async fn warn(settings: &Settings, screen: &Screen) {
    let standings = tokio::time::timeout(PATIENCE, daemon::standings(settings)).await;
    let Ok(Ok(Some(Standings { quotas, .. }))) = standings else { return };
    for quota in &quotas {
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

fn json<'a>(receipt: &'a Receipt, works: &'a Works) -> Result<String, Error> {
    let row = &receipt.row;
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
        node: works.node(receipt.pid),
    };
    crate::print::json(&line)
}
