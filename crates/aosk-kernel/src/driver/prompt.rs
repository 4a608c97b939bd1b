//! From pages to a request: planning the context and building its messages.

use std::sync::Arc;

use aosk_abi::{
    Changes, Conditions, FailureKind, Hash, Op, PageKind, Planned, Ppm, Role, Seq, Source, Tokens,
    ToolResult, What,
};
use aosk_context::{Demand, Page};
use aosk_ports::{CallError, Message, Part, Request};

use super::Driver;
use super::infer::Call;
use crate::error::Error;
use crate::image::{Pending, Shape};
use crate::options::Model;

/// How much larger a prompt is assumed to be when the endpoint refused it as too long without
/// saying how long it was.
const BLIND_RECALIBRATION: Ppm = Ppm(250_000);

/// The messages of the last plan. Within a generation the prompt only grows, so a step builds only
/// what it added.
#[derive(Default)]
pub(super) struct MessageCache {
    generation: u64,
    /// How many resident pages the messages stand for.
    pages: usize,
    messages: Vec<Message>,
    /// Whether the texts of all resident pages are in memory.
    loaded: bool,
    /// What the last refusal taught about the counts of this process's pages.
    correction: Option<Ppm>,
}

impl Driver {
    /// The call that the outstanding plan describes; a new plan where there is none or where its
    /// bytes cannot be made again. The inner error says why no plan is possible.
    pub(super) async fn planned_call(
        &mut self,
        op: Op,
    ) -> Result<Result<Call, aosk_context::Error>, Error> {
        self.load_contents().await?;
        if let Some((at, planned)) = self.process.image.plan.clone()
            && planned.op == op
        {
            let tail = planned.tail.then(|| self.tail(at, &planned));
            let resident: Vec<Page> = self.process.image.pages.resident().copied().collect();
            let max_output = self.process.image.conditions.as_ref().map(|under| under.max_output);
            let max_output = max_output.unwrap_or_else(|| self.max_output());
            let window = self.process.image.conditions.as_ref().map(|under| under.window);
            let request = self.request(&resident, &planned, max_output, tail);
            let rendered = self.means.model.device.render(&request)?;
            if rendered.prompt == planned.prompt && window == Some(self.demand().window) {
                return Ok(Ok(Call { planned, request, rendered }));
            }
            tracing::info!(pid = %self.process.pid(), %op, "renders otherwise than planned; planning anew");
        }
        self.prepare_counts().await;
        self.plan(op)
    }

    /// Lets the tokenizer learn the sizes of what arrived, which it may have to ask for.
    async fn prepare_counts(&self) {
        let arrivals = self.process.image.arrivals.iter();
        let texts: Vec<Arc<str>> =
            arrivals.flat_map(|arrival| self.counted_texts(arrival.source)).collect();
        self.means.model.tokenizer.prepare(&texts).await;
    }

    fn plan(&mut self, op: Op) -> Result<Result<Call, aosk_context::Error>, Error> {
        let arrivals = self.count_arrivals();
        let demand = self.demand();
        let policy = self.means.policy;
        let plan = match self.process.image.pages.plan(&arrivals, &demand, policy) {
            Ok(plan) => plan,
            Err(impossible) => return Ok(Err(impossible)),
        };
        let resident: Vec<Page> = self.process.image.pages.preview(&plan).collect();
        let tools =
            matches!(self.process.image.pending.get(&op), Some(Pending::Infer { tools: true, .. }));
        // A call that is planned a second time is still the same step.
        let step = match &self.process.image.plan {
            Some((_, planned)) if planned.op == op => planned.step,
            _ if self.is_replan(op) => self.process.image.step,
            _ => self.process.image.step.next(),
        };
        let mut planned = Planned {
            op,
            step,
            generation: plan.generation,
            tools,
            under: Changes::default(),
            prompt_tokens: plan.prompt_tokens,
            prompt: Hash::ZERO,
            prompt_len: 0,
            tail: self.means.manifest.context.tail,
            admitted: plan.admitted,
            evicted: plan.evicted,
        };
        let at = self.process.shared.parts.clock.now();
        let tail = planned.tail.then(|| self.tail(at, &planned));
        let request = self.request(&resident, &planned, demand.max_output, tail);
        let rendered = self.means.model.device.render(&request)?;
        let under = Conditions {
            max_output: demand.max_output,
            policy: policy.name().to_owned(),
            render: rendered.render.clone(),
            tokenizer: self.means.model.tokenizer.id(),
            window: demand.window,
        };
        planned.under = under.changes_since(self.process.image.conditions.as_ref());
        planned.prompt = rendered.prompt;
        planned.prompt_len = rendered.prompt_len;
        self.process.emit_at(at, What::Planned(planned.clone()))?;
        if !planned.evicted.is_empty() {
            self.forget_the_evicted();
        }
        Ok(Ok(Call { planned, request, rendered }))
    }

    /// Drops the texts of pages that left; memory follows the window, not the history.
    fn forget_the_evicted(&mut self) {
        let transcript = &self.process.image.transcript;
        let resident = self.process.image.pages.resident().map(|page| page.source);
        let shapes = resident.filter_map(|source| transcript.get(source));
        self.process.contents.keep(shapes.map(|shape| shape.content().hash));
    }

    fn is_replan(&self, op: Op) -> bool {
        matches!(
            self.process.image.pending.get(&op),
            Some(Pending::Infer { attempts, .. }) if *attempts > 0
        )
    }

    /// Asks that model from now on. What a refusal taught was about the tokens of another.
    pub(super) fn ask(&mut self, name: String, model: Model) {
        self.means.asked = name;
        self.means.model = model;
        self.messages.correction = None;
    }

    /// Learns from a prompt that was too long.
    pub(super) fn recalibrate(&mut self, error: &CallError, planned: &Planned) {
        debug_assert_eq!(error.kind, FailureKind::ContextLength);
        let counted = planned.prompt_tokens;
        let correction = match error.usage.map(|usage| usage.input) {
            Some(reported) if reported > counted && counted > Tokens::ZERO => {
                self.means.model.tokenizer.observe(counted, reported);
                let excess = u128::from(reported.0 - counted.0) * 1_000_000;
                Ppm(u32::try_from(excess.div_ceil(u128::from(counted.0))).unwrap_or(u32::MAX))
            }
            _ => BLIND_RECALIBRATION,
        };
        self.messages.correction = Some(correction);
    }

    pub(super) fn max_output(&self) -> Tokens {
        self.means
            .manifest
            .sampling
            .max_output_tokens
            .unwrap_or(self.means.model.device.info().max_output)
    }

    /// A count of tokens with the tokenizer's possible error on top.
    pub(super) fn padded(&self, tokens: Tokens) -> Tokens {
        let extra = u128::from(tokens.0) * u128::from(self.margin().0) / 1_000_000;
        tokens + Tokens(u64::try_from(extra).unwrap_or(u64::MAX))
    }

    fn margin(&self) -> Ppm {
        let overflowed =
            |pending: &Pending| matches!(pending, Pending::Infer { overflows: 1.., .. });
        // What the refusal taught ends with the process's stay in memory; that it came does not.
        let learnt = self.messages.correction.or_else(|| {
            self.process.image.pending.values().any(overflowed).then_some(BLIND_RECALIBRATION)
        });
        let known = self.means.model.tokenizer.error();
        learnt.map_or(known, |learnt| learnt.max(known))
    }

    fn demand(&self) -> Demand {
        // Not above the model's own: that was refused when the process was spawned. A model whose
        // window shrank since is planned for as it is now.
        let own = self.means.manifest.context.window.unwrap_or(Tokens(u64::MAX));
        let window = own.min(self.means.model.device.info().window);
        let tokenizer = &self.means.model.tokenizer;
        let tail = if self.means.manifest.context.tail {
            tokenizer.per_message() + Tokens(TAIL_TOKENS)
        } else {
            Tokens::ZERO
        };
        Demand {
            window,
            max_output: self.max_output(),
            overhead: tail + tokenizer.per_message(),
            margin: self.margin(),
        }
    }

    /// The arrivals with their sizes. Messages that came while the model or its tools were at
    /// work stand behind the results: a call must be followed by its results.
    fn count_arrivals(&self) -> Vec<aosk_context::Arrival> {
        let mut arrivals = self.process.image.arrivals.clone();
        arrivals.sort_by_key(|arrival| arrival.kind == PageKind::Message);
        for arrival in &mut arrivals {
            arrival.tokens = self.size(arrival.source);
        }
        arrivals
    }

    fn size(&self, source: Source) -> Tokens {
        let tokenizer = &self.means.model.tokenizer;
        let sizes = self.counted_texts(source).into_iter().map(|text| tokenizer.count(&text));
        let counted = sizes.fold(Tokens::ZERO, |sum, size| sum + size);
        match self.process.image.transcript.get(source) {
            None => Tokens::ZERO,
            // What is not text travels as base64, of which a token holds about a byte and a half.
            Some(Shape::Opaque { content, .. })
                if !self.process.contents.is_text(&content.hash) =>
            {
                Tokens(content.len) + tokenizer.per_message()
            }
            Some(_) => counted + tokenizer.per_message(),
        }
    }

    /// The texts that a page's size is the sum of.
    fn counted_texts(&self, source: Source) -> Vec<Arc<str>> {
        let text = |hash: &Hash| self.process.contents.text(hash).unwrap_or_default();
        match self.process.image.transcript.get(source) {
            None => Vec::new(),
            Some(Shape::Opaque { content, .. })
                if !self.process.contents.is_text(&content.hash) =>
            {
                Vec::new()
            }
            Some(Shape::ToolResult { id, name, content, .. }) => {
                vec![self.result_text(content.hash), id.as_str().into(), name.as_str().into()]
            }
            Some(Shape::ToolCall { id, name, arguments }) => {
                vec![text(&arguments.hash), id.as_str().into(), name.as_str().into()]
            }
            Some(other) => vec![text(&other.content().hash)],
        }
    }

    /// Reads the conversation back, once: what is made later is known from its making.
    async fn load_contents(&mut self) -> Result<(), Error> {
        if self.messages.loaded {
            return Ok(());
        }
        let new = self.process.image.arrivals.iter().map(|arrival| arrival.source);
        let wanted: Vec<_> = self
            .process
            .image
            .pages
            .resident()
            .map(|page| page.source)
            .chain(new)
            .filter_map(|source| {
                let shape = self.process.image.transcript.get(source)?;
                Some((source.seq, *shape.content()))
            })
            .collect();
        let (tenant, pid) = (self.process.image.tenant.clone(), self.process.image.pid);
        let store = self.process.shared.parts.store.clone();
        self.process.contents.load(store.as_ref(), &tenant, pid, wanted.into_iter()).await?;
        self.messages.loaded = true;
        Ok(())
    }

    fn request(
        &mut self,
        pages: &[Page],
        planned: &Planned,
        max_output: Tokens,
        tail: Option<String>,
    ) -> Request {
        Request {
            messages: self.messages_of(pages, planned.generation),
            tail,
            tools: self.means.specs.clone(),
            may_call: planned.tools,
            tool_calls: self.means.manifest.tool_calls,
            max_output,
            sampling: self.means.manifest.sampling.clone(),
            cache_key: self.process.pid().to_string(),
        }
    }

    fn messages_of(&mut self, pages: &[Page], generation: u64) -> Vec<Message> {
        let cache = &self.messages;
        let known = if cache.generation == generation { cache.pages.min(pages.len()) } else { 0 };
        let same_message =
            |a: &Page, b: &Page| a.source.seq == b.source.seq && a.source.seq != Seq(0);
        let new: Vec<Message> =
            pages[known..].chunk_by(same_message).filter_map(|group| self.message(group)).collect();
        let cache = &mut self.messages;
        if known == 0 {
            cache.messages.clear();
        }
        cache.messages.extend(new);
        (cache.generation, cache.pages) = (generation, pages.len());
        cache.messages.clone()
    }

    fn message(&self, group: &[Page]) -> Option<Message> {
        let mut role = Role::User;
        let mut parts = Vec::with_capacity(group.len());
        for page in group {
            let shape = self.process.image.transcript.get(page.source)?;
            let text = |hash: &Hash| self.process.contents.text(hash).unwrap_or_default();
            let (speaker, part) = match shape {
                Shape::Tools(_) => continue,
                Shape::System(content) => (Role::System, Part::Text(text(&content.hash))),
                Shape::User(content) => (Role::User, Part::Text(text(&content.hash))),
                Shape::Reply(content) => (Role::Assistant, Part::Text(text(&content.hash))),
                Shape::Opaque { format, content } => {
                    let bytes = self.process.contents.bytes(&content.hash)?.clone();
                    (Role::Assistant, Part::Opaque { format: format.as_str().into(), bytes })
                }
                Shape::ToolCall { id, name, arguments } => (
                    Role::Assistant,
                    Part::ToolCall {
                        id: id.as_str().into(),
                        name: name.as_str().into(),
                        arguments: text(&arguments.hash),
                    },
                ),
                Shape::ToolResult { id, name, content, failed } => (
                    Role::Tool,
                    Part::ToolResult {
                        call: id.as_str().into(),
                        name: name.as_str().into(),
                        text: self.result_text(content.hash),
                        failed: *failed,
                    },
                ),
            };
            role = speaker;
            parts.push(part);
        }
        (!parts.is_empty()).then(|| Message { role, parts: parts.into() })
    }

    /// A tool's result as the model reads it.
    fn result_text(&self, hash: Hash) -> Arc<str> {
        let Some(bytes) = self.process.contents.bytes(&hash) else {
            return Arc::default();
        };
        match serde_json::from_slice::<ToolResult>(bytes) {
            Ok(result) => result.to_text(self.process.shared.options.result_budget).into(),
            // Redaction may have damaged the JSON; the model still sees what is there.
            Err(_) => String::from_utf8_lossy(bytes).into(),
        }
    }

    /// The volatile end of a prompt. It follows from the plan alone, so that it can be rendered
    /// again, and it stands behind everything that a provider caches.
    fn tail(&self, at: aosk_abi::Timestamp, planned: &Planned) -> String {
        let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
        let now = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
        let image = &self.process.image;
        format!(
            "[now {} | step {} of {}]",
            now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            planned.step.0.saturating_sub(image.began_at.0),
            image.spawned.max_steps
        )
    }
}

/// What a tail takes at most: 60 characters, and no tokenizer makes more tokens than characters of
/// ASCII text.
const TAIL_TOKENS: u64 = 60;
