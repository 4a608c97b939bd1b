//! Finding pages again that left the context.
//!
//! An index is derived from journals: it can be thrown away and made again, and nothing is lost but
//! time. So it stands off the commit path, follows the journal from a cursor that is moved in the same
//! transaction as what was read up to there (a page is indexed once, whatever crashed in between), and
//! names what it finds by event and hash instead of handing out texts: whoever wants the text reads
//! the journal, where it is checked.
//!
//! A query names the memories that it may look into. There is no way to ask for everything, so one
//! process never sees another's by leaving a filter out.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aosk_abi::{Hash, PageId, PageKind, Pid, Seq, Tenant, Timestamp};
use futures::future::BoxFuture;

use crate::embedder::Embedding;
use crate::store::StoreError;

/// The longest name of a shared memory, in bytes.
const NAME_MAX: usize = 63;

/// The text is no name of a shared memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name of a memory: use 1-63 of a-z, 0-9, '-', '_' and '.', first a letter or digit"
)]
pub struct MemoryNameError(String);

/// The name of a memory that several processes of a tenant share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemoryName(Arc<str>);

impl MemoryName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MemoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for MemoryName {
    type Err = MemoryNameError;

    fn from_str(text: &str) -> Result<Self, MemoryNameError> {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let first = text.bytes().next().is_some_and(is_plain);
        let rest = text.bytes().all(|b| is_plain(b) || matches!(b, b'-' | b'_' | b'.'));
        if text.len() <= NAME_MAX && first && rest {
            Ok(Self(text.into()))
        } else {
            Err(MemoryNameError(text.to_owned()))
        }
    }
}

/// A memory of a tenant: what is searched together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// That of one process, for nobody else.
    Process(Pid),
    /// One that several processes put into.
    Shared(MemoryName),
}

/// A page in an index, or a part of a long one, without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The memory that it is in.
    pub space: Space,
    /// The process that it came from.
    pub pid: Pid,
    /// Its number there. Within a space pid, page and start together name one entry.
    pub page: PageId,
    /// The byte of the page's text at which this part begins; 0 for a page that is whole.
    pub start: u64,
    /// The event that carries it.
    pub seq: Seq,
    /// The content that the event names.
    pub hash: Hash,
    /// What it holds.
    pub kind: PageKind,
    /// When the event happened.
    pub time: Timestamp,
    /// What it was marked with, sorted, none twice; up to [`Entry::TAGS_MAX`].
    pub tags: Vec<Arc<str>>,
}

impl Entry {
    /// The most tags of an entry.
    pub const TAGS_MAX: usize = 32;

    /// The longest tag, in bytes; an empty one is refused as well.
    pub const TAG_MAX: usize = 128;

    /// The longest text of an entry, in bytes. A page of 1,024 tokens has some 4,000; whoever has a
    /// longer one puts it in in parts.
    pub const TEXT_MAX: usize = 64 << 10;
}

/// What is put into an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The page.
    pub entry: Entry,
    /// Its text. A blank one is kept and never found.
    pub text: Arc<str>,
}

/// How far an index has followed a process's journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The first event that it has not read.
    pub next: Seq,
    /// The chain's link before that event, by which another journal in the same place is known.
    pub head: Hash,
}

/// A stretch of a journal whose items come with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Followed {
    /// Whose journal.
    pub pid: Pid,
    /// Where the index stands now.
    pub from: Cursor,
    /// Where it stands afterwards.
    pub until: Cursor,
}

/// Items that are put in together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Whose.
    pub tenant: Tenant,
    /// In place of those of the same name that are there.
    pub items: Vec<Item>,
    /// The stretch of journal that they came from; `None` for items from elsewhere.
    pub followed: Option<Followed>,
}

/// What narrows a query down. All of it holds; what is empty narrows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// From one of these processes.
    pub processes: Vec<Pid>,
    /// Of one of these kinds.
    pub kinds: Vec<PageKind>,
    /// At this time or later.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// With every one of these tags.
    pub tags: Vec<Arc<str>>,
}

/// By what a query finds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Means {
    /// By words and by direction, both ranks fused; by words alone where there are no vectors.
    #[default]
    Hybrid,
    /// By words alone: it asks no embedder.
    Words,
    /// By direction alone.
    Vectors,
}

/// A question to an index.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Whose memories.
    pub tenant: Tenant,
    /// Which, 1 to [`Query::SPACES_MAX`].
    pub spaces: Vec<Space>,
    /// What is looked for, in words. Its first [`Query::TERMS_MAX`] different terms count, without
    /// those that are in every English text.
    pub text: Option<Arc<str>>,
    /// Its direction, where the caller has it already; else the index asks its embedder for that of
    /// the text.
    pub vector: Option<Embedding>,
    /// What narrows it down.
    pub filter: Filter,
    /// By what.
    pub means: Means,
    /// How many pages at most, 1 to [`Query::K_MAX`].
    pub k: usize,
    /// Whether each hit is followed by the page before and the page after it in its process, where
    /// those are in the index. They come in addition to the `k`.
    pub neighbours: bool,
}

impl Query {
    /// The most pages that a query may ask for.
    pub const K_MAX: usize = 1_000;

    /// The most memories that a query may name.
    pub const SPACES_MAX: usize = 1_000;

    /// The most terms of a query that count.
    pub const TERMS_MAX: usize = 48;

    /// A question in words to one memory.
    #[must_use]
    pub fn new(tenant: Tenant, space: Space, text: impl Into<Arc<str>>, k: usize) -> Self {
        Self {
            tenant,
            spaces: vec![space],
            text: Some(text.into()),
            vector: None,
            filter: Filter::default(),
            means: Means::default(),
            k,
            neighbours: false,
        }
    }
}

/// How a page was found. Ranks begin at 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Origin {
    /// Its rank by words.
    pub words: Option<u32>,
    /// Its rank by direction.
    pub vector: Option<u32>,
    /// It comes here because it stands beside this page of its process; without a rank it was not
    /// found itself.
    pub beside: Option<PageId>,
}

/// A page that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The page; of a long one the part that answers best.
    pub entry: Entry,
    /// How well it answers: larger is better, comparable within one answer. A neighbour has that of
    /// the page beside which it stands.
    pub score: f64,
    /// How it was found.
    pub origin: Origin,
}

/// The answer to a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The best first, each page once; neighbours right behind theirs.
    pub hits: Vec<Hit>,
    /// Why only words were compared though directions were asked for. An index says it to the log
    /// once, until it has passed.
    pub words_only: Option<Arc<str>>,
}

/// How many items have a vector of the embedder that is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// The embedder, `None` where none is set.
    pub embedder: Option<String>,
    /// All items, of all tenants.
    pub items: u64,
    /// Those that wait for their vector.
    pub waiting: u64,
    /// Why they go on waiting, and for how long at least, where the embedder failed.
    pub stalled: Option<(Arc<str>, std::time::Duration)>,
}

/// An index of pages.
///
/// Codes, besides those of a store: `SearchInput` of [`Code`](aosk_abi::Code) for a query or an item
/// that breaks a bound stated here, `SearchDamaged` where the index was damaged and begins anew.
pub trait Retriever: Send + Sync {
    /// Puts items in, and moves the cursor of the journal that they came from, in one transaction.
    /// One that was put in already, by its cursor, changes nothing; so whoever has no answer repeats.
    ///
    /// Codes: [`StoreConflict`](aosk_abi::Code::StoreConflict) where the cursor stands elsewhere.
    fn index(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>>;

    /// How far the journal of a process has been followed; the beginning for one that was not.
    fn cursor(&self, tenant: &Tenant, pid: Pid) -> BoxFuture<'_, Result<Cursor, StoreError>>;

    /// Finds pages.
    ///
    /// An embedder that is down or makes other vectors than it should is no error: the words are
    /// compared, and the answer says why.
    fn query(&self, query: Query) -> BoxFuture<'_, Result<Found, StoreError>>;

    /// The processes whose journals have been followed, in no order: those with a cursor.
    fn followed(&self, tenant: &Tenant) -> BoxFuture<'_, Result<Vec<Pid>, StoreError>>;

    /// Takes everything out that came from a process, from every memory, with its cursor.
    fn forget(&self, tenant: &Tenant, pid: Pid) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Makes the vectors of up to `limit` items that wait for theirs, and says what is left. After a
    /// change of embedders every item waits; what was made is kept, so it goes on where it was cut
    /// off. Called again until nothing waits, by one task.
    fn embed(&self, limit: usize) -> BoxFuture<'_, Result<Coverage, StoreError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_memories_below_at_and_above_their_bounds() {
        for name in ["a", "team-1", "0.x_y", &"m".repeat(NAME_MAX)] {
            assert_eq!(name.parse::<MemoryName>().expect("a name").as_str(), name);
        }
        for name in ["", "-a", "A", "a b", "é", &"m".repeat(NAME_MAX + 1)] {
            name.parse::<MemoryName>().expect_err(name);
        }
    }
}
