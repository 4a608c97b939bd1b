//! New agents: read, checked, connected, spawned.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aosk_abi::{Code, Manifest};
use aosk_kernel::{Redactor, Spawn};
use aosk_tools::Registry;

use super::endpoints::Endpoints;
use super::watch::Watch;
use super::{Machine, kernel_error, own_store, start_kernel};
use crate::args::Run;
use crate::config::Settings;
use crate::error::Error;
use crate::manifest::{self, line_of};
use crate::print::Screen;
use crate::processes::Processes;
use crate::task;

/// An agent that was asked for.
pub(super) struct Wanted {
    manifest: Manifest,
    task: String,
    /// Where the manifest stands, for what is found wrong with it later.
    path: PathBuf,
}

/// Reads the manifests and the task.
pub(super) fn read(args: &Run) -> Result<Vec<Wanted>, Error> {
    let given = args.task.as_deref().map(task::given).transpose()?;
    let tools = Registry::builtin();
    let first = args.agent.as_ref().map(PathBuf::from);
    let mut wanted = Vec::new();
    for (index, path) in first.iter().chain(&args.with).enumerate() {
        let mut manifest = manifest::read(path, &args.allow_workspace, &tools)?;
        // The task of the command line is the first agent's; for others it stands in for their own.
        let own = manifest.task.take().filter(|_| index > 0 || given.is_none());
        let Some(task) = own.or_else(|| given.clone()) else {
            return Err(Error::new(Code::KernelTask, "no task is given and the manifest has none")
                .at(path, None)
                .help(format!("say what to do: aosk run {} \"…\"", path.display())));
        };
        wanted.push(Wanted { manifest, task: task::check(task)?, path: path.clone() });
    }
    Ok(wanted)
}

/// Connects the models, starts a kernel and spawns the agents.
pub(super) async fn start(
    args: &Run,
    wanted: Vec<Wanted>,
    settings: &Settings,
    endpoints: &Endpoints,
    secrets: Redactor,
    screen: &Arc<Screen>,
) -> Result<Option<Machine>, Error> {
    let mut spawns = Vec::with_capacity(wanted.len());
    let mut paths = Vec::with_capacity(wanted.len());
    for Wanted { manifest, task, path } in wanted {
        paths.push(path);
        let model = match (&args.cassette, args.model.as_ref().or(manifest.model.as_ref())) {
            (Some(cassette), _) => endpoints.play(cassette)?.0,
            (None, Some(named)) => named.clone(),
            (None, None) => endpoints.default_model(settings)?,
        };
        spawns.push(Spawn { manifest, model, task, alias: None, parent: None });
    }
    for spawn in &spawns {
        refuse_secrets(spawn, &secrets)?;
    }
    if args.cassette.is_none() {
        endpoints.check(spawns.iter().map(|spawn| spawn.model.as_str()))?;
    }
    let what = args.agent.as_ref().map(|agent| agent.to_string_lossy()).unwrap_or_default();
    let store = own_store(&settings.data_dir, &what, &secrets)?;
    let connected =
        endpoints.connect(spawns.iter().map(|spawn| spawn.model.as_str()), args).await?;
    if let Some(error) = connected.failed.into_values().next() {
        return Err(error);
    }
    let unfinished = Processes::read(store.as_ref()).await?.unfinished().count();
    if unfinished > 0 {
        screen.err.wrapped(&format!(
            "{}; `aosk ps` lists them, `aosk run --resume` goes on with them.",
            match unfinished {
                1 => "1 agent of earlier runs is unfinished".to_owned(),
                many => format!("{many} agents of earlier runs are unfinished"),
            }
        ));
    }
    screen.err.wrapped(&format!(
        "This run may spend {} ({}).",
        settings.max_spend, settings.max_spend_from
    ));
    let (board, watch) = Watch::begin(args.json, store.clone(), screen);
    let kernel = start_kernel(&store, connected.models, &board, settings.max_spend, secrets)?;
    for (spawn, path) in spawns.iter().zip(&paths) {
        kernel
            .check(&spawn.manifest, &spawn.model)
            .map_err(|error| at_manifest(kernel_error(error), path))?;
    }
    let mut pids = Vec::with_capacity(spawns.len());
    for spawn in spawns {
        let (name, max_steps) = (spawn.manifest.name.clone(), spawn.manifest.max_steps);
        let pid = kernel.spawn(spawn).await.map_err(kernel_error)?;
        board.introduce(pid, &name, max_steps);
        pids.push(pid);
    }
    Ok(Some(Machine { kernel, store, board, watch, pids, refused: Vec::new() }))
}

/// The error with the line of the manifest that asks for what there is not. What can be checked
/// without an endpoint was checked when the manifest was read; what is left is a window larger than
/// the model's, which a server on this machine is the first to know.
fn at_manifest(error: Error, path: &Path) -> Error {
    if error.code != Code::Manifest {
        return error;
    }
    let line =
        std::fs::read_to_string(path).ok().and_then(|text| line_of(&text, &["context", "window"]));
    error.at(path, line)
}

/// Names stand in lists and events as they are, so they cannot be redacted: one that holds a
/// secret is refused.
fn refuse_secrets(spawn: &Spawn, secrets: &Redactor) -> Result<(), Error> {
    let manifest = &spawn.manifest;
    let names = [
        ("the agent's name", Some(&manifest.name)),
        ("the model's name", Some(&spawn.model)),
        ("the workspace", manifest.workspace.as_ref()),
    ];
    for (what, name) in names {
        if name.is_some_and(|name| secrets.text(name) != name.as_str()) {
            return Err(Error::new(
                Code::CliUsage,
                format!("{what} holds a key or another secret"),
            )
            .help("keys come from variables such as OPENAI_API_KEY"));
        }
    }
    Ok(())
}
