//! Stores for the tests, on real servers.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aosk_store::{PostgresOptions, PostgresStore};

use crate::child::Other;
use crate::support::block_on;

/// Whether there is a server; says how to get one.
pub(crate) fn is_here() -> bool {
    aosk_conformance::Server::is_here()
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
pub(crate) struct Server(aosk_conformance::Server);

impl Deref for Server {
    type Target = aosk_conformance::Server;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Server {
    /// Makes a cluster and starts its server.
    pub(crate) fn start() -> Self {
        Self(aosk_conformance::Server::start())
    }

    /// The same with settings of its own, such as `ssl=on`.
    pub(crate) fn with(settings: &[&str]) -> Self {
        Self(aosk_conformance::Server::with(settings))
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

/// Opens a store.
pub(crate) fn open(options: &PostgresOptions) -> PostgresStore {
    PostgresStore::open(options).expect("a store that opens")
}

/// A store in a schema of its own, where there is a server; says how to get one.
pub(crate) fn fresh() -> Option<(PostgresOptions, PostgresStore)> {
    is_here().then(|| {
        let options = options();
        let store = open(&options);
        (options, store)
    })
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

#[test]
fn a_server_ends_with_its_program_even_if_all_of_its_group_is_killed() {
    if !is_here() {
        return;
    }
    let mut other = Other::start_in_a_group("keep a server", Path::new("none"));
    let port: u16 = other.line("listens ")["listens ".len()..].parse().expect("a port");
    let answers = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    assert!(answers());
    other.kill_group();
    let begun = std::time::Instant::now();
    while answers() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it outlives its program");
        std::thread::sleep(Duration::from_millis(50));
    }
}
