//! The store in memory: what a crash may take and what it must leave.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aosk_abi::{
    Code, Content, ContentKey, Epoch, Event, Hash, MessageReceived, MicroDollars, Pid,
    ProcessState, Record, Seq, Signal, Tenant, Timestamp, Usage, What,
};
use aosk_ports::{Append, Inbox as _, InboxItem, Journal as _, JournalWriter as _, ProcessRow};
use aosk_sim::{Chance, Disk, DiskFaults, MemoryStore, Power};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::in_virtual_time;

const EPOCH: Epoch = Epoch(1);

/// Writes the journal of one process.
struct Writer {
    pid: Pid,
    key: ContentKey,
    next: Seq,
    head: Hash,
}

impl Writer {
    async fn new(store: &MemoryStore, name: &str) -> Self {
        let key = store.content_key(&Tenant::local()).await.expect("key");
        Self { pid: Pid::from_alias(name), key, next: Seq(0), head: Hash::ZERO }
    }

    /// The next append, of one event that names a content of these bytes.
    fn append(&mut self, bytes: impl Into<Vec<u8>>) -> Append {
        let content = self.key.seal(bytes.into());
        let message =
            MessageReceived { from: "user".to_owned(), content: content.reference(), op: None };
        let event = Event::new(Timestamp::default(), What::MessageReceived(message));
        let tenant = Tenant::local();
        let record =
            Record::seal(&tenant, self.pid, self.next, EPOCH, self.head, &event).expect("encodes");
        let prev = std::mem::replace(&mut self.head, record.hash);
        self.next = self.next.next();
        Append {
            tenant,
            pid: self.pid,
            epoch: EPOCH,
            prev,
            records: vec![record].into(),
            contents: vec![content],
            row: ProcessRow {
                name: "writer".to_owned(),
                model: "none".to_owned(),
                state: ProcessState::Ready,
                steps: 0,
                usage: Usage::default(),
                spent: MicroDollars::ZERO,
                created: Timestamp::default(),
                updated: Timestamp::default(),
            },
            checkpoint: None,
            consumed: Vec::new(),
        }
    }
}

fn open(disk: &Disk) -> MemoryStore {
    MemoryStore::open(disk, DiskFaults::calm(), Power::on())
}

async fn journal(store: &MemoryStore, pid: Pid) -> Vec<Record> {
    let tenant = Tenant::local();
    match store.process(&tenant, pid).await.expect("reads") {
        None => Vec::new(),
        Some(_) => store.read(&tenant, pid, Seq(0), usize::MAX).await.expect("verifies"),
    }
}

/// What one life left: for each process what it queued, and how much of it was acknowledged.
type Lives = Arc<Mutex<Vec<(Pid, Vec<Record>, usize)>>>;

/// Six processes append without waiting until the power goes or ten seconds have passed.
fn live_and_die(disk: &Disk, seed: u64) -> Lives {
    let faults = DiskFaults {
        full: Chance::NEVER,
        io_error: Chance::NEVER,
        crash_before: Chance::per_mille(60),
        crash_after: Chance::per_mille(60),
        // Whoever reads when the power goes waits for ever, and the writers read before they begin.
        read: Duration::ZERO..=Duration::ZERO,
        unreadable: Chance::NEVER,
        ..DiskFaults::rough()
    };
    let lives = Lives::default();
    in_virtual_time(async {
        let power = Power::on();
        let store = MemoryStore::open(disk, faults, power.clone());
        let mut tasks = JoinSet::new();
        for name in 0..6_usize {
            let (store, lives) = (store.clone(), lives.clone());
            let mut writer = Writer::new(&store, &format!("{seed}-{name}")).await;
            tasks.spawn(async move {
                lives.lock().expect("lock").push((writer.pid, Vec::new(), 0));
                for round in 0..100_usize {
                    // Up to four appends of a process wait at once.
                    let mut tickets = Vec::new();
                    for n in 0..=(round + name) % 4 {
                        let append = writer.append(format!("{round} {n}"));
                        lives.lock().expect("lock")[name].1.extend(append.records.clone());
                        tickets.push(store.append(append));
                    }
                    for ticket in tickets {
                        let last = ticket.await.expect("no error but the crash").last;
                        let seen = usize::try_from(last.0).expect("small") + 1;
                        lives.lock().expect("lock")[name].2 = seen;
                    }
                    tokio::time::sleep(Duration::from_millis(17 * name as u64)).await;
                }
            });
        }
        tokio::select! {
            _ = power.out() => {}
            () = tokio::time::sleep(Duration::from_secs(10)) => store.crash(),
        }
    });
    lives
}

#[test]
fn an_acknowledged_append_survives_a_crash_and_the_rest_is_a_prefix() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..200 {
        let disk = Disk::new(seed);
        let lives = live_and_die(&disk, seed);
        in_virtual_time(async {
            let store = open(&disk);
            let lives = std::mem::take(&mut *lives.lock().expect("lock"));
            for (pid, queued, acknowledged) in lives {
                let found = journal(&store, pid).await;
                assert!(found.len() >= acknowledged, "seed {seed}: an acknowledged event is lost");
                assert_eq!(found, queued[..found.len()], "seed {seed}: not a prefix");
                kept += usize::from(found.len() > acknowledged);
                lost += usize::from(found.len() < queued.len());
            }
        });
    }
    assert!(kept > 20, "unacknowledged appends survived only {kept} times");
    assert!(lost > 20, "unacknowledged appends were lost only {lost} times");
}

#[test]
fn a_seed_gives_one_history() {
    let history = |seed| live_and_die(&Disk::new(seed), seed).lock().expect("lock").clone();
    assert_eq!(history(11), history(11));
    assert_ne!(history(11), history(12));
}

#[test]
fn nothing_is_visible_before_it_is_durable_and_nothing_answers_after_a_crash() {
    let disk = Disk::new(1);
    in_virtual_time(async {
        let slow = DiskFaults {
            sync: Duration::from_secs(1)..=Duration::from_secs(1),
            ..DiskFaults::calm()
        };
        let store = MemoryStore::open(&disk, slow, Power::on());
        let mut writer = Writer::new(&store, "slow").await;
        let ticket = store.append(writer.append("a"));
        tokio::time::sleep(Duration::from_millis(999)).await;
        assert_eq!(journal(&store, writer.pid).await.len(), 0);
        ticket.await.expect("durable");
        assert_eq!(journal(&store, writer.pid).await.len(), 1);

        // A dropped ticket cancels nothing.
        drop(store.append(writer.append("b")));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(journal(&store, writer.pid).await.len(), 2);

        let ticket = store.append(writer.append("c"));
        store.crash();
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, ticket).await.is_err());
        assert!(tokio::time::timeout(hour, journal(&store, writer.pid)).await.is_err());
    });
}

#[test]
fn a_full_disk_keeps_what_it_had_and_takes_more_when_there_is_room() {
    let disk = Disk::new(5);
    in_virtual_time(async {
        let minute = Duration::from_secs(60);
        let full = DiskFaults {
            full: Chance::per_mille(300),
            full_for: minute..=minute,
            ..DiskFaults::calm()
        };
        let store = MemoryStore::open(&disk, full, Power::on());
        let mut writer = Writer::new(&store, "full").await;
        let mut refused = 0;
        for n in 0..50_usize {
            let append = writer.append(n.to_string());
            while let Err(error) = store.append(append.clone()).await {
                assert_eq!(error.code, Code::StoreFull);
                assert_eq!(journal(&store, writer.pid).await.len(), n);
                refused += 1;
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
        }
        assert_eq!(journal(&store, writer.pid).await.len(), 50);
        assert!(refused > 10, "{refused}");
    });
}

#[test]
fn an_append_of_unknown_fate_can_be_made_again() {
    let disk = Disk::new(6);
    in_virtual_time(async {
        let bad = DiskFaults { io_error: Chance::per_mille(500), ..DiskFaults::calm() };
        let store = MemoryStore::open(&disk, bad, Power::on());
        let mut writer = Writer::new(&store, "io").await;
        let (mut durable, mut lost) = (0, 0);
        for n in 0..50_usize {
            let append = writer.append(n.to_string());
            while let Err(error) = store.append(append.clone()).await {
                assert_eq!(error.code, Code::StoreIo);
                match journal(&store, writer.pid).await.len() - n {
                    0 => lost += 1,
                    _ => durable += 1,
                }
            }
            assert_eq!(journal(&store, writer.pid).await.len(), n + 1);
        }
        assert!(durable > 5 && lost > 5, "{durable} durable, {lost} lost");
    });
}

#[test]
fn a_content_is_found_where_a_real_store_keeps_it() {
    let disk = Disk::new(3);
    in_virtual_time(async {
        let store = open(&disk);
        let mut writer = Writer::new(&store, "contents").await;
        let at = vec![1; Content::INLINE_MAX];
        let above = vec![2; Content::INLINE_MAX + 1];
        for bytes in [&at[..], &above, b"x"] {
            store.append(writer.append(bytes)).await.expect("durable");
        }
        let code = async |wanted: &[(u64, &[u8])]| {
            let wanted: Vec<_> =
                wanted.iter().map(|(seq, bytes)| (Seq(*seq), writer.key.hash(bytes))).collect();
            let found = store.contents(&Tenant::local(), writer.pid, &wanted).await;
            found.map(|found| found.len()).map_err(|error| error.code)
        };
        let missing = Err(Code::StoreContentMissing);
        assert_eq!(code(&[(1, &above), (0, &at)]).await, Ok(2));
        assert_eq!(code(&[(1, &at)]).await, missing, "small: beside its event only");
        assert_eq!(code(&[(2, &above)]).await, Ok(1), "large: once for all");
        assert_eq!(code(&[(3, b"x")]).await, missing, "past the end");
    });
}

#[test]
fn an_owner_is_told_what_anyone_posts_unless_its_store_cannot_tell() {
    let disk = Disk::new(7);
    in_virtual_time(async {
        let (store, tenant, second) = (open(&disk), Tenant::local(), Duration::from_secs(1));
        let mut writer = Writer::new(&store, "posted").await;
        store.append(writer.append("a")).await.expect("durable");
        let told = async || {
            let posted = store.posted().expect("a store that can tell");
            tokio::time::timeout(second, posted).await.is_ok()
        };
        assert!(!told().await, "nothing was posted");
        let item = || InboxItem::Signal { signal: Signal::Cont };
        store.post(&tenant, writer.pid, item()).await.expect("posted");
        assert!(told().await && !told().await, "once for what was posted between two questions");
        let other = store.beside();
        other.post(&tenant, writer.pid, item()).await.expect("posted");
        drop(other);
        assert!(told().await, "by another program, which has ended since");
        let mute = DiskFaults { mute: Chance::ALWAYS, ..DiskFaults::calm() };
        assert!(MemoryStore::open(&disk, mute, Power::on()).posted().is_none());
    });
}

#[test]
fn a_read_takes_its_time_and_may_fail_and_the_next_one_reads_the_same() {
    let disk = Disk::new(8);
    in_virtual_time(async {
        let calm = open(&disk);
        let mut writer = Writer::new(&calm, "read").await;
        calm.append(writer.append("a")).await.expect("durable");
        drop(calm);
        let second = Duration::from_secs(1);
        let faults = DiskFaults {
            read: second..=second,
            unreadable: Chance::per_mille(500),
            ..DiskFaults::calm()
        };
        let store = MemoryStore::open(&disk, faults, Power::on());
        let (began, mut failed) = (Instant::now(), 0_u32);
        for _ in 0..100 {
            match store.read(&Tenant::local(), writer.pid, Seq(0), 9).await {
                Ok(records) => assert_eq!(records.len(), 1),
                Err(error) => {
                    assert_eq!(error.code, Code::StoreIo);
                    failed += 1;
                }
            }
        }
        assert_eq!(began.elapsed(), 100 * second);
        assert!((30..70).contains(&failed), "{failed}");
    });
}
