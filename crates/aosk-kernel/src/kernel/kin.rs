//! Families: what the end of a parent means to its children.
//!
//! The children of a process that has ended are killed: nobody would hear what they find, and what
//! they spend is its money. The kill is posted when the end is durable. A crash in between leaves them
//! running, so each child looks, whenever it comes into memory, whether its parent has ended. A child
//! on another node need not come into memory for the crash, so there the node looks for it, every
//! [`Leases::others`](aosk_ports::Leases::others): one read for each parent that is not here.

use std::collections::BTreeMap;
use std::time::Duration;

use aosk_abi::{Pid, Signal};
use aosk_ports::{InboxId, InboxItem, StoreError};

use super::Kernel;
use super::table::Entry;
use crate::errands::Errand;
use crate::error::Error;
use crate::image::Image;
use crate::shared::Shared;

/// How often it is looked whether those that were killed have ended.
const ROUND: Duration = Duration::from_millis(20);

impl Shared {
    /// Kills the children that live, if the process has ended, and waits for their ends as long as a
    /// graceful stop would: whoever hears that a process has ended may stop the kernel. What fails is
    /// made good when they come into memory.
    pub(crate) async fn end_children(&self, image: &Image) {
        if !image.state.is_final() {
            return;
        }
        let (store, tenant) = (&self.parts.store, &self.options.tenant);
        let mut killed = Vec::new();
        for (child, known) in &image.children {
            if known.end.is_some() {
                continue;
            }
            let ended = async {
                let lives = store.process(tenant, *child).await?;
                if lives.is_some_and(|child| !child.row.state.is_final()) {
                    let kill = InboxItem::Signal { signal: Signal::Kill };
                    store.post(tenant, *child, kill).await?;
                    self.errands.leave(Errand::Look(*child));
                    killed.push(*child);
                }
                Ok::<_, StoreError>(())
            };
            if let Err(error) = ended.await {
                tracing::warn!(pid = %image.pid, %child, %error, "a child outlives its parent for now");
            }
        }
        let rounds = self.options.grace.as_millis() / ROUND.as_millis();
        for _ in 0..rounds {
            if killed.is_empty() || !self.stop.is_run() {
                return;
            }
            self.parts.clock.sleep(ROUND).await;
            let mut living = Vec::new();
            for child in killed {
                if let Ok(Some(there)) = store.process(tenant, child).await
                    && !there.row.state.is_final()
                {
                    living.push(child);
                }
            }
            killed = living;
        }
    }

    /// Kills those children if their parent has ended.
    async fn end_with(&self, parent: Pid, children: &[Pid]) -> Result<(), StoreError> {
        let (store, tenant) = (&self.parts.store, &self.options.tenant);
        let parent = store.process(tenant, parent).await?;
        if parent.is_none_or(|parent| !parent.row.state.is_final()) {
            return Ok(());
        }
        for child in children {
            store.post(tenant, *child, InboxItem::Signal { signal: Signal::Kill }).await?;
            self.errands.let_go(*child);
        }
        Ok(())
    }

    /// What waits in the inbox for a process that comes into memory; a kill, too, if it is a child
    /// whose parent has ended.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(crate) async fn waits_for(
        &self,
        image: &Image,
    ) -> Result<Vec<(InboxId, InboxItem)>, Error> {
        let (store, tenant) = (&self.parts.store, &self.options.tenant);
        let kill = InboxItem::Signal { signal: Signal::Kill };
        let mut waiting: Vec<_> = store
            .pending(tenant)
            .await?
            .into_iter()
            .filter_map(|(pid, id, item)| (pid == image.pid).then_some((id, item)))
            .collect();
        if let Some(parent) = image.lives_with()
            && let Some(parent) = store.process(tenant, parent).await?
            && parent.row.state.is_final()
            && waiting.iter().all(|(_, item)| *item != kill)
        {
            let id = store.post(tenant, image.pid, kill.clone()).await?;
            waiting.push((id, kill));
        }
        Ok(waiting)
    }
}

impl Kernel {
    /// Kills the children here whose parents have ended elsewhere.
    pub(super) async fn end_orphans(&self) {
        let mut of = BTreeMap::<Pid, Vec<Pid>>::new();
        for (child, parent) in self.shared.errands.guarded() {
            let is_here = |entry: &Entry| !matches!(entry, Entry::Broken { .. });
            if !self.table().get(parent).is_some_and(is_here) {
                of.entry(parent).or_default().push(child);
            }
        }
        for (parent, children) in of {
            if let Err(error) = self.shared.end_with(parent, &children).await {
                tracing::warn!(%parent, %error, "whether a parent has ended cannot be read");
            }
        }
    }
}
