//! A canary key is in no file of the data folder, no log and no error, whatever fails.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::endpoint::{Answer, Asked, Endpoint, call};
use crate::world::{Ran, World};

const KEY: &str = "sk-canary-4f9d1c7be02a";
const TOKEN: &str = "ghp_canary/other+8812\"x";

/// What each agent meets; its name says what.
fn answer(asked: &Asked) -> Answer {
    let text = asked.text();
    let is = |name: &str| text.contains(&format!("You are {name}."));
    let error = |status: u16| {
        let body =
            json!({"error": {"message": format!("your key {KEY} ({})", asked.authorization)}});
        Answer::Status(status, body.to_string())
    };
    let event = |value: serde_json::Value| format!("data: {value}\n\n");
    if is("refused-key") {
        error(401)
    } else if is("failing-server") {
        error(500)
    } else if is("bad-request") {
        error(400)
    } else if is("malformed-stream") {
        Answer::Raw(format!("data: {{\"key\": \"{KEY}\"\n\n"))
    } else if is("error-in-stream") {
        let chunk = json!({"choices": [{"index": 0, "delta": {"content": KEY}}]});
        Answer::Raw(event(chunk) + &event(json!({"error": {"message": KEY, "code": 500}})))
    } else if is("cut-off") {
        let chunk = json!({"choices": [{"index": 0, "delta": {"content": KEY}}]});
        Answer::Raw(event(chunk))
    } else if is("hung-up") {
        Answer::Hangup
    } else if is("silent") {
        Answer::Silence
    } else if is("refusing") {
        Answer::Refusal(format!("I know {KEY}"))
    } else if is("reader") && asked.results() == 0 {
        // A file that holds it, a file that is not there, a tool that is not there, bad arguments.
        Answer::Calls(vec![
            ("read_file".into(), json!({"path": "secret.txt"})),
            ("read_file".into(), json!({"path": format!("{KEY}.txt")})),
            (format!("tool-{KEY}"), json!({})),
            ("write_file".into(), json!({"path": "out.txt", "content": format!("{KEY} {TOKEN}")})),
        ])
    } else if is("looping") {
        call("calculator", json!({"expression": format!("{KEY} + 1")}))
    } else {
        Answer::Text(format!("Your key is {KEY}, your token {TOKEN}."))
    }
}

#[test]
fn no_secret_is_written_down_whatever_fails() {
    let endpoint = Endpoint::new(answer);
    let mut world = World::with(&endpoint);
    world.set("OPENAI_API_KEY", KEY);
    world.set("OTHER_TOKEN", TOKEN);
    world.set("AOSK_LOG", "trace");
    world.write("secret.txt", format!("the key is {KEY}\nand the token {TOKEN}\n"));
    let agents: Vec<String> = [
        "refused-key",
        "failing-server",
        "bad-request",
        "malformed-stream",
        "error-in-stream",
        "cut-off",
        "hung-up",
        "refusing",
        "talking",
    ]
    .map(|name| world.agent(name, ""))
    .into_iter()
    .chain([
        world.agent("reader", "tools = [\"read_file\", \"write_file\"]\nworkspace = \".\""),
        world.agent("looping", "tools = [\"calculator\"]\nmax_steps = 2"),
    ])
    .collect();
    let task = format!("Keep {KEY} and {TOKEN} to yourself");
    let mut ran = Vec::new();
    // Two at a time: more of them that fail in one kernel would have it leave the endpoint alone for
    // minutes.
    for agents in agents.chunks(2) {
        let mut args = vec!["run", agents[0].as_str()];
        for agent in &agents[1..] {
            args.extend(["--with", agent]);
        }
        args.push(&task);
        ran.push(world.run(&args));
    }
    let codes: Vec<_> = ran.iter().map(|ran| ran.code).collect();
    assert_eq!(codes, [Some(5), Some(5), Some(5), Some(5), Some(0), Some(1)], "{ran:?}");
    assert_eq!(world.processes().len(), agents.len());

    // And once stopped gracefully, once killed, while a call is under way.
    let silent = world.agent("silent", "");
    let asked = endpoint.asked().len();
    let running = world.start(&["run", "--json", &silent, &task]);
    wait_for(&endpoint, asked + 1);
    running.signal(Signal::INT);
    ran.push(running.end(Duration::from_secs(20)).0);
    let running = world.start(&["run", "--resume"]);
    wait_for(&endpoint, asked + 2);
    ran.push(running.kill_9());
    // A task that is a mistake, a model and a file that are none.
    ran.push(world.run(&["run", &format!("{KEY}.toml"), "hi"]));
    ran.push(world.run(&["run", &agents[0], "hi", "--model", KEY]));
    ran.push(world.run(&["show", KEY]));

    world.unset("AOSK_LOG");
    for process in world.processes() {
        let pid = process["pid"].as_str().expect("a pid");
        ran.push(world.run(&["logs", "--json", "--contents", pid]));
        ran.push(world.run(&["logs", "--contents", pid]));
        ran.push(world.run(&["show", pid]));
    }
    ran.push(world.run(&["ps", "--all", "--json"]));
    for ran in &ran {
        clean(ran);
    }
    let files = scan(&world.data(), &forms());
    assert!(files >= 2, "{files} files of the store");
    // The replies did hold it, and it was the key that was sent.
    assert!(endpoint.asked().iter().all(|asked| asked.authorization.ends_with(KEY)));
    let shown = world.run(&["ps", "--all"]).out;
    for outcome in ["failed", "refused", "completed", "step limit", "interrupted"] {
        assert!(shown.contains(outcome), "{outcome}: {shown}");
    }
}

fn wait_for(endpoint: &Endpoint, calls: usize) {
    for _ in 0..2000 {
        if endpoint.asked().len() >= calls {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no call came in");
}

/// Every form in which the secrets could have been written.
fn forms() -> [String; 4] {
    [KEY.into(), TOKEN.into(), TOKEN.replace('"', "\\\""), "canary".into()]
}

fn clean(ran: &Ran) {
    for form in forms() {
        for text in [&ran.out, &ran.err] {
            let found = text.lines().find(|line| line.contains(&form));
            assert_eq!(found, None, "{form}");
        }
    }
}

/// Looks into every file below the folder, in which none of the forms may be, and counts them.
pub fn scan(folder: &Path, forms: &[String]) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files += scan(&path, forms);
            continue;
        }
        if !path.is_file() {
            // A socket holds nothing.
            continue;
        }
        files += 1;
        let bytes = std::fs::read(&path).expect("readable");
        for form in forms {
            let found = bytes.windows(form.len()).any(|window| window == form.as_bytes());
            assert!(!found, "{form} is in {}", path.display());
        }
    }
    files
}
