//! A real model on a real server: llama.cpp with a small model, at `AOSK_TEST_LLM_URL`.

use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{Code, FailureKind, Role, Sampling, StopReason, Tokens, ToolCalls};
use aosk_llm::{Estimator, Models, Options, Remote};
use aosk_ports::{Device, Part, Request, ServerLoad, Tokenizer};

use tokio::sync::RwLock;

use crate::support::{ask, call, question, request, result, said, text};

/// The vectors of many texts take every slot and with it what was cached there, and what is computed
/// beside them is rounded otherwise, which a model this small can answer otherwise. So the tests of
/// replies share a turn that those of counts and vectors have alone.
static TURN: RwLock<()> = RwLock::const_new(());

/// The server's address, or nothing where none is named; then the tests say so aloud, and fail where
/// `AOSK_TEST_REQUIRE=1` says that everything must be there.
fn address() -> Option<String> {
    let Ok(base) = std::env::var("AOSK_TEST_LLM_URL") else {
        assert!(
            std::env::var("AOSK_TEST_REQUIRE").as_deref() != Ok("1"),
            "AOSK_TEST_LLM_URL is not set, but AOSK_TEST_REQUIRE=1"
        );
        eprintln!("SKIPPED, NOT PASSED: set AOSK_TEST_LLM_URL to a llama.cpp server's /v1");
        return None;
    };
    Some(base)
}

/// The model's device there.
async fn real(model: &str, variable: &'static str) -> Option<Remote> {
    let base = address()?;
    let env = move |name: &str| (name == variable).then(|| base.clone());
    let (spec, endpoint) = Models::embedded().select(model, &env).expect("an endpoint");
    Some(Remote::connect(spec, endpoint, Options::default()).await.expect("a server"))
}

/// The server's chat completions.
async fn openai() -> Option<Remote> {
    real("local", "OPENAI_BASE_URL").await
}

/// The same server's Anthropic dialect.
async fn anthropic() -> Option<Remote> {
    real("local-anthropic", "ANTHROPIC_BASE_URL").await
}

fn steady(request: Request) -> Request {
    let sampling = Sampling { temperature: Some(0.0), ..Sampling::default() };
    Request { sampling, max_output: Tokens(60), ..request }
}

#[tokio::test]
async fn a_conversation_that_grows_is_read_from_the_cache() {
    let Some(device) = openai().await else { return };
    grows_in_the_cache(&device).await;
}

#[tokio::test]
async fn a_conversation_that_grows_is_read_from_the_cache_in_the_anthropic_dialect() {
    let Some(device) = anthropic().await else { return };
    grows_in_the_cache(&device).await;
}

async fn grows_in_the_cache(device: &Remote) {
    let _turn = TURN.read().await;
    assert!(device.info().window.0 >= 1024, "{:?}", device.info());
    // A start that no other test and no earlier run has put into the cache.
    let nonce = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_nanos();
    let system = format!("Run {nonce}. You answer in one short sentence, politely and plainly.");
    let mut request = steady(request(vec![
        text(Role::System, &system),
        text(Role::User, "What is the capital of France?"),
    ]));
    let estimator = Estimator::new();
    let before = device.render(&request).expect("a form");
    let first = ask(device, &request).await.expect("a reply");
    assert!(matches!(&first.parts[..], [Part::Text(text)] if !text.is_empty()), "{first:?}");
    let used = first.usage.expect("usage");
    assert!(used.input.0 > 20 && used.output.0 > 0 && !first.model.is_empty(), "{used:?}");

    // The estimate with its room covers what the server counted.
    let counted = Tokens(
        estimator.count(&system).0
            + estimator.count("What is the capital of France?").0
            + 3 * estimator.per_message().0,
    );
    let room = counted.0 * u64::from(1_000_000 + estimator.error().0) / 1_000_000;
    assert!(room >= used.input.0, "{counted} counted, {room} with room, {used:?}");

    request.messages.extend([said(first.parts), text(Role::User, "And of Italy?")]);
    let after = device.render(&request).expect("a form");
    assert!(after.prompt_bytes.starts_with(&before.prompt_bytes));
    let second = ask(device, &request).await.expect("a reply");
    let used_next = second.usage.expect("usage");
    assert!(used_next.cached >= used.input, "{used:?} then {used_next:?}");
}

/// Agents with one system prompt, which the server would let take one slot in turns.
#[tokio::test]
async fn a_call_that_names_its_slot_finds_there_what_it_had_evaluated() {
    let Some(device) = openai().await else { return };
    // Others would take the slots meanwhile.
    let _turn = TURN.write().await;
    let slots = device.kv_slots().expect("llama.cpp lets calls name a slot");
    assert_eq!(slots, device.info().slots);
    let nonce = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let system = format!("Run {:?}. {}", nonce, "river stone table green ".repeat(60));
    let agent = |name: &str, slot| {
        let task = format!("I am {name}. {}", format!("light {name} round ").repeat(20));
        let messages = vec![text(Role::System, &system), text(Role::User, &task)];
        Request { slot: Some(slot), max_output: Tokens(2), ..steady(request(messages)) }
    };
    let mut agents = [agent("Ann", 0), agent("Bob", slots - 1)];
    let mut before = [Tokens::ZERO; 2];
    for turn in 0..3 {
        for (agent, before) in agents.iter_mut().zip(&mut before) {
            let used = ask(&device, agent).await.expect("a reply").usage.expect("usage");
            // All that stood there, but for how the turn of the model was opened.
            assert!(turn == 0 || used.cached.0 + 16 > before.0, "{turn}: {before} then {used:?}");
            assert!(turn == 0 || used.input.0 - used.cached.0 < 32, "{turn}: {used:?}");
            *before = used.input;
            agent.messages.push(text(Role::User, &format!("Turn {turn}.")));
        }
    }
}

#[tokio::test]
async fn a_server_tells_its_slots_its_room_and_what_it_has_written() {
    let Some(device) = openai().await else { return };
    let _turn = TURN.read().await;
    let load = async || device.load().expect("it can be asked").await.expect("it tells");
    let before = load().await;
    let (slots, window) = (device.info().slots as u64, device.info().window.0);
    assert_eq!((before.slots, before.kv_tokens), (Some(slots), Some(slots * window)));
    assert!(before.waiting.is_some() && before.read.is_some(), "{before:?}");
    let words = steady(request(vec![text(Role::User, "Count from one to a hundred in words.")]));
    let call = ask(&device, &words);
    let busiest = async {
        let mut busiest = load().await;
        for _ in 0..200 {
            let now = load().await;
            let held = |load: &ServerLoad| (load.running, load.kv_used_milli);
            busiest = if held(&now) > held(&busiest) { now } else { busiest };
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        busiest
    };
    let (reply, busiest) = tokio::join!(call, busiest);
    let written = reply.expect("a reply").usage.expect("usage").output.0;
    assert!(busiest.running >= Some(1), "the call was seen while it ran: {busiest:?}");
    let after = load().await;
    // Others may ask it as well.
    assert!(after.written >= before.written.map(|before| before + written), "{before:?} {after:?}");
}

#[tokio::test]
async fn a_schema_makes_a_small_model_call_a_tool_and_then_answer() {
    let Some(device) = openai().await else { return };
    let _turn = TURN.read().await;
    let example = "You do arithmetic with the calculator.\n\nExample:\nTask: What is 5 + 8?\n\
        {\"tool\":\"calculator\",\"arguments\":{\"expression\":\"5 + 8\"}}\n\
        Result of calculator: 13\n\
        {\"tool\":\"final_answer\",\"arguments\":{\"answer\":\"5 + 8 = 13\"}}";
    let mut request = Request { tool_calls: ToolCalls::Constrained, ..steady(question()) };
    request.messages =
        vec![text(Role::System, example), text(Role::User, "What is 250 + 38 * 12?")];
    let reply = ask(&device, &request).await.expect("a reply");
    assert_eq!(reply.stop, StopReason::ToolCalls, "{reply:?}");
    let Some(Part::ToolCall { id, name, arguments }) = reply.parts.last() else {
        panic!("no call: {reply:?}");
    };
    assert_eq!((id.as_ref(), name.as_ref()), ("call_1", "calculator"));
    let arguments: serde_json::Value = serde_json::from_str(arguments).expect("JSON");
    assert!(arguments["expression"].is_string(), "{arguments}");

    request.messages.extend([said(reply.parts.clone()), result("call_1", "calculator", "706")]);
    let masked = Request { may_call: false, ..request };
    let reply = ask(&device, &masked).await.expect("a reply");
    assert!(matches!(reply.parts.last(), Some(Part::Text(_))), "{reply:?}");
    assert!(reply.usage.expect("usage").cached.0 > 0, "{reply:?}");
}

/// The model ignores its tools; what the server makes of calls and results in the history, of a mask
/// and of the tail shows in its answer.
#[tokio::test]
async fn a_result_in_the_anthropic_dialect_is_read_by_a_real_model() {
    let Some(device) = anthropic().await else { return };
    let _turn = TURN.read().await;
    let mut request = steady(question());
    let thinking = r#"{"type":"thinking","thinking":"I should calculate.","signature":"S"}"#;
    let thinking =
        Part::Opaque { format: "anthropic/thinking".into(), bytes: thinking.as_bytes().into() };
    let arguments = r#"{"expression":"17 * 23"}"#;
    request.messages.extend([
        said([thinking, call("toolu_1", "calculator", arguments)]),
        result("toolu_1", "calculator", "391"),
    ]);
    let request = Request { may_call: false, tail: Some("Answer now.".to_owned()), ..request };
    let reply = ask(&device, &request).await.expect("a reply");
    assert_eq!(reply.stop, StopReason::Stop, "{reply:?}");
    assert!(matches!(&reply.parts[..], [Part::Text(text)] if text.contains("391")), "{reply:?}");
}

#[tokio::test]
async fn a_prompt_longer_than_the_window_is_recognised() {
    let Some(device) = openai().await else { return };
    is_too_long(&device).await;
    let Some(device) = anthropic().await else { return };
    is_too_long(&device).await;
}

async fn is_too_long(device: &Remote) {
    let _turn = TURN.read().await;
    let words = "word ".repeat(usize::try_from(device.info().window.0).expect("a size") + 500);
    let request = steady(request(vec![text(Role::User, &words)]));
    let error = ask(device, &request).await.expect_err("too long");
    assert_eq!((error.kind, error.code), (FailureKind::ContextLength, Code::LlmContextLength));
    assert!(error.usage.expect("a size").input > device.info().window, "{error:?}");
}

#[tokio::test]
async fn a_server_with_the_vocabulary_counts_what_the_model_then_reads() {
    let Some(device) = openai().await else { return };
    let _turn = TURN.write().await;
    let tokenizer = device.tokenizer().expect("a tokenizer");
    for texts in [
        ["You are terse.", include_str!("texts/english.txt")],
        ["You write code.", include_str!("texts/code.txt")],
        ["당신은 간결합니다.", include_str!("texts/korean.txt")],
        ["\u{1f600}", include_str!("texts/emoji.txt")],
        ["Data.", include_str!("texts/base64.txt")],
    ] {
        let all: Vec<Arc<str>> = texts.iter().map(|text| Arc::from(*text)).collect();
        tokenizer.prepare(&all).await;
        // Each message, and the start of the reply.
        let texts_alone: u64 = texts.iter().map(|text| tokenizer.count(text).0).sum();
        let counted = Tokens(texts_alone + 3 * tokenizer.per_message().0);
        let request =
            steady(request(vec![text(Role::System, texts[0]), text(Role::User, texts[1])]));
        let request = Request { max_output: Tokens(1), ..request };
        let used = ask(&device, &request).await.expect("a reply").usage.expect("usage").input;
        assert!(used.0 > texts_alone, "{used} of {texts_alone}: the template adds some");
        let room = counted.0 * u64::from(1_000_000 + tokenizer.error().0) / 1_000_000;
        assert!(
            room >= used.0 && counted.0 <= used.0 + 15,
            "{used} of {counted}, with room {room}"
        );
    }
    assert!(!tokenizer.id().contains('+'), "nothing was estimated: {}", tokenizer.id());
}

#[tokio::test]
async fn a_real_server_makes_vectors_of_the_size_that_the_table_says() {
    let Some(base) = address() else { return };
    let _turn = TURN.write().await;
    let embedder = |table: &str| {
        let mut models = Models::embedded();
        models.extend_toml(table, "models.toml").expect("a table");
        let env = |name: &str| (name == "OPENAI_BASE_URL").then(|| base.clone());
        models.embedder("local", &env, Options::default()).expect("an embedder")
    };
    let texts: Vec<Arc<str>> = ["a cat", "the stock market", "a cat"].map(Arc::from).into();
    let error = embedder("").embed(&texts).await.expect_err("another size than is usual");
    assert_eq!(error.code, Code::LlmEmbedding);
    assert!(error.message.contains("set `dims = 576`"), "{error}");
    let local = embedder("[embedders.local]\ndims = 576");
    let made = local.embed(&texts).await.expect("vectors");
    assert!(made.tokens.expect("counted") >= Tokens(5));
    let cosine = |a: usize, b: usize| made.vectors[a].cosine(&made.vectors[b]).expect("one");
    assert!(
        cosine(0, 2) > 0.99 && cosine(0, 1) < cosine(0, 2),
        "{} {}",
        cosine(0, 1),
        cosine(0, 2)
    );
    let many: Vec<Arc<str>> = (0..70).map(|n| format!("text {n}").into()).collect();
    assert_eq!(local.embed(&many).await.expect("vectors").vectors.len(), 70);
    let error = local.embed(&["word ".repeat(9_000).into()]).await.expect_err("too long");
    assert_eq!(error.kind, FailureKind::ContextLength, "{error}");
}
