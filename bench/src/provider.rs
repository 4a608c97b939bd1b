//! A provider with a token bucket that nobody is told of, but for what its answers say.
//!
//! It takes a call where the bucket holds all that the call may use, as providers do that reserve the
//! cap up front, and gives back what the call did not use when it ends. So a caller that asks
//! whenever it likes is refused, and one that waits for the whole cap each time leaves three quarters
//! of the bucket unused.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aosk_abi::{Code, FailureKind, MicroDollars, Tokens, Usage};
use aosk_ports::{
    CallError, Device, DeviceInfo, Prices, Progress, RateLimit, RateLimits, RenderError, Rendered,
    Reply, Request,
};
use futures::future::BoxFuture;

use crate::noop::{cut_off, free, rendered_as_nothing};

/// How many times a call's use its cap is.
pub const CAP_TO_ACTUAL: u64 = 4;

/// Tokens that come back in a second.
pub const RATE: u64 = 20_000;

/// The most tokens that the bucket holds.
pub const BURST: u64 = 40_000;

/// The most tokens of a call.
pub const CAP: u64 = 1_000;

/// How long a call takes.
const TAKES: Duration = Duration::from_millis(100);

/// The provider.
pub struct Provider {
    info: DeviceInfo,
    state: Mutex<State>,
}

struct State {
    began: Instant,
    /// Tokens that are free, in millionths, at `seen`.
    free: u128,
    seen: Instant,
    used: u64,
    taken: u64,
    refused: u64,
}

/// What a provider has seen.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Calls that were answered.
    pub taken: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// The part of its tokens that were used since it began, its burst included; a call counts with
    /// what it uses from its beginning on.
    pub utilisation: f64,
}

impl Provider {
    /// A provider whose bucket is full; a call of the cap costs that much.
    pub fn new(slots: usize, price: MicroDollars) -> Self {
        let mut info = free("mock", 1 << 20, slots);
        info.max_output = Tokens(CAP);
        info.prices = Prices { output: MicroDollars(price.0 * 1_000_000 / CAP), ..info.prices };
        let now = Instant::now();
        let free = u128::from(BURST) * 1_000_000;
        let state = State { began: now, free, seen: now, used: 0, taken: 0, refused: 0 };
        Self { info, state: Mutex::new(state) }
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        let state = self.state();
        let offered = state.began.elapsed().as_secs_f64() * RATE as f64 + BURST as f64;
        Seen {
            taken: state.taken,
            refused: state.refused,
            utilisation: state.used as f64 / offered,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fill(&mut self) {
        let now = Instant::now();
        let more = (now - self.seen).as_micros() * u128::from(RATE);
        self.free = (self.free + more).min(u128::from(BURST) * 1_000_000);
        self.seen = now;
    }

    fn limits(&self) -> RateLimits {
        let left = u64::try_from(self.free / 1_000_000).unwrap_or(BURST);
        let missing = Duration::from_micros((BURST - left.min(BURST)) * 1_000_000 / RATE);
        let number = |number: u64| i64::try_from(number).ok();
        let output =
            RateLimit { limit: number(BURST), remaining: number(left), resets_in: Some(missing) };
        RateLimits { output, ..RateLimits::default() }
    }

    /// Takes a call's cap out of the bucket; the error is how long until it is there.
    fn take(&mut self) -> Result<(), Duration> {
        self.fill();
        let cap = u128::from(CAP) * 1_000_000;
        let Some(left) = self.free.checked_sub(cap) else {
            self.refused += 1;
            let micros = (cap - self.free) / u128::from(RATE) + 1;
            return Err(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)));
        };
        self.free = left;
        self.taken += 1;
        self.used += CAP / CAP_TO_ACTUAL;
        Ok(())
    }

    /// A call ended that used a part of its cap.
    fn give_back(&mut self) {
        self.fill();
        let back = u128::from(CAP - CAP / CAP_TO_ACTUAL) * 1_000_000;
        self.free = (self.free + back).min(u128::from(BURST) * 1_000_000);
    }
}

impl Device for Provider {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn render(&self, _: &Request) -> Result<Rendered, RenderError> {
        Ok(rendered_as_nothing())
    }

    fn call<'a>(
        &'a self,
        _: &'a Rendered,
        _: &'a Request,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<Reply, CallError>> {
        Box::pin(async move {
            let (taken, limits) = {
                let mut state = self.state();
                (state.take(), state.limits())
            };
            progress.limits(&limits);
            if let Err(wait) = taken {
                return Err(CallError {
                    kind: FailureKind::Throttled,
                    code: Code::LlmThrottled,
                    message: "the bucket is empty".to_owned(),
                    retry_after: Some(wait),
                    usage: Some(Usage::default()),
                });
            }
            tokio::time::sleep(TAKES).await;
            self.state().give_back();
            let output = Tokens(CAP / CAP_TO_ACTUAL);
            let usage = Usage { input: Tokens(10), output, ..Usage::default() };
            Ok(Reply { usage: Some(usage), ..cut_off("mock") })
        })
    }
}
