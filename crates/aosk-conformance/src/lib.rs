//! What every store of the Agent OS Kernel must do, as checks that any backend can run.
//!
//! The traits of [`aosk_ports`] say in words what a store promises; this crate says it in checks.
//! The kernel, recovery and replay are built on these promises, so a backend that fails one is not
//! a store, whatever it is good at.
//!
//! 1. **Nothing but the ports.** The checks know `dyn Store` and a way to open it again.
//! 2. **A check is a promise**, and its name says which.
//! 3. **The model decides what the checks forgot**: random operations, refused ones too, must
//!    leave a store and a map in memory with the same answers.
//! 4. **Synced is all that a disk owes.** [`Power`] cuts it under a program that runs, after
//!    [`Trouble`] with single calls; a [`Volume`] is a real file system to fill and to mount read-only.
//!
//! A backend runs them by saying where its stores live:
//!
//! ```
//! use std::sync::Arc;
//! use aosk_conformance::Site;
//! use aosk_ports::Store;
//!
//! /// A store that a function opens, always the same one.
//! struct Somewhere<F>(F);
//!
//! impl<F: FnMut() -> Arc<dyn Store> + Send> Site for Somewhere<F> {
//!     fn open(&mut self) -> Arc<dyn Store> {
//!         (self.0)()
//!     }
//! }
//! ```
//!
//! and then, in a test: `aosk_conformance::conformance_tests!(Somewhere(open_my_store));`
#![expect(clippy::expect_used, reason = "a check fails by panicking, with what was expected")]

#[doc(hidden)]
pub mod checks;
mod clock;
mod model;
mod power;
#[doc(hidden)]
pub mod retrieval;
mod scribe;
mod server;
mod shim;
mod skip;
mod volume;
mod world;

pub use clock::skewed_clock;
pub use power::{Loss, Power, Trouble};
pub use retrieval::{Library, Stems, run_retrieval};
pub use scribe::Scribe;
pub use server::Server;
pub use skip::skip;
pub use volume::Volume;
pub use world::{ContentSite, Site, WholeStore, World, run, run_contents};

/// Makes a test of every check of a store that takes contents by themselves, as
/// [`conformance_tests`] does of all others. The expression makes a [`ContentSite`].
#[macro_export]
macro_rules! content_store_tests {
    (when $ready:expr => $site:expr) => {
        $crate::content_store_tests! { @each $ready, $site;
            contents_of_any_length_come_in_and_go_out_by_themselves,
            what_is_longer_than_a_buffer_is_read_in_chunks_alone,
            a_list_without_its_chunks_and_a_foreign_chunk_are_refused,
        }
    };
    ($site:expr) => {
        $crate::content_store_tests!(when true => $site);
    };
    (@each $ready:expr, $site:expr; $($check:ident,)*) => {
        $(
            #[test]
            fn $check() {
                if !$ready {
                    return;
                }
                $crate::run_contents($crate::checks::$check, ::std::boxed::Box::new($site));
            }
        )*
    };
}

/// Makes a test of every check. The expression makes the [`Site`] of one, and is evaluated anew
/// for each. Where a backend may be missing, `when READY => SITE` runs only where it is there.
#[macro_export]
macro_rules! conformance_tests {
    (when $ready:expr => $site:expr) => {
        $crate::conformance_tests! { @each $ready, $site;
            bodies_and_contents_come_back_byte_for_byte,
            reads_begin_anywhere_and_stop_at_the_limit,
            a_repeated_append_is_acknowledged_and_changes_nothing,
            a_gap_is_refused,
            other_records_in_a_taken_place_are_refused,
            a_broken_chain_is_refused,
            an_append_without_records_is_refused,
            a_refusal_takes_the_later_appends_of_its_process_with_it_and_no_others,
            after_a_refusal_the_process_goes_on,
            a_claim_fences_the_old_epoch,
            a_claim_of_an_epoch_that_passed_is_refused,
            an_epoch_that_nobody_granted_is_refused,
            unknown_processes_are_named_as_such,
            contents_at_the_inline_bound_come_back,
            one_content_serves_many_processes,
            a_content_that_nobody_stored_is_missing,
            a_content_of_another_tenants_key_is_refused,
            tenants_do_not_see_each_other,
            acks_come_in_the_order_of_the_calls,
            a_dropped_ticket_cancels_nothing,
            the_newest_checkpoint_is_found,
            a_checkpoint_of_another_event_is_refused,
            items_wait_until_an_append_takes_them_over,
            a_dismissed_item_is_gone,
            a_post_is_told_to_whoever_can_be_told,
            an_item_is_taken_over_once,
            a_budget_is_drawn_up_to_its_limit_by_all_together,
            budgets_tenants_and_windows_are_drawn_apart,
            many_who_draw_at_once_stay_below_the_limit,
            a_budget_without_a_usable_name_is_refused,
            lists_show_the_newest_row_in_the_order_of_pids,
            every_number_and_text_of_a_row_comes_back,
            names_of_any_length_and_kind_come_back,
            everything_survives_a_reopen,
            many_writers_at_once_lose_nothing,
            a_window_holds_what_happened_in_it_however_clocks_went_back,
            a_clock_that_went_back_too_far_hides_events_and_invents_none,
        }

        #[test]
        fn random_operations_leave_a_store_and_the_model_alike() {
            if !$ready {
                return;
            }
            $crate::checks::random_operations_leave_a_store_and_the_model_alike(|| {
                ::std::boxed::Box::new($site)
            });
        }
    };
    ($site:expr) => {
        $crate::conformance_tests!(when true => $site);
    };
    (@each $ready:expr, $site:expr; $($check:ident,)*) => {
        $(
            #[test]
            fn $check() {
                if !$ready {
                    return;
                }
                $crate::run($crate::checks::$check, || ::std::boxed::Box::new($site));
            }
        )*
    };
}
