//! `kvcache`: how many tokens of its prompts a real server evaluates, by how the context is kept.
//!
//! One scripted agent ([`agent`]) reads an archive part by part, on a real model behind a real
//! server with a real cache. First without a kernel, by a client that sends everything; what that
//! last prompt takes is the history. Then in the kernel with a share of that as the budget, under
//! each policy. What is evaluated is the input less what was read from the cache, both as the
//! server reports them.
//!
//! The policy `truncate_oldest` does what frameworks do that trim a conversation to its newest
//! messages, such as `trim_messages` of LangChain with `strategy="last"`: on every call it drops as
//! much as must go and no more, so that once the budget is full every call has its log evaluated anew.
//!
//! Every way begins its system prompt with another name, so that none finds in the server's cache
//! what another left there. The tail is off: it is evaluated in every call, whatever the policy.
//! Recall counts the parts that a call needs and that stand in its prompt. The agent has no `recall`, with
//! which it would bring back what is missing at the price of a call: what leaves is lost to it, and the
//! kernel knows that. What it needs and has it names by its mark, which the kernel sees as well.

mod agent;
mod record;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use aosk_abi::{
    CacheLife, ContextSpec, Exit, Manifest, Role, Sampling, Seq, Tenant, Tokens, ToolCalls,
    ToolResult, Usage,
};
use aosk_kernel::{
    Kernel, Model, Options, OsRandom, Outcome, Parts, Redactor, Spawn, Stop, SystemClock,
};
use aosk_llm::{Models, Remote};
use aosk_ports::{Device, Journal, Message, Part, Request, Tool};
use aosk_sandbox::NoFiles;
use aosk_store::SqliteStore;
use serde::Serialize;

use crate::report::{Failure, result, say};
use agent::{Archive, Led, Script, TOOL};
use record::{Kept, kept};

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// The address of the server, as http://127.0.0.1:8080/v1; `./x bench` starts one where none is
    /// given.
    #[arg(long)]
    url: String,
    /// How many parts the agent reads; it makes one call more.
    #[arg(long, default_value_t = 40, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(2..))]
    turns: usize,
    /// How many words a part has on average.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(2..))]
    words: u64,
    /// The budget as a share of the history.
    #[arg(long, default_value_t = 0.25, value_parser = share)]
    share: f64,
    /// The policies; several separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = ["truncate_oldest".to_owned(), "cost_aware".to_owned()])]
    policies: Vec<String>,
    /// The seed of the agent.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("give a number above 0 and up to 1".to_owned()),
    }
}

#[derive(Serialize)]
struct Row {
    name: String,
    model: String,
    turns: usize,
    words: u64,
    seed: u64,
    /// What the prompt may take, in tokens; null where nothing bounds it.
    budget: Option<u64>,
    calls: usize,
    /// The prompts together, and what of them was evaluated, as the server reports.
    prompt_tokens: u64,
    evaluated_tokens: u64,
    /// In percent: what of the prompts was read from the cache.
    hit: f64,
    /// In percent: what of the budget the prompts took as the server reports, on average over the
    /// calls whose whole history is larger than it.
    util: Option<f64>,
    /// In percent: of the older parts that were needed, those that stood in the prompt.
    recall: Option<f64>,
    needs: usize,
    evicted: usize,
    epochs: usize,
    seconds: f64,
}

/// The most tokens of a reply, which nobody reads.
const REPLY: Tokens = Tokens(4);

/// Runs the agent in each way.
pub fn run(args: &Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let script = Arc::new(Script::new(args.seed, args.turns, args.words));
    runtime.block_on(async {
        let (free, histories) = without(args, &script).await?;
        result(&free, args.json)?;
        let history = histories.last().copied().unwrap_or_default();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share")]
        let budget = (history as f64 * args.share).round() as u64;
        say(&format!("the history has {history} tokens; the budget is {budget}"));
        let mut rows = Vec::new();
        for policy in &args.policies {
            let row = within(args, &script, policy, (budget, &histories)).await?;
            result(&row, args.json)?;
            rows.push(row);
        }
        let of = |name| rows.iter().find(|row| row.name == name).map(|row| row.evaluated_tokens);
        if let (Some(ours), Some(oldest)) = (of("cost_aware"), of("truncate_oldest")) {
            let times = oldest as f64 / ours as f64;
            say(&format!("cost_aware: {times:.2} x fewer tokens evaluated than truncate_oldest"));
        }
        Ok(())
    })
}

async fn connect(args: &Args, script: &Arc<Script>) -> Result<Led, Failure> {
    let env = |name: &str| (name == "OPENAI_BASE_URL").then(|| args.url.clone());
    let (spec, endpoint) = Models::embedded().select("local", &env)?;
    // On a busy machine a prompt takes minutes.
    let patient = aosk_llm::Options {
        first_byte: std::time::Duration::from_mins(20),
        ..aosk_llm::Options::default()
    };
    Ok(Led::new(Remote::connect(spec, endpoint, patient).await?, script.clone()))
}

/// The system prompt, which begins otherwise for each way and run.
fn system(way: &str) -> String {
    let run = std::process::id();
    format!("{way} {run}: you read an archive part by part and answer when you have read it all.")
}

const TASK: &str = "Read every part of the archive, then say so.";

const SAMPLING: Sampling =
    Sampling { temperature: Some(0.0), seed: Some(1), max_output_tokens: Some(REPLY) };

/// Runs the agent without a kernel, by a client that sends everything it has; also gives the sizes of
/// its prompts, which are the whole history at each call.
async fn without(args: &Args, script: &Arc<Script>) -> Result<(Row, Vec<u64>), Failure> {
    let device = connect(args, script).await?;
    let message = |role, part| Message { role, parts: [part].into() };
    let mut messages = vec![
        message(Role::System, Part::Text(system("no_kernel").into())),
        message(Role::User, Part::Text(TASK.into())),
    ];
    let began = Instant::now();
    for call in 0..=args.turns {
        let request = Request {
            messages: messages.clone(),
            tail: None,
            tools: [Script::spec()].into(),
            may_call: true,
            tool_calls: ToolCalls::Constrained,
            max_output: REPLY,
            sampling: SAMPLING,
            cache_key: "no_kernel".to_owned(),
            slot: None,
            settled: 0,
            lasting: 0,
            life: CacheLife::Short,
        };
        let rendered = device.render(&request)?;
        let reply = device.call(&rendered, &request, &()).await.map_err(|error| {
            format!("call {call}: {error}; the whole history has to fit into the server's window")
        })?;
        messages.push(Message { role: Role::Assistant, parts: reply.parts.into() });
        if let Some(part) = script.parts.get(call) {
            let part = Part::ToolResult {
                call: format!("call-{call}").into(),
                name: TOOL.into(),
                text: ToolResult::ok(part.clone()).to_text(usize::MAX).into(),
                failed: false,
            };
            messages.push(message(Role::Tool, part));
        }
    }
    let used = device.used();
    let histories = used.iter().map(|usage| usage.input.0).collect();
    let needs = script.needs.iter().flatten().count();
    let all = Kept { needs, met: needs, ..Kept::default() };
    Ok((row(args, ("no_kernel", &device, None), &used, &all, began), histories))
}

/// Runs the agent in a kernel, under that policy and within that budget.
async fn within(
    args: &Args,
    script: &Arc<Script>,
    policy: &str,
    (budget, histories): (u64, &[u64]),
) -> Result<Row, Failure> {
    let device = Arc::new(connect(args, script).await?);
    let tokenizer = device.tokenizer()?;
    let dir = tempfile::tempdir()?;
    let command = "aosk-bench".to_owned();
    let store = SqliteStore::open(&aosk_store::Options { dir: dir.path().to_owned(), command })?;
    let store = Arc::new(store);
    let model = Model { device: device.clone(), tokenizer };
    let tool: Arc<dyn Tool> = Arc::new(Archive::of(script));
    let parts = Parts {
        store: store.clone(),
        models: HashMap::from([(device.info().name.clone(), model)]),
        recorder: None,
        memory: None,
        alternatives: HashMap::new(),
        spreads: HashMap::new(),
        connect: None,
        tools: BTreeMap::from([(TOOL.to_owned(), tool)]),
        sandbox: Arc::new(|_| Ok(Arc::new(NoFiles))),
        clock: Arc::new(SystemClock::new()),
        random: Arc::new(OsRandom),
        observer: Arc::new(()),
        secrets: Redactor::default(),
    };
    let kernel = Kernel::start(parts, Options::new(Tenant::local(), "bench"))?;
    let mut manifest = Manifest::from_toml("name = \"reader\"\n")?;
    manifest.system = system(policy);
    manifest.tools = vec![TOOL.to_owned()];
    manifest.tool_calls = ToolCalls::Constrained;
    manifest.max_steps = args.turns as u64 + 1;
    manifest.sampling = SAMPLING;
    manifest.context = ContextSpec {
        window: Some(Tokens(budget) + REPLY),
        tail: false,
        policy: policy.to_owned(),
    };
    let model = device.info().name.clone();
    let task = TASK.to_owned();
    let began = Instant::now();
    let spawn = Spawn { manifest, model, task, alias: None, parent: None };
    let pid = kernel.spawn(spawn).await?;
    let outcome = kernel.wait(pid).await;
    if !matches!(outcome, Some(Outcome::Exited(Exit::Completed { .. }))) {
        return Err(format!("under {policy} the agent ended otherwise: {outcome:?}").into());
    }
    kernel.stop(Stop::Graceful);
    let records = store.read(&Tenant::local(), pid, Seq(0), usize::MAX).await?;
    let kept = kept(&records, script)?;
    let used = device.used();
    let full = used.iter().zip(histories).filter(|(_, history)| **history > budget);
    let shares: Vec<f64> = full.map(|(usage, _)| usage.input.0 as f64 / budget as f64).collect();
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    let row = row(args, (policy, &device, Some(budget)), &used, &kept, began);
    Ok(Row { util: (!shares.is_empty()).then(|| percent(mean)), ..row })
}

fn percent(share: f64) -> f64 {
    (share * 1e4).round() / 100.0
}

fn row(
    args: &Args,
    (name, device, budget): (&str, &Led, Option<u64>),
    used: &[Usage],
    kept: &Kept,
    began: Instant,
) -> Row {
    let mut sum = Usage::default();
    used.iter().for_each(|usage| sum += *usage);
    Row {
        name: name.to_owned(),
        model: device.info().model.clone(),
        turns: args.turns,
        words: args.words,
        seed: args.seed,
        budget,
        calls: used.len(),
        prompt_tokens: sum.input.0,
        evaluated_tokens: sum.input.saturating_sub(sum.cached).0,
        hit: percent(sum.cached.0 as f64 / sum.input.0.max(1) as f64),
        util: None,
        recall: (kept.needs > 0).then(|| percent(kept.met as f64 / kept.needs as f64)),
        needs: kept.needs,
        evicted: kept.evicted,
        epochs: kept.epochs,
        seconds: (began.elapsed().as_secs_f64() * 10.0).round() / 10.0,
    }
}
