//! With a real model behind a real server, if there is one: `AOSK_TEST_LLM_URL` says where.
//! `AOSK_TEST_REQUIRE=1` says that there has to be one.

use aosk_abi::Hash;

use crate::tap::Tap;
use crate::world::{World, lines};

#[test]
fn an_agent_answers_through_a_real_model_and_its_prefix_is_cached() {
    let Ok(url) = std::env::var("AOSK_TEST_LLM_URL") else {
        let required = std::env::var("AOSK_TEST_REQUIRE").is_ok_and(|value| value == "1");
        assert!(!required, "AOSK_TEST_LLM_URL is not set, and AOSK_TEST_REQUIRE is 1");
        eprintln!("skipped: AOSK_TEST_LLM_URL is not set");
        return;
    };
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
