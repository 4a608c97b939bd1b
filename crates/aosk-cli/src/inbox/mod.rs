//! `aosk kill`, `stop`, `cont`, `renice` and `send`: what others leave for a process.
//!
//! It is posted to the store's inbox, durably, and taken over by whoever owns the store, so it is
//! neither lost nor done twice, whatever dies in between. Then whoever owns the store is told, and
//! one waits a moment to say what came of it. Where nobody owns the store, a kernel of the
//! command's own carries out what needs no model, on these processes and no others; the rest is a
//! daemon's.

mod wish;

use std::path::Path;
use std::time::{Duration, Instant};

use aosk_abi::{Code, Pid, Tenant};
use aosk_kernel::{Kernel, Outcome, Redactor, Stop, load};
use aosk_ports::{Inbox, InboxId, Journal, Receipt};
use aosk_store::{Owner, SqliteReader, owner};

use crate::args;
use crate::config::{self, Folders, Settings};
use crate::daemon::{self, Hearer};
use crate::endpoints::Endpoints;
use crate::error::Error;
use crate::exit::Exit;
use crate::print::Screen;
use crate::processes::{self, Processes};
use crate::task;
use crate::text::one_line;
use crate::wiring::{self, kernel_error, own_store};

use wish::Wish;

/// How long one waits to say what came of it. Who works on a process takes over what comes within
/// milliseconds, between two calls.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often one looks meanwhile.
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) async fn kill(
    args: &args::Kill,
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    leave(&Wish::Kill, &args.pids, settings, screen).await
}

pub(crate) async fn stop(
    args: &args::Stop,
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    leave(&Wish::Stop, &args.pids, settings, screen).await
}

pub(crate) async fn cont(
    args: &args::Cont,
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    leave(&Wish::Cont { limit: args.max_spend_usd }, &args.pids, settings, screen).await
}

pub(crate) async fn renice(
    args: &args::Renice,
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    leave(&Wish::Renice(args.priority), &args.pids, settings, screen).await
}

pub(crate) async fn send(
    args: &args::Send,
    settings: &Settings,
    folders: &Folders,
    screen: &Screen,
) -> Result<Exit, Error> {
    let text = task::given(task::For::Message, &args.text)?;
    // The inbox is on the disk, too.
    let secrets = Endpoints::load(folders)?.redactor();
    crate::print::hide(secrets.clone());
    let wish = Wish::Send(secrets.text(&text).into_owned());
    leave(&wish, std::slice::from_ref(&args.pid), settings, screen).await
}

/// A process for which something was posted.
struct Told {
    receipt: Receipt,
    short: String,
    items: Vec<InboxId>,
}

/// Leaves the wish for each of the processes, all or none, and says what came of it.
async fn leave(
    wish: &Wish,
    named: &[String],
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    let dir = &settings.data_dir;
    let Some(reader) = processes::open(dir)? else {
        return Err(processes::unknown(named.first().map_or("", String::as_str)));
    };
    let processes = Processes::read(&reader).await?;
    let mut wanted: Vec<(&Receipt, _)> = Vec::new();
    for named in named {
        let receipt = processes.find(named)?;
        if wanted.iter().any(|(known, _)| known.pid == receipt.pid) {
            continue;
        }
        let image =
            load(&reader, &Tenant::local(), receipt.pid, None).await.map_err(kernel_error)?;
        let items =
            wish.items(receipt, &image, &processes.short(receipt.pid), &settings.same_store)?;
        wanted.push((receipt, items));
    }
    if !wish.needs_no_model() && owner(dir)?.is_none() {
        daemon::check_place(dir)?;
    }
    let mut told = Vec::with_capacity(wanted.len());
    for (receipt, items) in wanted {
        let mut posted = Vec::with_capacity(items.len());
        for item in items {
            posted.push(reader.post(&Tenant::local(), receipt.pid, item).await?);
        }
        let short = processes.short(receipt.pid);
        told.push(Told { receipt: receipt.clone(), short, items: posted });
    }
    let hearer = be_heard(wish, &told, dir, screen).await.map_err(|error| {
        error.help("what was left for the agent is kept: whoever takes it up next hears it")
    })?;
    report(wish, &told, &reader, &hearer, screen).await
}

/// Sees to it that somebody takes up what was posted.
async fn be_heard(
    wish: &Wish,
    told: &[Told],
    dir: &Path,
    screen: &Screen,
) -> Result<Hearer, Error> {
    loop {
        let hearer = daemon::nudge(dir, screen).await?;
        if !matches!(hearer, Hearer::Nobody) {
            return Ok(hearer);
        }
        if !wish.needs_no_model() {
            let (os_pid, started) = daemon::hear(dir, screen).await?;
            if started {
                screen.err.wrapped(&format!(
                    "Started the daemon (process {os_pid}), which goes on with every unfinished \
                     agent."
                ));
            }
            return Ok(Hearer::Daemon(os_pid));
        }
        let pids = told.iter().map(|told| told.receipt.pid);
        match in_place(wish, pids.collect(), dir).await {
            // Somebody came first, who will hear.
            Err(error) if error.code == Code::StoreOwned => {}
            other => return other.map(|()| Hearer::Nobody),
        }
    }
}

/// Takes up what waits for these processes, and lets go of them again.
async fn in_place(wish: &Wish, pids: Vec<Pid>, dir: &Path) -> Result<(), Error> {
    let secrets = Redactor::new(config::secret_variables());
    let store = own_store(dir, wish.command(), &secrets)?;
    let parts = wiring::parts(store.clone(), secrets);
    let kernel = Kernel::start(parts, wiring::options()).map_err(kernel_error)?;
    for &pid in &pids {
        kernel.attend(pid);
    }
    let outcomes = kernel.wait_each(&pids).await;
    kernel.stop(Stop::Graceful);
    kernel.quiet().await;
    let waiting = store.pending(&Tenant::local()).await?;
    for (pid, outcome) in outcomes {
        // One that could go on breaks for want of a model, after it took what came for it.
        if let Outcome::Broken { code, message } = outcome
            && waiting.iter().any(|(whose, ..)| *whose == pid)
        {
            return Err(Error::new(code, message));
        }
    }
    Ok(())
}

/// Says for each process what came of the wish, or when that will be.
async fn report(
    wish: &Wish,
    told: &[Told],
    reader: &SqliteReader,
    hearer: &Hearer,
    screen: &Screen,
) -> Result<Exit, Error> {
    let began = Instant::now();
    let mut waiting = loop {
        let pending = reader.pending(&Tenant::local()).await?;
        let waits = |told: &&Told| pending.iter().any(|(_, id, _)| told.items.contains(id));
        let waiting: Vec<Pid> = told.iter().filter(waits).map(|told| told.receipt.pid).collect();
        if waiting.is_empty() || began.elapsed() > PATIENCE {
            break waiting;
        }
        tokio::time::sleep(PAUSE).await;
    };
    waiting.sort_unstable();
    for Told { receipt, short, .. } in told {
        let name = one_line(&receipt.row.name);
        let said = if waiting.binary_search(&receipt.pid).is_ok() {
            later(hearer)
        } else {
            let now = reader.process(&Tenant::local(), receipt.pid).await?;
            wish.done(&now.map_or(receipt.row.state.clone(), |now| now.row.state))
        };
        screen.out.line(&format!("{short} ({name}) {said}"))?;
    }
    Ok(Exit::Done)
}

/// When what waits in the inbox is heard.
fn later(hearer: &Hearer) -> String {
    match hearer {
        Hearer::Daemon(os_pid) => {
            format!("hears it when the daemon (process {os_pid}) has it in memory")
        }
        Hearer::Run(Owner { os_pid, command, .. }) => format!(
            "hears it later: process {os_pid} ({command}) owns the store and does not work on it"
        ),
        Hearer::Nobody => "hears it when it is taken up".to_owned(),
    }
}
