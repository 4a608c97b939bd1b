//! An agent that was asked for: its manifest, its task, its model.

use std::path::{Path, PathBuf};

use aosk_abi::{Code, Manifest};
use aosk_kernel::Redactor;
use aosk_tools::Registry;

use crate::error::Error;
use crate::manifest::{self, line_of};
use crate::task;

/// An agent that was asked for.
pub(crate) struct Wanted {
    /// What it is; its task is taken out.
    pub(crate) manifest: Manifest,
    /// What it shall do.
    pub(crate) task: String,
    /// Where the manifest stands, for what is found wrong with it later.
    pub(crate) path: PathBuf,
}

/// Reads a manifest. Its own task goes before `otherwise` where `own_first`, else after it.
///
/// # Errors
/// [`Error`] for a manifest that cannot be used, and where there is no task.
pub(crate) fn read(
    path: &Path,
    otherwise: Option<&str>,
    own_first: bool,
    allowed: &[PathBuf],
    tools: &Registry,
) -> Result<Wanted, Error> {
    let mut manifest = manifest::read(path, allowed, tools)?;
    let own = manifest.task.take().filter(|_| own_first || otherwise.is_none());
    let Some(task) = own.or_else(|| otherwise.map(str::to_owned)) else {
        return Err(Error::new(Code::KernelTask, "no task is given and the manifest has none")
            .at(path, None)
            .help(format!("say what to do behind the manifest: … {} \"…\"", path.display())));
    };
    Ok(Wanted { manifest, task: task::check(task::For::Task, task)?, path: path.to_owned() })
}

/// What is asked for on the command line goes before what the agents that it may spawn ask for.
pub(crate) fn override_models(manifest: &mut Manifest) {
    for child in &mut manifest.children {
        child.model = None;
        override_models(child);
    }
}

/// The models that an agent and those that it may spawn ask for by name.
pub(crate) fn models<'a>(manifest: &'a Manifest, model: &'a str) -> Vec<&'a str> {
    let of_child = |child: &'a Manifest| models(child, child.model.as_deref().unwrap_or(model));
    std::iter::once(model).chain(manifest.children.iter().flat_map(of_child)).collect()
}

/// Takes secrets out of every prompt of a manifest that leaves this program.
pub(crate) fn clean(manifest: &mut Manifest, secrets: &Redactor) {
    manifest.system = secrets.text(&manifest.system).into_owned();
    manifest.children.iter_mut().for_each(|child| clean(child, secrets));
}

/// Names stand in lists and events as they are, so they cannot be redacted: one that holds a
/// secret is refused.
///
/// # Errors
/// [`Error`] with the name that holds one.
pub(crate) fn refuse_secrets(
    manifest: &Manifest,
    model: &str,
    alias: Option<&str>,
    secrets: &Redactor,
) -> Result<(), Error> {
    let names = [
        ("the agent's name", Some(manifest.name.as_str())),
        ("the model's name", Some(model)),
        ("the group", manifest.group.as_deref()),
        ("the workspace", manifest.workspace.as_deref()),
        ("the alias", alias),
    ];
    for (what, name) in names {
        if name.is_some_and(|name| secrets.text(name) != name) {
            return Err(Error::new(
                Code::CliUsage,
                format!("{what} holds a key or another secret"),
            )
            .help("keys come from variables such as OPENAI_API_KEY"));
        }
    }
    manifest.children.iter().try_for_each(|child| {
        refuse_secrets(child, child.model.as_deref().unwrap_or(model), None, secrets)
    })
}

/// The error with the line of the manifest that asks for what there is not. What can be checked
/// without an endpoint was checked when the manifest was read; what is left is a window larger than
/// the model's, which a server on this machine is the first to know.
pub(crate) fn at_manifest(error: Error, path: &Path) -> Error {
    if error.code != Code::Manifest {
        return error;
    }
    let line =
        std::fs::read_to_string(path).ok().and_then(|text| line_of(&text, &["context", "window"]));
    error.at(path, line)
}
