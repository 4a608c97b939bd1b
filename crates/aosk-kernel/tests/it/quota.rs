//! Quotas that processes share, through the whole step loop.

use std::time::Duration;

use aosk_abi::{
    BlockedOn, Code, Exit, FailureKind, Pid, ProcessState, Scarce, Sharing, Tokens, What,
};
use aosk_kernel::{Error, Kernel, Outcome, Warned};
use aosk_ports::{Inbox as _, InboxItem, RateLimit, RateLimits};

use crate::support::{Kit, Puppet, Say, failure, spawn, whole};

fn sharing(text: &str) -> Sharing {
    toml::from_str(text).expect("a sharing")
}

fn kit(puppet: Puppet, text: &str) -> Kit {
    let mut kit = Kit::with(puppet);
    kit.options.sharing = sharing(text);
    kit
}

async fn spawn_many(kernel: &Kernel, many: usize) -> Vec<Pid> {
    let mut pids = Vec::new();
    for index in 0..many {
        pids.push(kernel.spawn(spawn(&format!("task {index}"))).await.unwrap());
    }
    pids
}

fn is_done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Exited(Exit::Completed { .. }))
}

fn limit(owner: &str, scarce: Scarce) -> BlockedOn {
    BlockedOn::Limit { owner: owner.into(), scarce, until: None }
}

#[tokio::test(start_paused = true)]
async fn forty_calls_of_a_cent_at_once_on_two_cents_are_two() {
    let says = || (0..40).map(|_| whole()).collect();
    for (owner, text) in [
        ("tenant local", "[tenants.local]\nquota.spend = \"0.02\""),
        ("pool puppet", "[pools.puppet]\nquota.spend = \"0.02\""),
        ("group g", "[tenants.local.groups.g]\nquota.spend = \"0.02\""),
    ] {
        let kit = kit(Puppet::new(says()).a_cent().slots(40), text);
        let kernel = kit.kernel();
        let mut pids = Vec::new();
        for _ in 0..40 {
            let mut request = spawn("go");
            request.manifest.group = Some("g".into());
            pids.push(kernel.spawn(request).await.unwrap());
        }
        let outcomes = kernel.wait_each(&pids).await;
        assert_eq!(outcomes.iter().filter(|(_, outcome)| is_done(outcome)).count(), 2, "{owner}");
        assert_eq!(kit.puppet.asked.lock().unwrap().len(), 2, "{owner}");
        let parked = Outcome::Parked(limit(owner, Scarce::Money));
        assert_eq!(outcomes.iter().filter(|(_, outcome)| *outcome == parked).count(), 38);
        let warned = |percent| Warned { owner: owner.into(), percent };
        assert_eq!(*kit.watcher.warned.lock().unwrap(), [warned(95)]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_call_did_not_use_lets_the_next_ones_in() {
    // Each call may cost a cent and costs 0.04 of one.
    let kit =
        kit(Puppet::new(vec![]).a_cent().slots(40), "[tenants.local]\nquota.spend = \"0.02/day\"");
    let kernel = kit.kernel();
    let pids = spawn_many(&kernel, 20).await;
    assert!(kernel.wait_each(&pids).await.iter().all(|(_, outcome)| is_done(outcome)));
    assert_eq!(kit.puppet.peak.load(std::sync::atomic::Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn who_is_out_of_quota_waits_until_a_time_that_everybody_sees_and_then_goes() {
    let kit = kit(Puppet::new(vec![]).slots(9), "[tenants.local]\nquota.requests = \"2/minute\"");
    let kernel = kit.kernel();
    let begun = tokio::time::Instant::now();
    let pids = spawn_many(&kernel, 3).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let state = kit.image(pids[2]).await.state;
    let ProcessState::Blocked { on: BlockedOn::Limit { owner, scarce, until }, since } = state
    else {
        panic!("{state:?}");
    };
    assert_eq!((owner.as_str(), scarce), ("tenant local", Scarce::Requests));
    let left = until.expect("a time").millis_since(since);
    assert!((28_000..=30_000).contains(&left), "a half of a minute, less one look: {left}");
    assert!(is_done(&kernel.wait(pids[2]).await.unwrap()));
    let took = begun.elapsed().as_secs_f64();
    assert!((30.0..31.0).contains(&took), "at that time and not at the next look: {took}");
}

#[tokio::test(start_paused = true)]
async fn the_quota_of_a_manifest_holds_its_own_process_and_nobody_else() {
    let kit = Kit::with(Puppet::new(vec![Say::Call("pure", "{}")]).slots(9));
    let kernel = kit.kernel();
    let mut request = spawn("slowly");
    request.manifest.quota.requests = Some("1/minute".parse().unwrap());
    let slow = kernel.spawn(request).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let other = kernel.spawn(spawn("at once")).await.unwrap();
    assert!(is_done(&kernel.wait(other).await.unwrap()));
    let state = kit.image(slow).await.state;
    assert!(
        matches!(&state, ProcessState::Blocked { on: BlockedOn::Limit { owner, .. }, .. }
            if owner == "process"),
        "{state:?}"
    );
    assert!(is_done(&kernel.wait(slow).await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_group_with_a_quota_is_held_by_its_own_though_its_tenant_has_none() {
    let kit =
        kit(Puppet::new(vec![]).slots(9), "[tenants.local.groups.batch]\nquota.calls_at_once = 1");
    let kernel = kit.kernel();
    let mut pids = Vec::new();
    for group in ["batch", "batch", "batch", "other", "other"] {
        let mut request = spawn("go");
        request.manifest.group = Some(group.into());
        pids.push(kernel.spawn(request).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(kit.puppet.peak.load(std::sync::atomic::Ordering::SeqCst), 3);
    assert!(kernel.wait_each(&pids).await.iter().all(|(_, outcome)| is_done(outcome)));
}

#[tokio::test(start_paused = true)]
async fn a_call_larger_than_a_window_of_its_quota_rests_and_says_so() {
    // The task takes some 20 tokens, the reply up to 256.
    for (tokens, fits) in [(255, false), (256, true)] {
        let text = format!("[tenants.local]\nquota.output_tokens = \"{tokens}/minute\"");
        let kit = kit(Puppet::new(vec![]), &text);
        let (pid, outcome) = kit.run().await;
        if fits {
            assert!(is_done(&outcome), "{outcome:?}");
            continue;
        }
        assert_eq!(outcome, Outcome::Parked(limit("tenant local", Scarce::Output)));
        // It is taken up again when somebody says so, on a kernel with a greater quota.
        let mut raised = kit;
        raised.options.sharing = Sharing::default();
        let kernel = raised.kernel();
        kernel.resume(pid, None).await.unwrap();
        assert!(is_done(&kernel.wait(pid).await.unwrap()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_larger_than_what_was_reserved_goes_back_into_the_queue_and_never_over_the_quota() {
    // Before a text is counted it is taken for a token in two bytes; here each byte is one.
    let long: &'static str = "x".repeat(2_000).leak();
    let arguments: &'static str = format!("{{\"say\": \"{long}\"}}").leak();
    for (quota, asked) in [(3_500, 1), (9_000, 2)] {
        let script = vec![Say::Call("pure", arguments), Say::Text("ok")];
        let text = format!("[pools.puppet]\nquota.input_tokens = \"{quota}/minute\"");
        let kit = kit(Puppet::new(script).windowed(16_384), &text);
        let kernel = kit.kernel_of(kit.store(), |parts| {
            let model = parts.models.get_mut("puppet").expect("the puppet");
            model.tokenizer = std::sync::Arc::new(crate::support::Bytes);
        });
        let pid = kernel.spawn(spawn("go")).await.unwrap();
        let outcome = kernel.wait(pid).await.unwrap();
        if asked == 1 {
            assert_eq!(outcome, Outcome::Parked(limit("pool puppet", Scarce::Input)));
        } else {
            assert!(is_done(&outcome), "{outcome:?}");
        }
        assert_eq!(kit.puppet.asked.lock().unwrap().len(), asked);
        let plans = kit.events(pid).await.into_iter().filter_map(|what| match what {
            What::Planned(planned) => Some(planned.prompt_tokens),
            _ => None,
        });
        let plans: Vec<Tokens> = plans.collect();
        assert_eq!(plans.len(), 2, "a plan is made once: {plans:?}");
        assert!(plans[1] > Tokens(3_500), "{plans:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_has_too_much_to_do_is_waited_for_and_no_process_hears_of_it() {
    let slow =
        || failure(FailureKind::Throttled, Code::LlmThrottled, Some(Duration::from_millis(300)));
    let script = (0..30).map(|_| slow()).collect();
    let kit = Kit::with(Puppet::new(script).slots(8));
    let kernel = kit.kernel();
    let pids = spawn_many(&kernel, 8).await;
    for (pid, outcome) in kernel.wait_each(&pids).await {
        assert!(is_done(&outcome), "{outcome:?}");
        for what in kit.events(pid).await {
            let What::LlmFailed(failed) = what else { continue };
            assert!(failed.retry_at.is_some(), "it is tried again");
        }
    }
    let asked = kit.puppet.asked.lock().unwrap().len();
    assert_eq!(asked, 38, "each refusal once, each answer once");
}

#[tokio::test(start_paused = true)]
async fn a_killed_process_gives_its_place_in_a_quota_back() {
    let kit =
        kit(Puppet::new(vec![Say::Hang]).slots(9), "[tenants.local]\nquota.calls_at_once = 1");
    let kernel = kit.kernel();
    let pids = spawn_many(&kernel, 2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let kill = InboxItem::Signal { signal: aosk_abi::Signal::Kill };
    kit.store().post(&aosk_abi::Tenant::local(), pids[0], kill).await.unwrap();
    kernel.nudge().unwrap();
    assert!(matches!(kernel.wait(pids[0]).await, Some(Outcome::Exited(Exit::Killed))));
    assert!(is_done(&kernel.wait(pids[1]).await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn what_is_out_of_range_starts_no_kernel() {
    for (text, names) in [
        ("[tenants.local]\nweight = 0", "tenants.local.weight"),
        ("[tenants.local]\nweight = 1048577", "tenants.local.weight"),
        ("[tenants.local.groups.g]\nweight = 0", "tenants.local.groups.g.weight"),
        ("[pools.puppet]\nquota.calls_at_once = 0", "pools.puppet.quota"),
        ("[tenants.\"no name\"]", "tenants.no name"),
    ] {
        let kit = kit(Puppet::new(vec![]), text);
        let refused = Kernel::start(kit.parts(kit.store(), |_| {}), kit.options.clone());
        let Err(Error::Refused { code: Code::KernelSetup, message }) = refused else {
            panic!("{text}");
        };
        assert!(message.contains(names), "{message}");
    }
}

/// How many of the processes have ended well.
async fn done(kit: &Kit, pids: &[Pid]) -> usize {
    let mut done = 0;
    for pid in pids {
        let state = kit.image(*pid).await.state;
        done += usize::from(matches!(state, ProcessState::Exited { .. }));
    }
    done
}

#[tokio::test(start_paused = true)]
async fn a_budget_survives_a_crash_and_what_was_in_flight_stays_spent() {
    let kit = kit(
        Puppet::new(vec![whole(), Say::Hang, whole(), whole(), whole()]).a_cent(),
        "[tenants.local]\nquota.spend = \"0.03\"",
    );
    let store = kit.boot();
    let kernel = kit.kernel_on(store.clone());
    let first = kernel.spawn(spawn("paid for")).await.unwrap();
    assert!(is_done(&kernel.wait(first).await.unwrap()));
    let cut = kernel.spawn(spawn("cut off")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    store.crash();
    drop(kernel);

    let kernel = kit.kernel_on(kit.boot());
    kernel.recover().await.unwrap();
    assert!(is_done(&kernel.wait(cut).await.unwrap()), "one cent is left for it");
    let last = kernel.spawn(spawn("too late")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(done(&kit, &[first, cut, last]).await, 2);
    assert_eq!(kit.puppet.asked.lock().unwrap().len(), 3, "three cents, three calls");
}

#[tokio::test(start_paused = true)]
async fn kernels_that_share_a_store_never_spend_more_than_the_budget_together() {
    let kit = kit(
        Puppet::new((0..40).map(|_| whole()).collect()).a_cent().slots(20),
        "[pools.puppet]\nquota.spend = \"0.05/day\"",
    );
    let kernels = [kit.kernel(), kit.kernel()];
    let mut pids = Vec::new();
    for kernel in &kernels {
        pids.extend(spawn_many(kernel, 20).await);
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(done(&kit, &pids).await, 5);
    assert_eq!(kit.puppet.asked.lock().unwrap().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_stops_gives_back_what_it_had_drawn_and_not_spent() {
    // A call may cost a cent and costs 0.04 of one; a life that kept its cent would leave no other.
    let kit = kit(Puppet::new(vec![]).a_cent(), "[tenants.local]\nquota.spend = \"0.0125\"");
    for life in 0..5 {
        let kernel = kit.kernel();
        let pid = kernel.spawn(spawn("go")).await.unwrap();
        assert!(is_done(&kernel.wait(pid).await.unwrap()), "life {life}");
        kernel.stop(aosk_kernel::Stop::Graceful);
        kernel.quiet().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_a_day_is_there_again_at_midnight() {
    let kit = kit(
        Puppet::new(vec![whole(), whole()]).a_cent(),
        "[tenants.local]\nquota.spend = \"0.015/day\"",
    );
    let kernel = kit.kernel();
    let pids = spawn_many(&kernel, 2).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(done(&kit, &pids).await, 1);
    let waits = kit.image(pids[1]).await.state;
    let ProcessState::Blocked { on: BlockedOn::Limit { scarce, until, .. }, .. } = waits else {
        panic!("{waits:?}");
    };
    let until = until.expect("a midnight").as_millis();
    let off = (until + 500) % 86_400_000;
    assert!(scarce == Scarce::Money && off <= 1_000, "{until} is no midnight");
    assert!(is_done(&kernel.wait(pids[1]).await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn what_an_endpoint_says_of_its_limits_slows_all_who_ask_it_and_nonsense_nobody() {
    let limit = |remaining| RateLimit {
        limit: Some(10),
        remaining: Some(remaining),
        resets_in: Some(Duration::from_secs(60)),
    };
    for (remaining, waits) in [(0, true), (-1, false), (11, false), (10, false)] {
        let kit = Kit::with(Puppet::new(vec![]).slots(9));
        let requests = limit(remaining);
        kit.puppet.limits.lock().unwrap().push(RateLimits { requests, ..RateLimits::default() });
        let kernel = kit.kernel();
        let first = kernel.spawn(spawn("hears it")).await.unwrap();
        assert!(is_done(&kernel.wait(first).await.unwrap()));
        let begun = tokio::time::Instant::now();
        let other = kernel.spawn(spawn("waits")).await.unwrap();
        assert!(is_done(&kernel.wait(other).await.unwrap()));
        // A tenth of what was used is there again after a tenth of the time.
        let took = begun.elapsed().as_secs();
        assert_eq!(took >= 5, waits, "{remaining} left: {took} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_has_not_spoken_yet_is_given_few_calls_and_then_as_many_as_it_has_slots() {
    let peak = |kit: &Kit| kit.puppet.peak.load(std::sync::atomic::Ordering::SeqCst);
    for (slots, first) in [(7, 7), (8, 8), (9, 8), (40, 8)] {
        let kit = Kit::with(Puppet::new(vec![]).slots(slots));
        let kernel = kit.kernel();
        let pids = spawn_many(&kernel, 60).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(peak(&kit), first, "{slots} slots");
        assert!(kernel.wait_each(&pids).await.iter().all(|(_, outcome)| is_done(outcome)));
        assert_eq!(peak(&kit), slots, "{slots} slots");
    }
}
