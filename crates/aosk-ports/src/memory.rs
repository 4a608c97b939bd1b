//! What processes can be reminded of: an index that somebody keeps up with the journals.
//!
//! A [`Retriever`](crate::Retriever) answers for what was put into it. A kernel needs one thing
//! more: its processes ask for what they lost a moment ago, which an index that follows off the
//! commit path need not have read yet. So a memory can be asked to catch up with one journal before
//! a query, and is told what was committed, so that it rarely has to.

use aosk_abi::{Pid, Tenant};
use futures::future::BoxFuture;

use crate::retriever::{Found, Query};
use crate::store::StoreError;

/// An index of pages that follows the journals of a store.
pub trait Memory: Send + Sync {
    /// Hears that something of a process was committed. Waits for nothing, and may forget it: what
    /// is not followed soon is followed later.
    fn committed(&self, pid: Pid);

    /// Reads all that is committed of a process's journal; how many events that was. Each event is
    /// read once in the life of the index, so all calls together cost in proportion to the journal.
    /// Can be dropped at any time and goes on where it was.
    ///
    /// Codes: those of a [`Journal`](crate::Journal) and of a [`Retriever`](crate::Retriever);
    /// [`StoreClosed`](aosk_abi::Code::StoreClosed) for one that has ended.
    fn follow<'a>(&'a self, tenant: &'a Tenant, pid: Pid)
    -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Finds pages, as [`Retriever::query`](crate::Retriever::query) does.
    fn query(&self, query: Query) -> BoxFuture<'_, Result<Found, StoreError>>;
}
