//! Pages that left the window and are found by what they say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aosk_abi::{
    Code, Exit, Manifest, Pid, RecallSearch, Recalled, Role, Signal, Tenant, Tokens, What,
};
use aosk_conformance::retrieval::Stems;
use aosk_kernel::{Kernel, Outcome, Stop};
use aosk_ports::{Embedder, Found, Inbox, InboxItem, Memory, Query, Retriever, StoreError};
use aosk_store::{Follower, SearchIndex};
use futures::future::BoxFuture;

use crate::recall::texts;
use crate::support::{Kit, Puppet, Say, spawn};

/// A memory that reads nothing before it is asked to: no page is in it that has just left.
struct Shelf {
    follower: Follower,
    index: Arc<SearchIndex>,
    /// Whether it makes vectors at once.
    embeds: bool,
    /// Whether it says that it cannot follow.
    is_behind: AtomicBool,
    _dir: tempfile::TempDir,
}

impl Shelf {
    fn of(kit: &Kit, embedder: Option<Arc<dyn Embedder>>) -> Arc<Self> {
        let (dir, embeds) = (tempfile::tempdir().expect("a folder"), embedder.is_some());
        let index = Arc::new(SearchIndex::in_folder(dir.path(), embedder).expect("an index"));
        let follower = Follower::new(Arc::new(kit.store()), index.clone());
        Arc::new(Self { follower, index, embeds, is_behind: AtomicBool::new(false), _dir: dir })
    }
}

impl Memory for Shelf {
    fn committed(&self, _: Pid) {}

    fn follow<'a>(
        &'a self,
        tenant: &'a Tenant,
        pid: Pid,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            let read = self.follower.follow(tenant, pid).await?;
            if self.embeds {
                while self.index.embed(64).await?.waiting > 0 {}
            }
            match self.is_behind.load(Ordering::Relaxed) {
                true => Err(StoreError::new(Code::StoreFull, "the disk is full")),
                false => Ok(read),
            }
        })
    }

    fn query(&self, query: Query) -> BoxFuture<'_, Result<Found, StoreError>> {
        Box::pin(async move {
            let mut found = self.index.query(query).await?;
            found.words_only = found.words_only.filter(|_| self.embeds);
            Ok(found)
        })
    }
}

/// What each of the tool's results begins with; they are filled up to a hundred tokens.
const SAID: [&str; 8] = [
    "the harbour of Antwerp is closed in winter",
    "fn parse_manifest_line() panics on tabs",
    "港口在冬天关闭",
    "invoices are paid on the third of the month",
    "the password of the router stands in the drawer",
    "nobody has seen the cat since Sunday",
    "the ferry leaves at nine from pier four",
    "Ada has the keys of the archive",
];

/// Enough to push the first pages out: page 2 is the first call, page 3 its result.
fn filling(length: usize) -> Vec<Say> {
    let say = |(text, letter): (&&str, char)| {
        let rest: String = std::iter::repeat_n(letter, length).collect();
        let say = format!("{{\"say\": \"{text} {rest}\"}}");
        Say::Call("pure", Box::leak(say.into_boxed_str()))
    };
    SAID.iter().zip('a'..).map(say).collect()
}

fn recall(arguments: &'static str) -> Say {
    Say::Call("recall", arguments)
}

/// An agent that reads all of it in a window of so many tokens and then does what `then` says.
async fn begin(
    (window, length): (u64, usize),
    then: Vec<Say>,
    memory: impl FnOnce(&Kit) -> Option<Arc<dyn Memory>>,
) -> (Kit, Kernel, Pid) {
    let script = filling(length).into_iter().chain(then).collect();
    let kit = Kit::with(Puppet::new(script).windowed(window).replying(200));
    let memory = memory(&kit);
    let kernel = kit.kernel_of(kit.store(), |parts| parts.memory = memory);
    let mut request = spawn("do it");
    request.manifest = Manifest::from_toml(
        "name = \"tester\"\ntools = [\"pure\", \"recall\"]\nmax_steps = 40\n\
         [context]\npolicy = \"truncate_oldest\"\n",
    )
    .expect("a manifest");
    let pid = kernel.spawn(request).await.expect("spawned");
    (kit, kernel, pid)
}

async fn run(then: Vec<Say>, memory: impl FnOnce(&Kit) -> Option<Arc<dyn Memory>>) -> (Kit, Pid) {
    let (kit, kernel, pid) = begin((1_400, 340), then, memory).await;
    let outcome = kernel.wait(pid).await.expect("an outcome");
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    (kit, pid)
}

/// The answer to the last call, as the model reads it.
fn answer(kit: &Kit) -> String {
    let asked = kit.puppet.asked.lock().unwrap();
    texts(asked.last().expect("asked"), Role::Tool).pop().expect("a result")
}

async fn recalled(kit: &Kit, pid: Pid) -> Vec<Recalled> {
    let events = kit.events(pid).await.into_iter();
    events
        .filter_map(|what| match what {
            What::Recalled(recalled) => Some(recalled),
            _ => None,
        })
        .collect()
}

fn words(kit: &Kit) -> Option<Arc<dyn Memory>> {
    Some(Shelf::of(kit, None))
}

#[tokio::test]
async fn what_has_just_left_is_found_by_what_it_says_and_comes_back_as_it_was() {
    let query = r#"{"query": "Is the harbour of Antwerp open?", "k": 2}"#;
    let (kit, pid) = run(vec![recall(query), Say::Text("ok")], words).await;
    let asked = kit.puppet.asked.lock().unwrap().clone();
    let first = texts(&asked[1], Role::Tool)[0].clone();
    assert!(first.starts_with(SAID[0]), "{first}");
    let before = &asked[asked.len() - 2];
    assert!(!texts(before, Role::Tool).contains(&first), "it has left");
    // The call of the tool says the same as its result.
    let answer = answer(&kit);
    assert!(
        ["pages 2, 3 follow, the best first", "pages 3, 2 follow, the best first"]
            .iter()
            .any(|text| answer.starts_with(text)),
        "{answer}"
    );
    let back = texts(asked.last().expect("asked"), Role::User);
    assert!(back.contains(&format!("[recalled result of pure]\n{first}")), "{back:?}");

    let events = recalled(&kit, pid).await;
    let [Recalled { pages, search: Some(RecallSearch { query, ranks }), .. }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(kit.text(pid, *query).await, "Is the harbour of Antwerp open?");
    assert_eq!(pages.len(), 2);
    let by_words: Vec<_> = ranks.iter().map(|rank| (rank.words, rank.vector)).collect();
    assert_eq!(by_words, [(Some(1), None), (Some(2), None)]);
    // The fold asks no index: there is none in it.
    let image = kit.image(pid).await;
    for page in pages {
        let source = image.pages.page(*page).expect("known").source;
        let newest = image.pages.pages().iter().rfind(|it| it.source == source).expect("back");
        assert!(newest.resident && newest.id != *page && newest.accesses == 1, "{newest:?}");
    }
}

#[tokio::test]
async fn any_script_and_parts_of_names_are_found() {
    for (query, said) in [
        (r#"{"query": "冬天", "k": 1}"#, SAID[2]),
        (r#"{"query": "manifest line", "k": 1}"#, SAID[1]),
    ] {
        let (kit, _) = run(vec![recall(query), Say::Text("ok")], words).await;
        let asked = kit.puppet.asked.lock().unwrap();
        let back = texts(asked.last().expect("asked"), Role::User).pop().expect("recalled");
        assert!(back.contains(said), "{query}: {back}");
    }
}

#[tokio::test]
async fn what_stands_in_the_context_is_said_to_and_does_not_come_twice() {
    // The last page is the best answer, and is here.
    let query = r#"{"query": "who has the keys of the archive"}"#;
    let (kit, pid) = run(vec![recall(query), Say::Text("ok")], words).await;
    let said = answer(&kit);
    assert!(said.contains("in the context already: pages "), "{said}");
    let events = recalled(&kit, pid).await;
    let image = kit.image(pid).await;
    for page in events.iter().flat_map(|recalled| &recalled.pages) {
        assert!(!image.pages.page(*page).expect("known").resident);
    }
    // What came back by a query is here from then on.
    let query = r#"{"query": "Antwerp", "k": 2}"#;
    let (kit, pid) = run(vec![recall(query), recall(query), Say::Text("ok")], words).await;
    assert_eq!(recalled(&kit, pid).await.len(), 1);
    assert!(answer(&kit).starts_with("nothing that has left answers this query"));
}

#[tokio::test]
async fn a_query_that_finds_nothing_or_makes_no_sense_is_answered_clearly() {
    for (arguments, part) in [
        (r#"{"query": "zebra"}"#, "nothing that has left answers this query; try other words"),
        (r#"{"query": "?!"}"#, "nothing that has left answers this query"),
        (r#"{"query": "harbour", "page": 3}"#, "`page` and `query` are given"),
        (r#"{"query": "harbour", "to": 3}"#, "`to` and `query` are given"),
        (r#"{"page": 3, "k": 3}"#, "`page` and `k` are given"),
        (r#"{"query": ""}"#, "`query` is empty"),
        (r#"{"query": "harbour", "k": 0}"#, "give 1 to 20"),
        (r#"{"query": "harbour", "k": 21}"#, "give 1 to 20"),
        ("{}", "`page` is missing"),
    ] {
        let (kit, pid) = run(vec![recall(arguments), Say::Text("ok")], words).await;
        let said = answer(&kit);
        assert!(said.contains(part), "{arguments}: {said}");
        assert_eq!(recalled(&kit, pid).await, [], "{arguments}");
    }
    // Nothing has left a large window.
    let then = vec![recall(r#"{"query": "harbour"}"#), Say::Text("ok")];
    let (kit, kernel, pid) = begin((100_000, 340), then, words).await;
    kernel.wait(pid).await.expect("an outcome");
    assert!(answer(&kit).contains("no page has left"), "{}", answer(&kit));
}

#[tokio::test]
async fn a_query_brings_no_more_than_it_may() {
    // A small window leaves less than a query may bring at most.
    let query = r#"{"query": "harbour invoices router ferry manifest", "k": 20}"#;
    for (window, length, most) in [(1_400, 340, 600), (24_000, 3_600, 4_096)] {
        let mut then: Vec<Say> = filling(length);
        then.extend(filling(length));
        then.extend([recall(query), Say::Text("ok")]);
        let (kit, kernel, pid) = begin((window, length), then, words).await;
        kernel.wait(pid).await.expect("an outcome");
        let said = answer(&kit);
        let [Recalled { pages, .. }] = &recalled(&kit, pid).await[..] else { panic!("{said}") };
        let image = kit.image(pid).await;
        let size: Tokens =
            pages.iter().map(|id| image.pages.page(*id).expect("known").tokens).sum();
        assert!(size <= Tokens(most) && size > Tokens(most / 3), "{size}: {said}");
        assert!(said.contains("tokens that fit: pages "), "{size}: {said}");
    }
}

#[tokio::test]
async fn pages_are_found_by_direction_and_without_an_embedder_by_words() {
    let stems = Stems::new("stems", 64);
    let with = |kit: &Kit| -> Option<Arc<dyn Memory>> { Some(Shelf::of(kit, Some(stems.clone()))) };
    // No word in common; the first four letters are.
    let query = r#"{"query": "harbours invoicing", "k": 4}"#;
    let (kit, pid) = run(vec![recall(query), Say::Text("ok")], with).await;
    let events = recalled(&kit, pid).await;
    let ranks = &events[0].search.as_ref().expect("by a query").ranks;
    assert!(ranks.iter().all(|rank| rank.vector.is_some()), "{ranks:?}");
    assert!(!answer(&kit).contains("only words were compared"));

    stems.set_down(true);
    let down = |kit: &Kit| -> Option<Arc<dyn Memory>> {
        let shelf = Shelf::of(kit, Some(stems.clone()));
        Some(Arc::new(Unembedded(shelf)))
    };
    let query = r#"{"query": "harbour", "k": 2}"#;
    let (kit, pid) = run(vec![recall(query), Say::Text("ok")], down).await;
    assert!(!recalled(&kit, pid).await.is_empty());
    let said = answer(&kit);
    assert!(said.contains("only words were compared: ") && said.contains("is down"), "{said}");
}

/// A memory whose embedder is down, so nothing is embedded while it follows.
struct Unembedded(Arc<Shelf>);

impl Memory for Unembedded {
    fn committed(&self, _: Pid) {}

    fn follow<'a>(
        &'a self,
        tenant: &'a Tenant,
        pid: Pid,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(self.0.follower.follow(tenant, pid))
    }

    fn query(&self, query: Query) -> BoxFuture<'_, Result<Found, StoreError>> {
        self.0.query(query)
    }
}

#[tokio::test]
async fn an_index_that_falls_behind_answers_for_what_it_has_and_says_so() {
    let behind = |kit: &Kit| -> Option<Arc<dyn Memory>> {
        let shelf = Shelf::of(kit, None);
        shelf.is_behind.store(true, Ordering::Relaxed);
        Some(shelf)
    };
    let query = r#"{"query": "Antwerp", "k": 1}"#;
    let (kit, pid) = run(vec![recall(query), Say::Text("ok")], behind).await;
    assert_eq!(recalled(&kit, pid).await.len(), 1);
    let said = answer(&kit);
    assert!(said.contains("the newest pages may be missing: the disk is full"), "{said}");
}

#[derive(Clone, Copy)]
enum Broken {
    Refuses,
    Hangs,
}

/// A memory that is no use.
struct Useless(Broken);

impl Memory for Useless {
    fn committed(&self, _: Pid) {}

    fn follow<'a>(&'a self, _: &'a Tenant, _: Pid) -> BoxFuture<'a, Result<u64, StoreError>> {
        match self.0 {
            Broken::Refuses => Box::pin(async { Ok(0) }),
            Broken::Hangs => Box::pin(std::future::pending()),
        }
    }

    fn query(&self, _: Query) -> BoxFuture<'_, Result<Found, StoreError>> {
        match self.0 {
            Broken::Refuses => Box::pin(async {
                Err(StoreError::new(Code::SearchDamaged, "the index begins anew"))
            }),
            Broken::Hangs => Box::pin(std::future::pending()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_search_that_cannot_be_costs_the_agent_an_answer_and_nothing_else() {
    let query = r#"{"query": "Antwerp"}"#;
    for (broken, why) in [
        (Some(Broken::Refuses), "the index begins anew"),
        (Some(Broken::Hangs), "it took more than 10 s"),
        (None, "this kernel has no search index"),
    ] {
        let memory = |_: &Kit| broken.map(|it| Arc::new(Useless(it)) as Arc<dyn Memory>);
        let then = vec![recall(query), recall(r#"{"page": 3}"#), Say::Text("ok")];
        let (kit, pid) = run(then, memory).await;
        let asked = kit.puppet.asked.lock().unwrap().clone();
        let said = texts(&asked[asked.len() - 2], Role::Tool).pop().expect("a result");
        assert!(said.contains("search_failed") && said.contains(why), "{said}");
        assert!(said.contains("by the numbers that stand in brackets"), "{said}");
        assert_eq!(answer(&kit), "page 3 follows");
        assert_eq!(recalled(&kit, pid).await.len(), 1);
        // Who cannot search is not told that it can.
        let spec = asked[0].tools.iter().find(|spec| spec.name == "recall").expect("offered");
        assert_eq!(spec.parameters["properties"].get("query").is_some(), broken.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_search_ends_with_its_process_and_with_its_kernel() {
    let hangs = |_: &Kit| Some(Arc::new(Useless(Broken::Hangs)) as Arc<dyn Memory>);
    let script = || vec![Say::Calls(vec![("pure", "{}"), ("recall", r#"{"query": "Antwerp"}"#)])];
    let (kit, kernel, pid) = begin((1_400, 340), script(), hangs).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let kill = InboxItem::Signal { signal: Signal::Kill };
    kit.store().post(&Tenant::local(), pid, kill).await.expect("posted");
    assert_eq!(kernel.wait(pid).await, Some(Outcome::Exited(Exit::Killed)));
    kit.image(pid).await;

    let mut then = script();
    then.push(Say::Text("ok"));
    let (kit, kernel, pid) = begin((1_400, 340), then, hangs).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    kernel.stop(Stop::Now);
    assert_eq!(kernel.wait(pid).await, Some(Outcome::Stopped));
    // No call counts as begun that waited for the search.
    assert_eq!(kit.names(pid).await.last(), Some(&"llm_returned"));
    let refuses = Arc::new(Useless(Broken::Refuses));
    let kernel = kit.kernel_of(kit.store(), |parts| parts.memory = Some(refuses));
    kernel.resume(pid, None).await.expect("goes on");
    let outcome = kernel.wait(pid).await.expect("an outcome");
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    assert!(answer(&kit).contains("counted"), "{}", answer(&kit));
    let begun = |name: &&&str| **name == "tool_requested";
    assert_eq!(kit.names(pid).await.iter().filter(begun).count(), SAID.len() + 1, "once each");
}
