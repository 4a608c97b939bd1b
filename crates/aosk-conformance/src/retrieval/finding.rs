//! What is found, and in which order.

use aosk_abi::{PageId, PageKind, Tenant, Timestamp};
use aosk_ports::{Entry, Filter, Item, Means, Query};

use super::{DAWN, Library, Stems, ask, embed_all, item, numbers, own, pages, pid, put};

/// Chinese, Japanese, Korean and Thai have no blanks where words end, or particles that cling.
pub async fn texts_of_any_script_are_found(mut library: Box<dyn Library>) {
    let index = library.open(None);
    let texts = [
        "数据库的备份在每天凌晨三点运行",
        "エージェントの記憶はデータベースに保存されます",
        "에이전트는 매일 데이터베이스를 백업합니다",
        "ตัวแทนสำรองฐานข้อมูลทุกวัน",
        "Die Datenbank wird jede Nacht gesichert, Größe 4 GB",
        "Резервная копия базы данных готова",
        "ＣＰＵの温度は４５度",
    ];
    put(&*index, (0..).zip(texts).map(|(n, text)| item(1, n, text)).collect()).await;
    for (query, wanted) in [
        ("备份", 0),
        ("凌晨", 0),
        ("记忆 备份 数据库", 0),
        ("記憶", 1),
        ("データベース", 1),
        ("백업", 2),
        ("데이터베이스", 2),
        ("ฐานข้อมูล", 3),
        ("datenbank", 4),
        ("GRÖSSE größe", 4),
        ("данных", 5),
        ("CPU", 6),
        ("45度", 6),
    ] {
        assert_eq!(pages(&*index, 1, query).await.first(), Some(&wanted), "{query}");
    }
    assert_eq!(pages(&*index, 1, "火车").await, [0_u32; 0]);
    // A single character is a word as well.
    assert_eq!(pages(&*index, 1, "温").await, [6]);
}

/// Whoever remembers a part of a name finds it, and whoever has the whole finds that first.
pub async fn code_is_found_by_identifiers_and_by_their_parts(mut library: Box<dyn Library>) {
    let index = library.open(None);
    let texts = [
        "fn parse_http_request(input: &str) -> Result<Request, ParseError> {",
        "let request = parse(input); // http",
        "class HTTPServer(BaseServer): def handleRequest(self): pass",
        "error[E0382]: borrow of moved value: `x86_64`",
        "SELECT user_id FROM accounts WHERE name = 'O''Brien' -- \"quoted\"",
    ];
    put(&*index, (0..).zip(texts).map(|(n, text)| item(1, n, text)).collect()).await;
    for (query, wanted) in [
        ("parse_http_request", 0),
        ("ParseError", 0),
        ("handleRequest", 2),
        ("handle", 2),
        ("HTTPServer", 2),
        ("E0382", 3),
        ("x86_64", 3),
        ("user_id", 4),
        ("O''Brien", 4),
    ] {
        assert_eq!(pages(&*index, 1, query).await.first(), Some(&wanted), "{query}");
    }
    // What a database would read as its own syntax is only text.
    for query in ["NOT", "\"", "a AND (b OR", "body:x", "*", "'; DROP TABLE items; --", "NEAR(x y)"]
    {
        ask(&*index, Query::new(Tenant::local(), own(1), query, 10)).await;
    }
}

/// However frequent they are in another memory.
pub async fn in_a_large_memory_rare_words_come_before_frequent_ones(mut library: Box<dyn Library>) {
    let index = library.open(None);
    let is_rare = |page: u32| page % 200 < 2;
    let text = |page: u32| {
        let word = if is_rare(page) { "eclipse" } else { "night" };
        let half = if page.is_multiple_of(2) { "even" } else { "odd" };
        format!("{word} {page} {half}")
    };
    for from in (0..6_000).step_by(1_000) {
        put(&*index, (from..from + 1_000).map(|n| item(1, n, &text(n))).collect()).await;
        put(&*index, (from..from + 834).map(|n| item(2, n, "eclipse")).collect()).await;
    }
    let find = async |text: &str, k: usize| {
        let query = Query::new(Tenant::local(), own(1), text, k);
        let mut pages = numbers(&ask(&*index, query).await);
        pages.sort_unstable();
        pages
    };
    let rare: Vec<u32> = (0..6_000).filter(|page| is_rare(*page)).collect();
    let even: Vec<u32> = rare.iter().copied().filter(|page| page.is_multiple_of(2)).collect();
    assert_eq!(find("night eclipse", 60).await, rare);
    assert_eq!(find("night even eclipse", 30).await, even);
    let frequent = find("night even", 10).await;
    assert_eq!(frequent.len(), 10);
    assert!(frequent.iter().all(|page| page.is_multiple_of(2)), "{frequent:?}");
    assert_eq!(find("night 4711", 1).await, [4_711]);
}

/// That is what vectors are for.
pub async fn pages_are_found_by_direction_where_no_word_is_shared(mut library: Box<dyn Library>) {
    let index = library.open(Some(Stems::new("stems", 64)));
    put(
        &*index,
        vec![item(1, 0, "gardening tools"), item(1, 1, "sailing boats"), item(1, 2, "chess")],
    )
    .await;
    embed_all(&*index).await;
    let query = Query::new(Tenant::local(), own(1), "gardens", 1);
    let found = ask(&*index, query.clone()).await;
    assert_eq!((numbers(&found), found.words_only), (vec![0], None));
    let origin = found.hits[0].origin;
    assert_eq!((origin.words, origin.vector), (None, Some(1)));
    let by_words = ask(&*index, Query { means: Means::Words, ..query }).await;
    assert_eq!((by_words.hits, by_words.words_only), (Vec::new(), None));
}

/// Reciprocal ranks add up.
pub async fn a_page_that_both_rankings_hold_comes_first(mut library: Box<dyn Library>) {
    let stems = Stems::new("stems", 64);
    let index = library.open(Some(stems.clone()));
    put(
        &*index,
        vec![item(1, 0, "gardening"), item(1, 1, "gardens tonight"), item(1, 2, "tonight gale")],
    )
    .await;
    embed_all(&*index).await;
    let query = Query::new(Tenant::local(), own(1), "gardens tonight", 10);
    let found = ask(&*index, query.clone()).await;
    assert_eq!(numbers(&found)[0], 1);
    let origin = found.hits[0].origin;
    assert_eq!((origin.words, origin.vector), (Some(1), Some(1)));
    assert!(found.hits.is_sorted_by(|a, b| a.score >= b.score));
    // A vector that the caller has already is not asked for.
    let calls = stems.calls();
    let vector = Some(stems.direction("gardens tonight"));
    let same = ask(&*index, Query { vector, ..query }).await;
    assert_eq!((same, stems.calls()), (found, calls));
}

/// The page before and the page after, where there are any; none twice.
pub async fn neighbours_stand_behind_their_hit(mut library: Box<dyn Library>) {
    let index = library.open(None);
    let mut items: Vec<Item> = (0..9).map(|n| item(1, n * 2, &format!("filler{n}"))).collect();
    for (page, text) in [(0, "alpha"), (8, "beta"), (10, "beta gamma"), (16, "omega")] {
        items[page as usize / 2] = item(1, page, text);
    }
    // Another process's pages are nobody's neighbours.
    items.push(item(2, 9, "beta"));
    put(&*index, items).await;
    for (text, wanted) in
        [("alpha", vec![0, 2]), ("omega", vec![16, 14]), ("gamma", vec![10, 8, 12])]
    {
        let query = Query::new(Tenant::local(), own(1), text, 1);
        let found = ask(&*index, Query { neighbours: true, ..query }).await;
        assert_eq!(numbers(&found), wanted, "{text}");
        for hit in &found.hits[1..] {
            assert_eq!(hit.origin.beside, Some(PageId(wanted[0])));
        }
    }
    // Two hits side by side: what was found itself stays what it is, and nothing comes twice.
    let query = Query::new(Tenant::local(), own(1), "beta", 2);
    let mut found = numbers(&ask(&*index, Query { neighbours: true, ..query }).await);
    found.sort_unstable();
    assert_eq!(found, [6, 8, 10, 12]);
}

/// The part that answers best stands for the page.
pub async fn a_long_page_is_one_hit(mut library: Box<dyn Library>) {
    let index = library.open(None);
    let part = |start: u64, text: &str| {
        let item = item(1, 3, text);
        Item { entry: Entry { start, ..item.entry }, ..item }
    };
    let items = vec![
        part(0, "wind and wind"),
        part(100, "wind wind wind"),
        part(200, "rain"),
        item(1, 4, "a word on the wind and much that is not about it at all"),
    ];
    put(&*index, items).await;
    let found = ask(&*index, Query::new(Tenant::local(), own(1), "wind", 2)).await;
    assert_eq!(numbers(&found), [3, 4]);
    assert_eq!(found.hits[0].entry.start, 100);
}

/// By process, kind, time and tags, for words and for directions; each bound where it says.
pub async fn every_filter_narrows_both_rankings(mut library: Box<dyn Library>) {
    let index = library.open(Some(Stems::new("stems", 64)));
    let kinds = [PageKind::Task, PageKind::Message, PageKind::Reply, PageKind::ToolResult];
    let mut items = Vec::new();
    for (page, kind) in (0..8).zip(kinds.into_iter().cycle()) {
        let mut item = item(if page < 4 { 1 } else { 2 }, page, "harvest report");
        item.entry.space = aosk_ports::Space::Shared("farm".parse().expect("a name"));
        item.entry.kind = kind;
        item.entry.tags = match page % 3 {
            0 => vec!["green".into(), "red".into()],
            1 => vec!["red".into()],
            _ => Vec::new(),
        };
        items.push(item);
    }
    let space = items[0].entry.space.clone();
    put(&*index, items).await;
    embed_all(&*index).await;
    let at = |page: u64| Some(Timestamp::from_millis(DAWN + page * 1_000));
    let tags = |tags: &[&str]| tags.iter().map(|tag| (*tag).into()).collect();
    let filters = [
        (Filter::default(), vec![0, 1, 2, 3, 4, 5, 6, 7]),
        (Filter { processes: vec![pid(2)], ..Filter::default() }, vec![4, 5, 6, 7]),
        (Filter { processes: vec![pid(3)], ..Filter::default() }, vec![]),
        (
            Filter { kinds: vec![PageKind::Task, PageKind::Reply], ..Filter::default() },
            vec![0, 2, 4, 6],
        ),
        (Filter { from: at(5), ..Filter::default() }, vec![5, 6, 7]),
        (Filter { until: at(5), ..Filter::default() }, vec![0, 1, 2, 3, 4]),
        (Filter { from: at(2), until: at(3), ..Filter::default() }, vec![2]),
        (Filter { tags: tags(&["red"]), ..Filter::default() }, vec![0, 1, 3, 4, 6, 7]),
        (Filter { tags: tags(&["green", "red"]), ..Filter::default() }, vec![0, 3, 6]),
        (
            Filter {
                tags: tags(&["red"]),
                kinds: vec![PageKind::Task],
                processes: vec![pid(1), pid(2)],
                from: at(1),
                until: at(7),
            },
            vec![4],
        ),
    ];
    for (filter, wanted) in filters {
        for means in [Means::Words, Means::Vectors, Means::Hybrid] {
            let query = Query::new(Tenant::local(), space.clone(), "harvests report", 10);
            let query = Query { filter: filter.clone(), means, ..query };
            let mut found = numbers(&ask(&*index, query).await);
            found.sort_unstable();
            assert_eq!(found, wanted, "{filter:?} {means:?}");
        }
    }
}
