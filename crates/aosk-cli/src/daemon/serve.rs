//! The daemon: a kernel that takes up whatever comes, and a door.
//!
//! It begins by owning the store, so that there is one, and ends by giving up its socket first and
//! the store last: whoever finds the store free finds no socket that still answers. Everything it
//! was asked to do is in the journal or the inbox before it says so, so it may be stopped, killed
//! or replaced at any moment, and the next one goes on.

use std::sync::Arc;
use std::time::Duration;

use aosk_abi::Code;
use aosk_kernel::{Kernel, Parts, Redactor, Stop};
use aosk_ports::Embedder;
use aosk_store::Indexing;
use tokio::sync::Notify;

use super::COMMAND;
use super::activity::Activity;
use super::launch;
use super::socket::{Place, Socket};
use super::upkeep;
use super::visitor::Daemon;
use crate::args::DaemonRun;
use crate::config::{Folders, Settings};
use crate::diagnostics;
use crate::endpoints::Endpoints;
use crate::error::Error;
use crate::exit::Exit;
use crate::memory;
use crate::print::Screen;
use crate::signals::{Hangups, Signals};
use crate::wiring::{self, Owned, kernel_error, own_store};

/// How often the kernel looks into the inbox where the system cannot tell that something came.
/// Whoever posts says so; this is for those who were cut off in between.
const INBOX_POLL: Duration = Duration::from_secs(5);

/// What a daemon waits out after an error of its socket that may pass, such as too many open
/// files.
const PAUSE: Duration = Duration::from_millis(100);

/// How long those who came have to hear their answers when it stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a daemon stops.
enum Why {
    Signal,
    Asked,
    Idle,
    Lost,
}

pub(super) async fn serve(
    args: &DaemonRun,
    settings: &Settings,
    folders: &Folders,
    screen: &Screen,
) -> Result<Exit, Error> {
    let place = Place::of(&settings.data_dir)?;
    let failed =
        |what: &str, error: std::io::Error| Error::new(Code::CliDaemon, format!("{what}: {error}"));
    if args.detached {
        rustix::process::setsid().map_err(|e| failed("cannot leave the session", e.into()))?;
    }
    let (mut signals, mut hangups) = (Signals::listen()?, Hangups::listen()?);
    // It must not hold on to a folder that somebody wants to unmount or remove.
    std::env::set_current_dir("/").map_err(|error| failed("cannot stand in /", error))?;
    let endpoints = Arc::new(Endpoints::load(folders)?);
    let secrets = endpoints.redactor();
    crate::print::hide(secrets.clone());
    endpoints.check_pools(settings)?;
    let embedder = memory::embedder(settings, &endpoints)?;
    let owned = own_store(settings, COMMAND, &secrets)?;
    let mut socket = Socket::bind(place)?;
    let (daemon, memory) = begin(args, settings, owned, endpoints, (secrets, embedder))?;
    let daemon = Arc::new(daemon);
    upkeep::begin(settings, memory.clone())
        .map_err(|error| failed("the system gives no thread", error))?;
    let recovered = daemon.kernel.recover().await.map_err(kernel_error)?.len();
    say(screen, &format!("listens; goes on with {recovered} agents"));
    if args.detached {
        launch::let_go().map_err(|error| failed("cannot leave standard error", error))?;
    }

    let why = {
        let mut ceased = std::pin::pin!(
            daemon.activity.ceased(&daemon.kernel, Duration::from_secs(args.idle_stop.into()))
        );
        loop {
            tokio::select! {
                biased;
                _ = signals.next() => break Why::Signal,
                () = hangups.next() => socket = mended(socket, screen),
                () = daemon.stop.notified() => break Why::Asked,
                () = daemon.kernel.lost() => break Why::Lost,
                () = socket.touched() => socket = mended(socket, screen),
                came = socket.accept() => match came {
                    Ok(stream) => drop(tokio::spawn(Arc::clone(&daemon).serve(stream))),
                    Err(error) => {
                        tracing::warn!("nobody can come in: {error}");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                () = &mut ceased => break Why::Idle,
            }
        }
    };
    say(
        screen,
        match &why {
            Why::Signal => "stops between two steps: a signal",
            Why::Asked => "stops between two steps: it was asked to",
            Why::Idle => "stops: there is nothing to do",
            Why::Lost => "stops: others have taken its agents over",
        },
    );
    drop(socket);
    daemon.kernel.stop(Stop::Graceful);
    let stopped = async {
        daemon.kernel.quiet().await;
        memory.end().await;
        daemon.activity.left(FAREWELL).await;
    };
    tokio::select! {
        biased;
        () = stopped => match why {
            Why::Lost => Err(wiring::lost(&settings.same_store)),
            Why::Signal | Why::Asked | Why::Idle => Ok(Exit::Done),
        },
        () = daemon.owned.patience() => {
            say(screen, "stops at once: the database does not answer");
            wiring::end_on_purpose(&settings.data_dir);
            std::process::exit(Exit::Failed.number().into());
        }
        signal = signals.next() => {
            daemon.kernel.stop(Stop::Now);
            say(screen, "stops at once: a second signal");
            wiring::end_on_purpose(&settings.data_dir);
            std::process::exit(signal.number().into());
        }
    }
}

/// Starts a kernel that takes up whatever comes, and what keeps the search index up.
fn begin(
    args: &DaemonRun,
    settings: &Settings,
    owned: Owned,
    endpoints: Arc<Endpoints>,
    (secrets, embedder): (Redactor, Option<Arc<dyn Embedder>>),
) -> Result<(Daemon, Indexing), Error> {
    let activity = Arc::new(Activity::new());
    let recorder = wiring::recorder(settings, &owned)?;
    let parts = wiring::parts(owned.store.clone(), secrets);
    let since = parts.clock.now().as_millis();
    let memory = memory::begin(settings, &owned, embedder);
    let parts = Parts {
        memory: Some(Arc::new(memory.clone())),
        connect: Some(endpoints.clone()),
        alternatives: endpoints.alternatives(),
        spreads: endpoints.spreads(),
        observer: activity.clone(),
        recorder,
        ..parts
    };
    let mut options = wiring::options(settings);
    options.adopts = true;
    options.inbox_poll = INBOX_POLL;
    options.process_limit = Some(settings.max_spend);
    let kernel = Kernel::start(parts, options).map_err(kernel_error)?;
    let (stop, idle_stop) = (Notify::new(), args.idle_stop);
    let daemon = Daemon { kernel, owned, endpoints, activity, stop, since, idle_stop };
    Ok((daemon, memory))
}

/// The socket, made again where somebody removed it.
fn mended(socket: Socket, screen: &Screen) -> Socket {
    if !socket.is_gone() {
        return socket;
    }
    match Socket::bind(socket.place().clone()) {
        Ok(again) => {
            say(screen, "its socket was removed; it made it again");
            again
        }
        Err(error) => {
            tracing::warn!("the socket was removed and cannot be made again: {}", error.said());
            socket
        }
    }
}

/// What a person who watches sees, and everybody finds in the log.
fn say(screen: &Screen, what: &str) {
    tracing::info!(target: diagnostics::TOLD, "the daemon {what}");
    if screen.err.is_terminal() {
        screen.err.wrapped(&format!("The daemon {what}."));
    }
}
