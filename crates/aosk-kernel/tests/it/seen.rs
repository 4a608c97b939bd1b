//! What the model sees: the prompts of five agents, as they were sent.
//!
//! A prompt that begins with the one before it is shown by what it adds, any other whole, so that a
//! snapshot shows at once where an endpoint's cache is broken. Long runs of lines are folded. The policy
//! is one that goes by place: what is held here is how a prompt tells of what left, not the choice.

use std::fmt::Write as _;
use std::sync::Arc;

use aosk_abi::{Code, Exit, FailureKind, Manifest, Pid, Role, Tenant};
use aosk_kernel::{Outcome, Spawn};
use aosk_ports::{Inbox, InboxItem, Message, Part, Request};

use crate::support::{Kit, Puppet, Say, failure, spawn};

/// Of more lines than this, the first and the last are shown.
const LINES: usize = 6;

/// The text, indented, with the middle of what is long left out.
fn put(out: &mut String, text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    // What the kernel says about missing parts stands between such runs.
    for run in lines.chunk_by(|a, b| !a.starts_with('[') && !b.starts_with('[')) {
        let cut = |line: &str| match line.char_indices().nth(48) {
            Some((end, _)) => format!("{} … {} bytes", &line[..end], line.len()),
            None => line.to_owned(),
        };
        if let [first, .., last] = run
            && run.len() > LINES
        {
            let bytes: usize = run.iter().map(|line| line.len() + 1).sum();
            let (first, last) = (cut(first), cut(last));
            writeln!(out, "    {first}\n    … {} lines, {bytes} bytes\n    {last}", run.len())
                .expect("a string");
        } else {
            run.iter().for_each(|line| writeln!(out, "    {}", cut(line)).expect("a string"));
        }
    }
}

fn message(out: &mut String, message: &Message) {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    writeln!(out, "  {role}").expect("a string");
    for part in message.parts.iter() {
        match part {
            Part::Text(text) => put(out, text),
            Part::ToolCall { id, name, arguments } => {
                put(out, &format!("call {id}: {name} {arguments}"));
            }
            Part::ToolResult { call, name, text, failed } => {
                let how = if *failed { "failed result" } else { "result" };
                put(out, &format!("{how} of call {call}, {name}:"));
                put(out, text);
            }
            Part::Opaque { format, bytes } => {
                put(out, &format!("opaque {format}, {} bytes", bytes.len()));
            }
        }
    }
}

/// All prompts of one agent.
fn seen<'a>(requests: impl IntoIterator<Item = &'a Request>) -> String {
    let mut out = String::new();
    let mut before: &[Message] = &[];
    for (number, request) in (1..).zip(requests) {
        let extends = !before.is_empty() && request.messages.starts_with(before);
        let how = if extends { "behind the one before" } else { "from its start" };
        writeln!(out, "prompt {number}, {how}").expect("a string");
        let new = if extends { before.len() } else { 0 };
        request.messages[new..].iter().for_each(|it| message(&mut out, it));
        if let Some(tail) = &request.tail {
            writeln!(out, "  tail\n    {tail}").expect("a string");
        }
        before = &request.messages;
    }
    out
}

fn asked(puppet: &Puppet) -> Vec<Request> {
    puppet.asked.lock().unwrap().clone()
}

fn agent(task: &str, tools: &str, more: &str) -> Spawn {
    let manifest = format!(
        "name = \"tester\"\nsystem = \"You test.\"\ntools = [{tools}]\nmax_steps = 40\n{more}\
         [context]\npolicy = \"lru\"\n"
    );
    Spawn { manifest: Manifest::from_toml(&manifest).expect("a manifest"), ..spawn(task) }
}

async fn run(puppet: Puppet, request: Spawn) -> (Kit, Pid) {
    let kit = Kit::with(puppet);
    let kernel = kit.kernel();
    let pid = kernel.spawn(request).await.expect("spawned");
    let outcome = kernel.wait(pid).await.expect("an outcome");
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    (kit, pid)
}

/// A call of which the result has 100 tokens.
fn short(name: char) -> Say {
    let text = format!("{name}{name}{name} ").repeat(99);
    Say::Call("pure", format!("{{\"say\": \"{}\"}}", text.trim_end()).leak())
}

/// A call of which the result has 3,000 tokens.
fn long(name: char) -> Say {
    Say::Call("pure", format!("{{\"lines\": \"{name}\"}}").leak())
}

#[tokio::test(start_paused = true)]
async fn a_short_chat_is_seen_as_it_was_said() {
    let script = vec![
        Say::Call("pure", r#"{"say": "391"}"#),
        Say::Text("17 x 23 is 391."),
        Say::Text("No."),
    ];
    let (kit, pid) = run(Puppet::new(script), agent("What is 17 x 23?", "\"pure\"", "")).await;
    let store = kit.store();
    let again = InboxItem::Message { from: "user".into(), text: "Is that prime?".into() };
    store.post(&Tenant::local(), pid, again).await.expect("posted");
    let kernel = kit.kernel_on(store);
    kernel.attend(pid);
    kernel.wait(pid).await.expect("an outcome");
    insta::assert_snapshot!("short_chat", seen(&asked(&kit.puppet)));
}

#[tokio::test(start_paused = true)]
async fn long_results_are_seen_in_parts_once_others_need_their_room() {
    let puppet = Puppet::new("abcde".chars().map(long).collect()).windowed(9_000).replying(200);
    let tools = "\"pure\", \"recall\"";
    let (kit, _) = run(puppet, agent("Read them all.", tools, "")).await;
    insta::assert_snapshot!("long_results", seen(&asked(&kit.puppet)));
}

#[tokio::test(start_paused = true)]
async fn what_is_recalled_is_seen_behind_the_call_that_asked() {
    let mut script: Vec<Say> = "abcdefgh".chars().map(short).collect();
    script.extend([
        Say::Call("recall", r#"{"page": 4}"#),
        Say::Call("recall", r#"{"page": 99}"#),
        Say::Text("ok"),
    ]);
    let puppet = Puppet::new(script).windowed(1_400).replying(200);
    let (kit, _) = run(puppet, agent("Read.", "\"pure\", \"recall\"", "")).await;
    insta::assert_snapshot!("recall", seen(&asked(&kit.puppet)));
}

#[tokio::test(start_paused = true)]
async fn what_is_pinned_is_seen_in_each_prompt_however_little_room_there_is() {
    let puppet = Puppet::new("abcdefgh".chars().map(short).collect()).windowed(1_800).replying(200);
    let task = "Keep this in mind, whatever happens.\n".repeat(60);
    let (kit, _) = run(puppet, agent(task.trim_end(), "\"pure\"", "")).await;
    insta::assert_snapshot!("pinned", seen(&asked(&kit.puppet)));
}

#[tokio::test(start_paused = true)]
async fn a_model_with_less_room_sees_what_fits() {
    let mut script: Vec<Say> = "abcdef".chars().map(short).collect();
    script.push(failure(FailureKind::Fatal, Code::LlmProviderQuota, None));
    let kit = Kit::new(script);
    let spare = Puppet::new(vec![short('g'), Say::Text("ok")]).named("spare").windowed(1_200);
    let spare = Arc::new(spare);
    let kernel = kit.kernel_with_spares(&[&spare]);
    let limit = "[sampling]\nmax_output_tokens = 100\n";
    let request = agent("Go on.", "\"pure\", \"recall\"", limit);
    let pid = kernel.spawn(request).await.expect("spawned");
    let outcome = kernel.wait(pid).await.expect("an outcome");
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    let (first, second) = (asked(&kit.puppet), asked(&spare));
    let last = &first[first.len() - 1..];
    insta::assert_snapshot!("smaller_window", seen(last.iter().chain(&second)));
}
