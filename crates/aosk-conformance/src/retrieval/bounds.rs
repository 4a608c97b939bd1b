//! What is refused, and what just is not.

use std::sync::Arc;

use aosk_abi::{Code, Seq, Tenant};
use aosk_ports::{Batch, Cursor, Entry, Followed, Item, Means, Query, Space};

use super::{Library, Stems, ask, embed_all, item, own, pid};
use crate::checks::refused;

/// How many pages, which memories, what for.
pub async fn queries_below_at_and_above_their_bounds(mut library: Box<dyn Library>) {
    let stems = Stems::new("stems", 64);
    let index = library.open(Some(stems.clone()));
    let query = Query::new(Tenant::local(), own(1), "a question", 10);
    for k in [1, Query::K_MAX] {
        ask(&*index, Query { k, ..query.clone() }).await;
    }
    for k in [0, Query::K_MAX + 1] {
        refused(index.query(Query { k, ..query.clone() }).await, Code::SearchInput);
    }
    let most = Query::SPACES_MAX;
    for (count, is_fine) in [(0, false), (1, true), (most, true), (most + 1, false)] {
        let answer = index.query(Query { spaces: vec![own(1); count], ..query.clone() }).await;
        if is_fine {
            answer.expect("an answer");
        } else {
            refused(answer, Code::SearchInput);
        }
    }
    let vector = Some(stems.direction("a question"));
    for text in [None, Some(Arc::from("")), Some(Arc::from(" \n\t"))] {
        for means in [Means::Words, Means::Vectors, Means::Hybrid] {
            let nothing = Query { text: text.clone(), means, ..query.clone() };
            refused(index.query(nothing.clone()).await, Code::SearchInput);
            let directed = Query { vector: vector.clone(), ..nothing };
            match means {
                Means::Words => refused(index.query(directed).await, Code::SearchInput),
                Means::Vectors | Means::Hybrid => drop(ask(&*index, directed).await),
            }
        }
    }
    let small = Stems::new("other", 32).direction("a question");
    refused(index.query(Query { vector: Some(small), ..query.clone() }).await, Code::SearchInput);
    // Signs alone are a text in which there is nothing to find.
    assert_eq!(ask(&*index, Query { text: Some("?!".into()), ..query }).await.hits, []);
}

/// Texts, tags, and whose memory.
pub async fn items_below_at_and_above_their_bounds(mut library: Box<dyn Library>) {
    let index = library.open(Some(Stems::new("stems", 64)));
    let put = async |item: Item| {
        let batch = Batch { tenant: Tenant::local(), items: vec![item], followed: None };
        index.index(batch).await
    };
    for len in [0, 1, Entry::TEXT_MAX - 1, Entry::TEXT_MAX] {
        put(item(1, 1, &"x".repeat(len))).await.expect("put in");
    }
    // Nothing but different terms, which is the most that an index can have of a text.
    let mut words: String = (0..10_000).map(|n| format!("w{n} ")).collect();
    words.truncate(Entry::TEXT_MAX);
    put(item(1, 2, &words)).await.expect("put in");
    put(item(1, 3, "a \0 b \u{1} c")).await.expect("put in");
    refused(put(item(1, 1, &"x".repeat(Entry::TEXT_MAX + 1))).await, Code::SearchInput);
    let tagged = |tags: &[&str]| {
        let mut item = item(1, 4, "tagged");
        item.entry.tags = tags.iter().map(|tag| (*tag).into()).collect();
        item
    };
    let many: Vec<String> = (100..133).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = "t".repeat(Entry::TAG_MAX + 1);
    put(tagged(&many[..Entry::TAGS_MAX])).await.expect("put in");
    put(tagged(&[&long[1..]])).await.expect("put in");
    for tags in [&many[..], &[&*long], &[""], &["b", "a"], &["a", "a"], &["a\0"]] {
        refused(put(tagged(tags)).await, Code::SearchInput);
    }
    let mut foreign = item(1, 5, "foreign");
    foreign.entry.space = Space::Process(pid(2));
    refused(put(foreign).await, Code::SearchInput);
    let until = Cursor { next: Seq(1), ..Cursor::default() };
    let followed = Some(Followed { pid: pid(2), from: Cursor::default(), until });
    let batch = Batch { tenant: Tenant::local(), items: vec![item(1, 6, "x")], followed };
    refused(index.index(batch).await, Code::SearchInput);
    embed_all(&*index).await;
    let coverage = index.embed(1).await.expect("answers");
    assert_eq!(coverage.items, 4, "what was refused left nothing behind");
}
