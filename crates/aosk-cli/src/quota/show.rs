//! `aosk quota show`.

use aosk_abi::{BlockedOn, MicroDollars, Pid, Scarce, Tenant};
use aosk_kernel::{LimitStanding, QuotaStanding, Standings, load};
use serde::Serialize;

use super::{amount, limit, resets};
use crate::args::QuotaShow;
use crate::config::Settings;
use crate::daemon;
use crate::error::Error;
use crate::exit::Exit;
use crate::print::{Ink, Screen, json};
use crate::processes::{self, Processes};
use crate::reader;
use crate::text::{self, one_line};
use crate::wiring::kernel_error;

/// A quota as a line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    standing: &'a QuotaStanding,
    /// Whether a kernel counts what is used of it now.
    counted: bool,
}

pub(super) async fn show(
    args: &QuotaShow,
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    let running = daemon::standings(settings).await?;
    let counted = running.is_some();
    let mut quotas = match running {
        Some(Standings { quotas, .. }) => quotas,
        None => QuotaStanding::unused(&settings.sharing),
    };
    if let Some(named) = &args.pid {
        quotas = of_one(named, quotas, settings).await?;
    }
    if args.json {
        for standing in &quotas {
            screen.out.line(&json(&Line { standing, counted })?)?;
        }
        return Ok(Exit::Done);
    }
    if quotas.is_empty() {
        screen.err.wrapped(
            "Nothing has a quota. `aosk quota set` gives a model, tenant or group one, and \
             `[quota]` of a manifest an agent.",
        );
        return Ok(Exit::Done);
    }
    if !counted && args.pid.is_none() {
        screen
            .err
            .wrapped("No daemon runs: these are the limits, of which nothing is counted now.");
    }
    let shorts = match reader::open(settings)? {
        Some(reader) => Some(Processes::read(&*reader).await?),
        None => None,
    };
    let short = |pid: Pid| match &shorts {
        Some(processes) => processes.short(pid),
        None => pid.to_string(),
    };
    print(&quotas, counted, &short, screen)?;
    Ok(Exit::Done)
}

fn print(
    quotas: &[QuotaStanding],
    counted: bool,
    short: &dyn Fn(Pid) -> String,
    screen: &Screen,
) -> Result<(), Error> {
    let head = ["OWNER", "OF", "LIMIT", "USED", "RESERVED", "%", "WHOLE AGAIN"];
    let mut rows: Vec<Vec<String>> = vec![head.map(str::to_owned).into()];
    for standing in quotas {
        let owner = match standing.pid {
            Some(pid) => format!("agent {}", short(pid)),
            None => one_line(&standing.owner),
        };
        for one in &standing.limits {
            let known = |text: String| match counted || standing.pid.is_some() {
                true => text,
                false => "-".to_owned(),
            };
            rows.push(vec![
                owner.clone(),
                one.scarce.name().to_owned(),
                limit(one),
                known(amount(one, one.used)),
                known(amount(one, one.reserved)),
                known(one.percent().to_string()),
                resets(one),
            ]);
        }
    }
    let lines = text::table(&rows, &[3, 4, 5], &[0], screen.out.width());
    let near = quotas.iter().flat_map(|standing| &standing.limits).map(|one| one.percent() >= 80);
    for (line, near) in lines.iter().zip(std::iter::once(None).chain(near.map(Some))) {
        screen.out.line(&match near {
            None => screen.out.paint(Ink::Strong, line),
            Some(true) => screen.out.paint(Ink::Warning, line),
            Some(false) => line.clone(),
        })?;
    }
    Ok(())
}

/// What one agent may use: its rates, where a kernel counts them, and what it may spend in all.
async fn of_one(
    named: &str,
    quotas: Vec<QuotaStanding>,
    settings: &Settings,
) -> Result<Vec<QuotaStanding>, Error> {
    let (reader, pid) = processes::open_one(settings, named).await?;
    let image = load(&*reader, &Tenant::local(), pid, None).await.map_err(kernel_error)?;
    let mut own = quotas.into_iter().find(|standing| standing.pid == Some(pid));
    let account = &image.account;
    if let Some(MicroDollars(limit)) = account.limit {
        let reserved: MicroDollars = account.reserved.values().copied().sum();
        let standing = own.get_or_insert_with(|| QuotaStanding {
            owner: BlockedOn::OWN.to_owned(),
            pid: Some(pid),
            limits: Vec::new(),
        });
        standing.limits.push(LimitStanding {
            scarce: Scarce::Money,
            limit,
            window_s: None,
            used: account.spent().saturating_sub(reserved).0,
            reserved: reserved.0,
            resets: None,
        });
    }
    Ok(own.into_iter().collect())
}
