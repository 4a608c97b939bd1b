//! Following the journals.
//!
//! An index could be told of every page by the kernel that made it. Then a kernel that dies between
//! the two leaves a hole, a store from before the index is never found in, and each way to make a page
//! is one more place that must remember to tell. Instead the index reads what is committed, from
//! where it stands, whoever wrote it: a plan's event says which pages it admitted, and the event that a
//! page stands in says what is in it.
//!
//! Several may follow one journal: the nodes of a server, and whoever cannot wait for the one in
//! the background. The cursor lets one of them through, and the others go on from where it stands
//! then.
//!
//! Where the journal is another one than the index followed (a store was restored from a backup), the
//! link before the cursor is another one: what came from that process is taken out and read again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use aosk_abi::{
    Admission, Code, ContentRef, DecodeError, Event, Hash, PageKind, Pid, Record, ReplyPart, Seq,
    Tenant, Timestamp, ToolResult, What,
};
use aosk_ports::{
    Batch, Cursor, Entry, Followed, Item, Journal, ProcessFilter, Retriever, Space, StoreError,
};

/// How many events are read at once.
const CHUNK: usize = 256;

/// How long a part of a long page is at most, in bytes: some 1,000 tokens, as a whole page has. A
/// ranking of longer texts by words or by direction is one of averages.
const PART: usize = 4 << 10;

/// Puts the pages of a store's processes into an index.
pub struct Follower {
    journal: Arc<dyn Journal>,
    index: Arc<dyn Retriever>,
    rests: bool,
}

/// How far an index is behind the journals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// The events that it has not read.
    pub events: u64,
    /// When the oldest of them happened.
    pub since: Option<Timestamp>,
}

impl Lag {
    /// For how many milliseconds the index has been behind at `now`; 0 where it is not.
    #[must_use]
    pub fn millis(&self, now: Timestamp) -> u64 {
        self.since.map_or(0, |since| now.millis_since(since))
    }
}

impl Follower {
    /// Follows `journal` into `index`.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, index: Arc<dyn Retriever>) -> Self {
        Self { journal, index, rests: false }
    }

    /// One that rests after each stretch as long as that took, so that it takes at most half of a
    /// core. Needs a tokio runtime.
    #[must_use]
    pub fn at_leisure(self) -> Self {
        Self { rests: true, ..self }
    }

    /// Reads what is new of every process of the tenant; how many events that was. Ends when
    /// nothing is new; can be dropped at any time and goes on where it was. Processes that are in
    /// the store no more are [taken out](Self::tidy).
    ///
    /// # Errors
    /// Those of the store and of the index. A journal that cannot be read ends the round after the
    /// others were read.
    pub async fn round(&self, tenant: &Tenant) -> Result<u64, StoreError> {
        self.tidy(tenant).await?;
        let (mut read, mut failed) = (0, None);
        for process in self.journal.processes(tenant, ProcessFilter::All).await? {
            match self.follow(tenant, process.pid).await {
                Ok(events) => read += events,
                Err(error) => {
                    tracing::warn!(pid = %process.pid, %error, "a journal is not searched to its end");
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(read), Err)
    }

    /// Takes the processes out that are in the store no more; how many that were. Reads the list of
    /// processes and one row of each that is in the index.
    ///
    /// # Errors
    /// Those of the store and of the index.
    pub async fn tidy(&self, tenant: &Tenant) -> Result<u64, StoreError> {
        // Asked for first: whoever comes meanwhile is in the later list and not in this one.
        let followed = self.index.followed(tenant).await?;
        let there = self.journal.processes(tenant, ProcessFilter::All).await?;
        let there: HashSet<Pid> = there.iter().map(|process| process.pid).collect();
        let mut gone = 0;
        for pid in followed.into_iter().filter(|pid| !there.contains(pid)) {
            self.index.forget(tenant, pid).await?;
            gone += 1;
        }
        Ok(gone)
    }

    /// Reads what is new of one process; how many events that was. One that is not in the store is
    /// taken out.
    ///
    /// # Errors
    /// Those of the store and of the index.
    pub async fn follow(&self, tenant: &Tenant, pid: Pid) -> Result<u64, StoreError> {
        let mut read = 0;
        loop {
            let began = Instant::now();
            let from = self.index.cursor(tenant, pid).await?;
            let unread = match self.unread(tenant, pid, from).await {
                Err(error) if error.code == Code::StoreUnknownProcess => {
                    self.index.forget(tenant, pid).await?;
                    return Ok(read);
                }
                unread => unread?,
            };
            let Some(records) = unread else {
                tracing::warn!(%pid, "another journal than before: its pages are indexed anew");
                self.index.forget(tenant, pid).await?;
                continue;
            };
            let Some(last) = records.last() else {
                return Ok(read);
            };
            let until = Cursor { next: last.seq.next(), head: last.hash };
            let items = self.items(tenant, pid, &records).await?;
            let followed = Some(Followed { pid, from, until });
            match self.index.index(Batch { tenant: tenant.clone(), items, followed }).await {
                // Somebody else was faster: the cursor stands further on.
                Err(error) if error.code == Code::StoreConflict => continue,
                indexed => indexed?,
            }
            read += records.len() as u64;
            if self.rests {
                tokio::time::sleep(began.elapsed()).await;
            }
        }
    }

    /// How far the index is behind. Reads one row of each process and two events of each that it is
    /// behind of.
    ///
    /// # Errors
    /// Those of the store and of the index.
    pub async fn lag(&self, tenant: &Tenant) -> Result<Lag, StoreError> {
        let mut lag = Lag::default();
        for process in self.journal.processes(tenant, ProcessFilter::All).await? {
            let cursor = self.index.cursor(tenant, process.pid).await?;
            let behind = process.next.0.saturating_sub(cursor.next.0);
            if behind == 0 {
                continue;
            }
            lag.events += behind;
            let next = self.journal.read(tenant, process.pid, cursor.next, 1).await?;
            let at = next.first().and_then(|record| record.decode().ok()).map(|event| event.at);
            lag.since = lag.since.into_iter().chain(at).min();
        }
        Ok(lag)
    }

    /// The next events behind the cursor; `None` where it is another journal's.
    async fn unread(
        &self,
        tenant: &Tenant,
        pid: Pid,
        from: Cursor,
    ) -> Result<Option<Vec<Record>>, StoreError> {
        let Some(before) = from.next.0.checked_sub(1) else {
            return self.journal.read(tenant, pid, Seq(0), CHUNK).await.map(Some);
        };
        let mut records = self.journal.read(tenant, pid, Seq(before), CHUNK + 1).await?;
        if records.first().is_none_or(|record| record.hash != from.head) {
            return Ok(None);
        }
        records.remove(0);
        Ok(Some(records))
    }

    /// The pages that the plans among the records admitted.
    async fn items(
        &self,
        tenant: &Tenant,
        pid: Pid,
        records: &[Record],
    ) -> Result<Vec<Item>, StoreError> {
        let mut events: HashMap<Seq, Event> = HashMap::new();
        let mut admitted: Vec<Admission> = Vec::new();
        for record in records {
            let event = event(record)?;
            if let What::Planned(planned) = event.what {
                admitted.extend(planned.admitted.iter().filter(|it| is_worth_finding(it.kind)));
            } else {
                events.insert(record.seq, event);
            }
        }
        let mut items = Vec::new();
        for admission in admitted {
            let seq = admission.source.seq;
            if !events.contains_key(&seq) {
                let before = self.journal.read(tenant, pid, seq, 1).await?;
                for record in before.iter().filter(|record| record.seq == seq) {
                    events.insert(seq, event(record)?);
                }
            }
            let Some(event) = events.get(&seq) else { continue };
            let Some(content) = content(&event.what, admission.source.part) else { continue };
            match self.journal.contents(tenant, pid, &[(seq, content.hash)]).await {
                Ok(bytes) => {
                    let text = bytes.first().map(|bytes| text(&event.what, bytes));
                    let text = text.unwrap_or_default();
                    items.extend(parts(pid, &admission, content.hash, event.at, &text));
                }
                // The rest of the journal is worth finding all the same.
                Err(error) if error.code == Code::StoreContentMissing => {
                    tracing::warn!(%error, "a page cannot be found by its text");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(items)
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").finish_non_exhaustive()
    }
}

fn event(record: &Record) -> Result<Event, StoreError> {
    record.decode().map_err(|error| {
        let code = match error {
            DecodeError::UnknownKind { .. } | DecodeError::NewerVersion { .. } => Code::EventNewer,
            DecodeError::Body { .. } => Code::EventDamaged,
        };
        StoreError::new(code, error.to_string())
    })
}

/// The system prompt and the tools' schemas never leave the context.
const fn is_worth_finding(kind: PageKind) -> bool {
    !matches!(kind, PageKind::System | PageKind::Tools)
}

/// The content that stands in a part of an event, where it is one to be read.
fn content(what: &What, part: u16) -> Option<ContentRef> {
    match what {
        What::Spawned(spawned) => (part == 2).then_some(spawned.task),
        What::MessageReceived(message) => Some(message.content),
        What::Told(told) => Some(told.content),
        What::LlmReturned(returned) => match returned.parts.get(usize::from(part))? {
            ReplyPart::Text { content } | ReplyPart::ToolCall { arguments: content, .. } => {
                Some(*content)
            }
            ReplyPart::Opaque { .. } => None,
        },
        What::ToolReturned(returned) => Some(returned.result),
        What::Interrupted(interrupted) => Some(interrupted.result),
        _ => None,
    }
}

/// The text as the model reads it, but whole.
fn text(what: &What, bytes: &[u8]) -> String {
    let is_result = matches!(what, What::ToolReturned(_) | What::Interrupted(_));
    match serde_json::from_slice::<ToolResult>(bytes) {
        Ok(result) if is_result => result.to_text(usize::MAX),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// A page as it goes into the index: whole, or where it is long in parts that end at a line's end.
fn parts(pid: Pid, admission: &Admission, hash: Hash, time: Timestamp, text: &str) -> Vec<Item> {
    // A page that covers a part of its source. Where the text was cut for the model its end may lie
    // elsewhere; the page is then found by the whole text instead of not at all.
    let text = admission
        .range
        .and_then(|(start, len)| {
            let start = usize::try_from(start).ok()?;
            text.get(start..start.checked_add(usize::try_from(len).ok()?)?)
        })
        .unwrap_or(text);
    let mut items = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let rest = &text[start..];
        let end = if rest.len() <= PART {
            rest.len()
        } else {
            let most = rest.floor_char_boundary(PART);
            rest[..most].rfind('\n').map_or(most, |line| line + 1)
        };
        let entry = Entry {
            space: Space::Process(pid),
            pid,
            page: admission.page,
            start: start as u64,
            seq: admission.source.seq,
            hash,
            kind: admission.kind,
            time,
            tags: Vec::new(),
        };
        items.push(Item { entry, text: rest[..end].into() });
        start += end;
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use aosk_abi::{PageId, Ppm, Source, Tokens};

    fn admission(range: Option<(u64, u64)>) -> Admission {
        Admission {
            importance: Ppm(0),
            kind: PageKind::ToolResult,
            page: PageId(7),
            pinned: false,
            range,
            source: Source { seq: Seq(3), part: 0 },
            tokens: Tokens(1),
            unit: Seq(3),
        }
    }

    fn cut(range: Option<(u64, u64)>, text: &str) -> Vec<(u64, String)> {
        let pid = Pid::from_bytes([1; 16]);
        let items = parts(pid, &admission(range), Hash::ZERO, Timestamp::from_millis(0), text);
        items.into_iter().map(|item| (item.entry.start, item.text.to_string())).collect()
    }

    #[test]
    fn a_page_below_at_and_above_the_length_of_a_part() {
        for (len, parts) in [(PART - 1, 1), (PART, 1), (PART + 1, 2), (3 * PART, 3)] {
            assert_eq!(cut(None, &"x".repeat(len)).len(), parts, "{len}");
        }
    }

    #[test]
    fn parts_end_at_line_ends_and_leave_nothing_out() {
        let text: String = (0..2_000).map(|n| format!("第 {n} 行\n")).collect();
        let parts = cut(None, &text);
        assert!(parts.len() > 2);
        assert!(parts.iter().all(|(_, part)| part.ends_with('\n') && part.len() <= PART));
        assert!(parts.iter().all(|(start, part)| text[*start as usize..].starts_with(&**part)));
        assert_eq!(parts.concat(), text);
    }

    #[test]
    fn a_page_of_a_part_of_its_source_is_that_part() {
        assert_eq!(cut(Some((2, 3)), "abcdefg"), [(0, "cde".to_owned())]);
        assert_eq!(cut(Some((5, 9)), "abcdefg"), [(0, "abcdefg".to_owned())]);
    }

    trait Concat {
        fn concat(&self) -> String;
    }

    impl Concat for Vec<(u64, String)> {
        fn concat(&self) -> String {
            self.iter().map(|it| it.1.as_str()).collect()
        }
    }
}
