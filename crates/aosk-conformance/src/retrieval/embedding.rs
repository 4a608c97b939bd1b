//! Embedders that come, go and change.

use std::sync::Arc;

use aosk_abi::Tenant;
use aosk_ports::{Item, Means, Query, Retriever};

use super::{Library, Stems, ask, embed_all, item, numbers, own, pages, put};

fn query(text: &str) -> Query {
    Query::new(Tenant::local(), own(1), text, 10)
}

/// Words are found all the same, the answer says why, and what waited gets its vector later.
pub async fn an_embedder_that_is_down_costs_directions_and_nothing_else(
    mut library: Box<dyn Library>,
) {
    let stems = Stems::new("stems", 64);
    let index = library.open(Some(stems.clone()));
    stems.set_down(true);
    put(&*index, vec![item(1, 1, "gardening gloves"), item(1, 2, "sails")]).await;
    let coverage = index.embed(10).await.expect("answers");
    assert_eq!((coverage.items, coverage.waiting), (2, 2));
    let (why, _) = coverage.stalled.expect("it is down");
    assert!(why.contains("the embedder is down"), "{why}");
    for means in [Means::Hybrid, Means::Vectors] {
        let found = ask(&*index, Query { means, ..query("gloves") }).await;
        assert_eq!(numbers(&found), [1]);
        assert!(found.words_only.is_some_and(|why| why.contains("the embedder is down")));
    }
    stems.set_down(false);
    embed_all(&*index).await;
    let found = ask(&*index, query("gardens")).await;
    assert_eq!((numbers(&found)[0], found.words_only), (1, None));
    // None is set at all: the same, and it says so.
    drop(index);
    let index = library.open(None);
    let found = ask(&*index, query("gloves")).await;
    assert_eq!(numbers(&found), [1]);
    assert!(found.words_only.is_some_and(|why| why.contains("no embedder")));
    let coverage = index.embed(10).await.expect("answers");
    assert_eq!((coverage.embedder, coverage.stalled), (None, None));
    // What it made is not lost by that.
    drop(index);
    let index = library.open(Some(stems));
    assert_eq!(index.embed(0).await.expect("answers").waiting, 0);
}

/// A server that was started with another model.
pub async fn vectors_of_the_wrong_size_are_never_kept(mut library: Box<dyn Library>) {
    let index = library.open(Some(Stems::lying("stems", 64, 32)));
    put(&*index, vec![item(1, 1, "gardening gloves")]).await;
    let coverage = index.embed(10).await.expect("answers");
    assert_eq!(coverage.waiting, 1);
    assert!(coverage.stalled.is_some_and(|(why, _)| why.contains("32") && why.contains("64")));
    let found = ask(&*index, query("gloves")).await;
    assert_eq!(numbers(&found), [1]);
    assert!(found.words_only.is_some());
    drop(index);
    let index = library.open(Some(Stems::new("stems", 64)));
    embed_all(&*index).await;
    assert_eq!(numbers(&ask(&*index, query("gardens")).await), [1]);
}

/// It is found by its words, and the rest by their directions.
pub async fn one_text_that_has_no_vector_holds_up_no_other(mut library: Box<dyn Library>) {
    let index = library.open(Some(Stems::new("stems", 64)));
    let texts = ["gardening", "", "an unspeakable word", " \n", "sailing"];
    put(&*index, (0..).zip(texts).map(|(n, text)| item(1, n, text)).collect()).await;
    embed_all(&*index).await;
    let found = ask(&*index, Query { means: Means::Vectors, ..query("gardens sails") }).await;
    let mut pages = numbers(&found);
    pages.sort_unstable();
    assert_eq!(pages, [0, 4]);
    assert_eq!(numbers(&ask(&*index, query("word")).await)[0], 2);
    let found = ask(&*index, query("unspeakable")).await;
    assert!(found.words_only.is_some(), "a question that cannot be embedded goes by words");
    assert_eq!(numbers(&found), [2]);
}

/// Vectors of two models are never compared, and being cut off costs nothing that was made.
pub async fn another_embedder_makes_all_vectors_anew_and_goes_on_where_it_was(
    mut library: Box<dyn Library>,
) {
    let first = Stems::new("first", 64);
    let index = library.open(Some(first));
    put(&*index, (0..10).map(|n| item(1, n, &format!("garden{n} path"))).collect()).await;
    embed_all(&*index).await;
    drop(index);
    let second = Stems::new("second", 96);
    let index = library.open(Some(second.clone()));
    assert_eq!(index.embed(4).await.expect("answers").waiting, 6);
    // The newest come first, and only they are compared meanwhile.
    let by_direction = Query { means: Means::Vectors, ..query("gardens") };
    let mut found = numbers(&ask(&*index, by_direction.clone()).await);
    found.sort_unstable();
    assert_eq!(found, [6, 7, 8, 9]);
    assert_eq!(pages(&*index, 1, "garden2").await[0], 2, "words find the others");
    drop(index);
    let calls = second.calls();
    let index = library.open(Some(second.clone()));
    let coverage = index.embed(4).await.expect("answers");
    assert_eq!((coverage.items, coverage.waiting), (10, 2));
    assert_eq!(coverage.embedder.as_deref(), Some("second"));
    assert_eq!(index.embed(4).await.expect("answers").waiting, 0);
    assert_eq!(second.calls(), calls + 2);
    assert_eq!(ask(&*index, by_direction.clone()).await.hits.len(), 10);
    // The same id with other components is another embedder, too.
    drop(index);
    let index = library.open(Some(Stems::new("second", 64)));
    assert_eq!(index.embed(0).await.expect("answers").waiting, 10);
    embed_all(&*index).await;
    assert_eq!(ask(&*index, by_direction).await.hits.len(), 10);
}

/// Past the size up to which every vector is compared, with some taken out and put in meanwhile.
pub async fn the_nearest_of_many_are_those_of_an_exact_scan(mut library: Box<dyn Library>) {
    const PAGES: u32 = 2_500;
    let stems = Stems::new("stems", 96);
    let index = library.open(Some(stems.clone()));
    let text = |n: u32| {
        let word = |k: u32| format!("{:04}", (n.wrapping_mul(k * 7_919 + 1)) % 97);
        (1..=5).map(word).collect::<Vec<_>>().join(" ")
    };
    let items = |range: std::ops::Range<u32>| -> Vec<Item> {
        range.map(|n| item(1, n, &text(n))).collect()
    };
    for from in (0..PAGES).step_by(500) {
        put(&*index, items(from..from + 500)).await;
    }
    embed_all(&*index).await;
    assert!(recall(&*index, &stems, PAGES, &text).await >= 0.95);
    // Those that are put in again wait for a moment, and are compared as they are then.
    put(&*index, items(100..400)).await;
    embed_all(&*index).await;
    assert!(recall(&*index, &stems, PAGES, &text).await >= 0.95);
    // And so are those of another embedder, of another size.
    drop(index);
    let stems = Stems::new("others", 200);
    let index = library.open(Some(stems.clone()));
    embed_all(&*index).await;
    assert!(recall(&*index, &stems, PAGES, &text).await >= 0.95);
}

/// The share of the ten nearest that an index finds, over forty questions.
async fn recall(
    index: &dyn Retriever,
    stems: &Arc<Stems>,
    pages: u32,
    text: &impl Fn(u32) -> String,
) -> f64 {
    let vectors: Vec<_> = (0..pages).map(|n| stems.direction(&text(n))).collect();
    let (mut hit, mut all) = (0, 0);
    for question in 0..40 {
        let vector = stems.direction(&text(pages + question * 31));
        let mut cosines: Vec<f32> = vectors.iter().filter_map(|it| it.cosine(&vector)).collect();
        cosines.sort_by(|a, b| b.total_cmp(a));
        // Equal ones are as good as each other.
        let bar = cosines[9] - 1e-3;
        let query = Query { vector: Some(vector.clone()), means: Means::Vectors, ..query("x") };
        let found = ask(index, query).await;
        let near = |page: &u32| vectors[*page as usize].cosine(&vector).is_some_and(|it| it >= bar);
        hit += numbers(&found).iter().filter(|page| near(page)).count();
        all += 10;
    }
    f64::from(u32::try_from(hit).expect("few")) / f64::from(all)
}
