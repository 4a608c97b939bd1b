//! A writer of one process's journal that keeps count of where it stands.

use aosk_abi::{
    Content, ContentKey, Epoch, Event, Hash, MicroDollars, Op, Pid, ProcessState, Record, Records,
    Seq, Tenant, Timestamp, Tokens, Told, Unblocked, Usage, What,
};
use aosk_ports::{Append, Checkpoint, Committed, ProcessRow, Store, StoreError, Stretch};

/// Writes one process's journal. What it makes follows from what it was told is committed.
#[derive(Debug, Clone)]
pub struct Scribe {
    /// Whose process.
    pub tenant: Tenant,
    /// Which.
    pub pid: Pid,
    /// The epoch of the next append.
    pub epoch: Epoch,
    /// The place of the next event.
    pub next: Seq,
    /// The chain's link before it.
    pub head: Hash,
    /// The key of the tenant's contents.
    pub key: ContentKey,
}

impl Scribe {
    /// Goes on where the process stands in `store`, or begins it in epoch 1.
    ///
    /// # Panics
    /// If the store does not answer.
    pub async fn new(store: &dyn Store, tenant: &Tenant, pid: Pid) -> Self {
        let key = store.content_key(tenant).await.expect("the tenant's key");
        let there = store.process(tenant, pid).await.expect("the process or none");
        let (epoch, next, head) = there
            .map_or((Epoch(1), Seq(0), Hash::ZERO), |there| (there.epoch, there.next, there.head));
        Self { tenant: tenant.clone(), pid, epoch, next, head, key }
    }

    /// An append that continues the journal: one event for each text, which it names; a single
    /// event without one where there are none.
    ///
    /// # Panics
    /// Never: these events can be encoded.
    #[must_use]
    pub fn append(&self, texts: &[&[u8]]) -> Append {
        let contents: Vec<Content> = texts.iter().map(|text| self.key.seal(*text)).collect();
        let mut events: Vec<What> = contents
            .iter()
            .zip(self.next.0..)
            .map(|(content, n)| What::Told(Told { op: Op(n), content: content.reference() }))
            .collect();
        if events.is_empty() {
            events.push(What::Unblocked(Unblocked {}));
        }
        let mut prev = self.head;
        let records: Records = events
            .into_iter()
            .zip(self.next.0..)
            .map(|(what, seq)| {
                let event = Event::new(Timestamp::from_millis(1_700_000_000_000 + seq), what);
                let record =
                    Record::seal(&self.tenant, self.pid, Seq(seq), self.epoch, prev, &event)
                        .expect("no text holds U+0000");
                prev = record.hash;
                record
            })
            .collect();
        Append {
            tenant: self.tenant.clone(),
            pid: self.pid,
            epoch: self.epoch,
            prev: self.head,
            row: row(self.next.0 + records.len() as u64),
            records,
            contents,
            checkpoint: None,
            consumed: Vec::new(),
        }
    }

    /// The same append with a saved fold after its last event.
    #[must_use]
    pub fn with_checkpoint(append: Append, bytes: Vec<u8>) -> Append {
        let seq = append.records.last().map_or(Seq(0), |record| record.seq);
        let checkpoint = Checkpoint { seq, version: 1, bytes, stretches: Vec::new() };
        Append { checkpoint: Some(checkpoint), ..append }
    }

    /// The same append, whose checkpoint brings another stretch from that event on.
    #[must_use]
    pub fn with_stretch(mut append: Append, first: Seq, bytes: Vec<u8>) -> Append {
        if let Some(checkpoint) = &mut append.checkpoint {
            checkpoint.stretches.push(Stretch { first, bytes });
        }
        append
    }

    /// Stands behind `append` from now on.
    pub fn follow(&mut self, append: &Append) {
        if let Some(last) = append.records.last() {
            (self.next, self.head) = (last.seq.next(), last.hash);
        }
    }

    /// Appends and awaits it; stands behind it if it was acknowledged.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn write(
        &mut self,
        store: &dyn Store,
        texts: &[&[u8]],
    ) -> Result<Committed, StoreError> {
        let append = self.append(texts);
        let answer = store.append(append.clone()).await;
        if answer.is_ok() {
            self.follow(&append);
        }
        answer
    }
}

/// What lists show after `steps` steps.
pub(crate) fn row(steps: u64) -> ProcessRow {
    ProcessRow {
        name: "agent".to_owned(),
        model: "model".to_owned(),
        state: ProcessState::Ready,
        steps,
        usage: Usage { input: Tokens(steps * 10), output: Tokens(steps), ..Usage::default() },
        spent: MicroDollars(steps * 3),
        created: Timestamp::from_millis(1_700_000_000_000),
        updated: Timestamp::from_millis(1_700_000_000_000 + steps),
    }
}
