//! Messages between processes: sent, received, waited for.

use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{
    BlockedOn, Code, Exit, Manifest, Op, Pid, ProcessState, Role, Signal, Tenant, What,
};
use aosk_kernel::{Kernel, Mailbox, Model, Outcome, Spawn};
use aosk_ports::{Inbox, InboxItem, Part, Request, Store};

use crate::support::{Kit, Puppet, Quarters, Say, spawn};

/// A kernel with a model for each agent, which says what that one says.
pub fn kernel_of(kit: &Kit, agents: &[&Arc<Puppet>]) -> Kernel {
    kernel_on(kit, kit.store(), agents)
}

/// The same on a store of the test's.
pub fn kernel_on(kit: &Kit, store: impl Store + 'static, agents: &[&Arc<Puppet>]) -> Kernel {
    kit.kernel_of(store, |parts| {
        parts.models = agents
            .iter()
            .map(|puppet| {
                let device: Arc<Puppet> = Arc::clone(puppet);
                (puppet.name().to_owned(), Model { device, tokenizer: Arc::new(Quarters) })
            })
            .collect();
    })
}

pub fn puppet(name: &str, script: Vec<Say>) -> Arc<Puppet> {
    Arc::new(Puppet::new(script).named(name))
}

/// An agent that asks the model of its own name.
pub fn agent(name: &str) -> Spawn {
    let text =
        format!("name = {name:?}\ntools = [\"send\", \"receive\", \"sleep\"]\nmax_steps = 20\n");
    Spawn {
        manifest: Manifest::from_toml(&text).expect("a manifest"),
        model: name.to_owned(),
        ..spawn("go")
    }
}

pub fn results(request: &Request) -> Vec<String> {
    let of_tools = request.messages.iter().filter(|message| message.role == Role::Tool);
    let parts = of_tools.flat_map(|message| message.parts.iter());
    parts
        .filter_map(|part| match part {
            Part::ToolResult { text, .. } => Some(text.to_string()),
            _ => None,
        })
        .collect()
}

/// What the model of an agent was told by its tools, in order.
pub fn told(puppet: &Puppet) -> Vec<String> {
    puppet.asked.lock().unwrap().last().map(results).unwrap_or_default()
}

pub async fn state(kit: &Kit, pid: Pid) -> ProcessState {
    kit.image(pid).await.state
}

async fn post(kit: &Kit, to: Pid, item: InboxItem) {
    kit.store().post(&Tenant::local(), to, item).await.unwrap();
}

fn has_completed(outcome: &Option<Outcome>) -> bool {
    matches!(outcome, Some(Outcome::Exited(Exit::Completed { .. })))
}

fn received(events: &[What]) -> usize {
    events.iter().filter(|it| matches!(it, What::MessageReceived(it) if it.op.is_some())).count()
}

#[tokio::test(start_paused = true)]
async fn messages_come_in_the_order_of_their_sending_and_once() {
    let kit = Kit::new(vec![]);
    let take = || Say::Call("receive", "{}");
    let reader = puppet("reader", vec![take(), take(), take()]);
    let send = |text| ("send", text);
    let writer = puppet(
        "writer",
        vec![
            Say::Calls(vec![
                send(r#"{"to": "reader", "text": "one"}"#),
                send(r#"{"to": "reader", "text": "two"}"#),
            ]),
            Say::Call("send", r#"{"to": "reader", "text": "three"}"#),
        ],
    );
    let kernel = kernel_of(&kit, &[&reader, &writer]);
    let to = kernel.spawn(agent("reader")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let waits = state(&kit, to).await;
    let on = BlockedOn::Message { from: None, until: None };
    assert!(matches!(&waits, ProcessState::Blocked { on: it, .. } if *it == on), "{waits:?}");
    assert_eq!(kernel.residents(), 0, "who waits is not in memory");

    let from = kernel.spawn(agent("writer")).await.unwrap();
    assert!(has_completed(&kernel.wait(from).await) && has_completed(&kernel.wait(to).await));
    let texts: Vec<_> = told(&reader)
        .iter()
        .map(|it| {
            let said: serde_json::Value = serde_json::from_str(it).expect("JSON");
            assert_eq!(said["from"], from.to_string());
            assert_eq!(said["name"], "writer");
            said["text"].as_str().expect("a text").to_owned()
        })
        .collect();
    assert_eq!(texts, ["one", "two", "three"]);
    assert_eq!(told(&writer), ["sent", "sent", "sent"]);
    assert_eq!(received(&kit.events(to).await), 3);
    assert!(kit.store().pending(&Tenant::local()).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_posted_twice_comes_once() {
    let kit = Kit::new(vec![]);
    let reader = puppet("reader", vec![Say::Call("sleep", r#"{"seconds": 60}"#)]);
    let kernel = kernel_of(&kit, &[&reader]);
    let to = kernel.spawn(agent("reader")).await.unwrap();
    let from = Pid::from_alias("sender");
    for op in [3, 3, 2, 5] {
        let text = format!("number {op}");
        post(&kit, to, InboxItem::Mail { from, op: Op(op), text }).await;
        kernel.nudge().unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(received(&kit.events(to).await), 2, "3 and 5");
    assert_eq!(kit.image(to).await.mailbox.letters().len(), 2);
    assert!(kit.store().pending(&Tenant::local()).await.unwrap().is_empty(), "nothing is left");
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_below_and_at_its_room() {
    for (waiting, fits) in [(Mailbox::ROOM - 1, true), (Mailbox::ROOM, false)] {
        let kit = Kit::new(vec![]);
        let reader = puppet("reader", vec![Say::Call("sleep", r#"{"seconds": 600}"#)]);
        let call = Say::Call("send", r#"{"to": "reader", "text": "one more"}"#);
        let writer = puppet("writer", vec![call]);
        let kernel = kernel_of(&kit, &[&reader, &writer]);
        let to = kernel.spawn(agent("reader")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        for op in 0..waiting as u64 {
            let (from, text) = (Pid::from_alias("sender"), "x".to_owned());
            post(&kit, to, InboxItem::Mail { from, op: Op(op), text }).await;
            // Some are in the mailbox by now, and some in the inbox.
            if op == 99 {
                kernel.nudge().unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        let from = kernel.spawn(agent("writer")).await.unwrap();
        assert!(has_completed(&kernel.wait(from).await));
        let said = told(&writer);
        let full = format!("{waiting} messages wait for the agent \"reader\" ({to})");
        assert_eq!(said == ["sent"], fits, "{said:?}");
        assert_eq!(said[0].contains(&full), !fits, "{said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_sent_is_answered_with_what_can() {
    let kit = Kit::new(vec![]);
    let done = puppet("done", vec![]);
    let (twin, deaf) =
        (puppet("twin", vec![Say::Hang, Say::Hang]), puppet("puppet", vec![Say::Hang]));
    let kernel = kernel_of(&kit, &[&done, &twin, &deaf]);
    let ended = kernel.spawn(agent("done")).await.unwrap();
    kernel.wait(ended).await;
    for _ in 0..2 {
        kernel.spawn(agent("twin")).await.unwrap();
    }
    let no_tool = kernel.spawn(spawn("go")).await.unwrap();
    let me = Pid::from_alias("me").to_string();
    for (to, part) in [
        (ended.to_string(), "has ended (completed)"),
        ("nobody".to_owned(), "there is no agent \"nobody\""),
        (Pid::from_alias("nobody").to_string(), "there is no agent"),
        ("twin".to_owned(), "2 agents are named \"twin\""),
        ("parent".to_owned(), "has no parent"),
        (no_tool.to_string(), "cannot receive messages"),
        (me.clone(), "is this agent itself"),
        (String::new(), "`to` is missing or empty"),
    ] {
        let arguments = format!("{{\"to\": {to:?}, \"text\": \"hello\"}}");
        let call = Say::Call("send", Box::leak(arguments.into_boxed_str()));
        let writer = puppet("writer", vec![call]);
        let kernel = kernel_of(&kit, &[&writer]);
        let alias = (to == me).then(|| "me".to_owned());
        let request = Spawn { alias, ..agent("writer") };
        let from = kernel.spawn(request).await.unwrap();
        assert!(has_completed(&kernel.wait(from).await));
        assert!(told(&writer)[0].contains(part), "{to}: {:?}", told(&writer));
        assert!(!kit.names(from).await.contains(&"tool_requested"), "nothing was begun");
    }
    assert!(kit.store().pending(&Tenant::local()).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_message_ends_when_it_said_and_whoever_runs() {
    let kit = Kit::new(vec![]);
    let reader = puppet("reader", vec![Say::Call("receive", r#"{"timeout_s": 60}"#)]);
    let first = kernel_of(&kit, &[&reader]);
    let to = first.spawn(agent("reader")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    first.stop(aosk_kernel::Stop::Now);
    first.quiet().await;

    let second = kernel_of(&kit, &[&reader]);
    let began = tokio::time::Instant::now();
    assert_eq!(second.recover().await.unwrap(), [to]);
    assert!(has_completed(&second.wait(to).await));
    let took = began.elapsed().as_secs();
    assert!((39..=41).contains(&took), "{took}");
    assert!(told(&reader)[0].contains("no message came within 60 s"), "{:?}", told(&reader));
}

#[tokio::test(start_paused = true)]
async fn a_sleep_lasts_as_long_as_it_said_through_the_end_of_its_kernel() {
    let kit = Kit::new(vec![]);
    let sleeper = puppet("sleeper", vec![Say::Call("sleep", r#"{"seconds": 60}"#)]);
    let first = kernel_of(&kit, &[&sleeper]);
    let pid = first.spawn(agent("sleeper")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let waits = state(&kit, pid).await;
    let ProcessState::Blocked { on: BlockedOn::Timer { until }, since } = waits else {
        panic!("{waits:?}");
    };
    assert_eq!(until.millis_since(since), 60_000);
    first.stop(aosk_kernel::Stop::Now);
    first.quiet().await;

    let second = kernel_of(&kit, &[&sleeper]);
    let began = tokio::time::Instant::now();
    second.recover().await.unwrap();
    assert!(has_completed(&second.wait(pid).await));
    let took = began.elapsed().as_secs();
    assert!((39..=41).contains(&took), "{took}");
    assert_eq!(told(&sleeper), ["60 s have passed"]);
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_come_one_after_the_other_behind_all_others() {
    let kit = Kit::new(vec![]);
    let calls = vec![
        ("sleep", r#"{"seconds": 40}"#),
        ("receive", r#"{"timeout_s": 50}"#),
        ("send", r#"{"to": "nobody", "text": "hello"}"#),
    ];
    let reader = puppet("reader", vec![Say::Calls(calls)]);
    let kernel = kernel_of(&kit, &[&reader]);
    let began = tokio::time::Instant::now();
    let pid = kernel.spawn(agent("reader")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    // Somebody looks at it: that ends neither wait and begins no other.
    kernel.attend(pid);
    assert!(has_completed(&kernel.wait(pid).await));
    let took = began.elapsed().as_secs();
    assert!((89..=91).contains(&took), "{took}");
    let returned = kit.events(pid).await.into_iter().filter_map(|what| match what {
        What::ToolReturned(returned) => Some(returned.op),
        _ => None,
    });
    assert_eq!(returned.collect::<Vec<_>>(), [Op(3), Op(1), Op(2)]);
}

#[tokio::test(start_paused = true)]
async fn the_user_gets_through_to_whoever_waits() {
    for call in [
        Say::Call("receive", "{}"),
        Say::Call("receive", r#"{"timeout_s": 9999}"#),
        Say::Call("sleep", r#"{"seconds": 9999}"#),
    ] {
        let kit = Kit::new(vec![]);
        let reader = puppet("reader", vec![call.clone()]);
        let kernel = kernel_of(&kit, &[&reader]);
        let pid = kernel.spawn(agent("reader")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        let message = InboxItem::Message { from: "user".into(), text: "come back".into() };
        post(&kit, pid, message).await;
        kernel.nudge().unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(has_completed(&kernel.wait(pid).await), "{call:?}");
        assert!(told(&reader)[0].contains("the user has written"), "{:?}", told(&reader));
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_goes_on_behind_a_suspension() {
    let kit = Kit::new(vec![]);
    let reader = puppet("reader", vec![Say::Call("receive", "{}")]);
    let kernel = kernel_of(&kit, &[&reader]);
    let pid = kernel.spawn(agent("reader")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = state(&kit, pid).await;
    for signal in [Signal::Stop, Signal::Cont] {
        post(&kit, pid, InboxItem::Signal { signal }).await;
        kernel.nudge().unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(state(&kit, pid).await, before);
    let (from, text) = (Pid::from_alias("sender"), "there you are".to_owned());
    post(&kit, pid, InboxItem::Mail { from, op: Op(0), text }).await;
    kernel.nudge().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(has_completed(&kernel.wait(pid).await));
    assert!(told(&reader)[0].contains("there you are"));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_message_is_let_go_when_nobody_is_left_to_send_one() {
    let kit = Kit::new(vec![]);
    let reader = puppet("reader", vec![Say::Call("receive", "{}")]);
    let busy = puppet("busy", vec![Say::Call("sleep", r#"{"seconds": 500}"#)]);
    let kernel = kernel_of(&kit, &[&reader, &busy]);
    let pid = kernel.spawn(agent("reader")).await.unwrap();
    kernel.spawn(agent("busy")).await.unwrap();
    let began = tokio::time::Instant::now();
    let on = BlockedOn::Message { from: None, until: None };
    assert_eq!(kernel.wait(pid).await, Some(Outcome::Parked(on.clone())));
    assert!(began.elapsed() >= Duration::from_secs(499), "as long as somebody may send one");
    kernel.quiet().await;
    assert_eq!(kernel.wait(pid).await, Some(Outcome::Parked(on)));
}

#[tokio::test(start_paused = true)]
async fn a_circle_of_waits_is_told_to_the_newest_and_a_message_on_its_way_makes_none() {
    let kit = Kit::new(vec![]);
    let first = puppet("first", vec![Say::Call("receive", r#"{"from": "second"}"#)]);
    let second = puppet(
        "second",
        vec![
            Say::Call("sleep", r#"{"seconds": 5}"#),
            Say::Call("receive", r#"{"from": "first"}"#),
            Say::Call("send", r#"{"to": "first", "text": "hello"}"#),
            // The answer to a message that was sent a moment ago is waited for.
            Say::Call("receive", r#"{"from": "first"}"#),
        ],
    );
    first.say([
        Say::Call("sleep", r#"{"seconds": 1}"#),
        Say::Call("send", r#"{"to": "second", "text": "hello too"}"#),
    ]);
    let kernel = kernel_of(&kit, &[&first, &second]);
    // Each must be there when the other is named.
    let other = kernel.spawn(agent("second")).await.unwrap();
    let one = kernel.spawn(agent("first")).await.unwrap();
    assert!(has_completed(&kernel.wait(one).await) && has_completed(&kernel.wait(other).await));
    let said = told(&second);
    let circle = format!(
        "\"second\" ({other}) waits for \"first\" ({one}), which waits for \"second\" ({other})"
    );
    assert!(said[1].starts_with("Error (deadlock)") && said[1].contains(&circle), "{said:?}");
    assert!(said[3].contains("hello too"), "{said:?}");
    assert!(told(&first)[0].contains("hello"), "{:?}", told(&first));
    assert!(told(&first).iter().all(|it| !it.contains("deadlock")), "only the newest hears of it");
}

#[tokio::test(start_paused = true)]
async fn a_wait_with_an_end_is_no_part_of_a_circle() {
    let kit = Kit::new(vec![]);
    let first =
        puppet("first", vec![Say::Call("receive", r#"{"from": "second", "timeout_s": 30}"#)]);
    let second = puppet(
        "second",
        vec![
            Say::Call("sleep", r#"{"seconds": 5}"#),
            Say::Call("receive", r#"{"from": "first", "timeout_s": 30}"#),
        ],
    );
    let kernel = kernel_of(&kit, &[&first, &second]);
    let other = kernel.spawn(agent("second")).await.unwrap();
    let one = kernel.spawn(agent("first")).await.unwrap();
    assert!(has_completed(&kernel.wait(one).await) && has_completed(&kernel.wait(other).await));
    assert!(told(&second)[1].contains("timeout"), "{:?}", told(&second));
}

#[tokio::test(start_paused = true)]
async fn a_kill_ends_who_waits() {
    let kit = Kit::new(vec![]);
    let reader = puppet("reader", vec![Say::Call("receive", "{}")]);
    let kernel = kernel_of(&kit, &[&reader]);
    let pid = kernel.spawn(agent("reader")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    post(&kit, pid, InboxItem::Signal { signal: Signal::Kill }).await;
    kernel.nudge().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(kernel.wait(pid).await, Some(Outcome::Exited(Exit::Killed)));
    let (from, text) = (Pid::from_alias("sender"), "too late".to_owned());
    let late = InboxItem::Mail { from, op: Op(0), text };
    post(&kit, pid, late).await;
    kernel.nudge().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(received(&kit.events(pid).await), 0);
    assert_eq!(
        kernel.resume(pid, None).await.expect_err("it ended").code(),
        Code::KernelNotResumable
    );
}
