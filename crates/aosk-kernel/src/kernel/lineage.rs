//! Lineages: whose quota holds a process besides its own.
//!
//! What an agent may use its descendants share, and it is rarely in memory while they work. So a child
//! that comes in tells the scheduler whom it descends from, up to the first that is known there, as
//! their journals say; after a crash nothing else has to be put together again. What was used is
//! counted by each kernel for itself: of a parent that lives on another node both count what their own
//! processes use.

use aosk_abi::{Code, Limits, Manifest, Seq};

use super::stay::recorded;
use crate::contents::Contents;
use crate::dispatch::Above;
use crate::error::Error;
use crate::image::Image;
use crate::load::load;
use crate::shared::Shared;

impl Shared {
    /// Those from whom the process descends, the parent first, up to one that the scheduler knows. Of a
    /// parent whose journal is not in this store nothing is known: its descendants are held by none of
    /// its quotas.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Fold`] where a journal cannot be read.
    pub(crate) async fn ancestors(&self, image: &Image) -> Result<Vec<Above>, Error> {
        let (store, tenant) = (self.parts.store.as_ref(), &self.options.tenant);
        let (mut found, mut next) = (Vec::new(), image.parent());
        while let Some(pid) = next {
            if self.dispatcher.has_kin(pid) {
                found.push((pid, None));
                break;
            }
            let parent = match load(store, tenant, pid, None).await {
                Err(Error::Store(error)) if error.code == Code::StoreUnknownProcess => break,
                loaded => loaded?,
            };
            found.push((pid, Some(self.quota_of(&parent).await?)));
            next = parent.parent();
        }
        Ok(found)
    }

    /// What a process may use, as its journal says.
    async fn quota_of(&self, image: &Image) -> Result<Limits, Error> {
        if let Some(limits) = image.quota {
            return Ok(limits);
        }
        let (store, tenant, pid) = (&self.parts.store, &self.options.tenant, image.pid);
        let mut contents = Contents::new(store.content_key(tenant).await?);
        let wanted = std::iter::once((Seq(0), image.spawned.manifest));
        contents.load(store.as_ref(), tenant, pid, wanted).await?;
        let hash = &image.spawned.manifest.hash;
        let manifest: Manifest = recorded(&contents, pid, hash, "manifest")?;
        Ok(manifest.quota.limits())
    }
}
