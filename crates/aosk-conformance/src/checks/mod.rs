//! The checks. Each takes a fresh world and panics if the store breaks the promise of its name.

mod budget;
mod checkpoint;
mod chunked;
mod content;
mod fencing;
mod inbox;
mod journal;
mod list;
mod order;
mod random;
mod whole;
mod window;

use std::fmt::Debug;

use aosk_abi::Code;
use aosk_ports::StoreError;

pub use budget::{
    a_budget_is_drawn_up_to_its_limit_by_all_together, a_budget_without_a_usable_name_is_refused,
    budgets_tenants_and_windows_are_drawn_apart, many_who_draw_at_once_stay_below_the_limit,
};
pub use checkpoint::{a_checkpoint_of_another_event_is_refused, the_newest_checkpoint_is_found};
pub use chunked::{
    a_list_without_its_chunks_and_a_foreign_chunk_are_refused,
    contents_of_any_length_come_in_and_go_out_by_themselves,
    what_is_longer_than_a_buffer_is_read_in_chunks_alone,
};
pub use content::{
    a_content_of_another_tenants_key_is_refused, a_content_that_nobody_stored_is_missing,
    contents_at_the_inline_bound_come_back, one_content_serves_many_processes,
    tenants_do_not_see_each_other,
};
pub use fencing::{
    a_claim_fences_the_old_epoch, a_claim_of_an_epoch_that_passed_is_refused,
    an_epoch_that_nobody_granted_is_refused, unknown_processes_are_named_as_such,
};
pub use inbox::{
    a_dismissed_item_is_gone, a_post_is_told_to_whoever_can_be_told, an_item_is_taken_over_once,
    items_wait_until_an_append_takes_them_over,
};
pub use journal::{
    a_broken_chain_is_refused, a_gap_is_refused,
    a_repeated_append_is_acknowledged_and_changes_nothing, an_append_without_records_is_refused,
    bodies_and_contents_come_back_byte_for_byte, other_records_in_a_taken_place_are_refused,
    reads_begin_anywhere_and_stop_at_the_limit,
};
pub use list::{
    every_number_and_text_of_a_row_comes_back, lists_show_the_newest_row_in_the_order_of_pids,
    names_of_any_length_and_kind_come_back,
};
pub use order::{
    a_dropped_ticket_cancels_nothing,
    a_refusal_takes_the_later_appends_of_its_process_with_it_and_no_others,
    acks_come_in_the_order_of_the_calls, after_a_refusal_the_process_goes_on,
};
pub use random::random_operations_leave_a_store_and_the_model_alike;
pub use whole::{everything_survives_a_reopen, many_writers_at_once_lose_nothing};
pub use window::{
    a_clock_that_went_back_too_far_hides_events_and_invents_none,
    a_window_holds_what_happened_in_it_however_clocks_went_back,
};

/// Asserts that something was refused with `code`.
#[track_caller]
pub(crate) fn refused<T: Debug>(answer: Result<T, StoreError>, code: Code) {
    match answer {
        Err(error) => assert_eq!(error.code, code, "{error}"),
        Ok(value) => panic!("{value:?} where {code} must refuse"),
    }
}
