//! Pages that left the window and are needed again.

use aosk_abi::{Exit, Manifest, Role, Tokens, What};
use aosk_kernel::Outcome;
use aosk_ports::{Part, Request};

use crate::support::{Kit, Puppet, Say, spawn};

/// A result of a hundred tokens; `{"say": …}` is what the tool returns.
fn long(name: char) -> Say {
    let text: String = std::iter::repeat_n(name, 396).collect();
    Say::Call("pure", Box::leak(format!("{{\"say\": \"{text}\"}}").into_boxed_str()))
}

fn recall(arguments: &'static str) -> Say {
    Say::Call("recall", arguments)
}

/// A kit whose agent has a small window, the tool that says what it is told, and `recall`.
async fn run(script: Vec<Say>) -> (Kit, aosk_abi::Pid, Outcome) {
    let kit = Kit::with(Puppet::new(script).windowed(1_400).replying(200));
    let kernel = kit.kernel();
    let mut request = spawn("do it");
    request.manifest = Manifest::from_toml(
        "name = \"tester\"\ntools = [\"pure\", \"recall\"]\nmax_steps = 40\n\
         [context]\npolicy = \"truncate_oldest\"\n",
    )
    .expect("a manifest");
    let pid = kernel.spawn(request).await.expect("spawned");
    let outcome = kernel.wait(pid).await.expect("an outcome");
    (kit, pid, outcome)
}

pub(crate) fn texts(request: &Request, role: Role) -> Vec<String> {
    let of_role = request.messages.iter().filter(|message| message.role == role);
    let parts = of_role.flat_map(|message| message.parts.iter());
    parts
        .filter_map(|part| match part {
            Part::Text(text) | Part::ToolResult { text, .. } => Some(text.to_string()),
            _ => None,
        })
        .collect()
}

/// Enough to push the first pages out: page 3 is the first call, page 4 its result.
fn filling() -> Vec<Say> {
    "abcdefgh".chars().map(long).collect()
}

#[tokio::test(start_paused = true)]
async fn what_left_is_named_and_comes_back_as_it_was() {
    let mut script = filling();
    script.extend([recall(r#"{"page": 3}"#), Say::Text("ok")]);
    let (kit, pid, outcome) = run(script).await;
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    let asked = kit.puppet.asked.lock().unwrap().clone();
    let first = texts(&asked[1], Role::Tool)[0].clone();
    assert_eq!(first.len(), 396);

    let before = &asked[asked.len() - 2];
    assert!(!texts(before, Role::Tool).contains(&first), "it has left");
    let stubs: Vec<String> =
        texts(before, Role::User).into_iter().filter(|text| text.contains("swapped out")).collect();
    assert_eq!(stubs.len(), 1, "{stubs:?}");
    assert!(stubs[0].starts_with("[pages 2-"), "{stubs:?}");

    let after = asked.last().expect("asked");
    assert_eq!(texts(after, Role::Tool).last().map(String::as_str), Some("page 3 follows"));
    assert_eq!(
        texts(after, Role::User).last(),
        Some(&format!("[recalled result of pure]\n{first}"))
    );
    let image = kit.image(pid).await;
    let pages = image.pages.pages();
    let back = pages.iter().rev().find(|page| page.source == pages[3].source).expect("back");
    assert!(back.resident && !pages[3].resident && back.id != pages[3].id);
    assert_eq!(
        (back.accesses, back.born),
        (1, pages[3].born),
        "its age and its needs stay with it"
    );
    assert!(kit.names(pid).await.contains(&"recalled"));
}

#[tokio::test(start_paused = true)]
async fn between_two_evictions_stubs_stay_where_they_are_and_the_window_holds_all() {
    let mut script = filling();
    script.extend([recall(r#"{"page": 3}"#), recall(r#"{"page": 5, "to": 6}"#)]);
    script.extend("ijklmnop".chars().map(long));
    let (kit, pid, _) = run(script).await;
    let plans: Vec<_> = kit
        .events(pid)
        .await
        .into_iter()
        .filter_map(|what| match what {
            What::Planned(planned) => Some(planned),
            _ => None,
        })
        .collect();
    let prompts = kit.puppet.prompts.lock().unwrap();
    assert_eq!(plans.len(), prompts.len());
    let mut epochs = 0;
    for (pair, prompts) in plans.windows(2).zip(prompts.windows(2)) {
        assert!(pair[1].prompt_tokens + Tokens(200) <= Tokens(1_400));
        if pair[0].generation == pair[1].generation {
            assert!(prompts[1].prompt_bytes.starts_with(&prompts[0].prompt_bytes));
        } else {
            assert!(!pair[1].stubs.is_empty());
            epochs += 1;
        }
    }
    assert!(epochs >= 3, "{epochs}");
}

#[tokio::test(start_paused = true)]
async fn a_recall_that_cannot_be_is_answered_with_what_can() {
    for (arguments, part) in [
        (r#"{"page": 900}"#, "there is no page 900; the pages so far have the numbers 0 to "),
        (r#"{"page": 1}"#, "stands in the context"),
        (r#"{"page": 2, "to": 8}"#, "can come back at once"),
        (r#"{"page": "one"}"#, "must be the number of a page"),
        ("{\"page", "complete JSON"),
    ] {
        let mut script = filling();
        script.extend([recall(arguments), Say::Text("ok")]);
        let (kit, pid, outcome) = run(script).await;
        assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
        let last = kit.puppet.asked.lock().unwrap().last().cloned().expect("asked");
        let answer = texts(&last, Role::Tool).pop().expect("a result");
        assert!(answer.contains(part), "{arguments}: {answer}");
        assert!(!kit.names(pid).await.contains(&"recalled"), "{arguments}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_twice_at_once_comes_once() {
    let mut script = filling();
    script.push(Say::Calls(vec![("recall", r#"{"page": 3}"#), ("recall", r#"{"page": 3}"#)]));
    script.push(Say::Text("ok"));
    let (kit, _, _) = run(script).await;
    let asked = kit.puppet.asked.lock().unwrap();
    let last = asked.last().expect("asked");
    let results = texts(last, Role::Tool);
    assert_eq!(results[results.len() - 2], "page 3 follows");
    assert!(results[results.len() - 1].contains("already_here"), "{results:?}");
    let recalled = texts(last, Role::User).iter().filter(|text| text.contains("recalled")).count();
    assert_eq!(recalled, 1);
}
