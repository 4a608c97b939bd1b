//! The image of a process: the fold of its events.
//!
//! Nothing changes an image but [`Image::apply`], so an image is what its journal says, whether it
//! was built by running, by recovering or from a checkpoint. It holds no texts, only their hashes,
//! which keeps it small (about 200 bytes a message) and lets it be folded without reading blobs.

mod account;
mod apply;
mod checkpoint;
mod history;
mod kin;
mod mailbox;
mod pending;
mod transcript;
mod wire;

use std::collections::BTreeMap;

use aosk_abi::{
    BlockedOn, Conditions, Epoch, Hash, Limits, Op, Pid, Planned, Priority, ProcessState, Seq,
    Spawned, Step, Stub, Tenant, Timestamp, Tokens, Usage,
};
use aosk_context::{Arrival, PageTable, Warmth};
use aosk_ports::ProcessRow;
use serde::{Deserialize, Serialize};

pub use account::Account;
pub use apply::FoldError;
pub use checkpoint::{CHECKPOINT_VERSION, Saved};
pub use kin::{Child, End};
pub use mailbox::{Letter, Mailbox};
pub use pending::{Action, Pending};
pub use transcript::{Shape, Transcript};

use crate::program::Running;

/// The state of a process, made from its events alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Whose process it is.
    pub tenant: Tenant,
    /// Which.
    pub pid: Pid,
    /// What it was spawned as.
    pub spawned: Spawned,
    /// When it was spawned.
    pub created: Timestamp,
    /// When its last event happened.
    pub updated: Timestamp,
    /// Where the next event stands.
    pub next: Seq,
    /// The chain's link after the last event.
    pub head: Hash,
    /// The epoch of the last event.
    pub epoch: Epoch,
    /// Where it stands.
    pub state: ProcessState,
    /// Steps begun.
    pub step: Step,
    /// Steps begun before the program last began: a limit of steps counts from here.
    pub began_at: Step,
    /// How often the program ended and began again by itself.
    pub restarts: u64,
    /// Whether a user took it up again after it had ended: then it is nobody's child any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// How often the kernel fell over while it executed the process, since that last got on.
    pub crashes: u64,
    /// The model that it asks now: the one it was spawned with, or an alternative to it.
    pub model: String,
    /// How important it is now.
    pub priority: Priority,
    /// What it and all that descend from it may use, but for its money in all, where that was changed
    /// since it was spawned; absent: what its manifest says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Limits>,
    /// What it used and spent.
    pub account: Account,
    /// Its pages; a checkpoint keeps them apart.
    #[serde(skip)]
    pub pages: PageTable,
    /// What its messages are made of; a checkpoint keeps it apart.
    #[serde(skip)]
    pub transcript: Transcript,
    /// When the model that it asks now last answered it.
    #[serde(default)]
    pub answered: Option<Timestamp>,
    /// What its endpoint holds of its prompts.
    #[serde(default)]
    pub warmth: Warmth,
    /// How many pages there had been when some last left, those that came with that plan included.
    #[serde(default)]
    pub settled: usize,
    /// How many pages there were at the newest call that was answered and asked its endpoint to keep
    /// long what it wrote; 0 where none did, or where one of them has left.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lasting: usize,
    /// What the prompt says of the pages that have left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stubs: Vec<Stub>,
    /// Contents that no plan has admitted yet, in journal order.
    pub arrivals: Vec<Arrival>,
    /// What the newest plan was made under.
    pub conditions: Option<Conditions>,
    /// The plan of the model call that is outstanding, and when it was made.
    pub plan: Option<(Timestamp, Planned)>,
    /// The number of the next syscall.
    pub next_op: Op,
    /// Syscalls without an outcome.
    pub pending: BTreeMap<Op, Pending>,
    /// The tool call that the process waits in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Waits>,
    /// Messages of other processes.
    #[serde(default, skip_serializing_if = "Mailbox::is_new")]
    pub mailbox: Mailbox,
    /// The processes that it spawned.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub children: BTreeMap<Pid, Child>,
    program: Running,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
const fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// A tool call that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// The call.
    pub op: Op,
    /// For what.
    pub on: BlockedOn,
    /// Since when.
    pub since: Timestamp,
    /// Whether the user has written meanwhile, which ends the wait.
    pub spoken_to: bool,
}

impl Image {
    /// Who it descends from; nobody where a user took it up again after it had ended.
    #[must_use]
    pub fn parent(&self) -> Option<Pid> {
        self.spawned.parent.filter(|_| !self.adopted)
    }

    /// The process with whose end it ends, while it lives.
    pub(crate) fn lives_with(&self) -> Option<Pid> {
        self.parent().filter(|_| !self.state.is_final())
    }

    /// What lists show of the process: of what it wrote to caches all together, whatever the life.
    #[must_use]
    pub fn row(&self) -> ProcessRow {
        ProcessRow {
            name: self.spawned.name.clone(),
            model: self.model.clone(),
            state: self.state.clone(),
            steps: self.step.0,
            usage: Usage { cache_write_long: Tokens::ZERO, ..self.account.usage },
            spent: self.account.spent(),
            created: self.created,
            updated: self.updated,
        }
    }
}
