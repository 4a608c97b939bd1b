//! A server that plays bytes over real sockets and keeps what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A step of an answer.
#[derive(Debug, Clone)]
pub enum Act {
    /// Bytes, in one write.
    Send(Vec<u8>),
    /// Nothing for a while.
    Pause(Duration),
    /// Nothing, for ever; the connection stays open.
    Hang,
}

/// What the server was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub head: String,
    pub body: Vec<u8>,
}

pub struct Server {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Answers the n-th request with the n-th script, and every further one with the last. The
    /// connection is closed after an answer, whatever its head says.
    pub async fn start(scripts: Vec<Vec<Act>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let seen = asked.clone();
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.expect("a connection");
                socket.set_nodelay(true).expect("no delay");
                tokio::spawn(talk(socket, scripts.clone(), seen.clone()));
            }
        });
        Self { address, asked, task }
    }

    pub fn base(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("whole").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn talk(mut socket: TcpStream, scripts: Vec<Vec<Act>>, asked: Arc<Mutex<Vec<Asked>>>) {
    if let Some((head, body)) = read_request(&mut socket).await {
        let number = {
            let mut asked = asked.lock().expect("whole");
            asked.push(Asked { head, body });
            asked.len() - 1
        };
        let script = scripts.get(number).or(scripts.last()).expect("a script");
        for act in script {
            match act {
                Act::Send(bytes) => {
                    if socket.write_all(bytes).await.is_err() {
                        return;
                    }
                    // Lets the client read these bytes before the next ones are there.
                    for _ in 0..8 {
                        tokio::task::yield_now().await;
                    }
                }
                Act::Pause(duration) => tokio::time::sleep(*duration).await,
                Act::Hang => std::future::pending().await,
            }
        }
    }
}

pub async fn read_request(socket: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).expect("an ASCII head");
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
        })
        .unwrap_or(0);
    while bytes.len() < head_end + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, bytes[head_end..].to_vec()))
}

/// The head of a stream that ends with its connection.
pub fn stream_head() -> Act {
    Act::Send(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n"
            .to_vec(),
    )
}

/// A whole answer.
pub fn answer(status: &str, headers: &[(&str, &str)], body: &str) -> Vec<Act> {
    let mut text =
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    vec![Act::Send(text.into_bytes())]
}

/// A JSON answer.
pub fn json(status: &str, body: &str) -> Vec<Act> {
    answer(status, &[("content-type", "application/json")], body)
}

/// A stream of these events, each with `data:` in front, and `[DONE]`.
pub fn events(events: &[&str]) -> Vec<Act> {
    let mut acts = vec![stream_head()];
    acts.extend(events.iter().chain(&["[DONE]"]).map(|event| send(event)));
    acts
}

/// One event.
pub fn send(event: &str) -> Act {
    Act::Send(format!("data: {event}\n\n").into_bytes())
}
