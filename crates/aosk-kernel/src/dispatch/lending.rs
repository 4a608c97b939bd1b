//! Priority inheritance: whoever is awaited is as important as those who wait.
//!
//! An important process that waits for an unimportant one would else wait for everybody in between.
//! So a process in a wait lends its priority to those whom it waits for, and they lend it on to those
//! whom they wait for, until the wait is over. What is lent is a pure function of who waits for whom:
//! nothing has to be undone, and no order of beginnings and ends leaves anybody too important.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use aosk_abi::{Pid, Priority};

/// Who lends what to whom.
#[derive(Debug, Default)]
pub(super) struct Lending {
    /// How important each process is by itself.
    own: HashMap<Pid, Priority>,
    /// Those who wait: how important, and for whom.
    waits: HashMap<Pid, (Priority, Vec<Pid>)>,
    /// By whom each is awaited.
    awaited: BTreeMap<Pid, BTreeSet<Pid>>,
}

impl Lending {
    /// The process is that important by itself; how important it is with what it is lent.
    pub(super) fn own(&mut self, pid: Pid, own: Priority) -> Priority {
        self.own.insert(pid, own);
        self.effective(pid, own)
    }

    /// The process is not known any more. What it lends stays lent.
    pub(super) fn forget(&mut self, pid: Pid) {
        self.own.remove(&pid);
    }

    /// The process waits for those; what becomes of everybody known whom that concerns. O(n log n)
    /// for the n who wait before and behind it.
    pub(super) fn lend(
        &mut self,
        waiter: Pid,
        priority: Priority,
        to: &[Pid],
    ) -> Vec<(Pid, Priority)> {
        let mut concerned = self.drop_wait(waiter);
        for pid in to {
            self.awaited.entry(*pid).or_default().insert(waiter);
        }
        concerned.extend(to);
        self.waits.insert(waiter, (priority, to.to_vec()));
        self.settled(concerned)
    }

    /// The process waits no longer; answers as [`lend`](Self::lend).
    pub(super) fn take_back(&mut self, waiter: Pid) -> Vec<(Pid, Priority)> {
        let concerned = self.drop_wait(waiter);
        self.settled(concerned)
    }

    fn drop_wait(&mut self, waiter: Pid) -> Vec<Pid> {
        let Some((_, to)) = self.waits.remove(&waiter) else {
            return Vec::new();
        };
        for pid in &to {
            if let Some(waiters) = self.awaited.get_mut(pid) {
                waiters.remove(&waiter);
                if waiters.is_empty() {
                    self.awaited.remove(pid);
                }
            }
        }
        to
    }

    /// How important those are now, and those for whom they wait in turn.
    fn settled(&self, mut concerned: Vec<Pid>) -> Vec<(Pid, Priority)> {
        let mut settled = BTreeMap::new();
        let mut seen = HashSet::new();
        while let Some(pid) = concerned.pop() {
            if !seen.insert(pid) {
                continue;
            }
            if let Some(own) = self.own.get(&pid) {
                settled.insert(pid, self.effective(pid, *own));
            }
            concerned.extend(self.waits.get(&pid).iter().flat_map(|(_, to)| to));
        }
        settled.into_iter().collect()
    }

    /// The most important of the process itself and of all who wait for it, directly or not.
    fn effective(&self, pid: Pid, own: Priority) -> Priority {
        let (mut best, mut seen, mut ways) = (own, HashSet::from([pid]), vec![pid]);
        while let Some(pid) = ways.pop() {
            for waiter in self.awaited.get(&pid).into_iter().flatten() {
                if !seen.insert(*waiter) {
                    continue;
                }
                ways.push(*waiter);
                if let Some((priority, _)) = self.waits.get(waiter)
                    && priority.is_more_important_than(best)
                {
                    best = *priority;
                }
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pid(n: u8) -> Pid {
        Pid::from_bytes([n; 16])
    }

    fn priority(n: u8) -> Priority {
        Priority::new(u64::from(n)).expect("in range")
    }

    #[test]
    fn what_is_lent_goes_down_the_chain_and_comes_back() {
        let mut lending = Lending::default();
        for (n, own) in [(1, 10), (2, 50), (3, 90)] {
            assert_eq!(lending.own(pid(n), priority(own)), priority(own));
        }
        assert_eq!(lending.lend(pid(2), priority(50), &[pid(3)]), [(pid(3), priority(50))]);
        let chain = lending.lend(pid(1), priority(10), &[pid(2)]);
        assert_eq!(chain, [(pid(2), priority(10)), (pid(3), priority(10))]);
        assert_eq!(lending.own(pid(3), priority(95)), priority(10), "whatever becomes of its own");
        let back = lending.take_back(pid(1));
        assert_eq!(back, [(pid(2), priority(50)), (pid(3), priority(50))]);
        assert_eq!(lending.take_back(pid(2)), [(pid(3), priority(95))]);
        assert!(lending.awaited.is_empty() && lending.waits.is_empty());
    }

    /// The same in the plainest way: round after round until nothing changes.
    fn model(
        own: &BTreeMap<Pid, Priority>,
        waits: &BTreeMap<Pid, Vec<Pid>>,
    ) -> BTreeMap<Pid, Priority> {
        let mut known = own.clone();
        for _ in 0..8 {
            for (waiter, to) in waits {
                let lent = known[waiter];
                for pid in to {
                    if lent.is_more_important_than(known[pid]) {
                        known.insert(*pid, lent);
                    }
                }
            }
        }
        known
    }

    proptest! {
        #[test]
        fn whoever_is_awaited_is_exactly_as_important_as_the_most_important_who_waits(
            steps in prop::collection::vec(
                (0_u8..8, 0_u8..100, prop::collection::vec(0_u8..8, 0..3)), 0..24,
            ),
        ) {
            let (mut lending, mut waits) = (Lending::default(), BTreeMap::new());
            let mut own: BTreeMap<Pid, Priority> = BTreeMap::new();
            let mut effective = BTreeMap::new();
            for n in 0..8 {
                own.insert(pid(n), priority(99));
                effective.insert(pid(n), lending.own(pid(n), priority(99)));
            }
            for (waiter, lent, to) in steps {
                // Nobody waits for itself.
                let to: Vec<Pid> = to.into_iter().filter(|n| *n != waiter).map(pid).collect();
                let (waiter, lent) = (pid(waiter), priority(lent));
                effective.extend(lending.take_back(waiter));
                waits.remove(&waiter);
                own.insert(waiter, lent);
                effective.insert(waiter, lending.own(waiter, lent));
                if !to.is_empty() {
                    effective.extend(lending.lend(waiter, lent, &to));
                    waits.insert(waiter, to);
                }
                prop_assert_eq!(&effective, &model(&own, &waits));
            }
        }
    }
}
