//! How a kernel behaves, and what it is built from.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{MicroDollars, Sharing, Tenant};
use aosk_ports::{
    Clock, Device, FlightRecorder, Memory, Random, Sandbox, SandboxError, Store, Tokenizer, Tool,
};
use futures::future::BoxFuture;

use crate::error::Error;
use crate::observe::Observer;
use crate::redact::Redactor;

/// How a kernel behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose processes it runs.
    pub tenant: Tenant,
    /// The name of this kernel instance, for the journal.
    pub instance: String,
    /// What all processes of this kernel may spend together; `None`: no cap of the run's own.
    pub spend_limit: Option<MicroDollars>,
    /// What a process may spend that has no limit of its own; `None`: whatever the others leave.
    pub process_limit: Option<MicroDollars>,
    /// Who shares which device with whom, and what each may use.
    pub sharing: Sharing,
    /// How calls are retried.
    pub retry: Retry,
    /// How long a graceful stop waits for calls and tools in flight before it gives them up. They
    /// are made again, or reported as interrupted, when the process is resumed.
    pub grace: Duration,
    /// How long one tool call may run.
    pub tool_timeout: Duration,
    /// The most bytes of a tool's result that the model is shown.
    pub result_budget: usize,
    /// How often the inbox is looked at while something waits in it, or where the store cannot say
    /// that something came.
    pub inbox_poll: Duration,
    /// Whether something in the inbox brings in a process that this kernel was never given. A
    /// daemon's kernel does that; a run in the foreground has its own processes and no others.
    pub adopts: bool,
    /// How many processes may be in memory at once, at least 1; the others wait in line. An image
    /// with its texts takes about as much as its prompt: 0.1 to 1 MB.
    pub resident: usize,
    /// How many steps a process makes before it leaves memory for another that waits in line.
    pub stay_steps: u64,
    /// How long a wait has to be for the process to leave memory for it. To fold a process again
    /// takes milliseconds.
    pub rest_after: Duration,
    /// The fewest events between two checkpoints of a process; the distance grows with its
    /// history, so that checkpoints cost a bounded share of the bytes written.
    pub checkpoint_events: u64,
}

impl Options {
    /// The options of a kernel of that tenant and name, with the defaults for the rest.
    #[must_use]
    pub fn new(tenant: Tenant, instance: impl Into<String>) -> Self {
        Self {
            tenant,
            instance: instance.into(),
            spend_limit: None,
            process_limit: None,
            sharing: Sharing::default(),
            retry: Retry::default(),
            grace: Duration::from_secs(4),
            tool_timeout: Duration::from_secs(120),
            result_budget: 16 * 1024,
            inbox_poll: Duration::from_millis(250),
            adopts: false,
            resident: 1024,
            stay_steps: 16,
            rest_after: Duration::from_secs(1),
            checkpoint_events: 1024,
        }
    }
}

/// How calls are retried: exponential back-off with full jitter, unless the endpoint says when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts of one call at one model, at least 1; where another model may be asked instead,
    /// [`EARLY`](Self::EARLY) at most. An endpoint that only has too much to do is asked again as
    /// often as it takes: to wait for it is no failure of the call.
    pub attempts: u32,
    /// The longest first wait; it doubles each time.
    pub base: Duration,
    /// The longest wait of the back-off; an endpoint may name a longer one, up to
    /// [`LONGEST`](Self::LONGEST).
    pub cap: Duration,
}

impl Default for Retry {
    /// 6 attempts over at most about a minute: 1, 2, 4, 8, 16 s.
    fn default() -> Self {
        Self { attempts: 6, base: Duration::from_secs(1), cap: Duration::from_secs(60) }
    }
}

impl Retry {
    /// Attempts before another model is asked: one failure may be chance, and who has an
    /// alternative need not wait out a minute of them.
    pub const EARLY: u32 = 2;

    /// The longest wait that an endpoint is believed, a day: the longest window of a provider's
    /// limits. Whoever names a longer one is asked again then, and may name it again.
    pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

    /// The wait that an endpoint named, as far as it is believed.
    pub(crate) fn believed(named: Duration) -> Duration {
        if named > Self::LONGEST {
            tracing::warn!("an endpoint asks to be left alone for {named:?}; it is asked in a day");
        }
        named.min(Self::LONGEST)
    }

    /// The wait before attempt `next` (2 is the first retry), with `random` from 0 to 65,535 as
    /// the jitter.
    #[must_use]
    pub fn wait(&self, next: u32, random: u16) -> Duration {
        let doublings = next.saturating_sub(2).min(31);
        let longest = self.base.saturating_mul(1 << doublings).min(self.cap);
        longest.mul_f64(f64::from(random) / f64::from(u16::MAX))
    }
}

/// A device with the tokenizer that counts for it.
#[derive(Clone)]
pub struct Model {
    /// The endpoint.
    pub device: Arc<dyn Device>,
    /// What counts tokens for it.
    pub tokenizer: Arc<dyn Tokenizer>,
}

/// Opens the sandbox of a process from the workspace of its manifest.
pub type OpenSandbox = dyn Fn(Option<&str>) -> Result<Arc<dyn Sandbox>, SandboxError> + Send + Sync;

/// Connects models at their first use.
pub trait Connect: Send + Sync {
    /// The model of that name.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is none, or where its endpoint cannot be used.
    fn connect<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<Model, Error>>;
}

/// What a kernel is built from.
#[derive(Clone)]
pub struct Parts {
    /// Where everything is kept. The kernel must own it.
    pub store: Arc<dyn Store>,
    /// What finds pages that left; `None`: agents recall them by number alone.
    pub memory: Option<Arc<dyn Memory>>,
    /// The models, by the name that manifests use.
    pub models: HashMap<String, Model>,
    /// Models that may be asked instead of one that fails for good, in order.
    pub alternatives: HashMap<String, Vec<String>>,
    /// The pools behind a name, each a model with its weight, at least 1: calls go to the one with the
    /// fewest for its weight, and a conversation stays where its prefix is warm within a bound.
    pub spreads: HashMap<String, Vec<(String, u32)>>,
    /// What connects models that are not among those, for kernels that do not know beforehand
    /// which they will need.
    pub connect: Option<Arc<dyn Connect>>,
    /// The tools, by name.
    pub tools: BTreeMap<String, Arc<dyn Tool>>,
    /// How a process gets at files.
    pub sandbox: Arc<OpenSandbox>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Who watches.
    pub observer: Arc<dyn Observer>,
    /// What must never be written down.
    pub secrets: Redactor,
    /// What remembers whom the kernel was executing, should it fall over.
    pub recorder: Option<Arc<dyn FlightRecorder>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_jitter_reaches_both_ends() {
        let retry =
            Retry { attempts: 9, base: Duration::from_secs(1), cap: Duration::from_secs(5) };
        let longest = |next| retry.wait(next, u16::MAX).as_secs_f64();
        assert_eq!([2, 3, 4, 5, 99].map(longest), [1.0, 2.0, 4.0, 5.0, 5.0]);
        assert_eq!(retry.wait(4, 0), Duration::ZERO);
    }

    #[test]
    fn an_endpoint_is_believed_up_to_a_day() {
        let second = Duration::from_secs(1);
        for (named, believed) in [
            (Retry::LONGEST - second, Retry::LONGEST - second),
            (Retry::LONGEST, Retry::LONGEST),
            (Retry::LONGEST + second, Retry::LONGEST),
            (Duration::MAX, Retry::LONGEST),
        ] {
            assert_eq!(Retry::believed(named), believed);
        }
    }
}
