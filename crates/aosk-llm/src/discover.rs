//! What a server on this machine serves.
//!
//! A local server is started with some model, some window and some number of slots, and nobody
//! writes them into a table. `GET {base}/models` names the models (`{base}/v1/models` where the
//! base is Anthropic's); vLLM tells each window there, llama.cpp tells it there too and, by slot, in
//! `GET /props`, with the number of slots. What a server does not tell keeps the value of the table.

use aosk_abi::{Code, FailureKind, Tokens};
use aosk_ports::CallError;
use reqwest::Method;
use serde::Deserialize;
use tokio::time::timeout;

use crate::counting::Counting;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::failure::{error, quote, refused, unbilled};
use crate::http::{Http, Options};
use crate::models::ModelSpec;
use crate::table::nearest;

/// Which part of a window a reply takes at most, where the table's `max_output` would take more.
const OUTPUT_SHARE: u64 = 4;

/// A model that a server serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// What the server calls it.
    pub id: String,
    /// Its window, for one call, if the server tells.
    pub window: Option<Tokens>,
}

/// What a server serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovery {
    /// Its models, in its order.
    pub models: Vec<Served>,
    /// How many calls it takes at once, if it tells.
    pub slots: Option<usize>,
    /// Whether it is llama.cpp's, which counts tokens for whoever asks and lets calls name a slot.
    pub is_llama_cpp: bool,
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    max_model_len: Option<u64>,
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    n_ctx: Option<u64>,
}

#[derive(Deserialize)]
struct Props {
    total_slots: Option<usize>,
    default_generation_settings: Option<Meta>,
}

/// Asks the server at `endpoint` what it serves.
///
/// # Errors
/// [`CallError`] where it does not answer, not within [`Options::total`] in all, refuses the key, or
/// answers with something else than a list of models.
pub async fn discover(endpoint: &Endpoint, options: Options) -> Result<Discovery, CallError> {
    timeout(options.total, look(endpoint, options)).await.unwrap_or_else(|_| {
        Err(unbilled(
            FailureKind::Transient,
            Code::LlmTransient,
            format!(
                "{} did not finish its list of models within {} s; if it goes on, start the model \
                 server anew",
                endpoint.host(),
                options.total.as_secs()
            ),
        ))
    })
}

async fn look(endpoint: &Endpoint, options: Options) -> Result<Discovery, CallError> {
    let http = Http::new(endpoint.clone(), options)
        .map_err(|e| error(FailureKind::Fatal, e.code(), e.to_string()))?;
    let list = match get(&http, &endpoint.below(endpoint.models())).await? {
        Answer::Ok(body) => body,
        Answer::Refused(error) => return Err(error),
    };
    let list: ModelList = serde_json::from_str(&list).map_err(|problem| {
        error(
            FailureKind::Fatal,
            Code::LlmProtocol,
            format!(
                "{} does not list models ({problem}): {}; check that the base URL is the one of \
                 the API",
                endpoint.below(endpoint.models()),
                quote(endpoint, &list)
            ),
        )
    })?;
    // Only llama.cpp has it; every other server answers 404.
    let props: Option<Props> = match get(&http, &endpoint.at_root("props")).await? {
        Answer::Ok(body) => serde_json::from_str(&body).ok(),
        Answer::Refused(_) => None,
    };
    let by_slot = props
        .as_ref()
        .and_then(|props| props.default_generation_settings.as_ref())
        .and_then(|settings| settings.n_ctx);
    let models = list
        .data
        .into_iter()
        .map(|model| Served {
            window: by_slot
                .or(model.max_model_len)
                .or(model.meta.and_then(|meta| meta.n_ctx))
                .filter(|window| *window > 0)
                .map(Tokens),
            id: model.id,
        })
        .collect();
    let is_llama_cpp = props.is_some();
    let slots = props.and_then(|props| props.total_slots).filter(|slots| *slots > 0);
    Ok(Discovery { models, slots, is_llama_cpp })
}

enum Answer {
    Ok(String),
    Refused(CallError),
}

async fn get(http: &Http, url: &str) -> Result<Answer, CallError> {
    let incoming = http.send(Method::GET, url, &[], None).await?;
    if !(200..300).contains(&incoming.status) {
        let (status, headers) = (incoming.status, incoming.headers);
        let body = incoming.body.read_complaint().await;
        return Ok(Answer::Refused(refused(&http.endpoint, "", status, &headers, &body)));
    }
    let host = http.endpoint.host();
    let raw = incoming.body.read_all().await.map_err(|broken| broken.error(&host))?;
    Ok(Answer::Ok(String::from_utf8_lossy(&raw).into_owned()))
}

impl Discovery {
    /// `spec` with what the server tells. A spec without an id takes the only model; a reply takes
    /// at most a quarter of a window that turned out to be small.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] where the server serves none or several and the spec names none.
    pub(crate) fn fit(self, mut spec: ModelSpec, endpoint: &Endpoint) -> Result<ModelSpec, Error> {
        let unknown = |hint| Error::UnknownModel { name: spec.name.clone(), hint };
        let base = endpoint.base();
        let ids = || self.models.iter().map(|model| model.id.as_str());
        let all = || ids().collect::<Vec<_>>().join(", ");
        let named = |id: &String| self.models.iter().find(|model| model.id == *id);
        let served = match (&spec.id, self.models.as_slice()) {
            (None, []) => return Err(unknown(format!("{base} serves no model"))),
            (Some(_), []) => None,
            // llama.cpp answers under any name with the one model that it has.
            (_, [only]) => Some(only),
            (None, _) => return Err(unknown(format!("name one that {base} serves: {}", all()))),
            (Some(id), _) => match (named(id), nearest(id, ids())) {
                (Some(served), _) => Some(served),
                (None, Some(near)) => {
                    let hint = format!("did you mean {near:?}? {base} serves {}", all());
                    return Err(unknown(hint));
                }
                (None, None) => return Err(unknown(format!("{base} serves {}", all()))),
            },
        };
        if let Some(served) = served {
            spec.id.get_or_insert_with(|| served.id.clone());
            if let Some(window) = served.window {
                spec.window = window;
                spec.max_output = spec.max_output.min(Tokens((window.0 / OUTPUT_SHARE).max(1)));
            }
        }
        if let Some(slots) = self.slots {
            spec.slots = slots;
        }
        if self.is_llama_cpp {
            spec.tokenizer.get_or_insert(Counting::Server);
        }
        Ok(spec)
    }
}
