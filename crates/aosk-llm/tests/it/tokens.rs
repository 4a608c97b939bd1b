//! Vocabularies, and the estimator held against them.

use std::fs;

use aosk_abi::{Code, Ppm, Tokens};
use aosk_llm::{Error, Estimator, Exact};
use aosk_ports::Tokenizer;
use proptest::prelude::*;
use proptest::test_runner::Config;

/// Texts of each kind that agents read, with their true sizes under both vocabularies of OpenAI.
const TEXTS: [(&str, u64, u64); 8] = [
    (include_str!("texts/english.txt"), 147, 147),
    (include_str!("texts/code.txt"), 222, 220),
    (include_str!("texts/json.txt"), 198, 195),
    (include_str!("texts/chinese.txt"), 204, 297),
    (include_str!("texts/japanese.txt"), 216, 281),
    (include_str!("texts/korean.txt"), 193, 320),
    (include_str!("texts/emoji.txt"), 104, 121),
    (include_str!("texts/base64.txt"), 719, 751),
];

const SCRIPTS: &str = include_str!("texts/scripts.txt");

/// What a tool may return and nobody writes.
fn odd_texts() -> Vec<String> {
    let blanks = [" ", "\n", "\t", "\r\n", " \t", "\u{a0}", "\u{3000}"];
    let of_blanks = blanks.into_iter().map(|blank| blank.repeat(3_000));
    let indented = format!("{}x\n", " ".repeat(40)).repeat(50);
    let table = "| a    | b         |\n|------|-----------|\n".repeat(20);
    of_blanks.chain([indented, table, "=".repeat(3_000), "0123456789abcdef".repeat(100)]).collect()
}

#[test]
fn vocabularies_count_as_their_authors_do() {
    let (o200k, cl100k) = (Exact::o200k(), Exact::cl100k());
    for (text, large, small) in TEXTS {
        assert_eq!((o200k.count(text), cl100k.count(text)), (Tokens(large), Tokens(small)));
    }
    assert_eq!((o200k.id().as_str(), cl100k.id().as_str()), ("o200k", "cl100k"));
    assert_eq!((o200k.count(""), o200k.count(" ")), (Tokens(0), Tokens(1)));
    // What a control token is called is plain text in a page.
    assert!(o200k.count("<|endoftext|>") > Tokens(3));
}

#[test]
fn a_long_run_of_blanks_is_counted_and_cut_where_that_costs_least() {
    let o200k = Exact::o200k();
    let run = |blanks: usize| o200k.count(&format!("a{}b", " ".repeat(blanks))).0;
    // A token holds up to 128 blanks, or 64, …; the cut makes one token more at most.
    for blanks in [9_999, 10_000, 10_001, 20_001, 1_100_000] {
        let whole = (blanks as u64).div_ceil(128);
        let cuts = blanks as u64 / 10_000;
        let counted = run(blanks);
        assert!((whole..=whole + cuts + 4 + whole / 50).contains(&counted), "{blanks}: {counted}");
    }
}

#[test]
fn the_stated_error_holds_for_every_kind_of_text_under_both_vocabularies() {
    let odd = odd_texts();
    let texts = TEXTS.iter().map(|(text, ..)| *text).chain(SCRIPTS.lines());
    for exact in [Exact::o200k(), Exact::cl100k()] {
        for text in texts.clone().chain(odd.iter().map(String::as_str)) {
            let estimator = Estimator::new();
            holds(&exact, &estimator, text);
        }
    }
    // Ordinary text keeps the smaller room.
    let estimator = Estimator::new();
    for (text, ..) in [TEXTS[0], TEXTS[1], TEXTS[2], TEXTS[6], TEXTS[7]] {
        estimator.count(text);
    }
    assert_eq!(estimator.error(), Ppm(400_000));
    estimator.count(TEXTS[3].0);
    assert_eq!(estimator.error(), Ppm(650_000));
    estimator.count(TEXTS[5].0);
    assert_eq!(estimator.error(), Ppm(850_000));
    estimator.count(SCRIPTS.lines().nth(7).expect("Georgian"));
    assert_eq!(estimator.error(), Ppm(4_100_000));
}

fn holds(exact: &Exact, estimator: &Estimator, text: &str) {
    let (truth, count) = (exact.count(text).0, estimator.count(text).0);
    let room = u128::from(count) * u128::from(1_000_000 + estimator.error().0);
    let start: String = text.chars().take(20).collect();
    assert!(room >= u128::from(truth) * 1_000_000, "{start:?}: {truth} of {count}");
}

/// A text of pieces of all the texts, as a conversation mixes them.
fn mixed() -> impl Strategy<Value = Vec<String>> {
    let all: Vec<&'static str> =
        TEXTS.iter().map(|(text, ..)| *text).chain(SCRIPTS.lines()).collect();
    let piece = (prop::sample::select(all), 0_usize..2_000, 20_usize..200);
    let piece = piece.prop_map(|(text, start, length)| {
        let chars = text.chars().count();
        text.chars().skip(start % chars.saturating_sub(20).max(1)).take(length).collect::<String>()
    });
    prop::collection::vec(piece, 5..30)
}

proptest! {
    #![proptest_config(Config::with_cases(64))]

    /// The bound is one for a whole prompt: what is counted too low in one text is made up for by the
    /// room of all. Single scraps of a text may miss it.
    #[test]
    fn the_stated_error_holds_for_any_mixture(pieces in mixed()) {
        for exact in [Exact::o200k(), Exact::cl100k()] {
            let estimator = Estimator::new();
            let count: u64 = pieces.iter().map(|piece| estimator.count(piece).0).sum();
            let truth: u64 = pieces.iter().map(|piece| exact.count(piece).0).sum();
            let room = u128::from(count) * u128::from(1_000_000 + estimator.error().0);
            prop_assert!(room >= u128::from(truth) * 1_000_000, "{} of {}", truth, count);
        }
    }
}

#[test]
fn an_exact_count_needs_little_room_and_learns_what_stands_around_it() {
    let exact = Exact::o200k();
    assert_eq!(exact.error(), Ppm(50_000));
    exact.observe(Tokens(1_000), Tokens(1_080));
    assert_eq!((exact.error(), exact.id()), (Ppm(130_000), "o200k".to_owned()));
    for _ in 0..100 {
        exact.observe(Tokens(1_000), Tokens(900));
    }
    assert_eq!(exact.error(), Ppm(2_000), "never below what another prompt may take");
    // What takes more than was known raises the ratio and the slack, which none does above 5 %.
    exact.observe(Tokens(1_000), Tokens(1_010));
    assert_eq!(exact.error(), Ppm(20_000));
    exact.observe(Tokens(1_000), Tokens(1_010));
    assert_eq!(exact.error(), Ppm(19_000), "an eighth of what is above the least is gone");
    exact.observe(Tokens(1_000), Tokens(1_100));
    assert_eq!(exact.error(), Ppm(150_000));
}

#[test]
fn after_twenty_calls_of_one_agent_an_exact_count_keeps_less_than_one_in_a_hundred() {
    let exact = Exact::o200k();
    for call in 1..=20 {
        // An endpoint that takes three tokens more for each message of twenty.
        exact.observe(Tokens(20 * call), Tokens(23 * call));
    }
    assert!((150_000..160_000).contains(&exact.error().0), "{:?}", exact.error());
}

/// A vocabulary of three words, in the format of Hugging Face's tokenizers, that would cut texts.
const SMALL: &str = r#"{"version":"1.0","truncation":{"direction":"Right","max_length":2,
    "strategy":"LongestFirst","stride":0},"padding":{"strategy":{"Fixed":9},"direction":"Right",
    "pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"[UNK]"},"added_tokens":[],
    "normalizer":null,"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,
    "model":{"type":"WordLevel","vocab":{"[UNK]":0,"a":1,"b":2},"unk_token":"[UNK]"}}"#;

#[test]
fn a_file_counts_whole_texts_and_is_named_by_its_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, SMALL).expect("written");
    let exact = Exact::open(&path).expect("a tokenizer");
    assert_eq!(exact.count("a b a b c"), Tokens(5), "neither cut nor filled up");
    assert_eq!((exact.count(""), exact.count("  ")), (Tokens(0), Tokens(1)));
    assert!(exact.id().starts_with("tokenizer.json/") && exact.id().len() == 31, "{}", exact.id());
    // Without an entry for what is unknown, no token is shorter than a byte.
    let without = SMALL.replace("\"[UNK]\":0,\"a\"", "\"a\"");
    fs::write(&path, without).expect("written");
    let other = Exact::open(&path).expect("a tokenizer");
    assert_eq!(other.count("xyz"), Tokens(3));
    assert_ne!(other.id(), exact.id());
}

#[test]
fn a_file_that_is_no_tokenizer_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokenizer.json");
    let refused = |told: &str| {
        let error = Exact::open(&path).expect_err("refused");
        assert!(matches!(error, Error::Tokenizer { .. }) && error.code() == Code::LlmTokenizer);
        let text = error.to_string();
        assert!(text.contains(told) && text.contains("tokenizer.json"), "{text}");
    };
    refused("cannot be read");
    for wrong in ["", "{}", "not JSON", "[1]"] {
        fs::write(&path, wrong).expect("written");
        refused("is no tokenizer.json");
    }
    let file = fs::File::create(&path).expect("made");
    file.set_len((128 << 20) + 1).expect("a long file");
    refused("134217729 bytes");
    file.set_len(128 << 20).expect("a shorter one");
    refused("is no tokenizer.json");
}
