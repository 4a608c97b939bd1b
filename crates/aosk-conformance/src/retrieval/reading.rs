//! Who finds what.

use aosk_abi::Tenant;
use aosk_ports::{Item, Means, Query, Space};

use super::{Library, Stems, ask, embed_all, item, numbers, own, pid, put, put_for};

/// A process's own memory is its own; a shared one is for all who name it, and says who put what in.
pub async fn memories_are_searched_by_those_who_name_them(mut library: Box<dyn Library>) {
    let index = library.open(Some(Stems::new("stems", 64)));
    let team = Space::Shared("team".parse().expect("a name"));
    let other = Space::Shared("other".parse().expect("a name"));
    let shared = |of: u8, page: u32, space: &Space| {
        let mut item: Item = item(of, page, "the launch is on friday");
        item.entry.space = space.clone();
        item
    };
    let items = vec![
        item(1, 10, "the launch is on friday"),
        item(2, 20, "the launch is on friday"),
        shared(1, 30, &team),
        shared(2, 40, &team),
        shared(2, 50, &other),
    ];
    put(&*index, items).await;
    embed_all(&*index).await;
    for (spaces, wanted) in [
        (vec![own(1)], vec![10]),
        (vec![own(2)], vec![20]),
        (vec![own(3)], vec![]),
        (vec![team.clone()], vec![30, 40]),
        (vec![own(2), team.clone()], vec![20, 30, 40]),
        (vec![team, other], vec![30, 40, 50]),
    ] {
        for means in [Means::Words, Means::Vectors, Means::Hybrid] {
            let query = Query::new(Tenant::local(), own(1), "launch friday", 10);
            let query = Query { spaces: spaces.clone(), means, neighbours: true, ..query };
            let found = ask(&*index, query).await;
            let mut pages = numbers(&found);
            pages.sort_unstable();
            assert_eq!(pages, wanted, "{spaces:?} {means:?}");
            for hit in found.hits {
                assert!(spaces.contains(&hit.entry.space));
                let of = if [10, 30].contains(&hit.entry.page.0) { 1 } else { 2 };
                assert_eq!(hit.entry.pid, pid(of));
            }
        }
    }
}

/// However many are named.
pub async fn sixty_memories_are_searched_at_once(mut library: Box<dyn Library>) {
    let index = library.open(None);
    let pages: Vec<Item> =
        (1..=70).map(|of| item(of, of.into(), "the launch is on friday")).collect();
    put(&*index, pages).await;
    let spaces = (1..=60).map(own).collect();
    let query = Query::new(Tenant::local(), own(1), "launch friday", 70);
    let mut found = numbers(&ask(&*index, Query { spaces, ..query }).await);
    found.sort_unstable();
    assert_eq!(found, (1..=60).collect::<Vec<u32>>());
}

/// Not even under the same names.
pub async fn tenants_find_nothing_of_each_other(mut library: Box<dyn Library>) {
    let index = library.open(Some(Stems::new("stems", 64)));
    let (a, b): (Tenant, Tenant) = ("a".parse().expect("name"), "b".parse().expect("name"));
    let space = Space::Shared("team".parse().expect("a name"));
    for (tenant, page, word) in [(&a, 1, "apples"), (&b, 2, "pears")] {
        let own_page = item(1, page, &format!("{word} are ripe"));
        let mut shared = own_page.clone();
        shared.entry.space = space.clone();
        put_for(&*index, tenant, vec![own_page, shared]).await;
    }
    embed_all(&*index).await;
    for (tenant, page) in [(&a, 1), (&b, 2)] {
        for space in [own(1), space.clone()] {
            for means in [Means::Words, Means::Vectors, Means::Hybrid] {
                let query = Query::new(tenant.clone(), space.clone(), "apples pears ripe", 10);
                let found = ask(&*index, Query { means, neighbours: true, ..query }).await;
                assert_eq!(numbers(&found), [page]);
            }
        }
    }
    index.forget(&a, pid(1)).await.expect("forgotten");
    let query = Query::new(b, own(1), "pears", 10);
    assert_eq!(numbers(&ask(&*index, query).await), [2], "another tenant's process of that id");
}
