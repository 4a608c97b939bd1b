//! Checkpoints.

use aosk_abi::{Code, Seq};
use aosk_ports::{Append, Checkpoint};

use super::content::noise;
use super::refused;
use crate::World;
use crate::scribe::Scribe;

/// The newest is always there. A store may forget older ones, but what it answers for an earlier
/// event is a checkpoint of that time.
pub async fn the_newest_checkpoint_is_found(mut world: World) {
    let mut scribe = world.scribe(1).await;
    let mut saved: Vec<Checkpoint> = Vec::new();
    for n in 0..40_u64 {
        let mut append = scribe.append(&[&n.to_le_bytes(), b"and one"]);
        if n % 3 == 1 {
            let bytes = if n % 2 == 0 { noise(n as usize * 100) } else { vec![b'a'; 9_000] };
            append = Scribe::with_checkpoint(append, if n == 1 { Vec::new() } else { bytes });
            saved.extend(append.checkpoint.clone());
        }
        world.store().append(append.clone()).await.expect("continues");
        scribe.follow(&append);
        let at = async |at| {
            world.store().checkpoint(&scribe.tenant, scribe.pid, at).await.expect("answers")
        };
        assert_eq!(at(None).await, saved.last().cloned());
        assert_eq!(at(Some(Seq(u64::MAX))).await, saved.last().cloned());
        if let Some(newest) = saved.last() {
            assert_eq!(at(Some(newest.seq)).await.as_ref(), Some(newest));
            if let Some(older) = at(Some(Seq(newest.seq.0 - 1))).await {
                assert!(older.seq < newest.seq && saved.contains(&older));
            }
        }
        assert_eq!(at(Some(Seq(0))).await, None);
    }
    world.reopen();
    let newest = world.store().checkpoint(&scribe.tenant, scribe.pid, None).await.expect("answers");
    assert_eq!(newest.as_ref(), saved.last());
}

/// A fold is of the event it stands with, or folding from it would lose or double events.
pub async fn a_checkpoint_of_another_event_is_refused(world: World) {
    let (store, mut scribe) = (world.store(), world.scribe(1).await);
    scribe.write(store.as_ref(), &[b"zero"]).await.expect("begins");
    for seq in [0, 1, 3] {
        let checkpoint = Some(Checkpoint { seq: Seq(seq), version: 1, bytes: vec![1] });
        let append = Append { checkpoint, ..scribe.append(&[b"one", b"two"]) };
        refused(store.append(append).await, Code::StoreConflict);
    }
    assert_eq!(store.checkpoint(&scribe.tenant, scribe.pid, None).await.expect("answers"), None);
}
