//! Starting a daemon that outlives whoever starts it.
//!
//! It gets a session of its own, no terminal and no folder to stand in, and keeps the environment:
//! that is where endpoints and keys come from. Until it listens, its standard error is a pipe to
//! whoever started it; the pipe's end says that it is ready or that it has died, and of what.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aosk_abi::Code;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::protocol::Refused;
use crate::args::IDLE_STOP;
use crate::config::Settings;
use crate::error::Error;
use crate::print::Screen;

/// How long a daemon may take to begin. It opens the store, which may have to be migrated.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it says when it has begun.
const READY: &str = "ready";

/// How a daemon is started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Launch {
    /// After how many seconds without anything to do it stops.
    pub(super) idle_stop: u32,
}

impl Default for Launch {
    fn default() -> Self {
        Self { idle_stop: IDLE_STOP }
    }
}

/// Starts a daemon on the store of those settings and waits until it listens.
///
/// # Errors
/// The daemon's own [`Error`], where it could not begin.
pub(super) async fn start(
    settings: &Settings,
    launch: Launch,
    screen: &Screen,
) -> Result<(), Error> {
    let Settings { base_dir, store, same_store, .. } = settings;
    let failed = |why: String| {
        Error::new(Code::CliDaemon, format!("the daemon cannot be started: {why}"))
            .help(format!("to see it fail in the foreground: aosk daemon run{same_store}"))
    };
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let mut child = Command::new(&program)
        .args(["daemon", "run", "--detached", "--idle-stop", &launch.idle_stop.to_string()])
        .arg("--data-dir")
        .arg(base_dir)
        // Not an argument: it may hold a password, and everybody can read those.
        .env("AOSK_STORE", store.variable(base_dir))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("{}: {error}", program.display())))?;
    let Some(said) = told(&mut child, PATIENCE).await else {
        let os_pid = child.id();
        return Err(failed(format!("process {os_pid} is still not ready after {PATIENCE:?}"))
            .help(format!("it may be migrating a large store; to end it: kill -TERM {os_pid}")));
    };
    let (mut ready, mut refused) = (false, None);
    for line in said.lines() {
        match serde_json::from_str::<Refused>(line) {
            Ok(why) => refused = Some(why),
            Err(_) if line == READY => ready = true,
            Err(_) => screen.err.wrapped(line),
        }
    }
    if let Some(refused) = refused {
        return Err(refused.into());
    }
    if ready {
        return Ok(());
    }
    // It has closed its standard error without a word, as those do who die.
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    Err(failed(format!("it ended at once ({status})")))
}

/// Tells whoever started this daemon that it listens, and lets go of them.
///
/// # Errors
/// Where there is no `/dev/null`.
pub(super) fn let_go() -> std::io::Result<()> {
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    // Who started it may have gone, which is no reason not to begin.
    let _ = writeln!(std::io::stderr(), "{READY}");
    rustix::stdio::dup2_stderr(null)?;
    Ok(())
}

/// What the child says on standard error until it closes that, or `None` if that takes too long.
async fn told(child: &mut Child, patience: Duration) -> Option<String> {
    let mut pipe = child.stderr.take()?;
    let (sender, receiver) = oneshot::channel();
    // A thread of its own: the program must be able to end while this waits.
    std::thread::spawn(move || {
        let mut said = Vec::new();
        // What could be read before an error is all there is to tell.
        let _ = pipe.read_to_end(&mut said);
        let _ = sender.send(String::from_utf8_lossy(&said).into_owned());
    });
    timeout(patience, receiver).await.ok()?.ok()
}
