//! A model that costs nothing: it answers at once with a payload that is cut off, so that the
//! kernel asks it to go on, step after step.
//!
//! A step is what it is with any model: the kernel plans the context, makes the plan and the call's
//! intent durable, calls, and takes the reply in. The payload travels as an opaque block because
//! UTF-8 text cannot be incompressible. The device renders every request as nothing: what is
//! measured is the kernel and its store, not a wire format.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aosk_abi::{CacheRules, Hash, Ppm, StopReason, Tokens, Usage};
use aosk_ports::{
    CallError, Device, DeviceInfo, Part, Prices, Progress, RenderError, Rendered, Reply, Request,
    Tokenizer,
};
use futures::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::payload::payload;

/// A device that answers at once.
pub struct Noop {
    info: DeviceInfo,
    seed: u64,
    bytes: usize,
    agents: Mutex<HashMap<String, Agent>>,
    latencies: Mutex<Vec<Duration>>,
    calls: AtomicU64,
    gate: Semaphore,
}

struct Agent {
    number: u64,
    steps: u64,
    last: Instant,
}

impl Noop {
    /// A device of `slots` places whose replies carry `bytes` bytes. It makes `calls` calls and
    /// then waits until it is let go on with [`Noop::allow`].
    pub fn new(seed: u64, bytes: usize, slots: usize, calls: usize) -> Self {
        Self {
            info: free("noop", 32 * 1024, slots),
            seed,
            bytes,
            agents: Mutex::default(),
            latencies: Mutex::default(),
            calls: AtomicU64::new(0),
            gate: Semaphore::new(calls),
        }
    }

    /// Lets that many more calls be made.
    pub fn allow(&self, calls: usize) {
        self.gate.add_permits(calls);
    }

    /// How many calls were asked for.
    pub fn asked(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// The times from one call of an agent to its next: a whole step of the kernel.
    pub fn latencies(&self) -> Vec<Duration> {
        let mut all = std::mem::take(&mut *lock(&self.latencies));
        all.sort_unstable();
        all
    }

    fn step(&self, agent: &str) -> Vec<u8> {
        let now = Instant::now();
        let (number, step) = {
            let mut agents = lock(&self.agents);
            let next = agents.len() as u64;
            let known = agents.contains_key(agent);
            let entry = agents.entry(agent.to_owned()).or_insert(Agent {
                number: next,
                steps: 0,
                last: now,
            });
            if known {
                lock(&self.latencies).push(now - entry.last);
            }
            entry.last = now;
            entry.steps += 1;
            (entry.number, entry.steps)
        };
        payload(self.seed, number, step, self.bytes)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Device for Noop {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn render(&self, _: &Request) -> Result<Rendered, RenderError> {
        Ok(rendered_as_nothing())
    }

    fn call<'a>(
        &'a self,
        _: &'a Rendered,
        request: &'a Request,
        _: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<Reply, CallError>> {
        Box::pin(async move {
            self.calls.fetch_add(1, Ordering::SeqCst);
            if let Ok(permit) = self.gate.acquire().await {
                permit.forget();
            }
            let bytes = self.step(&request.cache_key);
            Ok(Reply {
                parts: vec![Part::Opaque { format: "noop/bytes".into(), bytes: bytes.into() }],
                ..cut_off("noop")
            })
        })
    }
}

/// A model without prices.
pub fn free(name: &str, window: u64, slots: usize) -> DeviceInfo {
    DeviceInfo {
        name: name.to_owned(),
        model: name.to_owned(),
        window: Tokens(window),
        max_output: Tokens(1024),
        prices: Prices::default(),
        slots,
        cache: CacheRules::default(),
    }
}

/// A request of no bytes.
pub fn rendered_as_nothing() -> Rendered {
    Rendered {
        render: "1/nothing".into(),
        body: [].into(),
        prompt: Hash::of(b""),
        prompt_len: 0,
        prompt_bytes: [].into(),
        timeout: Duration::from_secs(60),
    }
}

/// A reply without parts that says that it is not whole.
pub fn cut_off(model: &str) -> Reply {
    Reply {
        parts: Vec::new(),
        stop: StopReason::Length,
        usage: Some(Usage { input: Tokens(100), output: Tokens(10), ..Usage::default() }),
        model: model.to_owned(),
        raw: None,
    }
}

/// One token for four bytes.
pub struct Quarters;

impl Tokenizer for Quarters {
    fn id(&self) -> String {
        "bytes/4".into()
    }

    fn count(&self, text: &str) -> Tokens {
        Tokens(text.len().div_ceil(4) as u64)
    }

    fn per_message(&self) -> Tokens {
        Tokens(4)
    }

    fn error(&self) -> Ppm {
        Ppm(0)
    }

    fn observe(&self, _: Tokens, _: Tokens) {}
}
