//! Recovery races: whatever happens in the middle of a take-over, no process is left behind and none
//! has two owners.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use aosk_abi::{Code, Epoch, Priority, Tenant};
use aosk_conformance::Scribe;
use aosk_ports::{Inbox, InboxItem, Journal, JournalWriter, Leases, ProcessFilter, Standing};
use aosk_store::{PostgresOptions, PostgresReader, PostgresStore};

use super::server::{Server, is_here, open, options, psql};
use crate::child::pid;
use crate::support::{block_on, refused};

const PROCESSES: u64 = 40;

/// Processes that a node has begun, each in the middle of its work.
fn begin(store: &PostgresStore) {
    block_on(async {
        for n in 0..PROCESSES {
            let mut scribe = Scribe::new(store, &Tenant::local(), pid(n)).await;
            scribe.write(store, &[b"begun"]).await.expect("begins");
        }
    });
}

/// Takes everything over that is there to be taken, and goes on with it.
fn take_all(store: &PostgresStore, limit: usize) -> Vec<u64> {
    let local = Tenant::local();
    let mut all = Vec::new();
    loop {
        let taken = block_on(store.take_over(&local, limit)).expect("answers");
        if taken.is_empty() {
            all.sort_unstable();
            return all;
        }
        for receipt in taken {
            let mut scribe = block_on(Scribe::new(store, &local, receipt.pid));
            assert_eq!((scribe.epoch, scribe.next), (receipt.epoch, receipt.next));
            block_on(scribe.write(store, &[b"goes on"])).expect("its own");
            all.extend((0..PROCESSES).find(|n| pid(*n) == receipt.pid));
        }
    }
}

fn everyone() -> Vec<u64> {
    (0..PROCESSES).collect()
}

/// What is between a node and its server: it passes everything on, and cuts the connection when the
/// server has carried a commit out and before the node hears of it, as often as it is told to.
struct Cutter {
    port: u16,
    cuts: Arc<AtomicU16>,
}

impl Cutter {
    fn before(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("a port").port();
        let (cuts, to) = (Arc::new(AtomicU16::new(0)), server.port());
        std::thread::spawn({
            let cuts = Arc::clone(&cuts);
            move || {
                for client in listener.incoming() {
                    let client = client.expect("a connection");
                    let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                    pass(&client, &server, &cuts);
                }
            }
        });
        Self { port, cuts }
    }
}

fn pass(client: &TcpStream, server: &TcpStream, cuts: &Arc<AtomicU16>) {
    let twice = |stream: &TcpStream| stream.try_clone().expect("a handle");
    let (mut from, mut to) = (twice(server), twice(client));
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let (mut from, mut to, cuts) = (twice(client), twice(server), Arc::clone(cuts));
    std::thread::spawn(move || {
        let mut buffer = [0; 1 << 16];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            let less = |left: u16| left.checked_sub(1);
            let is_cut = buffer[..len].windows(6).any(|word| word == b"COMMIT")
                && cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok();
            if is_cut {
                // Nothing comes back from now on; the server still carries it out.
                let _ = from.shutdown(Shutdown::Both);
            }
            if to.write_all(&buffer[..len]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// The connection dies when a take-over is committed and before its node hears of it: the node owns
/// processes of which it does not know. A call that is repeated must name them.
#[test]
fn a_take_over_whose_answer_was_lost_strands_nothing() {
    if !is_here() {
        return;
    }
    let server = Server::start();
    let options = server.options();
    let dead = open(&options);
    begin(&dead);
    drop(dead);
    let cutter = Cutter::before(&server);
    let url = options.url.replace(&server.port().to_string(), &cutter.port.to_string());
    let node = open(&PostgresOptions { url, ..options });
    cutter.cuts.store(3, Ordering::SeqCst);
    assert_eq!(take_all(&node, 7), everyone());
    assert_eq!(cutter.cuts.load(Ordering::SeqCst), 0, "each cut was made");
}

/// The server itself dies while nodes recover what a dead one left.
#[test]
fn a_server_that_restarts_in_the_middle_of_recovery_strands_nothing() {
    if !is_here() {
        return;
    }
    let server = Server::start();
    let options = server.options();
    let dead = open(&options);
    begin(&dead);
    drop(dead);
    let nodes = [open(&options), open(&options)];
    let mut taken: Vec<u64> = std::thread::scope(|scope| {
        let takers: Vec<_> = nodes.iter().map(|node| scope.spawn(|| take_all(node, 1))).collect();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(30));
            server.kill();
            server.go();
        }
        takers.into_iter().flat_map(|taker| taker.join().expect("took")).collect()
    });
    taken.sort_unstable();
    assert_eq!(taken, everyone(), "each once");
}

/// Who looked before another took over must not act on what it saw.
#[test]
fn a_recovery_that_looked_too_early_takes_nothing_that_others_own() {
    if !is_here() {
        return;
    }
    let (options, local) = (options(), Tenant::local());
    let dead = open(&options);
    begin(&dead);
    drop(dead);
    let [late, owner] = [(); 2].map(|()| open(&options));
    let seen = block_on(late.processes(&local, ProcessFilter::Unfinished)).expect("listed");
    assert_eq!(take_all(&owner, 9), everyone());
    for receipt in seen {
        let claim = late.claim(&local, receipt.pid, receipt.epoch);
        refused(block_on(claim), Code::StoreStaleEpoch);
    }
    assert!(block_on(late.take_over(&local, 99)).expect("answers").is_empty());
    let mut scribe = block_on(Scribe::new(&owner, &local, pid(0)));
    assert_eq!(scribe.epoch, Epoch(2));
    block_on(scribe.write(&owner, &[b"still its own"])).expect("nobody took it");
}

/// A node that ends while another of the same name has begun already.
#[test]
fn a_node_that_drains_beside_one_of_the_same_name_strands_nothing() {
    if !is_here() {
        return;
    }
    let options = options();
    let old = open(&options);
    begin(&old);
    let new = open(&options);
    assert!(take_all(&new, 9).is_empty(), "the old one lives");
    drop(old);
    assert_eq!(take_all(&new, 9), everyone());
    assert!(matches!(new.standing(), Standing::Held { .. }), "it was not buried with the other");
}

/// A node that dies between two steps of its processes, when nothing of theirs is under way.
#[test]
fn a_process_between_two_steps_of_a_dead_node_goes_on() {
    if !is_here() {
        return;
    }
    let options = PostgresOptions { lease: Duration::from_secs(1), ..options() };
    let (next, local) = (open(&options), Tenant::local());
    let other = {
        let place = super::server::place(&options);
        let mut other = crate::child::Other::start("write to a server", &place);
        let mut begun = BTreeSet::new();
        while (begun.len() as u64) < crate::child::WRITERS {
            begun.extend(crate::child::Ack::parse(&other.line("ack ")).map(|ack| ack.n));
        }
        other
    };
    // Between one step and the next: it is stopped there, and never comes back.
    other.signal("-STOP");
    let mut taken = Vec::new();
    for _ in 0..200 {
        taken.extend(take_all(&next, 9));
        if taken.len() as u64 == crate::child::WRITERS {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(taken, (0..crate::child::WRITERS).collect::<Vec<_>>());
    other.kill();
    let left = block_on(next.take_over(&local, 9)).expect("answers");
    assert!(left.is_empty(), "each was taken over once");
}

/// One process whose row is damaged among those of a dead node.
#[test]
fn one_damaged_process_does_not_strand_its_batch() {
    if !is_here() {
        return;
    }
    let (options, local) = (options(), Tenant::local());
    let dead = open(&options);
    begin(&dead);
    drop(dead);
    block_on(async {
        let sql = format!("UPDATE processes SET detail = 'no state' WHERE pid = '{}'", pid(3));
        psql(&options).await.batch_execute(&sql).await.expect("damaged");
    });
    let node = open(&options);
    let mut expected = everyone();
    expected.remove(3);
    let taken: Vec<_> = (0..PROCESSES)
        .flat_map(|_| block_on(node.take_over(&local, 7)).expect("answers"))
        .map(|receipt| receipt.pid)
        .collect();
    assert_eq!(taken, expected.into_iter().map(pid).collect::<Vec<_>>());
    let error = refused(block_on(node.process(&local, pid(3))), Code::StoreCorrupt);
    assert!(error.message.contains(&pid(3).to_string()), "{error}");
}

/// The connection dies when a post is committed and before its poster hears of it, and what was
/// posted is taken before the poster tries again: it must not be there a second time.
#[test]
fn a_post_whose_answer_was_lost_is_there_once_though_it_was_taken_meanwhile() {
    const POSTS: u16 = 20;
    if !is_here() {
        return;
    }
    let server = Server::start();
    let options = server.options();
    let owner = open(&options);
    begin(&owner);
    let cutter = Cutter::before(&server);
    let url = options.url.replace(&server.port().to_string(), &cutter.port.to_string());
    let poster = PostgresReader::open(&PostgresOptions { url, ..options.clone() }).expect("opens");
    let taken = block_on(async {
        let client = psql(&options).await;
        let take = async {
            let mut taken = 0;
            loop {
                taken += client.execute("DELETE FROM inbox", &[]).await.expect("taken");
                if taken >= POSTS.into() {
                    // What is there twice comes soon after.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    break taken + client.execute("DELETE FROM inbox", &[]).await.expect("taken");
                }
            }
        };
        let post = async {
            for number in 0..POSTS {
                cutter.cuts.store(1, Ordering::SeqCst);
                let item = InboxItem::Priority { priority: Priority::DEFAULT };
                let item = poster.post(&Tenant::local(), pid(number.into()), item);
                item.await.expect("posted in the end");
                assert_eq!(cutter.cuts.load(Ordering::SeqCst), 0, "the cut was made");
            }
        };
        futures::join!(take, post).0
    });
    assert_eq!(taken, u64::from(POSTS));
}
