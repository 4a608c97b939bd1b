//! `aosk daemon status`.

use aosk_abi::Timestamp;
use aosk_store::{Owner, owner};
use serde::Serialize;

use super::client::Client;
use super::protocol::{Broken, Status};
use super::reach::{self, Found};
use super::socket::Place;
use super::until;
use crate::args::DaemonStatus;
use crate::config::Settings;
use crate::error::Error;
use crate::exit::Exit;
use crate::figures::moment;
use crate::print::{Ink, Screen, json};
use crate::processes::refuse_file;
use crate::text::one_line;

/// What `aosk daemon status --json` prints.
#[derive(Serialize)]
struct Report<'a> {
    running: bool,
    os_pid: Option<u32>,
    version: Option<&'a str>,
    build: Option<&'a str>,
    protocol: Option<u32>,
    socket: String,
    since: Option<u64>,
    idle_stop: Option<u32>,
    in_memory: Option<usize>,
    unfinished: Option<usize>,
    /// What keeps all agents from beginning anything.
    waits_for: Option<&'a str>,
    /// Where the store is.
    store: String,
    broken: &'a [Broken],
    /// Who owns the store, daemon or not.
    owner: Option<OwnerFacts<'a>>,
}

#[derive(Serialize)]
struct OwnerFacts<'a> {
    os_pid: u32,
    command: &'a str,
    since: u64,
}

pub(super) async fn status(
    args: &DaemonStatus,
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    let Settings { data_dir: dir, same_store: same, .. } = settings;
    refuse_file(dir)?;
    let place = Place::of(dir)?;
    let found = match reach::look(settings, screen).await? {
        Found::Daemon(client) if !client.speaks() => return Err(reach::foreign(&client)),
        // One that is killed between its hello and its answer runs no more.
        Found::Daemon(mut client) => client.status().await?.map(|status| (client, status)),
        Found::Run(_) | Found::Nobody => None,
    };
    let owner = owner(dir)?;
    if args.json {
        screen.out.line(&json(&report(
            &place,
            settings.store.shown(dir),
            found.as_ref(),
            owner.as_ref(),
        ))?)?;
    } else {
        match &found {
            Some((client, status)) => tell(client, status, screen)?,
            None => screen.out.line(&match &owner {
                Some(Owner { os_pid, command, .. }) => {
                    format!("No daemon runs; process {os_pid} ({command}) owns the store.")
                }
                None => format!("No daemon runs; `aosk spawn{same}` starts one."),
            })?,
        }
    }
    Ok(if found.is_some() { Exit::Done } else { Exit::Failed })
}

fn report<'a>(
    place: &Place,
    store: String,
    found: Option<&'a (Client, Status)>,
    owner: Option<&'a Owner>,
) -> Report<'a> {
    let daemon = found.map(|(client, _)| &client.daemon);
    let status = found.map(|(_, status)| status);
    Report {
        running: found.is_some(),
        os_pid: daemon.map(|daemon| daemon.os_pid),
        version: daemon.map(|daemon| daemon.version.as_str()),
        build: daemon.map(|daemon| daemon.build.as_str()),
        protocol: daemon.map(|daemon| daemon.protocol),
        socket: place.path().display().to_string(),
        since: status.map(|status| status.since),
        idle_stop: status.map(|status| status.idle_stop),
        in_memory: status.map(|status| status.in_memory),
        unfinished: status.and_then(|status| status.unfinished),
        waits_for: status.and_then(|status| status.waits_for.as_deref()),
        store,
        broken: status.map_or(&[], |status| &status.broken),
        owner: owner.map(|owner| OwnerFacts {
            os_pid: owner.os_pid,
            command: &owner.command,
            since: owner.since.as_millis(),
        }),
    }
}

fn tell(client: &Client, status: &Status, screen: &Screen) -> Result<(), Error> {
    let (daemon, out) = (&client.daemon, &screen.out);
    out.line(&format!(
        "The daemon (process {}, aosk {}) runs since {}; {}.",
        daemon.os_pid,
        one_line(&daemon.build),
        moment(Timestamp::from_millis(status.since)),
        until(status.idle_stop)
    ))?;
    let in_memory = status.in_memory;
    out.line(&match status.unfinished {
        Some(unfinished) => format!(
            "Agents: {unfinished} unfinished, {in_memory} in memory. `aosk ps{}` lists them.",
            client.same
        ),
        None => format!("Agents: {in_memory} in memory."),
    })?;
    if let Some(what) = &status.waits_for {
        let line = format!("No agent begins anything: it waits for {}", one_line(what));
        out.line(&out.paint(Ink::Warning, &line))?;
    }
    for Broken { pid, code, message } in &status.broken {
        let line = format!("{pid} cannot go on: {code}: {}", one_line(message));
        out.line(&out.paint(Ink::Warning, &line))?;
    }
    if !status.broken.is_empty() {
        let command = format!("`aosk cont PID{}`", client.same);
        out.line(&format!("They are tried again when something comes for them: {command}."))?;
    }
    Ok(())
}
