//! What a process does when nothing goes wrong.

use std::time::Duration;

use aosk_abi::{CacheRules, Exit, Pid, Role, What};
use aosk_kernel::{Model, Outcome};
use aosk_ports::{Part, Request};

use crate::support::{Kit, Puppet, Quarters, Say, spawn};

#[tokio::test(start_paused = true)]
async fn a_process_calls_tools_until_the_model_answers() {
    let kit = Kit::new(vec![
        Say::Call("pure", "{}"),
        Say::Calls(vec![("pure", "{}"), ("keyed", "")]),
        Say::Text("42"),
    ]);
    let (pid, outcome) = kit.run().await;
    let Outcome::Exited(Exit::Completed { answer: Some(answer) }) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(kit.text(pid, answer).await, "42");
    assert_eq!((kit.pure.total(), kit.keyed.total()), (2, 1));
    assert_eq!(
        kit.names(pid).await,
        [
            "spawned",
            "planned",
            "llm_requested",
            "llm_returned",
            "tool_requested",
            "tool_returned",
            "planned",
            "llm_requested",
            "llm_returned",
            "tool_requested",
            "tool_requested",
            "tool_returned",
            "tool_returned",
            "planned",
            "llm_requested",
            "llm_returned",
            "exited",
        ]
    );
    let image = kit.image(pid).await;
    assert_eq!(image.step.0, 3);
    assert_eq!(image.account.usage.input.0, 300);
}

#[tokio::test(start_paused = true)]
async fn between_two_plans_the_prompt_only_grows() {
    let script = vec![Say::Call("pure", "{}"), Say::Call("keyed", "{}"), Say::Text("ok")];
    let kit = Kit::new(script);
    kit.run().await;
    let prompts = kit.puppet.prompts.lock().unwrap();
    assert_eq!(prompts.len(), 3);
    for pair in prompts.windows(2) {
        assert!(pair[1].prompt_bytes.starts_with(&pair[0].prompt_bytes));
        assert!(pair[1].prompt_len > pair[0].prompt_len);
    }
    // The tail differs in each, and stands behind what is hashed.
    let asked = kit.puppet.asked.lock().unwrap();
    let tails: Vec<_> = asked.iter().map(|request| request.tail.clone().unwrap()).collect();
    assert!(tails[0].ends_with("step 1 of 8]") && tails[2].ends_with("step 3 of 8]"), "{tails:?}");
}

#[tokio::test(start_paused = true)]
async fn the_plan_names_how_its_endpoint_keeps_prompts() {
    let rules = CacheRules { ttl_ms: Some(300_000), ..CacheRules::default() };
    for (known, first) in [(true, Some(rules)), (false, None)] {
        let puppet = Puppet::new(vec![Say::Call("pure", "{}")]);
        let kit = Kit::with(if known { puppet.keeping(Duration::from_secs(300)) } else { puppet });
        let (pid, _) = kit.run().await;
        let plans = kit.events(pid).await.into_iter().filter_map(|what| match what {
            What::Planned(planned) => Some(planned.under.cache),
            _ => None,
        });
        assert_eq!(plans.collect::<Vec<_>>(), [first, None]);
        let conditions = kit.image(pid).await.conditions.expect("it planned");
        assert_eq!(conditions.cache, first.unwrap_or_default());
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_between_a_call_and_its_result_stands_behind_the_result() {
    let mut kit = Kit::new(vec![Say::Call("slow", "{}"), Say::Text("ok")]);
    kit.slow = crate::support::Counter::new(
        "slow",
        aosk_abi::Effect::Pure,
        std::time::Duration::from_secs(10),
    );
    let store = kit.store();
    let kernel = kit.kernel_on(store.clone());
    let pid = kernel.spawn(spawn("wait")).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let message = aosk_ports::InboxItem::Message { from: "user".into(), text: "hurry".into() };
    aosk_ports::Inbox::post(&store, &aosk_abi::Tenant::local(), pid, message).await.unwrap();
    kernel.wait(pid).await.unwrap();
    let asked = kit.puppet.asked.lock().unwrap().clone();
    let roles: Vec<Role> = asked[1].messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool, Role::User]);
    let last = asked[1].messages.last().unwrap();
    assert_eq!(last.parts[..], [Part::Text("hurry".into())]);
    let waiting = aosk_ports::Inbox::pending(&store, &aosk_abi::Tenant::local()).await.unwrap();
    assert_eq!(waiting, [], "what is in the journal is no longer in the inbox");
}

#[tokio::test(start_paused = true)]
async fn tools_are_masked_when_their_steps_are_used_up_and_the_list_stays() {
    let kit = Kit::new(vec![Say::Call("pure", "{}"), Say::Text("ok")]);
    let kernel = kit.kernel();
    let mut request = spawn("once");
    request.manifest.react.max_tool_steps = Some(1);
    let pid = kernel.spawn(request).await.unwrap();
    kernel.wait(pid).await.unwrap();
    let asked = kit.puppet.asked.lock().unwrap();
    assert_eq!(asked.iter().map(|r| r.may_call).collect::<Vec<_>>(), [true, false]);
    assert_eq!(asked[0].tools, asked[1].tools);
}

#[tokio::test(start_paused = true)]
async fn an_alias_is_one_process_for_ever() {
    let kit = Kit::new(vec![]);
    let kernel = kit.kernel();
    let request = || aosk_kernel::Spawn { alias: Some("agent-123".into()), ..spawn("hi") };
    let pid = kernel.spawn(request()).await.unwrap();
    assert_eq!(pid, aosk_abi::Pid::from_alias("agent-123"));
    kernel.wait(pid).await.unwrap();
    let error = kernel.spawn(request()).await.expect_err("it exists");
    assert_eq!(error.code(), aosk_abi::Code::StoreConflict);
    assert!(matches!(kit.events(pid).await[0], What::Spawned(_)));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_run_is_refused_before_anything_is_written() {
    let kit = Kit::with(Puppet::new(vec![]).without_temperature());
    let kernel = kit.kernel();
    type Spoil = fn(&mut aosk_kernel::Spawn);
    let cases: [(&str, Spoil); 9] = [
        ("AOSK-K006", |s| s.task = " \n".into()),
        ("AOSK-K001", |s| s.manifest.tools = vec!["nope".into()]),
        ("AOSK-K002", |s| s.manifest.program = "nope".into()),
        ("AOSK-L003", |s| s.model = "nope".into()),
        ("AOSK-A005", |s| s.manifest.context.policy = "nope".into()),
        ("AOSK-A005", |s| s.manifest.context.window = Some(aosk_abi::Tokens(4097))),
        ("AOSK-A005", |s| s.manifest.sampling.temperature = Some(0.5)),
        // Values that a manifest from TOML cannot have: they would be no limit at all.
        ("AOSK-A005", |s| s.manifest.quota.spend_usd = Some(f64::NAN)),
        ("AOSK-A005", |s| s.manifest.quota.spend_usd = Some(-1.0)),
    ];
    for (code, spoil) in cases {
        let mut request = spawn("task");
        spoil(&mut request);
        let error = kernel.check(&request.manifest, &request.model).await;
        assert_eq!(error.is_ok(), code == "AOSK-K006", "a check asks for all but the task");
        let error = kernel.spawn(request).await.expect_err(code);
        assert_eq!(error.code().as_str(), code, "{error}");
    }
    let store = kit.store();
    let all = aosk_ports::Journal::processes(
        &store,
        &aosk_abi::Tenant::local(),
        aosk_ports::ProcessFilter::All,
    );
    assert_eq!(all.await.unwrap(), []);
    let mut all_of_it = spawn("task");
    all_of_it.manifest.context.window = Some(aosk_abi::Tokens(4096));
    assert!(kernel.spawn(all_of_it).await.is_ok(), "the model's own window");
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_could_run_nothing_does_not_start() {
    let start = |resident, names: [&str; 2], slots: [usize; 2]| {
        let mut kit = Kit::new(vec![]);
        kit.options.resident = resident;
        let parts = kit.parts(kit.store(), |parts| {
            for (index, (name, slots)) in names.into_iter().zip(slots).enumerate() {
                let device = std::sync::Arc::new(Puppet::new(vec![]).named(name).slots(slots));
                let tokenizer = std::sync::Arc::new(Quarters);
                parts.models.insert(format!("m{index}"), Model { device, tokenizer });
            }
        });
        aosk_kernel::Kernel::start(parts, kit.options.clone()).map(drop)
    };
    assert!(start(1, ["a", "b"], [1, 2]).is_ok());
    assert!(start(1, ["a", "a"], [2, 2]).is_ok(), "one device under two names");
    for (resident, names, slots, word) in [
        (0, ["a", "b"], [1, 1], "resident"),
        (1, ["a", "b"], [1, 0], "no slots"),
        (1, ["a", "a"], [1, 2], "1 slots and with 2"),
    ] {
        let error = start(resident, names, slots).expect_err(word);
        assert_eq!(error.code(), aosk_abi::Code::KernelSetup);
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_names_one_slot_of_its_server_while_others_call_in_between() {
    // Four calls each; the server has two slots and takes four calls at once.
    let says = |request: &Request| match request.messages.len() {
        ..8 => Say::Call("pure", "{}"),
        _ => Say::Text("done"),
    };
    for slots in [None, Some(2)] {
        let mut puppet = Puppet::new(Vec::new()).saying(says);
        puppet.kv_slots = slots;
        let kit = Kit::with(puppet);
        let kernel = kit.kernel();
        let mut pids = Vec::new();
        for _ in 0..2 {
            pids.push(kernel.spawn(spawn("go")).await.unwrap());
        }
        for pid in &pids {
            kernel.wait(*pid).await.unwrap();
        }
        // What both had is free again.
        let last = kernel.spawn(spawn("go")).await.unwrap();
        kernel.wait(last).await.unwrap();
        let asked = kit.puppet.asked.lock().unwrap().clone();
        let of = |pid: &Pid| -> Vec<Option<usize>> {
            let key = pid.to_string();
            asked.iter().filter(|it| it.cache_key == key).map(|it| it.slot).collect()
        };
        let [first, second] = [of(&pids[0]), of(&pids[1])];
        assert!(first.len() > 2 && second.len() > 2 && of(&last).len() > 2, "{asked:?}");
        assert!(first.iter().all(|slot| *slot == first[0]), "{first:?}");
        assert!(second.iter().all(|slot| *slot == second[0]), "{second:?}");
        assert_eq!(slots.is_some(), first[0] != second[0]);
        assert_eq!(slots.is_some(), of(&last)[0].is_some_and(|slot| slot < 2));
    }
}

#[tokio::test(start_paused = true)]
async fn what_stood_there_when_pages_last_left_is_told_while_it_stands() {
    let call = |turn: u64| {
        let text = format!("turn {turn} ").repeat(75);
        Say::Call("pure", format!("{{\"say\": \"{text}\"}}").leak())
    };
    let mut script: Vec<Say> = (0..16).map(call).collect();
    script.push(Say::Text("ok"));
    let kit = Kit::with(Puppet::new(script).windowed(1_600));
    let kernel = kit.kernel();
    let mut request = spawn("go");
    request.manifest.max_steps = 20;
    let pid = kernel.spawn(request).await.unwrap();
    kernel.wait(pid).await.unwrap();
    let asked = kit.puppet.asked.lock().unwrap().clone();
    // The messages of the call for which pages last left.
    let mut base = None;
    let (mut epochs, mut told) = (0, 0);
    for pair in asked.windows(2) {
        let [before, now] = [&pair[0], &pair[1]];
        if now.messages.starts_with(&before.messages) {
            assert_eq!(now.settled, base.unwrap_or(0));
        } else {
            assert!(now.settled == 0 || Some(now.settled) == base, "{}", now.settled);
            (base, epochs) = (Some(now.messages.len()), epochs + 1);
        }
        assert_eq!(now.messages[..now.settled], before.messages[..now.settled]);
        told += usize::from(now.settled > 0);
    }
    assert!(epochs > 1 && told > 2, "{epochs} epochs, told {told} times");
}
