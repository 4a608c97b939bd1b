//! What is set up and what is missing, told without changing anything.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::endpoint::{Answer, Endpoint, says};
use crate::world::{KEY, Ran, World};

/// The report, with its checks by name; its exit code is the program's.
fn report(world: &World, more: &[&str]) -> (Ran, BTreeMap<String, Value>) {
    let ran = world.run(&[&["doctor", "--json"], more].concat());
    assert_eq!(ran.out.lines().count(), 1, "{ran:?}");
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(report["exit"].as_i64(), ran.code.map(i64::from), "{ran:?}");
    assert_eq!(report["ready"], ran.code == Some(0), "{ran:?}");
    let checks = report["checks"].as_array().expect("checks").iter();
    let mut checks: BTreeMap<String, Value> = checks
        .map(|check| (check["name"].as_str().expect("a name").to_owned(), check.clone()))
        .collect();
    checks.insert("report".to_owned(), report);
    (ran, checks)
}

/// Checks that the check came out as `status`, for a reason that holds `said`.
#[track_caller]
fn is(checks: &BTreeMap<String, Value>, name: &str, status: &str, said: &str) {
    let check = &checks[name];
    assert_eq!(check["status"], status, "{check}");
    assert!(check.to_string().contains(said), "{said}: {check}");
    let has_next = !check["next"].as_array().expect("a list").is_empty();
    assert_eq!(has_next, status != "ok", "what is wrong has a next step: {check}");
}

/// Every file below the folder with its bytes.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.display().to_string(), std::fs::read(&path).expect("readable"));
            }
        }
    }
    found
}

#[test]
fn a_fresh_machine_is_told_what_to_set_and_nothing_is_made() {
    let world = World::new();
    let (ran, checks) = report(&world, &[]);
    assert_eq!(ran.code, Some(2), "as `aosk run` without a model ends");
    is(&checks, "model", "missing", "OPENAI_BASE_URL");
    is(&checks, "data folder", "ok", "made when needed");
    assert!(!world.data().exists());
    let people = world.run(&["doctor"]);
    assert_eq!(people.code, Some(2));
    assert!(people.out.contains("Not ready") && people.out.contains("aosk demo"), "{people:?}");
}

#[test]
fn a_machine_that_can_run_is_ready_and_its_endpoint_was_asked_for_its_models() {
    let endpoint = says("hello");
    let mut world = World::with(&endpoint);
    world.set("LANG", "C.UTF-8");
    let agent = world.agent("a", "");
    assert_eq!(world.run(&["run", &agent, "hi"]).code, Some(0));
    let (_, checks) = report(&world, &[]);
    is(&checks, "endpoint", "ok", "serves test-model");
    is(&checks, "model", "ok", &endpoint.url());
    is(&checks, "store", "ok", "1 agent, 0 unfinished");
    is(&checks, "owner", "ok", "nobody");
    is(&checks, "data folder", "ok", "mode 0700");
    is(&checks, "log", "ok", "aosk.log");
    is(&checks, "locale", "ok", "C.UTF-8");
    assert_eq!(endpoint.asked().len(), 1, "listing models asks none of them");
    let people = world.run(&["doctor"]);
    assert!(people.out.contains("Ready"), "{people:?}");
    assert!(!people.out.contains('\x1b'), "a pipe has no colour");
}

#[test]
fn an_endpoint_that_does_not_answer_or_refuses_the_key_ends_as_a_run_would() {
    let (mut world, _) = World::with_nobody();
    world.set("OPENAI_API_KEY", KEY);
    let (ran, checks) = report(&world, &[]);
    assert_eq!(ran.code, Some(5));
    is(&checks, "endpoint", "missing", "start the model server");
    is(&checks, "variables", "ok", "OPENAI_API_KEY, OPENAI_BASE_URL");
    assert!(!ran.out.contains(KEY) && !ran.err.contains(KEY), "{ran:?}");
    let (ran, checks) = report(&world, &["--offline"]);
    assert_eq!(ran.code, Some(0));
    is(&checks, "endpoints", "warn", "--offline");
    // A key in the wrong variable is not repeated either.
    world.set("AOSK_MODEL", KEY);
    let ran = world.run(&["doctor"]);
    assert!(ran.out.contains("[redacted]") && !ran.out.contains(KEY), "{ran:?}");
}

#[test]
fn a_server_that_says_nothing_is_given_up_after_five_seconds() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let mut world = World::new();
    world.set("OPENAI_BASE_URL", &format!("http://127.0.0.1:{port}/v1"));
    let began = Instant::now();
    let (ran, checks) = report(&world, &[]);
    let took = began.elapsed();
    assert_eq!(ran.code, Some(5));
    is(&checks, "endpoint", "missing", "5 s");
    assert!((5..10).contains(&took.as_secs()), "{took:?}");
}

#[test]
fn an_endpoint_that_is_not_chosen_is_needed_only_where_no_other_answers() {
    let endpoint = says("hello");
    let mut world = World::new();
    world.configure(
        "models.toml",
        "[providers.gone]\ndialect = \"openai\"\nloopback = true\nslots = 1\n\
         key_env = \"GONE_API_KEY\"\nbase_url = \"http://127.0.0.1:9/v1\"\n\
         [models.gone]\nprovider = \"gone\"\nwindow = 9000\nmax_output = 900\n\
         price = { input = 0, output = 0 }\n",
    );
    world.set("GONE_API_KEY", KEY);
    let (ran, checks) = report(&world, &[]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    is(&checks, "model", "warn", "--model NAME");
    is(&checks, "endpoint", "missing", "gone at");
    world.set("OPENAI_BASE_URL", &endpoint.url());
    let ran = world.run(&["doctor"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("warn     endpoint") && ran.out.contains("test-model"), "{ran:?}");
    world.set("AOSK_MODEL", "gone");
    assert_eq!(world.run(&["doctor"]).code, Some(5));
}

#[test]
fn what_is_wrong_with_files_is_said_as_a_run_would_say_it() {
    let world = World::with(&says("hello"));
    world.write("aosk.toml", "modle = \"x\"\n");
    let (ran, checks) = report(&world, &[]);
    assert_eq!(ran.code, Some(2));
    is(&checks, "settings", "missing", "did you mean `model`?");
    is(&checks, "settings", "missing", "aosk.toml:1");
    std::fs::remove_file(world.path("aosk.toml")).expect("there");

    world.configure("keys.toml", &format!("OPENAI_API_KEY = \"{KEY}\"\n"));
    let mode = |mode| {
        let path = world.config("keys.toml");
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("mode");
    };
    mode(0o644);
    let (ran, checks) = report(&world, &[]);
    assert_eq!(ran.code, Some(2));
    is(&checks, "keys", "missing", "chmod 600");
    mode(0o600);
    let (ran, checks) = report(&world, &[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    is(&checks, "models", "ok", "keys.toml (mode 0600)");
    assert!(!ran.out.contains(KEY), "{ran:?}");

    world.configure("models.toml", "[models.x]\nprovider = \"nobody\"\n");
    let (ran, checks) = report(&world, &[]);
    assert_eq!(ran.code, Some(2));
    is(&checks, "models", "missing", "models.toml:1");
}

#[test]
fn a_data_folder_that_cannot_hold_a_store_is_missing() {
    let world = World::with(&says("hello"));
    std::fs::create_dir_all(world.data()).expect("folder");
    std::fs::set_permissions(world.data(), PermissionsExt::from_mode(0o755)).expect("mode");
    let (ran, checks) = report(&world, &[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    is(&checks, "data folder", "warn", "chmod 700");
    is(&checks, "store", "ok", "none yet");

    std::fs::write(world.data().join("aosk.db"), b"no database").expect("file");
    let (ran, checks) = report(&world, &[]);
    assert_eq!(ran.code, Some(4));
    is(&checks, "store", "missing", "file is not a database");

    world.write("file", "x");
    for file in ["file", "file/below"] {
        let (ran, checks) = report(&world, &["--data-dir", file]);
        assert_eq!(ran.code, Some(2));
        is(&checks, "data folder", "missing", "this is a file");
    }
}

#[test]
fn looking_at_a_store_changes_no_byte_and_says_who_owns_it() {
    let endpoint = Endpoint::new(|_| Answer::Silence);
    let world = World::with(&endpoint);
    let agent = world.agent("a", "");
    let running = world.start(&["run", &agent, "hi"]);
    endpoint.wait_for_call();
    let (ran, checks) = report(&world, &[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    is(&checks, "owner", "warn", "aosk run a.toml");
    assert_eq!(checks["report"]["owner"]["os_pid"], running.pid());
    running.kill_9();
    let before = files(&world.data());
    let (_, checks) = report(&world, &[]);
    is(&checks, "store", "ok", "1 unfinished");
    is(&checks, "owner", "ok", "nobody");
    let after = files(&world.data());
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    // The index of the log is memory that readers share; it holds nothing of its own.
    for (name, bytes) in before.iter().filter(|(name, _)| !name.ends_with("-shm")) {
        assert!(&after[name] == bytes, "{name} changed");
    }
}
