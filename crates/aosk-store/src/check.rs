//! What every backend asks of an append, in the same words: checks that need no database, and the
//! verdicts on what the database says.
//!
//! Two backends that refuse the same append with other codes, or at other bounds, would be two
//! stores. So the bounds, the order of the questions and the words stand here once.

use aosk_abi::{Code, Content, ContentKey, Epoch, Hash, Pid, Record, Records, Seq, Tenant};
use aosk_ports::{Append, Checkpoint, Draw, StoreError};

/// The most bytes that the bodies of one append, or the contents beside them, may have; so a
/// damaged length cannot make a reader ask for more memory than that.
pub(crate) const MAX_SMALL: usize = 16 << 20;

/// The most bytes of one content; a damaged length cannot make a reader ask for more.
pub(crate) const MAX_CONTENT: usize = 64 << 20;

/// Whether a content stands beside the event that brought it.
pub(crate) fn is_inline(content: &Content) -> bool {
    content.bytes().len() <= Content::INLINE_MAX
}

/// Checks what needs no database: that there are records, which follow one another, that nothing
/// is too large, and that the checkpoint is of the last. Answers the first event's place, the last
/// one's, and the link after it.
pub(crate) fn whole(append: &Append) -> Result<(Seq, Seq, Hash), StoreError> {
    let Append { tenant, pid, epoch, prev, records, contents, checkpoint, .. } = append;
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        return Err(conflict(*pid, "the append has no records"));
    };
    links(tenant, *pid, *epoch, *prev, records)?;
    sizes(*pid, records, contents, checkpoint.as_ref())?;
    if let Some(checkpoint) = checkpoint.as_ref().filter(|saved| saved.seq != last.seq) {
        let (of, last) = (checkpoint.seq, last.seq);
        return Err(conflict(
            *pid,
            format_args!("its checkpoint is of event {of}, its last is {last}"),
        ));
    }
    checkpoint.as_ref().map_or(Ok(()), |saved| stretches(*pid, saved))?;
    Ok((first.seq, last.seq, last.hash))
}

/// Checks that the records follow one another and `prev`, all in `epoch`.
fn links(
    tenant: &Tenant,
    pid: Pid,
    epoch: Epoch,
    prev: Hash,
    records: &Records,
) -> Result<(), StoreError> {
    let first = records.first().map_or(0, |record| record.seq.0);
    for (record, index) in records.iter().zip(0_u64..) {
        let seq = first.wrapping_add(index);
        if record.seq.0 != seq || seq == u64::MAX {
            return Err(conflict(
                pid,
                format_args!("event {} stands where {seq} must", record.seq),
            ));
        }
        if record.epoch != epoch {
            return Err(conflict(
                pid,
                format_args!("event {seq} is of epoch {}, its append of {epoch}", record.epoch),
            ));
        }
    }
    records.verify(tenant, pid, prev).map_err(|error| conflict(pid, error))
}

/// Checks that no part of an append is larger than a store takes.
fn sizes(
    pid: Pid,
    records: &[Record],
    contents: &[Content],
    checkpoint: Option<&Checkpoint>,
) -> Result<(), StoreError> {
    let too_large = |what: &str, len: usize, max: usize| {
        Err(StoreError::new(
            Code::EventEncode,
            format!("process {pid}: {what} has {len} bytes; the store takes up to {max}"),
        ))
    };
    let bodies: usize = records.iter().map(|record| record.body.len()).sum();
    if bodies > MAX_SMALL {
        return too_large("the append without its contents", bodies, MAX_SMALL);
    }
    let beside: usize =
        contents.iter().filter(|content| is_inline(content)).map(|c| c.bytes().len()).sum();
    if beside > MAX_SMALL {
        return too_large("the sum of its small contents", beside, MAX_SMALL);
    }
    let largest = contents.iter().map(|content| content.bytes().len()).max().unwrap_or(0);
    if largest > MAX_CONTENT {
        return Err(StoreError::new(
            Code::EventEncode,
            format!(
                "process {pid}: a content has {largest} bytes; an append takes up to {MAX_CONTENT} each: \
                 store a longer one by itself, in chunks, before the event that names it"
            ),
        ));
    }
    let Some(saved) = checkpoint else { return Ok(()) };
    if saved.bytes.len() > MAX_CONTENT {
        return too_large("its checkpoint", saved.bytes.len(), MAX_CONTENT);
    }
    let longest = saved.stretches.iter().map(|stretch| stretch.bytes.len()).max().unwrap_or(0);
    if longest > MAX_CONTENT {
        return too_large("a stretch of its checkpoint", longest, MAX_CONTENT);
    }
    Ok(())
}

/// Checks that the stretches of a checkpoint follow one another and are of its events.
fn stretches(pid: Pid, checkpoint: &Checkpoint) -> Result<(), StoreError> {
    let Checkpoint { seq, stretches, .. } = checkpoint;
    let ascend = stretches.windows(2).all(|pair| pair[0].first < pair[1].first);
    if ascend && stretches.iter().all(|stretch| stretch.first <= *seq) {
        return Ok(());
    }
    Err(conflict(
        pid,
        format_args!("the stretches of its checkpoint at event {seq} do not ascend to that event"),
    ))
}

/// The refusal of an append that does not fit the journal.
pub(crate) fn conflict(pid: Pid, what: impl std::fmt::Display) -> StoreError {
    StoreError::new(
        Code::StoreConflict,
        format!("process {pid}: {what}; the append was refused, nothing of it is stored"),
    )
}

/// The most bytes of a budget's name.
const MAX_BUDGET: usize = 400;

/// Checks that a budget has a name that every backend can keep.
pub(crate) fn budget(draw: &Draw) -> Result<(), StoreError> {
    let name = &draw.budget;
    if name.len() <= MAX_BUDGET && !name.contains('\0') {
        return Ok(());
    }
    Err(StoreError::new(
        Code::StoreConflict,
        format!(
            "the name of a budget has {} bytes: give at most {MAX_BUDGET}, and no U+0000",
            name.len()
        ),
    ))
}

/// Checks that a journal still ends where somebody who decided on it saw its end.
pub(crate) fn still_ends(pid: Pid, there: Seq, seen: Seq) -> Result<(), StoreError> {
    if there == seen {
        return Ok(());
    }
    Err(StoreError::new(
        Code::StoreConflict,
        format!("process {pid}: its next event was {seen} and is {there} by now; look at it again"),
    ))
}

/// How far a process's journal has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reached {
    pub(crate) epoch: Epoch,
    pub(crate) next: Seq,
    pub(crate) head: Hash,
}

impl Reached {
    /// Whether the journal may hold an append already that begins at `first` after the link
    /// `prev`; if not, the append continues it.
    ///
    /// # Errors
    /// The refusal of an append that can do neither.
    pub(crate) fn may_hold(
        &self,
        pid: Pid,
        epoch: Epoch,
        first: Seq,
        prev: Hash,
    ) -> Result<bool, StoreError> {
        if epoch != self.epoch {
            return Err(StoreError::new(
                Code::StoreStaleEpoch,
                format!(
                    "process {pid} is in epoch {}, the append in {epoch}: another kernel has \
                     taken the process over; this one must let it go",
                    self.epoch
                ),
            ));
        }
        if first < self.next {
            return Ok(true);
        }
        if first > self.next {
            return Err(conflict(
                pid,
                format_args!("its next event is {}, the append begins at {first}", self.next),
            ));
        }
        if prev == self.head {
            return Ok(false);
        }
        Err(conflict(
            pid,
            format_args!("its chain ends with {}, the append follows {prev}", self.head),
        ))
    }
}

/// The refusal of an append whose places others have taken.
pub(crate) fn taken(pid: Pid, first: Seq, last: Seq, next: Seq) -> StoreError {
    conflict(
        pid,
        format_args!("the events {first} to {last} are taken by others; its next is {next}"),
    )
}

/// The refusal of an append with a content that is not its tenant's.
pub(crate) fn foreign_content(pid: Pid, hash: Hash) -> StoreError {
    conflict(pid, format_args!("the content {hash} was sealed with a key that is not the tenant's"))
}

/// Checks a content that comes in by itself.
///
/// # Errors
/// The refusal of one that is not the tenant's, or too large for a buffer.
pub(crate) fn by_itself(content: &Content, key: &ContentKey) -> Result<(), StoreError> {
    let (hash, len) = (content.hash(), content.bytes().len());
    if !content.is_sealed_with(key) {
        let what = "was sealed with a key that is not the tenant's; it was not stored";
        return Err(StoreError::new(Code::StoreConflict, format!("the content {hash} {what}")));
    }
    if len > MAX_CONTENT {
        return Err(StoreError::new(
            Code::EventEncode,
            format!(
                "the content {hash} has {len} bytes; one buffer takes up to {MAX_CONTENT}: write it \
                 in chunks"
            ),
        ));
    }
    Ok(())
}

/// The refusal of a list with a chunk that is not there.
pub(crate) fn no_chunk(chunk: Hash) -> StoreError {
    StoreError::new(
        Code::StoreContentMissing,
        format!("the chunk {chunk} is not there: store every chunk before the list of them"),
    )
}

/// Checks that a content in chunks may be read in one buffer, and answers its length.
///
/// # Errors
/// The refusal of a longer one.
pub(crate) fn one_buffer(hash: Hash, len: u64) -> Result<usize, StoreError> {
    usize::try_from(len).ok().filter(|len| *len <= MAX_CONTENT).ok_or_else(|| {
        StoreError::new(
            Code::StoreContentLong,
            format!(
                "the content {hash} has {len} bytes, one buffer holds up to {MAX_CONTENT}: read it in \
                 chunks, as `aosk store get {hash}` does"
            ),
        )
    })
}

/// What is wrong with a list that is not of its address.
pub(crate) fn wrong_list(hash: Hash) -> String {
    format!("the list of chunks of the content {hash} is not of that content")
}

/// What is wrong with a chunk that is not of its content, or not there.
pub(crate) fn wrong_chunk(hash: Hash, place: usize) -> String {
    format!("chunk {place} of the content {hash} is not there or has other bytes than it must")
}

/// What is wrong with a content that is not of its address.
pub(crate) fn wrong_content(hash: Hash) -> String {
    format!("the content {hash} has other bytes than its hash says")
}

/// The epoch after `expected`, which is the process's own.
///
/// # Errors
/// The refusal of a claim that comes too late, or of the last epoch there is.
pub(crate) fn raised(pid: Pid, own: Epoch, expected: Epoch) -> Result<Epoch, StoreError> {
    let refusal = |message| Err(StoreError::new(Code::StoreStaleEpoch, message));
    if own != expected {
        return refusal(format!(
            "process {pid} is in epoch {own}, the claim in {expected}: another kernel was faster; \
             read the process again before claiming it"
        ));
    }
    match own.0.checked_add(1) {
        Some(next) => Ok(Epoch(next)),
        None => {
            refusal(format!("process {pid} is in the last epoch there is and cannot change hands"))
        }
    }
}

/// The refusal of a call that names a process which is not there.
pub(crate) fn unknown(tenant: &Tenant, pid: Pid) -> StoreError {
    StoreError::new(
        Code::StoreUnknownProcess,
        format!("tenant {tenant} has no process {pid}: `aosk ps --all` lists those there are"),
    )
}

/// The refusal of an append that takes over an item which does not wait for its process.
pub(crate) fn no_item(pid: Pid, item: i64) -> StoreError {
    StoreError::new(
        Code::StoreConflict,
        format!(
            "process {pid}: inbox item {item} does not wait for it (any more); it was taken over \
             already, or is another's"
        ),
    )
}

/// The error of work that the store closed before.
pub(crate) fn closed() -> StoreError {
    StoreError::new(
        Code::StoreClosed,
        "the store was closed before this was done; whether it was is seen when it is opened again",
    )
}

/// The refusal of an append that was enqueued behind a refused one.
pub(crate) fn follows(error: &StoreError) -> StoreError {
    const BEHIND: &str = "an earlier append of the process was refused: ";
    if error.message.starts_with(BEHIND) {
        return error.clone();
    }
    StoreError::new(error.code, format!("{BEHIND}{}", error.message))
}
