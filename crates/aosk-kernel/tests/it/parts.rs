//! Long contents: pages of their own, which leave and come back one by one.

use std::time::Duration;

use aosk_abi::{Exit, Manifest, PageKind, Pid, Planned, Role, Tokens, What};
use aosk_kernel::{Outcome, Spawn};
use aosk_ports::{Inbox, InboxItem, Message, Part, Request};

use crate::support::{Kit, Puppet, Say, lines, spawn};

/// A call with a result of 3,000 tokens.
fn long(name: char) -> Say {
    Say::Call("pure", format!("{{\"lines\": \"{name}\"}}").leak())
}

fn manifest(tools: &str, policy: &str) -> Manifest {
    Manifest::from_toml(&format!(
        "name = \"tester\"\ntools = [{tools}]\nmax_steps = 40\n[context]\npolicy = \"{policy}\"\n"
    ))
    .expect("a manifest")
}

const READS: &str = "\"pure\", \"recall\"";

/// A window in which two of the results fit, and not three.
fn puppet(script: Vec<Say>) -> Puppet {
    Puppet::new(script).windowed(WINDOW.0).replying(200)
}

const WINDOW: Tokens = Tokens(9_000);

async fn run(tools: &str, policy: &str, script: Vec<Say>) -> (Kit, Pid) {
    let kit = Kit::with(puppet(script));
    let kernel = kit.kernel();
    let request = Spawn { manifest: manifest(tools, policy), ..spawn("do it") };
    let pid = kernel.spawn(request).await.expect("spawned");
    let outcome = kernel.wait(pid).await.expect("an outcome");
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    (kit, pid)
}

fn asked(kit: &Kit) -> Vec<Request> {
    kit.puppet.asked.lock().unwrap().clone()
}

async fn plans(kit: &Kit, pid: Pid) -> Vec<Planned> {
    let events = kit.events(pid).await.into_iter();
    events
        .filter_map(|what| match what {
            What::Planned(planned) => Some(planned),
            _ => None,
        })
        .collect()
}

fn results(messages: &[Message]) -> Vec<(String, String)> {
    let parts = messages.iter().flat_map(|message| message.parts.iter());
    parts
        .filter_map(|part| match part {
            Part::ToolResult { call, text, .. } => Some((call.to_string(), text.to_string())),
            _ => None,
        })
        .collect()
}

/// Each call is followed by its result, and no result stands without its call.
fn calls_have_their_results(messages: &[Message]) {
    let mut open: Vec<String> = Vec::new();
    for message in messages {
        for part in message.parts.iter() {
            match part {
                Part::ToolCall { id, .. } => open.push(id.to_string()),
                Part::ToolResult { call, .. } => assert_eq!(open.pop().as_deref(), Some(&**call)),
                _ => assert_eq!(open, Vec::<String>::new()),
            }
        }
    }
    assert_eq!(open, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_long_result_is_cut_at_line_ends_and_shown_as_it_is() {
    let (kit, pid) = run(READS, "lru", vec![long('a'), Say::Text("ok")]).await;
    let text = results(&asked(&kit)[1].messages)[0].1.clone();
    assert_eq!(text, lines("a"), "what is whole is as it was");
    let plan = &plans(&kit, pid).await[1];
    let pages: Vec<_> = plan.admitted.iter().filter(|it| it.kind == PageKind::ToolResult).collect();
    assert!(pages.len() > 3, "{pages:?}");
    let mut end = 0;
    for page in pages {
        let (start, length) = page.range.expect("a part");
        assert_eq!(start, end);
        end = start + length;
        assert!(text[..end as usize].ends_with('\n') && page.tokens <= Tokens(1_024), "{page:?}");
        assert!(start > 0 || length <= 4 * 128, "the first is short");
    }
    assert_eq!(end, 12_000);
}

#[tokio::test(start_paused = true)]
async fn what_the_model_says_itself_is_one_page() {
    let long = Say::Call("pure", format!("{{\"a\": \"{}\"}}", lines("a")).leak());
    let (kit, pid) = run(READS, "lru", vec![long, Say::Text("ok")]).await;
    let plan = &plans(&kit, pid).await[1];
    let call = plan.admitted.iter().find(|it| it.kind == PageKind::ToolCall).expect("a call");
    assert!(call.range.is_none() && call.tokens > Tokens(1_024), "{call:?}");
}

#[tokio::test(start_paused = true)]
async fn a_content_below_at_and_above_a_page() {
    for (bytes, cut) in [(4_092, false), (4_096, false), (4_097, true)] {
        let text = serde_json::json!({ "say": "x".repeat(bytes) }).to_string();
        let call = Say::Call("pure", Box::leak(text.into_boxed_str()));
        let (kit, pid) = run(READS, "lru", vec![call, Say::Text("ok")]).await;
        let plan = &plans(&kit, pid).await[1];
        let mut results = plan.admitted.iter().filter(|it| it.kind == PageKind::ToolResult);
        assert_eq!(results.any(|page| page.range.is_some()), cut, "{bytes} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_result_leaves_in_parts_and_comes_back_as_it_was() {
    let script = vec![long('a'), long('b'), long('c'), Say::Text("ok")];
    let (kit, pid) = run(READS, "lru", script).await;
    let image = kit.image(pid).await;
    let left: Vec<_> = image.pages.pages().iter().filter(|page| !page.resident).collect();
    assert!(!left.is_empty() && left.iter().all(|page| page.is_part()), "{left:?}");
    let (first, last) = (left[0], left[left.len() - 1]);
    let start = first.range.expect("a part").0 as usize;
    let end = last.range.map(|(start, length)| (start + length) as usize).expect("a part");
    let text = lines("a");

    let messages = asked(&kit).pop().expect("asked").messages;
    calls_have_their_results(&messages);
    let gap = format!("[pages {}-{} are swapped out; recall reads them]\n", first.id, last.id);
    let shown = results(&messages);
    assert_eq!(shown.len(), 3, "no result is gone");
    assert_eq!(shown[0].1, format!("{}{gap}{}", &text[..start], &text[end..]));
    assert_eq!((&*shown[1].1, &*shown[2].1), (&*lines("b"), &*lines("c")));

    // A part alone comes back, the same bytes.
    let arguments = format!("{{\"page\": {}}}", last.id).leak();
    let script =
        vec![long('a'), long('b'), long('c'), Say::Call("recall", arguments), Say::Text("ok")];
    let (kit, _) = run(READS, "lru", script).await;
    let messages = asked(&kit).pop().expect("asked").messages;
    let recalled = messages.last().expect("messages");
    let (start, length) = last.range.expect("a part");
    let part = &text[start as usize..(start + length) as usize];
    assert_eq!(
        (recalled.role, &recalled.parts[..]),
        (Role::User, &[Part::Text(format!("[recalled result of pure]\n{part}").into())][..])
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_cannot_ask_is_told_that_a_part_is_gone() {
    let script = vec![long('a'), long('b'), long('c'), Say::Text("ok")];
    let (kit, _) = run("\"pure\"", "lru", script).await;
    let messages = asked(&kit).pop().expect("asked").messages;
    calls_have_their_results(&messages);
    let first = results(&messages)[0].1.clone();
    assert!(first.contains("\n[a part of this was moved out to make room]\n"), "{first}");
    assert!(!first.contains("recall"), "{first}");
}

#[tokio::test(start_paused = true)]
async fn whatever_leaves_each_prompt_fits_extends_the_one_before_and_answers_every_call() {
    let mut ended = 0;
    for policy in ["cost_aware", "lru", "gdsf", "mask_observations"] {
        let mut script: Vec<Say> = "abcdefghijkl".chars().map(long).collect();
        script.push(Say::Call("recall", r#"{"page": 6}"#));
        script.extend("mnop".chars().map(long));
        let (kit, pid) = run(READS, policy, script).await;
        let plans = plans(&kit, pid).await;
        let prompts = kit.puppet.prompts.lock().unwrap().clone();
        let mut epochs = 0;
        for (pair, prompts) in plans.windows(2).zip(prompts.windows(2)) {
            let (before, plan) = (&pair[0], &pair[1]);
            assert_eq!(plan.reasons.is_some(), !plan.evicted.is_empty(), "{policy}");
            assert!(plan.prompt_tokens + Tokens(200) <= WINDOW, "{policy}");
            if before.generation == plan.generation {
                assert!(prompts[1].prompt_bytes.starts_with(&prompts[0].prompt_bytes), "{policy}");
            } else {
                epochs += 1;
            }
        }
        assert!(epochs >= 3, "{policy}: {epochs}");
        for request in asked(&kit) {
            // A content of which the end has left says so behind what is left.
            let results = results(&request.messages);
            ended +=
                results.iter().filter(|(_, text)| text.ends_with("recall reads them]\n")).count();
            for (_, text) in results.iter().filter(|(_, text)| text.starts_with("000 ")) {
                let is_whole = text.contains("\n499 ");
                assert!(is_whole || text.ends_with("]\n"), "{policy}: {text}");
            }
            calls_have_their_results(&request.messages);
            let texts = request.messages.iter().flat_map(|message| message.parts.iter());
            let tokens = texts.map(|part| match part {
                Part::Text(text) | Part::ToolResult { text, .. } => text.len().div_ceil(4) + 4,
                Part::ToolCall { arguments, .. } => arguments.len().div_ceil(4) + 4,
                Part::Opaque { bytes, .. } => bytes.len(),
            });
            let tokens: usize = tokens.sum();
            assert!(tokens <= 8_800, "{policy}: {tokens} tokens");
        }
    }
    assert!(ended > 0, "no end has left");
}

#[tokio::test(start_paused = true)]
async fn a_later_kernel_shows_what_is_left_of_a_result_in_the_same_bytes() {
    let script = vec![long('a'), long('b'), long('c'), Say::Hang, Say::Text("ok"), Say::Text("ok")];
    let kit = Kit::with(puppet(script));
    let store = kit.boot();
    let kernel = kit.kernel_on(store.clone());
    let request = Spawn { manifest: manifest(READS, "lru"), ..spawn("do it") };
    let pid = kernel.spawn(request).await.expect("spawned");
    tokio::time::sleep(Duration::from_secs(5)).await;
    store.crash();
    kernel.stop(aosk_kernel::Stop::Now);
    kernel.wait(pid).await.expect("stopped");
    drop(kit.boot());

    let kernel = kit.kernel();
    assert_eq!(kernel.recover().await.expect("recovers"), [pid]);
    let outcome = kernel.wait(pid).await.expect("an outcome");
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    let prompts = kit.puppet.prompts.lock().unwrap().clone();
    assert_eq!(prompts.len(), 5);
    assert_eq!(prompts[3].body, prompts[4].body);
    assert!(String::from_utf8_lossy(&prompts[4].prompt_bytes).contains("are swapped out"));
    // And what comes then extends it.
    let message = InboxItem::Message { from: "user".into(), text: lines("m")[..4_320].into() };
    drop(kernel);
    let store = kit.store();
    store.post(&aosk_abi::Tenant::local(), pid, message).await.expect("posted");
    let kernel = kit.kernel_on(store);
    kernel.attend(pid);
    kernel.wait(pid).await.expect("an outcome");
    let prompts = kit.puppet.prompts.lock().unwrap().clone();
    assert_eq!(prompts.len(), 6);
    assert!(prompts[5].prompt_bytes.starts_with(&prompts[4].prompt_bytes));
    let plan = plans(&kit, pid).await.pop().expect("a plan");
    let parts = plan.admitted.iter().filter(|page| page.kind == PageKind::Message).count();
    assert_eq!(parts, 3, "a long message is cut too: {plan:?}");
}
