//! A user's machine in a temporary folder, and what a command did on it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::endpoint::Endpoint;

/// The key of every test that needs one.
pub const KEY: &str = "sk-test-0123456789abcdef";

/// A home with configuration, data and a project folder in which commands run.
pub struct World {
    dir: TempDir,
    env: Vec<(String, String)>,
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl World {
    /// A machine without any configuration.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("folder");
        for folder in ["project", "config/aosk", "home"] {
            std::fs::create_dir_all(dir.path().join(folder)).expect("folder");
        }
        Self { dir, env: Vec::new() }
    }

    /// A machine whose environment points to that endpoint.
    pub fn with(endpoint: &Endpoint) -> Self {
        let mut world = Self::new();
        world.set("OPENAI_BASE_URL", &endpoint.url());
        world
    }

    /// A machine whose environment points to an address where nobody answers, and its port.
    pub fn with_nobody() -> (Self, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        // Free again as soon as this returns.
        let port = listener.local_addr().expect("an address").port();
        let mut world = Self::new();
        world.set("OPENAI_BASE_URL", &format!("http://127.0.0.1:{port}/v1"));
        (world, port)
    }

    /// Sets a variable for all later commands.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Takes a variable away.
    pub fn unset(&mut self, name: &str) {
        self.env.retain(|(known, _)| known != name);
    }

    /// A path in the project folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("project").join(name)
    }

    /// The folder of the user's configuration.
    pub fn config(&self, name: &str) -> PathBuf {
        self.dir.path().join("config/aosk").join(name)
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data/aosk")
    }

    /// The folder of a store on a server in the data folder; there is one.
    pub fn local(&self) -> PathBuf {
        let found = self.locals().into_iter().next();
        found.expect("a folder of a store on a server")
    }

    fn locals(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.data()).into_iter().flatten().flatten();
        let is_local = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("server-"))
        };
        entries.map(|entry| entry.path()).filter(is_local).collect()
    }

    /// Writes a file of the project.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        write(&self.path(name), text.as_ref());
    }

    /// Writes a file of the user's configuration.
    pub fn configure(&self, name: &str, text: &str) {
        write(&self.config(name), text.as_bytes());
    }

    /// Writes a manifest with that name and those further lines, into `NAME.toml`.
    pub fn agent(&self, name: &str, more: &str) -> String {
        let file = format!("{name}.toml");
        self.write(&file, format!("name = \"{name}\"\nsystem = \"You are {name}.\"\n{more}\n"));
        file
    }

    /// A command that was not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aosk"));
        command
            .args(args)
            .current_dir(self.dir.path().join("project"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.dir.path().join("home"))
            .env("XDG_CONFIG_HOME", self.dir.path().join("config"))
            .env("XDG_DATA_HOME", self.dir.path().join("data"))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// The same command by that program, which gets what it is to run as its last arguments.
    pub fn through(&self, program: &[&str], args: &[&str]) -> Command {
        let like = self.command(args);
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(like.get_program()).args(like.get_args());
        like_it(command, &like)
    }

    /// The same command of another build of the program.
    pub fn of_build(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args);
        like_it(command, &self.command(&[]))
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().expect("the binary runs"))
    }

    /// Starts a command and lets it run.
    pub fn start(&self, args: &[&str]) -> Running {
        Running::start(self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// The events of a process, as `aosk logs --json` prints them.
    pub fn events(&self, pid: &str) -> Vec<Value> {
        let ran = self.run(&["logs", "--json", pid]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        lines(&ran.out)
    }

    /// The processes, as `aosk ps --all --json` prints them.
    pub fn processes(&self) -> Vec<Value> {
        let ran = self.run(&["ps", "--all", "--json"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        lines(&ran.out)
    }

    /// The pid of the only process.
    pub fn only_pid(&self) -> String {
        let processes = self.processes();
        assert_eq!(processes.len(), 1, "{processes:?}");
        processes[0]["pid"].as_str().expect("a pid").to_owned()
    }

    /// A process, as `aosk show --json` prints it.
    pub fn show(&self, pid: &str) -> Value {
        let ran = self.run(&["show", "--json", pid]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        serde_json::from_str(&ran.out).expect("JSON")
    }
}

impl World {
    /// What `aosk daemon status --json` says; `None` where no daemon runs.
    pub fn daemon(&self) -> Option<Value> {
        let ran = self.run(&["daemon", "status", "--json"]);
        let status: Value = serde_json::from_str(&ran.out).expect("JSON");
        assert_eq!(ran.code, Some(i32::from(status["running"] != true)), "{ran:?}");
        (status["running"] == true).then_some(status)
    }

    /// The process of the daemon.
    pub fn daemon_pid(&self) -> Pid {
        let status = self.daemon().expect("a daemon runs");
        os_pid(&status["os_pid"]).expect("a number")
    }

    /// Kills the daemon, and waits until nobody owns the store any more.
    pub fn kill_daemon(&self) {
        kill_process(self.daemon_pid(), Signal::KILL).expect("it runs");
        wait_until("it is gone", || self.processes()[0]["state"] == "interrupted");
    }

    /// The database of the data folder, as any program may open it.
    pub fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.data().join("aosk.db")).expect("opens")
    }

    /// Spawns an agent and answers its pid.
    pub fn spawn(&self, args: &[&str]) -> String {
        let ran = self.run(&[&["spawn"], args].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.out.trim_end().to_owned()
    }

    /// Waits until the process is in that state.
    pub fn wait_for_state(&self, pid: &str, state: &str) {
        wait_until(state, || self.show(pid)["state"] == state);
    }
}

impl Drop for World {
    /// A daemon does not outlive its world.
    fn drop(&mut self) {
        for folder in self.locals().into_iter().chain([self.data()]) {
            let label = std::fs::read_to_string(folder.join("aosk.lock")).unwrap_or_default();
            let label: Value = serde_json::from_str(&label).unwrap_or_default();
            let Some(pid) = os_pid(&label["os_pid"]) else { continue };
            let said = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
            let command = std::fs::read_to_string(said).unwrap_or_default();
            if label["command"] == "aosk daemon run" && command.contains("daemon\0run") {
                // It may have ended by itself.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// The command, in the folder and environment of another.
fn like_it(mut command: Command, other: &Command) -> Command {
    command.env_clear().stdin(Stdio::null());
    command.current_dir(other.get_current_dir().expect("a folder"));
    command.envs(other.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

fn os_pid(number: &Value) -> Option<Pid> {
    Pid::from_raw(number.as_i64()?.try_into().ok()?)
}

/// Waits until that is so, for at most 20 seconds.
pub fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Ran {
    /// What the process left.
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Checks that it failed with that exit code and a whole error of that stable code: what, and
    /// what to do next; and that it did not panic.
    pub fn failed(&self, exit: i32, code: &str) -> &Self {
        assert_eq!(self.code, Some(exit), "{self:?}");
        assert!(self.err.contains(&format!("error[{code}]: ")), "{self:?}");
        assert!(!self.err.contains("failed inside itself"), "{self:?}");
        self
    }

    /// Checks that standard error holds the text.
    pub fn says(&self, text: &str) -> &Self {
        assert!(self.err.contains(text), "{text:?} is not in {self:?}");
        self
    }
}

/// A command that runs.
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts that command.
    pub fn start(command: &mut Command) -> Self {
        Self { child: command.spawn().expect("the binary runs") }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it runs");
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, and says how long that took. It must end within `limit`.
    pub fn end(mut self, limit: Duration) -> (Ran, Duration) {
        let began = Instant::now();
        while self.child.try_wait().expect("a child").is_none() {
            if began.elapsed() > limit {
                self.child.kill().expect("it runs");
                let ran = Ran::of(self.child.wait_with_output().expect("output"));
                panic!("still running after {limit:?}: {ran:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let took = began.elapsed();
        (Ran::of(self.child.wait_with_output().expect("output")), took)
    }

    /// Ends it as a crash would.
    pub fn kill_9(mut self) -> Ran {
        self.child.kill().expect("it runs");
        Ran::of(self.child.wait_with_output().expect("output"))
    }
}

/// Every line as JSON; each has to be.
pub fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

/// The kinds of events, in order.
pub fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["kind"].as_str().expect("a kind")).collect()
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
    std::fs::write(path, bytes).expect("written");
}
