//! Checkpoints: saved folds, so that recovery need not begin at the first event.

use aosk_abi::{Code, Seq};
use aosk_ports::Checkpoint;
use deadpool_postgres::Object;

use super::fault::Fault;
use super::process::{Place, number, uuid};
use crate::check::MAX_CONTENT;
use crate::sqlite::compress::{self, Codec};

/// A checkpoint as it is stored: a zstd frame with a checksum, which detects damage.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) seq: Seq,
    pub(super) version: u16,
    pub(super) len: i32,
    pub(super) bytes: Vec<u8>,
}

impl Packed {
    /// Compresses a checkpoint, which is within the bounds of an append.
    pub(super) fn new(checkpoint: &Checkpoint) -> std::io::Result<Self> {
        Ok(Self {
            seq: checkpoint.seq,
            version: checkpoint.version,
            len: checkpoint.bytes.len() as i32,
            bytes: compress::checkpoint(&checkpoint.bytes)?,
        })
    }
}

/// The newest checkpoint at or before `at`.
pub(super) async fn read(
    client: &Object,
    place: &Place,
    at: Option<Seq>,
) -> Result<Option<Checkpoint>, Fault> {
    let statement = client
        .prepare_cached(
            "SELECT seq, version, len, bytes FROM checkpoints \
             WHERE tenant = $1 AND pid = $2 AND seq <= $3 ORDER BY seq DESC LIMIT 1",
        )
        .await?;
    let at = at.map_or(i64::MAX, |at| i64::try_from(at.0).unwrap_or(i64::MAX));
    let Some(row) = client.query_opt(&statement, &[&place.tenant, &uuid(place.pid), &at]).await?
    else {
        return Ok(None);
    };
    let seq = Seq(number(&row, 0)?);
    let version = u16::try_from(row.try_get::<_, i32>(1)?).ok();
    let bytes = usize::try_from(row.try_get::<_, i32>(2)?)
        .ok()
        .filter(|len| *len <= MAX_CONTENT)
        .map(|len| Ok::<_, Fault>(compress::restore(Codec::Zstd, row.try_get(3)?, len).ok()))
        .transpose()?
        .flatten();
    match version.zip(bytes) {
        Some((version, bytes)) => Ok(Some(Checkpoint { seq, version, bytes })),
        None => Err(Fault::refused(
            Code::StoreCorrupt,
            format!(
                "process {}: its checkpoint at event {seq} is damaged: ask for one before it, or \
                 fold the journal from its beginning",
                place.pid
            ),
        )),
    }
}
