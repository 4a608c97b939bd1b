//! A kernel for tests: the simulator's store and clock, a puppet for a model, tools that count.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aosk_abi::{
    CacheRules, Code, Effect, Event, FailureKind, Hash, Manifest, MicroDollars, Pid, Ppm, Seq,
    StopReason, Tenant, Timestamp, Tokens, ToolResult, ToolSpec, Usage, What,
};
use aosk_kernel::{
    Connect, Error, Image, Kernel, Model, Notice, Observer, Options, Outcome, Parts, Redactor,
    Spawn, Warned, load,
};
use aosk_ports::{
    CallError, Clock, Demand, Device, DeviceInfo, FlightRecorder, Journal, Part, Prices, Progress,
    RateLimits, RenderError, Rendered, Reply, Request, ServerLoad, Store, Tokenizer, Tool,
    ToolContext,
};
use aosk_sandbox::NoFiles;
use aosk_sim::{Disk, DiskFaults, MemoryStore, Power, SeededRandom, SimClock};
use futures::future::BoxFuture;
use serde_json::json;

/// What the puppet does when it is asked.
#[derive(Debug, Clone)]
pub enum Say {
    Text(&'static str),
    Call(&'static str, &'static str),
    Calls(Vec<(&'static str, &'static str)>),
    Cut(&'static str),
    Refuse(&'static str),
    Fail(CallError),
    Hang,
    Full(Reply),
}

/// A reply as long as it may be.
pub fn whole() -> Say {
    let usage = Usage { input: Tokens(100), output: Tokens(256), ..Usage::default() };
    Say::Full(Reply {
        parts: vec![Part::Text("done".into())],
        stop: StopReason::Stop,
        usage: Some(usage),
        model: "puppet-1".into(),
        raw: None,
    })
}

pub fn failure(kind: FailureKind, code: Code, retry_after: Option<Duration>) -> Say {
    let message = format!("the puppet fails with {code}");
    // Whoever refuses knows that nothing was used; a call that breaks off tells nothing.
    let usage = (kind != FailureKind::Transient).then(Usage::default);
    Say::Fail(CallError { kind, code, message, retry_after, usage })
}

/// A device that says what it is told, in order, and then "done".
pub struct Puppet {
    info: DeviceInfo,
    script: Mutex<VecDeque<Say>>,
    pub asked: Mutex<Vec<Request>>,
    pub prompts: Mutex<Vec<Rendered>>,
    in_flight: AtomicUsize,
    pub peak: AtomicUsize,
    pub takes: Duration,
    /// What it says of its limits, with one call each.
    pub limits: Mutex<Vec<RateLimits>>,
    /// Whether it takes no temperature.
    pub is_set: bool,
    /// What it says instead of the script, by what it is asked.
    pub says: Option<fn(&Request) -> Say>,
    /// What its server says of its load; `None`: it cannot be asked.
    pub load: Mutex<Option<ServerLoad>>,
    /// How many slots calls may name one of.
    pub kv_slots: Option<usize>,
}

impl Puppet {
    pub fn new(script: Vec<Say>) -> Self {
        Self {
            info: DeviceInfo {
                name: "puppet".into(),
                model: "puppet-1".into(),
                window: Tokens(4096),
                max_output: Tokens(256),
                prices: Prices::default(),
                slots: 4,
                cache: CacheRules::default(),
            },
            script: Mutex::new(script.into()),
            asked: Mutex::default(),
            prompts: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            takes: Duration::from_millis(10),
            limits: Mutex::default(),
            is_set: false,
            says: None,
            load: Mutex::default(),
            kv_slots: None,
        }
    }

    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Says whatever what it is asked leads to.
    pub fn saying(mut self, says: fn(&Request) -> Say) -> Self {
        self.says = Some(says);
        self
    }

    /// Says this, too.
    pub fn say(&self, more: impl IntoIterator<Item = Say>) {
        self.script.lock().unwrap().extend(more);
    }

    pub fn without_temperature(mut self) -> Self {
        self.is_set = true;
        self
    }

    pub fn replying(mut self, max_output: u64) -> Self {
        self.info.max_output = Tokens(max_output);
        self
    }

    pub fn priced(mut self) -> Self {
        // A dollar for a thousand tokens, so that sums are easy to see.
        let dollar = MicroDollars(1_000_000_000);
        self.info.prices = Prices {
            input: dollar,
            cached: dollar,
            cache_write: dollar,
            cache_write_long: dollar,
            output: dollar,
        };
        self
    }

    /// A call of the greatest reply costs a cent, whatever goes in.
    pub fn a_cent(mut self) -> Self {
        let (max_output, cent) = (self.info.max_output.0, 10_000);
        let output = MicroDollars(cent * 1_000_000 / max_output);
        self.info.prices = Prices { output, ..Prices::default() };
        self
    }

    pub fn named(mut self, name: &str) -> Self {
        self.info.name = name.to_owned();
        self
    }

    pub fn windowed(mut self, window: u64) -> Self {
        self.info.window = Tokens(window);
        self
    }

    pub fn keeping(mut self, cache: Duration) -> Self {
        self.info.cache.ttl_ms = Some(cache.as_millis() as u64);
        self
    }

    /// Keeps what is marked for five minutes or, where a call asks for that, for an hour, at the
    /// prices that one provider takes.
    pub fn keeping_long(mut self) -> Self {
        self.info.cache = CacheRules {
            long_ttl_ms: Some(3_600_000),
            marked: true,
            minimum: Tokens(1_024),
            ttl_ms: Some(300_000),
        };
        self.info.prices = Prices {
            input: MicroDollars(1_000_000),
            cached: MicroDollars(100_000),
            cache_write: MicroDollars(1_250_000),
            cache_write_long: MicroDollars(2_000_000),
            output: MicroDollars(5_000_000),
        };
        self
    }

    pub fn prices(&self) -> Prices {
        self.info.prices
    }

    pub fn slots(mut self, slots: usize) -> Self {
        self.info.slots = slots;
        self
    }
}

fn reply(parts: Vec<Part>, stop: StopReason) -> Reply {
    let usage = Usage { input: Tokens(100), output: Tokens(10), ..Usage::default() };
    Reply { parts, stop, usage: Some(usage), model: "puppet-1".into(), raw: None }
}

impl Device for Puppet {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn accepts(&self, demand: &Demand<'_>) -> Result<(), RenderError> {
        if self.is_set && demand.sampling.temperature.is_some() {
            return Err(RenderError("puppet-1 takes no `temperature`".into()));
        }
        Ok(())
    }

    fn render(&self, request: &Request) -> Result<Rendered, RenderError> {
        let prompt: String =
            request.messages.iter().map(|message| format!("{message:?}\n")).collect();
        let body = format!("{prompt}{:?}", request.tail);
        Ok(Rendered {
            render: "1/puppet".into(),
            body: body.into_bytes().into(),
            prompt: Hash::of(prompt.as_bytes()),
            prompt_len: prompt.len() as u64,
            prompt_bytes: prompt.into_bytes().into(),
            timeout: Duration::from_secs(60),
        })
    }

    fn call<'a>(
        &'a self,
        rendered: &'a Rendered,
        request: &'a Request,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<Reply, CallError>> {
        Box::pin(async move {
            self.asked.lock().unwrap().push(request.clone());
            self.prompts.lock().unwrap().push(rendered.clone());
            let said = self.limits.lock().unwrap().pop();
            said.iter().for_each(|said| progress.limits(said));
            let say = match self.says {
                Some(says) => says(request),
                None => self.script.lock().unwrap().pop_front().unwrap_or(Say::Text("done")),
            };
            let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
            self.peak.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(self.takes).await;
            if matches!(say, Say::Hang) {
                std::future::pending::<()>().await;
            }
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            let call = |(index, (name, arguments)): (usize, (&str, &str))| Part::ToolCall {
                id: format!("c{index}").into(),
                name: name.into(),
                arguments: arguments.into(),
            };
            match say {
                Say::Text(text) => Ok(reply(vec![Part::Text(text.into())], StopReason::Stop)),
                Say::Call(name, arguments) => {
                    Ok(reply(vec![call((0, (name, arguments)))], StopReason::ToolCalls))
                }
                Say::Calls(calls) => Ok(reply(
                    calls.into_iter().enumerate().map(call).collect(),
                    StopReason::ToolCalls,
                )),
                Say::Cut(text) => Ok(reply(vec![Part::Text(text.into())], StopReason::Length)),
                Say::Refuse(text) => Ok(reply(vec![Part::Text(text.into())], StopReason::Refusal)),
                Say::Fail(error) => Err(error),
                Say::Full(reply) => Ok(reply),
                Say::Hang => unreachable!("it hangs"),
            }
        })
    }

    fn kv_slots(&self) -> Option<usize> {
        self.kv_slots
    }

    fn load(&self) -> Option<BoxFuture<'_, Option<ServerLoad>>> {
        let load = (*self.load.lock().unwrap())?;
        Some(Box::pin(async move { Some(load) }))
    }
}

/// Four characters a token, exactly.
pub struct Quarters;

impl Tokenizer for Quarters {
    fn id(&self) -> String {
        "quarters".into()
    }

    fn count(&self, text: &str) -> Tokens {
        assert!(!text.contains("boom"), "a part of the kernel that fails inside itself");
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

/// A token for each byte.
pub struct Bytes;

impl Tokenizer for Bytes {
    fn id(&self) -> String {
        "bytes".into()
    }

    fn count(&self, text: &str) -> Tokens {
        Tokens(text.len() as u64)
    }

    fn per_message(&self) -> Tokens {
        Tokens(4)
    }

    fn error(&self) -> Ppm {
        Ppm(0)
    }

    fn observe(&self, _: Tokens, _: Tokens) {}
}

/// A tool that counts its calls by idempotency key.
pub struct Counter {
    spec: ToolSpec,
    takes: Duration,
    isolation: &'static str,
    pub calls: Mutex<BTreeMap<String, usize>>,
}

impl Counter {
    pub fn new(name: &str, effect: Effect, takes: Duration) -> Arc<Self> {
        let spec = ToolSpec {
            name: name.into(),
            description: format!("counts {name}"),
            parameters: json!({"type": "object"}),
            effect,
        };
        Arc::new(Self { spec, takes, isolation: "none", calls: Mutex::default() })
    }

    /// One that says it reaches files through the sandbox only.
    pub fn sandboxed(name: &str) -> Arc<Self> {
        let spec = Self::new(name, Effect::Pure, Duration::ZERO).spec.clone();
        let (takes, calls) = (Duration::ZERO, Mutex::default());
        Arc::new(Self { spec, takes, isolation: "workspace", calls })
    }

    pub fn total(&self) -> usize {
        self.calls.lock().unwrap().values().sum()
    }
}

impl Tool for Counter {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn isolation(&self) -> &'static str {
        self.isolation
    }

    fn call(
        &self,
        context: ToolContext,
        arguments: serde_json::Map<String, serde_json::Value>,
    ) -> BoxFuture<'static, ToolResult> {
        *self.calls.lock().unwrap().entry(context.idempotency_key).or_default() += 1;
        assert!(!arguments.contains_key("panic at once"), "a tool that fails before it begins");
        let takes = self.takes;
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            assert!(!arguments.contains_key("panic"), "a tool that fails inside itself");
            match (arguments.get("say"), arguments.get("lines").and_then(|name| name.as_str())) {
                (Some(text), _) => ToolResult::ok(text.clone()),
                (None, Some(name)) => ToolResult::ok(lines(name)),
                (None, None) => ToolResult::ok("counted"),
            }
        })
    }
}

/// A text of 12,000 bytes in lines, for a name of one letter: as a result it has 3,000 tokens.
pub fn lines(name: &str) -> String {
    (0..500).map(|line| format!("{line:03} {}\n", name.repeat(19))).collect()
}

/// Connects the puppet, by its name and no other.
struct Connector {
    model: Model,
    times: Arc<AtomicUsize>,
}

impl Connect for Connector {
    fn connect<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<Model, Error>> {
        Box::pin(async move {
            if model != "puppet" {
                let message = format!("there is no model {model:?}");
                return Err(Error::Refused { code: Code::LlmUnknownModel, message });
            }
            self.times.fetch_add(1, Ordering::SeqCst);
            Ok(self.model.clone())
        })
    }
}

/// Keeps what a kernel told.
#[derive(Default)]
pub struct Watcher {
    pub happened: Mutex<Vec<(Pid, Seq, Event)>>,
    pub committed: Mutex<HashMap<Pid, Seq>>,
    pub warned: Mutex<Vec<Warned>>,
}

impl Observer for Watcher {
    fn notice(&self, pid: Pid, notice: &Notice<'_>) {
        match notice {
            Notice::Happened { seq, event } => {
                self.happened.lock().unwrap().push((pid, *seq, (*event).clone()));
            }
            Notice::Committed { last, .. } => {
                self.committed.lock().unwrap().insert(pid, *last);
            }
            Notice::Streaming(_) | Notice::Waiting(_) => {}
        }
    }

    fn warned(&self, warned: &Warned) {
        self.warned.lock().unwrap().push(warned.clone());
    }
}

/// A machine for tests: its disk outlives the kernels that run on it.
pub struct Kit {
    pub disk: Disk,
    pub puppet: Arc<Puppet>,
    pub pure: Arc<Counter>,
    pub keyed: Arc<Counter>,
    pub unsafe_: Arc<Counter>,
    pub slow: Arc<Counter>,
    pub watcher: Arc<Watcher>,
    pub options: Options,
    clock: SimClock,
    lives: AtomicUsize,
    /// Open all the time, so that others are opened beside it and disturb nobody.
    open: MemoryStore,
}

impl Kit {
    /// The time on the kernel's wall.
    pub fn clock_now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn new(script: Vec<Say>) -> Self {
        Self::with(Puppet::new(script))
    }

    pub fn with(puppet: Puppet) -> Self {
        let counter = |name, effect| Counter::new(name, effect, Duration::from_millis(5));
        let disk = Disk::new(1);
        let open = MemoryStore::open(&disk, DiskFaults::calm(), Power::on());
        Self {
            disk,
            puppet: Arc::new(puppet),
            pure: counter("pure", Effect::Pure),
            keyed: counter("keyed", Effect::Idempotent),
            unsafe_: counter("unsafe", Effect::Unsafe),
            slow: Counter::new("slow", Effect::Unsafe, Duration::from_secs(3600)),
            watcher: Arc::default(),
            options: Options::new(Tenant::local(), "test"),
            clock: SimClock::boot(1, Duration::ZERO),
            lives: AtomicUsize::new(0),
            open,
        }
    }

    /// The store as another program opens it while those that are open live on.
    pub fn store(&self) -> MemoryStore {
        self.open.beside()
    }

    /// The store of a machine with a power of its own, after all others are dead or at rest.
    pub fn boot(&self) -> MemoryStore {
        MemoryStore::open(&self.disk, DiskFaults::calm(), Power::on())
    }

    pub fn kernel(&self) -> Kernel {
        self.kernel_on(self.store())
    }

    pub fn kernel_on(&self, store: impl Store + 'static) -> Kernel {
        self.kernel_of(store, |_| {})
    }

    /// A kernel to which no endpoint is connected.
    pub fn kernel_without_models(&self) -> Kernel {
        self.kernel_of(self.store(), |parts| parts.models.clear())
    }

    /// A kernel with further models, which may be asked in this order instead of the puppet.
    pub fn kernel_with_spares(&self, spares: &[&Arc<Puppet>]) -> Kernel {
        let all = spares.iter().copied().chain([&self.puppet]);
        let models = all.map(|puppet| {
            let model = Model { device: puppet.clone(), tokenizer: Arc::new(Quarters) };
            (puppet.info.name.clone(), model)
        });
        let names = spares.iter().map(|puppet| puppet.info.name.clone()).collect();
        self.kernel_of(self.store(), |parts| {
            parts.models = models.collect();
            parts.alternatives = HashMap::from([("puppet".to_owned(), names)]);
        })
    }

    /// A kernel that connects the puppet when it is asked for, and how often it was.
    pub fn kernel_that_connects(&self) -> (Kernel, Arc<AtomicUsize>) {
        let connector = Arc::new(Connector { model: self.model(), times: Arc::default() });
        let times = connector.times.clone();
        let kernel = self.kernel_of(self.store(), |parts| {
            parts.models.clear();
            parts.connect = Some(connector);
        });
        (kernel, times)
    }

    /// A kernel with a flight recorder.
    pub fn kernel_recorded_by(&self, recorder: Arc<dyn FlightRecorder>) -> Kernel {
        self.kernel_of(self.store(), |parts| parts.recorder = Some(recorder))
    }

    fn model(&self) -> Model {
        Model { device: self.puppet.clone(), tokenizer: Arc::new(Quarters) }
    }

    /// A kernel of which the test sets what it likes.
    pub fn kernel_of(&self, store: impl Store + 'static, set: impl FnOnce(&mut Parts)) -> Kernel {
        Kernel::start(self.parts(store, set), self.options.clone()).expect("a kernel")
    }

    pub fn parts(&self, store: impl Store + 'static, set: impl FnOnce(&mut Parts)) -> Parts {
        let tools = [&self.pure, &self.keyed, &self.unsafe_, &self.slow]
            .map(|tool| (tool.spec.name.clone(), tool.clone() as Arc<dyn Tool>));
        let life = self.lives.fetch_add(1, Ordering::SeqCst) as u64;
        let mut parts = Parts {
            store: Arc::new(store),
            models: HashMap::from([("puppet".to_owned(), self.model())]),
            memory: None,
            alternatives: HashMap::new(),
            spreads: HashMap::new(),
            connect: None,
            tools: tools.into_iter().collect(),
            sandbox: Arc::new(|_| Ok(Arc::new(NoFiles))),
            clock: Arc::new(self.clock.clone()),
            random: Arc::new(SeededRandom::new(life)),
            observer: self.watcher.clone(),
            secrets: Redactor::new(["sk-canary-0123456789"]),
            recorder: None,
        };
        set(&mut parts);
        parts
    }

    /// Runs one process to where the kernel lets go of it.
    pub async fn run(&self) -> (Pid, Outcome) {
        let kernel = self.kernel();
        let pid = kernel.spawn(spawn("do it")).await.expect("spawned");
        (pid, kernel.wait(pid).await.expect("an outcome"))
    }

    /// The image, folded from its whole journal; checked against the fold from its checkpoint.
    pub async fn image(&self, pid: Pid) -> Image {
        let store = self.store();
        let image = load(&store, &Tenant::local(), pid, None).await.expect("folds");
        let records =
            store.read(&Tenant::local(), pid, Seq(0), usize::MAX).await.expect("readable");
        let mut whole = Image::begin(&Tenant::local(), pid, &records[0]).expect("spawned");
        for record in &records[1..] {
            record.verify(&Tenant::local(), pid, whole.head).expect("chained");
            whole.apply(record).expect("folds");
        }
        assert!(image == whole, "the fold from a checkpoint differs from the whole fold");
        image
    }

    /// The events of a process, from the store.
    pub async fn events(&self, pid: Pid) -> Vec<What> {
        let store = self.store();
        let records =
            store.read(&Tenant::local(), pid, Seq(0), usize::MAX).await.expect("readable");
        records.iter().map(|record| record.decode().expect("readable").what).collect()
    }

    /// The events' names.
    pub async fn names(&self, pid: Pid) -> Vec<&'static str> {
        self.events(pid).await.iter().map(|what| what.kind().name()).collect()
    }

    /// The text of a content that an event of the process names.
    pub async fn text(&self, pid: Pid, content: aosk_abi::ContentRef) -> String {
        let store = self.store();
        let end = self.image(pid).await.next;
        for seq in 0..end.0 {
            let found = store.contents(&Tenant::local(), pid, &[(Seq(seq), content.hash)]).await;
            if let Ok(found) = found {
                return String::from_utf8_lossy(&found[0]).into_owned();
            }
        }
        panic!("no event of {pid} carries {content:?}");
    }
}

pub fn manifest() -> Manifest {
    Manifest::from_toml(
        "name = \"tester\"\nsystem = \"You test.\"\ntools = [\"pure\", \"keyed\", \"unsafe\", \
         \"slow\"]\nmax_steps = 8\n",
    )
    .expect("a manifest")
}

pub fn spawn(task: &str) -> Spawn {
    Spawn {
        manifest: manifest(),
        model: "puppet".into(),
        task: task.into(),
        alias: None,
        parent: None,
    }
}
