//! A model that fills a process with pages and then tells it to come back tomorrow.
//!
//! The first reply has as many parts as the process shall have pages; every later call is refused
//! for a day. So a process costs two calls, and then it is what most processes of a large machine
//! are: blocked, with a context.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aosk_abi::{Code, FailureKind};
use aosk_ports::{
    CallError, Device, DeviceInfo, Part, Progress, RenderError, Rendered, Reply, Request,
};
use futures::future::BoxFuture;

use crate::noop::{cut_off, free, rendered_as_nothing};

/// How long a refused process has to wait.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A device that answers once and refuses from then on.
pub struct Brake {
    info: DeviceInfo,
    pages: usize,
    answered: Mutex<HashSet<String>>,
}

impl Brake {
    /// A device of `slots` places whose first reply has `pages` parts.
    pub fn new(pages: usize, slots: usize) -> Self {
        Self { info: free("brake", 128 * 1024, slots), pages, answered: Mutex::default() }
    }

    fn is_first(&self, agent: &str) -> bool {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.insert(agent.to_owned())
    }
}

impl Device for Brake {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn render(&self, _: &Request) -> Result<Rendered, RenderError> {
        Ok(rendered_as_nothing())
    }

    fn call<'a>(
        &'a self,
        _: &'a Rendered,
        request: &'a Request,
        _: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<Reply, CallError>> {
        Box::pin(async move {
            if !self.is_first(&request.cache_key) {
                return Err(CallError {
                    // Not a throttling, which would pause the device for all.
                    kind: FailureKind::Transient,
                    code: Code::LlmTransient,
                    message: "come back tomorrow".into(),
                    retry_after: Some(DAY),
                    usage: None,
                });
            }
            let part = |number| {
                let text = format!("page {number} of {}", request.cache_key);
                Part::Text(text.into())
            };
            Ok(Reply { parts: (0..self.pages).map(part).collect(), ..cut_off("brake") })
        })
    }
}
