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
    let (mut saved, mut stretches): (Vec<Checkpoint>, _) = (Vec::new(), Vec::new());
    for n in 0..40_u64 {
        let mut append = scribe.append(&[&n.to_le_bytes(), b"and one"]);
        if n % 3 == 1 {
            let bytes = if n % 2 == 0 { noise(n as usize * 100) } else { vec![b'a'; 9_000] };
            append = Scribe::with_checkpoint(append, if n == 1 { Vec::new() } else { bytes });
            // Most go on where the one before ended, some take the place of all from there on.
            let ends = saved.last().map_or(Seq(0), |newest| newest.seq.next());
            append = match n {
                1 => Scribe::with_stretch(append, Seq(0), Vec::new()),
                7 => Scribe::with_stretch(append, Seq(3), vec![7; 9_000]),
                22 => Scribe::with_stretch(append, Seq(0), noise(700)),
                _ if n % 2 == 0 => Scribe::with_stretch(append, ends, noise(n as usize * 50)),
                _ => append,
            };
            let brought = append.checkpoint.as_ref();
            saved.extend(brought.map(|brought| brought.settle(&mut stretches)));
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
                assert!(older.seq < newest.seq);
                let same = saved.iter().find(|it| it.seq == older.seq).expect("of that time");
                assert_eq!(older, same.on(&stretches));
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
        let checkpoint =
            Some(Checkpoint { seq: Seq(seq), version: 1, bytes: vec![1], stretches: Vec::new() });
        let append = Append { checkpoint, ..scribe.append(&[b"one", b"two"]) };
        refused(store.append(append).await, Code::StoreConflict);
    }
    for firsts in [&[3, 2][..], &[2, 2], &[4]] {
        let mut append = Scribe::with_checkpoint(scribe.append(&[b"one", b"two", b"3"]), vec![1]);
        for first in firsts {
            append = Scribe::with_stretch(append, Seq(*first), vec![1]);
        }
        refused(store.append(append).await, Code::StoreConflict);
    }
    assert_eq!(store.checkpoint(&scribe.tenant, scribe.pid, None).await.expect("answers"), None);
    let append = Scribe::with_checkpoint(scribe.append(&[b"one", b"two", b"3"]), vec![1]);
    let append =
        Scribe::with_stretch(Scribe::with_stretch(append, Seq(0), vec![1]), Seq(3), vec![2]);
    store.append(append).await.expect("ascends to the last event");
}
