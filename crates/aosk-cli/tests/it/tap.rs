//! A tap on the way to a real endpoint: it forwards every byte and keeps what was sent.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A running tap.
pub struct Tap {
    base: String,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Tap {
    /// A tap before the endpoint at `url`, which is plain HTTP on this machine.
    pub fn new(url: &str) -> Self {
        let rest = url.strip_prefix("http://").expect("a plain URL");
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (host, bodies) = (host.to_owned(), Arc::<Mutex<Vec<Vec<u8>>>>::default());
        let kept = bodies.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (host, kept) = (host.clone(), kept.clone());
                std::thread::spawn(move || forward(stream, &host, &kept));
            }
        });
        Self { base: format!("http://127.0.0.1:{port}/{path}"), bodies }
    }

    /// Where the tap listens.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// The bodies of all calls of the model so far, in the order of their arrival.
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        self.bodies.lock().expect("calls").clone()
    }
}

/// Forwards one request and its answer; the connection serves no second one.
fn forward(mut stream: TcpStream, host: &str, kept: &Mutex<Vec<Vec<u8>>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if !lower.starts_with("connection:") {
            head.push_str(&line);
        }
    }
    head.push_str("connection: close\r\n\r\n");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut upstream = TcpStream::connect(host).ok()?;
    upstream.write_all(head.as_bytes()).ok()?;
    upstream.write_all(&body).ok()?;
    // A count of tokens is no call.
    if length > 0 && !head.starts_with("POST /tokenize ") {
        kept.lock().ok()?.push(body);
    }
    std::io::copy(&mut upstream, &mut stream).ok()?;
    Some(())
}
