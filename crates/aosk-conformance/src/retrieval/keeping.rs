//! What goes in once, and what goes out.

use aosk_abi::{Code, Hash, Seq, Tenant};
use aosk_ports::{Batch, Cursor, Followed, Means, Query};

use super::{Library, Stems, ask, embed_all, item, numbers, own, pages, pid, put};
use crate::checks::refused;

fn cursor(next: u64) -> Cursor {
    Cursor {
        next: Seq(next),
        head: if next == 0 { Hash::ZERO } else { Hash::of(&next.to_le_bytes()) },
    }
}

fn followed(from: u64, until: u64, page: u32, text: &str) -> Batch {
    let followed = Followed { pid: pid(1), from: cursor(from), until: cursor(until) };
    Batch { tenant: Tenant::local(), items: vec![item(1, page, text)], followed: Some(followed) }
}

/// The cursor and the items stand or fall together, also over a restart.
pub async fn a_batch_is_indexed_once(mut library: Box<dyn Library>) {
    let index = library.open(None);
    let local = Tenant::local();
    assert_eq!(index.cursor(&local, pid(1)).await.expect("answers"), Cursor::default());
    index.index(followed(0, 5, 1, "first")).await.expect("put in");
    // Its answer was lost and it is sent again, with other items even: it was put in already.
    index.index(followed(0, 5, 2, "again")).await.expect("nothing to do");
    drop(index);
    let index = library.open(None);
    index.index(followed(0, 5, 2, "again")).await.expect("nothing to do");
    assert_eq!(index.cursor(&local, pid(1)).await.expect("answers"), cursor(5));
    for (from, until) in [(0, 4), (0, 6), (4, 6), (6, 8)] {
        let wrong = followed(from, until, 3, "wrong");
        refused(index.index(wrong).await, Code::StoreConflict);
    }
    // Another journal that ends at the same place.
    let mut other = followed(5, 8, 3, "wrong");
    if let Some(followed) = &mut other.followed {
        followed.from.head = Hash::ZERO;
    }
    refused(index.index(other).await, Code::StoreConflict);
    index.index(followed(5, 8, 4, "second")).await.expect("put in");
    assert_eq!(pages(&*index, 1, "first again wrong second").await.len(), 2);
    assert_eq!(index.cursor(&local, pid(1)).await.expect("answers"), cursor(8));
    assert_eq!(index.cursor(&local, pid(2)).await.expect("answers"), Cursor::default());
}

/// With its words, its vector and its tags.
pub async fn a_page_that_is_put_in_again_takes_the_place_of_the_first(
    mut library: Box<dyn Library>,
) {
    let index = library.open(Some(Stems::new("stems", 64)));
    put(&*index, vec![item(1, 1, "winter coats"), item(1, 2, "summer hats")]).await;
    embed_all(&*index).await;
    let mut again = item(1, 1, "autumn boots");
    again.entry.tags = vec!["new".into()];
    // Of two in one batch the later one stays.
    put(&*index, vec![item(1, 1, "spring shoes"), again.clone()]).await;
    embed_all(&*index).await;
    assert_eq!(pages(&*index, 1, "autumn").await[0], 1);
    let query = Query::new(Tenant::local(), own(1), "winter spring", 10);
    let query = Query { means: Means::Words, ..query };
    assert_eq!(numbers(&ask(&*index, query.clone()).await), [0_u32; 0]);
    let query = Query { means: Means::Vectors, ..query };
    let found = ask(&*index, query).await;
    assert_eq!(found.hits.len(), 2, "each page once");
    let entry = &found.hits.iter().find(|hit| hit.entry.page.0 == 1).expect("found").entry;
    assert_eq!(entry, &again.entry);
    let coverage = index.embed(1).await.expect("answers");
    assert_eq!((coverage.items, coverage.waiting), (2, 0));
}

/// Its pages in every memory, its vectors, its cursor; and it may come again.
pub async fn what_is_forgotten_is_found_nowhere(mut library: Box<dyn Library>) {
    let index = library.open(Some(Stems::new("stems", 64)));
    let local = Tenant::local();
    let mut shared = item(1, 3, "lanterns");
    shared.entry.space = aosk_ports::Space::Shared("team".parse().expect("a name"));
    index.index(followed(0, 5, 1, "lanterns")).await.expect("put in");
    put(&*index, vec![shared.clone(), item(2, 7, "lanterns")]).await;
    embed_all(&*index).await;
    assert_eq!(index.followed(&local).await.expect("answers"), [pid(1)]);
    index.forget(&local, pid(1)).await.expect("forgotten");
    assert_eq!(index.followed(&local).await.expect("answers"), []);
    index.forget(&local, pid(9)).await.expect("there was nothing");
    for space in [own(1), shared.entry.space] {
        for means in [Means::Words, Means::Vectors] {
            let query = Query::new(local.clone(), space.clone(), "lanterns", 10);
            assert_eq!(ask(&*index, Query { means, ..query }).await.hits, []);
        }
    }
    assert_eq!(pages(&*index, 2, "lanterns").await, [7]);
    assert_eq!(index.cursor(&local, pid(1)).await.expect("answers"), Cursor::default());
    assert_eq!(index.embed(1).await.expect("answers").items, 1);
    index.index(followed(0, 5, 1, "lanterns")).await.expect("put in again");
    embed_all(&*index).await;
    assert_eq!(pages(&*index, 1, "lanterns").await, [1]);
}
