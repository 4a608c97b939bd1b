//! `wait`: the ends of children.
//!
//! How a child ended is read from its own journal when the parent looks, and written into the parent's
//! once, with the answer and with what the child spent. Nobody has to tell the parent: a hint that gets
//! lost costs the time until it looks again.

use std::time::Duration;

use aosk_abi::{
    Blocked, BlockedOn, ChildEnded, Code, Content, Exit, Hash, Op, Pid, ProcessState, Seq,
    ToolCall, ToolResult, Unblocked, What,
};
use aosk_ports::{Receipt, StoreError};
use serde_json::json;

use super::own::{Refused, refused, seconds, text};
use super::{Driver, Ended};
use crate::errands::Errand;
use crate::error::Error;
use crate::image::{Child, End};
use crate::process::Rest;

/// How many events of a child are searched at once for the one that brought its answer.
const CHUNK: usize = 1024;

/// What an answer takes in a result beside its text, in bytes.
const AROUND: usize = 256;

impl Driver {
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
    /// ended, or waits for those that have not. Where none does, or one of those waits for this
    /// process in turn, somebody has to give more: it is blocked on `otherwise`.
    pub(super) async fn await_money(&mut self, otherwise: BlockedOn) -> Result<(), Error> {
        let owing: Vec<Pid> = self.process.image.account.granted.keys().copied().collect();
        if owing.is_empty() {
            return self.process.emit(What::Blocked(Blocked { on: otherwise, op: None }));
        }
        self.process.shared.errands.await_ends(self.process.pid(), &owing);
        for child in &owing {
            self.look_at(*child).await?;
        }
        let still: Vec<Pid> = self.process.image.account.granted.keys().copied().collect();
        if still != owing {
            let waited = matches!(
                self.process.image.state,
                ProcessState::Blocked { on: BlockedOn::Child { .. }, .. }
            );
            if waited {
                self.process.emit(What::Unblocked(Unblocked {}))?;
            }
            return Ok(());
        }
        let on = BlockedOn::Child { children: still, until: None };
        self.process.emit(What::Blocked(Blocked { on: on.clone(), op: None }))?;
        let shared = self.process.shared.clone();
        let _desk = self.at_desk(&shared).await;
        if self.circle(&on).await?.is_some() {
            self.process.emit(What::Blocked(Blocked { on: otherwise, op: None }))?;
            return self.process.commit().await;
        }
        self.rests = Some(Ended::Waiting(on));
        Ok(())
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
    pub(super) async fn see_to(&self, child: Pid) -> Result<bool, Error> {
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
    async fn read(&mut self, child: &Receipt, hash: Hash) -> Result<Content, Error> {
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
                return Err(Error::Store(StoreError::new(
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
fn said(exit: &Exit) -> Option<Hash> {
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
