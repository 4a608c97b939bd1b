//! Other processes: this binary run again, so that the tests can kill what they start.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use aosk_abi::{Epoch, Hash, Pid, Seq, Tenant};
use aosk_conformance::Scribe;
use aosk_ports::{Journal, JournalWriter, Store, StoreError, Ticket};
use aosk_store::SqliteStore;

use crate::postgres::{fight, server};
use crate::stream::stream;
use crate::support::{block_on, noise, open, options};

const ROLE: &str = "AOSK_STORE_TEST_ROLE";
const DIR: &str = "AOSK_STORE_TEST_DIR";

/// How many processes the role `write` writes, and how many events each of its appends has.
pub(crate) const WRITERS: u64 = 8;
pub(crate) const EVENTS: u64 = 2;

/// The `n`-th process of the role `write`.
pub(crate) fn pid(n: u64) -> Pid {
    Pid::from_parts(1_700_000_000_000 + n, [3; 10])
}

/// What a child in the role `write` says after an append was acknowledged: the process, its last
/// event and the link after it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ack {
    pub(crate) n: u64,
    pub(crate) last: u64,
    pub(crate) hash: Hash,
}

impl Ack {
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("ack ")?.split(' ');
        Some(Self {
            n: words.next()?.parse().ok()?,
            last: words.next()?.parse().ok()?,
            hash: words.next()?.parse().ok()?,
        })
    }
}

/// The command that runs this binary in a role.
pub(crate) fn command(role: &str, dir: &Path) -> Vec<(String, String)> {
    vec![(ROLE.to_owned(), role.to_owned()), (DIR.to_owned(), dir.display().to_string())]
}

/// The arguments under which [`in_a_role`] runs alone.
pub(crate) const ARGUMENTS: [&str; 5] =
    ["--exact", "child::in_a_role", "--ignored", "--nocapture", "--test-threads=1"];

/// This binary in a role.
fn in_role(role: &str, dir: &Path) -> Command {
    let mut this = Command::new(std::env::current_exe().expect("this binary"));
    this.args(ARGUMENTS).envs(command(role, dir));
    this
}

/// A process in a role; killed when dropped.
pub(crate) struct Other {
    child: Child,
    lines: Option<BufReader<ChildStdout>>,
}

impl Other {
    pub(crate) fn start(role: &str, dir: &Path) -> Self {
        Self::start_in(role, dir, [])
    }

    /// Starts it in an environment of its own.
    pub(crate) fn start_in(
        role: &str,
        dir: &Path,
        environment: impl IntoIterator<Item = (&'static str, OsString)>,
    ) -> Self {
        Self::spawn(in_role(role, dir).envs(environment))
    }

    /// Starts it as the first of a group of its own.
    pub(crate) fn start_in_a_group(role: &str, dir: &Path) -> Self {
        Self::spawn(in_role(role, dir).process_group(0))
    }

    fn spawn(command: &mut Command) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn().expect("a process");
        let lines = child.stdout.take().map(BufReader::new);
        Self { child, lines }
    }

    pub(crate) fn os_pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that begins with `word`.
    pub(crate) fn line(&mut self, word: &str) -> String {
        self.line_of(&[word])
    }

    /// The next line that begins with one of the words.
    pub(crate) fn line_of(&mut self, words: &[&str]) -> String {
        let mut line = String::new();
        let lines = self.lines.as_mut().expect("nobody else listens");
        loop {
            line.clear();
            assert_ne!(lines.read_line(&mut line).expect("text"), 0, "it ended before {words:?}");
            if words.iter().any(|word| line.starts_with(word)) {
                return line.trim_end().to_owned();
            }
        }
    }

    /// Kills it and all of its group with SIGKILL.
    pub(crate) fn kill_group(&self) {
        let group = format!("-{}", self.os_pid());
        let done = Command::new("kill").args(["-KILL", "--", &group]).status();
        assert!(done.is_ok_and(|status| status.success()), "kill {group}");
    }

    /// Kills it with SIGKILL and returns what it still said.
    pub(crate) fn kill(mut self) -> String {
        self.child.kill().expect("killed");
        self.child.wait().expect("waited");
        let mut rest = String::new();
        self.lines.take().expect("nobody else listens").read_to_string(&mut rest).expect("text");
        rest
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let done = Command::new("kill").args([name, &self.os_pid().to_string()]).status();
        assert!(done.is_ok_and(|status| status.success()), "kill {name}");
    }

    /// Listens to all that it says from now on, so that it never waits for somebody to listen.
    pub(crate) fn listen(&mut self) -> JoinHandle<String> {
        let mut lines = self.lines.take().expect("nobody else listens");
        std::thread::spawn(move || {
            let mut said = String::new();
            lines.read_to_string(&mut said).expect("text");
            said
        })
    }

    /// Tells it to end, and waits until it has.
    pub(crate) fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("waited").success(), "it ended in good order");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may be gone already, which is what this is for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "what the other tests run as a process of its own"]
fn in_a_role() {
    let dir = std::env::var_os(DIR).expect("started by another test");
    let dir = Path::new(&dir);
    // The test harness has begun a line of its own.
    say("");
    match std::env::var(ROLE).expect("started by another test").as_str() {
        "own" => own(dir),
        "write" => write(&open(dir)),
        "write to a server" => write(&server::in_place(dir)),
        "fight" => fight::fight(dir),
        "keep a server" => {
            let server = server::Server::start();
            say(&format!("listens {}", server.port()));
            let _ = std::io::stdin().read(&mut [0]);
        }
        "stream" => stream(&open(dir)),
        "stream to a server" => stream(&server::in_place(dir)),
        "write through trouble" => write_through_trouble(dir),
        "write one by one" => write_one_by_one(dir),
        role => panic!("no role is called {role:?}"),
    }
}

/// Says a line, at once.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).expect("somebody listens");
    out.flush().expect("somebody listens");
}

/// Owns the store until the standard input ends.
fn own(dir: &Path) {
    let _store = open(dir);
    say("owned");
    let _ = std::io::stdin().read(&mut [0]);
}

/// Appends to several processes at once, up to four appends of each in flight, until one is
/// refused; then it waits to be killed, with the store open.
fn write(store: &dyn Store) {
    block_on(async {
        let mut writers = Vec::new();
        for n in 0..WRITERS {
            writers.push((Scribe::new(store, &Tenant::local(), pid(n)).await, Vec::new()));
        }
        for round in 0_u64.. {
            for (n, (scribe, flight)) in (0..).zip(&mut writers) {
                let len = ((round * 37 + n * 211) % 5000) as usize;
                let append = scribe.append(&[&noise(round * 100 + n, len), b"and one more"]);
                scribe.follow(&append);
                flight.push((store.append(append), scribe.next.0 - 1, scribe.head));
                if flight.len() == 4 {
                    let (ticket, last, hash): (Ticket, u64, Hash) = flight.remove(0);
                    match ticket.await {
                        Ok(committed) => assert_eq!(committed.last.0, last),
                        Err(error) => {
                            say(&format!("refused {}", error.code));
                            let _ = std::io::stdin().read(&mut [0]);
                            return;
                        }
                    }
                    say(&format!("ack {n} {last} {hash}"));
                }
            }
        }
    });
}

/// Appends to several processes, round by round, on a disk where any call may fail: what is refused
/// is made anew from where the store says that the process stands. Now and then somebody keeps a
/// snapshot for a while, so that the log can be moved into the file in part only.
fn write_through_trouble(dir: &Path) {
    let (options, local) = (options(dir), Tenant::local());
    block_on(async {
        let Some(store) = (0..OPENINGS).find_map(|_| SqliteStore::open(&options).ok()) else {
            say(SHUT_OUT);
            let _ = std::io::stdin().read(&mut [0]);
            return;
        };
        let key = insist(|| store.content_key(&local)).await;
        let mut snapshot = None;
        for round in 0_u64.. {
            match round % 64 {
                0 => snapshot = hold(dir),
                40 => drop(snapshot.take()),
                _ => {}
            }
            let mut flight = Vec::new();
            for n in 0..WRITERS {
                let there = insist(|| store.process(&local, pid(n))).await;
                let (next, head) = there.map_or((Seq(0), Hash::ZERO), |it| (it.next, it.head));
                let (tenant, epoch) = (local.clone(), Epoch(1));
                let mut scribe = Scribe { tenant, pid: pid(n), epoch, next, head, key };
                let text = noise(round * 100 + n, ((round * 37 + n * 211) % 5000) as usize);
                let append = scribe.append(&[&text, b"and one more"]);
                scribe.follow(&append);
                flight.push((n, scribe.head, store.append(append)));
            }
            for (n, head, ticket) in flight {
                match ticket.await {
                    Ok(committed) => say(&format!("ack {n} {} {head}", committed.last)),
                    Err(error) => say(&format!("refused {}", error.code)),
                }
            }
        }
    });
}

/// How often a store is opened that will not open. To open it reads the log that the life before
/// left, and where that is long and one call in forty fails, no opening ever succeeds.
const OPENINGS: usize = 300;

/// What a process says that could not open its store.
pub(crate) const SHUT_OUT: &str = "shut out";

async fn insist<T>(mut ask: impl AsyncFnMut() -> Result<T, StoreError>) -> T {
    loop {
        if let Ok(answer) = ask().await {
            return answer;
        }
    }
}

/// A snapshot of the store as it is now, if it can be had.
pub(crate) fn hold(dir: &Path) -> Option<rusqlite::Connection> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let held = rusqlite::Connection::open_with_flags(dir.join("aosk.db"), flags).ok()?;
    held.execute_batch("BEGIN; SELECT count(*) FROM processes").ok()?;
    Some(held)
}

/// Appends to one process, each after the one before was acknowledged.
fn write_one_by_one(dir: &Path) {
    let store = open(dir);
    block_on(async {
        let mut scribe = Scribe::new(&store, &Tenant::local(), pid(0)).await;
        for n in 0..20 {
            scribe.write(&store, &[&noise(n, 2048)]).await.expect("acknowledged");
            say(&format!("ack 0 {n} {}", scribe.head));
        }
    });
}
