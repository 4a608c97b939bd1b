//! A level of the tree: tenants of a pool, or groups of a tenant, in start-time fair order.

use crate::account::{Account, KEPT_CALLS, VirtualTime};
use crate::heap::Heap;
use crate::slab::{NONE, Slab};
use crate::units::Units;

/// A member of a level.
pub(crate) trait Member {
    fn account(&mut self) -> &mut Account;
}

/// The members that wait, by virtual time. The level's own virtual time is the greatest at which a
/// member was dispatched so far; it tells where one stands that comes in or comes back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Level {
    now: VirtualTime,
    waiting: Heap,
}

impl Level {
    pub(crate) const fn now(&self) -> VirtualTime {
        self.now
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn first(&self) -> Option<u32> {
        self.waiting.first().map(|(_, id)| id)
    }

    /// The member waits, if it does not yet.
    pub(crate) fn wake<M: Member>(&mut self, members: &mut Slab<M>, id: u32, estimate: Units) {
        if members.seat(id) == NONE {
            members[id].account().wake(self.now, estimate, KEPT_CALLS);
            let rank = members[id].account().time();
            self.waiting.put(members, id, rank);
        }
    }

    /// The member, if it waits, waits no more. One that sleeps already goes on sleeping since when
    /// it did: a later beginning would save up what it forfeits.
    pub(crate) fn leave<M: Member>(&mut self, members: &mut Slab<M>, id: u32) {
        if members.seat(id) != NONE {
            self.waiting.remove(members, id);
            members[id].account().sleep(self.now);
        }
    }

    /// A call of the member, which waits, starts.
    pub(crate) fn dispatch<M: Member>(&mut self, members: &mut Slab<M>, id: u32, estimate: Units) {
        let account = members[id].account();
        self.now = self.now.max(account.time());
        account.charge(estimate);
        account.sleep(self.now);
        self.follow(members, id);
    }

    /// Puts a member that waits where its account says.
    pub(crate) fn follow<M: Member>(&mut self, members: &mut Slab<M>, id: u32) {
        if members.seat(id) != NONE {
            let rank = members[id].account().time();
            self.waiting.put(members, id, rank);
        }
    }
}
