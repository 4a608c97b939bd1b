//! Following journals into an index.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aosk_abi::{
    Admission, CacheLife, Changes, Code, Event, Hash, Op, PageId, PageKind, Pid, Planned, Ppm,
    Record, Seq, Source, Step, Tenant, Timestamp, Tokens, ToolResult, ToolReturned, What,
};
use aosk_conformance::Scribe;
use aosk_ports::{
    Append, Batch, Coverage, Cursor, Found, Journal, JournalWriter, Query, Retriever, Space, Store,
    StoreError,
};
use aosk_store::{Follower, Lag, SearchIndex, SqliteStore};
use futures::future::BoxFuture;

use crate::support::{block_on, open};

pub(super) fn pid(n: u8) -> Pid {
    Pid::from_bytes([n; 16])
}

/// The append with one more event.
fn and(mut append: Append, what: What) -> Append {
    let last = append.records.last().expect("not empty");
    let (seq, prev) = (last.seq.next(), last.hash);
    let event = Event::new(Timestamp::from_millis(1_800_000_000_000 + seq.0), what);
    let record = Record::seal(&append.tenant, append.pid, seq, append.epoch, prev, &event);
    append.records.push(record.expect("it can be encoded"));
    append
}

fn admission(page: u32, kind: PageKind, seq: Seq) -> Admission {
    Admission {
        importance: Ppm(500_000),
        kind,
        page: PageId(page),
        pinned: false,
        range: None,
        source: Source { seq, part: 0 },
        tokens: Tokens(10),
        unit: seq,
    }
}

fn planned(admitted: Vec<Admission>) -> What {
    What::Planned(Planned {
        admitted,
        evicted: Vec::new(),
        reasons: None,
        stubs: Vec::new(),
        generation: 0,
        life: CacheLife::Short,
        op: Op(1),
        prompt: Hash::ZERO,
        prompt_len: 0,
        prompt_tokens: Tokens(10),
        step: Step(1),
        tail: false,
        tools: false,
        under: Changes::default(),
    })
}

/// Says something, and admits it as a page.
pub(super) async fn say(store: &dyn Store, scribe: &mut Scribe, page: u32, text: &str) {
    let at = scribe.next;
    let append = scribe.append(&[text.as_bytes()]);
    let append = and(append, planned(vec![admission(page, PageKind::Message, at)]));
    store.append(append.clone()).await.expect("continues");
    scribe.follow(&append);
}

struct Desk {
    dir: tempfile::TempDir,
    store: Arc<SqliteStore>,
    index: Arc<SearchIndex>,
    tenant: Tenant,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Arc::new(open(dir.path()));
        let index = Arc::new(SearchIndex::in_folder(dir.path(), None).expect("an index"));
        Self { dir, store, index, tenant: Tenant::local() }
    }

    fn follower(&self) -> Follower {
        Follower::new(self.store.clone(), self.index.clone())
    }

    async fn scribe(&self, n: u8) -> Scribe {
        Scribe::new(self.store.as_ref(), &self.tenant, pid(n)).await
    }

    async fn find(&self, n: u8, text: &str) -> Found {
        let query = Query::new(self.tenant.clone(), Space::Process(pid(n)), text, 1_000);
        self.index.query(query).await.expect("an answer")
    }

    async fn pages(&self, n: u8, text: &str) -> Vec<u32> {
        let mut pages: Vec<u32> =
            self.find(n, text).await.hits.iter().map(|hit| hit.entry.page.0).collect();
        pages.sort_unstable();
        pages
    }
}

#[test]
fn what_a_plan_admitted_is_found_and_names_the_event_that_it_stands_in() {
    block_on(async {
        let desk = Desk::new();
        let (store, follower) = (desk.store.as_ref(), desk.follower());
        assert_eq!(follower.lag(&desk.tenant).await.expect("answers"), Lag::default());
        let mut scribe = desk.scribe(1).await;
        say(store, &mut scribe, 1, "the harbour is closed in winter").await;
        // What no plan admitted is no page.
        scribe.write(store, &[b"the harbour master waits"]).await.expect("continues");
        let lag = follower.lag(&desk.tenant).await.expect("answers");
        assert_eq!((lag.events, lag.since), (3, Some(Timestamp::from_millis(1_700_000_000_000))));
        assert_eq!(lag.millis(Timestamp::from_millis(1_700_000_004_000)), 4_000);

        assert_eq!(follower.round(&desk.tenant).await.expect("follows"), 3);
        assert_eq!(follower.lag(&desk.tenant).await.expect("answers"), Lag::default());
        assert_eq!(follower.round(&desk.tenant).await.expect("nothing new"), 0);
        let found = desk.find(1, "harbour").await;
        let [hit] = &found.hits[..] else { panic!("{found:?}") };
        assert_eq!((hit.entry.page, hit.entry.kind), (PageId(1), PageKind::Message));
        let wanted = [(hit.entry.seq, hit.entry.hash)];
        let text = store.contents(&desk.tenant, pid(1), &wanted).await.expect("there");
        assert_eq!(&text[0][..], b"the harbour is closed in winter");

        // A later plan admits what was said long before, and a tool's result is read as the model
        // reads it.
        let result = ToolResult {
            success: true,
            data: "gale warning\nfor Fastnet".into(),
            error: None,
            metadata: serde_json::Map::new(),
        };
        let json = serde_json::to_vec(&result).expect("JSON");
        let content = scribe.key.seal(json);
        let mut append = scribe.append(&[b"and on"]);
        append.contents.push(content.clone());
        let returned =
            ToolReturned { op: Op(1), result: content.reference(), success: true, took_ms: 1 };
        let append = and(append, What::ToolReturned(returned));
        let seq = append.records.last().expect("the result").seq;
        let admitted = vec![
            admission(2, PageKind::Message, Seq(2)),
            admission(3, PageKind::ToolResult, seq),
            // Always in the context, so never looked for.
            admission(4, PageKind::System, Seq(2)),
        ];
        let append = and(append, planned(admitted));
        store.append(append).await.expect("continues");
        assert_eq!(follower.follow(&desk.tenant, pid(1)).await.expect("follows"), 3);
        assert_eq!(desk.pages(1, "harbour").await, [1, 2]);
        assert_eq!(desk.pages(1, "fastnet").await, [3]);
        assert_eq!(desk.pages(1, "success").await, [0_u32; 0], "its JSON is not its text");
        assert_eq!(desk.pages(2, "harbour").await, [0_u32; 0]);
    });
}

/// An index whose answers get lost: what it was told is done, or not, and nobody hears.
struct Lossy {
    index: Arc<SearchIndex>,
    calls: AtomicUsize,
}

impl Retriever for Lossy {
    fn index(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let lost = || Err(StoreError::new(Code::StoreUnreachable, "lost"));
            match self.calls.fetch_add(1, Ordering::Relaxed) % 3 {
                0 => {
                    self.index.index(batch).await?;
                    lost()
                }
                1 => lost(),
                _ => self.index.index(batch).await,
            }
        })
    }

    fn cursor(&self, tenant: &Tenant, pid: Pid) -> BoxFuture<'_, Result<Cursor, StoreError>> {
        self.index.cursor(tenant, pid)
    }

    fn followed(&self, tenant: &Tenant) -> BoxFuture<'_, Result<Vec<Pid>, StoreError>> {
        self.index.followed(tenant)
    }

    fn query(&self, query: Query) -> BoxFuture<'_, Result<Found, StoreError>> {
        self.index.query(query)
    }

    fn forget(&self, tenant: &Tenant, pid: Pid) -> BoxFuture<'_, Result<(), StoreError>> {
        self.index.forget(tenant, pid)
    }

    fn embed(&self, limit: usize) -> BoxFuture<'_, Result<Coverage, StoreError>> {
        self.index.embed(limit)
    }
}

#[test]
fn a_follower_that_is_cut_off_anywhere_indexes_each_page_once() {
    block_on(async {
        let desk = Desk::new();
        for n in 1..=3 {
            let mut scribe = desk.scribe(n).await;
            for page in 0..300 {
                say(desk.store.as_ref(), &mut scribe, page, &format!("lamp number{page}")).await;
            }
        }
        let calls = AtomicUsize::new(0);
        let lossy = Arc::new(Lossy { index: desk.index.clone(), calls });
        let follower = Follower::new(desk.store.clone(), lossy);
        let mut rounds = 0;
        while follower.round(&desk.tenant).await.is_err() {
            rounds += 1;
            assert!(rounds < 50, "it gets nowhere");
        }
        assert!(rounds > 3, "it was cut off");
        for n in 1..=3 {
            assert_eq!(desk.pages(n, "lamp").await, (0..300).collect::<Vec<u32>>());
        }
        assert_eq!(desk.index.embed(0).await.expect("answers").items, 900, "and none twice");
    });
}

#[test]
fn a_store_that_was_restored_is_followed_anew() {
    block_on(async {
        let (desk, restored) = (Desk::new(), Desk::new());
        let (mut now, mut then) = (desk.scribe(1).await, restored.scribe(1).await);
        for page in 0..4 {
            say(desk.store.as_ref(), &mut now, page, "a lantern").await;
        }
        desk.follower().round(&desk.tenant).await.expect("follows");
        // Another past under the same id: shorter than the index has read, then longer.
        for page in 0..2 {
            say(restored.store.as_ref(), &mut then, page, "a torch").await;
        }
        let follower = Follower::new(restored.store.clone(), desk.index.clone());
        assert_eq!(follower.round(&desk.tenant).await.expect("follows"), 4);
        assert_eq!(desk.pages(1, "lantern").await, [0_u32; 0]);
        assert_eq!(desk.pages(1, "torch").await, [0, 1]);
        desk.follower().round(&desk.tenant).await.expect("follows");
        assert_eq!(desk.pages(1, "torch").await, [0_u32; 0]);
        assert_eq!(desk.pages(1, "lantern").await, [0, 1, 2, 3]);
    });
}

#[test]
fn a_damaged_index_begins_anew_and_answers_nothing_that_was_not_put_in() {
    block_on(async {
        let mut desk = Desk::new();
        let mut scribe = desk.scribe(1).await;
        for page in 0..50 {
            say(desk.store.as_ref(), &mut scribe, page, &format!("lamp number{page}")).await;
        }
        desk.follower().round(&desk.tenant).await.expect("follows");
        let file = desk.dir.path().join("search.db");
        let close = |desk: &mut Desk| {
            // The folder holds the store; the index is opened elsewhere meanwhile.
            let elsewhere = tempfile::tempdir().expect("a folder");
            let other = SearchIndex::in_folder(elsewhere.path(), None).expect("an index");
            desk.index = Arc::new(other);
        };
        close(&mut desk);
        let whole = std::fs::read(&file).expect("its file");
        let mut damages: Vec<Vec<u8>> = vec![
            Vec::new(),
            b"not a database".to_vec(),
            whole[..whole.len() / 2].to_vec(),
            whole[..100].to_vec(),
        ];
        const CUT: usize = 4;
        assert_eq!(damages.len(), CUT);
        let mut seed = 20_260_202;
        for _ in 0..60 {
            let mut bytes = whole.clone();
            let place = crate::support::random(&mut seed) as usize % (whole.len() - 64);
            for byte in &mut bytes[place..place + 64] {
                *byte ^= (crate::support::random(&mut seed) % 255) as u8 + 1;
            }
            damages.push(bytes);
        }
        let mut noticed = 0;
        for (number, bytes) in damages.into_iter().enumerate() {
            close(&mut desk);
            std::fs::write(&file, bytes).expect("written");
            let index = SearchIndex::in_folder(desk.dir.path(), None).expect("it begins anew");
            desk.index = Arc::new(index);
            // Met while it is open, or when it was opened: either way the next round mends it.
            let query = Query::new(desk.tenant.clone(), Space::Process(pid(1)), "lamp", 1_000);
            let first = desk.index.query(query.clone()).await;
            if let Err(error) = &first {
                assert_eq!(error.code, Code::SearchDamaged, "damage {number}: {error}");
            }
            let follower = desk.follower();
            if follower.round(&desk.tenant).await.is_err() {
                follower.round(&desk.tenant).await.expect("follows");
            }
            let found = match desk.index.query(query.clone()).await {
                Ok(found) => found,
                Err(error) => {
                    assert_eq!(error.code, Code::SearchDamaged, "damage {number}: {error}");
                    follower.round(&desk.tenant).await.expect("follows");
                    desk.index.query(query).await.expect("an answer")
                }
            };
            noticed += usize::from(!first.is_ok_and(|first| first.hits.len() == 50));
            if number < CUT {
                assert_eq!(found.hits.len(), 50, "damage {number}: it is whole after one round");
            }
            for hit in &found.hits {
                // Whatever is answered is what was put in.
                let wanted = [(hit.entry.seq, hit.entry.hash)];
                let text = desk.store.contents(&desk.tenant, pid(1), &wanted).await.expect("there");
                assert_eq!(text[0][..], *format!("lamp number{}", hit.entry.page.0).as_bytes());
            }
        }
        assert!(noticed > CUT, "{noticed}: no flipped byte was one that is used");
    });
}

/// SQLite has no checksums: a row that is well formed and wrong is noticed by its seal.
#[test]
fn a_row_that_is_not_what_was_put_in_is_never_shown() {
    block_on(async {
        for change in [
            "UPDATE items SET page = page + 1",
            "UPDATE items SET seq = seq + 1",
            "UPDATE items SET hash = zeroblob(32)",
            "UPDATE items SET kind = 2",
            "UPDATE items SET kind = 99",
            "UPDATE items SET time = time + 1",
            "UPDATE items SET pid = zeroblob(16)",
            "INSERT INTO tags SELECT id, 'another' FROM items",
            "UPDATE spaces SET name = x'78'",
        ] {
            let mut desk = Desk::new();
            let mut scribe = desk.scribe(1).await;
            say(desk.store.as_ref(), &mut scribe, 1, "a lantern").await;
            desk.follower().round(&desk.tenant).await.expect("follows");
            let file = desk.dir.path().join("search.db");
            let elsewhere = tempfile::tempdir().expect("a folder");
            desk.index = Arc::new(SearchIndex::in_folder(elsewhere.path(), None).expect("one"));
            let tampered = rusqlite::Connection::open(&file).expect("opens");
            tampered.execute_batch(change).expect("changed");
            drop(tampered);
            let index = SearchIndex::in_folder(desk.dir.path(), None).expect("opens");
            desk.index = Arc::new(index);
            let query = Query::new(desk.tenant.clone(), Space::Process(pid(1)), "lantern", 10);
            match desk.index.query(query).await {
                Ok(found) => assert_eq!(found.hits, [], "{change}"),
                Err(error) => assert_eq!(error.code, Code::SearchDamaged, "{change}: {error}"),
            }
        }
    });
}

#[test]
fn an_index_has_one_program_at_a_time() {
    let dir = tempfile::tempdir().expect("a folder");
    let index = SearchIndex::in_folder(dir.path(), None).expect("an index");
    let error = crate::support::refused(SearchIndex::in_folder(dir.path(), None), Code::StoreOwned);
    assert!(error.message.contains("search.db"), "{error}");
    drop(index);
    SearchIndex::in_folder(dir.path(), None).expect("it is free");
}
