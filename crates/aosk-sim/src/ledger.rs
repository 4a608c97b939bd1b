//! The ledger: what tools did to the world.
//!
//! It is the world's own memory, so it survives every crash and is never asked what the kernel
//! thinks. An effect that happened is written here at the moment it happens; whether it happened
//! once, twice or never is then a matter of counting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aosk_abi::{Effect, Pid};
use aosk_ports::ToolContext;

/// The effects of tools. Clones are the same ledger.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<BTreeMap<String, Entry>>>);

/// What happened under one idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose call it was.
    pub pid: Pid,
    /// The tool.
    pub tool: String,
    /// What a repeated call does.
    pub effect: Effect,
    /// What it was called with, as JSON.
    pub arguments: String,
    /// How often a call with this key began.
    pub attempts: u64,
    /// How often it changed the world.
    pub effects: u64,
    /// Whether another process, tool or other arguments came with the same key.
    pub clash: bool,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything that happened, by idempotency key.
    #[must_use]
    pub fn entries(&self) -> BTreeMap<String, Entry> {
        self.lock().clone()
    }

    /// Shows everything that happened for one process.
    pub(crate) fn each(&self, pid: Pid, mut see: impl FnMut(&str, &Entry)) {
        let entries = self.lock();
        entries.iter().filter(|(_, entry)| entry.pid == pid).for_each(|(key, it)| see(key, it));
    }

    /// How often the world was changed under a key.
    pub(crate) fn effects(&self, key: &str) -> u64 {
        self.lock().get(key).map_or(0, |entry| entry.effects)
    }

    /// Notes that a call begins; which attempt under its key it is, the first being 1.
    pub(crate) fn begin(
        &self,
        context: &ToolContext,
        tool: &str,
        effect: Effect,
        arguments: &str,
    ) -> u64 {
        let mut entries = self.lock();
        let entry = entries.entry(context.idempotency_key.clone()).or_insert_with(|| Entry {
            pid: context.pid,
            tool: tool.to_owned(),
            effect,
            arguments: arguments.to_owned(),
            attempts: 0,
            effects: 0,
            clash: false,
        });
        entry.clash |=
            entry.pid != context.pid || entry.tool != tool || entry.arguments != arguments;
        entry.attempts += 1;
        entry.attempts
    }

    /// Changes the world under a key. An idempotent tool changes it once however often it is
    /// called; whether this call did is the answer.
    pub(crate) fn act(&self, key: &str) -> bool {
        self.lock().get_mut(key).is_some_and(|entry| {
            let acts = match entry.effect {
                Effect::Pure => false,
                Effect::Idempotent => entry.effects == 0,
                Effect::Unsafe => true,
            };
            entry.effects += u64::from(acts);
            acts
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
