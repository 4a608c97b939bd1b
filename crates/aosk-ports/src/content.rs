//! Contents of any length: in and out a chunk at a time.
//!
//! An append brings contents in one buffer each, which suits what a model reads. What is longer than a
//! store takes so, a recording or an archive, comes in here: cut into chunks that are stored as they come,
//! then the list of them. At its end the writer learns the address, and an event may name it as any other.
//!
//! Before an event does, nothing names the content, and a collection would remove it. So a store holds what
//! came in this way for [`HOLD`], named or not. A writer that was cut off leaves chunks that go
//! with the collections after that, and one that begins again stores none of them twice.

use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{ChunkList, Chunker, Code, Content, ContentKey, ContentRef, Cut, Hash, Tenant};
use futures::future::BoxFuture;

use crate::store::StoreError;

/// How long a store keeps what nothing names yet, from when it last came in, by the store's clock: long
/// enough for the longest content over the slowest line, and for whoever is to name it.
pub const HOLD: Duration = Duration::from_secs(24 * 3600);

/// A store of contents that are no part of an append. [`ContentWriter`] and [`ContentReader`] are
/// how to use it.
pub trait ContentStore: Send + Sync {
    /// Stores a content durably, once for the tenant, and holds it for [`HOLD`].
    ///
    /// Codes: [`Code::StoreConflict`] for a content of another tenant's key; [`Code::EventEncode`] for
    /// one larger than a store takes in one buffer.
    fn put_content(
        &self,
        tenant: &Tenant,
        content: Content,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Stores the list of a content whose chunks are all there, durably, and holds it and them for
    /// [`HOLD`]. Answers the content's address.
    ///
    /// Codes: [`Code::StoreContentMissing`] where a chunk is not there.
    fn put_chunks(
        &self,
        tenant: &Tenant,
        list: ChunkList,
    ) -> BoxFuture<'_, Result<Hash, StoreError>>;

    /// The list of that content; `None` where it is stored whole, or not at all.
    ///
    /// Codes: [`Code::StoreCorrupt`] for one that is not of its address.
    fn chunks(
        &self,
        tenant: &Tenant,
        address: Hash,
    ) -> BoxFuture<'_, Result<Option<ChunkList>, StoreError>>;

    /// A content that is stored whole and once for the tenant, or a chunk; `None` where it is not.
    ///
    /// Codes: [`Code::StoreCorrupt`] for bytes that are not of their address.
    fn content(
        &self,
        tenant: &Tenant,
        address: Hash,
    ) -> BoxFuture<'_, Result<Option<Arc<[u8]>>, StoreError>>;
}

/// Writes one content, piece by piece, with a chunk of it in memory. Dropping it unfinished leaves
/// nothing that is not collected.
pub struct ContentWriter<'a> {
    store: &'a dyn ContentStore,
    tenant: Tenant,
    key: ContentKey,
    chunker: Chunker,
}

impl<'a> ContentWriter<'a> {
    /// Begins a content of the tenant, whose key that is.
    pub fn new(store: &'a dyn ContentStore, tenant: &Tenant, key: ContentKey) -> Self {
        Self { store, tenant: tenant.clone(), key, chunker: Chunker::new(key) }
    }

    /// Adds bytes at the end, however many.
    ///
    /// # Errors
    /// [`Code::EventEncode`] for more than a content may have; what the store says.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let chunk = self.chunker.take(&mut bytes);
            let chunk = chunk.map_err(|e| StoreError::new(Code::EventEncode, e.to_string()))?;
            if let Some(chunk) = chunk {
                self.store.put_content(&self.tenant, chunk).await?;
            }
        }
        Ok(())
    }

    /// Ends the content: it is durable, and this is how an event names it.
    ///
    /// # Errors
    /// What the store says.
    pub async fn finish(self) -> Result<ContentRef, StoreError> {
        let Self { store, tenant, key, chunker } = self;
        let cut = chunker.finish();
        let reference = cut.reference(&key);
        match cut {
            Cut::Whole(content) => store.put_content(&tenant, content).await?,
            Cut::Chunks(last, list) => {
                store.put_content(&tenant, last).await?;
                store.put_chunks(&tenant, list).await?;
            }
        }
        Ok(reference)
    }
}

/// Reads one content, a chunk at a time. What it gives out belongs to the address, from the first byte on.
pub struct ContentReader<'a> {
    store: &'a dyn ContentStore,
    tenant: Tenant,
    key: ContentKey,
    address: Hash,
    source: Source,
}

/// Where the bytes come from.
enum Source {
    /// Stored whole; `None` once it was given out.
    Whole(Option<Arc<[u8]>>),
    /// In chunks, of which so many were given out.
    Chunks(ChunkList, usize),
}

impl<'a> ContentReader<'a> {
    /// Opens the content at that address, which must be stored once for the tenant: one that stands
    /// beside an event is read with [`Journal::contents`](crate::Journal::contents).
    ///
    /// # Errors
    /// [`Code::StoreContentMissing`]; what the store says.
    pub async fn open(
        store: &'a dyn ContentStore,
        tenant: &Tenant,
        key: ContentKey,
        address: Hash,
    ) -> Result<Self, StoreError> {
        let source = match store.chunks(tenant, address).await? {
            Some(list) => Source::Chunks(list, 0),
            None => match store.content(tenant, address).await? {
                Some(bytes) => Source::Whole(Some(bytes)),
                None => return Err(missing(tenant, address)),
            },
        };
        Ok(Self { store, tenant: tenant.clone(), key, address, source })
    }

    /// The bytes that come next; `None` at the end. Up to a chunk of them, or all of a content that is
    /// stored whole.
    ///
    /// # Errors
    /// [`Code::StoreCorrupt`] for a chunk that does not belong here; [`Code::StoreContentMissing`];
    /// what the store says.
    pub async fn next(&mut self) -> Result<Option<Arc<[u8]>>, StoreError> {
        let (list, place) = match &mut self.source {
            Source::Whole(bytes) => return Ok(bytes.take()),
            Source::Chunks(list, place) => (list, place),
        };
        let Some(chunk) = list.chunks().get(*place) else { return Ok(None) };
        let bytes = self.store.content(&self.tenant, chunk.address).await?;
        let Some(bytes) = bytes else { return Err(missing(&self.tenant, chunk.address)) };
        if !list.holds(&self.key, *place, &bytes) {
            return Err(StoreError::new(
                Code::StoreCorrupt,
                format!(
                    "chunk {place} of the content {} has other bytes than its address says: restore \
                     the store from a copy",
                    self.address
                ),
            ));
        }
        *place += 1;
        Ok(Some(bytes))
    }
}

fn missing(tenant: &Tenant, address: Hash) -> StoreError {
    StoreError::new(
        Code::StoreContentMissing,
        format!("tenant {tenant} has no content {address} that is stored by itself"),
    )
}
