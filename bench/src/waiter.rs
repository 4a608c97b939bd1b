//! A model that fills a process with pages and then waits for a message.
//!
//! The first reply has as many parts as the process shall have pages; it and every later one calls
//! `receive`. So a process costs one call, and then it is what most processes of a large machine
//! are: blocked, with a context. A refusal of the call would block it too, and with it all others: an
//! endpoint that refuses everybody is left alone.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use aosk_abi::StopReason;
use aosk_ports::{
    CallError, Device, DeviceInfo, Part, Progress, RenderError, Rendered, Reply, Request,
};
use futures::future::BoxFuture;

use crate::noop::{cut_off, free, rendered_as_nothing};

/// What its agents are: they may receive.
pub const MANIFEST: &str = "name = \"waiter\"\ntools = [\"receive\"]\n";

/// A device that waits for messages.
pub struct Waiter {
    info: DeviceInfo,
    pages: usize,
    answered: Mutex<HashSet<String>>,
}

impl Waiter {
    /// A device of `slots` places whose first reply has `pages` parts.
    pub fn new(pages: usize, slots: usize) -> Self {
        Self { info: free("waiter", 128 * 1024, slots), pages, answered: Mutex::default() }
    }

    fn is_first(&self, agent: &str) -> bool {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.insert(agent.to_owned())
    }
}

impl Device for Waiter {
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
            let pages = if self.is_first(&request.cache_key) { self.pages } else { 0 };
            let page =
                |number| Part::Text(format!("page {number} of {}", request.cache_key).into());
            let receive = Part::ToolCall {
                id: "receive".into(),
                name: "receive".into(),
                arguments: "{}".into(),
            };
            Ok(Reply {
                parts: (0..pages).map(page).chain([receive]).collect(),
                stop: StopReason::ToolCalls,
                ..cut_off("waiter")
            })
        })
    }
}
