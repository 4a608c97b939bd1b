//! A run played through the page table under a policy.

use aosk_abi::{
    Admission, CacheLife, CacheRules, Changes, Conditions, Hash, Op, PageId, PageKind, Planned,
    Ppm, Seq, Source, Step, Tokens,
};
use aosk_context::{Arrival, Compaction, Demand, Page, PageTable, Policy, Terms};

use super::Market;
use super::optimum::Calls;
use super::trace::{Kind, REQUEST, Run};
use crate::report::Failure;

/// What came of one run, or of several.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    pub price: f64,
    pub needs: u64,
    pub faults: u64,
    /// Input tokens that were read from the cache, and all; repeated calls are left out.
    pub cached: f64,
    pub input: f64,
    /// The sum of the used shares of the room, over the calls whose history exceeds it.
    pub used: f64,
    pub full_steps: usize,
    pub epochs: u64,
}

impl Outcome {
    pub fn add(&mut self, other: &Self) {
        self.price += other.price;
        self.needs += other.needs;
        self.faults += other.faults;
        self.cached += other.cached;
        self.input += other.input;
        self.used += other.used;
        self.full_steps += other.full_steps;
        self.epochs += other.epochs;
    }
}

struct Replay<'a> {
    run: &'a Run,
    budget: u64,
    market: &'a Market,
    policy: &'a dyn Policy,
    table: PageTable,
    /// The newest page of the table that holds each page of the run.
    place: Vec<Option<PageId>>,
    next: u64,
    /// The prompt that the endpoint saw last.
    seen: Vec<(PageId, u64)>,
    outcome: Outcome,
}

/// Plays `run` with `budget` tokens of room.
pub fn replay(
    run: &Run,
    budget: u64,
    market: &Market,
    policy: &dyn Policy,
) -> Result<Outcome, Failure> {
    let mut replay = Replay {
        run,
        budget,
        market,
        policy,
        table: PageTable::default(),
        place: vec![None; run.pages.len()],
        next: 1,
        seen: Vec::new(),
        outcome: Outcome::default(),
    };
    let mut calls = Calls::of(run, budget, market).steps.into_iter().peekable();
    for index in 0..run.steps.len() {
        match calls.next_if(|(call, _)| *call == index) {
            Some((_, cold)) => replay.call(index, cold)?,
            // A step that is infeasible is no call; its pages are there for the next one.
            None => {
                _ = replay.plan(replay.arrivals(index), u64::MAX, Terms::default(), Some(index))?
            }
        }
    }
    Ok(replay.outcome)
}

impl Replay<'_> {
    fn call(&mut self, index: usize, cold: bool) -> Result<(), Failure> {
        let step = &self.run.steps[index];
        let mut arrivals = self.arrivals(index);
        let mut must = self.run.head + self.run.tokens(step.new);
        let grown = self.table.tokens().0.max(self.run.head) + self.run.tokens(step.new);
        if self.policy.name() == Compaction.name()
            && grown > self.budget
            && must + Compaction::SUMMARY.0 <= self.budget
        {
            // The model reads all of it to sum it up.
            self.outcome.price +=
                self.market.read * grown as f64 + self.market.output * Compaction::SUMMARY.0 as f64;
            let seq = self.next + arrivals.len() as u64 + 2;
            must += Compaction::SUMMARY.0;
            arrivals.push(self.arrival(PageKind::Message, seq, Compaction::SUMMARY.0));
        }
        let mut terms = self.market.terms();
        terms.cold = cold;
        let size = self.plan(arrivals, self.budget, terms, Some(index))?;
        let cached = if cold { 0 } else { self.cached() };
        self.pay(size, cached);
        self.outcome.cached += cached as f64;
        self.outcome.input += size as f64;
        if self.run.head + self.run.tokens((0, step.new.1)) > self.budget {
            self.outcome.used += size as f64 / self.budget as f64;
            self.outcome.full_steps += 1;
        }
        for set in &step.needs {
            self.outcome.needs += 1;
            let there = |page: &&usize| self.resident(**page).is_some();
            let resident: Vec<usize> = set.iter().filter(there).copied().collect();
            for &page in &resident {
                self.access(page)?;
            }
            if resident.is_empty() {
                self.fault(set.iter().copied().max().unwrap_or_default(), &mut must)?;
            }
        }
        Ok(())
    }

    /// The model asks for a page; it comes to the end of the prompt, and the call is repeated.
    fn fault(&mut self, page: usize, must: &mut u64) -> Result<(), Failure> {
        self.outcome.faults += 1;
        self.outcome.price += self.market.output * REQUEST as f64;
        let tokens = self.run.pages[page].tokens;
        let mut arrivals = Vec::new();
        if *must + tokens <= self.budget
            && let Some(before) = self.place[page].and_then(|id| self.table.page(id)).copied()
        {
            *must += tokens;
            self.next += 1;
            // What is brought back is told to the model, whoever said it first.
            let kind = match before.kind {
                PageKind::Reply => PageKind::Message,
                kind => kind,
            };
            arrivals.push(Arrival {
                source: before.source,
                range: before.range,
                importance: before.importance,
                ..self.arrival(kind, self.next, tokens)
            });
            self.place[page] = Some(PageId(u32::try_from(self.table.pages().len())?));
        }
        let comes = !arrivals.is_empty();
        let size = self.plan(arrivals, self.budget, self.market.terms(), None)?;
        self.pay(size, self.cached());
        if comes {
            self.access(page)?;
        }
        Ok(())
    }

    fn pay(&mut self, size: u64, cached: u64) {
        self.outcome.price += self.market.call(size, cached);
        self.seen = self.prompt().collect();
    }

    /// How much of the prompt the endpoint saw before, as its first part.
    fn cached(&self) -> u64 {
        let same = self.prompt().zip(&self.seen).take_while(|(now, before)| now == *before);
        same.map(|((_, tokens), _)| tokens).sum()
    }

    /// The pages that the endpoint sees. The mark of a turn that left no page is not one.
    fn prompt(&self) -> impl Iterator<Item = (PageId, u64)> {
        self.table.resident().map(|page| (page.id, page.tokens.0)).filter(|(_, tokens)| *tokens > 0)
    }

    fn resident(&self, page: usize) -> Option<&Page> {
        self.place[page].and_then(|id| self.table.page(id)).filter(|page| page.resident)
    }

    fn access(&mut self, page: usize) -> Result<(), Failure> {
        if let Some(id) = self.place[page] {
            self.table.access(id)?;
        }
        Ok(())
    }

    /// Plans and applies; gives the size of the prompt. `step` tells whose pages the last ones of
    /// the arrivals are.
    fn plan(
        &mut self,
        arrivals: Vec<Arrival>,
        window: u64,
        terms: Terms,
        step: Option<usize>,
    ) -> Result<u64, Failure> {
        let demand = Demand {
            window: Tokens(window),
            max_output: Tokens::ZERO,
            overhead: Tokens::ZERO,
            reserve: Tokens::ZERO,
            gaps: 0,
            margin: Ppm(0),
        };
        let plan = self.table.plan_under(&arrivals, &demand, self.policy, &terms)?;
        if let Some(index) = step {
            let (from, to) = self.run.steps[index].new;
            let pages = plan.admitted.iter().filter(|new| new.source.part == PAGE);
            for (page, admission) in (from..to).zip(pages) {
                self.place[page] = Some(admission.page);
            }
            self.next += arrivals.len() as u64 + 2;
        }
        self.outcome.epochs += u64::from(!plan.evicted.is_empty());
        let size = plan.prompt_tokens.0;
        let under = Conditions {
            cache: CacheRules::default(),
            max_output: demand.max_output,
            policy: self.policy.name().to_owned(),
            render: "none".to_owned(),
            tokenizer: "trace".to_owned(),
            window: demand.window,
        };
        let planned = Planned {
            op: Op(0),
            step: Step(1),
            generation: plan.generation,
            life: CacheLife::Short,
            tools: true,
            under: Changes::default(),
            prompt_tokens: plan.prompt_tokens,
            prompt: Hash::ZERO,
            prompt_len: 0,
            tail: false,
            admitted: plan.admitted,
            evicted: plan.evicted,
            reasons: plan.reasons,
            stubs: Vec::new(),
        };
        self.table.apply(&planned, &under)?;
        Ok(size)
    }

    /// What comes with a step: the head with the first, then a turn of the model, then its pages.
    fn arrivals(&self, index: usize) -> Vec<Arrival> {
        let step = &self.run.steps[index];
        let mut arrivals = Vec::new();
        if self.table.pages().is_empty() {
            let mut head = self.arrival(PageKind::System, 0, self.run.head);
            head.pinned = true;
            arrivals.push(head);
        }
        let pages = &self.run.pages[step.new.0..step.new.1];
        if pages.iter().all(|page| page.kind != Kind::Asst) {
            // A turn that left no page of its own: what came before it is answered all the same.
            arrivals.push(self.arrival(PageKind::Reply, self.next + 1, 0));
        }
        for (page, seq) in pages.iter().zip(self.next + 2..) {
            let kind = match page.kind {
                Kind::Task | Kind::User => PageKind::Message,
                Kind::Asst => PageKind::Reply,
                Kind::Tool => PageKind::ToolResult,
            };
            let mut arrival = self.arrival(kind, seq, page.tokens);
            arrival.source.part = PAGE;
            if page.kind == Kind::Task {
                arrival.importance = Ppm::ONE;
            }
            arrivals.push(arrival);
        }
        arrivals
    }

    fn arrival(&self, kind: PageKind, seq: u64, tokens: u64) -> Arrival {
        Arrival {
            kind,
            source: Source { seq: Seq(seq), part: 0 },
            range: None,
            unit: Seq(seq),
            tokens: Tokens(tokens),
            pinned: false,
            importance: Admission::DEFAULT_IMPORTANCE,
        }
    }
}

/// The part of a source that marks a page of the run; everything else is part 0.
const PAGE: u16 = 1;
