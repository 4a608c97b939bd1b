//! Retention: what is due goes whole with a record of it, and what something needs stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use aosk_abi::{
    Code, Content, Event, Exit, Hash, MessageReceived, Pid, ProcessState, Record, Seq, Tenant,
    Timestamp, What,
};
use aosk_conformance::Scribe;
use aosk_ports::{Append, Inbox, InboxItem, Journal, JournalWriter, ProcessFilter, Store};
use aosk_store::{Reason, Removal, Retention, StorePlace, collect, copy, prune, prunings, upkeep};
use rusqlite::Connection;

use crate::child::pid;
use crate::postgres::server;
use crate::support::{block_on, noise, open, refused};

const OLD: Timestamp = Timestamp::from_millis(1_000_000);
const END: Timestamp = Timestamp::from_millis(2_000_000);
const NEW: Timestamp = Timestamp::from_millis(3_000_000);

fn ended() -> ProcessState {
    ProcessState::Exited { exit: Exit::Completed { answer: None } }
}

fn rule(ended_before: Option<Timestamp>, keep: Option<u64>) -> Retention {
    Retention { tenant: None, ended_before, keep }
}

/// What a process of the tests begins with.
#[derive(Debug, Clone)]
struct Begun {
    state: ProcessState,
    updated: Timestamp,
    /// A process that its first event names.
    names: Option<Pid>,
    /// Whether its chain begins as a fork's.
    forked: bool,
}

impl Begun {
    fn at(state: ProcessState, updated: Timestamp) -> Self {
        Self { state, updated, names: None, forked: false }
    }
}

/// Writes a process of three appends with small and large contents and saved folds.
async fn begin(store: &dyn Store, tenant: &Tenant, pid: Pid, begun: &Begun) {
    let mut scribe = Scribe::new(store, tenant, pid).await;
    if begun.forked {
        scribe.head = Hash::of(b"another journal");
    }
    let large = noise(u64::from(pid.as_bytes()[5]), Content::INLINE_MAX + 1);
    for n in 0..3_u8 {
        let mut append = scribe.append(&[b"small", &large]);
        if let Some(other) = begun.names.filter(|_| n == 0) {
            append = naming(&scribe, append, other);
        }
        if n == 1 {
            append = Scribe::with_checkpoint(append, vec![1; 9]);
            append = Scribe::with_stretch(append, Seq(0), vec![2; 9]);
        }
        append.row.state = begun.state.clone();
        append.row.updated = begun.updated;
        store.append(append.clone()).await.expect("continues");
        scribe.follow(&append);
    }
}

/// The append whose first event names a process.
fn naming(scribe: &Scribe, append: Append, other: Pid) -> Append {
    let content = scribe.key.seal(*b"said");
    let (from, named) = (other.to_string(), content.reference());
    let what = What::MessageReceived(MessageReceived { content: named, from, op: None });
    let event = Event::new(OLD, what);
    let record =
        Record::seal(&scribe.tenant, scribe.pid, scribe.next, scribe.epoch, scribe.head, &event);
    let records = vec![record.expect("no text holds U+0000")].into();
    Append { records, contents: vec![content], ..append }
}

fn standing(store: &dyn Store, tenant: &Tenant) -> BTreeSet<Pid> {
    let listed = block_on(store.processes(tenant, ProcessFilter::All)).expect("listed");
    listed.into_iter().map(|receipt| receipt.pid).collect()
}

fn run(place: &StorePlace, rule: &Retention, dry: bool) -> Removal {
    prune(place, rule, (NEW, "a test"), dry).expect("removed")
}

/// Every reason to stay, and none.
fn what_is_due(store: &dyn Store, place: &StorePlace, count: &dyn Fn(&str) -> i64) {
    let local = Tenant::local();
    let message = |from: Pid| InboxItem::Message { from: from.to_string(), text: "hi".to_owned() };
    let live = ProcessState::Ready;
    let names = |other: u64, forked, state, updated| Begun {
        names: Some(pid(other)),
        forked,
        ..Begun::at(state, updated)
    };
    let all = [
        (0, Begun::at(ended(), OLD)),
        (1, Begun::at(ended(), OLD)),      // waits for a message
        (2, Begun::at(ended(), OLD)),      // has sent one
        (3, Begun::at(ended(), OLD)),      // the parent of 6
        (4, Begun::at(ended(), OLD)),      // what 5 was forked of
        (5, names(4, true, ended(), OLD)), // what 7 was forked of
        (6, names(3, false, live.clone(), OLD)),
        (7, names(5, true, ended(), NEW)),
        (8, Begun::at(live, OLD)),
        (9, Begun::at(ended(), END)),
        (10, names(0, false, ended(), NEW)), // a child that has ended needs nobody
        (11, Begun::at(ended(), OLD)),
    ];
    block_on(async {
        for (n, begun) in &all {
            begin(store, &local, pid(*n), begun).await;
        }
        store.post(&local, pid(1), message(pid(9))).await.expect("posted");
        store.post(&local, pid(8), message(pid(2))).await.expect("posted");
    });
    let head = |n: u64| block_on(store.process(&local, pid(n))).expect("answers").map(|it| it.head);
    let heads = [head(0), head(11)];

    assert_eq!(run(place, &Retention::default(), false), Removal::default());
    let other =
        Retention { tenant: Some("other".parse().expect("a name")), ..rule(Some(END), None) };
    assert_eq!(run(place, &other, false), Removal::default());
    let kept: BTreeMap<_, _> = [
        (1, Reason::Awaited),
        (2, Reason::Sender),
        (3, Reason::Needed),
        (4, Reason::Needed),
        (5, Reason::Needed),
    ]
    .map(|(n, reason)| ((local.clone(), pid(n)), reason))
    .into();
    let expected = Removal { processes: 2, events: 12, kept };
    assert_eq!(run(place, &rule(Some(END), None), true), expected);
    assert_eq!(standing(store, &local).len(), 12, "a dry run removes nothing");
    assert_eq!(prunings(place).expect("none"), []);

    assert_eq!(run(place, &rule(Some(END), None), false), expected);
    assert_eq!(standing(store, &local), (1..11).map(pid).collect());
    let tables: &[&str] = match place {
        StorePlace::Sqlite(_) | StorePlace::Backup(_) => &["journal", "checkpoints", "stretches"],
        StorePlace::Postgres(_) => &["journal", "checkpoints"],
    };
    for table in tables {
        for gone in [0, 11] {
            assert_eq!(count(&format!("{table} WHERE pid = {}", key(place, gone))), 0, "{table}");
        }
        assert!(count(&format!("{table} WHERE pid = {}", key(place, 1))) > 0, "{table}");
    }
    for stays in 1..11 {
        let read = block_on(store.read(&local, pid(stays), Seq(0), 99)).expect("whole");
        assert!(read.len() >= 5);
    }
    let records = prunings(place).expect("whole");
    assert_eq!(records.len(), 1);
    let what = &records[0].what;
    assert_eq!((what.at, what.by.as_str(), what.ended_before), (NEW, "a test", Some(END)));
    let gone: BTreeSet<_> = what.processes.iter().map(|it| (it.pid, it.events, it.head)).collect();
    let expected = [(0, heads[0]), (11, heads[1])];
    let expected = expected.map(|(n, head)| (pid(n), Seq(6), head.expect("was there")));
    assert_eq!(gone, BTreeSet::from(expected));

    // What only they named goes with the second collection.
    assert_eq!(collect(place, false).expect("collected").suspected, 2);
    assert_eq!(collect(place, false).expect("collected").deleted, 2);

    // Nothing is needed any more: all that ended goes, oldest first, but for the newest that are kept.
    block_on(async {
        for (to, id, _) in store.pending(&local).await.expect("read") {
            let next = store.process(&local, to).await.expect("answers").expect("there").next;
            store.dismiss(&local, to, next, &[id]).await.expect("dismissed");
        }
    });
    for (keep, left) in [(99, 10), (8, 10), (7, 9), (2, 7)] {
        run(place, &rule(None, Some(keep)), false);
        assert_eq!(standing(store, &local).len(), left, "{keep}");
    }
    // Those that ended last, and those that they or the living need.
    let stay = [3, 4, 5, 6, 7, 8, 10].map(pid);
    assert_eq!(standing(store, &local), BTreeSet::from(stay));
    assert_eq!(prunings(place).expect("whole").len(), 3);
}

/// A pid as the backend's SQL writes it.
fn key(place: &StorePlace, n: u64) -> String {
    match place {
        StorePlace::Postgres(_) => format!("'{}'", pid(n)),
        _ => format!("x'{}'", pid(n).to_string().replace('-', "")),
    }
}

#[test]
fn what_is_due_goes_whole_and_what_is_needed_stays() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let place = StorePlace::Sqlite(dir.path().to_owned());
    let database = Connection::open(dir.path().join("aosk.db")).expect("opens");
    what_is_due(&store, &place, &|from| {
        let sql = format!("SELECT count(*) FROM {from}");
        database.query_row(&sql, [], |row| row.get(0)).expect("counted")
    });

    // The records come along with a copy, and who altered one is found out.
    let new = tempfile::tempdir().expect("a folder");
    let to = StorePlace::Sqlite(new.path().to_owned());
    assert_eq!(copy(&place, &to).expect("copied").prunings, 3);
    assert_eq!(prunings(&to).expect("whole"), prunings(&place).expect("whole"));
    database.execute_batch("DELETE FROM prunings WHERE id = 1").expect("deleted");
    refused(prunings(&place), Code::ChainBroken);
    let third = tempfile::tempdir().expect("a folder");
    refused(copy(&place, &StorePlace::Sqlite(third.path().to_owned())), Code::ChainBroken);
}

#[test]
fn what_is_due_on_a_server_goes_whole_and_what_is_needed_stays() {
    let Some((options, store)) = server::fresh() else { return };
    let place = StorePlace::Postgres(options.clone());
    what_is_due(&store, &place, &|from| {
        block_on(async {
            let sql = format!("SELECT count(*) FROM {from}");
            let client = server::psql(&options).await;
            client.query_one(&sql, &[]).await.expect("counted").get(0)
        })
    });
    let dir = tempfile::tempdir().expect("a folder");
    let to = StorePlace::Sqlite(dir.path().to_owned());
    assert_eq!(copy(&place, &to).expect("copied").prunings, 3);
    assert_eq!(prunings(&to).expect("whole"), prunings(&place).expect("whole"));
}

#[test]
fn a_message_that_comes_while_its_process_is_removed_keeps_it() {
    let Some((options, store)) = server::fresh() else { return };
    let local = Tenant::local();
    block_on(async {
        begin(&store, &local, pid(0), &Begun::at(ended(), OLD)).await;
        let mut poster = server::psql(&options).await;
        let post = poster.transaction().await.expect("begun");
        let held = format!(
            "SELECT FROM processes WHERE pid = '{0}' FOR KEY SHARE; \
             INSERT INTO inbox (pid, tenant, item) SELECT '{0}', tenant, \
             '{{\"item\":\"message\",\"from\":\"user\",\"text\":\"hi\"}}' FROM processes",
            pid(0)
        );
        post.batch_execute(&held).await.expect("posted");
        let place = StorePlace::Postgres(options.clone());
        let removal = std::thread::spawn(move || run(&place, &rule(Some(END), None), false));
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!removal.is_finished(), "it does not wait");
        post.commit().await.expect("committed");
        let removal = removal.join().expect("ended");
        let kept = [((local.clone(), pid(0)), Reason::Awaited)].into();
        assert_eq!(removal, Removal { kept, ..Removal::default() });
        assert_eq!(store.pending(&local).await.expect("read").len(), 1);
    });
    assert_eq!(prunings(&StorePlace::Postgres(options)).expect("none"), []);
}

#[test]
fn a_process_that_goes_on_while_it_is_removed_stays() {
    let Some((options, store)) = server::fresh() else { return };
    let local = Tenant::local();
    block_on(async {
        begin(&store, &local, pid(0), &Begun::at(ended(), OLD)).await;
        let mut node = server::psql(&options).await;
        let claim = node.transaction().await.expect("begun");
        claim.batch_execute("UPDATE processes SET epoch = epoch + 1").await.expect("claimed");
        let place = StorePlace::Postgres(options.clone());
        let removal = std::thread::spawn(move || run(&place, &rule(Some(END), None), false));
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!removal.is_finished(), "it does not wait");
        claim.commit().await.expect("committed");
        let kept = [((local.clone(), pid(0)), Reason::GoesOn)].into();
        let removal = removal.join().expect("ended");
        assert_eq!(removal, Removal { kept, ..Removal::default() });
    });
    assert_eq!(standing(&store, &local).len(), 1);
}

#[test]
fn nothing_is_left_for_a_process_that_is_being_removed() {
    let Some((options, store)) = server::fresh() else { return };
    let local = Tenant::local();
    block_on(async {
        begin(&store, &local, pid(0), &Begun::at(ended(), OLD)).await;
        let mut remover = server::psql(&options).await;
        let removal = remover.transaction().await.expect("begun");
        removal.batch_execute("DELETE FROM processes").await.expect("deleted");
        let item = InboxItem::Message { from: "user".to_owned(), text: "hi".to_owned() };
        let mut post = std::pin::pin!(store.post(&local, pid(0), item));
        let soon = Duration::from_millis(500);
        assert!(tokio::time::timeout(soon, &mut post).await.is_err(), "it does not wait");
        removal.commit().await.expect("committed");
        refused(post.await, Code::StoreUnknownProcess);
        assert_eq!(store.pending(&local).await.expect("read"), []);
    });
}

/// The `n`-th pid of now.
fn now(n: u8) -> Pid {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    Pid::from_parts(now.as_millis() as u64, [n; 10])
}

#[test]
fn a_month_of_which_nobody_stays_is_emptied_as_one_table() {
    let Some((options, store)) = server::fresh() else { return };
    let local = Tenant::local();
    let place = StorePlace::Postgres(options.clone());
    let bytes = || {
        block_on(async {
            let sql = "SELECT sum(pg_relation_size(inhrelid))::bigint FROM pg_inherits \
                       WHERE inhparent = 'journal'::regclass \
                       AND inhrelid <> 'journal_default'::regclass";
            let client = server::psql(&options).await;
            client.query_one(sql, &[]).await.expect("measured").get::<_, i64>(0)
        })
    };
    let begin = |pid: Pid, state: ProcessState| {
        block_on(begin(&store, &local, pid, &Begun::at(state, OLD)));
        pid
    };
    begin(now(1), ended());
    let live = begin(now(2), ProcessState::Ready);
    assert_eq!(run(&place, &rule(Some(END), None), false).processes, 1);
    assert!(bytes() > 0, "somebody of that month stays");
    assert_eq!(standing(&store, &local), BTreeSet::from([live]));
    block_on(store.read(&local, live, Seq(0), 99)).expect("whole");

    block_on(async {
        let mut scribe = Scribe::new(&store, &local, live).await;
        let mut append = scribe.append(&[b"the end"]);
        (append.row.state, append.row.updated) = (ended(), OLD);
        store.append(append.clone()).await.expect("continues");
        scribe.follow(&append);
        // While somebody reads a snapshot of the store, a month is removed row by row.
        let reader = server::psql(&options).await;
        let lock = "SELECT pg_advisory_lock_shared(hashtextextended('aosk months ' || \
                    current_schema(), 0))";
        reader.batch_execute(lock).await.expect("shared");
        let place = place.clone();
        let removal = std::thread::spawn(move || run(&place, &rule(Some(END), None), false));
        assert_eq!(removal.join().expect("ended").processes, 1);
    });
    assert!(bytes() > 0, "its rows await VACUUM");
    begin(now(3), ended());
    assert_eq!(run(&place, &rule(Some(END), None), false).processes, 1);
    assert_eq!((bytes(), standing(&store, &local)), (0, BTreeSet::new()));
    begin(now(4), ended());
    assert_eq!(standing(&store, &local).len(), 1);
    assert_eq!(prunings(&place).expect("whole").len(), 3);
}

/// Of many who look after a store one does so in each time.
fn turns(store: &dyn Store, place: &StorePlace) {
    let (local, hour) = (Tenant::local(), Duration::from_secs(3600));
    block_on(begin(store, &local, pid(0), &Begun::at(ended(), OLD)));
    let turn = |every| upkeep(place, every, &rule(Some(END), None), (NEW, "a test"));
    assert_eq!(turn(hour).expect("answers"), None, "the store is new");
    let done = std::thread::scope(|scope| {
        // Two seconds, since a store counts whole ones.
        std::thread::sleep(Duration::from_secs(2));
        let turns: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| turn(Duration::from_secs(2)).expect("answers")))
            .collect();
        turns.into_iter().filter_map(|turn| turn.join().expect("ended")).collect::<Vec<_>>()
    });
    assert_eq!(done.len(), 1, "{done:?}");
    assert_eq!((done[0].removed.processes, done[0].collected.suspected), (1, 1));
    assert_eq!(turn(hour).expect("answers"), None);
    let last = turn(Duration::ZERO).expect("answers").expect("its turn");
    assert_eq!((last.removed.processes, last.collected.deleted), (0, 1));
}

#[test]
fn one_at_a_time_looks_after_a_store() {
    let dir = tempfile::tempdir().expect("a folder");
    turns(&open(dir.path()), &StorePlace::Sqlite(dir.path().to_owned()));
}

#[test]
fn one_node_at_a_time_looks_after_a_store_on_a_server() {
    if !server::is_here() {
        return;
    }
    let options = server::options();
    turns(&server::open(&options), &StorePlace::Postgres(options.clone()));
}
