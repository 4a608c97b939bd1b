//! Stores that came out of a backup.

use aosk_ports::ProcessFilter;

use super::Kernel;
use crate::error::Error;
use crate::image::Pending;

impl Kernel {
    /// Sees to what was in flight when the store was backed up, and answers how many tool calls
    /// that was. A journal that goes on elsewhere, or went on after the backup, holds outcomes that
    /// this one does not: so no effect that was intended is repeated, not even one that may be
    /// after a crash. Call it on a store that was restored, before anything runs on it.
    ///
    /// # Errors
    /// [`Error`] where a journal cannot be read or written.
    pub async fn settle_restored(&self) -> Result<usize, Error> {
        let tenant = &self.shared.options.tenant;
        let mut cut_off = 0;
        for receipt in self.shared.parts.store.processes(tenant, ProcessFilter::Unfinished).await? {
            let mut process = self.load(receipt.pid, None).await?;
            let in_flight =
                process.image.pending.iter().filter_map(|(op, pending)| match pending {
                    Pending::Tool { attempts: 1.., call, .. } => Some((*op, call.clone())),
                    _ => None,
                });
            for (op, call) in in_flight.collect::<Vec<_>>() {
                process.interrupt(op, &call)?;
                cut_off += 1;
            }
            process.commit().await?;
        }
        Ok(cut_off)
    }
}
