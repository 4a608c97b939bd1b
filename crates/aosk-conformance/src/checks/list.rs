//! Lists of processes.

use aosk_abi::{
    BlockedOn, Exit, MicroDollars, Pid, ProcessState, Tenant, Timestamp, Tokens, Usage,
};
use aosk_ports::{Append, InboxItem, ProcessFilter, ProcessRow, Receipt};

use crate::World;
use crate::scribe::{Scribe, row};

/// A list says what the last acknowledged append said, and where each journal stands.
pub async fn lists_show_the_newest_row_in_the_order_of_pids(world: World) {
    let store = world.store();
    let local = Tenant::local();
    assert!(store.processes(&local, ProcessFilter::All).await.expect("answers").is_empty());
    let mut scribes = Vec::new();
    for n in [5, 1, 9, 3] {
        scribes.push(world.scribe(n).await);
    }
    // An alias is a UUIDv5 and sorts by its bytes among the others.
    scribes.push(Scribe::new(store.as_ref(), &local, Pid::from_alias("agent-123")).await);
    for scribe in &mut scribes {
        scribe.write(store.as_ref(), &[b"zero"]).await.expect("begins");
    }
    let exit = ProcessState::Exited { exit: Exit::Killed };
    let last = Append { row: ProcessRow { state: exit, ..row(8) }, ..scribes[1].append(&[b"end"]) };
    store.append(last.clone()).await.expect("continues");
    scribes[1].follow(&last);

    scribes.sort_by_key(|scribe| scribe.pid);
    let list = async |filter| store.processes(&local, filter).await.expect("answers");
    let all = list(ProcessFilter::All).await;
    let expected: Vec<Receipt> = scribes
        .iter()
        .map(|scribe| Receipt {
            tenant: local.clone(),
            pid: scribe.pid,
            epoch: scribe.epoch,
            next: scribe.next,
            head: scribe.head,
            row: if scribe.pid == last.pid { last.row.clone() } else { row(1) },
        })
        .collect();
    assert_eq!(all, expected);
    let unfinished: Vec<Receipt> =
        expected.into_iter().filter(|receipt| !receipt.row.state.is_final()).collect();
    assert_eq!(list(ProcessFilter::Unfinished).await, unfinished);
    assert_eq!(unfinished.len(), 4);
}

/// The longest name of a tenant, and names and senders that no column of a bounded length would take.
pub async fn names_of_any_length_and_kind_come_back(mut world: World) {
    let tenant: Tenant = "t".repeat(63).parse().expect("the longest");
    let mut scribe = world.scribe_of(&tenant, 1).await;
    let long = "名\0".repeat(250_000);
    for name in ["", "\0", "a\0b\u{1a}", &long] {
        let mut append = scribe.append(&[]);
        (append.row.name, append.row.model) = (name.to_owned(), format!("{name}!"));
        world.store().append(append.clone()).await.expect("continues");
        scribe.follow(&append);
        world.reopen();
        let shown = world.store().process(&tenant, scribe.pid).await.expect("answers");
        assert!(shown.expect("there").row == append.row, "{} bytes", name.len());
        let item = InboxItem::Message { from: name.to_owned(), text: name.to_owned() };
        world.store().post(&tenant, scribe.pid, item.clone()).await.expect("posted");
        let waits = world.store().pending(&tenant).await.expect("answers");
        assert!(waits.last().is_some_and(|(_, _, last)| *last == item), "{} bytes", name.len());
    }
}

/// The bounds of every number, and texts of any kind.
pub async fn every_number_and_text_of_a_row_comes_back(world: World) {
    let (store, mut scribe) = (world.store(), world.scribe(1).await);
    let blocked = |on| ProcessState::Blocked { on, since: Timestamp::from_millis(u64::MAX) };
    let limit = MicroDollars(u64::MAX);
    let states = [
        ProcessState::New,
        ProcessState::Running,
        blocked(BlockedOn::Quota { limit, spent: MicroDollars(1), needed: limit }),
        blocked(BlockedOn::Tool { calls: 3 }),
        ProcessState::Suspended { since: Timestamp::from_millis(0) },
        ProcessState::Exited { exit: Exit::StepLimit { limit: 3 } },
        ProcessState::Ready,
    ];
    for state in states {
        for bound in [0, 1, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX] {
            let row = ProcessRow {
                name: "名前 ' \" \u{1}".to_owned(),
                model: String::new(),
                state: state.clone(),
                steps: bound,
                usage: Usage {
                    input: Tokens(bound),
                    cached: Tokens(bound - bound / 3),
                    cache_write: Tokens(bound - bound / 4),
                    cache_write_long: Tokens::ZERO,
                    output: Tokens(bound - bound / 5),
                    reasoning: Tokens(bound - bound / 6),
                },
                spent: MicroDollars(bound),
                created: Timestamp::from_millis(bound),
                updated: Timestamp::from_millis(bound - bound / 7),
            };
            let append = Append { row: row.clone(), ..scribe.append(&[]) };
            store.append(append.clone()).await.expect("continues");
            scribe.follow(&append);
            let shown = store.process(&scribe.tenant, scribe.pid).await.expect("answers");
            assert_eq!(shown.expect("there").row, row);
        }
    }
}
