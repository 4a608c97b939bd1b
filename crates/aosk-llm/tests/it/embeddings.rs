//! Vectors from endpoints.

use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{Code, FailureKind, MicroDollars, Tokens};
use aosk_llm::{Models, Options};
use aosk_ports::{CallError, Embedder};

use crate::server::{Act, Server, answer, json};
use crate::support::CANARY;

/// An embedder of three components for a dollar a token, at the server.
fn embedder_of(table: &str, server: &Server) -> Arc<dyn Embedder> {
    let mut models = Models::embedded();
    models.extend_toml(table, "models.toml").expect("a table");
    let base = server.base();
    let env = move |name: &str| match name {
        "OPENAI_BASE_URL" => Some(base.clone()),
        "OPENAI_API_KEY" => Some(CANARY.to_owned()),
        _ => None,
    };
    models.embedder("mine", &env, Options::default()).expect("an embedder")
}

const MINE: &str = r#"[embedders.mine]
    provider = "openai"
    id = "e-3"
    dims = 3
    price = 1_000_000"#;

fn embedder(server: &Server) -> Arc<dyn Embedder> {
    embedder_of(MINE, server)
}

fn texts(count: usize) -> Vec<Arc<str>> {
    (0..count).map(|n| format!("text {n}").into()).collect()
}

fn vectors(all: &[(usize, &str)]) -> Vec<Act> {
    let items: Vec<String> = all
        .iter()
        .map(|(index, vector)| {
            format!(r#"{{"object":"embedding","index":{index},"embedding":{vector}}}"#)
        })
        .collect();
    let usage = r#"{"prompt_tokens":7,"total_tokens":7}"#;
    json("200 OK", &format!(r#"{{"data":[{}],"usage":{usage}}}"#, items.join(",")))
}

async fn error_of(acts: Vec<Act>) -> CallError {
    let server = Server::start(vec![acts]).await;
    let error = embedder(&server).embed(&texts(2)).await.expect_err("an error");
    assert!(error.message.contains("127.0.0.1") && !error.message.contains(CANARY), "{error}");
    error
}

#[tokio::test]
async fn vectors_come_in_the_order_of_their_texts_with_what_they_cost() {
    let server = Server::start(vec![vectors(&[(1, "[0,3,4]"), (0, "[2,0,0]")])]).await;
    let embedder = embedder(&server);
    let made = embedder.embed(&texts(2)).await.expect("vectors");
    let values: Vec<&[f32]> = made.vectors.iter().map(|vector| vector.values()).collect();
    assert_eq!(values, [&[1.0, 0.0, 0.0][..], &[0.0, 0.6, 0.8]]);
    assert_eq!((made.tokens, made.cost), (Some(Tokens(7)), MicroDollars(7_000_000)));
    assert_eq!((embedder.id(), embedder.dims()), ("e-3/3", 3));
    let asked = server.asked();
    assert!(asked[0].head.starts_with("POST /v1/embeddings "), "{}", asked[0].head);
    assert!(asked[0].head.contains(CANARY), "with the key");
    let body: serde_json::Value = serde_json::from_slice(&asked[0].body).expect("JSON");
    let wanted = serde_json::json!(
        {"model": "e-3", "input": ["text 0", "text 1"], "encoding_format": "float"});
    assert_eq!(body, wanted);
}

#[tokio::test]
async fn an_endpoint_is_told_the_size_only_where_the_table_says_so() {
    let server = Server::start(vec![vectors(&[(0, "[1,0,0]")])]).await;
    let table = format!("{MINE}\nshorten = true");
    embedder_of(&table, &server).embed(&texts(1)).await.expect("a vector");
    let body: serde_json::Value = serde_json::from_slice(&server.asked()[0].body).expect("JSON");
    assert_eq!(body["dimensions"], 3);
}

#[tokio::test]
async fn many_texts_go_in_requests_of_sixty_four() {
    let all: Vec<(usize, &str)> = (0..64).map(|index| (index, "[1,1,1]")).collect();
    let server = Server::start(vec![vectors(&all), vectors(&all[..1])]).await;
    let made = embedder(&server).embed(&texts(65)).await.expect("vectors");
    assert_eq!((made.vectors.len(), server.asked().len()), (65, 2));
    assert_eq!((made.tokens, made.cost), (Some(Tokens(14)), MicroDollars(14_000_000)));
    assert!(embedder(&server).embed(&[]).await.expect("nothing").vectors.is_empty());
    assert_eq!(server.asked().len(), 2, "nothing is asked for no text");
}

#[tokio::test]
async fn a_vector_that_is_not_as_promised_is_refused_with_what_to_set() {
    let two = "[1,0]";
    let error = error_of(vectors(&[(0, two), (1, two)])).await;
    assert_eq!((error.kind, error.code), (FailureKind::Fatal, Code::LlmEmbedding));
    assert!(error.message.contains("2 components, but [embedders.\"mine\"] says 3"), "{error}");
    assert!(error.message.contains("set `dims = 2`"), "{error}");
    for (reply, told) in [
        (vectors(&[(0, "[1,0,0,0]")]), "4 components"),
        (vectors(&[(0, "[0,0,0]"), (1, "[1,0,0]")]), "without a direction"),
        (vectors(&[(0, "[1,0,0]")]), "left out some of 2"),
        (vectors(&[(0, "[1,0,0]"), (0, "[1,0,0]")]), "two vectors for text 0"),
        (vectors(&[(0, "[1,0,0]"), (2, "[1,0,0]")]), "text 2 of 2"),
    ] {
        let error = error_of(reply).await;
        assert_eq!((error.kind, error.code), (FailureKind::Fatal, Code::LlmEmbedding), "{error}");
        assert!(error.message.contains(told), "{error}");
    }
}

#[tokio::test]
async fn failures_say_whether_asking_again_can_help() {
    use FailureKind::{ContextLength, Fatal, Throttled, Transient};
    let complaint = |text: &str| format!(r#"{{"error":{{"message":"{text}"}}}}"#);
    for (acts, kind, code) in [
        (json("401 Unauthorized", &complaint(CANARY)), Fatal, Code::LlmAuth),
        (json("404 Not Found", &complaint("no such model")), Fatal, Code::LlmUnknownModel),
        (json("429 Too Many Requests", &complaint("slow down")), Throttled, Code::LlmThrottled),
        (json("503 Service Unavailable", &complaint("busy")), Transient, Code::LlmTransient),
        (
            json("400 Bad Request", &complaint("maximum context length is 8192 tokens")),
            ContextLength,
            Code::LlmContextLength,
        ),
        (json("200 OK", "<html>"), Fatal, Code::LlmProtocol),
        (json("200 OK", &complaint("boom")), Transient, Code::LlmTransient),
        (vec![], Transient, Code::LlmTransient),
    ] {
        let error = error_of(acts).await;
        assert_eq!((error.kind, error.code), (kind, code), "{error}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_left_alone_for_as_long_as_it_says() {
    let busy = answer("429 Too Many Requests", &[("retry-after", "1")], "slow down");
    let server = Server::start(vec![busy, vectors(&[(0, "[1,0,0]")])]).await;
    let embedder = embedder(&server);
    let one = texts(1);
    let error = embedder.embed(&one).await.expect_err("throttled");
    assert_eq!(error.retry_after, Some(Duration::from_secs(1)));
    let again = embedder.embed(&one).await.expect_err("at once");
    assert_eq!((&again.message, again.code), (&error.message, error.code));
    assert!(again.retry_after.expect("what is left") <= Duration::from_secs(1));
    assert_eq!(server.asked().len(), 1, "not asked meanwhile");
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    assert!(embedder.embed(&one).await.is_ok());
}

#[tokio::test]
async fn a_text_that_is_refused_leaves_the_endpoint_open_to_others() {
    let long = json("400 Bad Request", r#"{"error":{"message":"prompt is too long"}}"#);
    let server = Server::start(vec![long, vectors(&[(0, "[1,0,0]")])]).await;
    let embedder = embedder(&server);
    assert!(embedder.embed(&texts(1)).await.is_err());
    assert!(embedder.embed(&texts(1)).await.is_ok());
    for blank in ["", " \n"] {
        let error = embedder.embed(&["a".into(), blank.into()]).await.expect_err("blank");
        assert_eq!((error.kind, error.code), (FailureKind::Fatal, Code::LlmBadRequest));
    }
    assert_eq!(server.asked().len(), 2, "a blank text is not sent");
}

#[test]
fn a_table_with_an_embedder_that_cannot_be_is_refused_with_its_line() {
    let keys = |keys: &str| format!("[embedders.mine]\n{keys}");
    for (table, told) in [
        (keys(""), "`provider` is missing, or `folder`"),
        (keys("provider = \"opnai\"\nprice = 1"), "did you mean \"openai\"?"),
        (keys("provider = \"anthropic\"\nprice = 1"), "speaks no OpenAI dialect"),
        (keys("provider = \"openai\""), "`price` is missing"),
        (keys("provider = \"openai\"\nprice = -1"), "`price` is -1"),
        (keys("provider = \"local\"\ndims = 0"), "`dims` is 0"),
        (keys("provider = \"local\"\ndims = 65_537"), "`dims` is 65537"),
        (keys("folder = \"here\""), "absolute path"),
        (keys("folder = \"/here\"\ndims = 3"), "stands alone"),
        (keys("provider = \"local\"\ndim = 3"), "did you mean `dims`?"),
        ("[models.gpt-5]\ntokenizer = \"o200\"".to_owned(), "did you mean `o200k`?"),
        ("[models.gpt-5]\ntokenizer = { file = \"t.json\" }".to_owned(), "absolute path"),
    ] {
        let error = Models::embedded().extend_toml(&table, "mine.toml").expect_err("refused");
        let text = error.to_string();
        assert!(text.starts_with("mine.toml:") && text.contains(told), "{text}");
    }
    let mut models = Models::embedded();
    for good in ["provider = \"local\"\ndims = 1", "dims = 65_536", "folder = \"/here\""] {
        let fresh =
            keys(good).replace("mine", if good.starts_with("folder") { "other" } else { "mine" });
        models.extend_toml(&fresh, "mine.toml").expect(good);
    }
    let named: Vec<&str> = models.embedders().collect();
    assert_eq!(
        named,
        ["local", "mine", "other", "text-embedding-3-large", "text-embedding-3-small"]
    );
}

#[test]
fn an_embedder_is_chosen_by_name_and_has_1536_components_unless_told_otherwise() {
    let env = |name: &str| (name == "OPENAI_API_KEY").then(|| "k".to_owned());
    let models = Models::embedded();
    let of = |name: &str| models.embedder(name, &env, Options::default());
    let small = of("text-embedding-3-small").expect("an embedder");
    assert_eq!((small.dims(), small.id()), (1_536, "text-embedding-3-small/1536"));
    let error = of("text-embeding-3-small").err().expect("unknown").to_string();
    assert!(error.contains("did you mean \"text-embedding-3-small\"?"), "{error}");
    let error = of("local").err().expect("no address");
    assert_eq!(error.code(), Code::CliNoEndpoint, "{error}");
    let here = |name: &str| (name == "OPENAI_BASE_URL").then(|| "http://127.0.0.1:1/v1".to_owned());
    let local = models.embedder("local", &here, Options::default()).expect("an embedder");
    assert_eq!(local.dims(), 1_536);
    let mut models = Models::embedded();
    models.extend_toml("[embedders.m]\nfolder = \"/nowhere\"", "m.toml").expect("a table");
    let error = models.embedder("m", &env, Options::default()).err().expect("no folder");
    assert_eq!(error.code(), Code::LlmSentenceModel);
    assert!(error.to_string().contains("/nowhere/config.json"), "{error}");
}
