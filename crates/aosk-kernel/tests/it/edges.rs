//! Models that misbehave and endpoints that fail.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aosk_abi::{Code, Exit, FailureKind, Role, StopReason, What};
use aosk_kernel::{Outcome, REDACTED, Stop};
use aosk_ports::{Part, Reply};

use crate::support::{Counter, Kit, Puppet, Say, failure, spawn};

/// What the model was shown as the result of its last call.
async fn last_result(kit: &Kit, pid: aosk_abi::Pid) -> String {
    let events = kit.events(pid).await;
    let result = events.iter().rev().find_map(|what| match what {
        What::ToolReturned(returned) => Some(returned.result),
        _ => None,
    });
    kit.text(pid, result.expect("a result")).await
}

#[tokio::test(start_paused = true)]
async fn a_malformed_call_is_answered_with_an_error_that_the_model_can_mend() {
    let kit = Kit::new(vec![Say::Call("pure", "{\"a\": "), Say::Text("ok")]);
    let (pid, outcome) = kit.run().await;
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })));
    let result = last_result(&kit, pid).await;
    assert!(result.contains("invalid_arguments") && result.contains("complete JSON"), "{result}");
    assert_eq!(kit.pure.total(), 0);
    assert!(!kit.names(pid).await.contains(&"tool_requested"), "nothing was about to run");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_tool_is_answered_with_the_names_of_those_there_are() {
    let kit = Kit::new(vec![Say::Call("purr", "{}"), Say::Text("ok")]);
    let (pid, _) = kit.run().await;
    let result = last_result(&kit, pid).await;
    assert!(result.contains("unknown_tool") && result.contains("pure, keyed"), "{result}");
}

#[tokio::test(start_paused = true)]
async fn a_reply_cut_at_the_output_limit_is_continued() {
    let kit = Kit::new(vec![Say::Cut("one, two,"), Say::Text("three")]);
    let (pid, outcome) = kit.run().await;
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })));
    assert!(kit.names(pid).await.contains(&"told"));
    assert_eq!(kit.image(pid).await.step.0, 2);
}

#[tokio::test(start_paused = true)]
async fn a_cut_reply_leaves_the_window_with_the_word_to_go_on() {
    const VERSE: &str =
        "a reply of some length, cut off in the middle of what it was about to say ";
    let script = std::iter::repeat_with(|| Say::Cut(VERSE)).take(30).collect();
    let kit = Kit::with(Puppet::new(script).windowed(800).replying(300));
    let (pid, _) = kit.run().await;
    assert!(kit.image(pid).await.pages.generation() > 0, "nothing left the window");
    for request in kit.puppet.asked.lock().unwrap().iter() {
        let said = |role| request.messages.iter().filter(|message| message.role == role).count();
        assert_eq!(
            said(Role::User),
            said(Role::Assistant) + 1,
            "the task, and a word to each reply"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_ends_the_process_with_what_was_said() {
    let kit = Kit::new(vec![Say::Refuse("I will not.")]);
    let (pid, outcome) = kit.run().await;
    let Outcome::Exited(Exit::Refused { message: Some(message) }) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(kit.text(pid, message).await, "I will not.");
}

#[tokio::test(start_paused = true)]
async fn an_empty_reply_is_an_empty_answer() {
    let empty = Reply {
        parts: vec![],
        stop: StopReason::Stop,
        usage: None,
        model: String::new(),
        raw: None,
    };
    let (_, outcome) = Kit::new(vec![Say::Full(empty)]).run().await;
    assert_eq!(outcome, Outcome::Exited(Exit::Completed { answer: None }));
}

#[tokio::test(start_paused = true)]
async fn names_with_nul_or_without_id_are_journaled_all_the_same() {
    let call = |id: &str, name: &str| Part::ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: "{}".into(),
    };
    let odd = Reply {
        parts: vec![call("", "pu\0re"), call("i\0d", "pure"), call("x", &"n".repeat(500))],
        stop: StopReason::ToolCalls,
        usage: None,
        model: "m\0".into(),
        raw: None,
    };
    let kit = Kit::new(vec![Say::Full(odd), Say::Text("ok")]);
    let (_, outcome) = kit.run().await;
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    assert_eq!(kit.pure.total(), 1);
}

#[tokio::test(start_paused = true)]
async fn opaque_blocks_go_back_byte_for_byte() {
    let bytes: std::sync::Arc<[u8]> = vec![0, 0xff, b'\n', 0x80].into();
    let block = Part::Opaque { format: "puppet/think".into(), bytes: bytes.clone() };
    let call = Part::ToolCall { id: "a".into(), name: "pure".into(), arguments: "{}".into() };
    let thinking = Reply {
        parts: vec![block.clone(), call],
        stop: StopReason::ToolCalls,
        usage: None,
        model: String::new(),
        raw: None,
    };
    let kit = Kit::new(vec![Say::Full(thinking), Say::Text("ok")]);
    kit.run().await;
    let asked = kit.puppet.asked.lock().unwrap();
    assert_eq!(asked[1].messages[2].parts[0], block);
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_was_too_long_is_planned_anew_once() {
    let long = failure(FailureKind::ContextLength, Code::LlmContextLength, None);
    let kit = Kit::new(vec![Say::Call("pure", "{}"), long.clone(), Say::Text("ok")]);
    let (pid, outcome) = kit.run().await;
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    let plans = kit.names(pid).await.iter().filter(|name| **name == "planned").count();
    assert_eq!(plans, 3);
    assert_eq!(kit.image(pid).await.step.0, 2, "a step that is planned anew is the same step");

    let kit = Kit::new(vec![long.clone(), long]);
    let (_, outcome) = kit.run().await;
    assert!(
        matches!(&outcome, Outcome::Exited(Exit::Failed { code, .. }) if code == "AOSK-L005"),
        "{outcome:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_passes_is_tried_again_and_what_cannot_is_not() {
    let transient = failure(FailureKind::Transient, Code::LlmTransient, None);
    let kit = Kit::new(vec![transient.clone(), transient.clone(), Say::Text("ok")]);
    let (pid, outcome) = kit.run().await;
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })));
    let failed = kit.names(pid).await.iter().filter(|name| **name == "llm_failed").count();
    assert_eq!(failed, 2);

    let kit = Kit::new(vec![transient; 6]);
    let (pid, outcome) = kit.run().await;
    let Outcome::Exited(Exit::Failed { code, message }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(code, "AOSK-L007");
    assert!(kit.text(pid, message).await.contains("given up after 6 attempts"));

    let kit = Kit::new(vec![failure(FailureKind::Fatal, Code::LlmAuth, None)]);
    let (_, outcome) = kit.run().await;
    assert!(matches!(outcome, Outcome::Exited(Exit::Failed { code, .. }) if code == "AOSK-L002"));
    assert_eq!(kit.puppet.asked.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_device_is_left_alone_by_all_until_it_says() {
    let throttled =
        failure(FailureKind::Throttled, Code::LlmThrottled, Some(Duration::from_secs(30)));
    let kit = Kit::new(vec![throttled]);
    let kernel = kit.kernel();
    let first = kernel.spawn(spawn("a")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let second = kernel.spawn(spawn("b")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(kit.puppet.asked.lock().unwrap().len(), 1, "21 s after a pause of 30 s began");
    for pid in [first, second] {
        let outcome = kernel.wait(pid).await.unwrap();
        assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })));
    }
    assert_eq!(kit.puppet.asked.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_panics_or_hangs_is_a_failed_result() {
    let kit = Kit::new(vec![
        Say::Call("pure", "{\"panic\": true}"),
        Say::Call("slow", "{}"),
        Say::Text("ok"),
    ]);
    let (pid, outcome) = kit.run().await;
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    let results: Vec<_> = kit
        .events(pid)
        .await
        .into_iter()
        .filter_map(|what| match what {
            What::ToolReturned(returned) => Some((returned.success, returned.result)),
            _ => None,
        })
        .collect();
    assert!(kit.text(pid, results[0].1).await.contains("tool_failed"));
    assert!(kit.text(pid, results[1].1).await.contains("timeout"));
    assert!(results.iter().all(|(success, _)| !success));
}

#[tokio::test(start_paused = true)]
async fn a_task_larger_than_the_window_fails_with_the_numbers() {
    let kit = Kit::with(Puppet::new(vec![]).windowed(1000));
    let kernel = kit.kernel();
    let pid = kernel.spawn(spawn(&"word ".repeat(10_000))).await.unwrap();
    let outcome = kernel.wait(pid).await.unwrap();
    let Outcome::Exited(Exit::Failed { code, message }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(code, "AOSK-X001");
    let message = kit.text(pid, message).await;
    assert!(message.contains("1000") && message.contains("12"), "{message}");
    assert_eq!(kit.puppet.asked.lock().unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_never_comes_back_is_given_up_and_asked_again() {
    let kit = Kit::new(vec![Say::Hang, Say::Text("ok")]);
    let began = tokio::time::Instant::now();
    let hour = Duration::from_secs(3600);
    let (pid, outcome) = tokio::time::timeout(hour, kit.run()).await.expect("it is given up");
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    // A minute is what the device allows itself.
    let took = began.elapsed().as_secs();
    assert!((70..73).contains(&took), "{took}");
    assert!(kit.names(pid).await.contains(&"llm_failed"));
}

#[tokio::test(start_paused = true)]
async fn a_long_conversation_never_exceeds_the_window() {
    let call = || Say::Call("pure", "{\"say\": \"0123456789012345678901234567890123456789\"}");
    let kit = Kit::with(Puppet::new((0..60).map(|_| call()).collect()).windowed(700));
    let kernel = kit.kernel();
    let mut request = spawn("talk");
    request.manifest.max_steps = 61;
    request.manifest.sampling.max_output_tokens = Some(aosk_abi::Tokens(100));
    let pid = kernel.spawn(request).await.unwrap();
    let outcome = kernel.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    let mut generations = 0;
    for what in kit.events(pid).await {
        if let What::Planned(planned) = what {
            assert!(planned.prompt_tokens.0 + 100 <= 700);
            generations = planned.generation;
        }
    }
    assert!(generations > 1, "pages left at least twice");
    assert!(kit.image(pid).await.pages.tokens().0 < 700);
    assert_eq!(kit.puppet.peak.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn secrets_are_gone_before_anything_is_hashed() {
    const CANARY: &str = "sk-canary-0123456789";
    let leaky = Reply {
        parts: vec![
            Part::Text(format!("your key is {CANARY}").into()),
            Part::Opaque { format: "x".into(), bytes: CANARY.as_bytes().into() },
            Part::ToolCall {
                id: format!("1-{CANARY}").into(),
                name: "pure".into(),
                arguments: format!("{{\"say\": \"{CANARY}\"}}").into(),
            },
        ],
        stop: StopReason::ToolCalls,
        usage: None,
        model: format!("m-{CANARY}"),
        raw: Some(format!("data: {CANARY}").into_bytes().into()),
    };
    let error = aosk_ports::CallError {
        kind: FailureKind::Fatal,
        code: Code::LlmAuth,
        message: format!("bad key {CANARY}"),
        retry_after: None,
        usage: None,
    };
    let kit = Kit::new(vec![Say::Full(leaky), Say::Fail(error)]);
    let kernel = kit.kernel();
    let pid = kernel.spawn(spawn(&format!("use {CANARY}"))).await.unwrap();
    kernel.wait(pid).await.unwrap();
    let dump = format!("{:?}", kit.disk);
    assert!(!dump.contains("canary"), "{dump}");
    for what in kit.events(pid).await {
        if let What::LlmReturned(returned) = what {
            assert_eq!(returned.raw, None, "the wire form may hold it in pieces");
            assert_eq!(returned.model, format!("m-{REDACTED}"));
            assert_eq!(returned.parts.len(), 2, "a signed block is left out: {returned:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_wire_form_of_a_clean_reply_is_kept() {
    let clean = Reply {
        parts: vec![Part::Text("hello".into())],
        stop: StopReason::Stop,
        usage: None,
        model: "m".into(),
        raw: Some(b"data: hello, x-request: sk-canary-0123456789".as_slice().into()),
    };
    let kit = Kit::new(vec![Say::Full(clean)]);
    let (pid, _) = kit.run().await;
    let raw = kit.events(pid).await.into_iter().find_map(|what| match what {
        What::LlmReturned(returned) => returned.raw,
        _ => None,
    });
    assert_eq!(kit.text(pid, raw.unwrap()).await, "data: hello, x-request: [redacted]");
}

#[tokio::test(start_paused = true)]
async fn whoever_stands_in_line_is_not_sent_to_a_device_that_throttles() {
    // Also where the one that was throttled gives up, or asks another model.
    for (attempts, spares) in [(6, false), (1, false), (6, true)] {
        let named = Some(Duration::from_secs(30));
        let throttled = || failure(FailureKind::Throttled, Code::LlmThrottled, named);
        let mut kit = Kit::with(Puppet::new(vec![throttled()]).slots(1));
        kit.options.retry.attempts = attempts;
        let spare = Arc::new(Puppet::new(vec![]).named("spare"));
        let kernel = if spares { kit.kernel_with_spares(&[&spare]) } else { kit.kernel() };
        kernel.spawn(spawn("a")).await.unwrap();
        let second = kernel.spawn(spawn("b")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(29)).await;
        assert_eq!(kit.puppet.asked.lock().unwrap().len(), 1, "{attempts} {spares}");
        let outcome = kernel.wait(second).await.unwrap();
        assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_panics_before_it_begins_is_a_failed_result() {
    let kit = Kit::new(vec![Say::Call("pure", "{\"panic at once\": 1}"), Say::Text("ok")]);
    let (pid, outcome) = kit.run().await;
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    assert!(last_result(&kit, pid).await.contains("tool_failed"));
    assert!(!kit.names(pid).await.contains(&"crashed"));
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_was_too_long_is_planned_smaller_also_by_a_later_kernel() {
    let call = || Say::Call("pure", "{\"say\": \"0123456789012345678901234567890123456789\"}");
    let long = failure(FailureKind::ContextLength, Code::LlmContextLength, None);
    let script = (0..10).map(|_| call()).chain([long, Say::Text("ok")]).collect();
    let kit = Kit::with(Puppet::new(script).windowed(700));
    let kernel = kit.kernel();
    let mut request = spawn("talk");
    request.manifest.max_steps = 20;
    request.manifest.sampling.max_output_tokens = Some(aosk_abi::Tokens(100));
    let pid = kernel.spawn(request).await.unwrap();
    while kit.puppet.asked.lock().unwrap().len() < 11 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The refusal is written down, and no plan after it.
    kernel.stop(Stop::Graceful);
    kernel.quiet().await;
    let again = kit.kernel();
    again.recover().await.unwrap();
    let outcome = again.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    let plans = kit.events(pid).await.into_iter().filter_map(|what| match what {
        What::Planned(planned) => Some(planned.prompt_tokens.0),
        _ => None,
    });
    let plans: Vec<u64> = plans.collect();
    let [.., refused, smaller] = plans[..] else { panic!("{plans:?}") };
    // A quarter more than was counted has to find room.
    assert!(refused * 5 / 4 + 100 > 700, "{plans:?}");
    assert!(smaller * 5 / 4 + 100 <= 700, "{plans:?}");
}

#[tokio::test(start_paused = true)]
async fn a_requested_tool_says_how_the_sandbox_confines_it() {
    let kit = Kit::new(vec![Say::Calls(vec![("pure", "{}"), ("keyed", "{}")])]);
    let kernel = kit.kernel_of(kit.store(), |parts| {
        parts.tools.insert("pure".into(), Counter::sandboxed("pure"));
    });
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    kernel.wait(pid).await.unwrap();
    let events = kit.events(pid).await;
    let isolation: Vec<_> = events
        .iter()
        .filter_map(|what| match what {
            What::ToolRequested(requested) => Some(requested.isolation.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(isolation, ["no-files", "none"]);
}
