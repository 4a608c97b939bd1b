//! The store as everyone may read it, wherever it is.
//!
//! Commands that look know a journal and an inbox and nothing of files or servers. The one thing that
//! differs is who works on what: on a file one owner has all, on a server every process has a node.

use std::collections::HashMap;

use aosk_abi::{Code, Pid, Tenant};
use aosk_ports::{Inbox, InboxId, InboxItem, Journal, StoreError};
use aosk_store::{Node, PostgresReader, SqliteReader};

use crate::config::{Settings, StoreAt};
use crate::error::Error;
use crate::processes::{DATABASE, refuse_file};

/// A store that is read, and to whose inbox is posted.
pub(crate) trait Reading: Journal + Inbox {
    /// Posts items, all or none; their numbers are in the order of the items.
    fn post_all(&self, items: Vec<(Pid, InboxItem)>) -> BoxFuture<'_, Vec<InboxId>>;

    /// Who works on a server's processes; `None` for a file, which has one owner.
    fn nodes(&self) -> BoxFuture<'_, Option<Nodes>>;
}

type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A store of either kind.
pub(crate) type Reader = Box<dyn Reading>;

/// Who works on the processes of a server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Nodes {
    /// Those that are alive, the oldest first.
    pub(crate) alive: Vec<Node>,
    owners: HashMap<Pid, String>,
}

impl Nodes {
    /// Those, and which of them owns which unfinished process.
    #[cfg(test)]
    pub(crate) fn new(alive: Vec<Node>, owners: HashMap<Pid, String>) -> Self {
        Self { alive, owners }
    }

    /// What the living node calls itself that owns the process.
    pub(crate) fn owner(&self, pid: Pid) -> Option<&str> {
        self.owners.get(&pid).map(String::as_str)
    }
}

impl Reading for SqliteReader {
    fn post_all(&self, items: Vec<(Pid, InboxItem)>) -> BoxFuture<'_, Vec<InboxId>> {
        Self::post_all(self, &Tenant::local(), items)
    }

    fn nodes(&self) -> BoxFuture<'_, Option<Nodes>> {
        Box::pin(async { Ok(None) })
    }
}

impl Reading for PostgresReader {
    fn post_all(&self, items: Vec<(Pid, InboxItem)>) -> BoxFuture<'_, Vec<InboxId>> {
        Self::post_all(self, &Tenant::local(), items)
    }

    fn nodes(&self) -> BoxFuture<'_, Option<Nodes>> {
        Box::pin(async {
            let (alive, owners) = (Self::nodes(self).await?, self.owners(&Tenant::local()).await?);
            Ok(Some(Nodes { alive, owners }))
        })
    }
}

/// The store of these settings; `None` where nothing was ever run.
///
/// # Errors
/// [`Error`] where there is a store that cannot be read.
pub(crate) fn open(settings: &Settings) -> Result<Option<Reader>, Error> {
    match &settings.store {
        StoreAt::Folder => {
            let dir = &settings.data_dir;
            refuse_file(dir)?;
            match SqliteReader::open(dir) {
                Ok(reader) => Ok(Some(Box::new(reader))),
                Err(error) if error.code == Code::StoreOpen && !dir.join(DATABASE).exists() => {
                    Ok(None)
                }
                Err(error) => Err(error.into()),
            }
        }
        StoreAt::Server(options) => {
            Ok(PostgresReader::find(options)?.map(|reader| Box::new(reader) as Reader))
        }
    }
}
