//! Contents that were cut leave in parts.

use aosk_abi::{PageId, Tokens};
use aosk_context::{
    ClearToolResults, CostAware, Demand, Gdsf, Importance, Lfu, Lru, MaskObservations, Policy,
    TruncateOldest,
};

use crate::process::{Process, room};

/// A head of 100 tokens, then calls of 5 tokens whose results are a beginning of 45 and four parts of
/// 100 each; all answered. The first call is page 3, its parts are 5 to 8.
fn with_long_results(count: usize) -> Process {
    let mut process = Process::spawn([50, 20, 30]);
    for _ in 0..count {
        let unit = process.turn(None, 1);
        process.result_in_parts(unit, 45, 4, 100);
        process.step(&room(1_000_000), &TruncateOldest).expect("room");
    }
    process.turn(Some(0), 0);
    process
}

fn ids(pages: std::ops::Range<u32>) -> Vec<PageId> {
    pages.map(PageId).collect()
}

#[test]
fn parts_leave_before_their_call_and_no_more_of_them_than_must() {
    // 100 + 2 x 450 = 1,000 in 999 of room, of which 849 stay: the oldest two parts leave.
    let mut process = with_long_results(2);
    let oldest: [&dyn Policy; 3] = [&Lru, &Lfu, &Importance];
    for policy in oldest {
        let plan = process.plan(&room(999), policy).expect("parts may leave");
        assert_eq!((plan.evicted, plan.gaps), (ids(5..7), 1), "{}", policy.name());
        assert_eq!(plan.prompt_tokens, Tokens(800));
    }
    let demanding: [&dyn Policy; 2] = [&Gdsf, &CostAware];
    for policy in demanding {
        let plan = process.plan(&room(999), policy).expect("parts may leave");
        let parts = plan.evicted.iter().all(|page| [5, 6, 7, 8, 11, 12, 13, 14].contains(&page.0));
        assert!(parts && !plan.evicted.is_empty(), "{}: {:?}", policy.name(), plan.evicted);
    }
    process.step(&room(999), &Lru).expect("parts may leave");
    // What is left of the result goes on leaving in its order, and its call comes last.
    let plan = process.plan(&room(799), &Lru).expect("more may leave");
    assert_eq!((plan.evicted, plan.gaps), (ids(7..9), 1));
    let plan = process.plan(&room(599), &Lru).expect("more may leave");
    assert_eq!(plan.evicted, [&ids(3..5)[..], &ids(7..9), &ids(11..12)].concat());
    assert_eq!((plan.prompt_tokens, plan.gaps), (Tokens(450), 1));
}

#[test]
fn parts_that_come_again_together_keep_their_age_and_their_accesses() {
    let mut process = with_long_results(2);
    process.step(&room(999), &Lru).expect("parts may leave");
    let parts = [5, 6].map(|id| *process.table.page(PageId(id)).expect("a part"));
    parts.iter().for_each(|part| process.need(part));
    let unit = process.pending[0].unit;
    process.pending.iter_mut().for_each(|arrival| arrival.unit = unit);
    process.step(&room(1_000), &Lru).expect("they fit");
    let again: Vec<_> = process.table.pages().iter().rev().take(2).rev().collect();
    for (page, part) in again.iter().zip(parts) {
        assert_eq!((page.range, page.born, page.accesses), (part.range, part.born, 1));
        assert!(part.born < process.table.turns() && page.unit == unit);
    }
}

#[test]
fn a_result_is_one_result_in_however_many_parts() {
    let process = with_long_results(4);
    let plan = process.plan(&room(1_899), &ClearToolResults).expect("results may leave");
    assert_eq!(plan.evicted, ids(3..9), "all but the newest three, whole");
    let twelve = with_long_results(12);
    let plan = twelve.plan(&room(1_000_000), &MaskObservations).expect("fits");
    assert_eq!(plan.evicted, [], "ten are to stay, and five must be older");
}

/// A policy that lets the first part of every result go.
struct Holes;

impl Policy for Holes {
    fn name(&self) -> &'static str {
        "holes"
    }

    fn evict(&self, view: &aosk_context::View<'_>) -> Vec<usize> {
        let second = |index: &usize| view.units[*index].part && !view.units[*index - 1].part;
        (0..view.units.len()).filter(second).collect()
    }
}

#[test]
fn gaps_below_at_and_above_what_there_is_room_for() {
    let process = with_long_results(3);
    let plan = |gaps| {
        let demand = Demand { gaps, ..room(1_449) };
        process.plan(&demand, &Holes).expect("parts may leave")
    };
    for gaps in [3, 4] {
        assert_eq!((plan(gaps).gaps, plan(gaps).evicted.len()), (3, 3));
    }
    // The oldest units with gaps leave whole instead.
    let two = plan(2);
    assert_eq!((two.gaps, two.prompt_tokens), (2, Tokens(1_450 - 450 - 200)));
    assert_eq!(two.evicted, [&ids(3..9)[..], &[PageId(11), PageId(17)]].concat());
    let none = plan(0);
    assert_eq!((none.gaps, none.evicted.len()), (0, 18));
}

#[test]
fn what_is_missing_from_a_content_is_told_there_and_not_by_a_stub() {
    let mut process = with_long_results(2);
    let plan = process.plan(&room(999), &TruncateOldest).expect("parts may leave");
    assert_eq!(process.table.stubs(&plan, 9), []);
    process.step(&room(999), &TruncateOldest).expect("parts may leave");
    let plan = process.plan(&room(599), &TruncateOldest).expect("more may leave");
    let stubs = process.table.stubs(&plan, 9);
    assert_eq!(stubs.iter().map(|stub| (stub.first.0, stub.last.0)).collect::<Vec<_>>(), [(3, 8)]);
}
