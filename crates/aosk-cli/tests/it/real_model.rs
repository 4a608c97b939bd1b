//! With a real model behind a real server, if there is one: `AOSK_TEST_LLM_URL` says where.
//! `AOSK_TEST_REQUIRE=1` says that there has to be one.

use aosk_abi::Hash;

use crate::tap::Tap;
use crate::world::{World, lines, wait_until};

/// The server's address, if there is one.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn server() -> Option<String> {
    let url = std::env::var("AOSK_TEST_LLM_URL").ok();
    if url.is_none() {
        let required = std::env::var("AOSK_TEST_REQUIRE").is_ok_and(|value| value == "1");
        assert!(!required, "AOSK_TEST_LLM_URL is not set, and AOSK_TEST_REQUIRE is 1");
        eprintln!("skipped: AOSK_TEST_LLM_URL is not set");
    }
    url
}

#[test]
fn devices_show_what_a_real_server_says_of_itself() {
    let Some(url) = server() else { return };
    let mut world = World::new();
    world.set("OPENAI_BASE_URL", &url);
    let agent = world.agent("clerk", "max_steps = 2\n[sampling]\nmax_output_tokens = 8");
    world.spawn(&[&agent, "Say hello."]);
    // Other tests may keep it busy for longer than it is waited for.
    let mut told = None;
    wait_until("its server tells", || {
        let devices = lines(&world.run(&["devices", "--json"]).out);
        told = devices.into_iter().find(|device| device.get("server").is_some());
        told.is_some()
    });
    let device = told.expect("waited for");
    let server = &device["server"];
    assert_eq!(server["slots"], device["slots"], "{device}");
    let room = server["kv_tokens"].as_u64().expect("slots have windows");
    assert!(room >= 1024 && server["kv_used_milli"].as_u64() <= Some(1_000), "{server}");
    let shown = world.run(&["devices"]).out;
    assert!(shown.contains("slots busy") && shown.contains("KV room"), "{shown}");
}

#[test]
fn an_agent_answers_through_a_real_model_and_its_prefix_is_cached() {
    let Some(url) = server() else { return };
    let tap = Tap::new(&url);
    let mut world = World::new();
    world.set("OPENAI_BASE_URL", tap.url());
    let agent = world.agent(
        "clerk",
        "tools = [\"calculator\", \"now\"]\ntool_calls = \"constrained\"\nmax_steps = 6\n\
         [react]\nmax_tool_steps = 2\n[sampling]\ntemperature = 0.0\nmax_output_tokens = 48",
    );
    let ran = world.run(&["run", "--json", &agent, "What is 17 * 23? Use the calculator."]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let events = lines(&ran.out);
    let of = |kind: &str| -> Vec<_> {
        events.iter().filter(|event| event["kind"] == kind).map(|event| &event["body"]).collect()
    };
    assert!(!of("tool_returned").is_empty(), "a tool was called");
    let (planned, returned) = (of("planned"), of("llm_returned"));
    assert!(planned.len() >= 2, "{planned:?}");
    // The plan names the part of the body that stands before the tail, by its length and hash.
    let bodies = tap.bodies();
    assert_eq!(bodies.len(), planned.len(), "each call was made once");
    let prompts: Vec<&[u8]> = bodies
        .iter()
        .zip(&planned)
        .map(|(body, planned)| {
            let len = planned["prompt_len"].as_u64().expect("a length");
            let prompt = &body[..usize::try_from(len).expect("it fits into memory")];
            assert_eq!(planned["prompt"], Hash::of(prompt).to_string(), "{planned}");
            prompt
        })
        .collect();
    for (pair, planned) in prompts.windows(2).zip(planned.windows(2)) {
        assert_eq!(planned[0]["generation"], planned[1]["generation"]);
        assert!(pair[1].len() > pair[0].len() && pair[1].starts_with(pair[0]), "{planned:?}");
    }
    for later in &returned[1..] {
        assert!(later["usage"]["cached"].as_u64() > Some(0), "{later}");
    }
    let shown = world.show(&world.only_pid());
    assert!(shown["answer"].as_str().is_some_and(|answer| !answer.is_empty()), "{shown}");
}
