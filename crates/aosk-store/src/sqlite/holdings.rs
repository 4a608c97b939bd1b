//! Leases where one owner has the whole store: the lock file is the lease.
//!
//! Whoever holds it is the only node, and loses it only by ending, so it never lapses. What is left
//! to keep is which processes this owner has taken in hand: all others were the last owner's, and
//! are there to be taken over.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aosk_abi::{Epoch, Pid, Tenant};
use aosk_ports::{Leases, ProcessFilter, Receipt, Standing, StoreError};
use futures::future::BoxFuture;
use rusqlite::Connection;

use super::fault::Fault;
use super::process;
use super::reader::heard;
use super::store::SqliteStore;
use crate::check;

/// The processes that this owner has.
#[derive(Debug, Default)]
pub(super) struct Holdings(Mutex<HashSet<(Tenant, Pid)>>);

impl Holdings {
    pub(super) fn take(&self, tenant: &Tenant, pid: Pid) {
        self.lock().insert((tenant.clone(), pid));
    }

    fn give(&self, tenant: &Tenant, pid: Pid) {
        self.lock().remove(&(tenant.clone(), pid));
    }

    fn has(&self, tenant: &Tenant, pid: Pid) -> bool {
        self.lock().contains(&(tenant.clone(), pid))
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<(Tenant, Pid)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take_over(
    connection: &Connection,
    holdings: &Holdings,
    tenant: &Tenant,
    limit: usize,
) -> Result<Vec<Receipt>, Fault> {
    let mut taken = Vec::new();
    for receipt in process::list(connection, tenant, ProcessFilter::Unfinished)? {
        if taken.len() == limit {
            break;
        }
        if !holdings.has(tenant, receipt.pid) {
            let epoch = process::claim(connection, tenant, receipt.pid, receipt.epoch)?;
            taken.push(Receipt { epoch, ..receipt });
        }
    }
    Ok(taken)
}

impl Leases for SqliteStore {
    fn standing(&self) -> Standing {
        Standing::Held { left: Duration::MAX }
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        Box::pin(futures::future::pending())
    }

    fn renew(&self) -> BoxFuture<'_, Result<Standing, StoreError>> {
        Box::pin(async { Ok(self.standing()) })
    }

    fn take_over(
        &self,
        tenant: &Tenant,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Receipt>, StoreError>> {
        let (tenant, holdings) = (tenant.clone(), Arc::clone(self.holdings()));
        let answer = self.writer().enqueue(None, 0, {
            let (tenant, holdings) = (tenant.clone(), Arc::clone(&holdings));
            move |connection| take_over(connection, &holdings, &tenant, limit)
        });
        Box::pin(async move {
            let taken = heard(answer).await?;
            taken.iter().for_each(|receipt| holdings.take(&tenant, receipt.pid));
            Ok(taken)
        })
    }

    fn release(
        &self,
        tenant: &Tenant,
        pid: Pid,
        epoch: Epoch,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let (tenant, holdings) = (tenant.clone(), Arc::clone(self.holdings()));
        let answer = self.writer().enqueue(None, 0, {
            let tenant = tenant.clone();
            move |connection| {
                let place = process::expect(connection, &tenant, pid)?;
                check::raised(pid, place.epoch, epoch)?;
                Ok(())
            }
        });
        Box::pin(async move {
            heard(answer).await?;
            holdings.give(&tenant, pid);
            Ok(())
        })
    }
}
