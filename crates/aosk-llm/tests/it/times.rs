//! The clocks of a call, turned by hand: tokio's time stands still and jumps to the next deadline
//! when nothing else is left to do.

use std::time::Duration;

use aosk_abi::{Code, FailureKind};
use aosk_llm::{Endpoint, Options, discover};
use aosk_ports::{CallError, Reply};
use tokio::time::Instant;

use crate::server::{Act, Server, answer, send, stream_head};
use crate::support::{ask, device_with, question};

const END: &str = r#"{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}"#;
const PIECE: &str = r#"{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}"#;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Calls with 10 s to the first byte, 5 s between bytes and 60 s in all.
async fn timed(acts: Vec<Act>) -> (Result<Reply, CallError>, Duration) {
    let server = Server::start(vec![acts]).await;
    let options = Options {
        first_byte: ms(10_000),
        idle: ms(5_000),
        total: ms(60_000),
        ..Options::default()
    };
    let device = device_with("gpt-4o-mini", &server.base(), options).await;
    let start = Instant::now();
    let outcome = ask(&device, &question()).await;
    (outcome, start.elapsed())
}

async fn stalls(acts: Vec<Act>, after: Duration, words: &str) {
    let (outcome, took) = timed(acts).await;
    let error = outcome.expect_err("a stall");
    assert_eq!((error.kind, error.code), (FailureKind::Transient, Code::LlmTransient), "{error}");
    assert!(error.message.contains(words), "{error}");
    assert!(took >= after && took < after + ms(50), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_accepts_is_given_up() {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let listener = socket.listen(0).expect("a queue");
    let address = listener.local_addr().expect("an address");
    // Fills the queue of connections that wait to be accepted.
    let mut waiting = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, ms(300)) {
        waiting.push(stream);
    }
    let base = format!("http://{address}/v1");
    let device = device_with("gpt-4o-mini", &base, Options::default()).await;
    let start = Instant::now();
    let error = ask(&device, &question()).await.expect_err("nobody accepts");
    assert_eq!((error.kind, error.code), (FailureKind::Transient, Code::LlmUnreachable), "{error}");
    let took = start.elapsed();
    assert!(took >= ms(10_000) && took < ms(10_100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_byte_may_take_its_time_and_no_longer() {
    let late = |pause| vec![Act::Pause(ms(pause)), stream_head(), send(END)];
    assert!(timed(late(9_900)).await.0.is_ok());
    stalls(late(10_100), ms(10_000), "no byte of a reply within 10 s").await;
    // A head is no byte of the reply.
    let headed = |pause| vec![stream_head(), Act::Pause(ms(pause)), send(END)];
    assert!(timed(headed(9_900)).await.0.is_ok());
    stalls(headed(10_100), ms(10_000), "no byte of a reply within 10 s").await;
    stalls(vec![Act::Hang], ms(10_000), "no byte").await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_pause_and_no_longer() {
    let pausing = |pause| {
        vec![
            stream_head(),
            send(PIECE),
            Act::Pause(ms(pause)),
            send(PIECE),
            Act::Pause(ms(pause)),
            send(END),
        ]
    };
    assert!(timed(pausing(4_900)).await.0.is_ok());
    stalls(pausing(5_100), ms(5_000), "stalled for 5 s").await;
    // A reply that is complete is not lost because its stream stays open.
    let open = vec![stream_head(), send(END), Act::Hang];
    assert!(timed(open).await.0.is_ok());
    let closed = vec![stream_head(), send(END), send("[DONE]"), Act::Hang];
    let (outcome, took) = timed(closed).await;
    assert!(outcome.is_ok() && took < ms(1_000), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_keep_a_call_up_to_its_whole_time() {
    let living = |count: usize| {
        let comment = || [Act::Pause(ms(4_000)), Act::Send(b": still here\n\n".to_vec())];
        let mut acts = vec![stream_head()];
        acts.extend((0..count).flat_map(|_| comment()));
        acts.push(send(END));
        acts
    };
    assert!(timed(living(14)).await.0.is_ok());
    stalls(living(16), ms(60_000), "did not finish its reply within 60 s").await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_finishes_its_list_of_models_is_given_up() {
    let drip = |count: usize| {
        let head =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
        let mut acts = vec![Act::Send(head.to_vec())];
        acts.extend((0..count).flat_map(|_| [Act::Pause(ms(4_000)), Act::Send(b" ".to_vec())]));
        acts.push(Act::Send(br#"{"data":[{"id":"m"}]}"#.to_vec()));
        acts
    };
    let found = async |count| {
        let server = Server::start(vec![drip(count), answer("404 Not Found", &[], "")]).await;
        let endpoint = Endpoint::new("test", &server.base(), None).expect("valid");
        let options = Options { idle: ms(5_000), total: ms(60_000), ..Options::default() };
        let start = Instant::now();
        (discover(&endpoint, options).await, start.elapsed())
    };
    assert_eq!(found(14).await.0.expect("in time").models.len(), 1);
    let (outcome, took) = found(16).await;
    let error = outcome.expect_err("too late");
    assert_eq!((error.kind, error.code), (FailureKind::Transient, Code::LlmTransient), "{error}");
    assert!(error.message.contains("list of models within 60 s"), "{error}");
    assert!(took >= ms(60_000) && took < ms(60_050), "{took:?}");
}

#[test]
fn the_clocks_have_the_documented_defaults() {
    let Options { connect, first_byte, idle, total, max_reply } = Options::default();
    assert_eq!([connect, first_byte, idle, total], [10, 120, 60, 1_200].map(Duration::from_secs));
    assert_eq!(max_reply, 67_108_864);
}
