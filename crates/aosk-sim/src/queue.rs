//! Appends on their way to the disk, and the answers that they get.

use std::collections::HashMap;

use aosk_abi::{Pid, Tenant};
use aosk_ports::{Append, Committed, StoreError};
use tokio::sync::oneshot;

use crate::disk::{Fate, Platter};

/// An append that has no answer yet.
#[derive(Debug)]
pub(crate) struct Waiting {
    append: Append,
    ticket: oneshot::Sender<Result<Committed, StoreError>>,
}

/// What an append is answered.
#[derive(Debug)]
#[must_use = "whoever waits for it would wait for ever"]
pub(crate) struct Answer {
    result: Result<Committed, StoreError>,
    ticket: oneshot::Sender<Result<Committed, StoreError>>,
}

/// The processes whose appends are refused until everything that was queued is answered, and why.
/// What was queued before a refusal was heard was made in the belief that it would not come.
#[derive(Debug, Default)]
pub(crate) struct Refused(HashMap<(Tenant, Pid), StoreError>);

impl Waiting {
    pub(crate) const fn new(
        append: Append,
        ticket: oneshot::Sender<Result<Committed, StoreError>>,
    ) -> Self {
        Self { append, ticket }
    }

    /// Whether it is of that process.
    pub(crate) fn is_of(&self, pid: Pid) -> bool {
        self.append.pid == pid
    }

    /// The append, which nobody will hear of any more.
    pub(crate) fn abandon(self) -> Append {
        self.append
    }

    /// Brings it to its answer.
    pub(crate) fn finish(
        self,
        platter: &mut Platter,
        fate: &Fate,
        refused: &mut Refused,
    ) -> Answer {
        let Self { append, ticket } = self;
        let process = (append.tenant.clone(), append.pid);
        let result = match (fate, refused.0.get(&process)) {
            (Fate::Bad { error, durable }, _) => {
                if *durable {
                    drop(platter.commit(append));
                }
                Err(error.clone())
            }
            (_, Some(error)) => Err(error.clone()),
            (_, None) => platter.commit(append),
        };
        if let Err(error) = &result {
            refused.0.insert(process, error.clone());
        }
        Answer { result, ticket }
    }
}

impl Refused {
    /// Takes out of a queue what stands behind a rejected append.
    pub(crate) fn answer(&self, queue: &mut Vec<Waiting>) -> Vec<Answer> {
        let mut answers = Vec::new();
        for waiting in std::mem::take(queue) {
            let process = (waiting.append.tenant.clone(), waiting.append.pid);
            match self.0.get(&process) {
                None => queue.push(waiting),
                Some(error) => {
                    answers.push(Answer { result: Err(error.clone()), ticket: waiting.ticket });
                }
            }
        }
        answers
    }
}

impl Answer {
    /// Keeps it from whoever waits for it, for ever.
    pub(crate) fn forget(self) {
        std::mem::forget(self.ticket);
    }

    pub(crate) fn send(self) {
        // Nobody waits for a dropped ticket; its append is committed all the same.
        drop(self.ticket.send(self.result));
    }
}
