//! The chat-completions dialect: rendering, one attempt over HTTP, assembling the reply.
//!
//! The dialect is this project's own and not an SDK's, for three reasons that SDKs share: they
//! retry by themselves (retries are journaled here), they serialise through maps whose order is
//! not promised (a prompt's bytes are promised here), and they drop fields that they do not know
//! (raw replies are kept here).

mod assembly;
mod constrained;
pub(crate) mod failure;
pub(crate) mod render;
mod wire;

use std::io::Cursor;
use std::pin::pin;
use std::time::Duration;

use aosk_abi::{Code, FailureKind};
use aosk_ports::{
    CallError, Delta, Device, DeviceInfo, Progress, RenderError, Rendered, Reply, Request,
};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, LOCATION};
use sse_stream::SseByteStream;
use tokio::time::timeout;

use crate::discover::discover;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::http::{Body, Break, Http, Options};
use crate::models::ModelSpec;
use crate::table::Dialect;
use assembly::Assembly;
use failure::{complained, error, quote, refused};
use render::Renderer;
use wire::{Chunk, Complaint};

/// What ends a stream.
const DONE: &str = "[DONE]";

/// How long the end of a stream's body may take once the reply is complete.
const AFTER_DONE: Duration = Duration::from_millis(100);

/// An endpoint that speaks OpenAI's chat completions: OpenAI itself, llama.cpp, vLLM, Ollama and
/// most gateways.
#[derive(Debug, Clone)]
pub struct OpenAi {
    info: DeviceInfo,
    renderer: Renderer,
    http: Http,
}

impl OpenAi {
    /// The device for `spec` at `endpoint`. A server on this machine is asked first what it
    /// serves, how long its window is and how many calls it takes at once.
    ///
    /// # Errors
    /// [`CallError`] where a server on this machine does not answer or serves something else, or
    /// where no HTTP client can be made.
    pub async fn connect(
        spec: ModelSpec,
        endpoint: Endpoint,
        options: Options,
    ) -> Result<Self, CallError> {
        let Dialect::Openai = spec.provider.dialect;
        let fatal = |e: Error| error(FailureKind::Fatal, e.code(), e.to_string());
        let spec = if spec.provider.loopback {
            discover(&endpoint, options).await?.fit(spec, &endpoint).map_err(fatal)?
        } else {
            spec
        };
        let model = spec.id.unwrap_or_default();
        Ok(Self {
            info: DeviceInfo {
                name: spec.name,
                model: model.clone(),
                window: spec.window,
                max_output: spec.max_output,
                prices: spec.prices,
                slots: spec.slots,
            },
            renderer: Renderer { model, quirks: spec.quirks, timeout: options.total },
            http: Http::new(endpoint, options).map_err(fatal)?,
        })
    }

    /// Where it is asked.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.http.endpoint
    }

    pub(crate) const fn renderer(&self) -> &Renderer {
        &self.renderer
    }

    async fn attempt(
        &self,
        rendered: &Rendered,
        request: &Request,
        progress: &dyn Progress,
    ) -> Result<Reply, CallError> {
        let endpoint = &self.http.endpoint;
        let url = endpoint.below("chat/completions");
        let incoming = self.http.send(Method::POST, &url, Some(rendered.body.to_vec())).await?;
        match incoming.status {
            200..=299 => {}
            300..=399 => return Err(self.redirected(incoming.header(LOCATION))),
            status => {
                let body = incoming.body.read_complaint().await;
                let model = &self.renderer.model;
                return Err(refused(endpoint, model, status, &incoming.headers, &body));
            }
        }
        let mut assembly = Assembly::default();
        let media = incoming.header(CONTENT_TYPE).to_ascii_lowercase();
        let outcome = if media.starts_with("text/event-stream") {
            self.read_stream(incoming.body, &mut assembly, progress).await
        } else {
            self.read_whole(incoming.body, &mut assembly, &media, progress).await
        };
        let usage = assembly.usage();
        let raw = outcome.map_err(|failure| CallError { usage, ..failure })?;
        let model = assembly.take_model();
        let (parts, stop) = assembly.finish(request);
        Ok(Reply { parts, stop, usage, model, raw: Some(raw.into()) })
    }

    async fn read_stream(
        &self,
        body: Body,
        assembly: &mut Assembly,
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
                    // Nothing that could still come would change the reply.
                    Err(_) if assembly.is_finished() => break,
                    Err(failure) => return Err(self.broken(failure)),
                };
                if data.trim() == DONE {
                    // The end of the body is mostly here already: it completes the raw reply and
                    // frees an encrypted connection for the next call. It is not worth a wait.
                    let _ = timeout(AFTER_DONE, events.next()).await;
                    break;
                }
                if !data.trim().is_empty() {
                    self.take(&data, assembly, progress)?;
                }
            }
        }
        if assembly.is_finished() {
            return Ok(raw);
        }
        let ended = "the stream ended without a finish reason".to_owned();
        Err(Break::Disconnected(ended).error(&self.http.endpoint.host()))
    }

    fn broken(&self, failure: sse_stream::Error) -> CallError {
        if let sse_stream::Error::Body(cause) = &failure
            && let Some(broken) = cause.downcast_ref::<Break>()
        {
            return broken.error(&self.http.endpoint.host());
        }
        self.malformed(&failure.to_string(), "")
    }

    async fn read_whole(
        &self,
        body: Body,
        assembly: &mut Assembly,
        media: &str,
        progress: &dyn Progress,
    ) -> Result<Vec<u8>, CallError> {
        let host = self.http.endpoint.host();
        let raw = body.read_all().await.map_err(|broken| broken.error(&host))?;
        progress.delta(Delta::FirstByte);
        let text = String::from_utf8_lossy(&raw);
        if !media.starts_with("application/json") {
            return Err(error(
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
        self.take(&text, assembly, progress)?;
        if assembly.is_finished() {
            return Ok(raw);
        }
        Err(self.malformed("the reply has no finish reason", &text))
    }

    /// Takes in one JSON text of a reply.
    fn take(
        &self,
        data: &str,
        assembly: &mut Assembly,
        progress: &dyn Progress,
    ) -> Result<(), CallError> {
        let endpoint = &self.http.endpoint;
        let chunk: Chunk = serde_json::from_str(data)
            .map_err(|problem| self.malformed(&problem.to_string(), data))?;
        // An error in mid-stream has no `choices`; older servers give it without `error` around.
        if (chunk.error.is_some() || chunk.choices.is_none())
            && let Some(complaint) = Complaint::read(data)
        {
            return Err(complained(endpoint, &self.renderer.model, &complaint));
        }
        assembly.push(chunk, progress);
        Ok(())
    }

    fn malformed(&self, problem: &str, data: &str) -> CallError {
        let endpoint = &self.http.endpoint;
        let host = endpoint.host();
        error(
            FailureKind::Transient,
            Code::LlmProtocol,
            format!(
                "{host} broke the protocol ({problem}): {}; if it goes on, it does not speak \
                 OpenAI's chat completions",
                quote(endpoint, data)
            ),
        )
    }

    fn redirected(&self, location: &str) -> CallError {
        // What stands behind the path may hold a token.
        let location = location.split(['?', '#']).next().unwrap_or_default();
        error(
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

impl Device for OpenAi {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn render(&self, request: &Request) -> Result<Rendered, RenderError> {
        self.renderer.render(request)
    }

    fn call<'a>(
        &'a self,
        rendered: &'a Rendered,
        request: &'a Request,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<Reply, CallError>> {
        Box::pin(async move {
            let attempt = self.attempt(rendered, request, progress);
            timeout(rendered.timeout, attempt).await.unwrap_or_else(|_| {
                Err(error(
                    FailureKind::Transient,
                    Code::LlmTransient,
                    format!(
                        "{} did not finish its reply within {} s; it may pass",
                        self.http.endpoint.host(),
                        rendered.timeout.as_secs()
                    ),
                ))
            })
        })
    }
}
