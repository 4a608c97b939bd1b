//! Counts from a llama.cpp server.

use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{Ppm, Tokens};
use aosk_llm::{Endpoint, Estimator, RemoteTokenizer};
use aosk_ports::Tokenizer;

use crate::server::{Act, Server, json};

const THREE: &str = r#"{"tokens":[1,2,3]}"#;

fn tokenizer(server: &Server) -> RemoteTokenizer {
    let endpoint = Endpoint::new("test", &server.base(), None).expect("valid");
    RemoteTokenizer::new(endpoint, "smol").expect("a client")
}

fn texts(all: &[&str]) -> Vec<Arc<str>> {
    all.iter().map(|text| Arc::from(*text)).collect()
}

#[tokio::test]
async fn each_text_is_asked_for_once_and_counted_exactly() {
    let server = Server::start(vec![json("200 OK", THREE)]).await;
    let tokenizer = tokenizer(&server);
    tokenizer.prepare(&texts(&["one text", "another", "one text", ""])).await;
    tokenizer.prepare(&texts(&["one text"])).await;
    let asked = server.asked();
    assert_eq!(asked.len(), 2, "two texts, each once, and the empty one never");
    assert!(asked[0].head.starts_with("POST /tokenize "), "{}", asked[0].head);
    let body: serde_json::Value = serde_json::from_slice(&asked[0].body).expect("JSON");
    assert_eq!(body["add_special"], false);
    assert_eq!((tokenizer.count("one text"), tokenizer.count("")), (Tokens(3), Tokens(0)));
    assert_eq!((tokenizer.id().as_str(), tokenizer.error()), ("server/smol", Ppm(50_000)));
}

#[tokio::test]
async fn what_was_not_asked_for_is_estimated_with_the_estimators_room() {
    let server = Server::start(vec![json("200 OK", THREE)]).await;
    let (tokenizer, estimator) = (tokenizer(&server), Estimator::new());
    let text = "a text that nobody prepared";
    assert_eq!(tokenizer.count(text), estimator.count(text));
    assert_eq!(tokenizer.error(), estimator.error());
    assert_eq!(tokenizer.id(), format!("server/smol+{}", estimator.id()));
    // Its size stays in plans, so the room stays too, and learns as the estimator's does.
    tokenizer.prepare(&texts(&[text])).await;
    assert_eq!(tokenizer.count(text), Tokens(3));
    tokenizer.observe(Tokens(100), Tokens(200));
    estimator.observe(Tokens(100), Tokens(200));
    assert_eq!((tokenizer.error(), estimator.error()), (estimator.error(), Ppm(1_100_000)));
}

#[tokio::test]
async fn a_server_that_does_not_count_is_left_alone_and_costs_no_step_more_than_two_seconds() {
    for acts in [
        json("404 Not Found", r#"{"error":{"message":"File Not Found","code":404}}"#),
        json("200 OK", r#"{"count":3}"#),
        vec![Act::Hang],
    ] {
        let server = Server::start(vec![acts]).await;
        let tokenizer = tokenizer(&server);
        let began = std::time::Instant::now();
        let many: Vec<String> = (0..50).map(|n| format!("text {n}")).collect();
        let many: Vec<Arc<str>> = many.iter().map(|text| text.as_str().into()).collect();
        tokenizer.prepare(&many).await;
        let asked = server.asked().len();
        assert!(asked <= 8, "{asked} requests: the first failure ends it");
        tokenizer.prepare(&many).await;
        assert_eq!(server.asked().len(), asked, "not asked again at once");
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        assert_eq!(tokenizer.count("text 1"), Estimator::new().count("text 1"));
    }
}

#[tokio::test]
async fn a_server_that_comes_back_counts_again() {
    let failing = json("503 Service Unavailable", r#"{"error":{"message":"Loading model"}}"#);
    let server = Server::start(vec![failing, json("200 OK", THREE)]).await;
    let tokenizer = tokenizer(&server);
    let text = texts(&["a text"]);
    tokenizer.prepare(&text).await;
    assert_ne!(tokenizer.count("a text"), Tokens(3));
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    tokenizer.prepare(&text).await;
    assert_eq!(tokenizer.count("a text"), Tokens(3));
}
