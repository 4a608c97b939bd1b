//! A shared budget under `kill -9`.
//!
//! A child process runs agents on the embedded store that share a budget. Before its model answers it
//! appends a line to a file: a cent is spent, whatever happens after. The parent kills the child again
//! and again at random moments. All lives together may never spend more than the budget; and what a
//! kill loses count of is at most a slice and what was in flight.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aosk_abi::{
    BlockedOn, CacheRules, Hash, Manifest, MicroDollars, Scarce, Sharing, StopReason, Tenant,
    Tokens, Usage,
};
use aosk_kernel::{Kernel, Model, Options, OsRandom, Outcome, Parts, Redactor, Spawn, SystemClock};
use aosk_ports::{
    CallError, Device, DeviceInfo, Part, Prices, Progress, RenderError, Rendered, Reply, Request,
};
use aosk_sandbox::NoFiles;
use aosk_store::SqliteStore;
use futures::future::BoxFuture;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::support::Quarters;

const CHILD: &str = "AOSK_SPEND_CHILD";

/// Calls in flight at once, each of a cent.
const AGENTS: usize = 4;

/// The budget in cents, of which a slice is a hundredth.
const CENTS: u64 = 800;

const ROUNDS: u64 = 20;

#[test]
fn a_budget_is_never_overspent_however_often_its_kernel_is_killed() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let (mut killed, mut before) = (0, 0);
    for _ in 0..ROUNDS {
        let mut child = start(dir.path());
        // A life that has spent nothing proves nothing: a machine may be slow.
        let began = Instant::now();
        while spent(dir.path()) == before && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(u64::from(random.next_u32() % 40)));
        killed += u64::from(child.try_wait().expect("a child").is_none());
        child.kill().expect("killed");
        child.wait().expect("reaped");
        before = spent(dir.path());
        assert!(before <= CENTS, "{before} cents of {CENTS}");
    }
    assert!(killed * 10 >= ROUNDS * 9, "{killed} were killed while they ran");
    let status = start(dir.path()).wait().expect("ended");
    assert!(status.success(), "the last life ends by itself: {status}");
    let all = spent(dir.path());
    assert!(all > before && all <= CENTS, "{all} cents of {CENTS}, {before} before the last life");
    // A slice is 8 cents, and each agent may have had a call in flight and one that was being begun.
    let lost = CENTS - all;
    assert!(lost <= killed * (CENTS / 100 + 2 * AGENTS as u64), "{lost} cents were lost");
}

fn spent(dir: &Path) -> u64 {
    std::fs::read(dir.join("spent")).map_or(0, |lines| lines.len() as u64 / 2)
}

fn start(dir: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["spend::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdout(Stdio::null())
        .spawn()
        .expect("a child")
}

#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    runtime.block_on(live(Path::new(&dir)));
}

async fn live(dir: &Path) {
    let options =
        aosk_store::Options { dir: dir.join("store"), command: "the spend test".to_owned() };
    let began = Instant::now();
    let store = loop {
        match SqliteStore::open(&options) {
            Ok(store) => break store,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(10), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    let kernel = kernel(store, dir);
    let mut pids = kernel.recover().await.expect("listed");
    while pids.len() < AGENTS {
        let manifest = "name = \"spender\"\nmax_steps = 1000000\n";
        let request = Spawn {
            manifest: Manifest::from_toml(manifest).expect("a manifest"),
            model: "till".into(),
            task: "spend".into(),
            alias: None,
            parent: None,
        };
        pids.push(kernel.spawn(request).await.expect("spawned"));
    }
    let money =
        BlockedOn::Limit { owner: "tenant local".into(), scarce: Scarce::Money, until: None };
    for (pid, outcome) in kernel.wait_each(&pids).await {
        assert_eq!(outcome, Outcome::Parked(money.clone()), "{pid}");
    }
}

fn kernel(store: SqliteStore, dir: &Path) -> Kernel {
    let device = Till::new(dir);
    let model = Model { device: Arc::new(device), tokenizer: Arc::new(Quarters) };
    let parts = Parts {
        store: Arc::new(store),
        memory: None,
        models: HashMap::from([("till".to_owned(), model)]),
        recorder: None,
        alternatives: HashMap::new(),
        spreads: HashMap::new(),
        connect: None,
        tools: BTreeMap::new(),
        sandbox: Arc::new(|_| Ok(Arc::new(NoFiles))),
        clock: Arc::new(SystemClock::new()),
        random: Arc::new(OsRandom),
        observer: Arc::new(()),
        secrets: Redactor::default(),
    };
    let mut options = Options::new(Tenant::local(), "spend test");
    let budget = format!("[tenants.local]\nquota.spend = \"{}\"\n", CENTS / 100);
    options.sharing = toml::from_str::<Sharing>(&budget).expect("a budget");
    Kernel::start(parts, options).expect("a kernel")
}

/// A model that is paid before it answers: each call costs its cent, all that it can.
struct Till {
    info: DeviceInfo,
    spent: std::fs::File,
}

impl Till {
    fn new(dir: &Path) -> Self {
        let spent = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("spent"));
        let cent = MicroDollars(10_000 * 1_000_000 / 64);
        let info = DeviceInfo {
            name: "till".into(),
            model: "till".into(),
            window: Tokens(1 << 20),
            max_output: Tokens(64),
            prices: Prices { output: cent, ..Prices::default() },
            slots: AGENTS,
            cache: CacheRules::default(),
        };
        Self { info, spent: spent.expect("a file") }
    }
}

impl Device for Till {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn render(&self, _: &Request) -> Result<Rendered, RenderError> {
        Ok(Rendered {
            render: "1/till".into(),
            body: Vec::new().into(),
            prompt: Hash::of(b""),
            prompt_len: 0,
            prompt_bytes: Vec::new().into(),
            timeout: Duration::from_secs(10),
        })
    }

    fn call<'a>(
        &'a self,
        _: &'a Rendered,
        _: &'a Request,
        _: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<Reply, CallError>> {
        Box::pin(async move {
            // One write: a kill comes before it or after it.
            (&self.spent).write_all(b"c\n").expect("written");
            tokio::time::sleep(Duration::from_millis(4)).await;
            Ok(Reply {
                parts: vec![Part::Text("on".into())],
                // The program asks again for more.
                stop: StopReason::Length,
                usage: Some(Usage { output: Tokens(64), ..Usage::default() }),
                model: "till".into(),
                raw: None,
            })
        })
    }
}
