//! `aosk store`: looking after the store as a whole.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::endpoint::{Answer, Endpoint, call, says};
use crate::scene::pausing;
use crate::world::{Ran, World, kinds, lines, wait_until};

fn object(ran: &Ran) -> Value {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    serde_json::from_str(&ran.out).expect("JSON")
}

/// A machine on which one agent has run to its end.
fn with_one_agent() -> World {
    let endpoint = Endpoint::new(|asked| match asked.results() {
        0 => call("calculator", json!({"expression": "17 * 23"})),
        _ => Answer::Text("It is 391. ".repeat(2000)),
    });
    let world = World::with(&endpoint);
    let agent = world.agent("a", "tools = [\"calculator\"]");
    assert_eq!(world.run(&["run", &agent, "What is 17 * 23?"]).code, Some(0));
    world
}

#[test]
fn a_store_says_what_is_in_it_and_what_takes_its_space() {
    let world = World::with(&says("hi"));
    for command in ["status", "size", "check", "migrate"] {
        world.run(&["store", command]).failed(4, "AOSK-S001").says("--data-dir");
    }
    world.run(&["store", "backup", "x.aosk"]).failed(4, "AOSK-S001");
    assert!(!world.data().exists() && !world.path("x.aosk").exists());

    let world = with_one_agent();
    let status = object(&world.run(&["store", "status", "--json"]));
    assert_eq!((&status["processes"], &status["owner"]), (&json!({"completed": 1}), &Value::Null));
    assert!(world.run(&["store", "status"]).out.contains("1 completed"));
    let size = object(&world.run(&["store", "size", "--json"]));
    let parts = size["parts"].as_array().expect("parts");
    let sum: u64 = parts.iter().filter_map(|part| part["bytes"].as_u64()).sum();
    let number = |name: &str| size[name].as_u64().expect("a number");
    assert!(sum > 0 && sum + number("free_bytes") <= number("total_bytes"), "{size}");
    assert!(world.run(&["store", "size"]).out.contains("larger contents"));
    world.run(&["store", "migrate"]).says("schema");
}

#[test]
fn a_store_says_how_far_its_search_index_is_behind() {
    let world = with_one_agent();
    let second = world.agent("b", "tools = [\"calculator\"]");
    assert_eq!(world.run(&["run", &second, "What is 17 * 23?"]).code, Some(0));
    for entry in std::fs::read_dir(world.data()).expect("a folder").flatten() {
        if entry.file_name().to_string_lossy().starts_with("search.db") {
            std::fs::remove_file(entry.path()).expect("removed");
        }
    }
    let behind = || object(&world.run(&["store", "status", "--json"]))["search"].clone();
    let says = |what: &str| {
        let said = world.run(&["store", "status"]).out;
        assert!(said.contains(&format!("search     {what}")), "{said}");
    };
    assert_eq!(behind(), Value::Null);
    says("nothing is indexed yet");
    // Asking made no index.
    assert!(!world.data().join("search.db").exists());

    let pids: Vec<String> =
        world.processes().iter().map(|it| it["pid"].as_str().expect("a pid").to_owned()).collect();
    world.run(&["mem", "search", "391", "--pid", &pids[0]]);
    let unread = world.events(&pids[1]).len();
    assert_eq!(behind()["events_behind"], unread);
    assert!(behind()["behind_ms"].as_u64().is_some_and(|millis| millis > 0));
    says(&format!("{unread} events behind, for "));

    world.run(&["mem", "search", "391"]);
    assert_eq!(behind(), json!({"events_behind": 0, "behind_ms": 0}));
    says("up to date");
}

#[test]
fn a_backup_is_made_while_agents_run_and_checked_before_it_has_its_name() {
    let (endpoint, go_on) = pausing();
    let world = World::with(&endpoint);
    let agent = world.agent("a", "tools = [\"calculator\"]");
    let pid = world.spawn(&[&agent, "What is 17 * 23?"]);
    endpoint.wait_for_call();
    endpoint.wait_for_call();
    let written = object(&world.run(&["store", "backup", "friday.aosk", "--json"]));
    assert_eq!((&written["processes"], &written["damage"]), (&json!(1), &json!([])));
    assert_eq!(written["events"], world.events(&pid).len());
    let checked = object(&world.run(&["store", "check", "friday.aosk", "--json"]));
    assert_eq!(checked["events"], written["events"]);
    world.run(&["store", "backup", "friday.aosk"]).failed(4, "AOSK-S001").says("friday.aosk");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &world.path("friday.aosk").metadata().expect("there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);

    let before = world.run(&["logs", "--json", &pid]).out;
    go_on.store(true, Ordering::SeqCst);
    world.kill_daemon();
    world.run(&["store", "restore", "friday.aosk"]).failed(4, "AOSK-S001").says("another");
    let restored = world.run(&["store", "restore", "friday.aosk", "--data-dir", "elsewhere"]);
    assert_eq!(restored.code, Some(0), "{restored:?}");
    assert!(restored.out.contains("all sound"), "{restored:?}");
    let done = world.run(&["run", "--resume", "--data-dir", "elsewhere"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let after = world.run(&["logs", "--json", &pid, "--data-dir", "elsewhere"]).out;
    assert!(after.starts_with(&before));
    assert_eq!(kinds(&lines(&after)).last(), Some(&"exited"));
    // The store that was backed up knows nothing of it.
    assert_eq!(world.run(&["logs", "--json", &pid]).out, before);
}

#[test]
fn a_copy_is_whole_and_said_to_be() {
    let world = with_one_agent();
    let pid = world.only_pid();
    let source = format!("sqlite:{}", world.data().display());
    let copy = |from: &str, to: &str| world.run(&["store", "copy", "--from", from, "--to", to]);
    copy(&source, "nowhere").failed(2, "AOSK-C001").says("sqlite:FOLDER");
    copy(&source, &source).failed(4, "AOSK-S001").says("another");
    copy("sqlite:nothing", "sqlite:new").failed(4, "AOSK-S001");
    let ran = copy(&source, "sqlite:copied");
    assert!(ran.out.contains("1 of 1 chains end with the same hash"), "{ran:?}");
    let arguments = ["store", "copy", "--json", "--from", &source, "--to", "sqlite:second"];
    let report = object(&world.run(&arguments));
    assert_eq!(report["heads"][format!("local/{pid}")], world.show(&pid)["head"]);
    assert_eq!(report["events"], world.events(&pid).len());
    let checked = world.run(&["store", "check", "--data-dir", "copied"]);
    assert!(checked.out.contains("all sound"), "{checked:?}");
    let logs = |dir: &str| world.run(&["logs", "--json", &pid, "--data-dir", dir]).out;
    assert_eq!(logs("copied"), world.run(&["logs", "--json", &pid]).out);
}

#[test]
fn what_is_damaged_is_found_named_and_never_backed_up() {
    let world = with_one_agent();
    let pid = world.only_pid();
    assert!(world.run(&["store", "check"]).out.contains("all sound"));
    let database = world.data().join("aosk.db");
    let sound = std::fs::read(&database).expect("there");
    // The link that the chain ends with, which the list has, too.
    let head = world.show(&pid)["head"].as_str().expect("a hash").to_owned();
    let head: Vec<u8> = (0..head.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&head[at..at + 2], 16).expect("a digit"))
        .collect();
    let mut damaged = sound.clone();
    let at = damaged.windows(head.len()).position(|bytes| bytes == head).expect("it is there");
    damaged[at] ^= 1;
    std::fs::write(&database, &damaged).expect("written");
    let ran = world.run(&["store", "check", "--json"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert!(report["damage"][0]["code"].as_str().is_some_and(|code| code.starts_with("AOSK-")));
    let ran = world.run(&["store", "backup", "bad.aosk"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(!world.path("bad.aosk").exists() && !world.path("bad.aosk.part").exists());

    std::fs::write(&database, &sound).expect("written");
    assert_eq!(world.run(&["store", "backup", "good.aosk"]).code, Some(0));
    let mut copy = std::fs::read(world.path("good.aosk")).expect("there");
    copy.truncate(copy.len() / 2);
    world.write("half.aosk", copy);
    let ran = world.run(&["store", "restore", "half.aosk", "--data-dir", "elsewhere"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(!world.path("elsewhere/aosk.db").exists());
    assert!(world.show(&pid)["chain_verified"] == true);
}

#[test]
fn a_file_of_any_length_is_kept_and_comes_back_as_it_was() {
    let world = with_one_agent();
    let long: Vec<u8> = (0..3_000_000_u32).flat_map(|n| n.to_le_bytes()).take(3_000_001).collect();
    for (name, bytes) in [("none", &[][..]), ("small", b"a\0b\x1b[2J"), ("long", &long)] {
        std::fs::write(world.path(name), bytes).expect("written");
        let put = object(&world.run(&["store", "put", name, "--json"]));
        assert_eq!(put["bytes"], bytes.len());
        let address = put["address"].as_str().expect("an address");
        assert_eq!(world.run(&["store", "put", name]).out.trim(), address);
        let out = format!("{name}.out");
        let got = world.run(&["store", "get", address, "--output", &out]);
        assert_eq!(got.code, Some(0), "{got:?}");
        assert!(std::fs::read(world.path(&out)).expect("there") == bytes, "{name}");
        world.run(&["store", "get", address, "-o", &out]).failed(2, "AOSK-C003");
    }
    let none = "0".repeat(64);
    world.run(&["store", "get", &none, "-o", "x"]).failed(4, "AOSK-S009");
    world.run(&["store", "get", "x", "-o", "x"]).failed(2, "AOSK-C001").says("hash");
    world.run(&["store", "put", "x"]).failed(2, "AOSK-C003");
    assert!(!world.path("x").exists());
}

#[test]
fn a_file_that_holds_a_secret_is_not_kept_wherever_it_stands() {
    const KEY: &str = "sk-canary-4f9d1c7be02a";
    let mut world = with_one_agent();
    world.set("OPENAI_API_KEY", KEY);
    for before in [0, (256 << 10) - 5, 700_000] {
        world.write("x", [vec![b'.'; before], KEY.into(), vec![b'.'; 9]].concat());
        let ran = world.run(&["store", "put", "x"]);
        ran.failed(2, "AOSK-C003").says("secret");
        world.write("x", [vec![b'.'; before], KEY[1..].into(), vec![b'.'; 9]].concat());
        assert_eq!(world.run(&["store", "put", "x"]).code, Some(0));
    }
}

#[test]
fn an_agent_that_has_ended_is_removed_with_a_record_of_it() {
    let world = with_one_agent();
    world.run(&["store", "prune"]).failed(2, "AOSK-C001");
    world.run(&["store", "prune", "--older-than", "soon"]).failed(2, "AOSK-C001");
    let pid = world.processes()[0]["pid"].as_str().expect("a pid").to_owned();
    let events = world.events(&pid);
    for (args, removed) in [
        (&["--older-than", "1h"][..], 0),
        (&["--keep", "1"], 0),
        (&["--older-than", "0s", "--keep", "1"], 0),
        (&["--keep", "0", "--tenant", "other"], 0),
        (&["--older-than", "0s", "--dry-run"], 1),
    ] {
        let args = [&["store", "prune", "--json"], args].concat();
        let said = object(&world.run(&args));
        assert_eq!((&said["processes"], &said["kept"]), (&json!(removed), &json!({})), "{args:?}");
        assert_eq!(world.processes().len(), 1);
    }
    // What is in use of the pages of journals and contents.
    let used = || {
        let size = object(&world.run(&["store", "size", "--json"]));
        let parts = size["parts"].as_array().expect("parts").iter();
        let ours = parts.filter(|part| part["name"] == "journal" || part["name"] == "blobs");
        let number = |part: &Value, name: &str| part[name].as_u64().expect("a number");
        ours.map(|part| number(part, "bytes") - number(part, "unused_bytes")).sum::<u64>()
    };
    let before = used();
    let ran = world.run(&["store", "prune", "--older-than", "0s"]);
    assert!(ran.out.starts_with("1 processes"), "{ran:?}");
    assert!(world.processes().is_empty());
    world.run(&["logs", &pid]).failed(2, "AOSK-C005");
    for deleted in [0, 1] {
        let collected = object(&world.run(&["store", "gc", "--json"]));
        assert_eq!(collected["deleted"].as_u64().map(|count| count.min(1)), Some(deleted));
    }
    assert!(used() < before / 2, "{} of {before}", used());
    assert!(world.run(&["store", "check"]).out.contains("all sound"));

    let record: Value =
        serde_json::from_str(&world.run(&["store", "pruned", "--json"]).out).expect("one line");
    let gone = &record["processes"][0];
    assert_eq!((&gone["pid"], &gone["events"]), (&json!(pid), &json!(events.len())));
    assert_eq!(gone["head"], events.last().expect("some")["hash"]);
    assert!(world.run(&["store", "pruned"]).out.contains(&pid));

    world.database().execute("UPDATE prunings SET body = zeroblob(9)", []).expect("altered");
    let checked = world.run(&["store", "check"]);
    assert!(checked.code == Some(4) && checked.out.contains("record 1"), "{checked:?}");
    world.run(&["store", "pruned"]).failed(4, "AOSK-A004");
}

#[test]
fn a_daemon_removes_what_is_older_than_the_retention() {
    let world = with_one_agent();
    world.configure("config.toml", "retention = \"forever\"");
    world.run(&["ps"]).failed(2, "AOSK-C002").says("30d");
    for (retention, left) in [("1h", 1), ("0s", 0)] {
        world.configure("config.toml", &format!("retention = \"{retention}\""));
        let looked_after = || {
            let sql = "SELECT begun FROM upkeep";
            world.database().query_row(sql, [], |row| row.get::<_, i64>(0)).expect("there") > 0
        };
        world.database().execute("UPDATE upkeep SET begun = 0", []).expect("altered");
        assert_eq!(world.run(&["daemon", "start"]).code, Some(0));
        wait_until("the store was looked after", looked_after);
        wait_until("what is due went", || world.processes().len() == left);
        assert_eq!(world.run(&["daemon", "stop"]).code, Some(0));
    }
}
