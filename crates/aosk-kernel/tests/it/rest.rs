//! Processes that are not in memory: what brings them in, and who may come.

use std::time::Duration;

use aosk_abi::{
    BlockedOn, Code, Exit, FailureKind, MicroDollars, Pid, Priority, ProcessState, Signal,
    StopReason, Tenant, Tokens, Usage, What,
};
use aosk_kernel::{Kernel, Outcome};
use aosk_ports::{Inbox, InboxItem, Journal, Part, Reply};
use aosk_store::{SqliteReader, SqliteStore};

use crate::support::{Kit, Puppet, Say, failure, spawn};

async fn post(kit: &Kit, pid: Pid, item: InboxItem) {
    kit.store().post(&Tenant::local(), pid, item).await.unwrap();
}

fn message(text: &str) -> InboxItem {
    InboxItem::Message { from: "user".into(), text: text.into() }
}

/// A process that is suspended before its second step.
async fn suspended(kit: &Kit) -> (Kernel, Pid) {
    let kernel = kit.kernel();
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    post(kit, pid, InboxItem::Signal { signal: Signal::Stop }).await;
    kernel.nudge().unwrap();
    assert_eq!(kernel.wait(pid).await, Some(Outcome::Suspended));
    (kernel, pid)
}

#[tokio::test(start_paused = true)]
async fn what_comes_for_a_resting_process_brings_it_in() {
    let kit = Kit::new(vec![Say::Call("pure", "{}"), Say::Text("ok")]);
    let (kernel, pid) = suspended(&kit).await;

    post(&kit, pid, message("one thing more")).await;
    kernel.nudge().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(kit.names(pid).await.ends_with(&["message_received"]), "written down, and no more");
    assert_eq!(kernel.wait(pid).await, Some(Outcome::Suspended));

    post(&kit, pid, InboxItem::Signal { signal: Signal::Cont }).await;
    // Nobody says that something came: the kernel looks by itself.
    tokio::time::sleep(kit.options.inbox_poll * 2).await;
    let outcome = kernel.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    let names = kit.names(pid).await;
    assert!(!names.contains(&"recovered"), "the same kernel, the same epoch: {names:?}");
    assert!(kit.store().pending(&Tenant::local()).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_another_program_posts_is_heard_though_the_kernel_never_looks() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = aosk_store::Options { dir: dir.path().to_owned(), command: "a test".into() };
    let mut kit = Kit::new(vec![Say::Call("slow", "{}")]);
    kit.options.inbox_poll = Duration::from_secs(1_000_000);
    let kernel = kit.kernel_on(SqliteStore::open(&options).expect("a store"));
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    let reader = SqliteReader::open(dir.path()).expect("a reader");
    while reader.process(&Tenant::local(), pid).await.unwrap().unwrap().row.steps == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let kill = InboxItem::Signal { signal: Signal::Kill };
    reader.post(&Tenant::local(), pid, kill).await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(60), kernel.wait(pid)).await;
    assert_eq!(heard, Ok(Some(Outcome::Exited(Exit::Killed))));
}

#[tokio::test(start_paused = true)]
async fn a_resting_process_is_killed_without_a_model() {
    let mut kit = Kit::new(vec![Say::Call("pure", "{}")]);
    let (kernel, pid) = suspended(&kit).await;
    kernel.stop(aosk_kernel::Stop::Now);
    kit.options.adopts = true;
    let bare = kit.kernel_without_models();
    post(&kit, pid, InboxItem::Signal { signal: Signal::Kill }).await;
    bare.nudge().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bare.wait(pid).await, Some(Outcome::Exited(Exit::Killed)));
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_adopts_nothing_leaves_others_alone() {
    let mut kit = Kit::new(vec![Say::Call("pure", "{}"), Say::Text("ok")]);
    let (kernel, pid) = suspended(&kit).await;
    kernel.stop(aosk_kernel::Stop::Now);
    let foreground = kit.kernel();
    post(&kit, pid, InboxItem::Signal { signal: Signal::Cont }).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(foreground.wait(pid).await, Some(Outcome::Suspended));
    foreground.stop(aosk_kernel::Stop::Now);
    kit.options.adopts = true;
    let daemon = kit.kernel();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let outcome = daemon.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_lost_a_process_does_not_take_it_back_for_what_comes_for_it() {
    let mut kit = Kit::new((0..9).map(|_| Say::Hang).collect());
    kit.options.adopts = true;
    let old = kit.kernel();
    let pid = old.spawn(spawn("go")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let new = kit.kernel();
    new.resume(pid, None).await.unwrap();
    // The old one's call fails, and it cannot write that down.
    let lost = old.wait(pid).await.unwrap();
    assert!(matches!(lost, Outcome::Broken { code: Code::StoreStaleEpoch, .. }), "{lost:?}");
    let epoch = kit.image(pid).await.epoch;
    for _ in 0..5 {
        post(&kit, pid, message("hello")).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(kit.image(pid).await.epoch, epoch);
}

#[tokio::test(start_paused = true)]
async fn a_message_continues_a_conversation_that_ended() {
    let mut kit = Kit::new(vec![Say::Text("four"), Say::Call("pure", "{}"), Say::Text("five")]);
    kit.options.adopts = true;
    let kernel = kit.kernel();
    let pid = kernel.spawn(spawn("2 + 2?")).await.unwrap();
    kernel.wait(pid).await.unwrap();
    post(&kit, pid, message("and one more?")).await;
    kernel.nudge().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    kernel.quiet().await;
    let image = kit.image(pid).await;
    let ProcessState::Exited { exit: Exit::Completed { answer: Some(answer) } } = image.state
    else {
        panic!("{:?}", image.state);
    };
    assert_eq!(kit.text(pid, answer).await, "five");
    let asked = kit.puppet.prompts.lock().unwrap().clone();
    assert_eq!(asked.len(), 3);
    for pair in asked.windows(2) {
        assert!(pair[1].prompt_bytes.starts_with(&pair[0].prompt_bytes), "what was said stands");
    }
}

#[tokio::test(start_paused = true)]
async fn pages_leave_before_they_must_when_the_endpoint_has_forgotten_the_prompt() {
    const VERSE: &str = "some thirty tokens that stand in the window until there is a reason to let \
                         them go, and no call of a tool among them";
    for (idle, leaves) in [(290, false), (310, true)] {
        let mut script: Vec<Say> = std::iter::repeat_with(|| Say::Cut(VERSE)).take(9).collect();
        script.extend([Say::Text(VERSE), Say::Text("yes")]);
        let puppet = Puppet::new(script).windowed(900).replying(250);
        let mut kit = Kit::with(puppet.keeping(Duration::from_secs(300)));
        kit.options.adopts = true;
        let kernel = kit.kernel();
        let mut request = spawn("say it");
        request.manifest.tools.clear();
        request.manifest.max_steps = 12;
        let pid = kernel.spawn(request).await.unwrap();
        kernel.wait(pid).await.unwrap();
        let before = kit.image(pid).await.pages;
        assert_eq!(before.generation(), 0);
        // With the tail more than the 85 % of its room from which on it is worth it.
        assert!(before.tokens() > Tokens(500), "{}", before.tokens());

        tokio::time::sleep(Duration::from_secs(idle)).await;
        post(&kit, pid, message("again?")).await;
        kernel.nudge().unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        kernel.quiet().await;
        let after = kit.image(pid).await.pages;
        assert_eq!(after.generation() > 0, leaves, "after {idle} s: {}", after.tokens());
    }
}

#[tokio::test(start_paused = true)]
async fn pages_leave_before_they_must_when_the_prompt_was_lost_twice_after_such_a_pause() {
    const VERSE: &str = "some thirty tokens that stand in the window until there is a reason to let \
                         them go, and no call of a tool among them";
    let said = |text: &'static str, stop, cached| {
        let usage = Usage { input: Tokens(1_000), cached: Tokens(cached), ..Usage::default() };
        let (parts, model) = (vec![Part::Text(text.into())], "puppet-1".into());
        Say::Full(Reply { parts, stop, usage: Some(usage), model, raw: None })
    };
    for (lost, cached) in [(true, 0), (false, 1_000)] {
        let mut script = vec![said(VERSE, StopReason::Length, 1_000); 9];
        script.push(said(VERSE, StopReason::Stop, 1_000));
        script.extend(vec![said("yes", StopReason::Stop, cached); 3]);
        // How long the endpoint keeps a prompt is not known.
        let mut kit = Kit::with(Puppet::new(script).windowed(930).replying(250));
        kit.options.adopts = true;
        let kernel = kit.kernel();
        let mut request = spawn("say it");
        request.manifest.tools.clear();
        request.manifest.max_steps = 20;
        let pid = kernel.spawn(request).await.unwrap();
        kernel.wait(pid).await.unwrap();
        let mut left = Vec::new();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            post(&kit, pid, message("again?")).await;
            kernel.nudge().unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            kernel.quiet().await;
            left.push(kit.image(pid).await.pages.generation() > 0);
        }
        assert_eq!(left, [false, false, lost]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_for_a_killed_process_is_dismissed() {
    let mut kit = Kit::new(vec![Say::Hang]);
    kit.options.adopts = true;
    let kernel = kit.kernel();
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    post(&kit, pid, InboxItem::Signal { signal: Signal::Kill }).await;
    assert_eq!(kernel.wait(pid).await, Some(Outcome::Exited(Exit::Killed)));
    let end = kit.image(pid).await.next;
    for item in [message("are you there?"), InboxItem::Signal { signal: Signal::Cont }] {
        post(&kit, pid, item).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(kit.store().pending(&Tenant::local()).await.unwrap().is_empty());
    assert_eq!(kit.image(pid).await.next, end, "nothing was added to the journal");
}

#[tokio::test(start_paused = true)]
async fn a_raised_limit_and_another_priority_come_by_the_inbox() {
    let kit = Kit::with(Puppet::new(vec![Say::Text("ok")]).priced());
    let kernel = kit.kernel();
    let mut request = spawn("go");
    request.manifest.quota.spend_usd = Some(0.0);
    let pid = kernel.spawn(request).await.unwrap();
    let parked = kernel.wait(pid).await.unwrap();
    assert!(matches!(parked, Outcome::Parked(BlockedOn::Quota { .. })), "{parked:?}");
    let before = kit.image(pid).await.next;

    let priority = Priority::new(3).unwrap();
    post(&kit, pid, InboxItem::Priority { priority }).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let image = kit.image(pid).await;
    assert_eq!((image.priority, image.next), (priority, before.next()), "one event, still parked");

    let limit = MicroDollars(100_000_000);
    post(&kit, pid, InboxItem::SpendLimit { limit }).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let outcome = kernel.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_waits_leaves_memory_and_goes_on_in_time() {
    let minute = Duration::from_secs(60);
    let slow = failure(FailureKind::Throttled, Code::LlmThrottled, Some(minute));
    let kit = Kit::new(vec![slow, Say::Text("ok")]);
    let kernel = kit.kernel();
    let began = tokio::time::Instant::now();
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(kernel.residents(), 0, "it waits outside");
    let outcome = kernel.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    let took = began.elapsed();
    assert!(took >= minute && took < minute + Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_message_wakes_a_sleeper_and_a_kill_ends_it() {
    let hour = Duration::from_secs(3600);
    let slow = || failure(FailureKind::Throttled, Code::LlmThrottled, Some(hour));
    let kit = Kit::new(vec![slow(), Say::Text("ok")]);
    let kernel = kit.kernel();
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    post(&kit, pid, message("hello")).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(kit.names(pid).await.ends_with(&["message_received"]), "heard, and asleep again");
    assert_eq!(kernel.residents(), 0);
    post(&kit, pid, InboxItem::Signal { signal: Signal::Kill }).await;
    assert_eq!(kernel.wait(pid).await, Some(Outcome::Exited(Exit::Killed)));
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_go_of_sleepers_at_once() {
    let hour = Duration::from_secs(3600);
    let slow = failure(FailureKind::Throttled, Code::LlmThrottled, Some(hour));
    let kit = Kit::new(vec![slow]);
    let kernel = kit.kernel();
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let waiter = tokio::spawn({
        let kernel = kernel.clone();
        async move { kernel.wait(pid).await }
    });
    tokio::task::yield_now().await;
    kernel.stop(aosk_kernel::Stop::Graceful);
    assert_eq!(waiter.await.unwrap(), Some(Outcome::Stopped));
    kernel.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn more_processes_than_places_all_end_and_share_the_places() {
    let calls = (0..400).map(|_| Say::Call("pure", "{}")).collect();
    let mut kit = Kit::with(Puppet::new(calls).slots(50));
    kit.options.resident = 5;
    kit.options.stay_steps = 2;
    let kernel = kit.kernel();
    let mut pids = Vec::new();
    for index in 0..40 {
        let mut request = spawn(&format!("task {index}"));
        request.manifest.max_steps = 10;
        pids.push(kernel.spawn(request).await.unwrap());
    }
    let (mut most, mut unfinished) = (0, pids.len());
    let mut steps = Vec::new();
    while unfinished > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        most = most.max(kernel.residents());
        let mut all = Vec::new();
        for &pid in &pids {
            all.push(kit.image(pid).await);
        }
        unfinished = all.iter().filter(|image| !image.state.is_final()).count();
        steps.push(all.iter().map(|image| image.step.0).collect::<Vec<_>>());
    }
    assert!(most <= 5, "{most} in memory at once");
    let halfway = &steps[steps.len() / 2];
    let (least, top) = (halfway.iter().min().unwrap(), halfway.iter().max().unwrap());
    assert!(top - least <= 4, "who had two steps leaves for others: {halfway:?}");
    for (pid, outcome) in kernel.wait_each(&pids).await {
        assert!(matches!(outcome, Outcome::Exited(Exit::StepLimit { .. })), "{pid}: {outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sleeper_is_recovered_without_being_read_and_wakes_in_time() {
    // Within the first stretch of the simulated wall clock, which jumps later.
    let wait = Duration::from_secs(40);
    let slow = failure(FailureKind::Throttled, Code::LlmThrottled, Some(wait));
    let kit = Kit::new(vec![slow, Say::Text("ok")]);
    let began = tokio::time::Instant::now();
    let kernel = kit.kernel();
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    kernel.stop(aosk_kernel::Stop::Now);
    let next = kit.image(pid).await.next;

    let again = kit.kernel();
    assert_eq!(again.recover().await.unwrap(), [pid]);
    assert!(!again.is_quiet(), "it waits for its moment");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!((again.residents(), kit.image(pid).await.next), (0, next), "not even read");
    let outcome = again.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    let took = began.elapsed();
    assert!(took >= wait && took < wait + Duration::from_secs(2), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn models_are_connected_at_their_first_use_and_once() {
    let kit = Kit::new(vec![]);
    let (kernel, connected) = kit.kernel_that_connects();
    let mut pids = Vec::new();
    for _ in 0..3 {
        pids.push(kernel.spawn(spawn("go")).await.unwrap());
    }
    for (pid, outcome) in kernel.wait_each(&pids).await {
        assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{pid}: {outcome:?}");
    }
    assert_eq!(connected.load(std::sync::atomic::Ordering::SeqCst), 1);
    let mut other = spawn("go");
    other.model = "nobody".into();
    let error = kernel.spawn(other).await.expect_err("no such model");
    assert_eq!(error.code(), Code::LlmUnknownModel);
}

#[tokio::test(start_paused = true)]
async fn who_attends_to_one_process_leaves_the_others_alone() {
    let kit = Kit::new(vec![Say::Call("pure", "{}"), Say::Call("pure", "{}")]);
    let (kernel, one) = suspended(&kit).await;
    let other = kernel.spawn(spawn("go")).await.unwrap();
    post(&kit, other, InboxItem::Signal { signal: Signal::Stop }).await;
    kernel.nudge().unwrap();
    assert_eq!(kernel.wait(other).await, Some(Outcome::Suspended));
    kernel.stop(aosk_kernel::Stop::Now);
    for pid in [one, other] {
        post(&kit, pid, InboxItem::Signal { signal: Signal::Kill }).await;
    }
    let bare = kit.kernel_without_models();
    bare.attend(one);
    assert_eq!(bare.wait(one).await, Some(Outcome::Exited(Exit::Killed)));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bare.wait(other).await, Some(Outcome::Suspended));
}

#[tokio::test(start_paused = true)]
async fn recovery_takes_up_what_has_something_to_do_and_leaves_the_rest() {
    let kit = Kit::new(vec![Say::Call("pure", "{}"), Say::Hang, Say::Text("ok")]);
    let (kernel, resting) = suspended(&kit).await;
    let busy = kernel.spawn(spawn("go")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    kernel.stop(aosk_kernel::Stop::Now);
    kernel.quiet().await;

    let again = kit.kernel();
    assert_eq!(again.recover().await.unwrap(), [busy]);
    let outcome = again.wait(busy).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    assert_eq!(again.wait(resting).await, Some(Outcome::Suspended));
    let events = kit.events(resting).await;
    assert!(!events.iter().any(|what| matches!(what, What::Recovered(_))), "not touched");
}

#[tokio::test(start_paused = true)]
async fn a_resume_and_what_comes_in_the_inbox_do_not_take_a_process_from_each_other() {
    let mut kit = Kit::new(vec![Say::Call("pure", "{}"), Say::Text("ok")]);
    kit.options.adopts = true;
    let (kernel, pid) = suspended(&kit).await;
    kernel.stop(aosk_kernel::Stop::Now);
    let next = kit.kernel();
    post(&kit, pid, message("hello")).await;
    next.nudge().unwrap();
    // Both find the process at rest, at the same moment.
    let resumed = next.resume(pid, None).await;
    let outcome = next.wait(pid).await.unwrap();
    assert!(!matches!(outcome, Outcome::Broken { .. }), "{resumed:?}: {outcome:?}");
    if matches!(outcome, Outcome::Suspended) {
        next.resume(pid, None).await.unwrap();
    }
    let outcome = next.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_cannot_be_driven_is_killed_all_the_same() {
    for resumed in [false, true] {
        let kit = Kit::new(vec![Say::Hang]);
        let kernel = kit.kernel();
        let pid = kernel.spawn(spawn("go")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        kernel.stop(aosk_kernel::Stop::Now);
        // It is taken over, and there is no model for it.
        let bare = kit.kernel_without_models();
        bare.recover().await.unwrap();
        let outcome = bare.wait(pid).await.unwrap();
        assert!(matches!(outcome, Outcome::Broken { code: Code::LlmUnknownModel, .. }));
        if resumed {
            // It is taken over once more, to no avail, and held no longer.
            assert!(bare.resume(pid, None).await.is_err());
        }
        post(&kit, pid, InboxItem::Signal { signal: Signal::Kill }).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(bare.wait(pid).await, Some(Outcome::Exited(Exit::Killed)), "{resumed}");
    }
}
