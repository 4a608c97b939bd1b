//! Each way in which a plan or a checkpoint can contradict the invariants, by its name.

use aosk_abi::{Admission, Code, Conditions, PageId, PageKind, Planned, Ppm, Seq, Source, Tokens};
use aosk_context::{Error, PageTable, TruncateOldest, Violation};
use ciborium::Value;

use crate::process::{Process, conditions, planned, room, to_cbor};

/// Pages 0-2 the head; 3 and 4 messages; 5 and 6 a call and its result, answered; 7 the answer.
/// The units are 0, 1, 2, 3 and 5.
fn process() -> Process {
    let mut process = Process::spawn([1, 1, 1]);
    process.step(&room(100), &TruncateOldest).expect("fits");
    process.message(5);
    process.message(5);
    let unit = process.turn(None, 1);
    process.result(unit, 5);
    process.step(&room(100), &TruncateOldest).expect("fits");
    process.turn(Some(5), 0);
    process.step(&room(100), &TruncateOldest).expect("fits");
    process
}

fn message(page: u32, unit: u64) -> Admission {
    Admission {
        page: PageId(page),
        kind: PageKind::Message,
        source: Source { seq: Seq(unit), part: 0 },
        range: None,
        unit: Seq(unit),
        tokens: Tokens(5),
        pinned: false,
        importance: Ppm::ONE,
    }
}

/// A part of a content of its own unit.
fn part(page: u32, range: (u64, u64)) -> Admission {
    Admission { range: Some(range), ..message(page, 9) }
}

#[test]
fn each_contradiction_of_a_plan_is_named() {
    let process = process();
    let honest = {
        let plan = process.plan(&room(100), &TruncateOldest).expect("fits");
        planned(&plan)
    };
    let with = |admitted: &[Admission], evicted: &[u32]| Planned {
        admitted: admitted.to_vec(),
        evicted: evicted.iter().copied().map(PageId).collect(),
        generation: u64::from(!evicted.is_empty()),
        prompt_tokens: Tokens(100),
        ..honest.clone()
    };
    let head = |page| Admission { kind: PageKind::Task, pinned: true, ..message(page, 9) };
    let page = PageId(8);
    let refused = [
        (with(&[message(9, 9)], &[]), Violation::PageNumber { found: PageId(9), expected: 8 }),
        (with(&[message(7, 9)], &[]), Violation::PageNumber { found: PageId(7), expected: 8 }),
        (
            with(&[Admission { importance: Ppm(1_000_001), ..message(8, 9) }], &[]),
            Violation::Importance { page, found: Ppm(1_000_001) },
        ),
        (with(&[head(8)], &[]), Violation::HeadNotFirst(page)),
        (with(&[Admission { pinned: false, ..head(8) }], &[]), Violation::HeadNotPinned(page)),
        (with(&[message(8, 4)], &[]), Violation::UnitGone { page, unit: Seq(4) }),
        (with(&[], &[5]), Violation::UnitTorn { unit: Seq(3), page: PageId(6) }),
        (with(&[message(8, 2)], &[4]), Violation::UnitTorn { unit: Seq(2), page }),
        (with(&[part(8, (3, 1))], &[]), Violation::PartAlone(page)),
        (with(&[part(8, (0, 3)), part(9, (4, 1))], &[]), Violation::PartAlone(PageId(9))),
        (
            with(&[part(8, (0, 3)), message(9, 10), part(10, (3, 1))], &[]),
            Violation::PartAlone(PageId(10)),
        ),
        (
            with(&[part(8, (0, u64::MAX)), part(9, (u64::MAX, 1)), part(10, (1, 1))], &[]),
            Violation::PartAlone(PageId(10)),
        ),
        (with(&[message(8, 9)], &[8]), Violation::NotResident(page)),
        (with(&[], &[4, 3]), Violation::EvictedOrder(PageId(3))),
        (with(&[], &[3, 3]), Violation::EvictedOrder(PageId(3))),
        (with(&[], &[2]), Violation::PinnedLeaves(PageId(2))),
        (with(&[], &[7]), Violation::UnansweredLeaves(PageId(7))),
        (
            Planned { generation: 0, ..with(&[], &[3]) },
            Violation::Generation { found: 0, expected: 1 },
        ),
        (
            Planned { generation: 1, ..with(&[], &[]) },
            Violation::Generation { found: 1, expected: 0 },
        ),
        (
            Planned { prompt_tokens: Tokens(27), ..with(&[], &[]) },
            Violation::PromptSmaller { pages: 28, prompt: Tokens(27) },
        ),
    ];
    let over =
        Violation::OverWindow { prompt: Tokens(100), max_output: Tokens(1), window: Tokens(100) };
    let under = conditions(&room(100));
    let full = Conditions { max_output: Tokens(1), ..under.clone() };
    assert_eq!(process.table.clone().apply(&with(&[], &[]), &full), Err(over.into()));
    for (plan, violation) in refused {
        let mut table = process.table.clone();
        assert_eq!(table.apply(&plan, &under), Err(violation.into()), "{plan:?}");
        assert_eq!(table, process.table, "{violation}");
    }
    for (plan, prompt) in [
        (with(&[part(8, (0, 3)), part(9, (3, 1)), part(10, (4, 9))], &[]), Tokens(100)),
        (with(&[message(8, 9)], &[]), Tokens(100)),
        (with(&[message(8, 5)], &[3, 5, 6]), Tokens(100)),
        (with(&[], &[3, 4, 5, 6]), Tokens(8)),
        (with(&[], &[]), Tokens(28)),
    ] {
        let plan = Planned { prompt_tokens: prompt, ..plan };
        assert_eq!(process.table.clone().apply(&plan, &under), Ok(()), "{plan:?}");
    }
}

#[test]
fn what_has_left_does_not_come_back_under_its_old_unit() {
    let mut process = process();
    process.message(60);
    process.step(&room(80), &TruncateOldest).expect("the old messages may leave");
    assert!(process.table.page(PageId(4)).is_some_and(|page| !page.resident));

    // The plan's own units need no order, but both are newer than all of earlier plans.
    for unit in [30, 20] {
        let arrival = process.message(1);
        arrival.unit = Seq(unit);
    }
    process.step(&room(1_000), &TruncateOldest).expect("new units");
    for (unit, gone) in [(2, true), (19, true), (20, false), (25, true), (30, false), (31, false)] {
        let arrival = process.message(1);
        arrival.unit = Seq(unit);
        let result = process.plan(&room(1_000), &TruncateOldest);
        let page = PageId(process.table.pages().len() as u32);
        let error = Error::from(Violation::UnitGone { page, unit: Seq(unit) });
        assert_eq!(result.map(drop), if gone { Err(error) } else { Ok(()) }, "unit {unit}");
        process.pending.clear();
    }
}

#[test]
fn arrivals_that_contradict_the_table_are_refused() {
    let mut process = Process::spawn([1, 1, 1]);
    process.message(1);
    process.pending.rotate_right(1);
    let error = process.plan(&room(1_000), &TruncateOldest).expect_err("the log has begun");
    assert_eq!(error, Violation::HeadNotFirst(PageId(1)).into());
    assert_eq!(error.code(), Code::ContextInvariant);
}

/// What reading a checkpoint says after `edits`: each sets a key of a page's row or, without a
/// page, of the whole.
fn read_edited(table: &PageTable, edits: &[(Option<usize>, &str, Value)]) -> Result<(), String> {
    let set = |map: &mut Value, key: &str, to: &Value| {
        let map = map.as_map_mut().expect("a map");
        map.retain(|(name, _)| name.as_text() != Some(key));
        map.push((key.into(), to.clone()));
    };
    let mut value: Value = ciborium::from_reader(&to_cbor(table)[..]).expect("CBOR");
    for (page, key, to) in edits {
        match page {
            None => set(&mut value, key, to),
            Some(page) => {
                let rows = value.as_map_mut().expect("a map").iter_mut();
                let mut rows = rows.filter(|(name, _)| name.as_text() == Some("p"));
                let (_, rows) = rows.next().expect("rows");
                set(&mut rows.as_array_mut().expect("rows")[*page], key, to);
            }
        }
    }
    let mut bytes = Vec::new();
    ciborium::into_writer(&value, &mut bytes).expect("CBOR");
    let back: Result<PageTable, _> = ciborium::from_reader(&bytes[..]);
    back.map(drop).map_err(|error| error.to_string())
}

#[test]
fn a_part_never_stands_without_the_beginning_of_its_content() {
    // Page 3 is the call, 4 the beginning of its result, 5 and 6 are parts, 7 the answer.
    let mut process = Process::spawn([1, 1, 1]);
    let unit = process.turn(None, 1);
    process.result_in_parts(unit, 5, 2, 5);
    process.step(&room(100), &TruncateOldest).expect("fits");
    process.turn(Some(5), 0);
    process.step(&room(100), &TruncateOldest).expect("fits");
    let calm = planned(&process.plan(&room(100), &TruncateOldest).expect("fits"));
    let without = |evicted: &[u32]| {
        let evicted = evicted.iter().copied().map(PageId).collect();
        let plan = Planned { evicted, generation: 1, ..calm.clone() };
        process.table.clone().apply(&plan, &conditions(&room(100)))
    };
    let torn = |page| Err(Violation::UnitTorn { unit: Seq(unit), page: PageId(page) }.into());
    assert_eq!(without(&[4]), torn(3));
    assert_eq!(without(&[3, 4]), torn(5));
    assert_eq!(without(&[3, 4, 6]), torn(5));
    for evicted in [&[5][..], &[6], &[5, 6], &[3, 4, 5, 6]] {
        assert_eq!(without(evicted), Ok(()), "{evicted:?}");
    }
    // The same of a checkpoint.
    let row = |page, key, to: Value| (Some(page), key, to);
    let out = |pages: &[usize]| {
        let mut edits = vec![(None, "g", Value::from(1))];
        edits.extend(pages.iter().map(|page| row(*page, "out", true.into())));
        read_edited(&process.table, &edits)
    };
    for torn in [&[4][..], &[3, 4], &[3, 4, 6]] {
        let message = out(torn).expect_err("torn");
        assert!(message.contains(&format!("unit {unit} is torn apart")), "{message}");
    }
    for sound in [&[5][..], &[6], &[3, 4, 5, 6]] {
        assert_eq!(out(sound), Ok(()), "{sound:?}");
    }
    let range = |from: i32| Value::Array(vec![from.into(), 100.into()]);
    let message = read_edited(&process.table, &[row(5, "r", range(99))]).expect_err("a gap");
    assert!(message.contains("page 5 is a part of a content and does not follow"), "{message}");
}

#[test]
fn each_broken_invariant_of_a_checkpoint_is_named() {
    let table = process().table;
    let row = |page, key, to: Value| (Some(page), key, to);
    let whole = |key, to: Value| (None, key, to);
    for (edits, words) in [
        (vec![row(0, "pin", false.into())], "page 0 belongs to the head but is not pinned"),
        (vec![row(0, "k", "message".into())], "page 1 belongs to the head but stands behind"),
        (vec![row(3, "i", 1_000_001.into())], "importance of 1000001"),
        (vec![row(2, "out", true.into())], "page 2 is pinned but leaves"),
        (vec![row(7, "out", true.into())], "page 7 leaves the prompt before the model"),
        (vec![row(3, "out", true.into())], "generation 0 where 1 is due"),
        (vec![whole("g", 1.into()), row(5, "out", true.into())], "unit 3 is torn apart"),
        (vec![row(3, "t", u64::MAX.into())], "more than 2^64"),
        (vec![whole("a", 9.into())], "first unanswered page is 9 of 8"),
        (vec![row(3, "zzz", 1.into())], "zzz"),
    ] {
        let message = read_edited(&table, &edits).expect_err(words);
        assert!(message.contains(words), "{message} lacks {words:?}");
    }
    for edits in [
        vec![],
        vec![row(3, "i", 1_000_000.into())],
        vec![whole("g", 1.into()), row(3, "out", true.into())],
        vec![whole("a", 8.into())],
    ] {
        assert_eq!(read_edited(&table, &edits), Ok(()));
    }
}
