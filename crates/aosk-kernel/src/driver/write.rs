//! Writing events: the only place where an image meets its journal.

use aosk_abi::{Content, Event, Hash, Record, Timestamp, What};
use aosk_ports::{Append, InboxId, Ticket};

use super::Driver;
use crate::error::Error;
use crate::image::Image;
use crate::observe::Notice;

/// Events that were made and not yet sent to the store, with their contents.
pub(crate) struct Batch {
    prev: Hash,
    records: Vec<Record>,
    contents: Vec<Content>,
    consumed: Vec<InboxId>,
    in_flight: Vec<Ticket>,
    last_checkpoint: u64,
    checkpoint_now: bool,
}

impl Batch {
    /// A batch that continues after `prev`; the last checkpoint was taken before event number
    /// `last_checkpoint`.
    pub(crate) fn new(prev: Hash, last_checkpoint: u64) -> Self {
        Self {
            prev,
            records: Vec::new(),
            contents: Vec::new(),
            consumed: Vec::new(),
            in_flight: Vec::new(),
            last_checkpoint,
            checkpoint_now: false,
        }
    }

    /// Adds a record that the image already holds.
    pub(crate) fn push(&mut self, record: Record, contents: impl IntoIterator<Item = Content>) {
        self.records.push(record);
        self.contents.extend(contents);
    }

    pub(super) fn consume(&mut self, id: InboxId) {
        self.consumed.push(id);
    }

    /// The next write carries a checkpoint if anything happened since the last one.
    pub(super) fn request_checkpoint(&mut self) {
        self.checkpoint_now = true;
    }

    /// Whether a checkpoint is due: when asked for, or when the events since the last are many in
    /// themselves and a quarter of the history. The second rule bounds the bytes of all
    /// checkpoints by a constant share of the journal, because each is proportional to it.
    fn checkpoint_due(&self, next: u64, fewest: u64) -> bool {
        let since = next.saturating_sub(self.last_checkpoint);
        since > 0 && (self.checkpoint_now && since >= 8 || since >= fewest.max(next / 4))
    }
}

impl Driver {
    /// Makes an event.
    pub(super) fn emit(&mut self, what: What) -> Result<(), Error> {
        self.emit_with(what, [])
    }

    /// Makes an event together with contents that it names.
    pub(super) fn emit_with(
        &mut self,
        what: What,
        contents: impl IntoIterator<Item = Content>,
    ) -> Result<(), Error> {
        self.write(Event::new(self.shared.parts.clock.now(), what), contents)
    }

    /// Makes an event whose time other data already depend on.
    pub(super) fn emit_at(&mut self, at: Timestamp, what: What) -> Result<(), Error> {
        self.write(Event::new(at, what), [])
    }

    fn write(
        &mut self,
        event: Event,
        contents: impl IntoIterator<Item = Content>,
    ) -> Result<(), Error> {
        let image = &mut self.image;
        let record = seal(image, &event)?;
        image
            .apply_event(&event, record.seq, record.hash)
            .map_err(|source| Error::Fold { pid: image.pid, source })?;
        let notice = Notice::Happened { seq: record.seq, event: &event };
        self.shared.parts.observer.notice(image.pid, &notice);
        self.batch.push(record, contents);
        Ok(())
    }

    /// Sends what was made to the store without waiting for it.
    pub(super) fn flush(&mut self) {
        let batch = &mut self.batch;
        let Some(last) = batch.records.last() else {
            return;
        };
        let (next, head) = (self.image.next.0, last.hash);
        let checkpoint = batch
            .checkpoint_due(next, self.shared.options.checkpoint_events)
            .then(|| self.image.to_checkpoint())
            .flatten();
        if checkpoint.is_some() {
            batch.last_checkpoint = next;
        }
        batch.checkpoint_now = false;
        let append = Append {
            tenant: self.image.tenant.clone(),
            pid: self.image.pid,
            epoch: self.image.epoch,
            prev: std::mem::replace(&mut batch.prev, head),
            records: std::mem::take(&mut batch.records),
            contents: std::mem::take(&mut batch.contents),
            row: self.image.row(),
            checkpoint,
            consumed: std::mem::take(&mut batch.consumed),
        };
        batch.in_flight.push(self.shared.parts.store.append(append));
    }

    /// Waits until everything that was made is durable.
    pub(crate) async fn commit(&mut self) -> Result<(), Error> {
        self.flush();
        let mut last = None;
        for ticket in std::mem::take(&mut self.batch.in_flight) {
            last = Some(ticket.await?.last);
        }
        if let Some(last) = last {
            let row = self.image.row();
            self.shared
                .parts
                .observer
                .notice(self.image.pid, &Notice::Committed { last, row: &row });
        }
        Ok(())
    }
}

/// The record of `event` as the next of the image's journal.
pub(crate) fn seal(image: &Image, event: &Event) -> Result<Record, Error> {
    let record =
        Record::seal(&image.tenant, image.pid, image.next, image.epoch, image.head, event)?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_come_at_a_growing_distance() {
        let batch = |last| Batch::new(Hash::ZERO, last);
        assert!(!batch(0).checkpoint_due(255, 256));
        assert!(batch(0).checkpoint_due(256, 256));
        assert!(!batch(8_000).checkpoint_due(8_000 + 2_000, 256));
        assert!(batch(8_000).checkpoint_due(8_000 + 2_667, 256));
    }

    #[test]
    fn a_requested_checkpoint_waits_for_enough_to_save() {
        let mut batch = Batch::new(Hash::ZERO, 10);
        batch.request_checkpoint();
        assert!(!batch.checkpoint_due(17, 256));
        assert!(batch.checkpoint_due(18, 256));
    }
}
