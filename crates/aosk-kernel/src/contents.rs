//! The contents of one process's conversation, in memory.
//!
//! A prompt needs every resident text, so texts stay here from the moment they are made; after a
//! recovery they are read back in one request.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aosk_abi::{Content, ContentKey, ContentRef, Hash, Pid, Seq, Tenant};
use aosk_ports::{Store, StoreError};

/// Texts by address.
pub(crate) struct Contents {
    key: ContentKey,
    known: HashMap<Hash, Arc<[u8]>>,
}

impl Contents {
    pub(crate) fn new(key: ContentKey) -> Self {
        Self { key, known: HashMap::new() }
    }

    /// Seals bytes and remembers them.
    pub(crate) fn seal(&mut self, bytes: impl Into<Arc<[u8]>>) -> Content {
        let content = self.key.seal(bytes);
        self.known.insert(content.hash(), content.bytes().clone());
        content
    }

    /// Seals bytes that no prompt will ask for.
    pub(crate) fn seal_aside(&self, bytes: impl Into<Arc<[u8]>>) -> Content {
        self.key.seal(bytes)
    }

    /// Reads what is not known yet; `wanted` says which event names each content.
    pub(crate) async fn load(
        &mut self,
        store: &dyn Store,
        tenant: &Tenant,
        pid: Pid,
        wanted: impl Iterator<Item = (Seq, ContentRef)>,
    ) -> Result<(), StoreError> {
        // Pages of one content name it once each.
        let mut asked = HashSet::new();
        let missing: Vec<(Seq, Hash)> = wanted
            .map(|(seq, content)| (seq, content.hash))
            .filter(|(_, hash)| !self.known.contains_key(hash) && asked.insert(*hash))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let found = store.contents(tenant, pid, &missing).await?;
        self.known.extend(missing.into_iter().map(|(_, hash)| hash).zip(found));
        Ok(())
    }

    /// Forgets everything but what `keep` names.
    pub(crate) fn keep(&mut self, keep: impl Iterator<Item = Hash>) {
        let keep: HashSet<Hash> = keep.collect();
        self.known.retain(|hash, _| keep.contains(hash));
    }

    /// The bytes, if they are known.
    pub(crate) fn bytes(&self, hash: &Hash) -> Option<&Arc<[u8]>> {
        self.known.get(hash)
    }

    /// The bytes as text; `None` also where they are not UTF-8.
    pub(crate) fn exact_text(&self, hash: &Hash) -> Option<Arc<str>> {
        std::str::from_utf8(self.bytes(hash)?).ok().map(Into::into)
    }

    /// The bytes as text. What is not UTF-8 (only a tool of the operator's could make it) is shown
    /// with U+FFFD, as the model would see it.
    pub(crate) fn text(&self, hash: &Hash) -> Option<Arc<str>> {
        self.bytes(hash).map(|bytes| String::from_utf8_lossy(bytes).into())
    }
}
