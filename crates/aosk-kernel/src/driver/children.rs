//! `spawn` and `wait`: children.
//!
//! A child is a process like any other, with a journal of its own. Its parent's journal says that it
//! is about to begin, under which pid and with how much of the parent's money, before its first event
//! is written; so a crash between the two is made good and never makes a second one. How it ended is
//! read from the child's journal when the parent looks, and written into the parent's once.
//!
//! Money nests: what a child may spend is taken out of what its parent may, and what it did not spend
//! comes back with its end.

use std::time::Duration;

use aosk_abi::{
    Blocked, BlockedOn, ChildBegun, ChildEnded, Code, Content, Epoch, Exit, Manifest, MicroDollars,
    Op, Pid, ProcessState, Seq, ToolCall, ToolResult, What,
};
use aosk_ports::{Prices, Receipt};
use serde_json::json;

use super::own::{Refused, needed, refused, seconds, text};
use super::{Driver, Ended};
use crate::contents::Contents;
use crate::errands::Errand;
use crate::error::Error;
use crate::image::{Child, End};
use crate::kernel::{Spawn, heir};
use crate::process::Rest;

/// How many children may live at once.
const CHILDREN: usize = 64;

/// How many events of a child are searched at once for the one that brought its answer.
const CHUNK: usize = 1024;

/// What an answer takes in a result beside its text, in bytes.
const AROUND: usize = 256;

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
                let limit = match self.share(&manifest, means.model.device.info().prices) {
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
        specs: &[aosk_abi::ToolSpec],
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

    /// Waits for the ends of children.
    pub(super) async fn wait_for_children(
        &mut self,
        op: Op,
        call: &ToolCall,
    ) -> Result<Option<Ended>, Error> {
        let (children, begun) = match self.waits_in(op).map(|waits| &waits.on) {
            Some(BlockedOn::Child { children, .. }) => (children.clone(), None),
            _ => {
                let asked = self.arguments(call).and_then(|arguments| {
                    let children = self.awaited(text(&arguments, "agent")?)?;
                    Ok((children, seconds(&arguments, "timeout_s")?))
                });
                match asked {
                    Ok((children, seconds)) => {
                        let until = seconds.map(|seconds| self.until(seconds));
                        let on = BlockedOn::Child { children: children.clone(), until };
                        (children, Some(on))
                    }
                    Err(refused) => return self.refuse(op, &refused).map(|()| None),
                }
            }
        };
        let shared = self.process.shared.clone();
        shared.errands.await_ends(self.process.pid(), &children);
        let mut is_elsewhere = false;
        for child in &children {
            is_elsewhere |= self.look_at(*child).await?;
        }
        let image = &self.process.image;
        let ends: Option<Vec<_>> = children
            .iter()
            .map(|pid| {
                let Child { name, end, .. } = image.children.get(pid)?;
                Some((*pid, name.clone(), end.clone()?))
            })
            .collect();
        if let Some(ends) = ends {
            let result = self.report(ends).await?;
            return self.returned(op, &result, Duration::ZERO).map(|()| None);
        }
        let ended = self.rest(op, begun).await?;
        // Another node does not tell this one when a child ends there.
        let round = shared.parts.store.others().filter(|_| is_elsewhere);
        Ok(match (ended, round) {
            (Some(Ended::Asleep(left, until)), Some(round)) if left <= round => {
                Some(Ended::Asleep(left, until))
            }
            (Some(Ended::Asleep(..) | Ended::Waiting(_)), Some(round)) => {
                let millis = u64::try_from(round.as_millis()).unwrap_or(u64::MAX);
                let look = shared.parts.clock.now().plus_millis(millis);
                Some(Ended::Asleep(round, look))
            }
            (ended, _) => ended,
        })
    }

    /// Where children have some of the process's money: takes back what those leave over that have
    /// ended, or waits for those that have not. Whether there are any.
    pub(super) async fn awaits_money(&mut self) -> Result<bool, Error> {
        let owing: Vec<Pid> = self.process.image.account.granted.keys().copied().collect();
        if owing.is_empty() {
            return Ok(false);
        }
        self.process.shared.errands.await_ends(self.process.pid(), &owing);
        for child in &owing {
            self.look_at(*child).await?;
        }
        let still: Vec<Pid> = self.process.image.account.granted.keys().copied().collect();
        if still == owing {
            let on = BlockedOn::Child { children: still, until: None };
            self.process.emit(What::Blocked(Blocked { on: on.clone(), op: None }))?;
            self.rests = Some(Ended::Waiting(on));
        }
        Ok(true)
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
        let living = self.process.image.children.values().filter(|child| child.end.is_none());
        if living.count() >= CHILDREN {
            return Err(refused(
                "too_many",
                format!("{CHILDREN} agents that this one began have not been waited for"),
                "wait for some of them first",
            ));
        }
        Ok(found)
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

    /// The children that a call waits for.
    fn awaited(&self, named: Option<&str>) -> Result<Vec<Pid>, Refused> {
        let children = &self.process.image.children;
        let Some(named) = named.map(str::trim) else {
            let living: Vec<Pid> =
                children.iter().filter(|(_, it)| it.end.is_none()).map(|(pid, _)| *pid).collect();
            if living.is_empty() {
                return Err(refused(
                    "no_children",
                    "no agent that this one began is still to be waited for".to_owned(),
                    "spawn one, or name one to read its answer again",
                ));
            }
            return Ok(living);
        };
        let pid = named.parse::<Pid>().ok();
        let found: Vec<Pid> = children
            .iter()
            .filter(|(child, it)| pid == Some(**child) || it.name == named)
            .map(|(child, _)| *child)
            .collect();
        // Of several with the name those that were not waited for yet are meant.
        let living =
            found.iter().filter(|pid| children.get(pid).is_some_and(|it| it.end.is_none()));
        let living: Vec<Pid> = living.copied().collect();
        match (found.is_empty(), living.is_empty()) {
            (true, _) => Err(refused(
                "unknown_agent",
                format!("this agent began none that is called {named:?}"),
                "give the name or pid of one that it began, or none to wait for all",
            )),
            (false, true) => Ok(found),
            (false, false) => Ok(living),
        }
    }

    /// Writes the end of a child down, if it has ended; whether it lives on another node.
    async fn look_at(&mut self, child: Pid) -> Result<bool, Error> {
        if self.process.image.children.get(&child).is_none_or(|known| known.end.is_some()) {
            return Ok(false);
        }
        let shared = self.process.shared.clone();
        let (store, tenant) = (&shared.parts.store, &shared.options.tenant);
        let Some(receipt) = store.process(tenant, child).await? else {
            return Ok(false);
        };
        let ProcessState::Exited { exit } = &receipt.row.state else {
            return self.see_to(child).await;
        };
        let answer = match said(exit) {
            Some(hash) => Some(self.read(&receipt, hash).await?),
            None => None,
        };
        let ended = ChildEnded {
            child,
            exit: exit.name().to_owned(),
            answer: answer.as_ref().map(Content::reference),
            spent: receipt.row.spent,
        };
        self.process.emit_with(What::ChildEnded(ended), answer)?;
        Ok(false)
    }

    /// Has a child gone on with that nobody drives; whether another node does.
    async fn see_to(&self, child: Pid) -> Result<bool, Error> {
        let shared = &self.process.shared;
        let (store, tenant) = (&shared.parts.store, &shared.options.tenant);
        if store.elsewhere(tenant, child).await?.is_some() {
            return Ok(true);
        }
        let there = store.process(tenant, child).await?;
        if there.is_some_and(|there| Rest::of(&there.row.state).is_none()) {
            shared.errands.leave(Errand::Begin(child, None));
        }
        Ok(false)
    }

    /// A content of a child's journal, as one of this process's. It stands beside the event that was
    /// the first to name it.
    async fn read(&mut self, child: &Receipt, hash: aosk_abi::Hash) -> Result<Content, Error> {
        let shared = self.process.shared.clone();
        let (store, tenant) = (&shared.parts.store, &shared.options.tenant);
        let name = hash.to_string();
        let mut from = Seq(0);
        loop {
            let records = store.read(tenant, child.pid, from, CHUNK).await?;
            let names = |body: &[u8]| body.windows(name.len()).any(|it| it == name.as_bytes());
            let first = records.iter().find(|record| names(&record.body));
            if let Some(first) = first {
                let found = store.contents(tenant, child.pid, &[(first.seq, hash)]).await?;
                return Ok(self
                    .process
                    .contents
                    .seal(found.into_iter().next().unwrap_or_default()));
            }
            let Some(last) = records.last() else {
                return Err(Error::Store(aosk_ports::StoreError::new(
                    Code::StoreContentMissing,
                    format!("process {} ended with {name}, which no event of it names", child.pid),
                )));
            };
            from = last.seq.next();
        }
    }

    /// What a model is told of children that have ended.
    async fn report(&mut self, ends: Vec<(Pid, String, End)>) -> Result<ToolResult, Error> {
        let wanted: Vec<_> =
            ends.iter().filter_map(|(_, _, end)| Some((end.seq, end.answer?))).collect();
        let (tenant, pid) = (self.process.image.tenant.clone(), self.process.pid());
        let shared = self.process.shared.clone();
        let store = shared.parts.store.as_ref();
        self.process.contents.load(store, &tenant, pid, wanted.into_iter()).await?;
        let room = (shared.options.result_budget / ends.len().max(1)).saturating_sub(AROUND);
        let mut told = ends.iter().map(|(pid, name, end)| {
            let text = end.answer.and_then(|it| self.process.contents.text(&it.hash));
            let answer = text.map(|text| shortened(&text, room));
            let (pid, exit) = (pid.to_string(), &end.exit);
            json!({"agent": name, "pid": pid, "exit": exit, "answer": answer})
        });
        Ok(match ends.len() {
            1 => ToolResult::ok(told.next().unwrap_or_default()),
            _ => ToolResult::ok(told.collect::<Vec<_>>()),
        })
    }
}

/// What an exit names, if it says anything.
fn said(exit: &Exit) -> Option<aosk_abi::Hash> {
    match exit {
        Exit::Completed { answer: said } | Exit::Refused { message: said } => {
            said.as_ref().map(|said| said.hash)
        }
        Exit::Failed { message, .. } => Some(message.hash),
        Exit::StepLimit { .. } | Exit::Killed => None,
    }
}

/// At most so many bytes of an answer, and what is left out said in words.
fn shortened(text: &str, room: usize) -> String {
    if text.len() <= room {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(room);
    let len = text.len();
    format!(
        "{} [cut: the first {end} of {len} bytes; wait for it alone to read more]",
        &text[..end]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_below_at_and_above_its_room() {
        assert_eq!(shortened("äb", 4), "äb");
        assert_eq!(shortened("äb", 3), "äb");
        assert!(shortened("äb", 2).starts_with("ä [cut: the first 2 of 3 bytes"));
        assert!(shortened("äb", 1).starts_with(" [cut: the first 0 of 3 bytes"));
    }
}
