//! `send` and `receive`: messages between processes.
//!
//! A message is in the inbox of its reader before the sender hears that it was sent, and in the
//! reader's journal once. The sender's intent names the reader and is durable first; after a crash the
//! message is posted again under the same number, and a reader that has it already lets it fall. So no
//! moment at which a machine dies loses or doubles one, and they come in the order of their sending.

use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{
    BlockedOn, Effect, Op, Pid, ProcessState, Seq, ToolCall, ToolRequested, ToolResult, ToolSpec,
    What,
};
use aosk_ports::{InboxItem, ProcessFilter, Receipt};
use serde_json::json;

use super::own::{Refused, invalid, needed, refused, seconds, text};
use super::{Driver, Ended, Own};
use crate::errands::Errand;
use crate::error::Error;
use crate::image::{Image, Letter, Mailbox, Pending};
use crate::load::load;

/// The longest message, in bytes: the model that reads it sees it whole. Whoever has more to say
/// writes a file.
const LONGEST: usize = 8 * 1024;

/// How many processes of one name an answer lists.
const LISTED: usize = 5;

impl Driver {
    /// Sends a message.
    pub(super) async fn send(
        &mut self,
        op: Op,
        call: &ToolCall,
        attempt: u32,
    ) -> Result<(), Error> {
        let read = self.arguments(call).and_then(|arguments| {
            let (to, text) = (needed(&arguments, "to")?, needed(&arguments, "text")?);
            fits(text)?;
            Ok((to.to_owned(), text.to_owned()))
        });
        let (named, text) = match read {
            Ok(read) => read,
            Err(refused) => return self.refuse(op, &refused),
        };
        let shared = self.process.shared.clone();
        // Of two senders the second sees what the first has posted: room is never given twice.
        let _desk = self.at_desk(&shared).await;
        let to = match self.process.image.pending.get(&op) {
            // Who was meant when it was begun is meant still.
            Some(Pending::Tool { to: Some(to), .. }) => *to,
            _ => match self.find_other(&named).await? {
                Ok(to) => to,
                Err(refused) => return self.refuse(op, &refused),
            },
        };
        if let Err(refused) = self.mailbox_takes(op, to).await? {
            return self.refuse(op, &refused);
        }
        self.process.emit(What::ToolRequested(ToolRequested {
            op,
            tool: Own::Send.name().to_owned(),
            effect: Effect::Idempotent,
            attempt,
            isolation: "none".to_owned(),
            to: Some(to),
        }))?;
        self.process.commit().await?;
        shared.leased().await?;
        let from = self.process.pid();
        let text = shared.parts.secrets.text(&text).into_owned();
        let mail = InboxItem::Mail { from, op, text };
        shared.parts.store.post(&shared.options.tenant, to, mail).await?;
        shared.errands.leave(Errand::Look(to));
        self.returned(op, &ToolResult::ok("sent"), Duration::ZERO)
    }

    /// Reads a message, or waits for one.
    pub(super) async fn receive(
        &mut self,
        op: Op,
        call: &ToolCall,
    ) -> Result<Option<Ended>, Error> {
        let begun = match self.waits_in(op).map(|waits| &waits.on) {
            Some(BlockedOn::Message { from, .. }) => Ok((*from, None)),
            _ => match self.asked(call).await? {
                Ok((from, seconds)) => {
                    let until = seconds.map(|seconds| self.until(seconds));
                    Ok((from, Some(BlockedOn::Message { from, until })))
                }
                Err(refused) => Err(refused),
            },
        };
        let (from, begun) = match begun {
            Ok(begun) => begun,
            Err(refused) => return self.refuse(op, &refused).map(|()| None),
        };
        match self.process.image.mailbox.first(from).cloned() {
            Some(letter) => self.open(op, letter).await.map(|()| None),
            None => self.rest(op, begun).await,
        }
    }

    /// Whose message is awaited, and for how long.
    async fn asked(
        &self,
        call: &ToolCall,
    ) -> Result<Result<(Option<Pid>, Option<u64>), Refused>, Error> {
        let read = self.arguments(call).and_then(|arguments| {
            let from = text(&arguments, "from")?.map(str::to_owned);
            Ok((from, seconds(&arguments, "timeout_s")?))
        });
        let (from, seconds) = match read {
            Ok(read) => read,
            Err(refused) => return Ok(Err(refused)),
        };
        let Some(from) = from else {
            return Ok(Ok((None, seconds)));
        };
        let found = self.find_other(&from).await?;
        Ok(found.map(|pid| (Some(pid), seconds)))
    }

    /// Takes a message out of the mailbox and shows it to the model.
    async fn open(&mut self, op: Op, letter: Letter) -> Result<(), Error> {
        let shared = self.process.shared.clone();
        let (store, tenant) = (&shared.parts.store, &shared.options.tenant);
        let wanted = [(letter.seq, letter.content)];
        let pid = self.process.pid();
        self.process.contents.load(store.as_ref(), tenant, pid, wanted.into_iter()).await?;
        let text = self.process.contents.text(&letter.content.hash).unwrap_or_default();
        let sender = store.process(tenant, letter.from).await?;
        let result = ToolResult::ok(json!({
            "from": letter.from.to_string(),
            "name": sender.map(|sender| sender.row.name),
            "text": &*text,
        }));
        self.process
            .emit(What::MessageTaken(aosk_abi::MessageTaken { message: letter.seq, op }))?;
        self.returned(op, &result, Duration::ZERO)
    }

    /// Another process of that pid or name.
    async fn find_other(&self, named: &str) -> Result<Result<Pid, Refused>, Error> {
        Ok(match self.find_process(named).await? {
            Ok(receipt) if receipt.pid == self.process.pid() => Err(refused(
                "invalid_arguments",
                format!("{named:?} is this agent itself"),
                "name another agent",
            )),
            Ok(receipt) => Ok(receipt.pid),
            Err(refused) => Err(refused),
        })
    }

    /// Whether that process takes another message; else what the model hears.
    async fn mailbox_takes(&self, op: Op, to: Pid) -> Result<Result<(), Refused>, Error> {
        let shared = &self.process.shared;
        let (store, tenant) = (&shared.parts.store, &shared.options.tenant);
        // In this order, so that what goes from the inbox into the mailbox meanwhile is counted.
        let coming = store.pending(tenant).await?;
        let reader = load(store.as_ref(), tenant, to, None).await?;
        let me = self.process.pid();
        if reader.mailbox.has_heard(me, op) {
            return Ok(Ok(()));
        }
        if let ProcessState::Exited { exit } = &reader.state {
            return Ok(Err(refused(
                "ended",
                format!("the agent {:?} ({to}) has ended ({})", reader.spawned.name, exit.name()),
                "send it to an agent that works",
            )));
        }
        if !self.reads(&reader).await? {
            return Ok(Err(refused(
                "no_mailbox",
                format!("the agent {:?} ({to}) cannot receive messages", reader.spawned.name),
                "send it to an agent that has the tool `receive`",
            )));
        }
        let coming = coming.iter().filter(|(whose, _, item)| match item {
            InboxItem::Mail { from, op, .. } => {
                *whose == to && !reader.mailbox.has_heard(*from, *op)
            }
            _ => false,
        });
        let waiting = reader.mailbox.letters().len() + coming.count();
        if waiting >= Mailbox::ROOM {
            return Ok(Err(refused(
                "mailbox_full",
                format!(
                    "{waiting} messages wait for the agent {:?} ({to}), and it has room for {}",
                    reader.spawned.name,
                    Mailbox::ROOM
                ),
                "try again when it has read some",
            )));
        }
        Ok(Ok(()))
    }

    /// Whether the process has the tool that reads messages.
    async fn reads(&self, reader: &Image) -> Result<bool, Error> {
        let tools = reader.spawned.tools;
        if tools.len == 0 {
            return Ok(false);
        }
        let shared = &self.process.shared;
        let wanted = [(Seq(0), tools.hash)];
        let store = &shared.parts.store;
        let found = store.contents(&shared.options.tenant, reader.pid, &wanted).await?;
        let bytes: Arc<[u8]> = found.into_iter().next().unwrap_or_default();
        let specs: Vec<ToolSpec> = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(specs.iter().any(|spec| spec.name == Own::Receive.name()))
    }

    /// The process of that pid or name: `parent`, a child, an external name, or the only one that
    /// works under it.
    pub(super) async fn find_process(
        &self,
        named: &str,
    ) -> Result<Result<Receipt, Refused>, Error> {
        let (image, shared) = (&self.process.image, &self.process.shared);
        let (store, tenant) = (&shared.parts.store, &shared.options.tenant);
        let named = named.trim();
        let unknown = || {
            refused(
                "unknown_agent",
                format!("there is no agent {named:?}"),
                "give the pid of an agent, the name of one that works, or `parent`",
            )
        };
        let pid = match (named, named.parse::<Pid>()) {
            ("parent", _) => match image.spawned.parent {
                Some(parent) => Some(parent),
                None => {
                    return Ok(Err(refused(
                        "unknown_agent",
                        "this agent has no parent".to_owned(),
                        "give the pid or name of an agent",
                    )));
                }
            },
            (_, Ok(pid)) => Some(pid),
            (_, Err(_)) => {
                let mut own =
                    image.children.iter().filter(|(_, it)| it.end.is_none() && it.name == named);
                match (own.next(), own.next()) {
                    (Some((child, _)), None) => Some(*child),
                    _ => None,
                }
            }
        };
        if let Some(pid) = pid {
            return Ok(store.process(tenant, pid).await?.ok_or_else(unknown));
        }
        if let Some(aliased) = store.process(tenant, Pid::from_alias(named)).await? {
            return Ok(Ok(aliased));
        }
        let mut found = store.processes(tenant, ProcessFilter::Unfinished).await?;
        found.retain(|receipt| receipt.row.name == named && receipt.pid != image.pid);
        Ok(match found.len() {
            0 => Err(unknown()),
            1 => found.pop().ok_or_else(unknown),
            many => {
                let pids: Vec<_> =
                    found.iter().take(LISTED).map(|receipt| receipt.pid.to_string()).collect();
                let more = if many > LISTED { ", …" } else { "" };
                Err(refused(
                    "ambiguous",
                    format!("{many} agents are named {named:?}: {}{more}", pids.join(", ")),
                    "give the pid of the one that is meant",
                ))
            }
        })
    }
}

/// Whether a message is short enough.
fn fits(text: &str) -> Result<(), Refused> {
    if text.len() <= LONGEST {
        return Ok(());
    }
    Err(invalid(format!("`text` has {} bytes, and at most {LONGEST} are sent at once", text.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_below_at_and_above_the_longest() {
        for (len, holds) in [(LONGEST - 1, true), (LONGEST, true), (LONGEST + 1, false)] {
            assert_eq!(fits(&"x".repeat(len)).is_ok(), holds, "{len}");
        }
    }
}
