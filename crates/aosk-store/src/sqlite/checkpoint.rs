//! Checkpoints: saved folds, so that recovery need not begin at the first event.

use aosk_abi::{Code, Seq};
use aosk_ports::Checkpoint;
use rusqlite::{Connection, OptionalExtension};

use super::compress::{self, Codec};
use super::fault::Fault;
use super::process::{Place, number};
use super::span::Entry;
use crate::check::MAX_CONTENT;

/// How many of a process's checkpoints stay. One is used; the one before it spares the whole
/// journal where the newest is damaged or of an encoding that an older program does not know.
const KEPT: usize = 2;

/// A checkpoint as it is stored.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) seq: Seq,
    version: u16,
    len: usize,
    bytes: Vec<u8>,
}

impl Packed {
    /// Compresses a checkpoint.
    pub(super) fn new(checkpoint: &Checkpoint) -> std::io::Result<Self> {
        Ok(Self {
            seq: checkpoint.seq,
            version: checkpoint.version,
            len: checkpoint.bytes.len(),
            bytes: compress::checkpoint(&checkpoint.bytes)?,
        })
    }

    /// Stores it, lists it at its process's place and removes the oldest.
    pub(super) fn write(&self, connection: &Connection, place: &mut Place) -> Result<(), Fault> {
        connection
            .prepare_cached(
                "INSERT INTO checkpoints (tenant, pid, seq, version, len, bytes) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((
                place.tenant,
                place.pid.as_bytes(),
                self.seq.0.cast_signed(),
                self.version,
                self.len as i64,
                &self.bytes,
            ))?;
        place.checkpoints.push(Entry { first: self.seq.0, id: connection.last_insert_rowid() });
        let gone = place.checkpoints.len().saturating_sub(KEPT);
        for entry in place.checkpoints.drain(..gone) {
            connection
                .prepare_cached("DELETE FROM checkpoints WHERE id = ?1")?
                .execute([entry.id])?;
        }
        Ok(())
    }
}

/// The newest checkpoint at or before `at`.
pub(super) fn read(
    connection: &Connection,
    place: &Place,
    at: Option<Seq>,
) -> Result<Option<Checkpoint>, Fault> {
    let newest = |entry: &&Entry| at.is_none_or(|at| entry.first <= at.0);
    let Some(entry) = place.checkpoints.iter().rfind(newest) else {
        return Ok(None);
    };
    let found = connection
        .prepare_cached(
            "SELECT version, len, bytes FROM checkpoints \
             WHERE id = ?1 AND tenant = ?2 AND pid = ?3 AND seq = ?4",
        )?
        .query_row(
            (entry.id, place.tenant, place.pid.as_bytes(), entry.first.cast_signed()),
            |row| {
                let (len, bytes) = (number(row, 1)?, row.get_ref(2)?.as_blob()?);
                let plain = usize::try_from(len)
                    .ok()
                    .filter(|len| *len <= MAX_CONTENT)
                    .and_then(|len| compress::restore(Codec::Zstd, bytes, len).ok());
                Ok((row.get(0)?, plain))
            },
        )
        .optional()?;
    match found {
        Some((version, Some(bytes))) => {
            Ok(Some(Checkpoint { seq: Seq(entry.first), version, bytes }))
        }
        _ => Err(Fault::refused(
            Code::StoreCorrupt,
            format!(
                "process {}: its checkpoint at event {} is damaged: ask for one before it, or \
                 fold the journal from its beginning",
                place.pid, entry.first
            ),
        )),
    }
}
