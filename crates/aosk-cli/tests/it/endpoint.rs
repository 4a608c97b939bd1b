//! A small model endpoint on a loopback port: real HTTP and server-sent events, replies from a
//! closure. It stands where a model would, because a model cannot be made to fail on demand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// A chat completion that was asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The request's body.
    pub body: Value,
    /// The `Authorization` header.
    pub authorization: String,
}

/// What the endpoint answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The model says this.
    Text(String),
    /// The model calls these tools with these arguments.
    Calls(Vec<(String, Value)>),
    /// The model refuses.
    Refusal(String),
    /// An HTTP error with that body.
    Status(u16, String),
    /// Server-sent events as they are, and then the end of the connection.
    Raw(String),
    /// Nothing, until the other side gives up.
    Silence,
    /// The end of the connection.
    Hangup,
}

/// A running endpoint.
pub struct Endpoint {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// One message for each call that came in.
    arrivals: Mutex<Receiver<()>>,
}

type Handler = dyn Fn(&Asked) -> Answer + Send + Sync;

impl Asked {
    /// The text of the last message that came from the user or a tool, wherever it stands.
    pub fn text(&self) -> String {
        self.body["messages"].to_string()
    }

    /// How many tool results the conversation holds.
    pub fn results(&self) -> usize {
        let messages = self.body["messages"].as_array().expect("messages");
        messages.iter().filter(|message| message["role"] == "tool").count()
    }
}

impl Endpoint {
    /// An endpoint that answers as `handler` says.
    pub fn new(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (asked, handler) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::new(handler));
        let (sender, arrivals) = channel();
        let record = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (asked, handler, sender) = (record.clone(), handler.clone(), sender.clone());
                std::thread::spawn(move || serve(stream, &asked, handler.as_ref(), &sender));
            }
        });
        Self { port, asked, arrivals: Mutex::new(arrivals) }
    }

    /// The base URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// The entry of a table of models in which it serves a model of that name, for nothing.
    pub fn table(&self, name: &str, slots: usize) -> String {
        format!(
            "[providers.{name}]\ndialect = \"openai\"\nloopback = true\nbase_url = \"{}\"\n\
             slots = {slots}\n[models.{name}]\nprovider = \"{name}\"\nwindow = 9000\n\
             max_output = 100\nprice = {{ input = 0, output = 0 }}\n",
            self.url()
        )
    }

    /// Every call so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("calls").clone()
    }

    /// Waits until a further call came in.
    pub fn wait_for_call(&self) {
        let arrivals = self.arrivals.lock().expect("calls");
        arrivals.recv_timeout(Duration::from_secs(60)).expect("a call within a minute");
    }
}

/// Says `text` to everything.
pub fn says(text: &str) -> Endpoint {
    let text = text.to_owned();
    Endpoint::new(move |_| Answer::Text(text.clone()))
}

/// Calls the calculator once and then answers with what it said.
pub fn calculates() -> Endpoint {
    Endpoint::new(|asked| match asked.results() {
        0 => call("calculator", json!({"expression": "17 * 23"})),
        _ => Answer::Text("It is 391.".to_owned()),
    })
}

/// One tool call.
pub fn call(tool: &str, arguments: Value) -> Answer {
    Answer::Calls(vec![(tool.to_owned(), arguments)])
}

fn serve(
    stream: TcpStream,
    asked: &Mutex<Vec<Asked>>,
    handler: &Handler,
    arrivals: &Sender<()>,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).ok()? == 0 {
            return None;
        }
        let (mut length, mut authorization) = (0, String::new());
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            if line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':')?;
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().ok()?,
                "authorization" => authorization = value.trim().to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        if first.starts_with("GET /v1/models") {
            let list = json!({"object": "list", "data": [{"id": "test-model"}]}).to_string();
            respond(&mut stream, 200, "application/json", &list)?;
            continue;
        }
        if !first.starts_with("POST /v1/chat/completions") {
            respond(&mut stream, 404, "application/json", "{}")?;
            continue;
        }
        let call = Asked { body: serde_json::from_slice(&body).ok()?, authorization };
        asked.lock().ok()?.push(call.clone());
        let answer = handler(&call);
        // Whoever waits must find the call in its effects, so it is told last.
        let _ = arrivals.send(());
        match answer {
            Answer::Hangup => return None,
            Answer::Silence => {
                // Until the other side closes.
                let _ = reader.read(&mut [0]);
                return None;
            }
            Answer::Status(status, body) => {
                respond(&mut stream, status, "application/json", &body)?;
            }
            Answer::Raw(events) => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
                stream.write_all(format!("{head}{events}").as_bytes()).ok()?;
                return None;
            }
            Answer::Text(text) => {
                let delta = json!({"role": "assistant", "content": text});
                respond(&mut stream, 200, "text/event-stream", &events(delta, "stop", &call))?;
            }
            Answer::Refusal(text) => {
                let delta = json!({"role": "assistant", "refusal": text});
                respond(&mut stream, 200, "text/event-stream", &events(delta, "stop", &call))?;
            }
            Answer::Calls(calls) => {
                let calls: Vec<Value> = calls
                    .iter()
                    .enumerate()
                    .map(|(index, (name, arguments))| {
                        let function = json!({"name": name, "arguments": arguments.to_string()});
                        let id = format!("call_{}_{index}", call.results());
                        json!({"index": index, "id": id, "type": "function", "function": function})
                    })
                    .collect();
                let delta = json!({"role": "assistant", "tool_calls": calls});
                respond(
                    &mut stream,
                    200,
                    "text/event-stream",
                    &events(delta, "tool_calls", &call),
                )?;
            }
        }
    }
}

/// A streamed reply with its usage. As with a real cache, all but the newest 40 tokens of a
/// conversation that went on are cached.
fn events(delta: Value, finish: &str, call: &Asked) -> String {
    let input = call.text().len() / 4;
    let cached = if call.results() > 0 { input.saturating_sub(40) } else { 0 };
    let chunks = [
        json!({"model": "test-model", "choices": [{"index": 0, "delta": delta}]}),
        json!({"model": "test-model", "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}),
        json!({"model": "test-model", "choices": [], "usage": {
            "prompt_tokens": input,
            "completion_tokens": 12,
            "total_tokens": input + 12,
            "prompt_tokens_details": {"cached_tokens": cached},
        }}),
    ];
    let mut text: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    text.push_str("data: [DONE]\n\n");
    text
}

fn respond(stream: &mut TcpStream, status: u16, media: &str, body: &str) -> Option<()> {
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {media}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).ok()
}
