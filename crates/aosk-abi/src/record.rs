//! Records: events as the bytes that stores keep and chains cover.
//!
//! A record is an event's canonical body together with the header that the hash binds it to:
//!
//! ```text
//! hash = BLAKE3( version:u16 ‖ len(tenant):u16 ‖ tenant ‖ pid:16 ‖ seq:u64 ‖ epoch:u64
//!                ‖ kind:u16 ‖ prev:32 ‖ body )
//! ```
//!
//! All integers are little-endian. The tenant carries its length and every other field before the
//! body has a fixed size, so no byte can move from one field to the next without changing the
//! hash. Tenant, pid and seq are the record's key; they are not stored a second time in it.
//!
//! `version` is the version of the body's schema of that kind. A reader that meets a newer version
//! or an unknown kind stops with an error that names it: a journal is never half understood.

use serde::Deserialize;

use crate::amount::Timestamp;
use crate::canonical::CanonicalError;
use crate::content::Hash;
use crate::event::{Event, Kind};
use crate::id::{Epoch, Pid, Seq, Tenant};

/// An event as bytes, linked into its process's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Place in the journal of its process.
    pub seq: Seq,
    /// The fencing token under which it was written.
    pub epoch: Epoch,
    /// The numeric code of the event's [`Kind`].
    pub kind: u16,
    /// The version of the body's schema.
    pub version: u16,
    /// Canonical JSON; never serialised again.
    pub body: Vec<u8>,
    /// The chain's link after this record.
    pub hash: Hash,
}

/// An event that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode a {kind} event: {source}")]
pub struct EncodeError {
    /// The kind of the event.
    pub kind: Kind,
    /// What its body holds that canonical JSON cannot.
    pub source: CanonicalError,
}

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The kind is not known to this program.
    #[error(
        "event {seq} has kind {kind} (version {version}), which this version of aosk does not \
         know: it was written by a newer one; upgrade aosk to read this journal"
    )]
    UnknownKind {
        /// Where it stands.
        seq: Seq,
        /// Its numeric kind.
        kind: u16,
        /// Its version.
        version: u16,
    },
    /// The kind is known, its version is newer.
    #[error(
        "event {seq} is a {kind} of version {version}; this version of aosk reads up to \
         {supported}: upgrade aosk to read this journal"
    )]
    NewerVersion {
        /// Where it stands.
        seq: Seq,
        /// Its kind.
        kind: Kind,
        /// Its version.
        version: u16,
        /// The newest version this program reads.
        supported: u16,
    },
    /// The body is not what its kind and version say.
    #[error("event {seq} ({kind}) has a damaged body: {source}")]
    Body {
        /// Where it stands.
        seq: Seq,
        /// Its kind.
        kind: Kind,
        /// What the JSON reader met.
        source: serde_json::Error,
    },
}

/// A record whose hash does not follow from its place and bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "event {seq} of process {pid} breaks the chain: stored hash {stored}, computed {computed}; \
     the journal was altered or damaged"
)]
pub struct VerifyError {
    /// The process.
    pub pid: Pid,
    /// Where the chain breaks.
    pub seq: Seq,
    /// The hash that is stored.
    pub stored: Hash,
    /// The hash that its bytes give.
    pub computed: Hash,
}

impl Record {
    /// Encodes `event` for its place in the journal and links it to `prev`.
    ///
    /// # Errors
    /// [`EncodeError`] where a field holds U+0000; such text belongs into a content.
    pub fn seal(
        tenant: &Tenant,
        pid: Pid,
        seq: Seq,
        epoch: Epoch,
        prev: Hash,
        event: &Event,
    ) -> Result<Self, EncodeError> {
        let kind = event.kind();
        let body = event.body().map_err(|source| EncodeError { kind, source })?;
        let mut record =
            Self { seq, epoch, kind: kind.code(), version: kind.version(), body, hash: Hash::ZERO };
        record.hash = record.link(tenant, pid, prev);
        Ok(record)
    }

    /// The hash that this record must have after `prev` in the journal of `(tenant, pid)`.
    #[must_use]
    pub fn link(&self, tenant: &Tenant, pid: Pid, prev: Hash) -> Hash {
        let name = tenant.as_str().as_bytes();
        let name_len = u16::try_from(name.len()).unwrap_or(u16::MAX);
        // In one piece: a hasher that is fed field by field spends more on its buffer than on them.
        let mut linked = Vec::with_capacity(72 + name.len() + self.body.len());
        linked.extend_from_slice(&self.version.to_le_bytes());
        linked.extend_from_slice(&name_len.to_le_bytes());
        linked.extend_from_slice(name);
        linked.extend_from_slice(pid.as_bytes());
        linked.extend_from_slice(&self.seq.0.to_le_bytes());
        linked.extend_from_slice(&self.epoch.0.to_le_bytes());
        linked.extend_from_slice(&self.kind.to_le_bytes());
        linked.extend_from_slice(prev.as_bytes());
        linked.extend_from_slice(&self.body);
        Hash::from_bytes(*blake3::hash(&linked).as_bytes())
    }

    /// Checks that the record follows `prev` in the journal of `(tenant, pid)`.
    ///
    /// # Errors
    /// [`VerifyError`] with both hashes.
    pub fn verify(&self, tenant: &Tenant, pid: Pid, prev: Hash) -> Result<(), VerifyError> {
        let computed = self.link(tenant, pid, prev);
        if computed == self.hash {
            return Ok(());
        }
        Err(VerifyError { pid, seq: self.seq, stored: self.hash, computed })
    }

    /// When the event happened, by the clock of the kernel that wrote it; also of an event whose kind
    /// or version this program does not know. `None` where the body tells none.
    #[must_use]
    pub fn at(&self) -> Option<Timestamp> {
        #[derive(Deserialize)]
        struct Moment {
            at: Timestamp,
        }
        // In canonical bodies it comes first, unless a key sorts before it.
        let digits = self.body.strip_prefix(b"{\"at\":").and_then(|rest| {
            let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
            matches!(rest[end], b',' | b'}').then(|| &rest[..end])
        });
        match digits {
            Some(digits) => serde_json::from_slice(digits).ok(),
            None => serde_json::from_slice(&self.body).ok().map(|moment: Moment| moment.at),
        }
    }

    /// The event that the bytes stand for.
    ///
    /// # Errors
    /// [`DecodeError`] for an unknown kind, a newer version or a damaged body.
    pub fn decode(&self) -> Result<Event, DecodeError> {
        let Some(kind) = Kind::from_code(self.kind) else {
            return Err(DecodeError::UnknownKind {
                seq: self.seq,
                kind: self.kind,
                version: self.version,
            });
        };
        if self.version > kind.version() {
            return Err(DecodeError::NewerVersion {
                seq: self.seq,
                kind,
                version: self.version,
                supported: kind.version(),
            });
        }
        Event::from_body(kind, &self.body).map_err(|source| DecodeError::Body {
            seq: self.seq,
            kind,
            source,
        })
    }
}
