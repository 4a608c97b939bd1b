//! An index as its users have it, on either backend.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use aosk_abi::{Code, PageId, Pid, Tenant};
use aosk_ports::{
    Batch, Coverage, Cursor, Embedder, Embedding, Entry, Found, Hit, Means, Origin, Query,
    Retriever, Space, StoreError,
};
use futures::future::{BoxFuture, join, ready};

use super::directions::Directions;
use super::shelf::{Row, Scope, Shelf, Shown};
use super::{check, fuse, terms};
use crate::postgres::{PostgresOptions, PostgresShelf};
use crate::sqlite::SqliteShelf;

/// How far down each ranking is read at least: a page that is in neither's first hundred is not worth
/// its place in a prompt.
const DEPTH: usize = 100;

/// The vectors that a backend is opened for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    /// The embedder's id.
    pub(crate) id: String,
    /// The components of its vectors.
    pub(crate) dims: usize,
}

/// An index of pages, in a file or on a server.
pub struct SearchIndex {
    shelf: Box<dyn Shelf>,
    directions: Option<Directions>,
    /// Why there are no directions, where there are none.
    lacks: &'static str,
}

impl SearchIndex {
    /// Opens the index in the folder of a store, or makes it; one that cannot be read is thrown away
    /// and made anew. `embedder` makes its vectors; with `None` it goes by words. Blocks for some
    /// milliseconds, and once for a second for a million pages where the embedder is another one.
    ///
    /// # Errors
    /// `StoreOwned` of [`Code`] where another program has it open, `StoreReadOnly`, `StoreFull`,
    /// `StoreOpen`, `StoreIo`.
    pub fn in_folder(dir: &Path, embedder: Option<Arc<dyn Embedder>>) -> Result<Self, StoreError> {
        let shelf = SqliteShelf::open(dir, model(embedder.as_ref()))?;
        Ok(Self::on(Box::new(shelf), embedder))
    }

    /// Opens the index in the folder of a store beside the program that has it, to ask and not to
    /// put in. It answers for a moment: what changes afterwards may be left out.
    ///
    /// # Errors
    /// `StoreOpen` of [`Code`] where nothing was indexed yet, or by another version; `StoreIo`.
    pub fn beside(dir: &Path, embedder: Option<Arc<dyn Embedder>>) -> Result<Self, StoreError> {
        let (shelf, is_same) = SqliteShelf::beside(dir, model(embedder.as_ref()))?;
        let mut index = Self::on(Box::new(shelf), embedder.clone().filter(|_| is_same));
        if embedder.is_some() && !is_same {
            index.lacks = "the index has no vectors of this embedder yet";
        }
        Ok(index)
    }

    /// Opens the index of a store on a server, or makes it; the store is there already. All nodes of a
    /// store have one embedder. Blocks until the server has answered.
    ///
    /// A server that cannot keep vectors is searched by words, and each answer says why.
    ///
    /// # Errors
    /// Those of [`PostgresReader::open`](crate::PostgresReader::open).
    pub fn on_server(
        options: &PostgresOptions,
        embedder: Option<Arc<dyn Embedder>>,
    ) -> Result<Self, StoreError> {
        let shelf = PostgresShelf::open(options, model(embedder.as_ref()))?;
        Ok(Self::on(Box::new(shelf), embedder))
    }

    fn on(shelf: Box<dyn Shelf>, embedder: Option<Arc<dyn Embedder>>) -> Self {
        let lacks = "no embedder is set";
        Self { shelf, directions: embedder.map(Directions::new), lacks }
    }

    /// Whether it makes vectors.
    pub(crate) const fn has_embedder(&self) -> bool {
        self.directions.is_some()
    }

    /// The direction that a query asks for, or why there is none.
    async fn direction(&self, query: &Query) -> Result<Option<Embedding>, Arc<str>> {
        if query.means == Means::Words {
            return Ok(None);
        }
        let Some(directions) = &self.directions else {
            return Err(self.lacks.into());
        };
        match (&query.vector, &query.text) {
            (Some(vector), _) => Ok(Some(vector.clone())),
            (None, Some(text)) => match directions.of(text.clone()).await {
                Ok(vector) => Ok(Some(vector)),
                Err((why, _)) => Err(why),
            },
            (None, None) => Ok(None),
        }
    }

    fn check(&self, query: &Query) -> Result<(), StoreError> {
        check::query(query)?;
        if let (Some(directions), Some(vector)) = (&self.directions, &query.vector)
            && vector.values().len() != directions.dims()
        {
            return Err(StoreError::new(
                Code::SearchInput,
                format!(
                    "a query brings a vector of {} components, the index has {} of the embedder {}: \
                     let the index make it",
                    vector.values().len(),
                    directions.dims(),
                    directions.id()
                ),
            ));
        }
        Ok(())
    }

    async fn find(&self, query: Query) -> Result<Found, StoreError> {
        self.check(&query)?;
        let (vector, mut words_only) = match self.direction(&query).await {
            Ok(vector) => (vector, None),
            Err(why) => (None, Some(why)),
        };
        let by_words = query.means != Means::Vectors || vector.is_none();
        let terms = query.text.as_ref().filter(|_| by_words);
        let terms = terms.map(|text| terms::of_query(text)).unwrap_or_default();
        let scope = Scope { tenant: query.tenant, spaces: query.spaces, filter: query.filter };
        let depth = DEPTH.max(2 * query.k);
        let words = async {
            match terms.is_empty() {
                true => Ok(Vec::new()),
                false => self.shelf.words(scope.clone(), terms, depth).await,
            }
        };
        let vectors = async {
            match vector {
                Some(vector) => self.shelf.nearest(scope.clone(), vector, depth).await,
                None => Ok(Vec::new()),
            }
        };
        let (words, vectors) = join(words, vectors).await;
        let vectors = match vectors {
            Err(error) if error.code == Code::StoreNoVectors => {
                words_only = Some(error.message.into());
                Vec::new()
            }
            other => other?,
        };
        let ranked = fuse::fuse(&words?, &vectors);
        let hits = self.show(&scope.tenant, &ranked, query.k, query.neighbours).await?;
        Ok(Found { hits, words_only })
    }

    /// The first `k` pages of a ranking, each once, by the part of it that came first.
    async fn show(
        &self,
        tenant: &Tenant,
        ranked: &[(Row, f64, Origin)],
        k: usize,
        neighbours: bool,
    ) -> Result<Vec<Hit>, StoreError> {
        let mut chosen: Vec<(Shown, f64, Origin)> = Vec::with_capacity(k);
        let mut pages = HashSet::new();
        // Most pages are one entry, so the first rows are nearly always enough.
        for some in ranked.chunks(k) {
            let rows = some.iter().map(|it| it.0).collect();
            let shown = self.shelf.show(tenant.clone(), rows, neighbours).await?;
            let mut shown: HashMap<Row, Shown> = shown.into_iter().map(|it| (it.row, it)).collect();
            for (row, score, origin) in some {
                if chosen.len() < k
                    && let Some(shown) = shown.remove(row)
                    && pages.insert(page(&shown.entry))
                {
                    chosen.push((shown, *score, *origin));
                }
            }
            if chosen.len() == k {
                break;
            }
        }
        Ok(hits(chosen))
    }

    async fn embed_some(&self, limit: usize) -> Result<Coverage, StoreError> {
        let mut stalled = None;
        if let Some(directions) = &self.directions {
            let waiting = self.shelf.waiting(limit).await?;
            if !waiting.is_empty() {
                let (made, why) = directions.of_all(waiting).await;
                stalled = why;
                self.shelf.keep(made).await?;
            }
        }
        let counts = self.shelf.counts().await?;
        if counts.waiting == 0 && self.directions.is_some() {
            self.shelf.settle().await?;
        }
        let embedder = self.directions.as_ref().map(|it| it.id().to_owned());
        Ok(Coverage { embedder, items: counts.items, waiting: counts.waiting, stalled })
    }
}

fn model(embedder: Option<&Arc<dyn Embedder>>) -> Option<Model> {
    embedder.map(|it| Model { id: it.id().to_owned(), dims: it.dims() })
}

/// The pages that were chosen, each followed by those beside it. A neighbour that was chosen itself
/// comes forward, so that whoever takes from the front takes whole stretches.
fn hits(chosen: Vec<(Shown, f64, Origin)>) -> Vec<Hit> {
    let mut own: HashMap<_, _> = chosen
        .iter()
        .map(|(shown, _, origin)| (page(&shown.entry), (shown.entry.clone(), *origin)))
        .collect();
    let mut hits = Vec::with_capacity(chosen.len());
    let mut taken = HashSet::new();
    for (Shown { entry, beside, .. }, score, origin) in chosen {
        let of = entry.page;
        if taken.insert(page(&entry)) {
            hits.push(Hit { entry, score, origin });
        }
        for entry in beside {
            if taken.insert(page(&entry)) {
                let (entry, origin) =
                    own.remove(&page(&entry)).unwrap_or((entry, Origin::default()));
                hits.push(Hit { entry, score, origin: Origin { beside: Some(of), ..origin } });
            }
        }
    }
    hits
}

/// What makes two parts one page.
fn page(entry: &Entry) -> (Space, Pid, PageId) {
    (entry.space.clone(), entry.pid, entry.page)
}

impl Retriever for SearchIndex {
    fn index(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        if let Err(refused) = check::batch(&batch) {
            return Box::pin(ready(Err(refused)));
        }
        self.shelf.put(batch)
    }

    fn cursor(&self, tenant: &Tenant, pid: Pid) -> BoxFuture<'_, Result<Cursor, StoreError>> {
        self.shelf.cursor(tenant.clone(), pid)
    }

    fn followed(&self, tenant: &Tenant) -> BoxFuture<'_, Result<Vec<Pid>, StoreError>> {
        self.shelf.followed(tenant.clone())
    }

    fn query(&self, query: Query) -> BoxFuture<'_, Result<Found, StoreError>> {
        Box::pin(self.find(query))
    }

    fn forget(&self, tenant: &Tenant, pid: Pid) -> BoxFuture<'_, Result<(), StoreError>> {
        self.shelf.forget(tenant.clone(), pid)
    }

    fn embed(&self, limit: usize) -> BoxFuture<'_, Result<Coverage, StoreError>> {
        Box::pin(self.embed_some(limit))
    }
}

impl std::fmt::Debug for SearchIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let embedder = self.directions.as_ref().map(Directions::id);
        f.debug_struct("SearchIndex").field("embedder", &embedder).finish_non_exhaustive()
    }
}
