//! Random operations on a store and on the model.

use aosk_abi::{Code, Content, Epoch, Exit, Hash, ProcessState, Seq, Signal, Tenant};
use aosk_ports::{Append, InboxId, InboxItem, ProcessFilter, ProcessRow, Receipt};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::content::noise;
use super::refused;
use crate::model::Model;
use crate::scribe::{Scribe, row};
use crate::world::{Site, World, pid, runtime};

/// What is wrong with an append.
#[derive(Debug, Clone, Copy)]
enum Flaw {
    None,
    Repeat,
    OldEpoch,
    NewEpoch,
    Gap,
    Overwrite,
    BrokenLink,
    ForeignItem,
}

#[derive(Debug, Clone)]
enum Operation {
    Append {
        of: usize,
        sizes: Vec<usize>,
        flaw: Flaw,
        checkpoint: bool,
        consume: bool,
        end: bool,
    },
    Claim {
        of: usize,
        late: bool,
    },
    Post {
        of: usize,
        text: String,
    },
    /// Those of all items, whoever they came for, and one that there is not.
    Dismiss {
        of: usize,
        items: Vec<prop::sample::Index>,
        late: bool,
    },
    Reopen,
}

/// The processes: the same two ids under two tenants.
const PROCESSES: usize = 4;

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let flaw = prop_oneof![
        12 => Just(Flaw::None),
        1 => Just(Flaw::Repeat),
        1 => Just(Flaw::OldEpoch),
        1 => Just(Flaw::NewEpoch),
        1 => Just(Flaw::Gap),
        1 => Just(Flaw::Overwrite),
        1 => Just(Flaw::BrokenLink),
        1 => Just(Flaw::ForeignItem),
    ];
    let max = Content::INLINE_MAX;
    let size = prop_oneof![0..50_usize, 0..3000_usize, max - 2..max + 3, Just(20_000)];
    let append = (0..PROCESSES, prop::collection::vec(size, 0..5), flaw, any::<[bool; 3]>())
        .prop_map(|(of, sizes, flaw, [checkpoint, consume, end])| Operation::Append {
            of,
            sizes,
            flaw,
            checkpoint,
            consume,
            end,
        });
    let operation = prop_oneof![
        20 => append,
        2 => (0..PROCESSES, prop::bool::weighted(0.2))
            .prop_map(|(of, late)| Operation::Claim { of, late }),
        4 => (0..PROCESSES, "\\PC{0,20}").prop_map(|(of, text)| Operation::Post { of, text }),
        2 => (
            0..PROCESSES,
            prop::collection::vec(any::<prop::sample::Index>(), 0..4),
            prop::bool::weighted(0.2),
        )
            .prop_map(|(of, items, late)| Operation::Dismiss { of, items, late }),
        1 => Just(Operation::Reopen),
    ];
    prop::collection::vec(operation, 1..80)
}

/// Accepted or refused, every operation answers as the model says, and in the end every question
/// has the same answer.
///
/// # Panics
/// With the shortest sequence of operations that tells the two apart.
pub fn random_operations_leave_a_store_and_the_model_alike(site: impl Fn() -> Box<dyn Site>) {
    let runtime = runtime();
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&operations(), |operations| {
            runtime.block_on(play(World::new(site()), &operations));
            Ok(())
        })
        .expect("alike");
}

async fn play(mut world: World, operations: &[Operation]) {
    let tenants: [Tenant; 2] = ["a", "b"].map(|name| name.parse().expect("a tenant name"));
    let mut model = Model::default();
    let mut last: [Option<Append>; PROCESSES] = Default::default();
    for operation in operations {
        let name = |of: usize| (&tenants[of / 2], pid(of as u64 % 2));
        match operation {
            Operation::Append { of, sizes, flaw, checkpoint, consume, end } => {
                let (tenant, pid) = name(*of);
                let scribe = Scribe::new(world.store().as_ref(), tenant, pid).await;
                let mut append = make(&scribe, sizes, *flaw, last[*of].as_ref());
                if *checkpoint && !append.records.is_empty() {
                    append = Scribe::with_checkpoint(append, noise(sizes.len() * 1000));
                    for size in sizes.iter().take(1) {
                        let first = Seq(*size as u64 % append.records[0].seq.next().0);
                        append = Scribe::with_stretch(append, first, noise(*size));
                    }
                }
                let waiting = |it: &&(Tenant, aosk_abi::Pid, InboxId, InboxItem)| {
                    matches!(flaw, Flaw::ForeignItem) || (&it.0, it.1) == (tenant, pid)
                };
                if *consume {
                    append.consumed = model.inbox.iter().filter(waiting).map(|it| it.2).collect();
                }
                if *end {
                    let state = ProcessState::Exited { exit: Exit::Killed };
                    append.row = ProcessRow { state, ..append.row };
                }
                let answer = world.store().append(append.clone()).await;
                match model.append(&scribe.key, &append) {
                    Ok(seq) => {
                        assert_eq!(answer.expect("accepted").last, seq);
                        last[*of] = Some(append);
                    }
                    Err(code) => refused(answer, code),
                }
            }
            Operation::Claim { of, late } => {
                let (tenant, pid) = name(*of);
                let there = model.processes.get_mut(&(tenant.clone(), pid));
                let epoch = there.as_ref().map_or(Epoch(1), |it| it.receipt.epoch);
                let expected = if *late { Epoch(epoch.0.wrapping_sub(1)) } else { epoch };
                let answer = world.store().claim(tenant, pid, expected).await;
                match there {
                    Some(_) if *late => refused(answer, Code::StoreStaleEpoch),
                    Some(process) => {
                        process.receipt.epoch = process.receipt.epoch.next();
                        assert_eq!(answer.expect("there"), process.receipt.epoch);
                    }
                    None => refused(answer, Code::StoreUnknownProcess),
                }
            }
            Operation::Post { of, text } => {
                let (tenant, pid) = name(*of);
                let item = match text.len() {
                    0 => InboxItem::Signal { signal: Signal::Cont },
                    _ => InboxItem::Message { from: "user".to_owned(), text: text.clone() },
                };
                let answer = world.store().post(tenant, pid, item.clone()).await;
                if model.processes.contains_key(&(tenant.clone(), pid)) {
                    model.inbox.push((tenant.clone(), pid, answer.expect("there"), item));
                } else {
                    refused(answer, Code::StoreUnknownProcess);
                }
            }
            Operation::Dismiss { of, items, late } => {
                let (tenant, pid) = name(*of);
                let known = model.inbox.iter().map(|it| it.2).chain([InboxId(i64::MAX)]);
                let known: Vec<_> = known.collect();
                let items: Vec<_> = items.iter().map(|item| *item.get(&known)).collect();
                let there = model.processes.get(&(tenant.clone(), pid));
                let next = there.map_or(Seq(0), |there| there.receipt.next);
                let next = Seq(next.0.saturating_sub(u64::from(*late)));
                let answer = world.store().dismiss(tenant, pid, next, &items).await;
                match model.dismiss(tenant, pid, next, &items) {
                    Ok(()) => answer.expect("gone"),
                    Err(code) => refused(answer, code),
                }
            }
            Operation::Reopen => world.reopen(),
        }
    }
    compare(&world, &model, &tenants).await;
}

fn make(scribe: &Scribe, sizes: &[usize], flaw: Flaw, last: Option<&Append>) -> Append {
    let texts: Vec<Vec<u8>> = sizes.iter().map(|&len| noise(len)).collect();
    let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    let mut scribe = scribe.clone();
    match flaw {
        Flaw::OldEpoch => scribe.epoch = Epoch(scribe.epoch.0.saturating_sub(1)),
        Flaw::NewEpoch => scribe.epoch = scribe.epoch.next(),
        Flaw::Gap => scribe.next = scribe.next.next(),
        Flaw::Overwrite => scribe.next = Seq(scribe.next.0.saturating_sub(1)),
        Flaw::BrokenLink => scribe.head = Hash::of(b"elsewhere"),
        Flaw::None | Flaw::Repeat | Flaw::ForeignItem => {}
    }
    match (flaw, last) {
        (Flaw::Repeat, Some(last)) => last.clone(),
        _ => Append { row: row(sizes.len() as u64), ..scribe.append(&texts) },
    }
}

async fn compare(world: &World, model: &Model, tenants: &[Tenant]) {
    let store = world.store();
    for tenant in tenants {
        let of_tenant = || model.processes.iter().filter(|((of, _), _)| of == tenant);
        let all: Vec<Receipt> = of_tenant().map(|(_, it)| it.receipt.clone()).collect();
        let unfinished: Vec<Receipt> =
            all.iter().filter(|it| !it.row.state.is_final()).cloned().collect();
        for (filter, expected) in
            [(ProcessFilter::All, all), (ProcessFilter::Unfinished, unfinished)]
        {
            assert_eq!(store.processes(tenant, filter).await.expect("listed"), expected);
        }
        let waiting: Vec<_> = model
            .inbox
            .iter()
            .filter(|it| it.0 == *tenant)
            .map(|it| (it.1, it.2, it.3.clone()))
            .collect();
        assert_eq!(store.pending(tenant).await.expect("answers"), waiting);

        for ((_, pid), process) in of_tenant() {
            let pid = *pid;
            let shown = store.process(tenant, pid).await.expect("answers");
            assert_eq!(shown.as_ref(), Some(&process.receipt));
            let count = process.records.len();
            for (from, limit) in [(0, usize::MAX), (count / 2, 3), (count - 1, 1)] {
                let read = store.read(tenant, pid, Seq(from as u64), limit).await.expect("read");
                let expected = process.records.iter().skip(from).take(limit);
                assert!(read.iter().eq(expected), "{limit} from {from}");
            }
            let wanted: Vec<(Seq, Hash)> = process.contents.keys().copied().collect();
            let found = store.contents(tenant, pid, &wanted).await.expect("there");
            assert!(found.iter().eq(process.contents.values()));
            let newest = store.checkpoint(tenant, pid, None).await.expect("answers");
            assert_eq!(newest.as_ref(), process.checkpoint.as_ref());
        }
    }
}
