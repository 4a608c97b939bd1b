//! `aosk run`: a kernel in the foreground.
//!
//! Everything that can be wrong is looked at before the first process is spawned: manifests, tasks,
//! tools, models, endpoints, the store. A run that cannot begin leaves nothing behind.

mod board;
mod endpoints;
mod live;
mod outcome;
mod probe;
mod resume;
mod signals;
mod spawn;
mod summary;
mod watch;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use aosk_abi::{MicroDollars, Pid, Tenant};
use aosk_kernel::{Kernel, Model, OsRandom, Parts, Redactor, Stop, SystemClock};
use aosk_ports::{Sandbox, SandboxError};
use aosk_sandbox::{NoFiles, Workspace};
use aosk_store::{Options as StoreOptions, SqliteStore};
use aosk_tools::Registry;

use crate::args::Run;
use crate::config::{Folders, Settings};
use crate::error::Error;
use crate::exit::Exit;
use crate::print::Screen;
use crate::processes::{Processes, refuse_file};
use crate::{diagnostics, version};

pub(crate) use probe::endpoints_ready;

use board::Board;
use endpoints::Endpoints;
use signals::Signals;
use watch::Watch;

/// Attempts of one model call. With back-off they take at most 7 seconds of waiting, so that a
/// person hears soon that an endpoint is down; the endpoint may still ask for longer pauses.
const ATTEMPTS: u32 = 4;

/// A kernel with what it runs.
struct Machine {
    kernel: Kernel,
    store: Arc<SqliteStore>,
    board: Arc<Board>,
    watch: Watch,
    /// The agents of this run, in the order in which they were named.
    pids: Vec<Pid>,
    /// What could not be taken up; the others run.
    refused: Vec<Error>,
}

pub(crate) async fn run(
    args: &Run,
    settings: &Settings,
    folders: &Folders,
    screen: &Arc<Screen>,
) -> Result<Exit, Error> {
    let wanted = if args.resume { None } else { Some(spawn::read(args)?) };
    let endpoints = Endpoints::load(folders)?;
    let secrets = endpoints.redactor();
    crate::print::hide(secrets.clone());

    let mut signals = Signals::listen()?;
    let start = async {
        match wanted {
            Some(wanted) => spawn::start(args, wanted, settings, &endpoints, secrets, screen).await,
            None => resume::start(args, settings, &endpoints, secrets, screen).await,
        }
    };
    let started = tokio::select! {
        biased;
        signal = signals.next() => {
            screen.err.wrapped("Interrupted. `aosk run --resume` goes on with what had begun.");
            return Ok(signal);
        }
        started = start => started?,
    };
    let Some(machine) = started else {
        return Ok(Exit::Done);
    };
    let (outcomes, interrupted) =
        until_done(&machine.kernel, &machine.pids, &mut signals, screen).await;
    machine.board.finish(&outcomes);
    machine.watch.end().await;
    let results = outcome::read(machine.store.as_ref(), outcomes).await?;
    for result in &results {
        let (name, pid) = (&result.row.name, result.pid);
        tracing::info!(target: diagnostics::TOLD, "{name} ({pid}) {}", result.state());
    }
    if !args.json {
        let processes = Processes::read(machine.store.as_ref()).await?;
        summary::print(&results, &machine.board, &processes, &settings.same_store, screen)?;
    }
    for error in results.iter().filter_map(outcome::Result::error).chain(machine.refused.clone()) {
        error.print(&screen.err);
    }
    let refused = machine.refused.iter().map(Error::exit);
    let worst = results.iter().map(outcome::Result::exit).chain(refused).max();
    let stopped = results.iter().any(outcome::Result::is_stopped);
    // The inbox task ends, and with it the last user of the store but this one.
    machine.kernel.stop(Stop::Graceful);
    Ok(match interrupted {
        Some(signal) if stopped => signal,
        _ => worst.unwrap_or(Exit::Done),
    })
}

/// Waits until the kernel has let go of every process. The first signal stops it between two
/// steps; the second ends the program, which loses no more than a crash would: nothing that was
/// acknowledged.
async fn until_done(
    kernel: &Kernel,
    pids: &[Pid],
    signals: &mut Signals,
    screen: &Screen,
) -> (Vec<(Pid, aosk_kernel::Outcome)>, Option<Exit>) {
    let mut interrupted = None;
    let mut all = std::pin::pin!(kernel.wait_each(pids));
    loop {
        tokio::select! {
            biased;
            outcomes = &mut all => return (outcomes, interrupted),
            signal = signals.next() => {
                if interrupted.is_some() {
                    kernel.stop(Stop::Now);
                    screen.err.wrapped("Stopped at once. `aosk run --resume` goes on.");
                    std::process::exit(signal.number().into());
                }
                interrupted = Some(signal);
                kernel.stop(Stop::Graceful);
                screen.err.wrapped(
                    "Stopping between two steps, within 5 seconds; once more to stop at once.",
                );
            }
        }
    }
}

/// Opens the store as its owner. `what` says to others what owns it.
fn own_store(dir: &Path, what: &str, secrets: &Redactor) -> Result<Arc<SqliteStore>, Error> {
    refuse_file(dir)?;
    let command = secrets.text(&format!("aosk run {what}")).into_owned();
    let options = StoreOptions { dir: dir.to_owned(), command };
    let store = SqliteStore::open(&options).map(Arc::new).map_err(|error| {
        let owned = error.code == aosk_abi::Code::StoreOwned;
        let error = Error::from(error);
        if owned {
            error.help("several agents can share one run: aosk run A.toml --with B.toml")
        } else {
            error
        }
    })?;
    diagnostics::keep_in(dir);
    tracing::info!(target: diagnostics::TOLD, "aosk {} began: {}", version::LINE, options.command);
    Ok(store)
}

/// Starts a kernel on that store with those models.
fn start_kernel(
    store: &Arc<SqliteStore>,
    models: HashMap<String, Model>,
    board: &Arc<Board>,
    spend_limit: MicroDollars,
    secrets: Redactor,
) -> Result<Kernel, Error> {
    let parts = Parts {
        store: store.clone(),
        models,
        tools: Registry::builtin().into_tools(),
        sandbox: Arc::new(open_sandbox),
        clock: Arc::new(SystemClock::new()),
        random: Arc::new(OsRandom),
        observer: board.clone(),
        secrets,
    };
    let host = rustix::system::uname();
    let instance = format!("{}/{}", host.nodename().to_string_lossy(), std::process::id());
    let mut options = aosk_kernel::Options::new(Tenant::local(), instance);
    options.spend_limit = Some(spend_limit);
    options.retry.attempts = ATTEMPTS;
    Kernel::start(parts, options).map_err(kernel_error)
}

fn open_sandbox(workspace: Option<&str>) -> Result<Arc<dyn Sandbox>, SandboxError> {
    Ok(match workspace {
        Some(folder) => Arc::new(Workspace::open(Path::new(folder))?),
        None => Arc::new(NoFiles),
    })
}

fn kernel_error(error: aosk_kernel::Error) -> Error {
    Error::new(error.code(), error.to_string())
}
