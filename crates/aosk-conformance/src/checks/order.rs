//! Many appends in flight: order, refusals, dropped tickets.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use aosk_abi::{Code, Hash, Seq};
use aosk_ports::{Committed, StoreError, Ticket};
use tokio::task::unconstrained;

use super::refused;
use crate::World;

/// A store that has not answered an append while so many came behind it never will: what one commit
/// takes at once is far less.
const ANSWERED_WITHIN: usize = 100_000;

/// What a ticket says now, without waiting. Asked outside the task's budget: once that is used up, a
/// channel of tokio's says that it is not ready until the task yields, which a loop of these never
/// does.
fn now(ticket: &mut Ticket) -> Poll<Result<Committed, StoreError>> {
    pin!(unconstrained(ticket)).poll(&mut Context::from_waker(Waker::noop()))
}

/// Whoever hears of the n-th append may rely on all before it.
pub async fn acks_come_in_the_order_of_the_calls(world: World) {
    let (store, mut scribe) = (world.store(), world.scribe(1).await);
    for _ in 0..10 {
        let mut tickets = Vec::new();
        for n in 0..20_u8 {
            let append = scribe.append(&[&[n]]);
            scribe.follow(&append);
            tickets.push(store.append(append));
        }
        let last = tickets.pop().expect("twenty");
        assert_eq!(last.await.expect("continues").last.next(), scribe.next);
        for ticket in &mut tickets {
            assert!(matches!(now(ticket), Poll::Ready(Ok(_))));
        }
    }
    let read = store.read(&scribe.tenant, scribe.pid, Seq(0), 999).await.expect("read");
    assert_eq!((read.len(), read.last().map(|it| it.hash)), (200, Some(scribe.head)));
}

/// A ticket is for listening only.
pub async fn a_dropped_ticket_cancels_nothing(mut world: World) {
    let mut scribe = world.scribe(1).await;
    for n in 0..50 {
        let append = scribe.append(&[format!("event {n}").as_bytes()]);
        scribe.follow(&append);
        drop(world.store().append(append));
    }
    world.reopen();
    let read = world.store().read(&scribe.tenant, scribe.pid, Seq(0), 99).await.expect("read");
    assert_eq!((read.len(), read.last().map(|it| it.hash)), (50, Some(scribe.head)));
}

/// What was enqueued before a refusal was heard was made in the belief that it would not come.
/// Others share its group and nothing else.
pub async fn a_refusal_takes_the_later_appends_of_its_process_with_it_and_no_others(world: World) {
    let (store, mut bad, mut good) = (world.store(), world.scribe(1).await, world.scribe(2).await);
    bad.write(store.as_ref(), &[b"zero"]).await.expect("begins");
    for round in 0..20_u8 {
        let mut of_good = Vec::new();
        let mut enqueue_good = || {
            let append = good.append(&[&[round]]);
            good.follow(&append);
            of_good.push(store.append(append));
        };
        let before = bad.append(&[b"before", &[round]]);
        bad.follow(&before);
        let before = store.append(before);
        enqueue_good();
        let mut broken = bad.append(&[b"broken"]);
        broken.prev = Hash::of(b"broken");
        let mut broken = store.append(broken);
        enqueue_good();
        // Each of these would continue the journal, if the broken one had never been.
        let mut behind = Vec::new();
        let heard = loop {
            let ticket = store.append(bad.append(&[b"behind", &[round]]));
            match now(&mut broken) {
                Poll::Ready(answer) => break (answer, ticket),
                Poll::Pending => behind.push(ticket),
            }
            let count = behind.len();
            assert!(count < ANSWERED_WITHIN, "not refused while {count} appends came behind it");
            enqueue_good();
        };
        before.await.expect("before the refusal");
        refused(heard.0, Code::StoreConflict);
        for ticket in behind {
            refused(ticket.await, Code::StoreConflict);
        }
        // Enqueued around the moment of the refusal: it may be on either side.
        if heard.1.await.is_ok() {
            bad.follow(&bad.append(&[b"behind", &[round]]));
        }
        for ticket in of_good {
            ticket.await.expect("another process's refusal is not ours");
        }
    }
    for scribe in [&good, &bad] {
        let read = store.read(&scribe.tenant, scribe.pid, Seq(0), usize::MAX).await.expect("read");
        assert_eq!(
            read.last().map(|it| (it.seq.next(), it.hash)),
            Some((scribe.next, scribe.head))
        );
    }
}

/// A refusal is of what was enqueued, not of the process.
pub async fn after_a_refusal_the_process_goes_on(world: World) {
    let (store, mut scribe) = (world.store(), world.scribe(1).await);
    for n in 0..20_u8 {
        scribe.write(store.as_ref(), &[&[n]]).await.expect("continues");
        let mut ahead = scribe.clone();
        ahead.next = Seq(scribe.next.0 + 1);
        refused(store.append(ahead.append(&[b"a gap"])).await, Code::StoreConflict);
    }
    let read = store.read(&scribe.tenant, scribe.pid, Seq(0), 99).await.expect("read");
    assert_eq!((read.len(), read.last().map(|it| it.hash)), (20, Some(scribe.head)));
}
