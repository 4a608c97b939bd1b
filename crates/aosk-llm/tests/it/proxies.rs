//! The variables of proxies, each in a process of its own, against a proxy that forwards and tunnels.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};

use aosk_abi::Code;
use aosk_llm::{Models, Options, Remote};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::server::{Server, events, read_request};
use crate::support::{CANARY, ask, question};

const END: &str =
    r#"{"choices":[{"index":0,"delta":{"content":"through"},"finish_reason":"stop"}]}"#;

/// Where the child that asks is told whom to ask.
const BASE: &str = "AOSK_TEST_PROXIED_BASE";

const PASSWORD: &str = "pw-0123456789";

const GRANTED: &str = "200 Connection established";

/// A proxy that forwards what it is asked in full to one address, whatever host is named; it grants
/// tunnels, and reads what comes through them without an answer.
struct Proxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    async fn start(origin: SocketAddr, tunnel: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let keep = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.expect("a connection");
                tokio::spawn(serve(socket, origin, tunnel, keep.clone()));
            }
        });
        Self { address, seen, task }
    }

    fn seen(&self) -> Vec<String> {
        let seen = self.seen.lock().expect("whole");
        seen.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut socket: TcpStream,
    origin: SocketAddr,
    tunnel: &'static str,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
) {
    let Some((head, body)) = read_request(&mut socket).await else { return };
    let keep = |bytes: &[u8]| seen.lock().expect("whole").push(bytes.to_vec());
    keep(head.as_bytes());
    if head.starts_with("CONNECT ") {
        let _ = socket.write_all(format!("HTTP/1.1 {tunnel}\r\n\r\n").as_bytes()).await;
        let mut inside = vec![0; 4096];
        let length = socket.read(&mut inside).await.unwrap_or(0);
        keep(&inside[..length]);
        return;
    }
    // From `POST http://host/path HTTP/1.1` to `POST /path HTTP/1.1`.
    let (method, rest) = head.split_once(" http://").expect("an absolute address");
    let (_, path) = rest.split_once('/').expect("a path");
    let mut onward = TcpStream::connect(origin).await.expect("the origin");
    let forwarded = [format!("{method} /{path}").into_bytes(), body].concat();
    onward.write_all(&forwarded).await.expect("sent");
    let _ = tokio::io::copy(&mut onward, &mut socket).await;
}

/// What a process with these variables and no others says that `base` answered.
async fn asked(base: &str, variables: &[(&str, &str)]) -> String {
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    child
        .args(["--exact", "proxies::asks_once", "--ignored", "--nocapture"])
        .env_clear()
        .env(BASE, base)
        .envs(variables.iter().copied());
    let output = spawn_blocking(move || child.output()).await.expect("joined").expect("ran");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !said.is_empty(), "{said}");
    said
}

#[tokio::test]
#[ignore = "the process that the other tests start"]
async fn asks_once() {
    let Ok(base) = std::env::var(BASE) else { return };
    let env = |name: &str| match name {
        "OPENAI_BASE_URL" => Some(base.clone()),
        "OPENAI_API_KEY" => base.starts_with("https").then(|| CANARY.to_owned()),
        _ => None,
    };
    let (spec, endpoint) = Models::embedded().select("gpt-4o-mini", &env).expect("a model");
    let device = Remote::connect(spec, endpoint, Options::default()).await.expect("a device");
    match ask(&device, &question()).await {
        Ok(reply) => eprintln!("reply: {:?}", reply.parts),
        Err(error) => eprintln!("error: {error} {error:?}"),
    }
}

#[tokio::test]
async fn a_plain_endpoint_is_asked_through_the_proxy_of_the_variables() {
    let origin = Server::start(vec![events(&[END])]).await;
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let proxy = Proxy::start(origin.address, GRANTED).await;
        let address = format!("http://{}", proxy.address);
        let said = asked("http://model.test/v1", &[(variable, &address)]).await;
        assert!(said.contains("through"), "{said}");
        let seen = proxy.seen();
        assert_eq!(seen.len(), 1);
        assert!(seen[0].starts_with("POST http://model.test/v1/chat/completions "), "{seen:?}");
    }
    assert_eq!(origin.asked().len(), 3);
    assert!(origin.asked()[0].body.starts_with(br#"{"tools":"#));
}

#[tokio::test]
async fn an_encrypted_endpoint_is_reached_through_a_tunnel_that_shows_no_key() {
    let origin = Server::start(vec![events(&[END])]).await;
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let proxy = Proxy::start(origin.address, GRANTED).await;
        let address = format!("http://{}", proxy.address);
        let said = asked("https://model.test/v1", &[(variable, &address)]).await;
        // The proxy is no TLS server, so the handshake that it saw begin comes to nothing.
        assert!(said.contains(Code::LlmUnreachable.as_str()), "{said}");
        let seen = proxy.seen();
        assert!(seen[0].starts_with("CONNECT model.test:443 "), "{seen:?}");
        // A record of the handshake (22) of TLS (3.x), with the name of the endpoint.
        assert!(seen[1].starts_with("\u{16}\u{3}") && seen[1].contains("model.test"), "{seen:?}");
        assert!(!seen.concat().contains(&CANARY[..12]), "{seen:?}");
    }
    // A proxy that wants other credentials than it got; neither these nor the key are told.
    let proxy = Proxy::start(origin.address, "407 Proxy Authentication Required").await;
    let address = format!("http://ada:{PASSWORD}@{}", proxy.address);
    let said = asked("https://model.test/v1", &[("HTTPS_PROXY", &address)]).await;
    assert!(proxy.seen()[0].to_ascii_lowercase().contains("proxy-authorization: basic "));
    assert!(said.contains(Code::LlmUnreachable.as_str()), "{said}");
    assert!(!said.contains(PASSWORD) && !said.contains(&CANARY[..12]), "{said}");
    assert_eq!(origin.asked().len(), 0);
}

#[tokio::test]
async fn an_endpoint_on_this_machine_or_excepted_is_asked_directly() {
    let origin = Server::start(vec![events(&[END])]).await;
    let proxy = Proxy::start(origin.address, GRANTED).await;
    let address = format!("http://{}", proxy.address);
    let all = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"];
    let all = all.map(|variable| (variable, address.as_str()));
    for host in ["127.0.0.1", "localhost"] {
        let base = format!("http://{host}:{}/v1", origin.address.port());
        let said = asked(&base, &all).await;
        assert!(said.contains("through"), "{said}");
    }
    let excepted = [&all[..], &[("NO_PROXY", "other.test,model.test")]].concat();
    for base in ["http://model.test/v1", "https://model.test/v1"] {
        let said = asked(base, &excepted).await;
        assert!(said.contains(Code::LlmUnreachable.as_str()), "{said}");
    }
    assert_eq!((proxy.seen(), origin.asked().len()), (Vec::new(), 2));
}
