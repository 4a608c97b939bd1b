//! A kernel on real devices: the store, the tools, the sandbox and the clock of this machine.
//!
//! `aosk run`, the daemon and whoever carries out one signal in place run the same kernel. They
//! differ in the models that they connect, in who watches, and in what may come in.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aosk_abi::{Code, Tenant};
use aosk_kernel::{Kernel, Options, OsRandom, Parts, Redactor, Stop, SystemClock};
use aosk_ports::{FlightRecorder, Sandbox, SandboxError, Store, StoreError};
use aosk_sandbox::{NoFiles, Workspace};
use aosk_store::{
    Flight, Hold, Link, NodeId, Options as StoreOptions, Owner, PostgresOptions, PostgresStore,
    SqliteStore, owner,
};
use aosk_tools::Registry;
use tokio::sync::watch;

use crate::config::{Settings, StoreAt};
use crate::error::Error;
use crate::processes::refuse_file;
use crate::{daemon, diagnostics, version};

/// How long a program on a server waits, once it was asked to stop, for a server that does not
/// answer: calls in flight get 4 seconds before that.
const FAREWELL: Duration = Duration::from_secs(6);

/// A store with which a kernel works: alone on a file, as one node of several on a server.
pub(crate) struct Owned {
    /// The store.
    pub(crate) store: Arc<dyn Store>,
    /// Of a server: whether it answers.
    link: Option<watch::Receiver<Link>>,
    /// Of a daemon on a server: its folder on this machine, until the store is closed.
    hold: Option<Hold>,
}

impl Owned {
    /// Since when the server of the store does not answer and what was said last; `None` where it
    /// does, or the store is a file.
    pub(crate) fn outage(&self) -> Option<(SystemTime, String)> {
        match &*self.link.as_ref()?.borrow() {
            Link::Up => None,
            Link::Down { since, error } => Some((*since, error.clone())),
        }
    }

    /// Waits until a kernel that was asked to stop has waited long enough for a server; for ever
    /// where the store is a file, whose commits end by themselves.
    pub(crate) async fn patience(&self) {
        match &self.link {
            Some(_) => tokio::time::sleep(FAREWELL).await,
            None => std::future::pending().await,
        }
    }
}

/// Opens the store as its owner, or as a node of its own on a server. `command` says to others what
/// owns it.
pub(crate) fn own_store(
    settings: &Settings,
    command: &str,
    secrets: &Redactor,
) -> Result<Owned, Error> {
    let Settings { data_dir: dir, same_store: same, store, .. } = settings;
    refuse_file(dir)?;
    let command = secrets.text(command).into_owned();
    let help = |error: StoreError| {
        let error = Error::from(error);
        match error.code {
            Code::StoreOwned => help_owned(error, owner(dir).ok().flatten().as_ref(), same),
            _ => error,
        }
    };
    let owned = match store {
        StoreAt::Folder => {
            let options = StoreOptions { dir: dir.to_owned(), command: command.clone() };
            let store = Arc::new(SqliteStore::open(&options).map_err(help)?);
            Owned { store, link: None, hold: None }
        }
        StoreAt::Server(options) => {
            // Of daemons there is one a machine and store; others are nodes beside it.
            let hold = match daemon::is_command(&command) {
                true => Some(Hold::take(dir, &command).map_err(help)?),
                false => None,
            };
            let label = node_label(std::process::id(), &command);
            let options = PostgresOptions { label, ..options.as_ref().clone() };
            let store = match &hold {
                Some(_) => enter_again(&options, &dir.join(NODE))?,
                None => PostgresStore::open(&options)?,
            };
            let store = Arc::new(store);
            Owned { link: Some(store.link()), store, hold }
        }
    };
    diagnostics::keep_in(dir);
    tracing::info!(target: diagnostics::TOLD, "aosk {} began: {command}", version::LINE);
    Ok(owned)
}

/// The file in which a daemon on a server leaves its number as a node.
const NODE: &str = "node";

/// Enters a server as the next daemon of this folder. Whoever holds the folder knows that the last
/// one has ended, however that was, so its agents need not wait for the end of its lease.
fn enter_again(options: &PostgresOptions, file: &Path) -> Result<PostgresStore, Error> {
    let left = std::fs::read_to_string(file).ok();
    let store = match left.and_then(|number| number.parse::<NodeId>().ok()) {
        Some(former) => PostgresStore::open_after(options, former)?,
        None => PostgresStore::open(options)?,
    };
    if let Err(error) = std::fs::write(file, store.node().to_string()) {
        tracing::warn!("after a crash agents will wait for a lease: {}: {error}", file.display());
    }
    Ok(store)
}

/// What remembers whom a kernel executes, should it fall over. On a server that is the daemon's
/// alone: runs share its folder and not its file.
pub(crate) fn recorder(
    settings: &Settings,
    owned: &Owned,
) -> Result<Option<Arc<dyn FlightRecorder>>, Error> {
    if owned.link.is_some() && owned.hold.is_none() {
        return Ok(None);
    }
    Ok(Some(Arc::new(Flight::open(&settings.data_dir)?)))
}

/// The error that names who owns the store. `same` is what a command repeats to find it.
pub(crate) fn owned(owner: &Owner, same: &str) -> Error {
    let Owner { os_pid, command, .. } = owner;
    let message = format!("the store is owned by process {os_pid} ({command})");
    help_owned(Error::new(Code::StoreOwned, message), Some(owner), same)
}

/// The error that the store is owned, with what to do about that owner.
fn help_owned(error: Error, owner: Option<&Owner>, same: &str) -> Error {
    if owner.is_some_and(daemon::is_daemon) {
        return error
            .help(format!(
                "it goes on with every unfinished agent; `aosk spawn{same}` hands it another one"
            ))
            .help(format!(
                "to run agents in the foreground, stop it first: aosk daemon stop{same}"
            ));
    }
    error
        .help(format!("several agents can share one run: aosk run A.toml --with B.toml{same}"))
        .help(format!("or wait for its end; `aosk ps{same}` lists what it does"))
}

/// The error of a node whose processes others have taken over.
pub(crate) fn lost(same: &str) -> Error {
    Error::new(
        Code::StoreLease,
        "this node was not heard for the length of its lease, and others have taken its agents over",
    )
    .help(format!("nothing is lost, they go on there: `aosk ps{same}` shows where"))
    .help("start it again, and it comes back as a new node")
}

/// What a kernel on that store is built from, with neither models nor anyone who watches.
pub(crate) fn parts(store: Arc<dyn Store>, secrets: Redactor) -> Parts {
    Parts {
        store,
        models: HashMap::new(),
        memory: None,
        alternatives: HashMap::new(),
        spreads: HashMap::new(),
        connect: None,
        tools: Registry::builtin().into_tools(),
        sandbox: Arc::new(open_sandbox),
        clock: Arc::new(SystemClock::new()),
        random: Arc::new(OsRandom),
        observer: Arc::new(()),
        secrets,
        recorder: None,
    }
}

/// Says that the kernel on the store in `dir` ends in the middle of what it does because somebody
/// wants that: none of the processes that it executes is to blame.
pub(crate) fn end_on_purpose(dir: &Path) {
    if let Err(error) = Flight::discard(dir) {
        tracing::warn!(%error, "an agent may be blamed for this end");
    }
}

/// Sees to what was in flight when a restored store was backed up; how many tool calls that was.
pub(crate) async fn settle_restored(
    store: Arc<dyn Store>,
    secrets: Redactor,
) -> Result<usize, Error> {
    let options = Options::new(Tenant::local(), instance(std::process::id()));
    let kernel = Kernel::start(parts(store, secrets), options).map_err(kernel_error)?;
    let settled = kernel.settle_restored().await.map_err(kernel_error);
    kernel.stop(Stop::Graceful);
    kernel.quiet().await;
    settled
}

/// The options of a kernel of this program.
pub(crate) fn options(settings: &Settings) -> Options {
    let mut options = Options::new(Tenant::local(), instance(std::process::id()));
    options.sharing = settings.sharing.clone();
    options
}

/// What the kernel of a process calls itself: the machine and the number of the process.
fn instance(os_pid: u32) -> String {
    format!("{}/{os_pid}", rustix::system::uname().nodename().to_string_lossy())
}

/// What a program of this machine calls itself as a node of a server.
pub(crate) fn node_label(os_pid: u32, command: &str) -> String {
    format!("{} {command}", instance(os_pid))
}

/// The kernel's error as a user reads it.
pub(crate) fn kernel_error(error: aosk_kernel::Error) -> Error {
    Error::new(error.code(), error.to_string())
}

fn open_sandbox(workspace: Option<&str>) -> Result<Arc<dyn Sandbox>, SandboxError> {
    Ok(match workspace {
        Some(folder) => Arc::new(Workspace::open(Path::new(folder))?),
        None => Arc::new(NoFiles),
    })
}
