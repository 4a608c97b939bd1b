//! A kernel on real devices: the store, the tools, the sandbox and the clock of this machine.
//!
//! `aosk run`, the daemon and whoever carries out one signal in place run the same kernel. They
//! differ in the models that they connect, in who watches, and in what may come in.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use aosk_abi::{Code, Tenant};
use aosk_kernel::{Kernel, Options, OsRandom, Parts, Redactor, Stop, SystemClock};
use aosk_ports::{Sandbox, SandboxError};
use aosk_sandbox::{NoFiles, Workspace};
use aosk_store::{Flight, Options as StoreOptions, Owner, SqliteStore, owner};
use aosk_tools::Registry;

use crate::config::Settings;
use crate::error::Error;
use crate::processes::refuse_file;
use crate::{daemon, diagnostics, version};

/// Opens the store as its owner. `command` says to others what owns it.
pub(crate) fn own_store(
    settings: &Settings,
    command: &str,
    secrets: &Redactor,
) -> Result<Arc<SqliteStore>, Error> {
    let Settings { data_dir: dir, same_store: same, .. } = settings;
    refuse_file(dir)?;
    let command = secrets.text(command).into_owned();
    let options = StoreOptions { dir: dir.to_owned(), command };
    let store = SqliteStore::open(&options).map(Arc::new).map_err(|error| {
        let error = Error::from(error);
        match error.code {
            Code::StoreOwned => help_owned(error, owner(dir).ok().flatten().as_ref(), same),
            _ => error,
        }
    })?;
    diagnostics::keep_in(dir);
    tracing::info!(target: diagnostics::TOLD, "aosk {} began: {}", version::LINE, options.command);
    Ok(store)
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

/// What a kernel on that store is built from, with neither models nor anyone who watches.
pub(crate) fn parts(store: Arc<SqliteStore>, secrets: Redactor) -> Parts {
    Parts {
        store,
        models: HashMap::new(),
        alternatives: HashMap::new(),
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
    settings: &Settings,
    secrets: Redactor,
) -> Result<usize, Error> {
    let store = own_store(settings, "aosk store restore", &secrets)?;
    let kernel = Kernel::start(parts(store, secrets), options()).map_err(kernel_error)?;
    let settled = kernel.settle_restored().await.map_err(kernel_error);
    kernel.stop(Stop::Graceful);
    kernel.quiet().await;
    settled
}

/// The options of a kernel of this program.
pub(crate) fn options() -> Options {
    let host = rustix::system::uname();
    let instance = format!("{}/{}", host.nodename().to_string_lossy(), std::process::id());
    Options::new(Tenant::local(), instance)
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
