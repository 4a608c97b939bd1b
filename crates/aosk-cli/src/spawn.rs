//! `aosk spawn`: hands an agent to the daemon.
//!
//! Whatever can be wrong with the agent is found here, in the folder and environment of whoever
//! asks: the daemon stands in no folder. So a manifest's workspace is trusted by the same rule as
//! for `aosk run`, and texts are cleaned of this environment's secrets before they leave.

use aosk_abi::{Code, Pid, Tenant};
use aosk_tools::Registry;
use serde::Serialize;

use crate::agent;
use crate::args::Spawn;
use crate::config::{Folders, Settings};
use crate::daemon::{self, Order};
use crate::endpoints::Endpoints;
use crate::error::Error;
use crate::exit::Exit;
use crate::print::{Screen, json};
use crate::reader;
use crate::task;

/// The longest alias, in characters.
const ALIAS_MAX: usize = 128;

/// What `aosk spawn --json` prints.
#[derive(Serialize)]
struct Spawned<'a> {
    pid: Pid,
    name: &'a str,
    model: &'a str,
    spend_limit_microdollars: u64,
    daemon: u32,
}

pub(crate) async fn spawn(
    args: &Spawn,
    settings: &Settings,
    folders: &Folders,
    screen: &Screen,
) -> Result<Exit, Error> {
    let given = args.task.as_deref().map(|task| task::given(task::For::Task, task)).transpose()?;
    let tools = Registry::builtin();
    let wanted = agent::read(&args.agent, given.as_deref(), false, &args.allow_workspace, &tools)?;
    let mut manifest = wanted.manifest;
    let endpoints = Endpoints::load(folders)?;
    let secrets = endpoints.redactor();
    crate::print::hide(secrets.clone());
    let model = match args.model.as_ref().or(manifest.model.as_ref()) {
        Some(named) => named.clone(),
        None => endpoints.default_model(settings)?,
    };
    if args.model.is_some() {
        agent::override_models(&mut manifest);
    }
    agent::refuse_secrets(&manifest, &model, args.alias.as_deref(), &secrets)?;
    let (_, endpoint) = endpoints.select(&model)?;
    if let Some(alias) = &args.alias {
        check_alias(alias)?;
        refuse_taken(alias, settings).await?;
    }
    let spend_limit =
        manifest.spend_limit().map_or(settings.max_spend, |own| own.min(settings.max_spend));
    agent::clean(&mut manifest, &secrets);
    let name = manifest.name.clone();
    let manifest = toml::to_string(&manifest)
        .map_err(|error| Error::new(Code::Manifest, error.to_string()).at(&wanted.path, None))?;
    let order = Order {
        manifest,
        model,
        endpoint: endpoint.base().to_owned(),
        task: secrets.text(&wanted.task).into_owned(),
        alias: args.alias.clone(),
        spend_limit,
    };
    let (pid, os_pid, started) = daemon::spawn(settings, &order, screen)
        .await
        .map_err(|error| agent::at_manifest(error, &wanted.path))?;
    let limited = format!("It may spend {spend_limit}.");
    screen.err.wrapped(&if started {
        format!("{limited} Started the daemon (process {os_pid}).")
    } else {
        limited
    });
    screen.out.line(&if args.json {
        json(&Spawned {
            pid,
            name: &name,
            model: &order.model,
            spend_limit_microdollars: spend_limit.0,
            daemon: os_pid,
        })?
    } else {
        pid.to_string()
    })?;
    Ok(Exit::Done)
}

fn check_alias(alias: &str) -> Result<(), Error> {
    let length = alias.chars().count();
    let wrong = |why: String| Err(Error::new(Code::CliUsage, why));
    if length == 0 || length > ALIAS_MAX {
        return wrong(format!("the alias has {length} characters: give 1 to {ALIAS_MAX}"));
    }
    if alias.chars().any(char::is_control) {
        return wrong("the alias holds a control character".to_owned());
    }
    if alias.parse::<Pid>().is_ok() {
        return wrong(format!("the alias {alias:?} is a pid: give a name"));
    }
    Ok(())
}

/// One name stands for one process for ever.
async fn refuse_taken(alias: &str, settings: &Settings) -> Result<(), Error> {
    let Some(reader) = reader::open(settings)? else {
        return Ok(());
    };
    let pid = Pid::from_alias(alias);
    let Some(taken) = reader.process(&Tenant::local(), pid).await? else {
        return Ok(());
    };
    let (state, same) = (taken.row.state.name(), &settings.same_store);
    Err(Error::new(Code::CliUsage, format!("the alias {alias:?} is process {pid} ({state})"))
        .help(format!("to go on with it: aosk send{same} {alias} \"…\"; or give another name")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_below_at_and_above_the_bounds() {
        for (alias, fits) in [
            (String::new(), false),
            ("x".to_owned(), true),
            ("語".repeat(ALIAS_MAX), true),
            ("語".repeat(ALIAS_MAX + 1), false),
            ("a\nb".to_owned(), false),
            (Pid::from_alias("a").to_string(), false),
        ] {
            assert_eq!(check_alias(&alias).is_ok(), fits, "{alias:?}");
        }
    }
}
