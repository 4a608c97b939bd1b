//! What comes again, when a policy is heard, and what it cannot do.

use aosk_abi::{PageId, Tokens};
use aosk_context::{CostAware, Error, Policy, Terms, TruncateOldest, View, stub_room};

use crate::process::{Process, room};

/// A head of 100 tokens, then messages of 100 tokens that the model has answered.
pub fn answered(messages: usize) -> Process {
    let mut process = Process::spawn([50, 20, 30]);
    for _ in 0..messages {
        process.message(100);
        process.turn(Some(0), 0);
        process.step(&room(1_000_000), &TruncateOldest).expect("room");
    }
    process.turn(Some(0), 0);
    process
}

#[test]
fn what_comes_again_keeps_its_age_and_its_accesses() {
    let mut process = answered(9);
    process.step(&room(999), &TruncateOldest).expect("one may leave");
    let first = *process.table.page(PageId(3)).expect("the first message");
    assert!(!first.resident);
    process.need(&first);
    process.step(&room(1_000), &TruncateOldest).expect("it fits");
    let again = *process.table.pages().last().expect("the newest page");
    assert_eq!((again.source, again.tokens, again.resident), (first.source, first.tokens, true));
    assert_eq!((again.born, again.accesses), (first.born, 1));
    assert_ne!(again.id, first.id);
    assert!(!process.table.page(first.id).expect("still there").resident);
}

#[test]
fn a_page_that_there_is_not_is_an_error_with_the_numbers() {
    let mut process = answered(1);
    process.step(&room(1_000), &TruncateOldest).expect("fits");
    let pages = process.table.pages().len();
    let last = PageId(pages as u32 - 1);
    assert_eq!(process.table.access(last), Ok(()));
    let before = process.table.clone();
    let none = PageId(pages as u32);
    let error = process.table.access(none).expect_err("one past the last");
    assert_eq!(error, Error::UnknownPage { page: none, pages });
    assert_eq!(process.table, before);
}

#[test]
fn a_cold_cache_is_the_moment_to_rebuild_and_a_warm_one_is_not() {
    let process = answered(9);
    let plan = |window, cold| {
        let terms = Terms { cold, ..Terms::default() };
        process.table.plan_under(&process.pending, &room(window), &CostAware, &terms)
    };
    // 1,000 tokens: 81 % of 1,234 is 999, of 1,235 it is 1,000.
    assert_eq!(plan(1_234, false).expect("fits").evicted, []);
    assert_eq!(plan(1_235, true).expect("fits").evicted, []);
    let rebuilt = plan(1_234, true).expect("fits");
    // The first fill of whole messages at or below that.
    assert_eq!((rebuilt.evicted.len(), rebuilt.prompt_tokens), (1, Tokens(900)));
}

#[test]
fn what_is_needed_often_outlives_what_is_not() {
    let mut process = answered(9);
    for _ in 0..3 {
        let oldest = *process.table.page(PageId(3)).expect("the first message");
        process.need(&oldest);
    }
    let terms = Terms { cold: true, ..Terms::default() };
    let left = |policy: &dyn Policy| {
        let plan = process.table.plan_under(&process.pending, &room(999), policy, &terms);
        plan.expect("messages may leave").evicted
    };
    assert!(left(&TruncateOldest).contains(&PageId(3)));
    assert!(!left(&CostAware).contains(&PageId(3)));
    assert!(!left(&CostAware).is_empty());
}

#[test]
fn removal_is_priced_by_what_stands_behind_it() {
    let process = answered(40);
    let first = |read_is_free: bool| {
        // Where a write costs no more than a read, nothing is invalidated by a removal.
        let mut terms = Terms::default();
        if read_is_free {
            terms.write = terms.read;
        }
        let plan = process.table.plan_under(&process.pending, &room(4_099), &CostAware, &terms);
        *plan.expect("messages may leave").evicted.first().expect("something left")
    };
    assert!(first(false) > first(true), "{:?} and {:?}", first(false), first(true));
}

#[test]
fn what_cannot_be_asked_for_again_is_worth_more_in_a_small_room_and_no_more_in_a_large_one() {
    // 40 messages of 100 tokens, of which the oldest ones were needed before.
    let mut process = answered(40);
    for page in 3..13 {
        let old = *process.table.page(PageId(page)).expect("a message");
        process.need(&old);
    }
    let left = |window, lost| {
        let terms = Terms { lost, ..Terms::default() };
        let plan = process.table.plan_under(&process.pending, &room(window), &CostAware, &terms);
        let plan = plan.expect("messages may leave");
        let needed = plan.evicted.iter().filter(|page| (3..13).contains(&page.0)).count();
        (plan.reasons.expect("pages leave").shared[0], needed, plan.evicted.len())
    };
    for window in [1_000, 2_000, 2_900] {
        let ((asked, _, _), (lost, needed, leave)) = (left(window, false), left(window, true));
        assert!(lost > asked && lost >= 5_000, "{window}: {lost} and {asked}");
        assert!(window < 2_000 || needed < leave, "{window}: {needed} of {leave}");
    }
    for window in [3_300, 4_090] {
        assert_eq!(left(window, true), left(window, false), "{window}");
    }
}

/// A policy that lets go of nothing, or of what there is not.
struct Careless(Vec<usize>);

impl Policy for Careless {
    fn name(&self) -> &'static str {
        "careless"
    }

    fn evict(&self, _: &View<'_>) -> Vec<usize> {
        self.0.clone()
    }
}

#[test]
fn a_policy_that_names_nothing_or_nonsense_still_leaves_a_prompt_that_fits() {
    let process = answered(9);
    for careless in [Careless(vec![]), Careless(vec![usize::MAX, 1_000])] {
        let plan = process.plan(&room(999), &careless).expect("messages may leave");
        assert_eq!((plan.prompt_tokens, plan.evicted.first()), (Tokens(900), Some(&PageId(3))));
    }
    let twice = process.plan(&room(999), &Careless(vec![4, 4])).expect("messages may leave");
    assert!(twice.prompt_tokens <= Tokens(999));
}

#[test]
fn stubs_name_what_has_left_and_take_a_fiftieth_of_the_room() {
    let mut process = answered(60);
    process.step(&room(3_000), &TruncateOldest).expect("messages may leave");
    let left: Vec<PageId> =
        process.table.pages().iter().filter(|page| !page.resident).map(|page| page.id).collect();
    let calm = process.plan(&room(3_000), &TruncateOldest).expect("nothing is new");
    let stubs = process.table.stubs(&calm, usize::MAX);
    let named = |stubs: &[aosk_abi::Stub]| stubs.iter().map(|stub| stub.pages).sum::<u32>();
    assert_eq!((stubs[0].first, named(&stubs) as usize), (left[0], left.len()));
    assert_eq!(process.table.stubs(&calm, 0), []);
    assert_eq!(stub_room(Tokens(1_000)), Tokens(20));
    // What comes again is named no more.
    let back = *process.table.page(left[0]).expect("known");
    process.need(&back);
    let plan = process.plan(&room(1_000_000), &TruncateOldest).expect("fits");
    assert_eq!(named(&process.table.stubs(&plan, usize::MAX)) as usize, left.len() - 1);
    // And what leaves by the plan is named with the rest.
    let plan = process.plan(&room(1_000), &TruncateOldest).expect("more may leave");
    let named = named(&process.table.stubs(&plan, usize::MAX)) as usize;
    assert_eq!(named, left.len() - 1 + plan.evicted.len());
}
