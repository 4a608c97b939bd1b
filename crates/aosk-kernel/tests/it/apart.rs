//! Families apart: a parent on one node and its child on another, on one PostgreSQL database.
//!
//! A node has no way to put a process on another one, so a first node begins each family and ends
//! while the parent and the child wait; then each goes to a node of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use aosk_abi::{BlockedOn, Exit, Manifest, Op, Pid, ProcessState, Seq, Signal, Tenant, What};
use aosk_conformance::Server;
use aosk_kernel::{Image, Kernel, Model, OsRandom, Outcome, Spawn, Stop, SystemClock, load};
use aosk_ports::{Inbox, InboxItem, Journal, ProcessFilter, Request};
use aosk_store::{PostgresOptions, PostgresReader, PostgresStore};

use crate::mail::results;
use crate::support::{Kit, Puppet, Quarters, Say, spawn};

/// Tells the process of a node where the store is and whom it has.
const NODE: &str = "AOSK_APART_NODE";

/// The lease of every node: the shortest that there is.
const LEASE: Duration = Duration::from_secs(1);

/// A loaded machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many messages go each way.
const MESSAGES: usize = 20;

/// What the models of a parent and of its child say, under a name.
type Script = (&'static str, fn(&Request) -> Say, fn(&Request) -> Say);

/// The parent waits for its child, which waits for the user.
const WAITS: Script = ("waits", above, below);

/// They tell each other things.
const TALKS: Script = ("talks", teller, listener);

fn begin() -> Say {
    Say::Call("spawn", r#"{"agent": "one", "task": "find it"}"#)
}

/// Waits until the user says something.
const HOLD: Say = Say::Call("receive", "{}");

/// Spawns, waits for the user's word and then for its child.
fn above(request: &Request) -> Say {
    match results(request).len() {
        0 => begin(),
        1 => HOLD,
        2 => Say::Call("wait", "{}"),
        _ => Say::Text("thanks"),
    }
}

/// Waits for the user's word.
fn below(request: &Request) -> Say {
    match results(request).len() {
        0 => HOLD,
        _ => Say::Text("it was there"),
    }
}

/// What was told by the tools, the user's interruption left out.
fn heard(request: &Request) -> usize {
    results(request).iter().filter(|text| !text.contains("interrupted")).count()
}

fn number(to: &str, number: usize) -> Say {
    Say::Call("send", format!("{{\"to\": {to:?}, \"text\": \"number {number}\"}}").leak())
}

/// Spawns, waits for the user's word, tells its child a number of things, hears as many and waits.
fn teller(request: &Request) -> Say {
    match (results(request).len(), heard(request)) {
        (0, _) => begin(),
        (1, _) => HOLD,
        (_, heard) if heard <= MESSAGES => number("one", heard - 1),
        (_, heard) if heard <= 2 * MESSAGES => HOLD,
        (_, heard) if heard == 2 * MESSAGES + 1 => Say::Call("wait", "{}"),
        _ => Say::Text("thanks"),
    }
}

/// Hears a number of things and tells its parent as many.
fn listener(request: &Request) -> Say {
    match heard(request) {
        heard if heard < MESSAGES => HOLD,
        heard if heard < 2 * MESSAGES => number("parent", heard - MESSAGES),
        _ => Say::Text("it was there"),
    }
}

/// A store that nobody uses yet, on the server of these tests.
fn address() -> PostgresOptions {
    static SERVER: OnceLock<Server> = OnceLock::new();
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let server = SERVER.get_or_init(Server::start);
    let mut options = PostgresOptions::new(server.url("postgres", ""), "a test");
    options.schema = format!("apart_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    options.lease = LEASE;
    options
}

/// A node: a kernel that takes over what others leave behind where it `adopts`.
fn node(options: &PostgresOptions, label: &str, script: Script, adopts: bool) -> Kernel {
    let options = PostgresOptions { label: label.to_owned(), ..options.clone() };
    let mut kit = Kit::new(vec![]);
    kit.options.adopts = adopts;
    kit.kernel_of(PostgresStore::open(&options).expect("a store"), |parts| {
        let puppet = |name: &str, says| {
            Arc::new(Puppet::new(vec![]).windowed(60_000).named(name).saying(says))
        };
        let models = [puppet("puppet", script.1), puppet("one", script.2)].map(|device| {
            let name = device.name().to_owned();
            (name, Model { device, tokenizer: Arc::new(Quarters) })
        });
        parts.models = models.into_iter().collect();
        parts.clock = Arc::new(SystemClock::new());
        parts.random = Arc::new(OsRandom);
    })
}

/// A family: the parent waits for a word of the user's, as its child does, and nobody drives them.
struct Family {
    options: PostgresOptions,
    reader: PostgresReader,
    script: Script,
    parent: Pid,
    child: Pid,
}

impl Family {
    /// Begins one.
    async fn begin(script: Script) -> Self {
        let options = address();
        let first = node(&options, "first", script, false);
        let text = "name = \"parent\"\ntools = [\"spawn\", \"wait\", \"send\", \"receive\"]\n\
                    max_steps = 90\n[[children]]\nname = \"one\"\nmodel = \"one\"\n\
                    tools = [\"send\", \"receive\"]\nmax_steps = 90\n";
        let manifest = Manifest::from_toml(text).expect("a manifest");
        let parent = first.spawn(Spawn { manifest, ..spawn("go") }).await.expect("spawned");
        let reader = PostgresReader::open(&options).expect("opens");
        let local = Tenant::local();
        let child = found("a child", async || {
            let all = reader.processes(&local, ProcessFilter::All).await.expect("listed");
            let child = all.iter().find(|receipt| receipt.pid != parent).map(|it| it.pid);
            let waits = |state: &ProcessState| {
                matches!(state, ProcessState::Blocked { on: BlockedOn::Message { .. }, .. })
            };
            child.filter(|_| all.iter().all(|receipt| waits(&receipt.row.state)))
        })
        .await;
        first.stop(Stop::Now);
        first.quiet().await;
        drop(first);
        let family = Self { options, reader, script, parent, child };
        // What it ran has ended when nobody owns anything.
        found("nobody", async || family.owners().await.is_empty().then_some(())).await;
        family
    }

    /// A node for the family.
    fn node(&self, label: &str, adopts: bool) -> Kernel {
        node(&self.options, label, self.script, adopts)
    }

    /// The parent on one node, and the child on another that takes over what others leave behind.
    async fn part(&self) -> (Kernel, Kernel) {
        let (one, other) = (self.node("one", false), self.node("other", false));
        one.resume(self.parent, None).await.expect("its own");
        other.resume(self.child, None).await.expect("its own");
        assert_eq!(self.owners().await, [(self.parent, "one"), (self.child, "other")].map(owned));
        (one, other)
    }

    /// Who is on which node, by pid: the parent was begun before its child.
    async fn owners(&self) -> Vec<(Pid, String)> {
        let owners = self.reader.owners(&Tenant::local()).await.expect("answers");
        let mut owners: Vec<_> = owners.into_iter().collect();
        owners.sort();
        owners
    }

    async fn post(&self, to: Pid, item: InboxItem) {
        self.reader.post(&Tenant::local(), to, item).await.expect("posted");
    }

    async fn say(&self, to: Pid) {
        let (from, text) = ("user".to_owned(), format!("go on, {to}"));
        self.post(to, InboxItem::Message { from, text }).await;
    }

    async fn image(&self, pid: Pid) -> Image {
        load(&self.reader, &Tenant::local(), pid, None).await.expect("folds")
    }

    /// Waits until the process stands so.
    async fn stands(&self, pid: Pid, what: &str, is: impl Fn(&ProcessState) -> bool) {
        found(what, async || is(&self.image(pid).await.state).then_some(())).await;
    }

    async fn ends(&self, pid: Pid) {
        self.stands(pid, "an end", ProcessState::is_final).await;
    }

    async fn events(&self, pid: Pid) -> Vec<What> {
        let read = self.reader.read(&Tenant::local(), pid, Seq(0), usize::MAX).await;
        let records = read.expect("readable");
        records.iter().map(|record| record.decode().expect("readable").what).collect()
    }

    /// The parent has its child's answer, once, and has ended.
    async fn assert_told(&self) {
        let events = self.events(self.parent).await;
        let ends: Vec<_> = events
            .iter()
            .filter_map(|what| match what {
                What::ChildEnded(ended) => Some((ended.child, ended.exit.as_str())),
                _ => None,
            })
            .collect();
        assert_eq!(ends, [(self.child, "completed")]);
        for pid in [self.parent, self.child] {
            let state = self.image(pid).await.state;
            assert!(matches!(state, ProcessState::Exited { exit: Exit::Completed { .. } }));
        }
        let image = self.image(self.parent).await;
        let end = image.children[&self.child].end.as_ref().expect("it ended");
        let wanted = [(end.seq, end.answer.expect("an answer").hash)];
        let found = self.reader.contents(&Tenant::local(), self.parent, &wanted).await;
        assert_eq!(&*found.expect("there")[0], b"it was there");
    }
}

fn owned((pid, label): (Pid, &str)) -> (Pid, String) {
    (pid, label.to_owned())
}

/// Looks until it is there.
async fn found<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} was waited for in vain");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn waits_for_a_child(state: &ProcessState) -> bool {
    matches!(state, ProcessState::Blocked { on: BlockedOn::Child { until: None, .. }, .. })
}

#[tokio::test]
async fn a_wait_ends_when_the_child_ends_on_another_node() {
    if !Server::is_here() {
        return;
    }
    let family = Family::begin(WAITS).await;
    let (one, _other) = family.part().await;
    family.say(family.parent).await;
    family.stands(family.parent, "a wait", waits_for_a_child).await;
    // As long as the child works, its node is left in peace.
    tokio::time::sleep(LEASE * 3).await;
    assert_eq!(family.owners().await, [(family.parent, "one"), (family.child, "other")].map(owned));
    family.say(family.child).await;
    family.ends(family.child).await;
    let outcome = tokio::time::timeout(PATIENCE, one.wait(family.parent)).await.expect("it ends");
    assert!(matches!(outcome, Some(Outcome::Exited(Exit::Completed { .. }))), "{outcome:?}");
    family.assert_told().await;
}

#[tokio::test]
async fn messages_between_nodes_come_once_and_in_their_order_though_one_is_killed() {
    if !Server::is_here() {
        return;
    }
    for dies in [false, true] {
        let family = Family::begin(TALKS).await;
        let other = family.node("other", false);
        other.resume(family.child, None).await.expect("its own");
        let away = Away::begin(&family).await;
        let letter = async || {
            let events = family.events(family.child).await;
            (letters(&events).len() >= MESSAGES / 4).then_some(())
        };
        family.say(family.parent).await;
        let third = family.node("third", true);
        if dies {
            found("a letter", letter).await;
            drop(away);
            let state = family.image(family.parent).await.state;
            assert!(!state.is_final(), "it was in the middle of it");
        }
        family.ends(family.child).await;
        family.ends(family.parent).await;
        family.assert_told().await;
        for pid in [family.parent, family.child] {
            let events = family.events(pid).await;
            let letters = letters(&events);
            assert_eq!(letters.len(), MESSAGES, "once each");
            assert!(letters.is_sorted(), "in the order of their sending");
            let taken_over = events.iter().filter(|it| matches!(it, What::Recovered(_))).count();
            assert_eq!(taken_over, 1 + usize::from(dies && pid == family.parent));
        }
        third.stop(Stop::Now);
    }
}

#[tokio::test]
async fn a_wait_goes_on_elsewhere_when_its_node_is_killed() {
    if !Server::is_here() {
        return;
    }
    let family = Family::begin(WAITS).await;
    let other = family.node("other", false);
    other.resume(family.child, None).await.expect("its own");
    let away = Away::begin(&family).await;
    family.say(family.parent).await;
    family.stands(family.parent, "a wait", waits_for_a_child).await;
    let _third = family.node("third", true);
    drop(away);
    let (is, at) = (family.parent, "third");
    found("an heir", async || family.owners().await.contains(&owned((is, at))).then_some(())).await;
    assert!(waits_for_a_child(&family.image(family.parent).await.state), "it waits still");
    family.say(family.child).await;
    family.ends(family.child).await;
    family.ends(family.parent).await;
    family.assert_told().await;
}

#[tokio::test]
async fn a_family_apart_is_stopped_and_goes_on_and_ends_together() {
    if !Server::is_here() {
        return;
    }
    for kill in [false, true] {
        let family = Family::begin(WAITS).await;
        let (one, other) = family.part().await;
        family.say(family.parent).await;
        family.stands(family.parent, "a wait", waits_for_a_child).await;
        let signal = |signal| family.post(family.parent, InboxItem::Signal { signal });
        if kill {
            signal(Signal::Kill).await;
            for (kernel, pid) in [(&one, family.parent), (&other, family.child)] {
                let outcome = tokio::time::timeout(PATIENCE, kernel.wait(pid)).await;
                assert_eq!(outcome.expect("ends"), Some(Outcome::Exited(Exit::Killed)));
            }
            continue;
        }
        let stopped = |state: &ProcessState| matches!(state, ProcessState::Suspended { .. });
        signal(Signal::Stop).await;
        family.stands(family.parent, "a stop", stopped).await;
        family.say(family.child).await;
        family.ends(family.child).await;
        // Longer than a parent that waits takes to look again.
        tokio::time::sleep(LEASE * 2).await;
        assert!(stopped(&family.image(family.parent).await.state), "who is stopped hears nothing");
        signal(Signal::Cont).await;
        family.ends(family.parent).await;
        family.assert_told().await;
    }
}

/// The numbers of the letters that a process received.
fn letters(events: &[What]) -> Vec<Op> {
    let letter = |what: &What| match what {
        What::MessageReceived(message) => message.op,
        _ => None,
    };
    events.iter().filter_map(letter).collect()
}

/// A node in a process of its own, which has the parent and is killed when this is dropped.
struct Away(Child);

impl Away {
    async fn begin(family: &Family) -> Self {
        let Family { options, script, parent, .. } = family;
        let mut node = Command::new(std::env::current_exe().expect("this test"))
            .args(["apart::away", "--exact", "--nocapture", "--test-threads=1"])
            .env(NODE, format!("{} {} {parent} {}", script.0, options.schema, options.url))
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut lines = BufReader::new(node.stdout.take().expect("a pipe")).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line.ends_with("has it"))));
        Self(node)
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("reaped");
    }
}

/// The node that is killed. Not a test of its own.
#[tokio::test]
async fn away() {
    let Ok(text) = std::env::var(NODE) else {
        return;
    };
    let mut words = text.splitn(4, ' ');
    let mut word = || words.next().expect("four words").to_owned();
    let (script, schema, parent, url) = (word(), word(), word(), word());
    let script = [WAITS, TALKS].into_iter().find(|it| it.0 == script).expect("a script");
    let mut options = PostgresOptions::new(url, "away");
    (options.schema, options.lease) = (schema, LEASE);
    let kernel = node(&options, "away", script, false);
    kernel.resume(parent.parse().expect("a pid"), None).await.expect("its own");
    println!("has it");
    std::future::pending::<()>().await;
}
