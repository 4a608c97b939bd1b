//! What an agent may use its children share, whatever becomes of either.

use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{BlockedOn, Limits, Manifest, Pid, ProcessState, Scarce, StopReason, Tenant, What};
use aosk_kernel::{Kernel, Outcome, Spawn};
use aosk_ports::{Inbox as _, InboxItem, Journal as _, Part, ProcessFilter, Reply, Request};
use aosk_sim::MemoryStore;

use crate::mail::{kernel_on, results, state};
use crate::support::{Kit, Puppet, Say, spawn, whole};

/// A root that may begin `middle`, which may begin `leaf`; each asks a model of its name.
fn root(quota: &str, of_middle: &str) -> Spawn {
    let text = format!(
        "name = \"root\"\ntools = [\"spawn\", \"wait\"]\nmax_steps = 90\n[quota]\n{quota}\n\
         [[children]]\nname = \"middle\"\nmodel = \"middle\"\nmax_steps = 90\n\
         tools = [\"spawn\", \"wait\", \"pure\"]\nquota = {{ {of_middle} }}\n\
         [[children.children]]\nname = \"leaf\"\nmodel = \"leaf\"\ntools = [\"pure\"]\n\
         max_steps = 90\n"
    );
    Spawn { manifest: Manifest::from_toml(&text).expect("a manifest"), ..spawn("go") }
}

const MIDDLE: (&str, &str) = ("spawn", r#"{"agent": "middle", "task": "find it"}"#);
const LEAF: (&str, &str) = ("spawn", r#"{"agent": "leaf", "task": "find it"}"#);
const WAIT: Say = Say::Call("wait", "{}");

fn works(_: &Request) -> Say {
    Say::Call("pure", "{}")
}

fn hangs(_: &Request) -> Say {
    Say::Hang
}

fn begins_a_leaf(request: &Request) -> Say {
    if results(request).is_empty() { Say::Calls(vec![LEAF]) } else { works(request) }
}

fn waits_for_a_leaf(request: &Request) -> Say {
    if results(request).is_empty() { Say::Calls(vec![LEAF]) } else { WAIT }
}

/// A root with so many children that do what `middle` says.
struct Family {
    kit: Kit,
    middle: Arc<Puppet>,
    leaf: Arc<Puppet>,
}

impl Family {
    fn new(children: usize, middle: fn(&Request) -> Say) -> Self {
        Self::paying(children, middle, |puppet| puppet)
    }

    /// The same with models of that price.
    fn paying(children: usize, middle: fn(&Request) -> Say, price: fn(Puppet) -> Puppet) -> Self {
        let says = vec![Say::Calls(vec![MIDDLE; children]), WAIT, WAIT, WAIT];
        let mut kit = Kit::with(price(Puppet::new(says).slots(9)));
        kit.options.adopts = true;
        let puppet = |name| price(Puppet::new(vec![]).slots(40).named(name));
        let (middle, leaf) = (puppet("middle").saying(middle), puppet("leaf").saying(works));
        Self { kit, middle: Arc::new(middle), leaf: Arc::new(leaf) }
    }

    fn kernel(&self) -> Kernel {
        self.kernel_on(self.kit.store())
    }

    fn kernel_on(&self, store: MemoryStore) -> Kernel {
        kernel_on(&self.kit, store, &[&self.kit.puppet, &self.middle, &self.leaf])
    }

    /// How many calls were made so far by all of them.
    fn asked(&self) -> usize {
        let of = |puppet: &Puppet| puppet.asked.lock().unwrap().len();
        of(&self.kit.puppet) + of(&self.middle) + of(&self.leaf)
    }

    async fn named(&self, name: &str) -> Vec<Pid> {
        let (store, tenant) = (self.kit.store(), Tenant::local());
        let all = store.processes(&tenant, ProcessFilter::All).await.unwrap();
        all.into_iter().filter(|it| it.row.name == name).map(|it| it.pid).collect()
    }

    /// What each of that name waits for, with the seconds that are left.
    async fn waits(&self, name: &str) -> Vec<(BlockedOn, Option<u64>)> {
        let (mut waits, now) = (Vec::new(), self.kit.clock_now());
        for pid in self.named(name).await {
            if let ProcessState::Blocked { on, .. } = state(&self.kit, pid).await {
                let left = on.until().map(|until| until.millis_since(now) / 1_000);
                waits.push((on, left));
            }
        }
        waits
    }

    async fn post(&self, kernel: &Kernel, to: Pid, owner: String, limits: Limits) {
        let item = InboxItem::Quota { owner, limits };
        self.kit.store().post(&Tenant::local(), to, item).await.unwrap();
        kernel.nudge().unwrap();
        seconds(5).await;
    }
}

async fn seconds(many: u64) {
    tokio::time::sleep(Duration::from_secs(many)).await;
}

fn limits(text: &str) -> Limits {
    toml::from_str(text).expect("limits")
}

fn is_for(wait: &BlockedOn, whose: &str, what: Scarce) -> bool {
    matches!(wait, BlockedOn::Limit { owner, scarce, until: Some(_) }
        if owner == whose && *scarce == what)
}

#[tokio::test(start_paused = true)]
async fn a_family_makes_no_more_calls_than_its_root_may_and_all_see_whose_quota_it_is() {
    let family = Family::new(5, works);
    let kernel = family.kernel();
    let root = kernel.spawn(root("requests = \"10/hour\"", "")).await.unwrap();
    seconds(60).await;
    assert_eq!(family.asked(), 10, "two of the root and eight of its five children");
    let waits = family.waits("middle").await;
    assert_eq!(waits.len(), 5);
    let whose = BlockedOn::of_kin(root);
    for (wait, left) in &waits {
        assert!(is_for(wait, &whose, Scarce::Requests), "{wait:?}");
        assert!((295..=300).contains(&left.unwrap()), "the next in six minutes: {left:?}");
    }
    let [quota] = &kernel.quotas()[..] else { panic!("one quota") };
    assert_eq!((quota.pid, quota.limits[0].limit, quota.limits[0].used), (Some(root), 10, 10));
    for hour in 1..=3 {
        seconds(3_600).await;
        assert_eq!(family.asked(), 10 + hour * 10);
    }
    // In turn: none of five has less than a fifth of what they made, but for one call.
    for pid in family.named("middle").await {
        let steps = family.kit.image(pid).await.step.0;
        assert!((6..=9).contains(&steps), "{steps} of 38 calls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leaf_below_a_child_without_quota_is_held_by_every_ancestor_that_has_one() {
    // The root and its child begin one each; then only leaf and child call.
    for (of_root, of_middle, limit, calls) in [
        ("requests = \"6/hour\"", "", Scarce::Requests, 6),
        ("requests = \"60/hour\"", "requests = \"4/hour\"", Scarce::Requests, 2 + 4),
        ("requests = \"6/hour\"", "requests = \"40/hour\"", Scarce::Requests, 6),
        ("output_tokens = \"1100/hour\"", "", Scarce::Output, 0),
    ] {
        let family = Family::new(1, begins_a_leaf);
        let kernel = family.kernel();
        let root = kernel.spawn(root(of_root, of_middle)).await.unwrap();
        seconds(30).await;
        let middle = family.named("middle").await[0];
        let is_of_root = calls != 6 || !of_middle.contains("\"4/");
        let whose = if is_of_root { root } else { middle };
        let (of_leaf, of_middle) = (family.waits("leaf").await, family.waits("middle").await);
        assert!(is_for(&of_leaf[0].0, &BlockedOn::of_kin(whose), limit), "{of_leaf:?}");
        let seen = if is_of_root { BlockedOn::of_kin(root) } else { BlockedOn::OWN.to_owned() };
        assert!(is_for(&of_middle[0].0, &seen, limit), "{of_middle:?}");
        if calls > 0 {
            assert_eq!(family.asked(), calls);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_root_that_is_given_another_quota_lets_its_children_go_also_in_the_next_kernel() {
    let family = Family::new(5, works);
    let machine = family.kit.boot();
    let kernel = family.kernel_on(machine.clone());
    let root = kernel.spawn(root("requests = \"10/hour\"", "")).await.unwrap();
    seconds(60).await;
    assert_eq!(family.asked(), 10);
    let own = || BlockedOn::OWN.to_owned();
    family.post(&kernel, root, own(), limits("requests = \"20/hour\"")).await;
    assert_eq!(family.asked(), 20, "nobody but the root was told");
    assert_eq!(family.kit.image(root).await.quota, Some(limits("requests = \"20/hour\"")));
    assert!(matches!(state(&family.kit, root).await, ProcessState::Blocked { .. }), "it waits");
    // What no process can have changes nothing and does not stay.
    family.post(&kernel, root, own(), limits("calls_at_once = 0")).await;
    assert!(family.kit.store().pending(&Tenant::local()).await.unwrap().is_empty());
    let changes = family.kit.names(root).await;
    assert_eq!(changes.iter().filter(|name| **name == "quota_changed").count(), 1);
    // The machine dies; the root rests, and its children bring its quota along as it is now.
    machine.crash();
    drop(kernel);
    let kernel = family.kernel_on(family.kit.boot());
    kernel.recover().await.unwrap();
    seconds(30).await;
    assert_eq!(family.asked(), 40, "windows begin anew with a kernel");
    assert!(is_for(&family.waits("middle").await[0].0, &BlockedOn::of_kin(root), Scarce::Requests));
    family.post(&kernel, root, own(), Limits::default()).await;
    assert!(family.asked() > 60, "nothing holds them any more: {}", family.asked());
}

#[tokio::test(start_paused = true)]
async fn calls_that_a_crash_cut_off_hold_their_place_in_the_familys_quota_once() {
    let family = Family::new(4, hangs);
    let machine = family.kit.boot();
    let kernel = family.kernel_on(machine.clone());
    kernel.spawn(root("calls_at_once = 2", "")).await.unwrap();
    seconds(20).await;
    let hang = |many: usize| {
        assert_eq!(family.middle.asked.lock().unwrap().len(), many, "of four who want to");
    };
    hang(2);
    machine.crash();
    drop(kernel);
    let kernel = family.kernel_on(family.kit.boot());
    kernel.recover().await.unwrap();
    seconds(20).await;
    hang(4);
    // Who is killed in the middle of a call makes room for a sibling.
    for pid in family.named("middle").await {
        let kill = InboxItem::Signal { signal: aosk_abi::Signal::Kill };
        family.kit.store().post(&Tenant::local(), pid, kill).await.unwrap();
        kernel.nudge().unwrap();
        seconds(5).await;
    }
    hang(6);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_no_window_of_an_ancestor_holds_rests_until_that_is_raised() {
    let family = Family::new(1, waits_for_a_leaf);
    let kernel = family.kernel();
    // A reply has 256 tokens at most.
    let root = kernel.spawn(root("", "output_tokens = \"300/hour\"")).await.unwrap();
    seconds(5).await;
    let [middle, leaf] = [family.named("middle").await[0], family.named("leaf").await[0]];
    let own = || BlockedOn::OWN.to_owned();
    family.post(&kernel, middle, own(), limits("output_tokens = \"200/hour\"")).await;
    seconds(90).await;
    let (owner, scarce) = (BlockedOn::of_kin(middle), Scarce::Output);
    let rests = BlockedOn::Limit { owner: owner.clone(), scarce, until: None };
    assert!(
        matches!(state(&family.kit, leaf).await, ProcessState::Blocked { on, .. } if on == rests)
    );
    assert_eq!(kernel.wait(leaf).await, Some(Outcome::Parked(rests)));
    let more = limits("output_tokens = \"100000/hour\"");
    family.post(&kernel, middle, own(), more).await;
    family.post(&kernel, leaf, owner, more).await;
    assert!(family.leaf.asked.lock().unwrap().len() > 5, "it asks again");
    assert!(family.kit.image(root).await.quota.is_none(), "whose child it is has no quota");
}

#[tokio::test(start_paused = true)]
async fn who_sleeps_comes_back_to_what_it_had_used_of_its_quota() {
    let kit = Kit::new(vec![
        Say::Call("sleep", r#"{"seconds": 300}"#),
        Say::Call("sleep", r#"{"seconds": 300}"#),
    ]);
    let kernel = kit.kernel();
    let mut request = spawn("slowly");
    request.manifest.tools = vec!["sleep".into()];
    request.manifest.quota.requests = Some("1/hour".parse().unwrap());
    let pid = kernel.spawn(request).await.unwrap();
    let asked = || kit.puppet.asked.lock().unwrap().len();
    seconds(1_800).await;
    assert_eq!((asked(), kernel.residents()), (1, 1), "it has slept and waits for its hour");
    seconds(1_900).await;
    assert_eq!((asked(), kernel.residents()), (2, 0));
    let quota = kernel.quotas();
    assert_eq!(quota[0].pid, Some(pid), "what is used of it is known while it sleeps");
    seconds(4_000).await;
    assert_eq!(asked(), 3);
    assert!(kernel.quotas().is_empty(), "who has ended uses nothing: {:?}", kernel.quotas());
}

#[tokio::test(start_paused = true)]
async fn who_names_a_parent_that_is_nowhere_is_held_by_no_quota_of_it() {
    let kit = Kit::with(Puppet::new(vec![Say::Call("pure", "{}")]).slots(9));
    let kernel = kit.kernel();
    let parent = Some(Pid::from_alias("in another store"));
    let pid = kernel.spawn(Spawn { parent, ..spawn("go") }).await.unwrap();
    assert!(matches!(kernel.wait(pid).await, Some(Outcome::Exited(_))));
    assert_eq!(kit.image(pid).await.parent(), parent);
    let said = kit.events(pid).await;
    assert!(!said.iter().any(|what| matches!(what, What::Blocked(_))), "{said:?}");
}

/// A call of a tool in a reply that costs a cent.
fn works_for_a_cent(_: &Request) -> Say {
    let Say::Full(reply) = whole() else { panic!("a reply") };
    let call = Part::ToolCall { id: "1".into(), name: "pure".into(), arguments: "{}".into() };
    Say::Full(Reply { parts: vec![call], stop: StopReason::ToolCalls, ..reply })
}

/// Five children whose calls cost a cent, those of their root, which has so much to spend, next to
/// nothing.
async fn of_cents(spend: &str) -> (Family, MemoryStore, Kernel, Pid) {
    let family = Family::paying(5, works_for_a_cent, Puppet::a_cent);
    let machine = family.kit.boot();
    let kernel = family.kernel_on(machine.clone());
    let root = kernel.spawn(root(&format!("spend = \"{spend}\""), "")).await.unwrap();
    seconds(60).await;
    (family, machine, kernel, root)
}

#[tokio::test(start_paused = true)]
async fn a_family_spends_no_more_in_a_day_than_its_root_may_whatever_dies_meanwhile() {
    let (family, mut machine, kernel, root) = of_cents("0.10/day").await;
    let called = |family: &Family| family.middle.asked.lock().unwrap().len();
    assert_eq!(called(&family), 9, "and less than a cent is left");
    let whose = BlockedOn::of_kin(root);
    for (wait, left) in family.waits("middle").await {
        assert!(is_for(&wait, &whose, Scarce::Money), "{wait:?}");
        assert!(left.is_some_and(|left| left <= 86_400), "until the day ends: {left:?}");
    }
    let [quota] = &kernel.quotas()[..] else { panic!("one quota") };
    let used = quota.limits[0].used;
    assert!(quota.pid == Some(root) && (90_000..=100_000).contains(&used), "{used}");
    let mut kernels = vec![kernel];
    for _ in 0..2 {
        machine.crash();
        machine = family.kit.boot();
        let kernel = family.kernel_on(machine.clone());
        kernel.recover().await.unwrap();
        kernels.push(kernel);
        seconds(60).await;
        assert_eq!(called(&family), 9, "what is spent stays spent");
    }
    seconds(2 * 86_400).await;
    let asked = called(&family);
    assert!((9 + 9..=9 + 3 * 10).contains(&asked), "as much each day: {asked}");
}

#[tokio::test(start_paused = true)]
async fn who_is_continued_after_its_end_still_has_spent_what_it_spent() {
    let kit = Kit::with(Puppet::new(vec![whole(), Say::Hang]).a_cent());
    let kernel = kit.kernel();
    let mut request = spawn("go");
    request.manifest.quota.spend = limits("spend = \"0.03/day\"").spend;
    let pid = kernel.spawn(request).await.unwrap();
    kernel.wait(pid).await.unwrap();
    assert_eq!(kernel.quotas(), [], "nothing is kept of who has ended");
    let message = InboxItem::Message { from: "user".to_owned(), text: "again".to_owned() };
    kit.store().post(&Tenant::local(), pid, message).await.unwrap();
    kernel.attend(pid);
    kernel.nudge().unwrap();
    seconds(5).await;
    let [quota] = &kernel.quotas()[..] else { panic!("it calls") };
    assert_eq!((quota.limits[0].used, quota.limits[0].reserved), (10_000, 10_000));
}

#[tokio::test(start_paused = true)]
async fn a_familys_money_is_raised_for_exactly_so_many_calls_more() {
    let (family, _, kernel, root) = of_cents("0.10").await;
    let called = || family.middle.asked.lock().unwrap().len();
    assert_eq!(called(), 9);
    let own = || BlockedOn::OWN.to_owned();
    for (spend, all) in [("0.15", 14), ("0.12", 14), ("0.17", 16)] {
        let changed = limits(&format!("spend = \"{spend}\""));
        family.post(&kernel, root, own(), changed).await;
        for pid in family.named("middle").await {
            family.post(&kernel, pid, BlockedOn::of_kin(root), changed).await;
        }
        assert_eq!(called(), all, "{spend}");
    }
}
