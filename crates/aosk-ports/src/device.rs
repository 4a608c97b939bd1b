//! Devices: model endpoints.

use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{
    CacheLife, CacheRules, Code, FailureKind, Hash, MicroDollars, Role, Sampling, StopReason,
    Tokens, ToolCalls, ToolSpec, Usage,
};
use futures::future::BoxFuture;

/// What a part of a message holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text.
    Text(Arc<str>),
    /// A block that goes back to its provider byte for byte.
    Opaque {
        /// The dialect and block type that it came from.
        format: Arc<str>,
        /// The block.
        bytes: Arc<[u8]>,
    },
    /// A tool call of the model.
    ToolCall {
        /// The call's id.
        id: Arc<str>,
        /// The tool, as the model wrote it.
        name: Arc<str>,
        /// The arguments, as the model wrote them.
        arguments: Arc<str>,
    },
    /// The result of a tool call.
    ToolResult {
        /// The id of the call.
        call: Arc<str>,
        /// The tool, as the model wrote it.
        name: Arc<str>,
        /// The result as the model reads it.
        text: Arc<str>,
        /// Whether the tool did not do what was asked.
        failed: bool,
    },
}

/// A message of the conversation. Cheap to clone: its texts are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub parts: Arc<[Part]>,
}

/// A model call before it is bytes.
#[derive(Debug, Clone)]
pub struct Request {
    /// The conversation without the tail: first the system message (unless the prompt is empty),
    /// then the task, then the log.
    pub messages: Vec<Message>,
    /// The volatile text behind the log, if there is one; a last message of its own.
    pub tail: Option<String>,
    /// The tools of the conversation; the list never changes under it.
    pub tools: Arc<[ToolSpec]>,
    /// Whether the model may call them in this turn. Where it may not, the tools stay in the
    /// request as they are (they are part of the cached prefix) and the choice is masked.
    pub may_call: bool,
    /// How tool calls are made.
    pub tool_calls: ToolCalls,
    /// The most tokens of the reply.
    pub max_output: Tokens,
    /// How the reply is drawn.
    pub sampling: Sampling,
    /// A stable name of the conversation, for endpoints that route by it to a warm cache.
    pub cache_key: String,
    /// How many of the messages stood there when pages last left; 0 where none has, or where pages leave
    /// of those. They are likely to stay when pages leave again, so that an endpoint which keeps what is
    /// marked is to keep them.
    pub settled: usize,
    /// How many of the messages stood there at the newest call that asked for the long life, as far as
    /// they still do; 0 where none did. What that call marked is to be found again.
    pub lasting: usize,
    /// For how long what the call marks is to be kept, where its endpoint can be asked.
    pub life: CacheLife,
    /// The slot of the server's KV cache that the call is to take, from 0; `None`: the server chooses.
    /// Only for devices that have [`kv_slots`](Device::kv_slots).
    pub slot: Option<usize>,
}

/// What all calls of one agent ask for alike, known before the first.
#[derive(Debug, Clone)]
pub struct Demand<'a> {
    /// How replies are drawn.
    pub sampling: &'a Sampling,
    /// How tool calls are made.
    pub tool_calls: ToolCalls,
    /// Whether the agent has tools.
    pub has_tools: bool,
}

/// A request as the bytes that will leave, with the hash that the plan records.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// The renderer's version and, after a slash, its dialect: `1/openai`.
    pub render: String,
    /// The whole body.
    pub body: Arc<[u8]>,
    /// The unkeyed hash of the rendered messages without the tail. Between two generations of a
    /// context these bytes are a prefix of the next call's.
    pub prompt: Hash,
    /// The length of those bytes.
    pub prompt_len: u64,
    /// The rendered messages without the tail, for tests and `show`: what the hash covers.
    pub prompt_bytes: Arc<[u8]>,
    /// The bound of the request's time, from the first byte sent to the last received.
    pub timeout: Duration,
}

/// A request that has no form in the device's dialect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RenderError(pub String);

/// What an endpoint answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The parts, in the model's order; [`Part::ToolResult`] never occurs.
    pub parts: Vec<Part>,
    /// Why the model stopped.
    pub stop: StopReason,
    /// What it used, if the endpoint says so.
    pub usage: Option<Usage>,
    /// The model's name as reported; empty where it is not.
    pub model: String,
    /// The reply as it came over the wire; `None` for a device without a wire.
    pub raw: Option<Arc<[u8]>>,
}

/// Why a call failed, and what the caller may do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct CallError {
    /// What the kernel does next.
    pub kind: FailureKind,
    /// The stable code.
    pub code: Code,
    /// What was wrong, whose fault it is and what to do next.
    pub message: String,
    /// When the endpoint wants to be asked again, from now.
    pub retry_after: Option<Duration>,
    /// What the call used all the same, as far as the endpoint said.
    pub usage: Option<Usage>,
}

/// Something that arrived while a reply streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// The first byte of the reply.
    FirstByte,
    /// More text, `chars` characters of it.
    Text {
        /// How many.
        chars: usize,
    },
    /// The model calls a tool.
    ToolCall {
        /// Its name as far as it is known.
        name: String,
    },
}

/// What an endpoint says of one of its limits, as it came. Signed, because endpoints have said -1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// The limit.
    pub limit: Option<i64>,
    /// What is left of it.
    pub remaining: Option<i64>,
    /// When all of it will be there again, from now.
    pub resets_in: Option<Duration>,
}

/// What an endpoint says of its limits beside an answer, whatever that is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Of calls.
    pub requests: RateLimit,
    /// Of tokens that go in; also where an endpoint counts all tokens together.
    pub input: RateLimit,
    /// Of tokens that come out.
    pub output: RateLimit,
}

/// Hears how a reply comes in. Called from the device's task; must not block.
pub trait Progress: Send + Sync {
    /// Something arrived.
    fn delta(&self, delta: Delta);

    /// The endpoint said something of its limits, at the head of its answer.
    fn limits(&self, limits: &RateLimits) {
        let _ = limits;
    }
}

impl Progress for () {
    fn delta(&self, _: Delta) {}
}

/// Prices in millionths of a US dollar for a million tokens (so 1 dollar a million is 1,000,000).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prices {
    /// Fresh input.
    pub input: MicroDollars,
    /// Input read from the cache.
    pub cached: MicroDollars,
    /// Input written to the cache.
    pub cache_write: MicroDollars,
    /// Input written to the cache to be kept long.
    pub cache_write_long: MicroDollars,
    /// Output.
    pub output: MicroDollars,
}

impl Prices {
    /// What `usage` costs, rounded up to a millionth of a dollar.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> MicroDollars {
        let fresh = usage.input.saturating_sub(usage.cached).saturating_sub(usage.cache_write);
        let long = usage.cache_write_long.min(usage.cache_write);
        let terms = [
            (fresh, self.input),
            (usage.cached, self.cached),
            (usage.cache_write.saturating_sub(long), self.cache_write),
            (long, self.cache_write_long),
            (usage.output, self.output),
        ];
        let total: u128 =
            terms.iter().map(|(n, price)| u128::from(n.0) * u128::from(price.0)).sum();
        MicroDollars(u64::try_from(total.div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }

    /// The most that a call with that much input and output can cost that asks for that life.
    #[must_use]
    pub fn ceiling(&self, input: Tokens, output: Tokens, life: CacheLife) -> MicroDollars {
        let dearest = self.input.max(self.cached).max(self.cache_write);
        let dearest = match life {
            CacheLife::Short => dearest,
            CacheLife::Long => dearest.max(self.cache_write_long),
        };
        Self { input: dearest, ..*self }.cost(&Usage { input, output, ..Usage::default() })
    }
}

/// What the kernel must know of a device to plan and to pay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The device's name, unique in a kernel: a name of the table of models.
    pub name: String,
    /// The model as its endpoint calls it.
    pub model: String,
    /// The window: prompt and reply together.
    pub window: Tokens,
    /// The most output tokens of a call whose manifest names none.
    pub max_output: Tokens,
    /// What it costs.
    pub prices: Prices,
    /// How many calls may be in flight at once, at least 1.
    pub slots: usize,
    /// How its endpoint keeps prompts.
    pub cache: CacheRules,
}

/// What a server says of itself, whoever's calls it works on. What it does not say is absent, and so
/// is what cannot be: a negative count, a share above all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerLoad {
    /// How many calls it can work on at once.
    pub slots: Option<u64>,
    /// How many calls it works on.
    pub running: Option<u64>,
    /// How many calls wait there.
    pub waiting: Option<u64>,
    /// How many tokens its KV cache holds at most.
    pub kv_tokens: Option<u64>,
    /// How much of the KV cache the calls that run hold, in thousandths, at most 1,000. What is kept
    /// for later calls gives way and does not count where the server can tell it apart.
    pub kv_used_milli: Option<u64>,
    /// How many tokens of prompts it has read since it began.
    pub read: Option<u64>,
    /// How many tokens it has written since it began.
    pub written: Option<u64>,
}

/// A model endpoint. One call is one attempt.
pub trait Device: Send + Sync {
    /// What it is.
    fn info(&self) -> &DeviceInfo;

    /// Whether the device can express what an agent will ask for in every call, so that an agent
    /// that cannot be served is refused before it begins.
    ///
    /// # Errors
    /// [`RenderError`] as [`render`](Self::render) would give it, in words that name the
    /// manifest's field.
    fn accepts(&self, demand: &Demand<'_>) -> Result<(), RenderError> {
        let _ = demand;
        Ok(())
    }

    /// The bytes of a request: the same request gives the same bytes.
    ///
    /// # Errors
    /// [`RenderError`] where the dialect cannot express the request.
    fn render(&self, request: &Request) -> Result<Rendered, RenderError>;

    /// Makes one attempt. Dropping the future gives the call up.
    fn call<'a>(
        &'a self,
        rendered: &'a Rendered,
        request: &'a Request,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<Reply, CallError>>;

    /// How many slots of its KV cache a request may name one of; `None` where requests name none.
    fn kv_slots(&self) -> Option<usize> {
        None
    }

    /// Asks the server how loaded it is, in seconds at most; no call waits for it. `None`: it is one
    /// that cannot be asked. The answer is `None` where it told nothing.
    fn load(&self) -> Option<BoxFuture<'_, Option<ServerLoad>>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICES: Prices = Prices {
        input: MicroDollars(1_250_000),
        cached: MicroDollars(125_000),
        cache_write: MicroDollars(1_562_500),
        cache_write_long: MicroDollars(2_500_000),
        output: MicroDollars(10_000_000),
    };

    #[test]
    fn cost_counts_each_token_once() {
        let usage = Usage {
            input: Tokens(1_000_000),
            cached: Tokens(400_000),
            cache_write: Tokens(100_000),
            cache_write_long: Tokens::ZERO,
            output: Tokens(10_000),
            reasoning: Tokens(9_000),
        };
        // 0.5 M fresh, 0.4 M cached, 0.1 M written, 0.01 M out.
        assert_eq!(PRICES.cost(&usage), MicroDollars(625_000 + 50_000 + 156_250 + 100_000));
        // 0.04 M of what is written is to be kept long.
        let some = Usage { cache_write_long: Tokens(40_000), ..usage };
        assert_eq!(PRICES.cost(&some), MicroDollars(625_000 + 50_000 + 93_750 + 100_000 + 100_000));
        // More than what is written cannot be.
        let all = Usage { cache_write_long: Tokens(100_000), ..usage };
        let more = Usage { cache_write_long: Tokens(100_001), ..usage };
        assert_eq!(PRICES.cost(&more), PRICES.cost(&all));
    }

    #[test]
    fn no_call_costs_more_than_its_ceiling() {
        let usage = Usage {
            input: Tokens(1000),
            cache_write: Tokens(1000),
            output: Tokens(10),
            ..Usage::default()
        };
        let ceiling = |prices: &Prices, life| prices.ceiling(Tokens(1000), Tokens(10), life);
        assert_eq!(ceiling(&PRICES, CacheLife::Short), PRICES.cost(&usage));
        let long = Usage { cache_write_long: Tokens(1000), ..usage };
        assert_eq!(ceiling(&PRICES, CacheLife::Long), PRICES.cost(&long));
        assert!(PRICES.cost(&long) > PRICES.cost(&usage));
        assert_eq!(ceiling(&Prices::default(), CacheLife::Long), MicroDollars::ZERO);
    }
}
