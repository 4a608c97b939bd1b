//! One HTTP exchange with an endpoint, bounded in time and size.
//!
//! Three clocks watch a call, because three different things go wrong: nobody listens (10 s to
//! connect), the server queues or reads a long prompt (120 s to the first byte; a laptop reads about
//! 160 tokens a second), the stream stalls in the middle (60 s between bytes). A fourth bounds the
//! whole. All of them are tokio's, so tests turn them by hand. A comment that keeps a stream alive
//! counts as a byte; the whole bound ends a stream that only ever sends those.
//!
//! A proxy is used where the usual variables name one (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`,
//! without `NO_PROXY`). An encrypted endpoint is reached through a tunnel, so the proxy sees its
//! name and no key. An endpoint on this machine is never reached through one, whatever the variables
//! say: to the proxy `127.0.0.1` is another machine.

use std::time::Duration;

use aosk_abi::{Code, FailureKind};
use aosk_ports::CallError;
use futures::{Stream, stream};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName};
use reqwest::{Method, Response};
use tokio::time::{Instant, timeout, timeout_at};

use crate::endpoint::{Endpoint, Sent};
use crate::error::Error;
use crate::failure::{error, unbilled};

/// The most bytes of an error's body that are read.
const COMPLAINT_MAX: usize = 64 * 1024;

/// Bounds of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// To a connection, TLS included.
    pub connect: Duration,
    /// From the request to the first byte of the reply.
    pub first_byte: Duration,
    /// Between two bytes of the reply.
    pub idle: Duration,
    /// From the request to the last byte of the reply.
    pub total: Duration,
    /// The largest reply, in bytes.
    pub max_reply: usize,
}

impl Default for Options {
    /// 10 s, 120 s, 60 s, 20 min and 64 MiB.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(120),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(20 * 60),
            max_reply: 64 << 20,
        }
    }
}

/// Talks to one endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: reqwest::Client,
    pub endpoint: Endpoint,
    pub options: Options,
}

/// The head of an answer.
pub(crate) struct Incoming {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Body,
}

/// The body of an answer as it comes in.
pub(crate) struct Body {
    response: Response,
    received: usize,
    first_byte_by: Instant,
    options: Options,
}

/// Why a reply broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Break {
    #[error("sent no byte of a reply within {} s", .0.as_secs())]
    FirstByte(Duration),
    #[error("stalled for {} s in the middle of its reply", .0.as_secs())]
    Idle(Duration),
    #[error("broke off its reply: {0}")]
    Disconnected(String),
    #[error("sent more than the {0} bytes that a reply may have")]
    TooLarge(usize),
}

impl Break {
    /// The call's error.
    pub fn error(&self, host: &str) -> CallError {
        let code = match self {
            Self::TooLarge(_) => Code::LlmProtocol,
            Self::FirstByte(_) | Self::Idle(_) | Self::Disconnected(_) => Code::LlmTransient,
        };
        error(FailureKind::Transient, code, format!("{host} {self}; it may pass"))
    }
}

impl Http {
    pub fn new(endpoint: Endpoint, options: Options) -> Result<Self, Error> {
        // A second installation fails and keeps the first provider, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(options.connect)
            .user_agent(concat!("aosk/", env!("CARGO_PKG_VERSION")));
        if endpoint.is_plain() {
            // Without TLS a machine without CA certificates must do, such as a bare container. And a
            // connection costs next to nothing, so each call has its own: llama.cpp closes those
            // that it promised to keep, and the next call would be the one to find out.
            builder = builder.tls_certs_only([]).pool_max_idle_per_host(0);
        }
        if endpoint.is_loopback() {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| Error::Client {
            host: endpoint.host(),
            problem: endpoint.mask(&chain(&error)),
        })?;
        Ok(Self { client, endpoint, options })
    }

    /// Sends a request and waits for the head of the answer.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&'static str, &'static str)],
        body: Option<Vec<u8>>,
    ) -> Result<Incoming, CallError> {
        let first_byte_by = Instant::now() + self.options.first_byte;
        let mut request =
            self.client.request(method, url).header(ACCEPT, "text/event-stream, application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match self.endpoint.key() {
            Some((key, Sent::Bearer)) => request = request.bearer_auth(key.expose()),
            Some((key, Sent::ApiKey)) => request = request.header("x-api-key", key.header()),
            None => {}
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let response = match timeout_at(first_byte_by, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(failure)) => return Err(self.not_sent(&failure)),
            Err(_) => {
                return Err(Break::FirstByte(self.options.first_byte).error(&self.endpoint.host()));
            }
        };
        Ok(Incoming {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: Body { response, received: 0, first_byte_by, options: self.options },
        })
    }

    fn not_sent(&self, failure: &reqwest::Error) -> CallError {
        let why = self.endpoint.mask(&chain(failure));
        // Any other timeout is the system's, of a connection that stood: the request may have left.
        if failure.is_connect() {
            let hint = if self.endpoint.is_loopback() {
                "start the model server there, or set its address"
            } else {
                "check the address and the network"
            };
            return unbilled(
                FailureKind::Transient,
                Code::LlmUnreachable,
                format!("cannot reach {}: {why}; {hint}", self.endpoint.base()),
            );
        }
        if failure.is_builder() {
            return unbilled(
                FailureKind::Fatal,
                Code::LlmBadRequest,
                format!("no request to {} can be made: {why}", self.endpoint.base()),
            );
        }
        error(
            FailureKind::Transient,
            Code::LlmTransient,
            format!("{} closed the connection before it answered: {why}", self.endpoint.host()),
        )
    }
}

impl Incoming {
    /// A header's text; empty where there is none.
    pub fn header(&self, name: HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Body {
    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Break> {
        let first = self.received == 0;
        let waited = if first {
            timeout_at(self.first_byte_by, self.response.chunk()).await
        } else {
            timeout(self.options.idle, self.response.chunk()).await
        };
        let bytes = match waited {
            Ok(Ok(Some(bytes))) => bytes,
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(failure)) => return Err(Break::Disconnected(chain(&failure))),
            Err(_) if first => return Err(Break::FirstByte(self.options.first_byte)),
            Err(_) => return Err(Break::Idle(self.options.idle)),
        };
        self.received += bytes.len();
        if self.received > self.options.max_reply {
            return Err(Break::TooLarge(self.options.max_reply));
        }
        Ok(Some(bytes.into()))
    }

    /// The bytes as they arrive.
    pub fn stream(self) -> impl Stream<Item = Result<Vec<u8>, Break>> + Send {
        stream::try_unfold(self, |mut body| async move {
            Ok(body.next().await?.map(|bytes| (bytes, body)))
        })
    }

    /// All bytes.
    pub async fn read_all(mut self) -> Result<Vec<u8>, Break> {
        let mut raw = Vec::new();
        while let Some(bytes) = self.next().await? {
            raw.extend_from_slice(&bytes);
        }
        Ok(raw)
    }

    /// The text of an error's body, as far as it arrives and is of use.
    pub async fn read_complaint(mut self) -> String {
        let mut raw = Vec::new();
        while raw.len() < COMPLAINT_MAX {
            let Ok(Some(bytes)) = self.next().await else {
                break;
            };
            raw.extend_from_slice(&bytes);
        }
        String::from_utf8_lossy(&raw).into_owned()
    }
}

/// An error with its causes; the outermost of reqwest says no more than "error sending request".
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
