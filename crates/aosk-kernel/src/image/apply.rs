//! The fold: what each event does to an image.

use aosk_abi::{
    Admission, Blocked, BlockedOn, CacheLife, ChildBegun, ChildEnded, Code, DecodeError, Event,
    FailureKind, Hash, Input, Kind, LlmFailed, LlmRequested, LlmReturned, MessageReceived, Op,
    PageId, PageKind, Pid, Planned, Ppm, ProcessState, Recalled, Record, ReplyPart, ReplySummary,
    Seq, Signal, Source, Spawned, Step, Tenant, Timestamp, Tokens, ToolCall, ToolRequested, What,
};
use aosk_context::{Arrival, PageTable, Warmth};

use super::{Account, Child, End, Image, Letter, Mailbox, Pending, Shape, Transcript, Waits};
use crate::program::{Program, Running};

/// A journal that does not fold: damaged, or of a program that behaves otherwise than it did.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// An event cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The first event is not a `spawned`.
    #[error("the journal begins with a {0} event instead of a spawned one")]
    NoSpawn(Kind),
    /// The process runs a program that this kernel does not have.
    #[error("the process runs the program {0:?}, which this version of aosk does not have")]
    Program(String),
    /// An event names an operation that is not outstanding, or not of its kind.
    #[error("event {seq} ({kind}) is about operation {op}, which does not wait for it")]
    Operation {
        /// Where it stands.
        seq: Seq,
        /// Its kind.
        kind: Kind,
        /// The operation it names.
        op: Op,
    },
    /// An event is about a child that there is not, or that has ended.
    #[error("event {seq} ({kind}) is about the child {child}, which is none that lives")]
    Child {
        /// Where it stands.
        seq: Seq,
        /// Its kind.
        kind: Kind,
        /// The child it names.
        child: Pid,
    },
    /// A message names a sender that is no process, though it says that one sent it.
    #[error("event {seq} ({kind}) is a process's message, and its sender is none")]
    Sender {
        /// Where it stands.
        seq: Seq,
        /// Its kind.
        kind: Kind,
    },
    /// An event came after the process's end, or a second `spawned`.
    #[error("event {seq} ({kind}) cannot follow: the process is {state}")]
    State {
        /// Where it stands.
        seq: Seq,
        /// Its kind.
        kind: Kind,
        /// The state before it.
        state: &'static str,
    },
    /// A plan contradicts the page table.
    #[error("event {seq} (planned) contradicts the page table: {source}")]
    Plan {
        /// Where it stands.
        seq: Seq,
        /// What the page table says.
        source: aosk_context::Error,
    },
    /// A page is recalled that there is not.
    #[error("event {seq} (recalled) contradicts the page table: {source}")]
    Recall {
        /// Where it stands.
        seq: Seq,
        /// What the page table says.
        source: aosk_context::Error,
    },
    /// A reply uses a page that there is not.
    #[error("event {seq} (llm_returned) contradicts the page table: {source}")]
    Use {
        /// Where it stands.
        seq: Seq,
        /// What the page table says.
        source: aosk_context::Error,
    },
    /// A plan admits a part of a content that is never cut, or that was not recalled.
    #[error(
        "event {seq} (planned) admits page {page}, a part of a content, which is neither of a \
         message or result that has just come nor a part that was recalled"
    )]
    Range {
        /// Where it stands.
        seq: Seq,
        /// The page.
        page: PageId,
    },
    /// The first plan does not say all that it was made under.
    #[error("event {seq} (planned) is the first plan and leaves out what it was made under")]
    Conditions {
        /// Where it stands.
        seq: Seq,
    },
}

impl FoldError {
    /// The error's stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Decode(DecodeError::Body { .. }) => Code::EventDamaged,
            Self::Decode(_) => Code::EventNewer,
            Self::Program(_) => Code::KernelUnknownProgram,
            _ => Code::KernelFold,
        }
    }
}

impl Image {
    /// The image after its first event.
    ///
    /// # Errors
    /// [`FoldError`] where the record is no readable `spawned` event of a known program.
    pub fn begin(tenant: &Tenant, pid: Pid, record: &Record) -> Result<Self, FoldError> {
        let event = record.decode()?;
        let What::Spawned(spawned) = event.what else {
            return Err(FoldError::NoSpawn(event.kind()));
        };
        let program = Running::start(&spawned.program)
            .ok_or_else(|| FoldError::Program(spawned.program.clone()))?;
        let mut image = Self {
            tenant: tenant.clone(),
            pid,
            created: event.at,
            updated: event.at,
            next: record.seq.next(),
            head: record.hash,
            epoch: record.epoch,
            state: ProcessState::Ready,
            step: Step(0),
            began_at: Step(0),
            restarts: 0,
            adopted: false,
            crashes: 0,
            model: spawned.model.clone(),
            priority: spawned.priority,
            quota: None,
            account: Account { limit: spawned.spend_limit, ..Account::default() },
            pages: PageTable::default(),
            transcript: Transcript::default(),
            answered: None,
            warmth: Warmth::default(),
            settled: 0,
            lasting: 0,
            stubs: Vec::new(),
            arrivals: Vec::new(),
            conditions: None,
            plan: None,
            next_op: Op(0),
            pending: std::collections::BTreeMap::new(),
            waits: None,
            mailbox: Mailbox::default(),
            children: std::collections::BTreeMap::new(),
            program,
            spawned,
        };
        image.open_conversation(record.seq);
        image.hear(
            Input::Started {
                max_steps: image.spawned.max_steps,
                max_tool_steps: image.spawned.max_tool_steps,
            },
            record.seq,
        );
        Ok(image)
    }

    /// Folds the next record in. On an error the image must not be used any more.
    ///
    /// # Errors
    /// [`FoldError`] where the record cannot be read or cannot follow.
    pub fn apply(&mut self, record: &Record) -> Result<(), FoldError> {
        let event = record.decode()?;
        self.apply_event(&event, record.seq, record.hash)?;
        self.epoch = record.epoch;
        Ok(())
    }

    /// Folds an event in whose record was made a moment ago.
    pub(crate) fn apply_event(
        &mut self,
        event: &Event,
        seq: Seq,
        hash: Hash,
    ) -> Result<(), FoldError> {
        let kind = event.kind();
        if !self.can_follow(&event.what) || seq != self.next {
            return Err(FoldError::State { seq, kind, state: self.state.name() });
        }
        let about = |op| FoldError::Operation { seq, kind, op };
        match &event.what {
            What::Spawned(_) => {
                return Err(FoldError::State { seq, kind, state: self.state.name() });
            }
            What::Recovered(_) => self.recovered(),
            What::Exited(exited) => {
                self.pending.clear();
                self.waits = None;
                self.state = ProcessState::Exited { exit: exited.exit.clone() };
            }
            What::Blocked(blocked) => {
                if let Some(op) = blocked.op {
                    self.waits_in(op, blocked, event.at).ok_or_else(|| about(op))?;
                }
                self.go_to(ProcessState::Blocked { on: blocked.on.clone(), since: event.at });
            }
            What::Unblocked(_) => {
                self.state = self.continued();
                self.crashes = 0;
            }
            What::Crashed(_) => {
                self.crashes += 1;
                self.recovered();
            }
            What::SpendRaised(raised) => {
                self.account.limit = Some(raised.limit);
                if matches!(self.state, ProcessState::Blocked { on: BlockedOn::Quota { .. }, .. }) {
                    self.state = ProcessState::Ready;
                }
            }
            What::QuotaChanged(changed) => {
                if changed.owner == BlockedOn::OWN {
                    self.quota = Some(changed.limits);
                }
                let waits = matches!(&self.state,
                    ProcessState::Blocked { on: BlockedOn::Limit { owner, .. }, .. }
                        if *owner == changed.owner);
                if waits {
                    self.state = ProcessState::Ready;
                }
            }
            What::BudgetWarned(_) | What::Tuned(_) => {}
            What::SignalReceived(received) => match received.signal {
                Signal::Stop => self.state = ProcessState::Suspended { since: event.at },
                Signal::Cont if self.waits_for_a_person() => {
                    self.state = self.continued();
                    self.crashes = 0;
                }
                Signal::Cont | Signal::Kill => {}
            },
            What::MessageReceived(message) if message.op.is_some() => {
                self.letter(message, seq).ok_or(FoldError::Sender { seq, kind })?;
            }
            What::MessageReceived(message) => {
                self.spoken_to();
                self.arrive(Source { seq, part: 0 }, seq, Shape::User(message.content));
                if self.state.is_final() {
                    // What was left of its parent's money went back with its end.
                    self.adopted = true;
                    if self.spawned.parent.is_some() && self.account.limit.is_some() {
                        self.account.limit = Some(self.account.spent());
                    }
                    self.begin_again(Input::Continued, seq);
                    self.state = ProcessState::Ready;
                }
            }
            What::MessageTaken(taken) => {
                self.mailbox.take(taken.message).ok_or_else(|| about(taken.op))?;
            }
            What::ChildBegun(begun) => {
                self.child_begun(begun).ok_or_else(|| about(begun.op))?;
            }
            What::ChildEnded(ended) => {
                self.child_ended(ended, seq).ok_or(FoldError::Child {
                    seq,
                    kind,
                    child: ended.child,
                })?;
            }
            What::PriorityChanged(changed) => self.priority = changed.priority,
            What::Restarted(restarted) => {
                self.restarts = restarted.number;
                self.begin_again(Input::Restarted { exit: restarted.exit.clone() }, seq);
                let on = BlockedOn::Timer { until: restarted.until };
                self.go_to(ProcessState::Blocked { on, since: event.at });
            }
            What::Told(told) => {
                let Some(Pending::Tell { unit, .. }) = self.pending.remove(&told.op) else {
                    return Err(about(told.op));
                };
                self.arrive(Source { seq, part: 0 }, unit, Shape::User(told.content));
            }
            What::Planned(planned) => self.planned(event, planned, seq)?,
            What::Routed(routed) => {
                let Some(Pending::Infer { .. }) = self.pending.get(&routed.op) else {
                    return Err(about(routed.op));
                };
                self.model.clone_from(&routed.model);
                self.leave_endpoint();
                // It was made for another window and another renderer.
                self.plan = None;
            }
            What::LlmRequested(requested) => {
                self.requested(requested).ok_or_else(|| about(requested.op))?;
                self.warmth.asked(event.at);
            }
            What::LlmReturned(returned) => {
                self.returned(returned, seq).ok_or_else(|| about(returned.op))?;
                for &id in &returned.used {
                    self.pages.access(id).map_err(|source| FoldError::Use { seq, source })?;
                }
                self.answered = Some(event.at);
                self.warmth.answered(returned.usage.map(|usage| usage.cached));
            }
            What::LlmFailed(failed) => {
                self.failed(failed, event, seq).ok_or_else(|| about(failed.op))?;
            }
            What::Recalled(recalled) => self.recalled(recalled, seq)?,
            What::ToolRequested(requested) => {
                self.tool_requested(requested, event).ok_or_else(|| about(requested.op))?;
            }
            What::ToolReturned(returned) => {
                self.tool_done(returned.op, returned.result, !returned.success, seq)
                    .ok_or_else(|| about(returned.op))?;
            }
            What::Interrupted(interrupted) => {
                self.tool_done(interrupted.op, interrupted.result, true, seq)
                    .ok_or_else(|| about(interrupted.op))?;
            }
            What::Cancelled(cancelled) => {
                self.pending.remove(&cancelled.op).ok_or_else(|| about(cancelled.op))?;
            }
        }
        self.next = seq.next();
        self.head = hash;
        self.updated = event.at;
        Ok(())
    }

    /// Whether the event can be the next: only a message can follow the end.
    fn can_follow(&self, what: &What) -> bool {
        match &self.state {
            ProcessState::Exited { exit } => {
                let is_spoken_to =
                    matches!(what, What::MessageReceived(message) if message.op.is_none());
                exit.can_be_continued() && is_spoken_to
            }
            _ => true,
        }
    }

    /// Whether it waits until somebody says that it shall go on.
    fn waits_for_a_person(&self) -> bool {
        let review = BlockedOn::Review { crashes: self.crashes };
        match &self.state {
            ProcessState::Suspended { .. } => true,
            // Money may have become free elsewhere: the cap of a run ends with the run.
            ProcessState::Blocked {
                on: BlockedOn::Quota { .. } | BlockedOn::Limit { until: None, .. },
                ..
            } => true,
            ProcessState::Blocked { on, .. } => *on == review,
            _ => false,
        }
    }

    /// The program begins anew behind what was said so far.
    fn begin_again(&mut self, input: Input, seq: Seq) {
        self.pending.clear();
        self.waits = None;
        self.plan = None;
        self.began_at = self.step;
        if self.model != self.spawned.model {
            self.model.clone_from(&self.spawned.model);
            self.leave_endpoint();
        }
        self.hear(input, seq);
    }

    /// Another endpoint is asked, which has read and kept nothing yet.
    fn leave_endpoint(&mut self) {
        self.answered = None;
        self.warmth.lose();
        self.lasting = 0;
    }

    fn open_conversation(&mut self, seq: Seq) {
        let Spawned { system, tools, task, .. } = &self.spawned;
        let parts = [
            (Shape::System(*system), system.len > 0),
            (Shape::Tools(*tools), tools.len > 0),
            (Shape::User(*task), true),
        ];
        for (part, (shape, present)) in (0..).zip(parts) {
            if present {
                self.arrive(Source { seq, part }, seq, shape);
            }
        }
    }

    fn recovered(&mut self) {
        let waits_for_kernel = matches!(
            self.state,
            ProcessState::Running | ProcessState::Blocked { on: BlockedOn::Tool { .. }, .. }
        );
        if waits_for_kernel {
            self.state = ProcessState::Ready;
        }
    }

    fn planned(&mut self, event: &Event, planned: &Planned, seq: Seq) -> Result<(), FoldError> {
        if !matches!(self.pending.get(&planned.op), Some(Pending::Infer { .. })) {
            return Err(FoldError::Operation { seq, kind: Kind::Planned, op: planned.op });
        }
        if let Some(admission) = planned.admitted.iter().find(|it| !self.may_be_in_parts(it)) {
            return Err(FoldError::Range { seq, page: admission.page });
        }
        let under = planned.under.onto(self.conditions.as_ref());
        let under = under.ok_or(FoldError::Conditions { seq })?;
        let standing = planned.evicted.first().map(|first| self.pages.tokens_before(*first));
        self.pages.apply(planned, &under).map_err(|source| FoldError::Plan { seq, source })?;
        self.conditions = Some(under);
        self.warmth.planned(planned, standing, self.pages.tokens());
        if !planned.evicted.is_empty() {
            self.settled = self.pages.pages().len();
            if planned.evicted.iter().any(|page| (page.0 as usize) < self.lasting) {
                self.lasting = 0;
            }
            self.stubs.clone_from(&planned.stubs);
        }
        let admitted = |arrival: &Arrival| {
            planned.admitted.iter().any(|admission| admission.source == arrival.source)
        };
        self.arrivals.retain(|arrival| !admitted(arrival));
        self.step = planned.step;
        self.plan = Some((event.at, planned.clone()));
        Ok(())
    }

    /// Whether the admission is of a whole content, or of a part where there may be parts: the plan
    /// that admits a message or a result cuts it, and what was cut is recalled as it was.
    fn may_be_in_parts(&self, admission: &Admission) -> bool {
        if admission.range.is_none() {
            return true;
        }
        let mut arrivals = self.arrivals.iter().filter(|it| it.source == admission.source);
        arrivals.any(|arrival| {
            let is_new = arrival.range.is_none()
                && matches!(arrival.kind, PageKind::Message | PageKind::ToolResult);
            arrival.unit == admission.unit && (is_new || arrival.range == admission.range)
        })
    }

    /// Where the program's own doings lead. A process that a signal suspended stays so, whatever
    /// comes of what is still in flight.
    fn go_to(&mut self, state: ProcessState) {
        if !matches!(self.state, ProcessState::Suspended { .. }) {
            self.state = state;
        }
    }

    fn requested(&mut self, requested: &LlmRequested) -> Option<()> {
        let Some(Pending::Infer { attempts, .. }) = self.pending.get_mut(&requested.op) else {
            return None;
        };
        *attempts = requested.attempt;
        self.account.reserve(requested.op, requested.reserved);
        self.go_to(ProcessState::Running);
        Some(())
    }

    fn returned(&mut self, returned: &LlmReturned, seq: Seq) -> Option<()> {
        let Some(Pending::Infer { .. }) = self.pending.remove(&returned.op) else {
            return None;
        };
        let plan = self.plan.take();
        if plan.is_some_and(|(_, planned)| planned.life == CacheLife::Long) {
            self.lasting = self.pages.pages().len();
        }
        self.crashes = 0;
        self.go_to(ProcessState::Ready);
        self.account.settle(returned.op, returned.cost);
        self.account.usage += returned.usage.unwrap_or_default();
        let mut reply = ReplySummary { stop: returned.stop, text: None, calls: Vec::new() };
        for (part, shape) in (0..).zip(&returned.parts) {
            let shape = match shape {
                ReplyPart::Text { content } => {
                    reply.text = Some(*content);
                    Shape::Reply(*content)
                }
                ReplyPart::Opaque { format, content } => {
                    Shape::Opaque { format: format.clone(), content: *content }
                }
                ReplyPart::ToolCall { id, name, arguments } => {
                    let (id, name, arguments) = (id.clone(), name.clone(), *arguments);
                    reply.calls.push(ToolCall { id: id.clone(), name: name.clone(), arguments });
                    Shape::ToolCall { id, name, arguments }
                }
            };
            self.arrive(Source { seq, part }, seq, shape);
        }
        self.hear(Input::Replied { op: returned.op, step: self.step, reply }, seq);
        Some(())
    }

    fn failed(&mut self, failed: &LlmFailed, event: &Event, seq: Seq) -> Option<()> {
        let Some(Pending::Infer { attempts, elsewhere, overflows, .. }) =
            self.pending.get_mut(&failed.op)
        else {
            return None;
        };
        if let Some(next) = &failed.next {
            *elsewhere = *attempts;
            self.model.clone_from(next);
            self.answered = None;
            self.warmth.lose();
            self.lasting = 0;
            // It was made for another window and another room for the reply.
            self.plan = None;
        }
        self.account.settle(failed.op, failed.cost);
        let state = match (failed.retry_at, failed.failure) {
            (Some(_), FailureKind::ContextLength) => {
                *overflows += 1;
                self.plan = None;
                ProcessState::Ready
            }
            (Some(until), _) => {
                ProcessState::Blocked { on: BlockedOn::Timer { until }, since: event.at }
            }
            (None, _) => {
                self.pending.remove(&failed.op);
                self.plan = None;
                let (op, code, message) = (failed.op, failed.code.clone(), failed.message);
                self.hear(Input::InferFailed { op, code, message }, seq);
                ProcessState::Ready
            }
        };
        self.go_to(state);
        Some(())
    }

    /// The pages come with the next plan, behind the result of the call that asked for them.
    fn recalled(&mut self, recalled: &Recalled, seq: Seq) -> Result<(), FoldError> {
        let Some(&Pending::Tool { unit, .. }) = self.pending.get(&recalled.op) else {
            return Err(FoldError::Operation { seq, kind: Kind::Recalled, op: recalled.op });
        };
        for &id in &recalled.pages {
            self.pages.access(id).map_err(|source| FoldError::Recall { seq, source })?;
            let Some(page) = self.pages.page(id) else { continue };
            self.arrivals.push(Arrival {
                kind: page.kind,
                source: page.source,
                range: page.range,
                unit,
                tokens: page.tokens,
                pinned: false,
                importance: page.importance,
            });
        }
        Ok(())
    }

    fn tool_requested(&mut self, requested: &ToolRequested, event: &Event) -> Option<()> {
        let Some(Pending::Tool { attempts, effect, to, .. }) = self.pending.get_mut(&requested.op)
        else {
            return None;
        };
        *attempts = requested.attempt;
        *effect = Some(requested.effect);
        *to = requested.to;
        let calls = self.tools_in_flight();
        self.go_to(ProcessState::Blocked { on: BlockedOn::Tool { calls }, since: event.at });
        Some(())
    }

    fn tool_done(
        &mut self,
        op: Op,
        result: aosk_abi::ContentRef,
        failed: bool,
        seq: Seq,
    ) -> Option<()> {
        let Some(Pending::Tool { call, unit, .. }) = self.pending.remove(&op) else {
            return None;
        };
        let shape = Shape::ToolResult { id: call.id, name: call.name, content: result, failed };
        self.arrive(Source { seq, part: 0 }, unit, shape);
        if self.waits.take_if(|waits| waits.op == op).is_some() {
            self.go_to(ProcessState::Ready);
        }
        if let ProcessState::Blocked { on: BlockedOn::Tool { .. }, since } = self.state {
            self.state = match self.tools_in_flight() {
                0 => ProcessState::Ready,
                calls => ProcessState::Blocked { on: BlockedOn::Tool { calls }, since },
            };
        }
        self.hear(Input::ToolDone { op }, seq);
        Some(())
    }

    /// The process waits in a tool call.
    fn waits_in(&mut self, op: Op, blocked: &Blocked, since: Timestamp) -> Option<()> {
        let Some(Pending::Tool { .. }) = self.pending.get(&op) else {
            return None;
        };
        self.waits = Some(Waits { op, on: blocked.on.clone(), since, spoken_to: false });
        Some(())
    }

    /// Whoever waits in a tool call hears the user, and then waits no longer.
    fn spoken_to(&mut self) {
        if let Some(waits) = &mut self.waits {
            waits.spoken_to = true;
            if matches!(self.state, ProcessState::Blocked { .. }) {
                self.state = ProcessState::Ready;
            }
        }
    }

    /// Where a process stands that was held up and goes on: where it waited, if that is not over.
    fn continued(&self) -> ProcessState {
        match &self.waits {
            Some(Waits { on, since, spoken_to: false, .. }) => {
                ProcessState::Blocked { on: on.clone(), since: *since }
            }
            _ => ProcessState::Ready,
        }
    }

    fn letter(&mut self, message: &MessageReceived, seq: Seq) -> Option<()> {
        let (from, op) = (message.from.parse().ok()?, message.op?);
        self.mailbox.put(op, Letter { from, seq, content: message.content });
        Some(())
    }

    fn child_begun(&mut self, begun: &ChildBegun) -> Option<()> {
        let Some(Pending::Tool { .. }) = self.pending.get(&begun.op) else {
            return None;
        };
        let (name, op, granted) = (begun.name.clone(), begun.op, begun.granted);
        self.children.insert(begun.child, Child { name, op, granted, end: None });
        self.account.grant(begun.child, granted);
        Some(())
    }

    fn child_ended(&mut self, ended: &ChildEnded, seq: Seq) -> Option<()> {
        let child = self.children.get_mut(&ended.child).filter(|child| child.end.is_none())?;
        child.end = Some(End { exit: ended.exit.clone(), seq, answer: ended.answer });
        self.account.reclaim(ended.child, ended.spent);
        Some(())
    }

    fn tools_in_flight(&self) -> u64 {
        let in_flight = |pending: &&Pending| matches!(pending, Pending::Tool { attempts: 1.., .. });
        self.pending.values().filter(in_flight).count() as u64
    }

    fn arrive(&mut self, source: Source, unit: Seq, shape: Shape) {
        let (kind, pinned, importance) = match &shape {
            Shape::System(_) => (PageKind::System, true, Ppm::ONE),
            Shape::Tools(_) => (PageKind::Tools, true, Ppm::ONE),
            Shape::User(_) if source.seq == Seq(0) => (PageKind::Task, true, Ppm(900_000)),
            // What the program says about a turn has no meaning without it.
            Shape::User(_) if source.seq != unit => {
                (PageKind::Message, false, Admission::DEFAULT_IMPORTANCE)
            }
            // What somebody said outweighs what the agent did: it cannot be found out again.
            Shape::User(_) => (PageKind::Message, false, Ppm(700_000)),
            Shape::Reply(_) | Shape::Opaque { .. } => {
                (PageKind::Reply, false, Admission::DEFAULT_IMPORTANCE)
            }
            Shape::ToolCall { .. } => (PageKind::ToolCall, false, Admission::DEFAULT_IMPORTANCE),
            Shape::ToolResult { .. } => {
                (PageKind::ToolResult, false, Admission::DEFAULT_IMPORTANCE)
            }
        };
        self.transcript.push(source, shape);
        // The size is a decision of the plan that admits the page, under its tokenizer.
        let tokens = Tokens::ZERO;
        self.arrivals.push(Arrival { kind, source, range: None, unit, tokens, pinned, importance });
    }

    fn hear(&mut self, input: Input, seq: Seq) {
        for syscall in self.program.on(input) {
            self.pending.insert(self.next_op, Pending::new(syscall, seq));
            self.next_op = self.next_op.next();
        }
    }
}
