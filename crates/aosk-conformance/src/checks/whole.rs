//! The store as a whole: closed and opened, and under load.

use std::sync::Arc;

use aosk_abi::{Content, Hash, Seq, Tenant};
use aosk_ports::ProcessFilter;

use super::content::noise;
use crate::World;
use crate::scribe::Scribe;

/// What was acknowledged is there, and writing goes on where it stood.
pub async fn everything_survives_a_reopen(mut world: World) {
    let mut scribe = world.scribe(1).await;
    let large = noise(Content::INLINE_MAX * 3);
    for n in 0..4_u8 {
        let append = Scribe::with_checkpoint(scribe.append(&[&[n], &large]), vec![n; 3000]);
        world.store().append(append.clone()).await.expect("continues");
        scribe.follow(&append);
        let claim = world.store().claim(&scribe.tenant, scribe.pid, scribe.epoch);
        scribe.epoch = claim.await.expect("there");

        let seen = async |world: &World| {
            let (store, tenant, pid) = (world.store(), &scribe.tenant, scribe.pid);
            let wanted = [(Seq(0), scribe.key.hash(&[0])), (Seq(1), scribe.key.hash(&large))];
            (
                store.content_key(tenant).await.expect("its key"),
                store.process(tenant, pid).await.expect("answers"),
                store.read(tenant, pid, Seq(0), 99).await.expect("read"),
                store.contents(tenant, pid, &wanted).await.expect("there"),
                store.checkpoint(tenant, pid, None).await.expect("answers"),
            )
        };
        let before = seen(&world).await;
        world.reopen();
        assert_eq!(seen(&world).await, before);
    }
}

/// 64 processes at once, each with its own pace of awaiting: every journal is whole, in order and
/// chained, and every content is readable.
pub async fn many_writers_at_once_lose_nothing(mut world: World) {
    const WRITERS: u64 = 64;
    const APPENDS: u64 = 30;
    let mut tasks = Vec::new();
    for n in 0..WRITERS {
        let mut scribe = world.scribe(n).await;
        let store = Arc::clone(world.store());
        tasks.push(tokio::spawn(async move {
            let mut tickets = Vec::new();
            for step in 0..APPENDS {
                let append = scribe.append(&[&noise(((n * 97 + step * 31) % 6000) as usize)]);
                scribe.follow(&append);
                tickets.push(store.append(append));
                if step % (n % 5 + 1) == 0 {
                    for ticket in tickets.drain(..) {
                        ticket.await.expect("continues");
                    }
                    let read = store.read(&scribe.tenant, scribe.pid, Seq(step), 1).await;
                    assert_eq!(read.expect("read").len(), 1, "acknowledged is readable");
                }
            }
            for ticket in tickets {
                ticket.await.expect("continues");
            }
            scribe
        }));
    }
    let mut scribes = Vec::new();
    for task in tasks {
        scribes.push(task.await.expect("no writer failed"));
    }
    world.reopen();
    let store = world.store();
    let listed = store.processes(&Tenant::local(), ProcessFilter::All).await.expect("answers");
    assert!(
        listed.iter().map(|it| (it.pid, it.head)).eq(scribes.iter().map(|it| (it.pid, it.head)))
    );
    for (n, scribe) in (0..).zip(&scribes) {
        let read = store.read(&scribe.tenant, scribe.pid, Seq(0), 999).await.expect("read");
        assert_eq!(read.len() as u64, APPENDS);
        let mut prev = Hash::ZERO;
        for record in &read {
            record.verify(&scribe.tenant, scribe.pid, prev).expect("chained");
            prev = record.hash;
        }
        let texts: Vec<Vec<u8>> =
            (0..APPENDS).map(|step| noise(((n * 97 + step * 31) % 6000) as usize)).collect();
        let wanted: Vec<(Seq, Hash)> =
            (0..).zip(&texts).map(|(seq, text)| (Seq(seq), scribe.key.hash(text))).collect();
        let found = store.contents(&scribe.tenant, scribe.pid, &wanted).await.expect("there");
        assert!(found.iter().map(|bytes| &bytes[..]).eq(texts.iter().map(Vec::as_slice)));
    }
}
