//! The route of a process's calls: which model each goes to, and why it goes to another.

use aosk_abi::{Code, FailureKind, LlmFailed, What};

use super::book::Broken;
use crate::promise::Promise;

/// Which model a process asks.
#[derive(Debug)]
pub(super) struct Route {
    /// The model that it was spawned with, and those that may be asked instead, in order.
    models: Vec<String>,
    at: usize,
}

impl Route {
    pub(super) const fn new(models: Vec<String>) -> Self {
        Self { models, at: 0 }
    }

    /// Takes an event in; `begins` says that with it the program begins again.
    pub(super) fn hear(&mut self, what: &What, begins: bool, broken: &mut Broken) {
        if begins {
            self.at = 0;
        }
        match what {
            What::LlmRequested(asked) if !self.leads_to(&asked.device) => {
                let (op, device) = (asked.op, &asked.device);
                let what = format!("{op} is to go to {device} instead of {:?}", self.model());
                broken.push((Promise::Fallback, what));
            }
            What::LlmFailed(failed) => self.failed(failed, broken),
            What::Routed(routed) => {
                let behind = self.models.iter().skip(self.at + 1);
                match behind.zip(self.at + 1..).find(|(model, _)| **model == routed.model) {
                    Some((_, at)) => self.at = at,
                    None => {
                        let (op, model) = (routed.op, &routed.model);
                        let what = format!("{op} is sent to {model}, which is not the next");
                        broken.push((Promise::Fallback, what));
                    }
                }
            }
            _ => {}
        }
    }

    fn failed(&mut self, failed: &LlmFailed, broken: &mut Broken) {
        let Some(next) = &failed.next else {
            return;
        };
        // What is wrong with the request is wrong with it everywhere.
        let of_the_request = failed.failure == FailureKind::ContextLength
            || failed.code == Code::LlmBadRequest.as_str();
        self.at += 1;
        if of_the_request || self.model() != Some(next) {
            let (op, code) = (failed.op, &failed.code);
            let what = format!("{op} goes on with {next:?} after {code}");
            broken.push((Promise::Fallback, what));
        }
    }

    /// Whether a call that comes to a model is on its way there.
    pub(super) fn leads_to(&self, device: &str) -> bool {
        self.model().is_some_and(|model| model == device)
    }

    fn model(&self) -> Option<&String> {
        self.models.get(self.at)
    }
}
