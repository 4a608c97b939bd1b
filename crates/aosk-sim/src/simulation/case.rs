//! The journal of one process, held against everything else that the world knows of it.
//!
//! Numbers that the kernel also computes (money, above all) are computed here a second time from
//! the events, in another way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aosk_abi::{
    ContentRef, Effect, Event, Hash, MicroDollars, Op, Planned, Record, Seq, ToolResult, What,
};
use aosk_kernel::{Image, load};
use aosk_ports::{Inbox as _, InboxItem, Journal as _, Receipt, StoreError};

use super::world::World;
use crate::model::Conversation;
use crate::store::MemoryStore;

/// One process's journal.
pub(super) struct Case<'a> {
    world: &'a World,
    pub(super) receipt: Receipt,
    records: Vec<Record>,
    pub(super) events: Vec<Event>,
}

impl<'a> Case<'a> {
    /// Reads the journal, whose chain the store verifies on the way.
    pub(super) async fn open(
        world: &'a World,
        store: &MemoryStore,
        receipt: Receipt,
    ) -> Result<Self, String> {
        let records = store
            .read(&world.tenant, receipt.pid, Seq(0), usize::MAX)
            .await
            .map_err(|error| error.to_string())?;
        let events = records.iter().map(Record::decode).collect::<Result<_, _>>();
        let events = events.map_err(|error| error.to_string())?;
        Ok(Self { world, receipt, records, events })
    }

    pub(super) fn accuse(&self, what: impl Into<String>) {
        self.world.witness.accuse(Some(self.receipt.pid), what);
    }

    fn require(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.accuse(what());
        }
    }

    /// Looks at everything; broken promises go to the witness.
    pub(super) async fn examine(&self, store: &MemoryStore) {
        self.acknowledged();
        if let Err(broken) = self.folds(store).await {
            self.accuse(broken);
        }
        if let Err(error) = self.contents_are_there(store).await {
            self.accuse(error.to_string());
        }
        if let Err(error) = self.effects(store).await {
            self.accuse(error.to_string());
        }
        if let Err(error) = self.messages(store).await {
            self.accuse(error.to_string());
        }
        self.prompts();
        self.money();
        self.intents();
    }

    /// What was acknowledged is there, as it was.
    fn acknowledged(&self) {
        let pid = self.receipt.pid;
        let seen = self.world.witness.lock();
        let last = seen.acknowledged.get(&pid).copied();
        let found = |seq: Seq| usize::try_from(seq.0).ok().and_then(|seq| self.events.get(seq));
        let mut claims = seen.claims.range((pid, Seq(0))..=(pid, Seq(u64::MAX)));
        let lost = claims.find(|((_, seq), claimed)| found(*seq) != Some(*claimed));
        let lost = lost.map(|((_, seq), _)| *seq).or(last.filter(|&last| found(last).is_none()));
        drop(seen);
        if let Some(seq) = lost {
            self.accuse(format!("event {seq} was acknowledged and is not there as it was"));
        }
    }

    /// The fold of all events is the fold from any checkpoint, and is what the lists show.
    async fn folds(&self, store: &MemoryStore) -> Result<(), String> {
        let (tenant, pid) = (&self.world.tenant, self.receipt.pid);
        let mut images: Vec<Image> = Vec::with_capacity(self.records.len());
        for record in &self.records {
            let image = match images.last() {
                None => Image::begin(tenant, pid, record),
                Some(before) => {
                    let mut image = before.clone();
                    image.apply(record).map(|()| image)
                }
            };
            images.push(image.map_err(|error| format!("does not fold: {error}"))?);
        }
        let whole = images.last().ok_or("has no events")?;
        let loaded = load(store, tenant, pid, None).await.map_err(|error| error.to_string())?;
        self.require(loaded == *whole, || "the kernel loads another image".to_owned());
        self.require(whole.row() == self.receipt.row, || {
            format!("lists show {:?} instead of {:?}", self.receipt.row, whole.row())
        });
        self.require((whole.next, whole.head) == (self.receipt.next, self.receipt.head), || {
            "the fold ends elsewhere than the journal".to_owned()
        });

        let mut at = Some(Seq(u64::MAX));
        while let Some(before) = at {
            let found = store.checkpoint(tenant, pid, Some(before)).await;
            let Some(checkpoint) = found.map_err(|error| error.to_string())? else {
                break;
            };
            let seq = checkpoint.seq;
            let saved = Image::from_checkpoint(&checkpoint);
            let folded = usize::try_from(seq.0).ok().and_then(|index| images.get(index));
            self.require(saved.is_some() && saved.as_ref() == folded, || {
                format!("the checkpoint at event {seq} is not the fold of the events up to it")
            });
            at = seq.0.checked_sub(1).map(Seq);
        }
        Ok(())
    }

    /// Every content that an event names can be read and is what its name says.
    async fn contents_are_there(&self, store: &MemoryStore) -> Result<(), StoreError> {
        let key = store.content_key(&self.world.tenant).await?;
        for record in &self.records {
            let body = serde_json::from_slice(&record.body).unwrap_or_default();
            let mut named = Vec::new();
            references(&body, &mut named);
            for content in named {
                let bytes = self.content(store, record.seq, &content).await?;
                self.require(
                    key.hash(&bytes) == content.hash && bytes.len() as u64 == content.len,
                    || format!("event {} names {} and got other bytes", record.seq, content.hash),
                );
            }
        }
        Ok(())
    }

    async fn content(
        &self,
        store: &MemoryStore,
        seq: Seq,
        content: &ContentRef,
    ) -> Result<Arc<[u8]>, StoreError> {
        let wanted = [(seq, content.hash)];
        let found = store.contents(&self.world.tenant, self.receipt.pid, &wanted).await?;
        Ok(found.into_iter().next().unwrap_or_default())
    }

    /// Unsafe effects happened at most once, idempotent ones exactly once where they were
    /// reported, and no tool ran without an intent.
    async fn effects(&self, store: &MemoryStore) -> Result<(), StoreError> {
        let pid = self.receipt.pid;
        let ledger = self.world.ledger.entries();
        let own = || ledger.iter().filter(|(_, entry)| entry.pid == pid);
        for (key, entry) in own() {
            self.require(!entry.clash, || format!("the key {key} came from two calls"));
            self.require(entry.effects <= 1, || {
                format!("{} acted {} times under {key}", entry.tool, entry.effects)
            });
            self.require(entry.effect != Effect::Unsafe || entry.attempts == 1, || {
                format!("the unsafe {} was called {} times under {key}", entry.tool, entry.attempts)
            });
        }

        let mut intents = 0;
        let mut calls: BTreeSet<Op> = BTreeSet::new();
        for (seq, event) in (0..).map(Seq).zip(&self.events) {
            match &event.what {
                What::ToolRequested(asked) => {
                    intents += 1;
                    calls.insert(asked.op);
                }
                What::ToolReturned(returned) => {
                    let bytes = self.content(store, seq, &returned.result).await?;
                    let result: Option<ToolResult> = serde_json::from_slice(&bytes).ok();
                    let key = result.as_ref().and_then(|result| result.data["key"].as_str());
                    let Some(key) = key else { continue };
                    let effects = ledger.get(key).map_or(0, |entry| entry.effects);
                    self.require(effects == 1, || {
                        format!("event {seq} reports an effect that happened {effects} times")
                    });
                }
                _ => {}
            }
        }
        let (keys, calls) = (own().count(), calls.len());
        self.require(keys <= calls, || format!("{keys} idempotency keys for {calls} calls"));
        let ran: u64 = own().map(|(_, entry)| entry.attempts).sum();
        self.require(ran <= intents, || format!("{ran} tool runs on {intents} intents"));
        Ok(())
    }

    /// Between two generations a prompt only grows, by bytes behind those that were there; it is
    /// what the endpoint got, and never more than the window.
    fn prompts(&self) {
        let mut last: Option<&Planned> = None;
        for event in &self.events {
            let model = &self.world.model;
            if let (What::LlmReturned(reply), Some(plan)) = (&event.what, last) {
                self.require(model.prompt(&plan.prompt).is_some(), || {
                    format!("the reply of {} is to another prompt than was planned", reply.op)
                });
            }
            let What::Planned(plan) = &event.what else {
                continue;
            };
            if let Some(last) = last.replace(plan)
                && last.generation == plan.generation
            {
                self.require(plan.prompt_len >= last.prompt_len, || {
                    format!("the prompt of {} is shorter than the one before", plan.op)
                });
                if let (Some(before), Some(after)) =
                    (model.prompt(&last.prompt), model.prompt(&plan.prompt))
                {
                    self.require(after.starts_with(&before), || {
                        format!("the prompt of {} does not begin with the one before", plan.op)
                    });
                }
            }
        }
        let overflows = self.conversation().overflows;
        self.require(overflows == 0, || format!("{overflows} prompts left no room for a reply"));
    }

    fn conversation(&self) -> Conversation {
        self.world.model.conversation(&self.receipt.pid.to_string())
    }

    /// What is spent is what the calls cost, with the reservation of each call whose end is not
    /// known; and never less than what the endpoint will bill.
    fn money(&self) {
        let mut settled = MicroDollars::ZERO;
        let mut lost = MicroDollars::ZERO;
        let mut open: BTreeMap<Op, MicroDollars> = BTreeMap::new();
        for event in &self.events {
            match &event.what {
                What::LlmRequested(asked) => {
                    lost += open.insert(asked.op, asked.reserved).unwrap_or_default();
                }
                What::LlmReturned(reply) => {
                    open.remove(&reply.op);
                    settled += reply.cost;
                }
                What::LlmFailed(failed) => {
                    open.remove(&failed.op);
                    settled += failed.cost;
                }
                _ => {}
            }
        }
        let counted = settled + lost + open.into_values().sum();
        let spent = self.receipt.row.spent;
        self.require(counted == spent, || format!("spent {spent}, and the events say {counted}"));
        let billed = self.conversation().billed;
        self.require(spent >= billed, || format!("spent {spent}, and {billed} will be billed"));
    }

    /// No model call was made without a durable intent, none beyond the limit of steps.
    fn intents(&self) {
        let asked = |event: &&Event| matches!(event.what, What::LlmRequested(_));
        let intents = self.events.iter().filter(asked).count() as u64;
        let calls = self.conversation().calls;
        self.require(calls <= intents, || format!("{calls} model calls on {intents} intents"));
        let Some(What::Spawned(spawned)) = self.events.first().map(|event| &event.what) else {
            return self.accuse("does not begin with its spawn");
        };
        // A message after the end, or a restart, grants the steps anew.
        let after_end =
            self.events.windows(2).filter(|pair| matches!(pair[0].what, What::Exited(_)));
        let restarts = self.events.iter().filter(|it| matches!(it.what, What::Restarted(_)));
        let times = 1 + after_end.count() as u64 + restarts.count() as u64;
        let (steps, limit) = (self.receipt.row.steps, spawned.max_steps * times);
        self.require(steps <= limit, || format!("made {steps} steps of {limit}"));
    }

    /// A message from outside is taken over once or waits; each one has a text of its own.
    async fn messages(&self, store: &MemoryStore) -> Result<(), StoreError> {
        let mut taken: BTreeSet<Hash> = BTreeSet::new();
        for event in &self.events {
            if let What::MessageReceived(message) = &event.what {
                self.require(taken.insert(message.content.hash), || {
                    format!("the message {} was taken over twice", message.content.hash)
                });
            }
        }
        let pid = self.receipt.pid;
        let key = store.content_key(&self.world.tenant).await?;
        let waiting = store.pending(&self.world.tenant).await?;
        let posted = self.world.witness.lock().posted.get(&pid).cloned().unwrap_or_default();
        for text in posted {
            let waits = waiting.iter().any(|(whose, _, item)| {
                *whose == pid && matches!(item, InboxItem::Message { text: it, .. } if *it == text)
            });
            self.require(waits || taken.contains(&key.hash(text.as_bytes())), || {
                format!("{text:?} was posted, and is neither taken over nor waiting")
            });
        }
        Ok(())
    }
}

/// The contents that a body names, wherever in it.
fn references(body: &serde_json::Value, found: &mut Vec<ContentRef>) {
    match body {
        serde_json::Value::Object(fields) => match serde_json::from_value(body.clone()) {
            Ok(reference) => found.push(reference),
            Err(_) => fields.values().for_each(|value| references(value, found)),
        },
        serde_json::Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}
