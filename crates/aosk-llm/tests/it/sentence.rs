//! The sentence model of the folder at `AOSK_TEST_MINILM`, against vectors that the reference
//! implementation made of the same weights (PyTorch 2.15 and transformers 5.23, in f32).

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use aosk_abi::{Code, FailureKind, MicroDollars};
use aosk_llm::{Error, SentenceModel};
use aosk_ports::{Embedder, Embedding};
use serde::Deserialize;

/// Texts of several scripts and lengths with their vectors.
const REFERENCE: &str = include_str!("texts/minilm.json");

#[derive(Deserialize)]
struct Reference {
    text: String,
    vector: Vec<f32>,
}

/// The folder, or nothing where none is named; then the tests say so aloud, and fail where
/// `AOSK_TEST_REQUIRE=1` says that everything must be there.
fn folder() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("AOSK_TEST_MINILM") else {
        assert!(
            std::env::var("AOSK_TEST_REQUIRE").as_deref() != Ok("1"),
            "AOSK_TEST_MINILM is not set, but AOSK_TEST_REQUIRE=1"
        );
        eprintln!("SKIPPED, NOT PASSED: set AOSK_TEST_MINILM to the folder of all-MiniLM-L6-v2");
        return None;
    };
    Some(folder.into())
}

/// The model, read once for all tests.
fn model() -> Option<&'static SentenceModel> {
    static MODEL: OnceLock<Option<SentenceModel>> = OnceLock::new();
    let open = || folder().map(|folder| SentenceModel::open(&folder).expect("the model"));
    MODEL.get_or_init(open).as_ref()
}

async fn vector(model: &SentenceModel, text: &str) -> Embedding {
    model.embed(&[text.into()]).await.expect("a vector").vectors.remove(0)
}

#[tokio::test]
async fn every_vector_is_that_of_the_reference() {
    let Some(model) = model() else { return };
    let references: Vec<Reference> = serde_json::from_str(REFERENCE).expect("vectors");
    assert!(references.len() >= 7);
    let texts: Vec<Arc<str>> = references.iter().map(|it| it.text.as_str().into()).collect();
    let made = model.embed(&texts).await.expect("vectors");
    for (reference, vector) in references.iter().zip(&made.vectors) {
        assert_eq!(reference.vector.len(), model.dims());
        let pairs = reference.vector.iter().zip(vector.values());
        let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // The reference is rounded to six decimals.
        assert!(worst < 2e-6, "{:?} is off by {worst}", reference.text);
    }
    assert_eq!((model.dims(), made.cost), (384, MicroDollars::ZERO));
    assert!(made.tokens.expect("counted").0 > 200);
    assert!(model.id().starts_with("sentence/1/"), "{}", model.id());
}

#[tokio::test]
async fn alike_texts_have_alike_vectors() {
    let Some(model) = model() else { return };
    let goal = vector(model, "How do I get my money back?").await;
    let near = vector(model, "Refunds are paid within five days.").await;
    let far = vector(model, "The kernel schedules processes by weighted fair sharing.").await;
    let (near, far) = (goal.cosine(&near).expect("one"), goal.cosine(&far).expect("one"));
    assert!(near > far + 0.2, "{near} and {far}");
}

#[tokio::test]
async fn the_end_of_a_long_text_counts_as_much_as_its_start() {
    let Some(model) = model() else { return };
    let filler = "The weather was mild and the sea was calm. ".repeat(40);
    let fact = "The password of the vault is a purple elephant. ".repeat(8);
    let question = vector(model, "What is the password of the vault?").await;
    let to = async |text: String| question.cosine(&vector(model, &text).await).expect("one");
    let (none, first, last) = (
        to(filler.clone()).await,
        to(format!("{fact}{filler}")).await,
        to(format!("{filler}{fact}")).await,
    );
    assert!(first > none + 0.1 && last > none + 0.1, "{none}, {first}, {last}");
}

#[tokio::test]
async fn what_has_no_meaning_to_be_found_by_is_refused() {
    let Some(model) = model() else { return };
    for text in ["", " \n"] {
        let error = model.embed(&["a".into(), text.into()]).await.expect_err("blank");
        assert_eq!((error.kind, error.code), (FailureKind::Fatal, Code::LlmBadRequest));
    }
    // No word piece is left of a control character, and that is a text all the same.
    assert_eq!(vector(model, "\u{1}").await.values().len(), 384);
}

#[test]
fn a_folder_that_lacks_or_damages_a_file_is_refused_with_its_name() {
    let Some(whole) = folder() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let files = [
        "config.json",
        "1_Pooling/config.json",
        "sentence_bert_config.json",
        "modules.json",
        "tokenizer.json",
        "model.safetensors",
    ];
    std::fs::create_dir(folder.path().join("1_Pooling")).expect("made");
    let refused = |file: &str, told: &str| {
        let error = SentenceModel::open(folder.path()).expect_err("refused");
        assert!(matches!(error, Error::SentenceModel { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(file) && text.contains(told), "{file}: {text}");
        assert_eq!(error.code(), Code::LlmSentenceModel);
    };
    // They are read in this order, so the first that is missing is named.
    for file in files {
        refused(file, "cannot be read");
        std::fs::copy(whole.join(file), folder.path().join(file)).expect("copied");
    }
    assert!(SentenceModel::open(folder.path()).is_ok());
    let weights = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&weights).expect("read");
    std::fs::write(&weights, &bytes[..bytes.len() - 4]).expect("written");
    refused("model.safetensors", "is no safetensors file");
    std::fs::write(&weights, &bytes).expect("written");
    let config = folder.path().join("config.json");
    let text = std::fs::read_to_string(&config).expect("read");
    std::fs::write(
        &config,
        text.replace("\"intermediate_size\": 1536", "\"intermediate_size\": 1535"),
    )
    .expect("written");
    refused("model.safetensors", "config.json says [1535, 384]");
    std::fs::write(&config, text.replace("30522", "30521")).expect("written");
    refused("model.safetensors", "[30521, 384]");
}
