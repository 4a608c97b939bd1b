//! From arrivals to a request: planning the context.

use aosk_abi::{
    CacheLife, Changes, Conditions, FailureKind, Hash, MicroDollars, Op, Planned, Ppm, Stub,
    Timestamp, Tokens, What,
};
use aosk_context::{Arrival, CachePrices, Demand, Plan, STUB, Terms, stub_room};
use aosk_ports::{CallError, Message, Prices, Request};

use super::Driver;
use super::infer::Call;
use crate::error::Error;
use crate::image::Pending;
use crate::options::Model;

/// How much larger a prompt is assumed to be when the endpoint refused it as too long without
/// saying how long it was.
const BLIND_RECALIBRATION: Ppm = Ppm(250_000);

impl Driver {
    /// The call that the outstanding plan describes; a new plan where there is none or where its
    /// bytes cannot be made again. The inner error says why no plan is possible. It takes that slot of
    /// the server.
    pub(super) async fn planned_call(
        &mut self,
        op: Op,
        slot: Option<usize>,
    ) -> Result<Result<Call, aosk_context::Error>, Error> {
        self.load_contents().await?;
        if let Some((at, planned)) = self.process.image.plan.clone()
            && planned.op == op
        {
            let tail = planned.tail.then(|| self.tail(at, &planned));
            let under = self.process.image.conditions.as_ref();
            let max_output = under.map_or_else(|| self.max_output(), |under| under.max_output);
            let window = under.map(|under| under.window);
            let messages = self.messages();
            let settled = self.cache.settled(self.process.image.settled);
            let lasting = self.cache.settled(self.process.image.lasting);
            let request = self.request(messages, &planned, max_output, tail);
            let request = Request { slot, settled, lasting, ..request };
            let rendered = self.means.model.device.render(&request)?;
            if rendered.prompt == planned.prompt && window == Some(self.demand().window) {
                return Ok(Ok(Call { planned, request, rendered }));
            }
            self.cache.give_back(request.messages);
            tracing::info!(pid = %self.process.pid(), %op, "renders otherwise than planned; planning anew");
        }
        let arrivals = self.sized_arrivals().await;
        self.plan(op, slot, &arrivals)
    }

    fn plan(
        &mut self,
        op: Op,
        slot: Option<usize>,
        arrivals: &[Arrival],
    ) -> Result<Result<Call, aosk_context::Error>, Error> {
        let demand = self.demand();
        let policy = self.means.policy;
        let pages = &self.process.image.pages;
        let plan = match pages.plan_under(arrivals, &demand, policy, &self.terms()) {
            Ok(plan) => plan,
            Err(impossible) => return Ok(Err(impossible)),
        };
        let stubs = self.stubs_after(&plan);
        let standing = if plan.evicted.is_empty() { &self.process.image.stubs } else { &stubs };
        let stub_tokens = self.stub_tokens(standing.len() + plan.gaps);
        let messages = self.messages_after(&plan, &stubs);
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
            life: CacheLife::Short,
            tools,
            under: Changes::default(),
            prompt_tokens: plan.prompt_tokens + stub_tokens,
            prompt: Hash::ZERO,
            prompt_len: 0,
            tail: self.means.manifest.context.tail,
            admitted: plan.admitted,
            evicted: plan.evicted,
            reasons: plan.reasons,
            stubs,
        };
        let at = self.process.shared.parts.clock.now();
        planned.life = self.life(at, &planned);
        let tail = planned.tail.then(|| self.tail(at, &planned));
        // What had settled before is read once more, where all of it stands, and so is what is kept long.
        let standing = |pages: usize| {
            let stands = planned.evicted.iter().all(|page| page.0 as usize >= pages);
            self.cache.settled(if stands { pages } else { 0 })
        };
        let settled = standing(self.process.image.settled);
        let lasting = standing(self.process.image.lasting);
        let request = self.request(messages, &planned, demand.max_output, tail);
        let request = Request { slot, settled, lasting, ..request };
        let rendered = self.means.model.device.render(&request)?;
        let under = Conditions {
            cache: self.means.model.device.info().cache,
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
        self.correction = None;
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
        self.correction = Some(correction);
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
        let learnt = self.correction.or_else(|| {
            self.process.image.pending.values().any(overflowed).then_some(BLIND_RECALIBRATION)
        });
        let known = self.means.model.tokenizer.error();
        learnt.map_or(known, |learnt| learnt.max(known))
    }

    /// What the endpoint charges, and whether it has forgotten the prompt before: by its rules, or
    /// because it did so after such a pause before; and whether the agent can ask for what left. Where
    /// calls are free, the usual shares stand for the time that they take.
    fn terms(&self) -> Terms {
        let info = self.means.model.device.info();
        let now = self.process.shared.parts.clock.now();
        let cold = self.process.image.warmth.is_cold(now);
        let lost = !self.recalls();
        let Prices { input, cached, cache_write, output, .. } = info.prices;
        if input == MicroDollars::ZERO {
            return Terms { cold, lost, ..Terms::default() };
        }
        let share = |price: MicroDollars| {
            let ppm = u128::from(price.0) * u128::from(Ppm::ONE.0) / u128::from(input.0);
            Ppm(u32::try_from(ppm).unwrap_or(u32::MAX))
        };
        Terms { read: share(cached), write: share(cache_write), output: share(output), cold, lost }
    }

    /// For how long the endpoint is to be asked to keep what the call of that plan writes: not for long
    /// where the process has no money for that, so that none waits for what it can do without.
    fn life(&self, at: Timestamp, planned: &Planned) -> CacheLife {
        let info = self.means.model.device.info();
        let long = CacheLife::Long;
        if info.cache.long_ttl_ms.is_none()
            || !self.affords(&self.most(planned.prompt_tokens, self.max_output(), long))
        {
            return CacheLife::Short;
        }
        let Prices { cached, cache_write, cache_write_long, .. } = info.prices;
        let prices = CachePrices { read: cached, write: cache_write, write_long: cache_write_long };
        let pages = &self.process.image.pages;
        let came: Tokens = planned.admitted.iter().map(|page| page.tokens).sum();
        let left = planned.evicted.iter().filter_map(|page| pages.page(*page));
        let left: Tokens = left.map(|page| page.tokens).sum();
        let size = (pages.tokens() + came).saturating_sub(left);
        let standing = planned.evicted.first().map(|first| pages.tokens_before(*first));
        self.process.image.warmth.life(info.cache, &prices, standing, size, at)
    }

    /// The model's window, or less where the agent has less.
    fn window(&self) -> Tokens {
        // Not above the model's own: that was refused when the process was spawned. A model whose
        // window shrank since is planned for as it is now.
        let own = self.means.manifest.context.window.unwrap_or(Tokens(u64::MAX));
        own.min(self.means.model.device.info().window)
    }

    /// What the window has besides the reply.
    pub(super) fn room(&self) -> Tokens {
        self.window().saturating_sub(self.max_output())
    }

    /// What that many stubs take.
    fn stub_tokens(&self, stubs: usize) -> Tokens {
        let each = STUB + self.means.model.tokenizer.per_message();
        Tokens(each.0.saturating_mul(stubs as u64))
    }

    /// What stubs and gaps may take. One stub there must be, or a small window could not name what
    /// left it.
    fn stub_reserve(&self) -> Tokens {
        stub_room(self.room()).max(self.stub_tokens(1))
    }

    /// How many stubs and gaps there may be. A gap is no message of its own, so that it takes less
    /// than a stub, also where it brings a line end with it.
    fn most_stubs(&self) -> usize {
        let most = self.stub_reserve().0 / self.stub_tokens(1).0;
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// What the prompt says of the pages that have left, once pages leave by `plan`.
    fn stubs_after(&self, plan: &Plan) -> Vec<Stub> {
        if plan.evicted.is_empty() || !self.recalls() {
            return Vec::new();
        }
        let most = self.most_stubs().saturating_sub(plan.gaps).max(1);
        self.process.image.pages.stubs(plan, most)
    }

    fn demand(&self) -> Demand {
        let tokenizer = &self.means.model.tokenizer;
        let tail = if self.means.manifest.context.tail {
            tokenizer.per_message() + Tokens(TAIL_TOKENS)
        } else {
            Tokens::ZERO
        };
        let image = &self.process.image;
        // Where nothing is named and nothing is in parts there is nothing to tell of.
        let reserve = if self.recalls() || image.pages.has_parts() {
            // Those that stand there were made for another window, perhaps.
            let told = image.stubs.len() + image.pages.gaps();
            self.stub_reserve().max(self.stub_tokens(told))
        } else {
            Tokens::ZERO
        };
        Demand {
            window: self.window(),
            reserve,
            gaps: self.most_stubs().saturating_sub(usize::from(self.recalls())),
            max_output: self.max_output(),
            overhead: tail + tokenizer.per_message(),
            margin: self.margin(),
        }
    }

    /// Reads the conversation back, once: what is made later is known from its making.
    async fn load_contents(&mut self) -> Result<(), Error> {
        if self.loaded {
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
        self.loaded = true;
        Ok(())
    }

    fn request(
        &self,
        messages: Vec<Message>,
        planned: &Planned,
        max_output: Tokens,
        tail: Option<String>,
    ) -> Request {
        Request {
            messages,
            tail,
            tools: self.means.specs.clone(),
            may_call: planned.tools,
            tool_calls: self.means.manifest.tool_calls,
            max_output,
            sampling: self.means.manifest.sampling.clone(),
            cache_key: self.process.pid().to_string(),
            slot: None,
            settled: 0,
            lasting: 0,
            life: planned.life,
        }
    }

    /// The volatile end of a prompt. It follows from the plan alone, so that it can be rendered
    /// again, and it stands behind everything that a provider caches.
    fn tail(&self, at: Timestamp, planned: &Planned) -> String {
        let last = jiff::Timestamp::MAX.as_second();
        let second = i64::try_from(at.as_millis() / 1000).map_or(last, |second| second.min(last));
        let now = jiff::Timestamp::from_second(second).unwrap_or_default();
        let image = &self.process.image;
        format!(
            "[now {now} | step {} of {}]",
            planned.step.0.saturating_sub(image.began_at.0),
            image.spawned.max_steps
        )
    }
}

/// What a tail takes at most: 60 characters, and no tokenizer makes more tokens than characters of
/// ASCII text.
const TAIL_TOKENS: u64 = 60;
