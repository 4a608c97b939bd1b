//! Checkpoints: saved folds, so that recovery need not begin at the first event.

use aosk_abi::{Code, Seq};
use aosk_ports::{Checkpoint, Stretch};
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
    bytes: Frame,
    stretches: Vec<(Seq, Frame)>,
}

/// Compressed bytes, and how many they are plain.
#[derive(Debug)]
struct Frame {
    len: usize,
    bytes: Vec<u8>,
}

impl Frame {
    fn new(plain: &[u8]) -> std::io::Result<Self> {
        Ok(Self { len: plain.len(), bytes: compress::checkpoint(plain)? })
    }

    /// The plain bytes; `None` where they are damaged.
    fn restore(len: u64, bytes: &[u8]) -> Option<Vec<u8>> {
        let len = usize::try_from(len).ok().filter(|len| *len <= MAX_CONTENT)?;
        compress::restore(Codec::Zstd, bytes, len).ok()
    }
}

impl Packed {
    /// Compresses a checkpoint.
    pub(super) fn new(checkpoint: &Checkpoint) -> std::io::Result<Self> {
        Ok(Self {
            seq: checkpoint.seq,
            version: checkpoint.version,
            bytes: Frame::new(&checkpoint.bytes)?,
            stretches: checkpoint
                .stretches
                .iter()
                .map(|stretch| Ok((stretch.first, Frame::new(&stretch.bytes)?)))
                .collect::<std::io::Result<_>>()?,
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
                self.bytes.len as i64,
                &self.bytes.bytes,
            ))?;
        place.checkpoints.push(Entry { first: self.seq.0, id: connection.last_insert_rowid() });
        let gone = place.checkpoints.len().saturating_sub(KEPT);
        for entry in place.checkpoints.drain(..gone) {
            connection
                .prepare_cached("DELETE FROM checkpoints WHERE id = ?1")?
                .execute([entry.id])?;
        }
        for (first, frame) in &self.stretches {
            let first = first.0.cast_signed();
            connection
                .prepare_cached(
                    "DELETE FROM stretches WHERE tenant = ?1 AND pid = ?2 AND first >= ?3",
                )?
                .execute((place.tenant, place.pid.as_bytes(), first))?;
            connection
                .prepare_cached(
                    "INSERT INTO stretches (tenant, pid, first, len, bytes) \
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute((
                    place.tenant,
                    place.pid.as_bytes(),
                    first,
                    frame.len as i64,
                    &frame.bytes,
                ))?;
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
                let plain = Frame::restore(number(row, 1)?, row.get_ref(2)?.as_blob()?);
                Ok((row.get(0)?, plain))
            },
        )
        .optional()?;
    let stretches = stretches(connection, place, entry.first)?;
    match found {
        Some((version, Some(bytes))) if stretches.is_some() => {
            let stretches = stretches.unwrap_or_default();
            Ok(Some(Checkpoint { seq: Seq(entry.first), version, bytes, stretches }))
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

/// The stretches that begin at `seq` or before; `None` where one is damaged.
fn stretches(
    connection: &Connection,
    place: &Place,
    seq: u64,
) -> Result<Option<Vec<Stretch>>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT first, len, bytes FROM stretches \
         WHERE tenant = ?1 AND pid = ?2 AND first <= ?3 ORDER BY first",
    )?;
    let key = (place.tenant, place.pid.as_bytes(), seq.cast_signed());
    let mut rows = statement.query(key)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let bytes = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
        let Some(bytes) = Frame::restore(number(row, 1)?, bytes) else {
            return Ok(None);
        };
        found.push(Stretch { first: Seq(number(row, 0)?), bytes });
    }
    Ok(Some(found))
}
