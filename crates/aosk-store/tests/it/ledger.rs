//! What writers that were killed had been told, and whether a store still knows it.

use std::collections::BTreeMap;
use std::time::Duration;

use aosk_abi::{Hash, Pid, Seq, Tenant};
use aosk_ports::{Journal, ProcessFilter};

use crate::child::{Ack, EVENTS, Other, SHUT_OUT, WRITERS, pid};
use crate::support::{block_on, random};

/// How many kills of each kind: a tenth of the full count, which `AOSK_STORE_ROUNDS` asks for.
pub(crate) fn rounds() -> u64 {
    setting("AOSK_STORE_ROUNDS", 30)
}

/// The seed of their moments.
pub(crate) fn seed() -> u64 {
    setting("AOSK_STORE_SEED", 20_260_101)
}

pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// How many writers one store sees in turn. Everything is read after each, so that a store of all
/// rounds would make 300 of them 30 times as long as 30.
const LIVES: u64 = 50;

/// The numbers of the rounds, store by store.
pub(crate) fn stores(rounds: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    (0..rounds.div_ceil(LIVES)).map(move |n| n * LIVES..rounds.min((n + 1) * LIVES))
}

/// What the writers of one store said.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) acks: Vec<Ack>,
    /// How many appends were refused.
    pub(crate) refused: usize,
    /// Where the journals ended when they were looked at last.
    ends: BTreeMap<Pid, u64>,
}

impl Ledger {
    /// Hears a writer's acks, and kills it at a moment of its first 200 ms. One that cannot open its
    /// store has none.
    pub(crate) fn hear_and_kill(&mut self, mut other: Other, seed: &mut u64) {
        self.acks.extend(Ack::parse(&other.line_of(&["ack ", SHUT_OUT])));
        std::thread::sleep(Duration::from_micros(random(seed) % 200_000));
        self.kill(other);
    }

    /// Kills a writer now.
    pub(crate) fn kill(&mut self, other: Other) {
        // The last line may be cut; an ack that was not heard binds nobody.
        let said = other.kill();
        let whole = said.rfind('\n').map_or("", |end| &said[..end]);
        self.acks.extend(whole.lines().filter_map(Ack::parse));
        self.refused += whole.lines().filter(|line| line.starts_with("refused ")).count();
    }

    /// Hears so many more acks of a writer.
    pub(crate) fn hear(&mut self, other: &mut Other, acks: usize) {
        self.acks.extend((0..acks).filter_map(|_| Ack::parse(&other.line("ack "))));
    }

    /// What is wrong with the store: an ack that it does not know, a chain that does not hold.
    pub(crate) fn lost(&self, store: &dyn Journal) -> Option<String> {
        block_on(self.links(store)).err()
    }

    /// The same, and an append that is there without those that were enqueued before it, whosoever
    /// they were: a part of a group.
    pub(crate) fn wrong(&mut self, store: &dyn Journal) -> Option<String> {
        let links = match block_on(self.links(store)) {
            Ok(links) => links,
            Err(wrong) => return Some(wrong),
        };
        // Each writer appends to one process after the other, round by round.
        let mut added = Vec::new();
        for n in 0..WRITERS {
            let end = links.get(&pid(n)).map_or(0, Vec::len) as u64;
            added.push(end - self.ends.insert(pid(n), end).unwrap_or(0));
        }
        let is_whole = added.iter().all(|events| events % EVENTS == 0);
        let is_prefix = added.is_sorted_by(|one, next| one >= next);
        (!is_whole || !is_prefix || added[0] - added[added.len() - 1] > EVENTS)
            .then(|| format!("a part of a group: {added:?} events were added"))
    }

    /// The links of all journals, once they are whole and hold every ack.
    async fn links(&self, store: &dyn Journal) -> Result<BTreeMap<Pid, Vec<Hash>>, String> {
        let local = Tenant::local();
        let listed = store.processes(&local, ProcessFilter::All).await;
        let mut links: BTreeMap<Pid, Vec<Hash>> = BTreeMap::new();
        for receipt in listed.map_err(|error| error.to_string())? {
            // Reading verifies the chain.
            let read = store.read(&local, receipt.pid, Seq(0), usize::MAX).await;
            let read = read.map_err(|error| error.to_string())?;
            if read.last().map(|record| record.hash) != Some(receipt.head) {
                return Err(format!("{} does not end where its row says", receipt.pid));
            }
            links.insert(receipt.pid, read.iter().map(|record| record.hash).collect());
        }
        let is_lost = |ack: &&Ack| {
            let link = links.get(&pid(ack.n)).and_then(|links| links.get(ack.last as usize));
            link != Some(&ack.hash)
        };
        match self.acks.iter().find(is_lost) {
            Some(ack) => Err(format!("{ack:?} is lost")),
            None => Ok(links),
        }
    }
}
