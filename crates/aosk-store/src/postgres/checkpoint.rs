//! Checkpoints: saved folds, so that recovery need not begin at the first event.

use aosk_abi::{Code, Seq};
use aosk_ports::{Checkpoint, Stretch};
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
    pub(super) frame: Frame,
    pub(super) stretches: Vec<(Seq, Frame)>,
}

/// Compressed bytes, and how many they are plain.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) len: i32,
    pub(super) bytes: Vec<u8>,
}

impl Frame {
    fn new(plain: &[u8]) -> std::io::Result<Self> {
        Ok(Self { len: plain.len() as i32, bytes: compress::checkpoint(plain)? })
    }

    /// The plain bytes; `None` where they are damaged.
    fn restore(len: i32, bytes: &[u8]) -> Option<Vec<u8>> {
        let len = usize::try_from(len).ok().filter(|len| *len <= MAX_CONTENT)?;
        compress::restore(Codec::Zstd, bytes, len).ok()
    }
}

impl Packed {
    /// Compresses a checkpoint, which is within the bounds of an append.
    pub(super) fn new(checkpoint: &Checkpoint) -> std::io::Result<Self> {
        Ok(Self {
            seq: checkpoint.seq,
            version: checkpoint.version,
            frame: Frame::new(&checkpoint.bytes)?,
            stretches: checkpoint
                .stretches
                .iter()
                .map(|stretch| Ok((stretch.first, Frame::new(&stretch.bytes)?)))
                .collect::<std::io::Result<_>>()?,
        })
    }

    /// What it holds in memory, about.
    pub(super) fn size(&self) -> usize {
        let stretches: usize = self.stretches.iter().map(|(_, frame)| frame.bytes.len()).sum();
        self.frame.bytes.len() + stretches
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
             WHERE tenant = $1 AND pid = $2 AND NOT settled AND seq <= $3 ORDER BY seq DESC LIMIT 1",
        )
        .await?;
    let at = at.map_or(i64::MAX, |at| i64::try_from(at.0).unwrap_or(i64::MAX));
    let Some(row) = client.query_opt(&statement, &[&place.tenant, &uuid(place.pid), &at]).await?
    else {
        return Ok(None);
    };
    let seq = Seq(number(&row, 0)?);
    let version = u16::try_from(row.try_get::<_, i32>(1)?).ok();
    let bytes = Frame::restore(row.try_get(2)?, row.try_get(3)?);
    let stretches = stretches(client, place, seq).await?;
    match version.zip(bytes).zip(stretches) {
        Some(((version, bytes), stretches)) => {
            Ok(Some(Checkpoint { seq, version, bytes, stretches }))
        }
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

/// The stretches that begin at `seq` or before; `None` where one is damaged.
async fn stretches(
    client: &Object,
    place: &Place,
    seq: Seq,
) -> Result<Option<Vec<Stretch>>, Fault> {
    let statement = client
        .prepare_cached(
            "SELECT seq, len, bytes FROM checkpoints \
             WHERE tenant = $1 AND pid = $2 AND settled AND seq <= $3 ORDER BY seq",
        )
        .await?;
    let (pid, seq) = (uuid(place.pid), seq.0.cast_signed());
    let rows = client.query(&statement, &[&place.tenant, &pid, &seq]).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(bytes) = Frame::restore(row.try_get(1)?, row.try_get(2)?) else {
            return Ok(None);
        };
        found.push(Stretch { first: Seq(number(&row, 0)?), bytes });
    }
    Ok(Some(found))
}
