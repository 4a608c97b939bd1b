//! Random streams of content, needs, faults, windows, expired caches, errors of counting and
//! policies: after each plan every invariant is worked out anew from the whole history.

use std::collections::BTreeMap;

use aosk_abi::{PageId, PageKind, Ppm, Seq};
use aosk_context::{
    Arrival, Compaction, Demand, Error, POLICIES, Page, PageTable, Plan, Policy, Terms,
};
use proptest::prelude::*;

use crate::process::{GAPS, Process, conditions, demand, planned, to_cbor};
use crate::reasons::unexplained;

#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    tokens: u64,
    importance: u32,
    pinned: bool,
    /// Of a result: how many pages there are behind the first.
    parts: u64,
}

/// What comes between the calls of a turn and its second result.
#[derive(Debug, Clone, Copy)]
pub enum Between {
    Nothing,
    Message,
    Plan,
    /// A message that arrived before the turn and is told after it.
    OlderMessage,
}

#[derive(Debug, Clone)]
pub enum Move {
    Message(Sizes),
    Turn {
        reply: Option<u64>,
        results: Vec<Sizes>,
        between: Between,
    },
    Plan {
        window: u64,
        margin: u32,
        policy: usize,
        cold: bool,
    },
    /// A page is needed; if it does not stand in the prompt, it comes again.
    Need(prop::sample::Index),
}

pub fn moves() -> impl Strategy<Value = Vec<Move>> {
    let sizes = (0..200_u64, 0..=1_000_000_u32, prop::bool::weighted(0.05), 0..4_u64).prop_map(
        |(tokens, importance, pinned, parts)| {
            // Pinned pages add up for ever: a few small ones are enough.
            let tokens = if pinned { tokens / 20 } else { tokens };
            Sizes { tokens, importance, pinned, parts }
        },
    );
    let message = sizes.clone().prop_map(Move::Message);
    let between = prop::sample::select(vec![
        Between::Nothing,
        Between::Message,
        Between::Plan,
        Between::OlderMessage,
    ]);
    let reply = prop::option::weighted(0.8, 0..60_u64);
    let turn = (reply, prop::collection::vec(sizes, 0..4), between)
        .prop_map(|(reply, results, between)| Move::Turn { reply, results, between });
    let plan = (900..1_500_u64, 0..200_000_u32, 0..=POLICIES.len(), prop::bool::weighted(0.2))
        .prop_map(|(window, margin, policy, cold)| Move::Plan { window, margin, policy, cold });
    let need = any::<prop::sample::Index>().prop_map(Move::Need);
    prop::collection::vec(prop_oneof![1 => message, 2 => turn, 3 => plan, 1 => need], 1..80)
}

/// Sizes and order of what must stay, what may leave, and what has left, from the pages alone.
struct Census {
    fixed: u64,
    may_leave: usize,
}

fn census(pages: &[Page], unanswered: &[PageId]) -> Census {
    let mut units: BTreeMap<Seq, Vec<&Page>> = BTreeMap::new();
    for page in pages {
        units.entry(page.unit).or_default().push(page);
    }
    let mut census = Census { fixed: 0, may_leave: 0 };
    for pages in units.into_values() {
        if pages.iter().any(|page| page.pinned || unanswered.contains(&page.id)) {
            census.fixed += pages.iter().map(|page| page.tokens.0).sum::<u64>();
        } else {
            census.may_leave += 1;
        }
    }
    census
}

/// In how many places parts are missing from what stands in the prompt.
fn gaps(pages: &[Page]) -> usize {
    let missing = |pair: &&[Page]| {
        let (page, next) = (&pair[0], &pair[1]);
        page.resident && !next.resident && next.is_part() && page.source == next.source
    };
    pages.windows(2).filter(missing).count()
}

fn sum(pages: &[Page]) -> u64 {
    pages.iter().map(|page| page.tokens.0).sum()
}

struct Watch {
    process: Process,
    /// Pages that came with or after the newest turn of the model.
    unanswered: Vec<PageId>,
}

impl Watch {
    fn turn(
        &mut self,
        reply: Option<u64>,
        results: &[Sizes],
        between: Between,
    ) -> Result<(), TestCaseError> {
        let older = self.process.seq();
        let unit = self.process.turn(reply, results.len());
        for (index, sizes) in results.iter().enumerate() {
            match between {
                Between::Message if index == 1 => _ = self.process.message(20),
                Between::Plan if index == 1 => {
                    self.plan(&demand_of(1_200, 0), POLICIES[0], false)?
                }
                Between::OlderMessage if index == 1 => {
                    let message = self.process.message(30);
                    (message.unit, message.source.seq) = (Seq(older), Seq(older));
                }
                _ => {}
            }
            let pages =
                self.process.result_in_parts(unit, sizes.tokens, sizes.parts, sizes.tokens / 2);
            pages.iter_mut().for_each(|page| sizes.rate(page));
        }
        Ok(())
    }

    fn plan(
        &mut self,
        demand: &Demand,
        policy: &dyn Policy,
        cold: bool,
    ) -> Result<(), TestCaseError> {
        let Self { process, unanswered } = self;
        let terms = Terms { cold, ..Terms::default() };
        if process
            .pending
            .iter()
            .any(|new| matches!(new.kind, PageKind::Reply | PageKind::ToolCall))
        {
            unanswered.clear();
        }
        let first = process.table.pages().len();
        unanswered.extend((first..first + process.pending.len()).map(|id| PageId(id as u32)));

        let before: Vec<Page> = process.table.resident().copied().collect();
        let ask = || process.table.plan_under(&process.pending, demand, policy, &terms);
        let result = ask();
        prop_assert_eq!(&result, &ask(), "the same question, two answers");
        let capacity = demand.window.0.saturating_sub(demand.max_output.0) as u128 * 1_000_000
            / (1_000_000 + u128::from(demand.margin.0));
        match result {
            Ok(plan) => {
                let all: Vec<Page> =
                    process.table.preview(&Plan { evicted: Vec::new(), ..plan.clone() }).collect();
                prop_assert_eq!(plan.admitted.len(), process.pending.len());
                check(&plan, demand, policy, cold, capacity as u64, &all, unanswered)?;
                let preview: Vec<Page> = process.table.preview(&plan).collect();
                process.commit(&plan, demand);
                let gaps = gaps(process.table.pages());
                prop_assert_eq!((plan.gaps, process.table.gaps()), (gaps, gaps));
                prop_assert!(plan.evicted.is_empty() || gaps <= GAPS, "{gaps} gaps");
                let after: Vec<Page> = process.table.resident().copied().collect();
                let settled = |page: &Page| Page { credit: 0, ..*page };
                let (told, held): (Vec<Page>, Vec<Page>) =
                    (preview.iter().map(settled).collect(), after.iter().map(settled).collect());
                prop_assert_eq!(told, held, "the prompt is not the one that was planned");
                if plan.evicted.is_empty() {
                    prop_assert_eq!(&after[..before.len()], &before[..], "not a prefix extension");
                }
            }
            Err(Error::Overflow(numbers)) => {
                let mut grown = process.table.clone();
                let wide = demand_of(1_000_000, 0);
                let plan = process.plan(&wide, policy).expect("a wide window");
                grown.apply(&planned(&plan), &conditions(&wide)).expect("applies");
                let all: Vec<Page> = grown.resident().copied().collect();
                let fixed = census(&all, unanswered).fixed;
                prop_assert!(u128::from(fixed + demand.overhead.0) > capacity, "it would fit");
                prop_assert_eq!(numbers.pinned.0 + numbers.unanswered.0, fixed);
                process.commit(&plan, &wide);
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
        for page in process.table.pages() {
            prop_assert!(page.resident || !page.pinned, "{page:?} left");
        }
        Ok(())
    }
}

impl Sizes {
    fn rate(self, arrival: &mut Arrival) {
        arrival.importance = Ppm(self.importance);
        arrival.pinned = self.pinned;
    }
}

fn check(
    plan: &Plan,
    demand: &Demand,
    policy: &dyn Policy,
    cold: bool,
    capacity: u64,
    all: &[Page],
    unanswered: &[PageId],
) -> Result<(), TestCaseError> {
    let stays: Vec<Page> =
        all.iter().filter(|page| !plan.evicted.contains(&page.id)).copied().collect();
    let total = sum(&stays) + demand.overhead.0;
    prop_assert_eq!(plan.prompt_tokens.0, total);
    prop_assert!(total <= capacity, "{total} of {capacity}");
    prop_assert!(stays.iter().map(|page| !page.in_head()).is_sorted(), "the head is not first");
    prop_assert!(stays.iter().map(|page| page.id).is_sorted(), "the order of admission is lost");
    for id in unanswered {
        prop_assert!(!plan.evicted.contains(id), "{id} left unanswered");
    }
    for page in all.iter().filter(|page| plan.evicted.contains(&page.id) && !page.is_part()) {
        prop_assert!(!stays.iter().any(|other| other.unit == page.unit), "{} torn", page.unit);
    }
    let fitted = sum(all) + demand.overhead.0 <= capacity;
    prop_assert_eq!(unexplained(plan, all), []);
    let reasons = plan.reasons.iter();
    prop_assert!(reasons.clone().all(|reasons| reasons.early == fitted), "{:?}", plan.reasons);
    let name = policy.name();
    let waits = name != "mask_observations" && !(cold && name == "cost_aware");
    prop_assert!(!(fitted && waits) || plan.evicted.is_empty(), "{name} lets go of what fits");
    if !fitted && !["mask_observations", "clear_tool_results", "compaction"].contains(&name) {
        // One eviction makes room for several calls, as far as anything may leave; but for what is
        // trimmed on every call.
        let low = match name {
            "cost_aware" => capacity - capacity / 50,
            "truncate_oldest" => capacity,
            _ => capacity * 85 / 100,
        };
        let left = census(&stays, unanswered).may_leave;
        prop_assert!(left == 0 || total <= low, "{name}: {total} of {capacity}");
    }
    Ok(())
}

fn demand_of(window: u64, margin: u32) -> Demand {
    demand(window, 200, 30, margin)
}

/// Runs the moves; gives the process with all its plans.
pub fn run(moves: &[Move]) -> Result<Process, TestCaseError> {
    let mut watch = Watch { process: Process::spawn([90, 60, 50]), unanswered: Vec::new() };
    watch.plan(&demand_of(1_000, 0), POLICIES[0], false)?;
    for step in moves {
        match step {
            Move::Message(sizes) => sizes.rate(watch.process.message(sizes.tokens)),
            Move::Turn { reply, results, between } => watch.turn(*reply, results, *between)?,
            Move::Plan { window, margin, policy, cold } => {
                let policy = POLICIES.get(*policy).copied().unwrap_or(&Compaction);
                watch.plan(&demand_of(*window, *margin), policy, *cold)?;
            }
            Move::Need(page) => {
                let page = *page.get(watch.process.table.pages());
                watch.process.need(&page);
            }
        }
    }
    Ok(watch.process)
}

proptest! {
    #[test]
    fn every_plan_of_a_random_stream_keeps_every_invariant(moves in moves()) {
        run(&moves)?;
    }

    #[test]
    fn a_table_folds_to_the_same_whole_or_from_any_checkpoint(
        moves in moves(), at in any::<prop::sample::Index>()
    ) {
        let process = run(&moves)?;
        let at = at.index(process.journal.len() + 1);
        let mut table = PageTable::default();
        for (index, (planned, under)) in process.journal.iter().enumerate() {
            if index == at {
                table = ciborium::from_reader(&to_cbor(&table)[..]).expect("reads back");
            }
            table.apply(planned, under).expect("the journal folds");
            for (_, page) in process.needs.iter().filter(|(plans, _)| *plans == index + 1) {
                table.access(*page).expect("the journal folds");
            }
        }
        let back: PageTable = ciborium::from_reader(&to_cbor(&table)[..]).expect("reads back");
        prop_assert_eq!(&back, &process.table);
        prop_assert_eq!(&table, &process.table);
    }
}
