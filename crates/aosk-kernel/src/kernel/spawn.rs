//! Spawning: what a manifest asks for, found, and the first event of a process.

use std::sync::Arc;

use aosk_abi::{
    Code, Epoch, Event, Hash, Manifest, MicroDollars, Pid, Record, Seq, Spawned, Tenant, ToolSpec,
    What,
};
use aosk_context::{POLICIES, policy_by_name};

use crate::contents::Contents;
use crate::driver::{Means, Own, demand_of};
use crate::error::Error;
use crate::image::Image;
use crate::process::Process;
use crate::program::Running;
use crate::shared::Shared;

/// What a new process is made of.
#[derive(Debug, Clone)]
pub struct Spawn {
    /// What it is. A relative `workspace` is relative to the current folder of the kernel.
    pub manifest: Manifest,
    /// The model that it asks; a name of [`Parts::models`](crate::Parts::models), or one that
    /// [`Parts::connect`](crate::Parts::connect) knows.
    pub model: String,
    /// The task; not empty.
    pub task: String,
    /// An external name; the pid is made from it.
    pub alias: Option<String>,
    /// Who spawns it.
    pub parent: Option<Pid>,
}

impl Shared {
    /// What the manifest asks for. `specs` are the recorded schemas of a process that was spawned
    /// before; a new one takes the tools' own, and is refused where the model cannot serve it. What
    /// was begun is not measured again: it may have come to another model, with a smaller window.
    pub(crate) async fn find(
        &self,
        manifest: &Manifest,
        model: &str,
        specs: Option<Vec<ToolSpec>>,
    ) -> Result<Means, Error> {
        let parts = &self.parts;
        let is_new = specs.is_none();
        if is_new {
            manifest.check().map_err(|error| Error::refused(Code::Manifest, error.to_string()))?;
        }
        if !Running::NAMES.contains(&manifest.program.as_str()) {
            return Err(Error::refused(
                Code::KernelUnknownProgram,
                format!(
                    "there is no program {:?}; `program` can be: {}",
                    manifest.program,
                    Running::NAMES.join(", ")
                ),
            ));
        }
        let policy = policy_by_name(&manifest.context.policy).ok_or_else(|| {
            let names: Vec<_> = POLICIES.iter().map(|policy| policy.name()).collect();
            Error::refused(
                Code::Manifest,
                format!(
                    "there is no context policy {:?}; `policy` can be: {}",
                    manifest.context.policy,
                    names.join(", ")
                ),
            )
        })?;
        let asked = model.to_owned();
        let model = self.model(model).await?;
        let info = model.device.info();
        if is_new
            && let Some(window) = manifest.context.window
            && window > info.window
        {
            return Err(Error::refused(
                Code::Manifest,
                format!(
                    "`window` is {window} tokens, and {} has {}: give at most that, or leave it out",
                    info.name, info.window
                ),
            ));
        }
        let own = manifest.tools.iter().map(|name| {
            let spec = match Own::named(name) {
                Some(own) => Some(own.spec(parts.memory.is_some())),
                None => parts.tools.get(name).map(|tool| tool.spec().clone()),
            };
            spec.ok_or_else(|| {
                let given = parts.tools.keys().map(String::as_str);
                let names: Vec<_> = given.chain(Own::NAMES.iter().copied()).collect();
                Error::refused(
                    Code::KernelUnknownTool,
                    format!("there is no tool {name:?}; `tools` can name: {}", names.join(", ")),
                )
            })
        });
        let own = own.collect::<Result<Vec<_>, _>>()?;
        let spawns = manifest.tools.iter().any(|name| Own::named(name) == Some(Own::Spawn));
        if is_new && spawns && manifest.children.is_empty() {
            return Err(Error::refused(
                Code::Manifest,
                "`tools` names `spawn`, and there is no agent that could be spawned: describe one \
                 under `[[children]]`, or leave the tool out",
            ));
        }
        let sandbox = (parts.sandbox)(manifest.workspace.as_deref())
            .map_err(|error| Error::refused(Code::ToolWorkspace, error.to_string()))?;
        let (manifest, specs) = (manifest.clone(), specs.unwrap_or(own));
        if is_new {
            let accepted = model.device.accepts(&demand_of(&manifest, &specs));
            accepted.map_err(|error| Error::refused(Code::Manifest, error.to_string()))?;
        }
        if is_new {
            for child in &manifest.children {
                let (child, model) = heir(&manifest, child, &asked);
                Box::pin(self.find(&child, &model, None)).await.map_err(|error| {
                    let name = &child.name;
                    Error::refused(error.code(), format!("the child {name:?}: {error}"))
                })?;
            }
        }
        let specs = specs.into();
        Ok(Means { manifest, asked, model, policy, specs, sandbox })
    }

    pub(crate) fn new_pid(&self) -> Pid {
        let mut random = [0; 10];
        self.parts.random.fill(&mut random);
        Pid::from_parts(self.parts.clock.now().as_millis(), random)
    }

    /// A process with its first event, which is still to be written; `limit` is what it may spend.
    pub(crate) fn begin(
        self: &Arc<Self>,
        pid: Pid,
        request: Spawn,
        limit: Option<MicroDollars>,
        specs: &[ToolSpec],
        mut contents: Contents,
    ) -> Result<Process, Error> {
        let Spawn { manifest, model, task, alias, parent } = request;
        let secrets = &self.parts.secrets;
        let json = |value: serde_json::Result<String>| {
            value.map_err(|error| Error::refused(Code::Manifest, error.to_string()))
        };
        let tools =
            if specs.is_empty() { String::new() } else { json(serde_json::to_string(specs))? };
        let manifest_text = json(serde_json::to_string(&manifest))?;
        let sealed = [&manifest_text, &manifest.system, &tools, &task]
            .map(|text| contents.seal(secrets.text(text).into_owned().into_bytes()));
        let [manifest_ref, system, tools, task] = sealed.each_ref().map(|c| c.reference());
        let spawned = Spawned {
            name: manifest.name.clone(),
            alias,
            parent,
            program: manifest.program.clone(),
            model,
            priority: manifest.priority,
            max_steps: manifest.max_steps,
            max_tool_steps: manifest.react.max_tool_steps,
            spend_limit: limit,
            manifest: manifest_ref,
            system,
            tools,
            task,
        };
        let tenant: &Tenant = &self.options.tenant;
        let event = Event::new(self.parts.clock.now(), What::Spawned(spawned));
        let record = Record::seal(tenant, pid, Seq(0), Epoch(1), Hash::ZERO, &event)?;
        let image =
            Image::begin(tenant, pid, &record).map_err(|source| Error::Fold { pid, source })?;
        Ok(Process::begun(self.clone(), image, contents, (record, sealed)))
    }
}

/// A child's manifest with what it has from its parent, and the model that it asks.
pub(crate) fn heir(parent: &Manifest, child: &Manifest, model: &str) -> (Manifest, String) {
    let mut child = child.clone();
    child.group.clone_from(&parent.group);
    if child.workspace.is_none() {
        child.workspace.clone_from(&parent.workspace);
    }
    let model = child.model.clone().unwrap_or_else(|| model.to_owned());
    (child, model)
}
