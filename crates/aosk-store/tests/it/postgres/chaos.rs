//! Chaos: a server that is stopped again and again under everything that a store does at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aosk_abi::{ContentKey, Exit, Hash, Pid, ProcessState, Seq, Tenant};
use aosk_conformance::Scribe;
use aosk_ports::{Append, Inbox, InboxItem, Journal, JournalWriter, ProcessFilter, ProcessRow};
use aosk_store::PostgresStore;
use tokio::task::JoinSet;

use super::server::{Server, is_here, open};
use crate::child::pid;
use crate::ledger::{seed, setting};
use crate::support::random;

/// Where the processes of each kind have their numbers.
const MAILBOXES: u64 = 1_000_000;
const ANNOUNCERS: u64 = 2_000_000;

/// How much there is of everything, and for how long. Full: 5,000 processes of three steps, 10,000
/// messages, 5,000 announcements in two minutes, while the server is stopped every 5 to 40 s for up to
/// 2 s. `AOSK_CHAOS_PERCENT` says how much of that, 10 unless it is set; the pauses between the stops
/// shrink with it, so that there are as many.
#[derive(Debug, Clone, Copy)]
struct Size {
    processes: u64,
    messages: u64,
    announcements: u64,
    span: Duration,
    percent: u64,
}

impl Size {
    fn read() -> Self {
        let percent = setting("AOSK_CHAOS_PERCENT", 10);
        Self {
            processes: 50 * percent,
            messages: 100 * percent,
            announcements: 50 * percent,
            span: Duration::from_millis(1_200 * percent),
            percent,
        }
    }

    /// Some moment of the span.
    fn moment(self, draw: &mut u64) -> Duration {
        Duration::from_millis(random(draw) % self.span.as_millis() as u64)
    }
}

/// Stops the server again and again until told to end; answers how often.
fn stop_and_start(server: &Server, size: Size, mut draw: u64, ended: &AtomicBool) -> u64 {
    let mut stops = 0;
    loop {
        let pause = size.percent * 10 * (5 + random(&mut draw) % 36);
        for _ in 0..pause / 20 {
            if ended.load(Ordering::Relaxed) {
                return stops;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        server.stop();
        std::thread::sleep(Duration::from_millis(random(&mut draw) % 2000));
        server.go();
        stops += 1;
    }
}

/// A process of three steps, each begun from what the store says; it ends with the third.
async fn three_steps(store: Arc<PostgresStore>, n: u64, begin: Duration) {
    tokio::time::sleep(begin).await;
    for step in 0..3 {
        let mut scribe = Scribe::new(&*store, &Tenant::local(), pid(n)).await;
        assert_eq!(scribe.next, Seq(step), "process {n} stands where it must");
        let mut append = scribe.append(&[text("step", n * 3 + step).as_bytes()]);
        if step == 2 {
            let state = ProcessState::Exited { exit: Exit::Killed };
            append = Append { row: ProcessRow { state, ..append.row }, ..append };
        }
        scribe.follow(&append);
        store.append(append).await.expect("it waits, it does not fail");
    }
}

fn text(kind: &str, n: u64) -> String {
    format!("{kind} {n}")
}

/// Takes what waits over into the journals of those for whom it waits, until all was heard.
async fn hear_messages(store: Arc<PostgresStore>, size: Size) {
    let local = Tenant::local();
    let mut heard = 0;
    while heard < size.messages {
        let mut by_process: BTreeMap<Pid, Vec<_>> = BTreeMap::new();
        for (pid, id, item) in store.pending(&local).await.expect("it waits") {
            let InboxItem::Message { text, .. } = item else { panic!("{item:?}") };
            by_process.entry(pid).or_default().push((id, text));
        }
        let mut tickets = Vec::new();
        for (pid, items) in by_process {
            let scribe = Scribe::new(&*store, &local, pid).await;
            let texts: Vec<&[u8]> = items.iter().map(|(_, text)| text.as_bytes()).collect();
            let consumed = items.iter().map(|(id, _)| *id).collect();
            heard += items.len() as u64;
            tickets.push(store.append(Append { consumed, ..scribe.append(&texts) }));
        }
        for ticket in tickets {
            ticket.await.expect("each item is there once, and taken over once");
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Announces events in one process, one after the other, over the span.
async fn announce(store: Arc<PostgresStore>, n: u64, count: u64, span: Duration) {
    let mut scribe = Scribe::new(&*store, &Tenant::local(), pid(ANNOUNCERS + n)).await;
    for event in 0..count {
        let text = text("event", n * count + event);
        scribe.write(&*store, &[text.as_bytes()]).await.expect("it waits, it does not fail");
        tokio::time::sleep(span / u32::try_from(count).expect("few")).await;
    }
}

/// Waits for each of these events on another node, and looks at it.
async fn listen(store: Arc<PostgresStore>, n: u64, count: u64, seen: Arc<AtomicU64>) {
    let (local, mut next) = (Tenant::local(), Seq(0));
    while next.0 < count {
        match store.read(&local, pid(ANNOUNCERS + n), next, 64).await {
            Ok(read) => {
                assert!(
                    read.iter().map(|record| record.seq.0).eq(next.0..next.0 + read.len() as u64)
                );
                next = Seq(next.0 + read.len() as u64);
                seen.fetch_add(read.len() as u64, Ordering::Relaxed);
            }
            Err(error) => assert_eq!(error.code, aosk_abi::Code::StoreUnknownProcess, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// The hashes of texts, with how often each is there.
fn tally(key: &ContentKey, texts: impl Iterator<Item = String>) -> HashMap<Hash, u32> {
    let mut tally = HashMap::new();
    for text in texts {
        *tally.entry(key.hash(text.as_bytes())).or_default() += 1;
    }
    tally
}

#[test]
fn every_result_is_exact_while_the_server_is_stopped_again_and_again() {
    if !is_here() {
        return;
    }
    const BOXES: u64 = 50;
    const VOICES: u64 = 25;
    let (size, mut draw) = (Size::read(), seed());
    let server = Server::start();
    let options = server.options();
    let [one, two] = [(); 2].map(|()| Arc::new(open(&options)));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let local = Tenant::local();
    runtime.block_on(async {
        for n in 0..BOXES {
            let mut scribe = Scribe::new(&*one, &local, pid(MAILBOXES + n)).await;
            scribe.write(&*one, &[]).await.expect("begins");
        }
    });
    let (ended, seen) = (AtomicBool::new(false), Arc::new(AtomicU64::new(0)));
    let stops = std::thread::scope(|scope| {
        let chaos = scope.spawn(|| stop_and_start(&server, size, seed() ^ 1, &ended));
        runtime.block_on(async {
            let mut work = JoinSet::new();
            for n in 0..size.processes {
                work.spawn(three_steps(Arc::clone(&one), n, size.moment(&mut draw)));
            }
            for n in 0..size.messages {
                let (store, begin) = (Arc::clone(&two), size.moment(&mut draw));
                let to = pid(MAILBOXES + random(&mut draw) % BOXES);
                work.spawn(async move {
                    tokio::time::sleep(begin).await;
                    let (from, text) = ("user".to_owned(), text("message", n));
                    let item = InboxItem::Message { from, text };
                    store.post(&Tenant::local(), to, item).await.expect("it waits");
                });
            }
            work.spawn(hear_messages(Arc::clone(&one), size));
            let count = size.announcements / VOICES;
            for n in 0..VOICES {
                work.spawn(announce(Arc::clone(&one), n, count, size.span));
                work.spawn(listen(Arc::clone(&two), n, count, Arc::clone(&seen)));
            }
            work.join_all().await;
        });
        ended.store(true, Ordering::Relaxed);
        chaos.join().expect("stopped and started")
    });
    println!("{{\"name\":\"chaos\",\"percent\":{},\"stops\":{stops}}}", size.percent);
    assert!(stops >= 2, "{stops} stops prove little");
    assert_eq!(seen.load(Ordering::Relaxed), size.announcements);

    runtime.block_on(async {
        let key = two.content_key(&local).await.expect("the key");
        let mut found: HashMap<Hash, u32> = HashMap::new();
        let listed = two.processes(&local, ProcessFilter::All).await.expect("listed");
        assert_eq!(listed.len() as u64, size.processes + BOXES + VOICES);
        for receipt in &listed {
            for record in two.read(&local, receipt.pid, Seq(0), usize::MAX).await.expect("whole") {
                let event = record.decode().expect("an event");
                if let aosk_abi::What::Told(told) = event.what {
                    *found.entry(told.content.hash).or_default() += 1;
                }
            }
        }
        let steps = (0..size.processes * 3).map(|n| text("step", n));
        let messages = (0..size.messages).map(|n| text("message", n));
        let events = (0..size.announcements).map(|n| text("event", n));
        let expected = tally(&key, steps.chain(messages).chain(events));
        assert!(found == expected, "each once: {} of {}", found.len(), expected.len());
        assert!(two.pending(&local).await.expect("answers").is_empty());
        let left = two.processes(&local, ProcessFilter::Unfinished).await.expect("listed");
        assert_eq!(left.len() as u64, BOXES + VOICES, "each process of three steps has ended");
    });
}
