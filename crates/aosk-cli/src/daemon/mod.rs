//! `aosk daemon`: the kernel that runs agents in the background, one a store.
//!
//! It is `aosk run` without a terminal and without an end: the same kernel on the same store,
//! which takes up whatever comes in. It is started by whoever first needs it, which takes some 20
//! ms, and stops when nothing is to be done, because a program that nobody asked for should not
//! stay. What it is asked for goes through the store where that is possible (signals and messages
//! through the inbox, answers through the journal), so only the wish to begin an agent and a nudge
//! need its socket at all.

mod activity;
mod client;
mod launch;
mod protocol;
mod reach;
mod serve;
mod socket;
mod status;
mod upkeep;
mod visitor;

use std::io::Write;
use std::path::Path;

use aosk_abi::{Code, Limits, Pid, QuotaOwner};
use aosk_kernel::Standings;
use aosk_store::Owner;

use crate::args::{DaemonCommand, DaemonRun, DaemonStart};
use crate::config::{Folders, Settings};
use crate::error::Error;
use crate::exit::Exit;
use crate::print::{Screen, clean, json};

use client::Client;
use launch::Launch;
use protocol::Refused;
use reach::Found;
use socket::Place;

pub(crate) use protocol::{Broken, Order};

/// How a daemon calls itself as the owner of a store.
const COMMAND: &str = "aosk daemon run";

/// Whether that owner of a store is a daemon.
pub(crate) fn is_daemon(owner: &Owner) -> bool {
    is_command(&owner.command)
}

/// Whether a daemon calls itself that.
pub(crate) fn is_command(command: &str) -> bool {
    command == COMMAND
}

/// Who takes up what was posted.
pub(crate) enum Hearer {
    /// A daemon, with the number of its process; it was told.
    Daemon(u32),
    /// A run in the foreground, which looks by itself.
    Run(Owner),
    /// Another node of the server, with what it calls itself; the server told it.
    Node(String),
    /// Nobody: nothing owns the store.
    Nobody,
}

/// Refuses a data folder in which no daemon can be.
///
/// # Errors
/// [`Error`] where the path of its socket would be too long.
pub(crate) fn check_place(dir: &Path) -> Result<(), Error> {
    Place::of(dir).map(drop)
}

/// Tells whoever works on the store that something was posted.
pub(crate) async fn nudge(settings: &Settings, screen: &Screen) -> Result<Hearer, Error> {
    loop {
        match reach::look(settings, screen).await? {
            Found::Daemon(mut client) => {
                let os_pid = client.daemon.os_pid;
                // One of another protocol looks by itself.
                if !client.speaks() || client.nudge().await? {
                    return Ok(Hearer::Daemon(os_pid));
                }
                reach::wait_until_gone(&settings.data_dir, os_pid).await?;
            }
            Found::Run(owner) => return Ok(Hearer::Run(owner)),
            Found::Nobody => return Ok(Hearer::Nobody),
        }
    }
}

/// Has a daemon look at what was posted, one that is started where there is none. Answers the
/// number of its process, and whether it was started.
pub(crate) async fn hear(settings: &Settings, screen: &Screen) -> Result<(u32, bool), Error> {
    loop {
        let (mut client, started) = reach::ensure(settings, Launch::default(), screen).await?;
        if client.nudge().await? {
            return Ok((client.daemon.os_pid, started));
        }
        reach::wait_until_gone(&settings.data_dir, client.daemon.os_pid).await?;
    }
}

/// The processes that a daemon cannot go on with; none where no daemon answers.
pub(crate) async fn broken(settings: &Settings) -> Result<Vec<Broken>, Error> {
    match Client::connect(&Place::of(&settings.data_dir)?, &settings.same_store).await? {
        Some(mut client) if client.speaks() => {
            Ok(client.status().await?.map(|status| status.broken).unwrap_or_default())
        }
        _ => Ok(Vec::new()),
    }
}

/// How quotas and devices stand in a daemon; `None` where no daemon answers.
pub(crate) async fn standings(settings: &Settings) -> Result<Option<Standings>, Error> {
    match Client::connect(&Place::of(&settings.data_dir)?, &settings.same_store).await? {
        Some(client) if !client.speaks() => Err(reach::foreign(&client)),
        Some(mut client) => client.standings().await,
        None => Ok(None),
    }
}

/// Lets an owner use that much from now on, in whatever works on the store; who does.
pub(crate) async fn limit(
    settings: &Settings,
    (owner, limits): (&QuotaOwner, Limits),
    screen: &Screen,
) -> Result<Hearer, Error> {
    loop {
        match reach::look(settings, screen).await? {
            Found::Daemon(client) if !client.speaks() => return Err(reach::foreign(&client)),
            Found::Daemon(mut client) => {
                let os_pid = client.daemon.os_pid;
                if client.limit(owner.clone(), limits).await? {
                    return Ok(Hearer::Daemon(os_pid));
                }
                reach::wait_until_gone(&settings.data_dir, os_pid).await?;
            }
            Found::Run(owner) => return Ok(Hearer::Run(owner)),
            Found::Nobody => return Ok(Hearer::Nobody),
        }
    }
}

/// Has a daemon begin an agent, one that is started where there is none. Answers the agent, the
/// number of the daemon's process, and whether it was started.
pub(crate) async fn spawn(
    settings: &Settings,
    order: &Order,
    screen: &Screen,
) -> Result<(Pid, u32, bool), Error> {
    loop {
        let (mut client, started) = reach::ensure(settings, Launch::default(), screen).await?;
        if let Some(pid) = client.spawn(order.clone()).await? {
            return Ok((pid, client.daemon.os_pid, started));
        }
        reach::wait_until_gone(&settings.data_dir, client.daemon.os_pid).await?;
    }
}

pub(crate) async fn daemon(
    command: &DaemonCommand,
    settings: &Settings,
    folders: &Folders,
    screen: &Screen,
) -> Result<Exit, Error> {
    match command {
        DaemonCommand::Start(args) => start(args, settings, screen).await,
        DaemonCommand::Stop => stop(settings, screen).await,
        DaemonCommand::Status(args) => status::status(args, settings, screen).await,
        DaemonCommand::Run(args) => run(args, settings, folders, screen).await,
    }
}

async fn run(
    args: &DaemonRun,
    settings: &Settings,
    folders: &Folders,
    screen: &Screen,
) -> Result<Exit, Error> {
    let ended = serve::serve(args, settings, folders, screen).await;
    match ended {
        Err(error) if args.detached => {
            let exit = error.exit();
            let line = json(&Refused::from(&error))?;
            // Whoever started it may have gone.
            let _ = writeln!(std::io::stderr(), "{}", clean(&line));
            Ok(exit)
        }
        other => other,
    }
}

async fn start(args: &DaemonStart, settings: &Settings, screen: &Screen) -> Result<Exit, Error> {
    let launch = args.idle_stop.map_or_else(Launch::default, |idle_stop| Launch { idle_stop });
    let (os_pid, started, status) = loop {
        let (mut client, started) = reach::ensure(settings, launch, screen).await?;
        let os_pid = client.daemon.os_pid;
        if let Some(status) = client.status().await? {
            break (os_pid, started, status);
        }
        reach::wait_until_gone(&settings.data_dir, os_pid).await?;
    };
    if started {
        screen.err.wrapped(&format!(
            "Started the daemon (process {os_pid}); {}.",
            until(status.idle_stop)
        ));
        return Ok(Exit::Done);
    }
    if args.idle_stop.is_some_and(|wanted| wanted != status.idle_stop) {
        return Err(Error::new(
            Code::CliUsage,
            format!(
                "the daemon (process {os_pid}) runs already with --idle-stop {}",
                status.idle_stop
            ),
        )
        .help(format!(
            "stop it first, which loses nothing: aosk daemon stop{}",
            settings.same_store
        )));
    }
    screen.err.wrapped(&format!("The daemon (process {os_pid}) runs already."));
    Ok(Exit::Done)
}

/// When it stops, in words.
fn until(idle_stop: u32) -> String {
    match idle_stop {
        0 => "it stays until it is stopped".to_owned(),
        seconds => format!("it stops when nothing was to be done for {seconds} seconds"),
    }
}

async fn stop(settings: &Settings, screen: &Screen) -> Result<Exit, Error> {
    match reach::look(settings, screen).await? {
        Found::Daemon(client) => {
            let os_pid = client.daemon.os_pid;
            client.stop().await?;
            reach::wait_until_gone(&settings.data_dir, os_pid).await?;
            screen.err.wrapped(&format!("Stopped the daemon (process {os_pid})."));
        }
        Found::Run(owner) => screen.err.wrapped(&format!(
            "No daemon runs; process {} ({}) owns the store.",
            owner.os_pid, owner.command
        )),
        Found::Nobody => screen.err.wrapped("No daemon runs."),
    }
    Ok(Exit::Done)
}
