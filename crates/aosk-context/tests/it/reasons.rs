//! Why pages left stands in the plan.

use aosk_abi::{Cause, PageId, Tokens};
use aosk_context::{CostAware, Demand, Page, Plan, Policy, Ratings, Terms, TruncateOldest, View};

use crate::again::answered;
use crate::process::{Process, room};

/// The pages that leave by `plan`, out of `all`, for which it gives no reason or more than one; all
/// of them where its reasons are torn.
pub fn unexplained(plan: &Plan, all: &[Page]) -> Vec<PageId> {
    let Some(reasons) = &plan.reasons else {
        return plan.evicted.clone();
    };
    let scores = &reasons.scores;
    let torn = plan.evicted.is_empty()
        || !scores.is_sorted_by(|a, b| a.page < b.page)
        || scores
            .iter()
            .any(|score| score.terms.len() + reasons.shared.len() != reasons.terms.len());
    let page = |id: PageId| all.iter().find(|page| page.id == id);
    let explained = |id: &PageId| {
        let left = page(*id);
        let own = scores.iter().filter(|score| score.page == *id).count();
        let with_its_unit = scores.iter().filter(|score| {
            let first = page(score.page).filter(|first| !first.is_part() && first.id != *id);
            first.is_some() && first.map(|it| it.unit) == left.map(|it| it.unit)
        });
        let with_its_unit = with_its_unit.count();
        // A part may have left by itself before its unit was let go of, too.
        let is_part = left.is_some_and(Page::is_part);
        (own == 1 && (is_part || with_its_unit == 0)) || (own == 0 && with_its_unit == 1)
    };
    let all_left = scores.iter().all(|score| plan.evicted.contains(&score.page));
    let unexplained = plan.evicted.iter().filter(|id| torn || !all_left || !explained(id));
    unexplained.copied().collect()
}

#[test]
fn what_leaves_by_price_leaves_with_the_terms_of_its_price() {
    let process = answered(9);
    let plan = |window, cold| {
        let terms = Terms { cold, ..Terms::default() };
        let plan = process.table.plan_under(&process.pending, &room(window), &CostAware, &terms);
        plan.expect("messages may leave")
    };
    assert_eq!(plan(1_000, false).reasons, None, "nothing leaves");
    let full = plan(999, false).reasons.expect("one leaves");
    assert_eq!(full.terms, ["needs_ppm", "rewrite", "fault"]);
    let [score] = &full.scores[..] else { panic!("{full:?}") };
    let behind =
        process.table.pages().iter().filter(|page| page.id > score.page && !page.in_head());
    let behind: u64 = behind.map(|page| page.tokens.0).sum();
    // Asking takes 60 tokens of output at 5 and a read of the room at 0.1; what stays is written for
    // 1.15 more than it is read for, and all of it for a need: 5.75 times in a log of 20,000
    // tokens, less often in a smaller one, and at most 11.5 times.
    let head = process.table.pages().iter().filter(|page| page.in_head());
    let log = 999 - head.map(|page| page.tokens.0).sum::<u64>();
    let rewrites = 11.5 * log as f64 / (log as f64 + 20_000.0);
    let fault = 300.0 + 99.9 + rewrites * (1.15 * log as f64);
    assert_eq!(full.shared, [f64::round(fault) as u64]);
    assert_eq!(score.terms[1..], [f64::round(1.15 * behind as f64) as u64]);
    assert!(score.terms[0] > 0 && !full.early, "{full:?}");
    assert_eq!(score.cause, Cause::Scored);
    // Where the cache is cold, all is written anyway, and it happens before it must.
    let early = plan(1_234, true).reasons.expect("a rebuild");
    assert!(early.early && early.scores.iter().all(|score| score.terms[1] == 0), "{early:?}");
}

#[test]
fn what_had_to_follow_the_choice_of_a_policy_says_so() {
    let causes = |window| {
        let plan = answered(9).plan(&room(window), &Chooses(vec![4])).expect("messages may leave");
        let scores = plan.reasons.expect("something leaves").scores;
        scores.iter().map(|score| (score.page.0, score.cause)).collect::<Vec<_>>()
    };
    assert_eq!(causes(900), [(7, Cause::Scored)]);
    // One is not enough any more: the oldest follows.
    assert_eq!(causes(899), [(3, Cause::Oldest), (7, Cause::Scored)]);
}

#[test]
fn what_leaves_because_its_gaps_have_no_room_says_so() {
    let mut process = Process::spawn([50, 20, 30]);
    let unit = process.turn(None, 1);
    process.result_in_parts(unit, 45, 4, 100);
    process.step(&room(1_000_000), &TruncateOldest).expect("room");
    process.turn(Some(0), 0);
    let causes = |gaps| {
        let plan = process.plan(&Demand { gaps, ..room(549) }, &Chooses(vec![2]));
        let plan = plan.expect("parts may leave");
        let scores = plan.reasons.clone().expect("something leaves").scores;
        let all: Vec<Page> = process.table.resident().copied().collect();
        assert_eq!(unexplained(&plan, &all), []);
        scores.iter().map(|score| (score.page.0, score.cause)).collect::<Vec<_>>()
    };
    assert_eq!(causes(1), [(6, Cause::Scored)]);
    assert_eq!(causes(0), [(3, Cause::Gaps), (6, Cause::Scored)]);
}

/// A policy that lets those go and rates by a number of its own.
struct Chooses(Vec<usize>);

impl Policy for Chooses {
    fn name(&self) -> &'static str {
        "chooses"
    }

    fn evict(&self, _: &View<'_>) -> Vec<usize> {
        self.0.clone()
    }

    fn rate(&self, view: &View<'_>, leaving: &[usize]) -> Ratings {
        Ratings::of(["size"], leaving.iter().map(|&index| [view.units[index].tokens.0]))
    }
}

#[test]
fn a_policy_by_place_alone_has_no_terms() {
    let plan = answered(9).plan(&room(999), &TruncateOldest).expect("messages may leave");
    let reasons = plan.reasons.expect("something leaves");
    assert!(reasons.terms.is_empty() && !reasons.scores.is_empty(), "{reasons:?}");
    assert_eq!(plan.prompt_tokens, Tokens(900));
}
