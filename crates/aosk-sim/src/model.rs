//! A model endpoint that is simulated, with the troubles of real ones.
//!
//! What the model says depends on the prompt alone (see [`speak`]); whether it gets to say it
//! depends on the prompt and on how often it was asked. Were trouble a function of the prompt
//! alone, a call that failed would fail for ever and no retry would ever be tested.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aosk_abi::{CacheRules, Code, FailureKind, Hash, MicroDollars, Tokens, Usage};
use aosk_ports::{
    CallError, Delta, Device, DeviceInfo, Part, Prices, Progress, RenderError, Rendered, Reply,
    Request,
};
use futures::future::BoxFuture;

use crate::dice::{Chance, Dice};
use crate::faults::ModelFaults;
use crate::speech::{Speech, speak};
use crate::{prompt, tokens};

/// How long an endpoint that limits the rate wants to be left alone, as a rule and when it does
/// not know its own limits.
const SHORT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(90);
const LONG: RangeInclusive<Duration> = Duration::from_secs(600)..=Duration::from_secs(3600);

/// A usage that no window allows.
const HUGE: Tokens = Tokens(1 << 50);

/// A simulated model endpoint. It is part of the world, not of the machine: share one between all
/// lives.
#[derive(Debug)]
pub struct SimModel {
    info: DeviceInfo,
    seed: u64,
    faults: ModelFaults,
    seen: Mutex<Seen>,
}

/// What the endpoint remembers.
#[derive(Debug, Default)]
struct Seen {
    /// How often each prompt came.
    attempts: HashMap<Hash, u64>,
    /// How often each prompt was too much for a machine's part of the device.
    panics: HashMap<Hash, u64>,
    /// Conversations that were told once that their prompt is too long although it is not.
    told_too_long: HashSet<String>,
    conversations: HashMap<String, Conversation>,
    in_flight: usize,
    peak: usize,
}

/// What the endpoint knows of one conversation.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// Calls that arrived.
    pub calls: u64,
    /// Calls whose prompt left no room for the reply.
    pub overflows: u64,
    /// What the operator of the endpoint will ask for: every call that was not refused, whole.
    pub billed: MicroDollars,
    /// The last prompt that was answered, which is in the cache, and its size.
    warm: Option<(Arc<[u8]>, Tokens)>,
    in_flight: usize,
}

impl SimModel {
    /// The name of the simulated model, for manifests.
    pub const NAME: &'static str = "sim";
    /// The name of the model that may be asked instead.
    pub const SPARE: &'static str = "spare";

    /// An endpoint with a window of that many tokens, 4 bytes each, and that many slots.
    #[must_use]
    pub fn new(seed: u64, window: Tokens, slots: usize, faults: ModelFaults) -> Self {
        Self::named(Self::NAME, seed, window, slots, faults)
    }

    /// The endpoint of another model, which costs twice as much and knows the length of its window.
    #[must_use]
    pub fn spare(seed: u64, window: Tokens, slots: usize, faults: ModelFaults) -> Self {
        let faults = ModelFaults { context_length: Chance::NEVER, ..faults };
        let mut spare = Self::named(Self::SPARE, !seed, window, slots, faults);
        let Prices { input, cached, cache_write, cache_write_long, output } = spare.info.prices;
        let twice = |price: MicroDollars| price + price;
        spare.info.prices = Prices {
            input: twice(input),
            cached: twice(cached),
            cache_write: twice(cache_write),
            cache_write_long: twice(cache_write_long),
            output: twice(output),
        };
        spare
    }

    fn named(name: &str, seed: u64, window: Tokens, slots: usize, faults: ModelFaults) -> Self {
        let info = DeviceInfo {
            name: name.to_owned(),
            model: format!("{name}-1"),
            window,
            max_output: Tokens(256),
            prices: Prices {
                input: MicroDollars(1_000_000),
                cached: MicroDollars(100_000),
                cache_write: MicroDollars(1_250_000),
                cache_write_long: MicroDollars(2_000_000),
                output: MicroDollars(4_000_000),
            },
            slots,
            cache: CacheRules::default(),
        };
        Self { info, seed, faults, seen: Mutex::default() }
    }

    /// What the endpoint knows of a conversation, by its cache key.
    #[must_use]
    pub fn conversation(&self, cache_key: &str) -> Conversation {
        self.seen().conversations.get(cache_key).cloned().unwrap_or_default()
    }

    /// The size of a prompt as the endpoint counts it.
    #[must_use]
    pub fn count(request: &Request) -> Tokens {
        tokens::of_request(request)
    }

    /// What the operator of the endpoint will ask for in a conversation, by its cache key.
    pub(crate) fn billed(&self, cache_key: &str) -> MicroDollars {
        self.seen().conversations.get(cache_key).map_or(MicroDollars::ZERO, |it| it.billed)
    }

    /// Whether the machine's part of the device panics over a prompt this time.
    pub(crate) fn panics(&self, rendered: &Rendered) -> bool {
        let mut dice = Dice::keyed(self.seed, "panic", rendered.prompt.as_bytes());
        let times = if dice.hits(self.faults.panic) { 1 + dice.below(3) } else { 0 };
        let mut seen = self.seen();
        let before = seen.panics.entry(rendered.prompt).or_default();
        *before += 1;
        *before <= times
    }

    /// The window: prompt and reply together.
    pub(crate) const fn window(&self) -> Tokens {
        self.info.window
    }

    /// What it costs.
    pub(crate) const fn prices(&self) -> &Prices {
        &self.info.prices
    }

    /// How many calls it takes at once.
    pub(crate) const fn slots(&self) -> usize {
        self.info.slots
    }

    /// How many calls are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.seen().in_flight
    }

    /// Whether a call of that conversation is in flight.
    pub(crate) fn is_busy(&self, cache_key: &str) -> bool {
        self.seen().conversations.get(cache_key).is_some_and(|it| it.in_flight > 0)
    }

    /// The most calls that were in flight at once.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.seen().peak
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn attempt(
        &self,
        rendered: &Rendered,
        request: &Request,
        progress: &dyn Progress,
    ) -> Result<Reply, CallError> {
        let input = tokens::of_request(request);
        let (attempt, cached) = self.arrive(rendered, request, input);
        if input + request.max_output > self.info.window {
            self.converse(request, |conversation| conversation.overflows += 1);
            return Err(too_long(input, self.info.window));
        }
        let mut key = rendered.prompt.as_bytes().to_vec();
        key.extend_from_slice(&attempt.to_le_bytes());
        let mut dice = Dice::keyed(self.seed, "trouble", &key);
        tokio::time::sleep(dice.time(&self.faults.latency)).await;
        self.refusal(&mut dice, rendered, request, input).await?;
        progress.delta(Delta::FirstByte);

        let mut words = Dice::keyed(self.seed, "speech", rendered.prompt.as_bytes());
        let Speech { parts, stop } = speak(&mut words, request, self.faults.odd);
        let usage = Usage { input, cached, output: tokens::of_parts(&parts), ..Usage::default() };
        let price = self.info.prices.cost(&usage);
        self.converse(request, |conversation| conversation.billed += price);
        for part in &parts {
            tokio::time::sleep(dice.time(&self.faults.latency) / 4).await;
            report(part, progress);
            if dice.hits(self.faults.disconnect) {
                return Err(broken_off(&mut dice));
            }
        }
        self.converse(request, |conversation| {
            conversation.warm = Some((rendered.prompt_bytes.clone(), input));
        });
        let usage = if dice.hits(self.faults.lying_usage) { lie(&mut dice) } else { Some(usage) };
        Ok(Reply { parts, stop, usage, model: self.info.model.clone(), raw: None })
    }

    /// Notes an attempt: its number among those of the same prompt, and what of it is cached.
    fn arrive(&self, rendered: &Rendered, request: &Request, input: Tokens) -> (u64, Tokens) {
        let cached = self.converse(request, |conversation| {
            conversation.calls += 1;
            let warm = conversation.warm.as_ref();
            let warm = warm.filter(|(bytes, _)| rendered.prompt_bytes.starts_with(bytes));
            warm.map_or(Tokens::ZERO, |(_, size)| (*size).min(input))
        });
        let mut seen = self.seen();
        let attempt = seen.attempts.entry(rendered.prompt).or_default();
        *attempt += 1;
        (*attempt, cached)
    }

    fn converse<T>(&self, request: &Request, note: impl FnOnce(&mut Conversation) -> T) -> T {
        note(self.seen().conversations.entry(request.cache_key.clone()).or_default())
    }

    /// The trouble that comes before the first byte of a reply.
    async fn refusal(
        &self,
        dice: &mut Dice,
        rendered: &Rendered,
        request: &Request,
        input: Tokens,
    ) -> Result<(), CallError> {
        // Who refuses a call before it has begun may say that nothing was used.
        let nothing = (dice.below(4) > 0).then(Usage::default);
        if dice.hits(self.faults.throttled) {
            let mut error = failed(
                FailureKind::Throttled,
                Code::LlmThrottled,
                "the simulated endpoint limits the rate",
            );
            error.retry_after = match dice.below(30) {
                0..10 => None,
                10 => Some(dice.time(&LONG)),
                _ => Some(dice.time(&SHORT)),
            };
            error.usage = nothing;
            return Err(error);
        }
        if dice.hits(self.faults.transient) {
            let message = "the simulated endpoint answered 503";
            let error = failed(FailureKind::Transient, Code::LlmTransient, message);
            return Err(CallError { usage: nothing, ..error });
        }
        if dice.hits(self.faults.garbage) {
            let message = "the simulated endpoint answered with something that is no reply";
            return Err(failed(FailureKind::Transient, Code::LlmProtocol, message));
        }
        if dice.hits(self.faults.fatal) {
            let message = "the simulated endpoint refused the request";
            return Err(failed(FailureKind::Fatal, Code::LlmBadRequest, message));
        }
        if dice.hits(self.faults.stuck) {
            pending::<()>().await;
        }
        if dice.hits(self.faults.hang) {
            tokio::time::sleep(rendered.timeout).await;
            let message = "the simulated endpoint sent no byte in time";
            return Err(failed(FailureKind::Transient, Code::LlmTransient, message));
        }
        if dice.hits(self.faults.context_length)
            && self.seen().told_too_long.insert(request.cache_key.clone())
        {
            return Err(too_long(input, self.info.window));
        }
        Ok(())
    }
}

/// A reply that ends in its middle, and will be billed. Most of the time the connection is gone; now
/// and then the endpoint says why in place of the rest.
fn broken_off(dice: &mut Dice) -> CallError {
    let (kind, code) = match dice.below(8) {
        0 => (FailureKind::Throttled, Code::LlmThrottled),
        1 => (FailureKind::Fatal, Code::LlmBadRequest),
        _ => (FailureKind::Transient, Code::LlmTransient),
    };
    failed(kind, code, "the simulated endpoint broke off in the middle of the reply")
}

/// Counts a call as in flight while it lives.
struct InFlight<'a>(&'a SimModel, &'a Request);

impl<'a> InFlight<'a> {
    fn begin(model: &'a SimModel, request: &'a Request) -> Self {
        model.converse(request, |conversation| conversation.in_flight += 1);
        let mut seen = model.seen();
        seen.in_flight += 1;
        seen.peak = seen.peak.max(seen.in_flight);
        Self(model, request)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let Self(model, request) = self;
        model.converse(request, |conversation| conversation.in_flight -= 1);
        model.seen().in_flight -= 1;
    }
}

impl Device for SimModel {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn render(&self, request: &Request) -> Result<Rendered, RenderError> {
        prompt::render(request)
    }

    fn call<'a>(
        &'a self,
        rendered: &'a Rendered,
        request: &'a Request,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<Reply, CallError>> {
        Box::pin(async move {
            let _in_flight = InFlight::begin(self, request);
            self.attempt(rendered, request, progress).await
        })
    }
}

fn failed(kind: FailureKind, code: Code, message: &str) -> CallError {
    CallError { kind, code, message: message.to_owned(), retry_after: None, usage: None }
}

fn too_long(input: Tokens, window: Tokens) -> CallError {
    let message =
        format!("the prompt has {input} tokens; the window of the simulated model is {window}");
    failed(FailureKind::ContextLength, Code::LlmContextLength, &message)
}

fn report(part: &Part, progress: &dyn Progress) {
    match part {
        Part::Text(text) => progress.delta(Delta::Text { chars: text.chars().count() }),
        Part::ToolCall { name, .. } => {
            progress.delta(Delta::ToolCall { name: name.as_ref().to_owned() });
        }
        Part::Opaque { .. } | Part::ToolResult { .. } => {}
    }
}

/// A usage that is not true.
fn lie(dice: &mut Dice) -> Option<Usage> {
    let huge = Usage {
        input: HUGE,
        cached: HUGE,
        cache_write: HUGE,
        cache_write_long: HUGE,
        output: Tokens(1),
        reasoning: HUGE,
    };
    (dice.below(4) == 0).then_some(huge)
}
