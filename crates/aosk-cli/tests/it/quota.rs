//! Quotas and devices of a running daemon, as a user sees and sets them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::endpoint::{Answer, Endpoint, call, says};
use crate::world::{World, kinds, lines, wait_until};

/// A model of which a call may cost 0.02 cents.
const MINE: &str = "[models.mine]\nprovider = \"local\"\nwindow = 9000\nmax_output = 100\n\
                    price = { input = 1, output = 2 }\n";

fn world(endpoint: &Endpoint, config: &str) -> (World, String) {
    let world = World::with(endpoint);
    world.configure("models.toml", MINE);
    world.configure("config.toml", config);
    let agent = world.agent("a", "model = \"mine\"");
    (world, agent)
}

fn quotas(world: &World) -> Vec<Value> {
    let ran = world.run(&["quota", "show", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    lines(&ran.out)
}

#[test]
fn a_quota_that_is_raised_lets_a_parked_agent_go_on_in_a_running_daemon() {
    let config = "# mine\n[tenants.local]\nquota.spend = \"0.0001\" # little\n";
    let endpoint = says("hello");
    let (world, agent) = world(&endpoint, config);
    let pid = world.spawn(&[&agent, "hi"]);
    world.wait_for_state(&pid, "blocked");
    let daemon = world.daemon_pid();
    let ran = world.run(&["quota", "set", "tenant", "local", "--spend", "1/day"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("tenant local") && ran.out.contains("also in the daemon"), "{ran:?}");
    world.wait_for_state(&pid, "completed");
    assert_eq!(world.daemon_pid(), daemon, "nobody was restarted");
    let events = world.events(&pid);
    let changed = events.iter().find(|event| event["kind"] == "quota_changed").expect("an event");
    assert_eq!(
        (&changed["body"]["owner"], &changed["body"]["limits"]),
        (&json!("tenant local"), &json!({"spend": "1.00/day"}))
    );
    let written = std::fs::read_to_string(world.config("config.toml")).expect("the settings");
    assert_eq!(written, config.replace("\"0.0001\"", "\"1.00/day\""), "and nothing else of it");
    let [quota] = &quotas(&world)[..] else { panic!("one quota") };
    assert_eq!((&quota["owner"], &quota["counted"]), (&json!("tenant local"), &json!(true)));
    let money = &quota["limits"][0];
    assert_eq!((&money["scarce"], &money["limit"]), (&json!("money"), &json!(1_000_000)));
    assert!(money["used"].as_u64() > Some(0) && money["reserved"] == 0, "{money}");
    let changes = std::fs::read_to_string(world.config("quota-changes.ndjson")).expect("a record");
    let [change] = &lines(&changes)[..] else { panic!("one change: {changes}") };
    assert_eq!(change["owner"], "tenant local");
    assert_eq!(change["before"], json!({"spend": "0.0001"}));
    assert_eq!(change["after"], json!({"spend": "1.00/day"}));
    assert_eq!(change["uid"], rustix::process::getuid().as_raw());
    assert!(change["at"].as_u64() > Some(1_700_000_000_000) && change["host"].is_string());
    // The next daemon has it too.
    world.run(&["daemon", "stop"]);
    assert_eq!(quotas(&world)[0]["limits"][0]["limit"], 1_000_000);
    assert_eq!(quotas(&world)[0]["counted"], false);
    let shown = world.run(&["quota", "show"]);
    assert!(shown.out.contains("$1.00/day") && shown.err.contains("No daemon runs"), "{shown:?}");
}

#[test]
fn a_limit_is_lowered_and_lifted_and_all_that_is_wrong_is_refused_and_changes_nothing() {
    let endpoint = says("hello");
    let (world, agent) = world(&endpoint, "[pools.mine]\nquota.requests = \"60/minute\"\n");
    let before = std::fs::read_to_string(world.config("config.toml")).expect("the settings");
    let set = |args: &[&str]| world.run(&[&["quota", "set"], args].concat());
    let done = |args: &[&str]| {
        let ran = set(args);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    };
    for (args, said) in [
        (&["pool", "mine"][..], "--requests"),
        (&["pool", "mine", "--requests", "0/minute"], "at least 1"),
        (&["pool", "mine", "--requests", "60"], "60/minute"),
        (&["pool", "mine", "--calls-at-once", "0"], "at least 1"),
        (&["pool", "mine", "--spend", "0/day"], "more than 0"),
        (&["tenant", "no name", "--spend", "1"], "local"),
        (&["group", "", "--spend", "1"], "1 to 64"),
        (&["process", "x", "--spend", "1"], "tenant"),
        (&["agent", "x", "--spend", "0/day"], "more than 0"),
    ] {
        set(args).failed(2, "AOSK-C001").says(said);
    }
    let alone = World::new();
    let ran = alone.run(&["quota", "set", "pool", "nobody", "--spend", "1"]);
    ran.failed(2, "AOSK-C002").says("nobody");
    assert!(!alone.config("config.toml").exists());
    assert_eq!(std::fs::read_to_string(world.config("config.toml")).expect("there"), before);
    // Without a daemon the file alone changes.
    let ran = set(&["group", "batch", "--calls-at-once", "2", "--output-tokens", "9/hour"]);
    assert_eq!((ran.code, ran.out.trim_end()), (Some(0), "group batch has its limits"), "{ran:?}");
    done(&["pool", "mine", "--requests", "none"]);
    let owners: Vec<_> = quotas(&world).iter().map(|quota| quota["owner"].clone()).collect();
    assert_eq!(owners, ["group batch"]);
    let first = world.spawn(&[&agent, "hi"]);
    world.wait_for_state(&first, "completed");
    done(&["pool", "mine", "--requests", "1/day"]);
    let waits = world.spawn(&[&agent, "one of a day"]);
    world.wait_for_state(&waits, "completed");
    let late = world.spawn(&[&agent, "too late"]);
    world.wait_for_state(&late, "blocked");
    let listed = world.run(&["ps"]);
    assert!(listed.out.contains("requests (pool mine), until"), "{listed:?}");
    done(&["pool", "mine", "--requests", "none"]);
    world.wait_for_state(&late, "completed");
}

#[test]
fn a_quota_that_an_agent_is_given_while_it_runs_holds_for_its_children_too() {
    // A reply of the model has 100 tokens at most.
    let endpoint =
        Endpoint::new(|asked| match (asked.text().contains("You are child"), asked.results()) {
            (false, 0) => call("spawn", json!({"agent": "child", "task": "Look."})),
            (false, 1) => call("wait", json!({})),
            (false, _) => Answer::Text("It is there.".to_owned()),
            (true, 0) => call("sleep", json!({"seconds": 3})),
            (true, _) => Answer::Text("There it is.".to_owned()),
        });
    let (world, _) = world(&endpoint, "");
    let agent = world.agent(
        "parent",
        "model = \"mine\"\ntools = [\"spawn\", \"wait\"]\nquota.output_tokens = \"100000/hour\"\n\
         [[children]]\nname = \"child\"\nsystem = \"You are child.\"\ntools = [\"sleep\"]",
    );
    let pid = world.spawn(&[&agent, "go"]);
    wait_until("its child has begun", || world.processes().len() == 2);
    let set = |limit: &str| world.run(&["quota", "set", "agent", &pid, "--output-tokens", limit]);
    let ran = set("50/hour");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("and its children with it"), "{ran:?}");
    let parked = format!("(process {pid}): the quota does not cover the next call");
    wait_until("it is parked", || {
        let listed = world.run(&["ps"]).out;
        listed.split_whitespace().collect::<Vec<_>>().join(" ").contains(&parked)
    });
    let ran = set("none");
    assert!(ran.out.contains("has its limits") && ran.out.contains("asks again"), "{ran:?}");
    world.wait_for_state(&pid, "completed");
    let changed: Vec<_> =
        world.events(&pid).into_iter().filter(|it| it["kind"] == "quota_changed").collect();
    let said: Vec<_> =
        changed.iter().map(|it| (&it["body"]["owner"], &it["body"]["limits"])).collect();
    assert_eq!(
        said,
        [
            (&json!("process"), &json!({"output_tokens": "50/hour"})),
            (&json!("process"), &json!({})),
        ]
    );
    set("1/hour").failed(2, "AOSK-C007").says("ended");
    assert!(!world.config("quota-changes.ndjson").exists(), "its journal says it");
}

#[test]
fn a_nearly_spent_budget_is_told_by_logs_and_ps() {
    let endpoint = says("hello");
    // The first call may take nearly all of it, and an agent that waits keeps the daemon.
    let (world, agent) = world(&endpoint, "[tenants.local]\nquota.spend = \"0.0095\"\n");
    let pid = world.spawn(&[&agent, "hi"]);
    world.wait_for_state(&pid, "completed");
    let used = || quotas(&world)[0]["limits"][0]["used"].as_u64().expect("a number");
    let spent = used();
    assert!(spent > 0);
    let nearly = format!("0.{:06}", spent + spent / 9);
    assert_eq!(world.run(&["quota", "set", "tenant", "local", "--spend", &nearly]).code, Some(0));
    let waits = world.spawn(&[&agent, "does not fit"]);
    world.wait_for_state(&waits, "blocked");
    let listed = world.run(&["ps"]);
    assert!(listed.err.contains("% of $") && listed.err.contains("of tenant local"), "{listed:?}");
    let enough = format!("0.{:06}", spent + 240);
    let ran = world.run(&["quota", "set", "tenant", "local", "--spend", &enough]);
    assert!(ran.out.contains("asks again") || ran.code == Some(3), "{ran:?}");
    wait_until("it has asked again", || {
        kinds(&world.events(&waits)).iter().filter(|kind| **kind == "quota_changed").count() == 1
    });
}

#[test]
fn devices_are_shown_with_what_they_gave() {
    let endpoint = says("hello");
    let (world, agent) = world(&endpoint, "");
    let nobody = world.run(&["devices"]);
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    assert!(nobody.err.contains("No daemon runs"), "{nobody:?}");
    let pid = world.spawn(&[&agent, "hi"]);
    world.wait_for_state(&pid, "completed");
    let devices = lines(&world.run(&["devices", "--json"]).out);
    let [device] = &devices[..] else { panic!("one device: {devices:?}") };
    assert_eq!((&device["name"], &device["answered"]), (&json!("mine"), &json!(1)));
    assert_eq!((&device["in_flight"], &device["waiting"]), (&json!(0), &json!(0)));
    assert!(device["usage"]["input"].as_u64() > Some(0), "{device}");
    assert_eq!(device["model"], "test-model", "as the endpoint calls it");
    let shown = world.run(&["devices"]);
    assert!(shown.out.contains("mine") && shown.out.contains("ANSWERED"), "{shown:?}");
}

#[test]
fn of_two_servers_one_dies_and_agents_go_on_at_the_other_without_asking_it() {
    let is_dead = Arc::new(AtomicBool::new(false));
    let dead = is_dead.clone();
    let mortal = Endpoint::new(move |_| match dead.load(Ordering::SeqCst) {
        false => Answer::Text("from one".to_owned()),
        true => Answer::Hangup,
    });
    let other = says("from two");
    let world = World::new();
    // Nearly all go to the one that dies.
    let alias = "[aliases]\nboth = [{ one = 50, two = 1 }]\n";
    let table = format!("{}{}{alias}", mortal.table("one", 4), other.table("two", 4));
    world.configure("models.toml", &table);
    let agent = world.agent("a", "model = \"both\"");
    let spawn =
        |many: usize| -> Vec<String> { (0..many).map(|_| world.spawn(&[&agent, "hi"])).collect() };
    let completed = |pids: &[String]| {
        pids.iter().for_each(|pid| world.wait_for_state(pid, "completed"));
    };
    completed(&spawn(2));
    let device = |name: &str| {
        let devices = lines(&world.run(&["devices", "--json"]).out);
        devices.into_iter().find(|device| device["name"] == name).expect("it was asked")
    };
    assert_eq!(device("one")["serves"], json!([{"alias": "both", "weight": 50}]));
    assert_eq!(device("one").get("circuit"), None, "it is well");
    is_dead.store(true, Ordering::SeqCst);
    let pids = spawn(10);
    completed(&pids);
    let circuit = &device("one")["circuit"];
    assert!(circuit["failures"].as_u64() >= Some(10), "{circuit}");
    assert!(circuit["since"].as_u64() < circuit["until"].as_u64(), "{circuit}");
    let shown = world.run(&["devices"]);
    assert!(shown.out.contains("times in a row"), "{shown:?}");
    assert!(shown.out.contains("serves both (weight 50)"), "{shown:?}");
    let asked = mortal.asked().len();
    let later = spawn(4);
    completed(&later);
    assert_eq!(mortal.asked().len(), asked, "nobody asks it");
    for pid in pids.iter().chain(&later) {
        assert_eq!(world.show(pid)["answer"], "from two");
    }
}

#[test]
fn ps_shows_who_is_behind_its_share_and_what_each_waits_for_while_a_daemon_runs() {
    let endpoint = Endpoint::new(|_| Answer::Silence);
    let world = World::new();
    world.configure("models.toml", &endpoint.table("mine", 1));
    let agent = world.agent("a", "model = \"mine\"");
    world.spawn(&[&agent, "hi"]);
    world.spawn(&[&agent, "hi"]);
    let listed = || lines(&world.run(&["ps", "--json"]).out);
    let waits = |what: &str| listed().iter().any(|row| row["waits_for"] == what);
    wait_until("one is asked and the other waits for its turn", || {
        waits("turn at mine") && waits("answer of mine")
    });
    assert!(listed().iter().all(|row| row["lag"].is_i64()), "{:?}", listed());
    let shown = world.run(&["ps"]).out;
    assert!(shown.contains("LAG") && shown.contains("waits for: turn at mine"), "{shown}");
    world.run(&["daemon", "stop"]);
    let shown = world.run(&["ps"]).out;
    assert!(!shown.contains("LAG") && !shown.contains("waits for"), "{shown}");
    assert!(listed().iter().all(|row| row.get("lag").is_none()), "nobody counts");
}
