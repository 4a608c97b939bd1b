//! `aosk run`: a kernel in the foreground.
//!
//! Everything that can be wrong is looked at before the first process is spawned: manifests, tasks,
//! tools, models, endpoints, the store. A run that cannot begin leaves nothing behind.

mod board;
mod live;
mod outcome;
mod resume;
mod spawn;
mod summary;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;

use aosk_abi::Pid;
use aosk_kernel::{Kernel, Model, Parts, Redactor, Stop};
use aosk_ports::{Embedder, Standing};
use aosk_store::Indexing;

use crate::args::Run;
use crate::config::{Folders, Settings};
use crate::diagnostics;
use crate::endpoints::Endpoints;
use crate::error::Error;
use crate::exit::Exit;
use crate::memory;
use crate::print::Screen;
use crate::processes::Processes;
use crate::signals::Signals;
use crate::wiring::{self, Owned, kernel_error, own_store};

use board::Board;
use watch::Watch;

/// Attempts of one model call. With back-off they take at most 7 seconds of waiting, so that a
/// person hears soon that an endpoint is down; the endpoint may still ask for longer pauses.
const ATTEMPTS: u32 = 4;

/// What a run is begun with.
struct Beginning<'a> {
    args: &'a Run,
    settings: &'a Settings,
    endpoints: Arc<Endpoints>,
    secrets: Redactor,
    embedder: Option<Arc<dyn Embedder>>,
    screen: &'a Arc<Screen>,
}

/// A kernel with what it runs.
struct Machine {
    kernel: Kernel,
    owned: Owned,
    board: Arc<Board>,
    watch: Watch,
    /// The agents of this run, in the order in which they were named.
    pids: Vec<Pid>,
    /// What keeps the search index up.
    memory: Indexing,
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
    let endpoints = Arc::new(Endpoints::load(folders)?);
    let secrets = endpoints.redactor();
    crate::print::hide(secrets.clone());
    endpoints.check_pools(settings)?;

    let embedder = memory::embedder(settings, &endpoints)?;
    let beginning = Beginning { args, settings, endpoints, secrets, embedder, screen };

    let mut signals = Signals::of_terminal()?;
    let start = async {
        match wanted {
            Some(wanted) => spawn::start(&beginning, wanted).await,
            None => resume::start(&beginning).await,
        }
    };
    let started = tokio::select! {
        biased;
        signal = signals.next() => {
            let same = &settings.same_store;
            screen.err.wrapped(&format!(
                "Interrupted. `aosk run --resume{same}` goes on with what had begun."
            ));
            return Ok(signal);
        }
        started = start => started?,
    };
    let Some(machine) = started else {
        return Ok(Exit::Done);
    };
    let (outcomes, interrupted) = until_done(&machine, &mut signals, settings, screen).await;
    machine.board.finish(&outcomes);
    machine.watch.end().await;
    let results = outcome::read(machine.owned.store.as_ref(), outcomes).await?;
    for result in &results {
        let (name, pid) = (&result.row.name, result.pid);
        tracing::info!(target: diagnostics::TOLD, "{name} ({pid}) {}", result.state());
    }
    if !args.json {
        let processes = Processes::read(machine.owned.store.as_ref()).await?;
        let said =
            summary::print(&results, &machine.board, &processes, &settings.same_store, screen);
        // A terminal that went away shows nothing any more.
        if interrupted != Some(Exit::HungUp) {
            said?;
        }
    }
    let same = &settings.same_store;
    let failed = results.iter().filter_map(|result| result.error(same));
    for error in failed.chain(machine.refused.clone()) {
        error.print(&screen.err);
    }
    let lost = (machine.kernel.standing() == Standing::Lost).then(|| wiring::lost(same));
    lost.iter().for_each(|error| error.print(&screen.err));
    let refused = machine.refused.iter().chain(&lost).map(Error::exit);
    let worst = results.iter().map(outcome::Result::exit).chain(refused).max();
    let stopped = results.iter().any(outcome::Result::is_stopped);
    // The inbox task ends, and with it the last user of the store but this one.
    machine.kernel.stop(Stop::Graceful);
    machine.kernel.quiet().await;
    machine.memory.end().await;
    Ok(match interrupted {
        Some(signal) if stopped => signal,
        _ => worst.unwrap_or(Exit::Done),
    })
}

/// Waits until the kernel has let go of every process. The first signal stops it between two
/// steps; the second ends the program, which loses no more than a crash would: nothing that was
/// acknowledged.
async fn until_done(
    Machine { kernel, owned, pids, .. }: &Machine,
    signals: &mut Signals,
    settings: &Settings,
    screen: &Screen,
) -> (Vec<(Pid, aosk_kernel::Outcome)>, Option<Exit>) {
    let mut interrupted = None;
    let mut all = std::pin::pin!(kernel.wait_each(pids));
    loop {
        tokio::select! {
            biased;
            outcomes = &mut all => return (outcomes, interrupted),
            signal = patience(owned, interrupted) => at_once(kernel, settings, screen, signal),
            signal = signals.next() => {
                if interrupted.is_some() {
                    at_once(kernel, settings, screen, signal);
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

/// Answers the signal by which the run was asked to stop once a server was waited for long enough.
async fn patience(owned: &Owned, interrupted: Option<Exit>) -> Exit {
    match interrupted {
        Some(signal) => {
            owned.patience().await;
            signal
        }
        None => std::future::pending().await,
    }
}

/// Ends the program as a crash would.
fn at_once(kernel: &Kernel, settings: &Settings, screen: &Screen, signal: Exit) -> ! {
    kernel.stop(Stop::Now);
    let same = &settings.same_store;
    let goes_on = format!("`aosk run --resume{same}` goes on");
    screen.err.wrapped(&format!("Stopped at once. {goes_on}."));
    wiring::end_on_purpose(&settings.data_dir);
    std::process::exit(signal.number().into());
}

impl Beginning<'_> {
    /// Opens the store as its owner; `what` names what is run.
    fn own_store(&self, what: &str) -> Result<Owned, Error> {
        own_store(self.settings, &format!("aosk run {what}"), &self.secrets)
    }

    /// Says what the run may spend, and starts its kernel with those models, what keeps the search
    /// index up, and what shows it to the user. A model that fails for good may have alternatives, which are connected when they
    /// are needed; a cassette is of one model and knows no others.
    fn start(
        &self,
        owned: &Owned,
        models: HashMap<String, Model>,
    ) -> Result<(Kernel, Indexing, Arc<Board>, Watch), Error> {
        let Self { args, settings, endpoints, secrets, embedder, screen } = self;
        screen.err.wrapped(&format!(
            "This run may spend {} ({}).",
            settings.max_spend, settings.max_spend_from
        ));
        let (board, watch) = Watch::begin(args.json, owned.store.clone(), screen);
        let parts = wiring::parts(owned.store.clone(), secrets.clone());
        let recorder = wiring::recorder(settings, owned)?;
        let memory = memory::begin(settings, owned, embedder.clone());
        let mut parts = Parts {
            memory: Some(Arc::new(memory.clone())),
            models,
            observer: board.clone(),
            recorder,
            ..parts
        };
        if args.cassette.is_none() && args.record.is_none() {
            parts.alternatives = endpoints.alternatives();
            parts.spreads = endpoints.spreads();
            parts.connect = Some(endpoints.clone());
        }
        let mut options = wiring::options(settings);
        options.spend_limit = Some(settings.max_spend);
        options.retry.attempts = ATTEMPTS;
        let kernel = Kernel::start(parts, options).map_err(kernel_error)?;
        Ok((kernel, memory, board, watch))
    }
}
