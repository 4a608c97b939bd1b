//! What every search index must do, as checks that any backend can run.

mod bounds;
mod embedding;
mod finding;
mod keeping;
mod reading;
mod stems;

use std::sync::Arc;

use aosk_abi::{Hash, PageId, PageKind, Pid, Seq, Tenant, Timestamp};
use aosk_ports::{Batch, Embedder, Entry, Found, Item, Query, Retriever, Space};

pub use bounds::{items_below_at_and_above_their_bounds, queries_below_at_and_above_their_bounds};
pub use embedding::{
    an_embedder_that_is_down_costs_directions_and_nothing_else,
    another_embedder_makes_all_vectors_anew_and_goes_on_where_it_was,
    one_text_that_has_no_vector_holds_up_no_other, the_nearest_of_many_are_those_of_an_exact_scan,
    vectors_of_the_wrong_size_are_never_kept,
};
pub use finding::{
    a_long_page_is_one_hit, a_page_that_both_rankings_hold_comes_first,
    code_is_found_by_identifiers_and_by_their_parts, every_filter_narrows_both_rankings,
    in_a_large_memory_rare_words_come_before_frequent_ones, neighbours_stand_behind_their_hit,
    pages_are_found_by_direction_where_no_word_is_shared, texts_of_any_script_are_found,
};
pub use keeping::{
    a_batch_is_indexed_once, a_page_that_is_put_in_again_takes_the_place_of_the_first,
    what_is_forgotten_is_found_nowhere,
};
pub use reading::{
    memories_are_searched_by_those_who_name_them, sixty_memories_are_searched_at_once,
    tenants_find_nothing_of_each_other,
};
pub use stems::Stems;

/// A place where one index lives.
pub trait Library: Send {
    /// Opens the index that lives here, empty at the first time. Called again only after every
    /// handle of the time before was dropped.
    fn open(&mut self, embedder: Option<Arc<dyn Embedder>>) -> Arc<dyn Retriever>;
}

/// Makes a test of every check of an index. As [`conformance_tests`](crate::conformance_tests).
#[macro_export]
macro_rules! retrieval_tests {
    ($site:expr) => {
        $crate::retrieval_tests!(when true => $site);
    };
    (when $ready:expr => $site:expr) => {
        $crate::retrieval_tests! { @each $ready, $site;
            texts_of_any_script_are_found,
            code_is_found_by_identifiers_and_by_their_parts,
            in_a_large_memory_rare_words_come_before_frequent_ones,
            pages_are_found_by_direction_where_no_word_is_shared,
            a_page_that_both_rankings_hold_comes_first,
            neighbours_stand_behind_their_hit,
            a_long_page_is_one_hit,
            every_filter_narrows_both_rankings,
            memories_are_searched_by_those_who_name_them,
            sixty_memories_are_searched_at_once,
            tenants_find_nothing_of_each_other,
            a_batch_is_indexed_once,
            a_page_that_is_put_in_again_takes_the_place_of_the_first,
            what_is_forgotten_is_found_nowhere,
            an_embedder_that_is_down_costs_directions_and_nothing_else,
            vectors_of_the_wrong_size_are_never_kept,
            one_text_that_has_no_vector_holds_up_no_other,
            another_embedder_makes_all_vectors_anew_and_goes_on_where_it_was,
            the_nearest_of_many_are_those_of_an_exact_scan,
            queries_below_at_and_above_their_bounds,
            items_below_at_and_above_their_bounds,
        }
    };
    (@each $ready:expr, $site:expr; $($check:ident,)*) => {
        $(
            #[test]
            fn $check() {
                if !$ready {
                    return;
                }
                $crate::run_retrieval($crate::retrieval::$check, $site);
            }
        )*
    };
}

/// Runs a check on a fresh index, on two threads.
///
/// # Panics
/// If the check fails.
pub fn run_retrieval<C: AsyncFnOnce(Box<dyn Library>)>(check: C, library: impl Library + 'static) {
    crate::world::runtime().block_on(check(Box::new(library)));
}

/// The time at which page 0 was made; page n a second times n later.
const DAWN: u64 = 1_700_000_000_000;

pub(crate) fn pid(n: u8) -> Pid {
    Pid::from_parts(DAWN + u64::from(n), [7; 10])
}

pub(crate) fn own(n: u8) -> Space {
    Space::Process(pid(n))
}

/// A page of the `of`-th process, in its own memory.
pub(crate) fn item(of: u8, page: u32, text: &str) -> Item {
    Item {
        entry: Entry {
            space: own(of),
            pid: pid(of),
            page: PageId(page),
            start: 0,
            seq: Seq(u64::from(page) * 2),
            hash: Hash::of(text.as_bytes()),
            kind: PageKind::ToolResult,
            time: Timestamp::from_millis(DAWN + u64::from(page) * 1_000),
            tags: Vec::new(),
        },
        text: text.into(),
    }
}

pub(crate) async fn put(index: &dyn Retriever, items: Vec<Item>) {
    put_for(index, &Tenant::local(), items).await;
}

pub(crate) async fn put_for(index: &dyn Retriever, tenant: &Tenant, items: Vec<Item>) {
    let batch = Batch { tenant: tenant.clone(), items, followed: None };
    index.index(batch).await.expect("put in");
}

/// Makes every vector that waits.
pub(crate) async fn embed_all(index: &dyn Retriever) {
    loop {
        let coverage = index.embed(256).await.expect("answers");
        assert_eq!(coverage.stalled, None);
        if coverage.waiting == 0 {
            return;
        }
    }
}

/// The pages of the `of`-th process that a text finds.
pub(crate) async fn pages(index: &dyn Retriever, of: u8, text: &str) -> Vec<u32> {
    numbers(&ask(index, Query::new(Tenant::local(), own(of), text, 10)).await)
}

pub(crate) async fn ask(index: &dyn Retriever, query: Query) -> Found {
    index.query(query).await.expect("an answer")
}

pub(crate) fn numbers(found: &Found) -> Vec<u32> {
    found.hits.iter().map(|hit| hit.entry.page.0).collect()
}
