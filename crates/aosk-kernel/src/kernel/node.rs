//! The kernel as one node of several on one store.
//!
//! The store says whether this node may act ([`Standing`]); drivers wait for it in front of every
//! effect, and here it is said aloud when it changes. A node whose lease lapsed is not stopped: what
//! its processes had in flight goes on, because a call that was paid for and a tool that ran are not
//! undone by giving them up, and what comes of them is written down where nobody has taken over. A
//! node that was taken for dead ends.
//!
//! What others leave behind is asked for every [`Leases::others`](aosk_ports::Leases::others), in
//! batches of [`BATCH`]: a claim costs a write of one row, so a batch holds its transaction for some
//! milliseconds, and a node that died with 10,000 agents is shared out among those that live. On a
//! store of one owner there are no others, and nothing here ever runs.

use std::time::Duration;

use aosk_abi::Pid;
use aosk_ports::{Receipt, Standing};

use super::Kernel;
use super::stay::resting;
use super::table::Stay;
use crate::error::Error;
use crate::shared::Stop;

/// How many processes are taken over at once.
const BATCH: usize = 256;

impl Kernel {
    /// Where this kernel stands among the nodes of its store.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.shared.parts.store.standing()
    }

    /// Completes once others have taken this kernel's processes over. It has stopped then, for good.
    pub async fn lost(&self) {
        loop {
            let changed = self.shared.parts.store.changed();
            if self.standing() == Standing::Lost {
                return;
            }
            changed.await;
        }
    }

    /// Says what becomes of the lease, and stops the kernel when it is lost.
    pub(super) async fn watch_lease(self) {
        let clock = self.shared.parts.clock.clone();
        let mut lapsed = false;
        loop {
            let changed = self.shared.parts.store.changed();
            let left = match self.standing() {
                Standing::Held { left } => {
                    if std::mem::take(&mut lapsed) {
                        tracing::warn!("the lease is held again; the agents go on");
                        self.fill_places();
                    }
                    left
                }
                Standing::Lapsed => {
                    if !std::mem::replace(&mut lapsed, true) {
                        tracing::warn!(
                            "the lease could not be renewed in time; no agent begins anything \
                             until it is held again"
                        );
                    }
                    Duration::MAX
                }
                Standing::Lost => {
                    tracing::error!(
                        "others have taken the agents of this node over; it ends, and they go on"
                    );
                    self.stop(Stop::Now);
                    return;
                }
            };
            tokio::select! {
                biased;
                () = self.shared.stop.wait(false) => return,
                () = changed => {}
                () = clock.sleep(left) => {}
            }
        }
    }

    /// Takes over what others left behind, a batch of it, and answers which of those have something
    /// to do, and whether there may be more.
    pub(super) async fn adopt(&self) -> Result<(Vec<Pid>, bool), Error> {
        self.shared.leased().await?;
        let tenant = &self.shared.options.tenant;
        let taken = self.shared.parts.store.take_over(tenant, BATCH).await?;
        let more = taken.len() == BATCH;
        let begun = taken.into_iter().filter_map(|receipt| self.receive(&receipt)).collect();
        Ok((begun, more))
    }

    /// Enters a process that was taken over, unless it waits for something from outside.
    fn receive(&self, Receipt { pid, epoch, row, .. }: &Receipt) -> Option<Pid> {
        if resting(&row.state).is_some() {
            return None;
        }
        if !self.lay_to_sleep(*pid, Some(*epoch), &row.state) {
            self.line_up(*pid, Stay { epoch: Some(*epoch), waited: None });
        }
        Some(*pid)
    }
}
