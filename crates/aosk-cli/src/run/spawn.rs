//! New agents: read, checked, connected, spawned.

use std::path::PathBuf;

use aosk_kernel::Spawn;
use aosk_tools::Registry;

use super::{Beginning, Machine};
use crate::agent::{self, Wanted};
use crate::args::Run;
use crate::error::Error;
use crate::processes::Processes;
use crate::task;
use crate::wiring::kernel_error;

/// Reads the manifests and the task. That of the command line is the first agent's; for others it
/// stands in for their own.
pub(super) fn read(args: &Run) -> Result<Vec<Wanted>, Error> {
    let given = args.task.as_deref().map(|task| task::given(task::For::Task, task)).transpose()?;
    let tools = Registry::builtin();
    let first = args.agent.as_ref().map(PathBuf::from);
    let paths = first.iter().chain(&args.with).enumerate();
    let read = |(index, path): (usize, &PathBuf)| {
        agent::read(path, given.as_deref(), index > 0, &args.allow_workspace, &tools)
    };
    paths.map(read).collect()
}

/// Connects the models, starts a kernel and spawns the agents.
pub(super) async fn start(
    beginning: &Beginning<'_>,
    wanted: Vec<Wanted>,
) -> Result<Option<Machine>, Error> {
    let Beginning { args, settings, endpoints, secrets, screen, .. } = beginning;
    let mut spawns = Vec::with_capacity(wanted.len());
    let mut paths = Vec::with_capacity(wanted.len());
    for Wanted { mut manifest, task, path } in wanted {
        paths.push(path);
        if args.cassette.is_some() || args.model.is_some() {
            agent::override_models(&mut manifest);
        }
        let model = match (&args.cassette, args.model.as_ref().or(manifest.model.as_ref())) {
            (Some(cassette), _) => endpoints.play(cassette)?.0,
            (None, Some(named)) => named.clone(),
            (None, None) => endpoints.default_model(settings)?,
        };
        spawns.push(Spawn { manifest, model, task, alias: None, parent: None });
    }
    for spawn in &spawns {
        agent::refuse_secrets(&spawn.manifest, &spawn.model, None, secrets)?;
    }
    let asked: Vec<&str> =
        spawns.iter().flat_map(|it| agent::models(&it.manifest, &it.model)).collect();
    if args.cassette.is_none() {
        endpoints.check(asked.iter().copied())?;
    }
    let what = args.agent.as_ref().map(|agent| agent.to_string_lossy()).unwrap_or_default();
    let owned = beginning.own_store(&what)?;
    let connected = endpoints.connect(asked.iter().copied(), args).await?;
    if let Some(error) = connected.failed.into_values().next() {
        return Err(error);
    }
    // On a server others may be at work on them.
    let is_shared = owned.store.others().is_some();
    let unfinished = Processes::read(owned.store.as_ref()).await?.unfinished().count();
    if unfinished > 0 && !is_shared {
        let same = &settings.same_store;
        screen.err.wrapped(&format!(
            "{}; `aosk ps{same}` lists them, `aosk run --resume{same}` goes on with them.",
            match unfinished {
                1 => "1 agent of earlier runs is unfinished".to_owned(),
                many => format!("{many} agents of earlier runs are unfinished"),
            }
        ));
    }
    let (kernel, memory, board, watch) = beginning.start(&owned, connected.models)?;
    for (spawn, path) in spawns.iter().zip(&paths) {
        kernel
            .check(&spawn.manifest, &spawn.model)
            .await
            .map_err(|error| agent::at_manifest(kernel_error(error), path))?;
    }
    let mut pids = Vec::with_capacity(spawns.len());
    for spawn in spawns {
        let (name, max_steps) = (spawn.manifest.name.clone(), spawn.manifest.max_steps);
        let pid = kernel.spawn(spawn).await.map_err(kernel_error)?;
        board.introduce(pid, &name, max_steps);
        pids.push(pid);
    }
    Ok(Some(Machine { kernel, owned, board, watch, pids, memory, refused: Vec::new() }))
}
