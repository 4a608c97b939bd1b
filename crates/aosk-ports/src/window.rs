//! Windows of time in a journal.
//!
//! A journal is ordered by the places of its events, and nothing in it is ordered by time: an index
//! over time would take 36 bytes and one more page to write for each append, for a question that is
//! asked once in a long while. The times of one process ascend, but for what its clocks were set
//! back, so its journal is searched by halves instead: 14 reads of one event find a moment among
//! 16,000.
//!
//! A clock that was set back makes the search end anywhere among the events whose times overlap. So
//! it looks for a moment [`CLOCK_STEP`] before the one that is meant, and reads on for as long after
//! the end. While no event is stamped earlier, by more than that, than one before it, this is exact:
//! let `r` be where the search for `time - CLOCK_STEP` ends, so that event `r - 1` is older than
//! that; then every event before it is at most `CLOCK_STEP` younger than it, hence older than `time`.
//! Likewise no event behind one of `until + CLOCK_STEP` is older than `until`.

use std::ops::Range;
use std::time::Duration;

use aosk_abi::{Code, Pid, Record, Seq, Tenant, Timestamp};

use crate::store::{Journal, StoreError};

/// How far clocks may have gone back within a journal for its windows of time to be complete. Time
/// services keep machines within milliseconds of each other and step a clock that is off by more
/// once, at its start; an agent that makes an event a second pays with 300 events read at each side,
/// less than 2 ms.
pub const CLOCK_STEP: Duration = Duration::from_secs(300);

const STEP_MS: u64 = CLOCK_STEP.as_millis() as u64;

/// How many events are read at once.
const PAGE: usize = 512;

/// See [`Journal::since`].
pub(crate) async fn since<J: Journal + ?Sized>(
    journal: &J,
    tenant: &Tenant,
    pid: Pid,
    time: Timestamp,
) -> Result<Seq, StoreError> {
    // A moment before the first there is: no event is older, whatever the clocks did.
    let Some(sought) = time.as_millis().checked_sub(STEP_MS).map(Timestamp::from_millis) else {
        return Ok(Seq(0));
    };
    let mut behind = match journal.process(tenant, pid).await? {
        Some(receipt) => receipt.next.0,
        // Asked for its words.
        None => return journal.read(tenant, pid, Seq(0), 1).await.map(|_| Seq(0)),
    };
    let mut first = 0;
    while first < behind {
        let middle = first + (behind - first) / 2;
        let found = journal.read(tenant, pid, Seq(middle), 1).await?;
        let Some(record) = found.first() else {
            return Err(StoreError::new(
                Code::StoreCorrupt,
                format!("process {pid}: event {middle} is missing; restore a backup"),
            ));
        };
        if at(pid, record)? < sought {
            first = middle + 1;
        } else {
            behind = middle;
        }
    }
    Ok(Seq(first))
}

/// See [`Journal::events_between`].
pub(crate) async fn events_between<J: Journal + ?Sized>(
    journal: &J,
    tenant: &Tenant,
    pid: Pid,
    times: Range<Timestamp>,
    limit: usize,
) -> Result<Vec<Record>, StoreError> {
    let mut next = journal.since(tenant, pid, times.start).await?;
    let mut found = Vec::new();
    if times.is_empty() || limit == 0 {
        return Ok(found);
    }
    loop {
        let page = journal.read(tenant, pid, next, PAGE).await?;
        let is_last = page.len() < PAGE;
        for record in page {
            next = record.seq.next();
            let at = at(pid, &record)?;
            if at.millis_since(times.end) >= STEP_MS {
                return Ok(found);
            }
            if times.contains(&at) {
                found.push(record);
            }
            if found.len() == limit {
                return Ok(found);
            }
        }
        if is_last {
            return Ok(found);
        }
    }
}

fn at(pid: Pid, record: &Record) -> Result<Timestamp, StoreError> {
    record.at().ok_or_else(|| {
        StoreError::new(
            Code::StoreCorrupt,
            format!(
                "process {pid}: event {} tells no time: it was not written by a kernel, or it is \
                 damaged; aosk store check finds which",
                record.seq
            ),
        )
    })
}
