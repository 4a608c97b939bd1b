//! Quotas that are seen and set while a kernel runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aosk_abi::{
    BlockedOn, BudgetWarned, Code, Exit, Limits, MicroDollars, Pid, ProcessState, QuotaOwner,
    Scarce, Sharing, StopReason, Tenant, Timestamp, Tokens, Usage, What,
};
use aosk_kernel::{Error, Kernel, Outcome, QuotaStanding};
use aosk_ports::{Clock, Inbox as _, InboxItem, Part};
use futures::future::BoxFuture;

use crate::support::{Kit, Puppet, Say, spawn, whole};

fn kit(puppet: Puppet, text: &str) -> Kit {
    let mut kit = Kit::with(puppet);
    kit.options.sharing = toml::from_str::<Sharing>(text).expect("a sharing");
    kit
}

fn cents(many: usize) -> Puppet {
    Puppet::new((0..many).map(|_| whole()).collect()).a_cent().slots(40)
}

fn limits(text: &str) -> Limits {
    toml::from_str(text).expect("limits")
}

fn local() -> QuotaOwner {
    QuotaOwner::Tenant(Tenant::local())
}

async fn spawn_many(kernel: &Kernel, many: usize) -> Vec<Pid> {
    let mut pids = Vec::new();
    for index in 0..many {
        pids.push(kernel.spawn(spawn(&format!("task {index}"))).await.expect("spawned"));
    }
    pids
}

/// Tells those who rest for an owner's quota, as a command does.
async fn tell(kit: &Kit, kernel: &Kernel, pids: &[Pid], owner: &QuotaOwner, limits: Limits) {
    for &pid in pids {
        if let ProcessState::Blocked { .. } = kit.image(pid).await.state {
            let item = InboxItem::Quota { owner: owner.to_string(), limits };
            kit.store().post(&Tenant::local(), pid, item).await.expect("posted");
        }
    }
    kernel.nudge().expect("it runs");
}

async fn asked(kit: &Kit) -> usize {
    tokio::time::sleep(Duration::from_secs(5)).await;
    kit.puppet.asked.lock().expect("no panic").len()
}

fn is_done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Exited(Exit::Completed { .. }))
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_is_raised_lets_those_go_who_wait_and_a_lower_one_holds() {
    let kit = kit(Puppet::new(vec![]).slots(9), "[tenants.local]\nquota.requests = \"1/hour\"");
    let kernel = kit.kernel();
    let pids = spawn_many(&kernel, 3).await;
    assert_eq!(asked(&kit).await, 1);
    kernel.limit(&local(), limits("requests = \"3/hour\"")).await.expect("a limit");
    assert_eq!(asked(&kit).await, 3, "two more of the three in an hour");
    assert!(kernel.wait_each(&pids).await.iter().all(|(_, outcome)| is_done(outcome)));
    // What was used stays used under another limit, and a call that fits none waits.
    kernel.limit(&local(), limits("requests = \"2/hour\"")).await.expect("a limit");
    let late = kernel.spawn(spawn("late")).await.expect("spawned");
    assert_eq!(asked(&kit).await, 3);
    assert!(matches!(
        kit.image(late).await.state,
        ProcessState::Blocked { on: BlockedOn::Limit { scarce: Scarce::Requests, .. }, .. }
    ));
    kernel.limit(&local(), Limits::default()).await.expect("no limit");
    assert!(is_done(&kernel.wait(late).await.expect("there")), "nothing holds it any more");
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_raised_lets_exactly_so_many_more_go_and_they_say_why() {
    for (owner, key) in [
        (local(), "tenants.local"),
        (QuotaOwner::Pool("puppet".into()), "pools.puppet"),
        (QuotaOwner::Group(Tenant::local(), "g".into()), "tenants.local.groups.g"),
    ] {
        let kit = kit(cents(12), &format!("[{key}]\nquota.spend = \"0.02\""));
        let kernel = kit.kernel();
        let mut pids = Vec::new();
        for _ in 0..12 {
            let mut request = spawn("go");
            request.manifest.group = Some("g".into());
            pids.push(kernel.spawn(request).await.expect("spawned"));
        }
        assert_eq!(asked(&kit).await, 2, "{owner}");
        let more = limits("spend = \"0.05\"");
        kernel.limit(&owner, more).await.expect("a limit");
        tell(&kit, &kernel, &pids, &owner, more).await;
        assert_eq!(asked(&kit).await, 5, "{owner}");
        let less = limits("spend = \"0.03\"");
        kernel.limit(&owner, less).await.expect("a limit");
        tell(&kit, &kernel, &pids, &owner, less).await;
        assert_eq!(asked(&kit).await, 5, "{owner}: more is spent than there is now");
        let mut told = 0;
        for &pid in &pids {
            let names = kit.names(pid).await;
            let Some(at) = names.iter().position(|name| *name == "quota_changed") else { continue };
            told += 1;
            assert_eq!(names[at - 1], "blocked", "{names:?}");
        }
        assert_eq!(told, 10, "{owner}: each who rested and nobody else");
        // Another kernel that is started with the limit has what was spent.
        kernel.stop(aosk_kernel::Stop::Graceful);
        kernel.quiet().await;
        let mut next = kit;
        *next.options.sharing.limits_mut(&owner) = limits("spend = \"0.06\"");
        let kernel = next.kernel();
        tell(&next, &kernel, &pids, &owner, limits("spend = \"0.06\"")).await;
        kernel.recover().await.expect("recovered");
        for pid in &pids {
            kernel.attend(*pid);
        }
        assert_eq!(asked(&next).await, 6, "{owner}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_other_windows_counts_its_own_and_forgets_neither() {
    let kit = kit(cents(20), "[tenants.local]\nquota.spend = \"0.02/day\"");
    let kernel = kit.kernel();
    let pids = spawn_many(&kernel, 12).await;
    assert_eq!(asked(&kit).await, 2);
    // The month begins with nothing spent, and the day is still spent when it comes back.
    for (spend, all) in [("0.03/month", 5), ("0.02/day", 5), ("0.03/day", 6), ("0.04/month", 7)] {
        let changed = limits(&format!("spend = \"{spend}\""));
        kernel.limit(&local(), changed).await.expect("a limit");
        tell(&kit, &kernel, &pids, &local(), changed).await;
        assert_eq!(asked(&kit).await, all, "{spend}");
    }
    kernel.stop(aosk_kernel::Stop::Graceful);
    kernel.quiet().await;
    // What the day has spent outlives the kernel beside what the month has, also on its first day.
    let mut next = kit;
    *next.options.sharing.limits_mut(&local()) = limits("spend = \"0.04/day\"");
    let kernel = next.kernel();
    tell(&next, &kernel, &pids, &local(), limits("spend = \"0.04/day\"")).await;
    kernel.recover().await.expect("recovered");
    for pid in &pids {
        kernel.attend(*pid);
    }
    assert_eq!(asked(&next).await, 8, "three of the day's four are spent");
}

#[tokio::test(start_paused = true)]
async fn a_first_budget_of_a_running_kernel_is_drawn_like_any_other() {
    let kit = kit(cents(8), "");
    let kernels = [kit.kernel(), kit.kernel()];
    for kernel in &kernels {
        kernel.limit(&local(), limits("spend = \"0.05/day\"")).await.expect("a limit");
    }
    for kernel in &kernels {
        spawn_many(kernel, 4).await;
    }
    assert_eq!(asked(&kit).await, 5, "of both together");
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_lets_nothing_through_is_refused_and_changes_nothing() {
    let kit = kit(Puppet::new(vec![]), "[tenants.local]\nquota.calls_at_once = 2");
    let kernel = kit.kernel();
    let refused = kernel.limit(&local(), limits("calls_at_once = 0")).await;
    assert!(matches!(refused, Err(Error::Refused { code: Code::KernelSetup, .. })), "{refused:?}");
    let standing = kernel.quotas();
    assert_eq!(standing.len(), 1);
    assert_eq!(standing[0].limits[0].limit, 2);
    // A model that nobody has asked yet has its quota from the first call on.
    let later = QuotaOwner::Pool("nobody-asked".into());
    kernel.limit(&later, limits("requests = \"1/day\"")).await.expect("a limit");
    let owners: Vec<_> = kernel.quotas().into_iter().map(|it| it.owner).collect();
    assert_eq!(owners, ["pool nobody-asked", "tenant local"]);
}

#[tokio::test(start_paused = true)]
async fn a_warning_stands_once_in_the_journal_of_whose_call_passed_the_share() {
    let kit = kit(cents(20), "[tenants.local]\nquota.spend = \"0.10\"");
    let kernel = kit.kernel();
    let mut pids = Vec::new();
    for _ in 0..10 {
        let pid = kernel.spawn(spawn("one after the other")).await.expect("spawned");
        assert!(is_done(&kernel.wait(pid).await.expect("there")));
        pids.push(pid);
    }
    let warned = |percent| {
        let owner = "tenant local".to_owned();
        What::BudgetWarned(BudgetWarned {
            limit: MicroDollars(100_000),
            owner,
            percent,
            until: None,
        })
    };
    for (index, pid) in pids.iter().enumerate() {
        let events = kit.events(*pid).await;
        let warnings: Vec<&What> =
            events.iter().filter(|what| matches!(what, What::BudgetWarned(_))).collect();
        let expected = match index {
            7 => vec![warned(80)],
            9 => vec![warned(95)],
            _ => Vec::new(),
        };
        assert_eq!(warnings, expected.iter().collect::<Vec<_>>(), "call {index}");
    }
    let names = kit.names(pids[7]).await;
    let place = |name| names.iter().position(|it| *it == name);
    assert!(place("budget_warned") < place("llm_requested"), "durable before the call: {names:?}");
}

#[tokio::test(start_paused = true)]
async fn standings_tell_what_is_used_reserved_and_when_it_comes_back() {
    let puppet = Puppet::new(vec![Say::Hang]).a_cent().slots(9);
    let kit =
        kit(puppet, "[tenants.local]\nquota = { spend = \"0.05/day\", requests = \"2/hour\" }");
    let kernel = kit.kernel();
    let mut request = spawn("hangs");
    request.manifest.quota.output_tokens = Some("1000/minute".parse().expect("a rate"));
    let pid = kernel.spawn(request).await.expect("spawned");
    assert_eq!(asked(&kit).await, 1);
    let read = |standing: &QuotaStanding| {
        let limits = standing.limits.iter();
        limits.map(|it| (it.scarce, it.used, it.reserved, it.percent())).collect::<Vec<_>>()
    };
    let [tenant, process] = &kernel.quotas()[..] else { panic!("two quotas") };
    assert_eq!((tenant.owner.as_str(), tenant.pid), ("tenant local", None));
    assert_eq!(read(tenant), [(Scarce::Requests, 1, 0, 50), (Scarce::Money, 0, 10_000, 20)]);
    let midnight = tenant.limits[1].resets.expect("a midnight").as_millis() + 500;
    assert!(midnight % 86_400_000 <= 1_000, "{midnight}");
    assert_eq!((process.owner.as_str(), process.pid), ("process", Some(pid)));
    let [(Scarce::Output, 0, reserved, _)] = read(process)[..] else { panic!("{process:?}") };
    assert!((170..=175).contains(&reserved), "a reply less what drained in 5 s: {reserved}");
}

#[tokio::test(start_paused = true)]
async fn devices_and_those_who_wait_for_them_are_seen_as_they_stand() {
    let mut script = vec![Say::Text("first")];
    script.extend((0..2).map(|_| Say::Hang));
    let kit = kit(Puppet::new(script).a_cent().slots(2), "");
    let kernel = kit.kernel();
    let said = aosk_ports::RateLimit {
        limit: Some(10),
        remaining: Some(8),
        resets_in: Some(Duration::from_secs(60)),
    };
    let requests = aosk_ports::RateLimits { requests: said, ..aosk_ports::RateLimits::default() };
    kit.puppet.limits.lock().expect("no panic").push(requests);
    let first = kernel.spawn(spawn("first")).await.expect("spawned");
    assert!(is_done(&kernel.wait(first).await.expect("there")));
    let pids = spawn_many(&kernel, 5).await;
    assert_eq!(asked(&kit).await, 3);
    let standings = kernel.standings().await;
    let [device] = &standings.devices[..] else { panic!("one device: {standings:?}") };
    assert_eq!(
        (device.name.as_str(), device.slots, device.depth, device.in_flight, device.waiting),
        ("puppet", 2, 2, 2, 3)
    );
    assert_eq!(device.model.as_deref(), Some("puppet-1"));
    assert!(device.spoke && device.paused.is_none());
    assert_eq!((&device.circuit, &device.server), (&None, &None), "it is well, and tells nothing");
    assert_eq!((device.answered, device.refused), (1, 0));
    assert!(device.usage.output > Tokens(0) && device.cost > MicroDollars::ZERO);
    assert_eq!(device.output_last_minute, device.usage.output.0);
    let heard = &device.heard[0];
    assert_eq!((heard.scarce, heard.limit), (Scarce::Requests, 10));
    assert!((4..=5).contains(&heard.used), "two before, and two in flight: {heard:?}");
    let seen: Vec<Pid> = standings.processes.iter().map(|process| process.pid).collect();
    let mut sorted = pids.clone();
    sorted.sort_unstable();
    assert_eq!(seen, sorted, "who has ended is not among them");
    let waiting = standings.processes.iter().filter(|it| it.waits && it.in_flight == 0);
    assert_eq!(waiting.count(), 3);
}

/// A wall that somebody puts back; the monotonic clock goes on.
struct PutBack {
    clock: Arc<dyn Clock>,
    by_millis: AtomicU64,
}

impl Clock for PutBack {
    fn now(&self) -> Timestamp {
        let now = self.clock.now().as_millis();
        Timestamp::from_millis(now - self.by_millis.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.clock.sleep(duration)
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_that_is_put_back_gives_no_day_twice_and_keeps_nobody_waiting_for_its_own() {
    const DAY: u64 = 86_400_000;
    let kit = kit(cents(20), "[tenants.local]\nquota.spend = \"0.02/day\"");
    let mut wall = None;
    let kernel = kit.kernel_of(kit.store(), |parts| {
        let put_back = PutBack { clock: parts.clock.clone(), by_millis: AtomicU64::new(0) };
        let put_back = Arc::new(put_back);
        parts.clock = put_back.clone();
        wall = Some(put_back);
    });
    let wall = wall.expect("it was set");
    spawn_many(&kernel, 12).await;
    assert_eq!(asked(&kit).await, 2);
    // Two days back: neither the day before nor this one is there once more.
    wall.by_millis.store(2 * DAY, Ordering::SeqCst);
    kernel.limit(&local(), limits("spend = \"0.03/day\"")).await.expect("a limit");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(asked(&kit).await, 3, "one cent more than before");
    // Each day of the clock that nobody puts back brings a day's money, however late the wall is.
    let mut all = 3;
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(DAY)).await;
        let now = asked(&kit).await;
        assert!(now <= all + 3, "{now} after {all}");
        all = now;
    }
    wall.by_millis.store(0, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(2 * DAY)).await;
    assert!(asked(&kit).await >= all + 3, "the wall is right again, and so is its day");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_lies_about_its_usage_is_never_given_more_than_it_said() {
    let says = |usage| {
        let Say::Full(reply) = whole() else { panic!("a whole reply") };
        Say::Full(aosk_ports::Reply { usage, ..reply })
    };
    let output = |tokens| Some(Usage { output: Tokens(tokens), ..Usage::default() });
    // What it may cost is a cent, and there are four of them.
    for (usage, calls) in [
        // It says nothing: all that was reserved counts.
        (None, 4),
        // More than it may use: that is a debt, and nobody calls on it.
        (output(257 * 2), 2),
        (output(u64::MAX), 1),
        // Nothing at all, which it may well have used.
        (output(0), 12),
    ] {
        let puppet = Puppet::new((0..12).map(|_| says(usage)).collect()).a_cent().slots(1);
        let kit = kit(puppet, "[tenants.local]\nquota.spend = \"0.04\"");
        let kernel = kit.kernel();
        spawn_many(&kernel, 12).await;
        assert_eq!(asked(&kit).await, calls, "{usage:?}");
        let money = &kernel.quotas()[0].limits[0];
        assert_eq!(money.reserved, 0, "{usage:?}: {money:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_claims_more_than_any_can_use_costs_its_process_a_bounded_part_of_its_share() {
    let call = Part::ToolCall { id: "c".into(), name: "pure".into(), arguments: "{}".into() };
    let lie = Say::Full(aosk_ports::Reply {
        parts: vec![call],
        stop: StopReason::ToolCalls,
        usage: Some(Usage { input: Tokens(100), output: Tokens(1 << 60), ..Usage::default() }),
        model: "puppet-1".into(),
        raw: None,
    });
    let calls = (0..400).map(|_| Say::Call("pure", "{}"));
    let puppet = Puppet::new([lie].into_iter().chain(calls).collect()).slots(1);
    let kit = kit(puppet, "[pools.puppet]\norder = \"fair\"");
    let kernel = kit.kernel();
    let mut pids = Vec::new();
    for name in ["lied about", "other", "third"] {
        let mut request = spawn(name);
        request.manifest.max_steps = 1_000;
        pids.push(kernel.spawn(request).await.expect("spawned"));
    }
    while kit.puppet.asked.lock().expect("no panic").len() < 300 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let events = kit.events(pids[0]).await;
    let asked = events.iter().filter(|what| matches!(what, What::LlmRequested(_))).count();
    // Two windows of 4,096 tokens are 75 calls of 110 that each of the others is ahead; what is left of
    // the 300 is shared by three.
    assert!((35..=75).contains(&asked), "{asked} of 300");
}
