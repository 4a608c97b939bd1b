//! Who works on a store, found from outside, and a daemon where one is needed.
//!
//! The lock of the store says whether somebody works on it, and nothing else decides that: a
//! socket may be stale, and may be missing for a moment while a daemon begins or stops. So where
//! the store is owned by something that is no run in the foreground, one waits for its socket.

use std::path::Path;
use std::time::{Duration, Instant};

use aosk_abi::Code;
use aosk_store::{Owner, owner};

use super::client::{Client, Compared};
use super::is_daemon;
use super::launch::{self, Launch};
use super::socket::{LOOK, Place};
use crate::config::Settings;
use crate::error::Error;
use crate::print::Screen;
use crate::processes::refuse_file;
use crate::wiring;

/// How long a daemon may take to begin, to make its socket again or to stop. A stop takes 4
/// seconds where calls are in flight.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often one looks meanwhile.
const PAUSE: Duration = Duration::from_millis(20);

/// After what time one says why it takes so long.
const SAY: Duration = Duration::from_secs(1);

/// How often a daemon that stops just then, or is started by two at once, is looked for anew.
const TRIES: u32 = 5;

/// Who works on a store.
pub(super) enum Found {
    /// A daemon.
    Daemon(Client),
    /// A run in the foreground.
    Run(Owner),
    /// Nobody.
    Nobody,
}

/// Looks who works on the store.
///
/// # Errors
/// [`Error`] where something else answers, or whoever owns the store does not.
pub(super) async fn look(settings: &Settings, screen: &Screen) -> Result<Found, Error> {
    let dir = &settings.data_dir;
    refuse_file(dir)?;
    let place = Place::of(dir);
    let began = Instant::now();
    let mut said = false;
    loop {
        if let Ok(place) = &place
            && let Some(client) = Client::connect(place, &settings.same_store).await?
        {
            return Ok(Found::Daemon(client));
        }
        let Some(owner) = owner(dir)? else {
            return Ok(Found::Nobody);
        };
        if owner.command.starts_with("aosk run") {
            return Ok(Found::Run(owner));
        }
        // Without a place for a socket the owner is one that carries out a signal.
        let path = place.as_ref().map_or(dir.as_path(), Place::path);
        if began.elapsed() > PATIENCE {
            return Err(no_socket(&owner, path));
        }
        if began.elapsed() > SAY && !said && is_daemon(&owner) {
            screen.err.wrapped(&format!(
                "The daemon (process {}) has no socket at {}: it begins or stops just now, or \
                 somebody removed it. It makes it again within {} seconds.",
                owner.os_pid,
                path.display(),
                LOOK.as_secs(),
            ));
            said = true;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A daemon of this version or a newer one that speaks the same protocol, started or put in the
/// place of an older one where there is none. Says whether it was started.
pub(super) async fn ensure(
    settings: &Settings,
    launch: Launch,
    screen: &Screen,
) -> Result<(Client, bool), Error> {
    let dir = &settings.data_dir;
    // Where no socket can be, nothing is begun.
    Place::of(dir)?;
    let mut started = false;
    for _ in 0..TRIES {
        match look(settings, screen).await? {
            Found::Daemon(client) => {
                if accepts(&client, screen)? {
                    return Ok((client, started));
                }
                let os_pid = client.daemon.os_pid;
                client.stop().await?;
                wait_until_gone(dir, os_pid).await?;
            }
            Found::Run(owner) => return Err(wiring::owned(&owner, &settings.same_store)),
            Found::Nobody => match launch::start(settings, launch, screen).await {
                Ok(()) => started = true,
                // Somebody else was faster.
                Err(error) if error.code == Code::StoreOwned => {}
                Err(error) => return Err(error),
            },
        }
    }
    Err(Error::new(Code::CliDaemon, format!("no daemon stays: {TRIES} have come and gone"))
        .help("why is in logs/aosk.log of the data folder"))
}

/// Whether this program may use that daemon; if not, it is to be replaced.
fn accepts(client: &Client, screen: &Screen) -> Result<bool, Error> {
    let (os_pid, build, same) = (client.daemon.os_pid, &client.daemon.build, &client.same);
    let own = crate::version::LINE;
    match client.compare()? {
        Compared::Same => {}
        Compared::OtherBuild => screen.err.wrapped(&format!(
            "The daemon (process {os_pid}) is another build, {build}; this is {own}. `aosk daemon \
             stop{same}` lets the next command start this one."
        )),
        Compared::Newer => screen.err.wrapped(&format!(
            "The daemon (process {os_pid}) is newer, aosk {build}; this is {own}. It is left as it \
             is."
        )),
        Compared::Older => {
            screen.err.wrapped(&format!(
                "Replaces the daemon (process {os_pid}) of aosk {build} between two steps; this is \
                 {own}."
            ));
            return Ok(false);
        }
        Compared::Foreign => return Err(foreign(client)),
    }
    Ok(true)
}

/// The error for a daemon that is too new to speak with.
pub(super) fn foreign(client: &Client) -> Error {
    let daemon = &client.daemon;
    Error::new(
        Code::CliDaemon,
        format!(
            "the daemon (process {}) is aosk {}, whose protocol {} this aosk {} does not speak",
            daemon.os_pid,
            daemon.build,
            daemon.protocol,
            crate::version::LINE
        ),
    )
    .help(format!(
        "use the newer program, or stop its daemon first: aosk daemon stop{}",
        client.same
    ))
}

/// Waits until that process no longer owns the store.
pub(super) async fn wait_until_gone(dir: &Path, os_pid: u32) -> Result<(), Error> {
    let began = Instant::now();
    while let Some(owner) = owner(dir)? {
        if owner.os_pid != os_pid {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(Error::new(
                Code::CliDaemon,
                format!("the daemon (process {os_pid}) was asked to stop and has not yet"),
            )
            .help(format!("to end it at once, which loses nothing: kill -KILL {os_pid}")));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

fn no_socket(owner: &Owner, path: &Path) -> Error {
    let Owner { os_pid, command, .. } = owner;
    Error::new(
        Code::CliDaemon,
        format!(
            "process {os_pid} ({command}) owns the store and does not answer at {}",
            path.display()
        ),
    )
    .help(format!("it stops between two steps with: kill -TERM {os_pid}"))
    .help("what it does is in logs/aosk.log of the data folder")
}
