//! An index that keeps itself up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aosk_abi::{Code, Exit, ProcessState, Tenant, Timestamp};
use aosk_conformance::Scribe;
use aosk_conformance::retrieval::Stems;
use aosk_ports::{Embedder, JournalWriter, Memory, Query, Space};
use aosk_store::{Indexing, Retention, SearchIndex, SqliteStore, StorePlace, prune};

use super::follow::{pid, say};
use crate::support::{block_on, open, refused};

struct Desk {
    dir: tempfile::TempDir,
    store: Arc<SqliteStore>,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Arc::new(open(dir.path()));
        Self { dir, store }
    }

    fn begin(&self, embedder: Option<Arc<dyn Embedder>>) -> Indexing {
        let dir: PathBuf = self.dir.path().to_owned();
        let open = move || SearchIndex::in_folder(&dir, embedder.clone());
        Indexing::begin(self.store.clone(), Tenant::local(), Arc::new(open))
    }

    async fn scribe(&self, n: u8) -> Scribe {
        Scribe::new(self.store.as_ref(), &Tenant::local(), pid(n)).await
    }
}

fn query(n: u8, text: &str) -> Query {
    Query::new(Tenant::local(), Space::Process(pid(n)), text, 10)
}

/// The pages that are found once there are so many.
async fn found(memory: &Indexing, query: &Query, pages: usize) -> Vec<u32> {
    let began = Instant::now();
    loop {
        if let Ok(found) = memory.query(query.clone()).await
            && found.hits.len() == pages
        {
            return found.hits.iter().map(|hit| hit.entry.page.0).collect();
        }
        assert!(began.elapsed() < Duration::from_secs(20), "not within 20 s: {query:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn what_was_and_what_is_committed_is_found_without_asking() {
    block_on(async {
        let desk = Desk::new();
        let (mut one, mut two) = (desk.scribe(1).await, desk.scribe(2).await);
        say(desk.store.as_ref(), &mut one, 1, "a lantern").await;
        let memory = desk.begin(None);
        assert_eq!(found(&memory, &query(1, "lantern"), 1).await, [1]);
        say(desk.store.as_ref(), &mut two, 1, "a lantern").await;
        memory.committed(pid(2));
        assert_eq!(found(&memory, &query(2, "lantern"), 1).await, [1]);

        // Who cannot wait for the background need not, and both may do it at once.
        for page in 2..40 {
            say(desk.store.as_ref(), &mut two, page, "a compass").await;
            memory.committed(pid(2));
            memory.follow(&Tenant::local(), pid(2)).await.expect("follows");
        }
        let hits = memory.query(Query { k: 100, ..query(2, "compass") }).await.expect("answers");
        assert_eq!(hits.hits.len(), 38);

        memory.end().await;
        refused(memory.query(query(2, "lantern")).await, Code::StoreClosed);
        SearchIndex::in_folder(desk.dir.path(), None).expect("it is closed");
        assert_eq!(Arc::strong_count(&desk.store), 1, "and the store is let go of");
    });
}

#[test]
fn an_index_that_somebody_else_has_open_is_had_later() {
    block_on(async {
        let desk = Desk::new();
        let mut scribe = desk.scribe(1).await;
        say(desk.store.as_ref(), &mut scribe, 1, "a lantern").await;
        let theirs = SearchIndex::in_folder(desk.dir.path(), None).expect("opens");
        let memory = desk.begin(None);
        let began = Instant::now();
        loop {
            let error = memory.query(query(1, "lantern")).await.expect_err("it is not open");
            if error.code == Code::StoreOwned {
                break;
            }
            assert_eq!(error.code, Code::StoreClosed, "{error}");
            assert!(began.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(theirs);
        assert_eq!(found(&memory, &query(1, "lantern"), 1).await, [1]);
        memory.end().await;
    });
}

#[test]
fn vectors_are_made_in_the_background_and_made_anew_for_another_embedder() {
    block_on(async {
        let desk = Desk::new();
        let mut scribe = desk.scribe(1).await;
        for page in 1..=40 {
            say(desk.store.as_ref(), &mut scribe, page, "lantern").await;
        }
        let first = Stems::new("first", 64);
        first.set_down(true);
        let memory = desk.begin(Some(first.clone()));
        // The embedder is down: words are found all the same, and the answer says why.
        let answer = Query { k: 100, ..query(1, "lantern") };
        found(&memory, &answer, 40).await;
        let why = memory.query(answer.clone()).await.expect("answers").words_only.expect("why");
        assert!(why.contains("is down"), "{why}");
        first.set_down(false);
        // Shares its first four letters with what was said, and no word.
        let alike = Query { k: 100, ..query(1, "lanterns") };
        found(&memory, &alike, 40).await;
        memory.end().await;

        let second = Stems::new("second", 32);
        let memory = desk.begin(Some(second.clone()));
        found(&memory, &alike, 40).await;
        assert!(second.calls() > 2, "in batches");
        memory.end().await;
    });
}

/// Removes those that have ended; how many that were.
fn prune_all(dir: &Path) -> u64 {
    let place = StorePlace::Sqlite(dir.to_owned());
    let rule = Retention { tenant: Some(Tenant::local()), ended_before: None, keep: Some(0) };
    let now = Timestamp::from_millis(1_900_000_000_000);
    prune(&place, &rule, (now, "a test"), false).expect("prunes").processes
}

#[test]
fn a_process_that_was_removed_from_the_store_leaves_the_index() {
    block_on(async {
        let desk = Desk::new();
        let (mut stays, mut goes) = (desk.scribe(1).await, desk.scribe(2).await);
        for scribe in [&mut stays, &mut goes] {
            say(desk.store.as_ref(), scribe, 1, "a lantern").await;
        }
        let memory = desk.begin(None);
        found(&memory, &query(2, "lantern"), 1).await;
        let mut end = goes.append(&[]);
        end.row.state = ProcessState::Exited { exit: Exit::Killed };
        desk.store.append(end).await.expect("ends");
        assert_eq!(prune_all(desk.dir.path()), 1);
        memory.sweep();
        assert_eq!(found(&memory, &query(2, "lantern"), 0).await, [0_u32; 0]);
        assert_eq!(found(&memory, &query(1, "lantern"), 1).await, [1]);
        // Who asks for it by name takes it out as well.
        assert_eq!(memory.follow(&Tenant::local(), pid(2)).await.expect("it is gone"), 0);
        memory.end().await;
    });
}
