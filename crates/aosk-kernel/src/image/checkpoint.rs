//! Checkpoints: an image as bytes.
//!
//! An image has a history that only grows and a state that does not: see [`history`](super::history).
//! The state is CBOR, because it is small and an added field with a default does not void old
//! checkpoints. The history is cut into stretches of [`STRETCH`] entries, each written once; what is
//! newer than the last stretch stands in the checkpoint itself. So a checkpoint is at most some 10 KB
//! at any length of the history, may come every few hundred events, and the way back into memory is
//! to read the stretches and to fold what a few hundred events did.
//!
//! A checkpoint that cannot be read is no loss: the journal is the truth and is folded from its start.

use aosk_abi::Seq;
use aosk_context::{PageTable, Residency};
use aosk_ports::{Checkpoint, Stretch};
use serde::{Deserialize, Serialize};

use super::history::History;
use super::transcript::Transcript;
use super::{Image, wire};

/// The version of the encoding. Another version is not read; the journal is folded instead.
pub const CHECKPOINT_VERSION: u16 = 4;

/// How many entries make a stretch: 256 are some 10 KB. Shorter ones cost rows and frames, longer
/// ones are written again with each checkpoint until they are full.
const STRETCH: usize = 256;

/// How much of a process's history stands in stretches that its store has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The first event that no stretch is made of.
    pub(super) next: Seq,
    pub(super) places: usize,
    pub(super) pages: usize,
}

/// What a checkpoint holds besides history.
#[derive(Serialize)]
struct State<'a> {
    image: &'a Image,
    residency: Residency,
    saved: Saved,
}

#[derive(Deserialize)]
struct Stored {
    image: Image,
    residency: Residency,
    saved: Saved,
}

impl Image {
    /// The image as a checkpoint after its last event that stands on nothing; `None` where it cannot
    /// be encoded or holds no event.
    #[must_use]
    pub fn to_checkpoint(&self) -> Option<Checkpoint> {
        self.checkpoint_on(&Saved::default(), usize::MAX).map(|(checkpoint, _)| checkpoint)
    }

    /// The same on what is saved already, and what is saved with it.
    #[must_use]
    pub fn to_checkpoint_on(&self, saved: &Saved) -> Option<(Checkpoint, Saved)> {
        self.checkpoint_on(saved, STRETCH)
    }

    fn checkpoint_on(&self, saved: &Saved, stretch: usize) -> Option<(Checkpoint, Saved)> {
        let seq = Seq(self.next.0.checked_sub(1)?);
        let mut saved = *saved;
        let mut stretches = Vec::new();
        if self.unsaved(&saved) >= stretch {
            stretches.push(Stretch { first: saved.next, bytes: self.history(&saved) });
            saved = Saved {
                next: self.next,
                places: self.transcript.len(),
                pages: self.pages.pages().len(),
            };
        }
        let newer = self.history(&saved);
        let mut bytes = Vec::with_capacity(newer.len() + 1024);
        wire::put(&mut bytes, newer.len() as u64);
        bytes.extend(newer);
        let state = State { image: self, residency: self.pages.residency(), saved };
        ciborium::into_writer(&state, &mut bytes).ok()?;
        Some((Checkpoint { seq, version: CHECKPOINT_VERSION, bytes, stretches }, saved))
    }

    /// The image that a checkpoint holds; `None` where it is of another version or damaged.
    #[must_use]
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Option<Self> {
        Self::from_checkpoint_with(checkpoint).map(|(image, _)| image)
    }

    /// The same, with what of it the store has in stretches.
    #[must_use]
    pub fn from_checkpoint_with(checkpoint: &Checkpoint) -> Option<(Self, Saved)> {
        if checkpoint.version != CHECKPOINT_VERSION {
            return None;
        }
        let mut rest = wire::Rest(&checkpoint.bytes);
        let newer = rest.bytes()?;
        let Stored { mut image, residency, saved } = ciborium::from_reader(rest.0).ok()?;
        let mut history = History::default();
        // Others are of a later checkpoint, or of an encoding that whoever wrote this one could not
        // read.
        for stretch in checkpoint.stretches.iter().take_while(|it| it.first < saved.next) {
            history.extend(&stretch.bytes)?;
        }
        history.extend(newer)?;
        let History { places, entries } = history;
        image.transcript = Transcript::of(places)?;
        image.pages = PageTable::restore(&entries, &residency).ok()?;
        (image.next == checkpoint.seq.next()).then_some((image, saved))
    }
}
