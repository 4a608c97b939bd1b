//! Checkpoints: an image as bytes.
//!
//! CBOR, because it is compact and carries field names, so that an added field with a default does
//! not void old checkpoints. A checkpoint that cannot be read is no loss: the journal is the truth
//! and is folded from its start.

use aosk_ports::Checkpoint;

use super::Image;

/// The version of the encoding. Another version is not read; the journal is folded instead.
pub const CHECKPOINT_VERSION: u16 = 2;

impl Image {
    /// The image as a checkpoint after its last event; `None` where it cannot be encoded or holds
    /// no event.
    #[must_use]
    pub fn to_checkpoint(&self) -> Option<Checkpoint> {
        let seq = aosk_abi::Seq(self.next.0.checked_sub(1)?);
        let mut bytes = Vec::new();
        ciborium::into_writer(self, &mut bytes).ok()?;
        Some(Checkpoint { seq, version: CHECKPOINT_VERSION, bytes })
    }

    /// The image that a checkpoint holds; `None` where it is of another version or damaged.
    #[must_use]
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Option<Self> {
        if checkpoint.version != CHECKPOINT_VERSION {
            return None;
        }
        let image: Self = ciborium::from_reader(checkpoint.bytes.as_slice()).ok()?;
        (image.next == checkpoint.seq.next()).then_some(image)
    }
}
