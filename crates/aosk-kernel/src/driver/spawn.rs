//! `spawn`: children.
//!
//! A child is a process like any other, with a journal of its own. Its parent's journal says that it
//! is about to begin, under which pid and with how much of the parent's money, before its first event
//! is written; so a crash between the two is made good and never makes a second one.
//!
//! Money nests: what a child may spend is taken out of what its parent may, and what it did not spend
//! comes back with its end.

use std::time::Duration;

use aosk_abi::{
    ChildBegun, ChildEnded, Code, Epoch, Manifest, MicroDollars, Op, Pid, ToolCall, ToolResult,
    ToolSpec, What,
};
use aosk_ports::Prices;
use serde_json::json;

use super::Driver;
use super::own::{Refused, needed, refused};
use crate::contents::Contents;
use crate::errands::Errand;
use crate::error::Error;
use crate::kernel::{Spawn, heir};

/// How many children may live at once.
const CHILDREN: usize = 64;

impl Driver {
    /// Begins a child.
    pub(super) async fn spawn(&mut self, op: Op, call: &ToolCall) -> Result<(), Error> {
        let asked = self.arguments(call).and_then(|arguments| {
            let (name, task) = (needed(&arguments, "agent")?, needed(&arguments, "task")?);
            Ok((self.described(name)?, task.to_owned()))
        });
        let (manifest, task) = match asked {
            Ok(asked) => asked,
            Err(refused) => return self.refuse(op, &refused),
        };
        let shared = self.process.shared.clone();
        let (manifest, model) =
            heir(&self.means.manifest, &manifest, &self.process.image.spawned.model);
        let begun = self.process.image.children.iter().find(|(_, child)| child.op == op);
        let begun = begun.map(|(pid, child)| (*pid, child.granted));
        let means = match (shared.find(&manifest, &model, None).await, begun) {
            (Ok(means), _) => means,
            (Err(Error::Refused { code, message }), begun) => {
                if let Some((child, _)) = begun {
                    let (answer, spent) = (None, MicroDollars::ZERO);
                    let exit = "failed".to_owned();
                    let ended = ChildEnded { child, exit, answer, spent };
                    self.process.emit(What::ChildEnded(ended))?;
                }
                let message = format!("{:?} cannot begin: {message} ({code})", manifest.name);
                let refused = refused("not_spawned", message, "go on without it");
                return self.refuse(op, &refused);
            }
            (Err(error), _) => return Err(error),
        };
        let (child, limit) = match begun {
            Some(begun) => begun,
            None => {
                let prices = means.model.device.info().prices;
                let share = self.has_room().and_then(|()| self.share(&manifest, prices));
                let limit = match share {
                    Ok(limit) => limit,
                    Err(refused) => return self.refuse(op, &refused),
                };
                let (child, name) = (shared.new_pid(), manifest.name.clone());
                let begun = ChildBegun { child, granted: limit, name, op };
                self.process.emit(What::ChildBegun(begun))?;
                self.process.commit().await?;
                shared.leased().await?;
                (child, limit)
            }
        };
        let name = manifest.name.clone();
        let parent = Some(self.process.pid());
        let request = Spawn { manifest, model, task, alias: None, parent };
        self.bear(child, request, limit, &means.specs).await?;
        let told = json!({"agent": name, "pid": child.to_string()});
        self.returned(op, &ToolResult::ok(told), Duration::ZERO)
    }

    /// Writes a child's first event, unless it is there from before a crash.
    async fn bear(
        &self,
        child: Pid,
        request: Spawn,
        limit: Option<MicroDollars>,
        specs: &[ToolSpec],
    ) -> Result<(), Error> {
        let shared = &self.process.shared;
        let (store, tenant) = (&shared.parts.store, &shared.options.tenant);
        if store.process(tenant, child).await?.is_none() {
            let contents = Contents::new(store.content_key(tenant).await?);
            let mut process = shared.begin(child, request, limit, specs, contents)?;
            match process.commit().await {
                Ok(()) => {
                    shared.errands.leave(Errand::Begin(child, Some(Epoch(1))));
                    return Ok(());
                }
                // The kernel that had the parent before was slow, and not dead.
                Err(Error::Store(error))
                    if matches!(error.code, Code::StoreConflict | Code::StoreStaleEpoch)
                        && store.process(tenant, child).await?.is_some() => {}
                Err(error) => return Err(error),
            }
        }
        self.see_to(child).await.map(drop)
    }

    /// The manifest of a child by its name.
    fn described(&self, name: &str) -> Result<Manifest, Refused> {
        let children = &self.means.manifest.children;
        let found = children.iter().find(|child| child.name == name).cloned();
        let Some(found) = found else {
            let names: Vec<_> = children.iter().map(|child| child.name.as_str()).collect();
            return Err(refused(
                "unknown_agent",
                format!("there is no agent {name:?} to spawn"),
                &format!("spawn one of: {}", names.join(", ")),
            ));
        };
        Ok(found)
    }

    /// Whether another child may live.
    fn has_room(&self) -> Result<(), Refused> {
        let living = self.process.image.children.values().filter(|child| child.end.is_none());
        if living.count() >= CHILDREN {
            return Err(refused(
                "too_many",
                format!("{CHILDREN} agents that this one began have not been waited for"),
                "wait for some of them first",
            ));
        }
        Ok(())
    }

    /// What a child may spend: what its manifest says, else half of what its parent has left, and
    /// never more than that.
    fn share(&self, child: &Manifest, prices: Prices) -> Result<Option<MicroDollars>, Refused> {
        let otherwise = self.process.shared.options.process_limit;
        let left = self.process.image.account.left(otherwise);
        let share = match (child.spend_limit(), left) {
            (own, None) => own,
            (None, Some(left)) => Some(MicroDollars(left.0 / 2)),
            (Some(own), Some(left)) if own <= left => Some(own),
            (Some(own), Some(left)) => {
                return Err(refused(
                    "no_money",
                    format!("{:?} needs {own}, and {left} is left", child.name),
                    "wait for the agents that work, or go on without it",
                ));
            }
        };
        if share == Some(MicroDollars::ZERO) && prices != Prices::default() {
            return Err(refused(
                "no_money",
                format!("nothing is left that {:?} could spend", child.name),
                "wait for the agents that work, or go on without it",
            ));
        }
        Ok(share)
    }
}
