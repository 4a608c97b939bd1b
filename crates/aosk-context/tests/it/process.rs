//! A process that only plans: it collects arrivals and journals its plans.

use aosk_abi::{
    Admission, CacheLife, CacheRules, Changes, Conditions, Hash, Op, PageId, PageKind, Planned,
    Ppm, Seq, Source, Step, Tokens,
};
use aosk_context::{Arrival, Demand, Error, Page, PageTable, Plan, Policy};

pub struct Process {
    pub table: PageTable,
    pub journal: Vec<(Planned, Conditions)>,
    /// Which page was needed, and after how many plans.
    pub needs: Vec<(usize, PageId)>,
    pub pending: Vec<Arrival>,
    pub next_seq: u64,
}

/// How many gaps there is room for.
pub const GAPS: usize = 3;

pub fn demand(window: u64, max_output: u64, overhead: u64, margin: u32) -> Demand {
    Demand {
        window: Tokens(window),
        max_output: Tokens(max_output),
        overhead: Tokens(overhead),
        reserve: Tokens::ZERO,
        gaps: GAPS,
        margin: Ppm(margin),
    }
}

/// A demand of exactly that many tokens of pages.
pub fn room(pages: u64) -> Demand {
    demand(pages, 0, 0, 0)
}

impl Process {
    /// A process whose head (system, tools, task) has these sizes.
    pub fn spawn(head: [u64; 3]) -> Self {
        let mut process = Self {
            table: PageTable::default(),
            journal: Vec::new(),
            needs: Vec::new(),
            pending: Vec::new(),
            next_seq: 1,
        };
        let kinds = [PageKind::System, PageKind::Tools, PageKind::Task];
        for ((kind, tokens), part) in kinds.into_iter().zip(head).zip(0..) {
            process.pending.push(Arrival {
                source: Source { seq: Seq(0), part },
                pinned: true,
                ..arrival(kind, 0, 0, tokens)
            });
        }
        process
    }

    pub fn seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq - 1
    }

    pub fn message(&mut self, tokens: u64) -> &mut Arrival {
        let seq = self.seq();
        self.pending.push(arrival(PageKind::Message, seq, seq, tokens));
        self.pending.last_mut().expect("just pushed")
    }

    /// A turn of the model that says something, calls tools, or both; gives its unit.
    pub fn turn(&mut self, reply: Option<u64>, calls: usize) -> u64 {
        let unit = self.seq();
        if let Some(tokens) = reply {
            self.pending.push(arrival(PageKind::Reply, unit, unit, tokens));
        }
        for _ in 0..calls {
            self.pending.push(arrival(PageKind::ToolCall, unit, unit, 5));
        }
        unit
    }

    pub fn result(&mut self, unit: u64, tokens: u64) -> &mut Arrival {
        let seq = self.seq();
        self.pending.push(arrival(PageKind::ToolResult, seq, unit, tokens));
        self.pending.last_mut().expect("just pushed")
    }

    /// A result of which the first page has `opening` tokens, and each of `parts` more pages `each`.
    pub fn result_in_parts(
        &mut self,
        unit: u64,
        opening: u64,
        parts: u64,
        each: u64,
    ) -> &mut [Arrival] {
        let first = self.pending.len();
        let whole = *self.result(unit, opening);
        if parts > 0 {
            let pages = (0..=parts).map(|part| Arrival {
                range: Some((part * 100, 100)),
                tokens: Tokens(if part == 0 { opening } else { each }),
                ..whole
            });
            self.pending.pop();
            self.pending.extend(pages);
        }
        &mut self.pending[first..]
    }

    /// The page is needed: taken down, and if it does not stand in the prompt it comes again.
    pub fn need(&mut self, page: &Page) {
        self.table.access(page.id).expect("a page of the table");
        self.needs.push((self.journal.len(), page.id));
        if !page.resident {
            let unit = self.seq();
            // What is brought back is told to the model, whoever said it first.
            let again = arrival(PageKind::ToolResult, unit, unit, page.tokens.0);
            self.pending.push(Arrival { source: page.source, range: page.range, ..again });
        }
    }

    pub fn plan(&self, demand: &Demand, policy: &dyn Policy) -> Result<Plan, Error> {
        self.table.plan(&self.pending, demand, policy)
    }

    /// Journals and applies a plan of the pending arrivals.
    pub fn commit(&mut self, plan: &Plan, demand: &Demand) {
        let (planned, under) = (planned(plan), conditions(demand));
        self.table.apply(&planned, &under).expect("a plan applies to the table it was made of");
        self.journal.push((planned, under));
        self.pending.clear();
    }

    /// Plans and commits; gives what left.
    pub fn step(&mut self, demand: &Demand, policy: &dyn Policy) -> Result<Vec<PageId>, Error> {
        let plan = self.plan(demand, policy)?;
        self.commit(&plan, demand);
        Ok(plan.evicted)
    }
}

fn arrival(kind: PageKind, seq: u64, unit: u64, tokens: u64) -> Arrival {
    Arrival {
        kind,
        source: Source { seq: Seq(seq), part: 0 },
        range: None,
        unit: Seq(unit),
        tokens: Tokens(tokens),
        pinned: false,
        importance: Admission::DEFAULT_IMPORTANCE,
    }
}

pub fn planned(plan: &Plan) -> Planned {
    Planned {
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
        admitted: plan.admitted.clone(),
        evicted: plan.evicted.clone(),
        reasons: plan.reasons.clone(),
        stubs: Vec::new(),
    }
}

/// What a plan for `demand` is made under.
pub fn conditions(demand: &Demand) -> Conditions {
    Conditions {
        cache: CacheRules::default(),
        max_output: demand.max_output,
        policy: "any".to_owned(),
        render: "1/any".to_owned(),
        tokenizer: "any".to_owned(),
        window: demand.window,
    }
}

pub fn to_cbor(table: &PageTable) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(table, &mut bytes).expect("a table serialises");
    bytes
}
