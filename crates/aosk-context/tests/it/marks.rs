//! Each bound at, below and above it.

use aosk_abi::{Code, PageId, Ppm, Seq, Tokens};
use aosk_context::{Error, Importance, Lru, Overflow, TruncateOldest, Violation};

use crate::process::{Process, demand, room, to_cbor};

/// A head of 100 tokens, then `count` exchanges of 100 tokens each, all in the prompt.
fn with_exchanges(count: usize) -> Process {
    let mut process = Process::spawn([50, 20, 30]);
    process.step(&room(1_000_000), &TruncateOldest).expect("room");
    for _ in 0..count {
        let unit = process.turn(Some(25), 1);
        process.result(unit, 70);
        process.step(&room(1_000_000), &TruncateOldest).expect("room");
    }
    process
}

#[test]
fn nothing_leaves_a_prompt_that_just_fits() {
    let mut process = with_exchanges(8);
    process.message(100);
    let plan = process.plan(&room(1_000), &TruncateOldest).expect("fits exactly");
    assert_eq!((plan.evicted.len(), plan.generation), (0, 0));
    assert_eq!(plan.prompt_tokens, Tokens(1_000));
}

#[test]
fn eviction_goes_down_to_the_low_mark_and_no_further() {
    let mut process = with_exchanges(8);
    process.message(101);
    let plan = process.plan(&room(1_000), &Lru).expect("two exchanges may leave");
    // 1,001 do not fit; 801 is the first fill of whole exchanges at or below 850.
    let first_two: Vec<_> = (3..9).map(PageId).collect();
    assert_eq!(plan.evicted, first_two);
    assert_eq!((plan.prompt_tokens, plan.generation), (Tokens(801), 1));
}

#[test]
fn the_low_mark_itself_is_low_enough() {
    for (message, left) in [(149, 849), (150, 850), (151, 751)] {
        let mut process = with_exchanges(9);
        process.message(message);
        let plan = process.plan(&room(1_000), &Lru).expect("exchanges may leave");
        assert_eq!(plan.prompt_tokens, Tokens(left), "a message of {message}");
    }
}

#[test]
fn what_is_trimmed_is_the_oldest_and_no_more_than_must_leave() {
    // Of 900 in exchanges and head; each exchange is three pages.
    for (message, pages) in [(100, 0), (101, 3), (200, 3), (201, 6)] {
        let mut process = with_exchanges(8);
        process.message(message);
        let plan = process.plan(&room(1_000), &TruncateOldest).expect("exchanges may leave");
        let oldest: Vec<_> = (3..3 + pages).map(PageId).collect();
        assert_eq!(plan.evicted, oldest, "a message of {message}");
    }
}

#[test]
fn overhead_reply_and_counting_error_take_their_room() {
    let mut process = with_exchanges(0);
    process.message(400);
    // 500 of pages and 100 of overhead, 20 % more in truth, are 720.
    let just = demand(1_000, 280, 100, 200_000);
    assert_eq!(
        process.plan(&just, &TruncateOldest).map(|plan| plan.prompt_tokens),
        Ok(Tokens(600))
    );
    for tight in [
        demand(999, 280, 100, 200_000),
        demand(1_000, 281, 100, 200_000),
        demand(1_000, 280, 101, 200_000),
        demand(1_000, 280, 100, 200_001 + 1_000),
    ] {
        let error = process.plan(&tight, &TruncateOldest).expect_err("one token too many");
        assert_eq!(error.code(), Code::ContextOverflow, "{tight:?}");
    }
}

#[test]
fn what_must_stay_may_fill_the_window_and_not_exceed_it() {
    let mut process = with_exchanges(3);
    let unit = process.turn(Some(100), 0);
    process.result(unit, 300);
    // 100 pinned and 400 unanswered; the three old exchanges may leave.
    let plan = process.plan(&room(500), &TruncateOldest).expect("fits exactly");
    assert_eq!((plan.prompt_tokens, plan.evicted.len()), (Tokens(500), 9));
    let error = process.plan(&room(499), &TruncateOldest).expect_err("one token too many");
    assert_eq!(
        error,
        Error::Overflow(Overflow {
            window: Tokens(499),
            max_output: Tokens(0),
            margin: Ppm(0),
            capacity: Tokens(499),
            overhead: Tokens(0),
            reserve: Tokens(0),
            pinned: Tokens(100),
            unanswered: Tokens(400),
        })
    );
}

#[test]
fn a_reply_larger_than_the_window_is_an_overflow() {
    let process = Process::spawn([0, 0, 0]);
    assert!(process.plan(&demand(100, 100, 0, 0), &TruncateOldest).is_ok());
    let error = process.plan(&demand(100, 101, 0, 0), &TruncateOldest).expect_err("no room");
    assert!(error.to_string().contains("below the window"), "{error}");
}

#[test]
fn importance_at_and_above_the_whole() {
    let mut process = with_exchanges(0);
    process.message(1).importance = Ppm::ONE;
    process.step(&room(1_000), &TruncateOldest).expect("the whole is a share");
    process.message(1).importance = Ppm(1_000_001);
    let error = process.plan(&room(1_000), &TruncateOldest).expect_err("more than the whole");
    let page = PageId(4);
    assert_eq!(error, Violation::Importance { page, found: Ppm(1_000_001) }.into());
}

#[test]
fn the_policy_chooses_who_leaves() {
    let mut process = with_exchanges(0);
    for importance in [900_000, 100_000, 100_000, 500_000] {
        process.message(100).importance = Ppm(importance);
    }
    process.step(&room(1_000), &TruncateOldest).expect("fits");
    process.turn(Some(100), 0);
    let left = |policy| process.plan(&room(500), policy).expect("messages may leave").evicted;
    // 600 tokens must come down to 500, or to at most 425: one or two messages of 100 each.
    assert_eq!(left(&TruncateOldest), [PageId(3)]);
    assert_eq!(left(&Importance), [PageId(4), PageId(5)]);
}

#[test]
fn a_late_result_joins_its_call_and_leaves_with_it() {
    let mut process = with_exchanges(0);
    let unit = process.turn(Some(25), 2);
    process.result(unit, 70);
    process.step(&room(1_000), &TruncateOldest).expect("fits");
    process.result(unit, 100);
    process.step(&room(1_000), &TruncateOldest).expect("fits");
    process.turn(Some(300), 0);
    let left = process.step(&room(500), &TruncateOldest).expect("the exchange may leave");
    assert_eq!(left, (3..8).map(PageId).collect::<Vec<_>>());

    process.result(unit, 10);
    let error = process.plan(&room(1_000), &TruncateOldest).expect_err("its call has left");
    assert_eq!(error, Violation::UnitGone { page: PageId(9), unit: Seq(unit) }.into());
    assert_eq!(error.code(), Code::ContextInvariant);
}

#[test]
fn a_plan_made_again_keeps_what_the_model_has_not_answered() {
    let mut process = with_exchanges(2);
    process.message(50);
    let unit = process.turn(Some(25), 1);
    process.result(unit, 70);
    process.step(&room(1_000), &TruncateOldest).expect("fits");
    // The endpoint said that the prompt was too long: the same content, less room. Of 450 tokens
    // the newest exchange and the message that came with it stay.
    let plan = process.plan(&room(300), &TruncateOldest).expect("two exchanges may leave");
    assert_eq!(plan.evicted, (3..9).map(PageId).collect::<Vec<_>>());
    let error = process.plan(&room(249), &TruncateOldest).expect_err("nothing more may leave");
    assert_eq!(error.code(), Code::ContextOverflow);
}

#[test]
fn a_page_takes_about_thirty_bytes_of_a_checkpoint() {
    let bytes = |exchanges| to_cbor(&with_exchanges(exchanges).table).len();
    let per_page = (bytes(1_000) - bytes(900)) as f64 / 300.0;
    assert!((20.0..=34.0).contains(&per_page), "{per_page} bytes");
}
