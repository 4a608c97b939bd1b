//! Contents: small ones beside the events that name them, large ones in a table of their own.

use std::sync::Arc;

use aosk_abi::{Code, Content, Hash, Seq};
use rusqlite::Connection;

use super::chunked;
use super::compress::{self, Codec};
use super::fault::Fault;
use super::journal;
use super::process::Place;
use super::tenant::TenantRow;
use crate::check::MAX_CONTENT;

/// The bytes of contents that events of the process name.
pub(super) fn read(
    connection: &Connection,
    tenant: &TenantRow,
    place: &Place,
    wanted: &[(Seq, Hash)],
) -> Result<Vec<Arc<[u8]>>, Fault> {
    let mut found: Vec<Arc<[u8]>> = Vec::with_capacity(wanted.len());
    let mut batch = None;
    for &(seq, hash) in wanted {
        let missing = || {
            Fault::refused(
                Code::StoreContentMissing,
                format!("process {}: event {seq} names no content {hash} that is here", place.pid),
            )
        };
        let damaged = || {
            Fault::damaged(format_args!(
                "process {}: the content {hash} of event {seq} has other bytes than its hash says",
                place.pid
            ))
        };
        if !batch
            .as_ref()
            .is_some_and(|(range, _): &(std::ops::Range<u64>, _)| range.contains(&seq.0))
        {
            batch = journal::covering(connection, place, seq)?;
        }
        let (_, beside) = batch.as_ref().ok_or_else(missing)?;
        let mut candidates = beside.candidates(hash).peekable();
        if candidates.peek().is_some() {
            let bytes = candidates.find(|bytes| tenant.key.hash(bytes) == hash);
            found.push(bytes.ok_or_else(damaged)?.into());
        } else {
            let bytes = match blob(connection, tenant.id, hash)? {
                Some(bytes) if tenant.key.hash(&bytes) != hash => return Err(damaged()),
                Some(bytes) => bytes,
                None => chunked::joined(connection, tenant, hash)?.ok_or_else(missing)?,
            };
            found.push(bytes.into());
        }
    }
    Ok(found)
}

/// A large content as it is stored; its hash is still to be checked.
pub(super) fn blob(
    connection: &Connection,
    tenant: i64,
    hash: Hash,
) -> Result<Option<Vec<u8>>, Fault> {
    let damaged =
        |what: &dyn std::fmt::Display| Fault::damaged(format_args!("content {hash}: {what}"));
    let mut statement = connection
        .prepare_cached("SELECT len, codec, bytes FROM blobs WHERE tenant = ?1 AND hash = ?2")?;
    let mut rows = statement.query((tenant, hash.as_bytes()))?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let len = usize::try_from(row.get::<_, i64>(0)?).ok().filter(|len| *len <= MAX_CONTENT);
    let codec = Codec::from_number(row.get(1)?);
    let (Some(len), Some(codec)) = (len, codec) else {
        return Err(damaged(&"its length or codec is none"));
    };
    compress::restore(codec, row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?, len)
        .map(Some)
        .map_err(|error| damaged(&error))
}

/// Whether the tenant has a large content.
pub(super) fn is_there(connection: &Connection, tenant: i64, hash: Hash) -> Result<bool, Fault> {
    let there = connection
        .prepare_cached("SELECT 1 FROM blobs WHERE tenant = ?1 AND hash = ?2")?
        .exists((tenant, hash.as_bytes()))?;
    Ok(there)
}

/// The addresses of up to `limit` large contents behind `after`, ascending.
pub(super) fn addresses(
    connection: &Connection,
    tenant: i64,
    after: Option<Hash>,
    limit: usize,
) -> Result<Vec<Hash>, Fault> {
    let after = after.as_ref().map_or(&[][..], |hash| hash.as_bytes());
    let mut statement = connection.prepare_cached(
        "SELECT hash FROM blobs WHERE tenant = ?1 AND hash > ?2 ORDER BY hash LIMIT ?3",
    )?;
    let rows = statement.query_map((tenant, after, limit as i64), |row| row.get(0))?;
    rows.map(|hash| Ok(Hash::from_bytes(hash?))).collect()
}

/// The large contents that the last collection found to be named by nothing.
pub(super) fn suspects(connection: &Connection, tenant: i64) -> Result<Vec<Hash>, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT hash FROM suspects WHERE tenant = ?1 ORDER BY hash")?;
    let rows = statement.query_map([tenant], |row| row.get(0))?;
    rows.map(|hash| Ok(Hash::from_bytes(hash?))).collect()
}

/// Puts these in their place.
pub(super) fn suspect(connection: &Connection, tenant: i64, hashes: &[Hash]) -> Result<(), Fault> {
    connection.prepare_cached("DELETE FROM suspects WHERE tenant = ?1")?.execute([tenant])?;
    for hash in hashes {
        connection
            .prepare_cached("INSERT INTO suspects (tenant, hash) VALUES (?1, ?2)")?
            .execute((tenant, hash.as_bytes()))?;
    }
    Ok(())
}

/// How many bytes large contents and lists of chunks take.
pub(super) fn stored_bytes(
    connection: &Connection,
    tenant: i64,
    hashes: &[Hash],
) -> Result<u64, Fault> {
    let mut sum = 0;
    for hash in hashes {
        sum += connection
            .prepare_cached(
                "SELECT coalesce((SELECT length(bytes) FROM blobs WHERE tenant = ?1 AND hash = ?2), 0) \
                 + coalesce((SELECT length(chunks) FROM chunked WHERE tenant = ?1 AND hash = ?2), 0)",
            )?
            .query_row((tenant, hash.as_bytes()), |row| row.get::<_, i64>(0))?
            .cast_unsigned();
    }
    Ok(sum)
}

/// Deletes large contents and lists of chunks.
pub(super) fn delete(connection: &Connection, tenant: i64, hashes: &[Hash]) -> Result<(), Fault> {
    for hash in hashes {
        for sql in [
            "DELETE FROM blobs WHERE tenant = ?1 AND hash = ?2",
            "DELETE FROM chunked WHERE tenant = ?1 AND hash = ?2",
        ] {
            connection.prepare_cached(sql)?.execute((tenant, hash.as_bytes()))?;
        }
    }
    Ok(())
}

/// Stores a large content unless the tenant has it already.
pub(super) fn write(connection: &Connection, tenant: i64, content: &Content) -> Result<(), Fault> {
    if is_there(connection, tenant, content.hash())? {
        return Ok(());
    }
    let packed = compress::blob(content.bytes()).map_err(|error| {
        Fault::refused(Code::StoreIo, format!("cannot compress {}: {error}", content.hash()))
    })?;
    let (codec, bytes) = packed
        .as_deref()
        .map_or((Codec::Plain, &content.bytes()[..]), |bytes| (Codec::Zstd, bytes));
    connection
        .prepare_cached(
            "INSERT INTO blobs (tenant, hash, len, codec, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((
            tenant,
            content.hash().as_bytes(),
            content.bytes().len() as i64,
            codec as u8,
            bytes,
        ))?;
    Ok(())
}
