//! `kill -9` at random moments.
//!
//! A child process runs twenty agents on the embedded store. Their tools append lines to a file,
//! one of them under an idempotency key, one of them unsafe. After each commit the child writes
//! an ack to a pipe. The parent kills it again and again, with a seeded clock, and then looks at
//! what is left: nothing that was acknowledged may be missing, and no effect may be there twice
//! that must not be.
//!
//! The same again with power cuts: of what a child wrote, the disk holds what was synced, and of
//! the rest what a seed decides.
//!
//! `AOSK_KILL_ROUNDS` is the number of kills; `AOSK_KILL_SEED` the seed of their moments.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aosk_abi::{
    CacheRules, Effect, Event, Exit, Hash, Manifest, Pid, ProcessState, Seq, StopReason, Tenant,
    Tokens, ToolResult, ToolSpec, Usage, What,
};
use aosk_conformance::Power;
use aosk_kernel::{
    Image, Kernel, Model, Notice, Observer, Options, OsRandom, Outcome, Parts, Redactor, Spawn,
    SystemClock, load,
};
use aosk_ports::{
    CallError, Device, DeviceInfo, Journal, Part, Prices, Progress, RenderError, Rendered, Reply,
    Request, Tool, ToolContext,
};
use aosk_sandbox::NoFiles;
use aosk_store::{SqliteReader, SqliteStore};
use futures::future::BoxFuture;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use serde_json::json;

use crate::support::Quarters;

const AGENTS: usize = 20;
const CHILD: &str = "AOSK_KILL_CHILD";
const STEPS: &str = "AOSK_KILL_STEPS";

fn alias(agent: usize) -> String {
    format!("agent-{agent}")
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn acknowledged_events_survive_kill_9_and_no_effect_is_doubled() {
    let dir = tempfile::tempdir().expect("a folder");
    println!("{}", live_and_die("kill", dir.path(), &mut None));
}

#[test]
fn acknowledged_events_survive_power_cuts_and_no_effect_is_doubled() {
    let dir = tempfile::tempdir().expect("a folder");
    let power = Power::new(&dir.path().join("store"), dir.path());
    println!("{}", live_and_die("power", dir.path(), &mut Some(power)));
}

/// Many short lives of one store and a last one that ends by itself; with power cuts at their ends
/// where that is given. Answers what came of it, as a line of JSON.
fn live_and_die(name: &str, dir: &Path, power: &mut Option<Power>) -> String {
    let rounds = setting("AOSK_KILL_ROUNDS", 20);
    let seed = setting("AOSK_KILL_SEED", 1);
    // A child lives 100 ms on average and makes a step of each agent in some 10 ms: enough steps
    // that work is left at the last kill.
    let steps = 12 * rounds + 20;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut acked: HashMap<Pid, Seq> = HashMap::new();
    let (mut killed, mut tools_killed, mut acks, mut lost_writes) = (0, 0, 0_u64, 0);
    for round in 0..rounds {
        let environment = power.as_mut().map(Power::on);
        let mut child = start(dir, steps, environment.into_iter().flatten());
        let lives = Duration::from_millis(5 + u64::from(random.next_u32() % 200));
        let reader = collect(&mut child);
        // Every second life goes on until tools were killed in it, however slow the machine is;
        // the others may end before anything has begun.
        let at_least = 2 * (round % 2);
        tools_killed += kill_tools_of(&mut child, lives, at_least, &mut random);
        if child.try_wait().expect("a child").is_none() {
            killed += 1;
        }
        child.kill().expect("killed");
        child.wait().expect("reaped");
        let lines = reader.join().expect("the pipe's reader");
        acks += lines.len() as u64;
        note(&mut acked, &lines);
        if let Some(power) = power {
            lost_writes += power.cut(random.next_u64()).writes;
        }
        verify(dir, &acked, false);
    }
    let mut child = start(dir, steps, []);
    let reader = collect(&mut child);
    let status = child.wait().expect("ended");
    let lines = reader.join().expect("the pipe's reader");
    assert!(status.success(), "the last life ends by itself: {status}");
    acks += lines.len() as u64;
    note(&mut acked, &lines);
    let unsure = verify(dir, &acked, true);
    assert!(killed * 10 >= rounds * 9, "most children were killed while they ran");
    assert!(tools_killed >= rounds, "{tools_killed} processes of tools were killed");
    assert_eq!(lost_writes > 0, power.is_some(), "a cut that takes nothing proves nothing");
    format!(
        "{{\"name\":\"{name}\",\"rounds\":{rounds},\"seed\":{seed},\"killed\":{killed},\
         \"tools_killed\":{tools_killed},\"agents\":{AGENTS},\"acks\":{acks},\"interrupted\":{unsure},\
         \"lost_writes\":{lost_writes}}}"
    )
}

fn start(
    dir: &Path,
    steps: u64,
    environment: impl IntoIterator<Item = (&'static str, OsString)>,
) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["kill::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .env(STEPS, steps.to_string())
        .envs(environment)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child")
}

/// Kills about every second process of a tool, for that long; how many.
fn kill_tools_of(
    child: &mut Child,
    lives: Duration,
    at_least: u64,
    random: &mut ChaCha8Rng,
) -> u64 {
    let (began, mut seen, mut killed) = (Instant::now(), HashSet::new(), 0);
    while began.elapsed() < lives
        || (killed < at_least && child.try_wait().is_ok_and(|ended| ended.is_none()))
    {
        // Processes are children of the thread that started them.
        let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id()));
        let lists = tasks.into_iter().flatten().flatten().map(|task| task.path().join("children"));
        for list in lists {
            let listed = std::fs::read_to_string(list).unwrap_or_default();
            for number in listed.split_whitespace().filter_map(|number| number.parse().ok()) {
                if seen.insert(number)
                    && random.next_u32().is_multiple_of(2)
                    && let Some(tool) = rustix::process::Pid::from_raw(number)
                {
                    // It may have ended by itself.
                    let done = rustix::process::kill_process(tool, rustix::process::Signal::KILL);
                    killed += u64::from(done.is_ok());
                }
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    killed
}

fn collect(child: &mut Child) -> std::thread::JoinHandle<Vec<(Pid, Seq)>> {
    let pipe = child.stdout.take().expect("a pipe");
    std::thread::spawn(move || {
        let lines = BufReader::new(pipe).lines().map_while(Result::ok);
        lines
            .filter_map(|line| {
                let (pid, seq) = line.strip_prefix("ack ")?.split_once(' ')?;
                // The last line of a killed child may be cut; a cut number would be an ack that
                // was never given.
                let seq = seq.strip_suffix(" .")?;
                Some((pid.parse().ok()?, Seq(seq.parse().ok()?)))
            })
            .collect()
    })
}

fn note(acked: &mut HashMap<Pid, Seq>, lines: &[(Pid, Seq)]) {
    for (pid, seq) in lines {
        let known = acked.entry(*pid).or_default();
        *known = (*known).max(*seq);
    }
}

/// Checks the store and the effects; returns how many calls were cut off for good.
fn verify(dir: &Path, acked: &HashMap<Pid, Seq>, ended: bool) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut interrupted = 0;
    let effects = effects(dir);
    let Ok(store) = SqliteReader::open(&dir.join("store")) else {
        assert!(acked.is_empty(), "a store that acknowledged something can be opened");
        return 0;
    };
    let mut agents = 0;
    for pid in (0..AGENTS).map(|agent| Pid::from_alias(&alias(agent))) {
        let process = runtime.block_on(store.process(&Tenant::local(), pid)).expect("readable");
        let last = process.as_ref().map(|process| process.next);
        if let Some(acked) = acked.get(&pid) {
            assert!(last > Some(*acked), "{pid}: acknowledged up to {acked}, found {last:?}");
        }
        if process.is_none() {
            continue;
        }
        agents += 1;
        let events = runtime.block_on(events(&store, pid));
        for (op, tool, requests, outcome) in calls(&events) {
            let lines = effects.get(&format!("{tool} {pid}-{op}")).copied().unwrap_or(0);
            assert!(lines <= 1, "{pid}-{op}: {lines} effects of one call of {tool}");
            if outcome == Some(End::Done) {
                assert_eq!(lines, 1, "{pid}-{op}: {tool} said that it was done");
            }
            match tool.as_str() {
                "keyed" => assert_ne!(outcome, Some(End::Interrupted), "{pid}-{op}: may run again"),
                _ => assert_eq!(requests, 1, "{pid}-{op}: an unsafe tool is requested once"),
            }
            interrupted += usize::from(outcome == Some(End::Interrupted));
            assert!(outcome.is_some() || !ended, "{pid}-{op} has no outcome");
        }
        if ended {
            let image = runtime.block_on(load(&store, &Tenant::local(), pid, None)).unwrap();
            assert!(
                matches!(&image.state, ProcessState::Exited { exit: Exit::Completed { .. } }),
                "{:?}",
                image.state
            );
        }
    }
    assert!(agents == AGENTS || !ended, "{agents} agents");
    interrupted
}

/// The events of a process; folds them and checks the chain on the way.
async fn events(store: &SqliteReader, pid: Pid) -> Vec<Event> {
    let tenant = Tenant::local();
    let records = store.read(&tenant, pid, Seq(0), usize::MAX).await.expect("a sound chain");
    let mut head = Hash::ZERO;
    for record in &records {
        record.verify(&tenant, pid, head).expect("a sound chain");
        head = record.hash;
    }
    let mut image = Image::begin(&tenant, pid, &records[0]).expect("spawned");
    for record in &records[1..] {
        image.apply(record).expect("folds");
    }
    let resumed = load(store, &tenant, pid, None).await.expect("folds from its checkpoint");
    assert!(resumed == image, "the fold from the checkpoint differs");
    records.iter().map(|record| record.decode().expect("readable")).collect()
}

/// How a call of a tool ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    Failed,
    Interrupted,
}

/// Tool calls: operation, tool, how often requested, and how it ended.
fn calls(events: &[Event]) -> Vec<(u64, String, usize, Option<End>)> {
    let mut calls: BTreeMap<u64, (String, usize, Option<End>)> = BTreeMap::new();
    for event in events {
        match &event.what {
            What::ToolRequested(requested) => {
                let call = calls.entry(requested.op.0).or_default();
                call.0.clone_from(&requested.tool);
                call.1 += 1;
            }
            What::ToolReturned(returned) => {
                let end = if returned.success { End::Done } else { End::Failed };
                calls.entry(returned.op.0).or_default().2 = Some(end);
            }
            What::Interrupted(interrupted) => {
                calls.entry(interrupted.op.0).or_default().2 = Some(End::Interrupted);
            }
            _ => {}
        }
    }
    calls.into_iter().map(|(op, (tool, requests, end))| (op, tool, requests, end)).collect()
}

fn effects(dir: &Path) -> HashMap<String, usize> {
    let mut lines = HashMap::new();
    let text = std::fs::read_to_string(dir.join("effects")).unwrap_or_default();
    for line in text.lines() {
        *lines.entry(line.to_owned()).or_default() += 1;
    }
    lines
}

/// The child: twenty agents, from where the last life left them. Not a test of its own.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let steps = setting(STEPS, 0);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(live(Path::new(&dir), steps));
}

async fn live(dir: &Path, steps: u64) {
    let options =
        aosk_store::Options { dir: dir.join("store"), command: "the kill test".to_owned() };
    // The kernel of the last life may still be on its way out.
    let began = Instant::now();
    let store = loop {
        match SqliteStore::open(&options) {
            Ok(store) => break store,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(10), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    let kernel = kernel(store, dir);
    let mut pids = kernel.recover().await.expect("listed");
    let reader = SqliteReader::open(&options.dir).expect("a reader");
    for agent in 0..AGENTS {
        let pid = Pid::from_alias(&alias(agent));
        let there = reader.process(&Tenant::local(), pid).await.expect("readable").is_some();
        if !there {
            pids.push(kernel.spawn(agent_of(agent, steps)).await.expect("spawned"));
        }
    }
    for (pid, outcome) in kernel.wait_each(&pids).await {
        assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{pid}: {outcome:?}");
    }
}

fn agent_of(agent: usize, steps: u64) -> Spawn {
    let manifest = format!(
        "name = \"{}\"\ntools = [\"child\", \"keyed\", \"unsafe\"]\nmax_steps = {}\n",
        alias(agent),
        steps + 1
    );
    Spawn {
        manifest: Manifest::from_toml(&manifest).expect("a manifest"),
        model: "clockwork".into(),
        task: format!("{steps}"),
        alias: Some(alias(agent)),
        parent: None,
    }
}

fn kernel(store: SqliteStore, dir: &Path) -> Kernel {
    let model = Model { device: Arc::new(Clockwork::new()), tokenizer: Arc::new(Quarters) };
    let spec = |name: &str, effect| ToolSpec {
        name: name.into(),
        description: "appends a line".into(),
        parameters: json!({"type": "object"}),
        effect,
    };
    let path = dir.join("effects");
    let appender = |name: &str, effect| {
        let tool: Arc<dyn Tool> =
            Arc::new(Appender { spec: spec(name, effect), path: path.clone() });
        (name.to_owned(), tool)
    };
    let child: Arc<dyn Tool> =
        Arc::new(Spawner { spec: spec("child", Effect::Unsafe), path: path.clone() });
    let tools = [
        ("child".to_owned(), child),
        appender("keyed", Effect::Idempotent),
        appender("unsafe", Effect::Unsafe),
    ];
    let parts = Parts {
        store: Arc::new(store),
        models: HashMap::from([("clockwork".to_owned(), model)]),
        recorder: None,
        memory: None,
        alternatives: HashMap::new(),
        spreads: HashMap::new(),
        connect: None,
        tools: tools.into_iter().collect(),
        sandbox: Arc::new(|_| Ok(Arc::new(NoFiles))),
        clock: Arc::new(SystemClock::new()),
        random: Arc::new(OsRandom),
        observer: Arc::new(Acks),
        secrets: Redactor::default(),
    };
    let mut options = Options::new(Tenant::local(), "kill test");
    options.checkpoint_events = 40;
    Kernel::start(parts, options).expect("a kernel")
}

/// Writes an ack to the pipe after each commit.
struct Acks;

impl Observer for Acks {
    fn notice(&self, pid: Pid, notice: &Notice<'_>) {
        if let Notice::Committed { last, .. } = notice {
            let line = format!("ack {pid} {last} .\n");
            std::io::stdout().write_all(line.as_bytes()).expect("a pipe");
        }
    }
}

/// Appends its idempotency key to a file; under `keyed` only if it is not there yet.
struct Appender {
    spec: ToolSpec,
    path: PathBuf,
}

impl Tool for Appender {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn isolation(&self) -> &'static str {
        "none"
    }

    fn call(
        &self,
        context: ToolContext,
        _: serde_json::Map<String, serde_json::Value>,
    ) -> BoxFuture<'static, ToolResult> {
        let line = format!("{} {}\n", self.spec.name, context.idempotency_key);
        let (path, keyed) = (self.path.clone(), self.spec.effect == Effect::Idempotent);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let there = || std::fs::read_to_string(&path).is_ok_and(|text| text.contains(&line));
            if !keyed || !there() {
                let mut file =
                    std::fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
                // One write: a kill comes before it or after it.
                assert_eq!(file.write(line.as_bytes()).unwrap(), line.len());
            }
            ToolResult::ok(line.trim())
        })
    }
}

/// Has a process of its own append its idempotency key to a file.
struct Spawner {
    spec: ToolSpec,
    path: PathBuf,
}

impl Tool for Spawner {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn isolation(&self) -> &'static str {
        "none"
    }

    fn call(
        &self,
        context: ToolContext,
        _: serde_json::Map<String, serde_json::Value>,
    ) -> BoxFuture<'static, ToolResult> {
        let line = format!("{} {}", self.spec.name, context.idempotency_key);
        let mut command = tokio::process::Command::new("sh");
        // One write: a kill comes before it or after it.
        command.args(["-c", r#"sleep 0.004; echo "$0" >>"$1""#, &line]).arg(&self.path);
        // What watches the writes of the store has no business there.
        command.env_remove("LD_PRELOAD").stdin(Stdio::null()).stdout(Stdio::null());
        Box::pin(async move {
            match command.status().await {
                Ok(status) if status.success() => ToolResult::ok(line),
                Ok(status) => ToolResult::failed("died", status.to_string(), "go on"),
                Err(error) => ToolResult::failed("not_started", error.to_string(), "go on"),
            }
        })
    }
}

/// A model without a memory of its own: what it says follows from the conversation alone, so that
/// it says the same after every restart. It calls a tool in each step and ends after as many steps
/// as the task says.
struct Clockwork(DeviceInfo);

impl Clockwork {
    fn new() -> Self {
        Self(DeviceInfo {
            name: "clockwork".into(),
            model: "clockwork".into(),
            window: Tokens(2048),
            max_output: Tokens(64),
            prices: Prices::default(),
            slots: AGENTS,
            cache: CacheRules::default(),
        })
    }
}

impl Device for Clockwork {
    fn info(&self) -> &DeviceInfo {
        &self.0
    }

    fn render(&self, request: &Request) -> Result<Rendered, RenderError> {
        let prompt: String =
            request.messages.iter().map(|message| format!("{message:?}\n")).collect();
        Ok(Rendered {
            render: "1/clockwork".into(),
            body: request.tail.clone().unwrap_or_default().into_bytes().into(),
            prompt: Hash::of(prompt.as_bytes()),
            prompt_len: prompt.len() as u64,
            prompt_bytes: prompt.into_bytes().into(),
            timeout: Duration::from_secs(10),
        })
    }

    fn call<'a>(
        &'a self,
        rendered: &'a Rendered,
        _: &'a Request,
        _: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<Reply, CallError>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            // The tail counts the steps: "[now … | step 3 of 41]".
            let tail = String::from_utf8_lossy(&rendered.body);
            let number = |word: &str| {
                let after = tail.split(word).nth(1).expect("a tail");
                let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
                digits.parse::<u64>().expect("a number")
            };
            let (step, of) = (number("step "), number(" of "));
            let usage = Usage { input: Tokens(9), output: Tokens(1), ..Usage::default() };
            let (part, stop) = if step >= of {
                (Part::Text("done".into()), StopReason::Stop)
            } else {
                let name = match step % 6 {
                    0 | 3 => "unsafe",
                    1 => "child",
                    _ => "keyed",
                };
                let id = format!("c{step}").into();
                let call = Part::ToolCall { id, name: name.into(), arguments: "{}".into() };
                (call, StopReason::ToolCalls)
            };
            Ok(Reply {
                parts: vec![part],
                stop,
                usage: Some(usage),
                model: String::new(),
                raw: None,
            })
        })
    }
}
