//! `aosk kill`, `stop`, `cont`, `renice` and `send`: what others leave for a process.
//!
//! It is posted to the store's inbox, durably, and taken over by whoever owns the store, so it is
//! neither lost nor done twice, whatever dies in between. Then whoever owns the store is told, and
//! one waits a moment to say what came of it. Where nobody owns the store, a kernel of the
//! command's own carries out what needs no model, on these processes and no others; the rest is a
//! daemon's.

mod report;
mod wish;

use std::ops::Range;
use std::path::Path;

use aosk_abi::{Code, Limits, Pid, Tenant};
use aosk_kernel::{Kernel, Outcome, Redactor, Stop, load};
use aosk_ports::Receipt;
use aosk_store::owner;

use crate::args;
use crate::config::{self, Folders, Settings};
use crate::daemon::{self, Hearer};
use crate::endpoints::Endpoints;
use crate::error::Error;
use crate::exit::Exit;
use crate::print::Screen;
use crate::processes::{self, Processes};
use crate::reader::{self, Reading};
use crate::task;
use crate::text::one_line;
use crate::wiring::{self, kernel_error, own_store};

use report::Report;
use wish::Whom;

pub(crate) use wish::Wish;

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

/// Tells those who wait for a quota that it was changed.
pub(crate) async fn limited(
    owner: String,
    limits: Limits,
    waiting: &[String],
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    leave(&Wish::Limit(owner, limits), waiting, settings, screen).await
}

/// Leaves for an agent what it and all that descend from it may use from now on.
pub(crate) async fn limit(
    pid: Pid,
    limits: Limits,
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    leave(&Wish::Own(limits), &[pid.to_string()], settings, screen).await
}

/// Leaves the wish for one process, which a screen has shown, and answers what to say of it. What
/// comes of it the screen shows.
pub(crate) async fn leave_one(
    wish: &Wish,
    pid: Pid,
    settings: &Settings,
    screen: &Screen,
) -> Result<String, Error> {
    let named = pid.to_string();
    let reader = reader::open(settings)?.ok_or_else(|| processes::unknown(&named))?;
    let processes = Processes::read(&*reader).await?;
    let receipt = processes.find(&named)?;
    let image = load(&*reader, &Tenant::local(), pid, None).await.map_err(kernel_error)?;
    let (short, same) = (processes.short(pid), settings.same_store.as_str());
    let otherwise = settings.max_spend;
    let whom = Whom { receipt, image: &image, short: &short, same, otherwise };
    let items = wish.items(&whom)?.into_iter().map(|item| (pid, item)).collect();
    reader.post_all(items).await?;
    let (command, name) = (wish.command(), one_line(&receipt.row.name));
    Ok(match daemon::nudge(settings, screen).await? {
        Hearer::Daemon(_) | Hearer::Run(_) | Hearer::Node(_) => {
            format!("{command}: left for {short} ({name})")
        }
        Hearer::Nobody => {
            format!("{command}: left for {short} ({name}); nobody owns the store to hear it now")
        }
    })
}

/// A process for which something is posted.
struct Told {
    /// How it stood before that.
    receipt: Receipt,
    short: String,
    /// Which of all that is posted is for it.
    items: Range<usize>,
}

/// Leaves the wish for each of the processes, all or none, and says what came of it.
async fn leave(
    wish: &Wish,
    named: &[String],
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    let (dir, same) = (&settings.data_dir, settings.same_store.as_str());
    let Some(reader) = reader::open(settings)? else {
        return Err(processes::unknown(named.first().map_or("", String::as_str)));
    };
    let processes = Processes::read(&*reader).await?;
    let mut told: Vec<Told> = Vec::new();
    let mut items = Vec::new();
    for named in named {
        let receipt = processes.find(named)?;
        let pid = receipt.pid;
        if told.iter().any(|known| known.receipt.pid == pid) {
            continue;
        }
        let image = load(&*reader, &Tenant::local(), pid, None).await.map_err(kernel_error)?;
        let short = processes.short(pid);
        let otherwise = settings.max_spend;
        let whom = Whom { receipt, image: &image, short: &short, same, otherwise };
        let wished = wish.items(&whom)?;
        if wished.is_empty() {
            continue;
        }
        let first = items.len();
        items.extend(wished.into_iter().map(|item| (pid, item)));
        told.push(Told { receipt: receipt.clone(), short, items: first..items.len() });
    }
    if told.is_empty() {
        return Ok(Exit::Done);
    }
    if !wish.needs_no_model()
        && owner(dir)?.is_none()
        && elsewhere(&*reader, &told, dir).await?.is_none()
    {
        daemon::check_place(dir)?;
    }
    let ids = reader.post_all(items).await?;
    let report = Report { wish, told: &told, ids: &ids, reader: &*reader, settings };
    let kept = |error: Error| {
        error.help("what was left for the agent is kept: whoever takes it up next hears it")
    };
    loop {
        let hearer = be_heard(wish, &told, &*reader, settings, screen).await.map_err(kept)?;
        // Whoever was told may stop before it heard.
        if let Some(waiting) = report.waiting(&hearer).await.map_err(kept)? {
            return report.say(&waiting, &hearer, screen).await;
        }
    }
}

/// Sees to it that somebody takes up what was posted.
async fn be_heard(
    wish: &Wish,
    told: &[Told],
    reader: &dyn Reading,
    settings: &Settings,
    screen: &Screen,
) -> Result<Hearer, Error> {
    loop {
        if let Some(node) = elsewhere(reader, told, &settings.data_dir).await? {
            return Ok(Hearer::Node(node));
        }
        let hearer = daemon::nudge(settings, screen).await?;
        if !matches!(hearer, Hearer::Nobody) {
            return Ok(hearer);
        }
        if !wish.needs_no_model() {
            let (os_pid, started) = daemon::hear(settings, screen).await?;
            if started {
                screen.err.wrapped(&format!(
                    "Started the daemon (process {os_pid}), which goes on with every unfinished \
                     agent."
                ));
            }
            return Ok(Hearer::Daemon(os_pid));
        }
        let nodes = reader.nodes().await?.unwrap_or_default();
        let pids = told.iter().map(|told| told.receipt.pid);
        // Those that a node has hear it there.
        let free = pids.filter(|pid| nodes.owner(*pid).is_none()).collect();
        match in_place(wish, free, settings).await {
            // Somebody came first, who will hear.
            Err(error) if error.code == Code::StoreOwned => {}
            other => return other.map(|()| Hearer::Nobody),
        }
    }
}

/// A node of the server where others than the daemon in `dir` have all of these processes; the server
/// tells them. `None` where one of them is nobody's, or that daemon's, or the store is a file.
async fn elsewhere(
    reader: &dyn Reading,
    told: &[Told],
    dir: &Path,
) -> Result<Option<String>, Error> {
    let Some(nodes) = reader.nodes().await? else {
        return Ok(None);
    };
    let own = owner(dir)?.map(|owner| wiring::node_label(owner.os_pid, &owner.command));
    let mut first = None;
    for told in told {
        match nodes.owner(told.receipt.pid) {
            Some(label) if own.as_deref() != Some(label) => first = first.or(Some(label)),
            _ => return Ok(None),
        }
    }
    Ok(first.map(str::to_owned))
}

/// Takes up what waits for these processes, and lets go of them again.
async fn in_place(wish: &Wish, pids: Vec<Pid>, settings: &Settings) -> Result<(), Error> {
    let secrets = Redactor::new(config::secret_variables());
    let owned = own_store(settings, wish.command(), &secrets)?;
    let parts = wiring::parts(owned.store.clone(), secrets);
    let kernel = Kernel::start(parts, wiring::options(settings)).map_err(kernel_error)?;
    for &pid in &pids {
        kernel.attend(pid);
    }
    let outcomes = kernel.wait_each(&pids).await;
    kernel.stop(Stop::Graceful);
    kernel.quiet().await;
    let waiting = owned.store.pending(&Tenant::local()).await?;
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
