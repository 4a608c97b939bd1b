//! One attempt at a call, whatever the dialect: send, look at the status, read the stream or the
//! whole reply, keep the raw bytes.
//!
//! The exchange is this project's own and not an SDK's, for three reasons that SDKs share: they
//! retry by themselves (retries are journaled here), they serialise through maps whose order is not
//! promised (a prompt's bytes are promised here), and they drop fields that they do not know (raw
//! replies are kept here). What differs between dialects is what one event means; that is an
//! [`Assembly`], and everything that can go wrong around it is said once, here.

use std::io::Cursor;
use std::pin::pin;
use std::time::Duration;

use aosk_abi::{Code, FailureKind, StopReason, Usage};
use aosk_ports::{CallError, Delta, Part, Progress, Rendered, Reply, Request};
use futures::{StreamExt, TryStreamExt};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, LOCATION};
use sse_stream::SseByteStream;
use tokio::time::timeout;

use crate::complaint::Complaint;
use crate::failure::{complained, error, quote, refused, unbilled};
use crate::http::{Body, Break, Http};
use crate::rate_limits::rate_limits;

/// How long the end of a stream's body may take once the reply is complete.
const AFTER_LAST: Duration = Duration::from_millis(100);

/// The arguments of a call whose reply ran out of output in front of the first of them. No text at
/// all stands for a call without arguments and would be carried out; this is none, and the model
/// hears that its call was cut off.
pub(crate) const CUT_ARGUMENTS: &str = "{";

/// A reply that is coming in.
pub(crate) trait Assembly: Default + Send {
    /// What an endpoint speaks that sends such replies, for messages.
    const SPEECH: &'static str;

    /// Takes in the data of one event of a stream.
    fn event(&mut self, data: &str, progress: &dyn Progress) -> Result<Next, Fault>;

    /// Takes in a reply that came whole.
    fn whole(&mut self, body: &str, progress: &dyn Progress) -> Result<(), Fault>;

    /// Whether the endpoint said why it stopped; nothing that could still come would change what
    /// the model said.
    fn is_finished(&self) -> bool;

    /// What the call of `request` used, as far as the endpoint has told all of it.
    fn usage(&self, request: &Request) -> Option<Usage>;

    /// The model's name as reported.
    fn take_model(&mut self) -> String;

    /// The parts of the reply to `request`, and why the model stopped.
    fn finish(self, request: &Request) -> (Vec<Part>, StopReason);
}

/// What comes after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Perhaps another one.
    More,
    /// Nothing but the body's end.
    End,
}

/// What is wrong with an event.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is not of the dialect, and why.
    Malformed(String),
    /// It is a complaint.
    Complained(Complaint),
}

impl From<serde_json::Error> for Fault {
    fn from(problem: serde_json::Error) -> Self {
        Self::Malformed(problem.to_string())
    }
}

/// Where and how a request is sent.
pub(crate) struct Exchange<'a> {
    pub http: &'a Http,
    /// The path below the endpoint's base.
    pub path: &'static str,
    /// The dialect's own headers.
    pub headers: &'a [(&'static str, &'static str)],
    /// What the endpoint calls the model, for messages.
    pub model: &'a str,
}

impl Exchange<'_> {
    /// Makes one attempt.
    pub async fn run<A: Assembly>(
        &self,
        rendered: &Rendered,
        request: &Request,
        progress: &dyn Progress,
    ) -> Result<Reply, CallError> {
        let endpoint = &self.http.endpoint;
        let url = endpoint.below(self.path);
        let body = Some(rendered.body.to_vec());
        let incoming = self.http.send(Method::POST, &url, self.headers, body).await?;
        if let Some(limits) = rate_limits(&incoming.headers) {
            progress.limits(&limits);
        }
        match incoming.status {
            200..=299 => {}
            300..=399 => return Err(self.redirected(incoming.header(LOCATION))),
            status => {
                let body = incoming.body.read_complaint().await;
                return Err(refused(endpoint, self.model, status, &incoming.headers, &body));
            }
        }
        let mut assembly = A::default();
        let media = incoming.header(CONTENT_TYPE).to_ascii_lowercase();
        let outcome = if media.starts_with("text/event-stream") {
            self.read_stream(incoming.body, &mut assembly, progress).await
        } else {
            self.read_whole(incoming.body, &mut assembly, &media, progress).await
        };
        let usage = assembly.usage(request);
        let raw =
            outcome.map_err(|failure| CallError { usage: usage.or(failure.usage), ..failure })?;
        let model = assembly.take_model();
        let (parts, stop) = assembly.finish(request);
        Ok(Reply { parts, stop, usage, model, raw: Some(raw.into()) })
    }

    async fn read_stream<A: Assembly>(
        &self,
        body: Body,
        assembly: &mut A,
        progress: &dyn Progress,
    ) -> Result<Vec<u8>, CallError> {
        let mut raw = Vec::new();
        let bytes = body.stream().map_ok(|bytes: Vec<u8>| {
            if raw.is_empty() {
                progress.delta(Delta::FirstByte);
            }
            raw.extend_from_slice(&bytes);
            Cursor::new(bytes)
        });
        {
            let mut events = pin!(SseByteStream::new(bytes));
            while let Some(event) = events.next().await {
                let data = match event {
                    Ok(event) => event.data.unwrap_or_default(),
                    Err(_) if assembly.is_finished() => break,
                    Err(failure) => return Err(self.broken::<A>(failure)),
                };
                if data.trim().is_empty() {
                    continue;
                }
                let next = assembly.event(&data, progress);
                if next.map_err(|fault| self.faulty::<A>(fault, &data))? == Next::End {
                    // The end of the body is mostly here already: it completes the raw reply and
                    // frees an encrypted connection for the next call. It is not worth a wait.
                    let _ = timeout(AFTER_LAST, events.next()).await;
                    break;
                }
            }
        }
        if assembly.is_finished() {
            return Ok(raw);
        }
        let ended = "the stream ended before the model said why it stopped".to_owned();
        Err(Break::Disconnected(ended).error(&self.http.endpoint.host()))
    }

    async fn read_whole<A: Assembly>(
        &self,
        body: Body,
        assembly: &mut A,
        media: &str,
        progress: &dyn Progress,
    ) -> Result<Vec<u8>, CallError> {
        let host = self.http.endpoint.host();
        let raw = body.read_all().await.map_err(|broken| broken.error(&host))?;
        progress.delta(Delta::FirstByte);
        let text = String::from_utf8_lossy(&raw);
        if !media.starts_with("application/json") {
            return Err(unbilled(
                FailureKind::Fatal,
                Code::LlmProtocol,
                format!(
                    "{host} answered with {:?} instead of a reply of a model: {}; check that the \
                     base URL {} is the one of the API",
                    if media.is_empty() { "no content type" } else { media },
                    quote(&self.http.endpoint, &text),
                    self.http.endpoint.base()
                ),
            ));
        }
        assembly.whole(&text, progress).map_err(|fault| self.faulty::<A>(fault, &text))?;
        if assembly.is_finished() {
            return Ok(raw);
        }
        Err(self.malformed::<A>("the reply does not say why the model stopped", &text))
    }

    fn broken<A: Assembly>(&self, failure: sse_stream::Error) -> CallError {
        if let sse_stream::Error::Body(cause) = &failure
            && let Some(broken) = cause.downcast_ref::<Break>()
        {
            return broken.error(&self.http.endpoint.host());
        }
        self.malformed::<A>(&failure.to_string(), "")
    }

    fn faulty<A: Assembly>(&self, fault: Fault, data: &str) -> CallError {
        match fault {
            Fault::Malformed(problem) => self.malformed::<A>(&problem, data),
            Fault::Complained(complaint) => complained(&self.http.endpoint, self.model, &complaint),
        }
    }

    fn malformed<A: Assembly>(&self, problem: &str, data: &str) -> CallError {
        let endpoint = &self.http.endpoint;
        error(
            FailureKind::Transient,
            Code::LlmProtocol,
            format!(
                "{} broke the protocol ({problem}): {}; if it goes on, it does not speak {}",
                endpoint.host(),
                quote(endpoint, data),
                A::SPEECH
            ),
        )
    }

    fn redirected(&self, location: &str) -> CallError {
        // What stands behind the path may hold a token.
        let location = location.split(['?', '#']).next().unwrap_or_default();
        unbilled(
            FailureKind::Fatal,
            Code::LlmUnreachable,
            format!(
                "{} redirects to {}; redirects are not followed, because the key is meant for the \
                 first address alone: set the base URL to the final address",
                self.http.endpoint.base(),
                quote(&self.http.endpoint, location)
            ),
        )
    }
}
