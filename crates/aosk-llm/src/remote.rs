//! A model behind an endpoint, whatever dialect it speaks.

use std::sync::Arc;

use aosk_abi::{CacheRules, Code, FailureKind, Tokens};
use aosk_ports::{
    CallError, Demand, Device, DeviceInfo, Progress, RenderError, Rendered, Reply, Request,
    ServerLoad, Tokenizer,
};
use futures::future::BoxFuture;
use tokio::time::timeout;

use crate::counting::Counting;
use crate::discover::discover;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::exchange::Exchange;
use crate::failure::error;
use crate::http::{Http, Options};
use crate::load;
use crate::models::ModelSpec;
use crate::speech::Speech;
use crate::table::Dialect;
use crate::{anthropic, openai};

/// A model behind an endpoint: OpenAI's and Anthropic's own, and whatever speaks the dialect of
/// one of them. The table of models says which; whoever connects need not know.
#[derive(Debug, Clone)]
pub struct Remote {
    info: DeviceInfo,
    speech: Speech,
    http: Http,
    counting: Counting,
    tells_load: bool,
    kv_slots: Option<usize>,
}

impl Remote {
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
        let fatal = |e: Error| error(FailureKind::Fatal, e.code(), e.to_string());
        let endpoint = endpoint.speaking(spec.provider.dialect);
        let (spec, kv_slots) = if spec.provider.loopback {
            let served = discover(&endpoint, options).await?;
            // Its other dialects do not pass a slot on.
            let named = served.is_llama_cpp && spec.provider.dialect == Dialect::Openai;
            let slots = served.slots.filter(|_| named);
            (served.fit(spec, &endpoint).map_err(fatal)?, slots)
        } else {
            (spec, None)
        };
        // Whoever stands elsewhere in place of the provider may refuse a mark that it does not know.
        let long = spec.quirks.cache_long.filter(|_| endpoint.is_of(&spec.provider));
        let model = spec.id.unwrap_or_default();
        Ok(Self {
            info: DeviceInfo {
                name: spec.name,
                model: model.clone(),
                window: spec.window,
                max_output: spec.max_output,
                prices: spec.prices,
                slots: spec.slots,
                cache: CacheRules {
                    // The dialect of those who keep what is marked; a server here keeps everything.
                    marked: spec.provider.dialect == Dialect::Anthropic && !spec.provider.loopback,
                    minimum: Tokens(spec.quirks.cache_minimum.into()),
                    ttl_ms: spec.quirks.cache.map(|life| life.as_secs() * 1_000),
                    long_ttl_ms: long.map(|life| life.as_secs() * 1_000),
                },
            },
            speech: Speech {
                dialect: spec.provider.dialect,
                model,
                quirks: spec.quirks,
                timeout: options.total,
            },
            http: Http::new(endpoint, options).map_err(fatal)?,
            counting: spec.tokenizer.unwrap_or(Counting::Estimate),
            tells_load: spec.provider.metrics,
            kv_slots,
        })
    }

    /// Where it is asked.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.http.endpoint
    }

    /// What counts its tokens, having observed nothing: the vocabulary that the table names, the
    /// server where it is llama.cpp's, or an estimator.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where a file of the table cannot be used, [`Error::Client`].
    pub fn tokenizer(&self) -> Result<Arc<dyn Tokenizer>, Error> {
        self.counting.tokenizer(&self.http.endpoint, &self.info.model)
    }

    pub(crate) const fn speech(&self) -> &Speech {
        &self.speech
    }

    async fn attempt(
        &self,
        rendered: &Rendered,
        request: &Request,
        progress: &dyn Progress,
    ) -> Result<Reply, CallError> {
        let (http, model) = (&self.http, self.info.model.as_str());
        match self.speech.dialect {
            Dialect::Openai => {
                Exchange { http, path: openai::PATH, headers: &[], model }
                    .run::<openai::Assembly>(rendered, request, progress)
                    .await
            }
            Dialect::Anthropic => {
                let headers = anthropic::headers(&self.speech.quirks);
                Exchange { http, path: anthropic::PATH, headers, model }
                    .run::<anthropic::Assembly>(rendered, request, progress)
                    .await
            }
        }
    }
}

impl Device for Remote {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn accepts(&self, demand: &Demand<'_>) -> Result<(), RenderError> {
        self.speech.accepts(demand)
    }

    fn render(&self, request: &Request) -> Result<Rendered, RenderError> {
        self.speech.render(request)
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

    fn kv_slots(&self) -> Option<usize> {
        self.kv_slots
    }

    fn load(&self) -> Option<BoxFuture<'_, Option<ServerLoad>>> {
        self.tells_load.then(|| Box::pin(load::ask(&self.http)) as BoxFuture<'_, _>)
    }
}
