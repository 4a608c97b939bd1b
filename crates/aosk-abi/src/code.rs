//! Stable error codes. Each has a page under `docs/errors/`.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A stable error code such as `AOSK-S004`. The letter names the part (`S` store, `L`
        /// LLM, `K` kernel, `X` context, `T` tools, `C` command line and configuration, `A` words and event bytes);
        /// a code is never given a second meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code, in the order of the text.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as users see it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    /// An event cannot be encoded.
    EventEncode = "AOSK-A001",
    /// An event's version or kind is newer than this program.
    EventNewer = "AOSK-A002",
    /// An event's body is damaged.
    EventDamaged = "AOSK-A003",
    /// The hash chain of a process is broken.
    ChainBroken = "AOSK-A004",
    /// A manifest is malformed.
    Manifest = "AOSK-A005",

    /// The store's file cannot be opened or created.
    StoreOpen = "AOSK-S001",
    /// The store was written by a newer version.
    StoreNewerSchema = "AOSK-S002",
    /// The store's file is truncated or corrupted.
    StoreCorrupt = "AOSK-S003",
    /// The disk is full.
    StoreFull = "AOSK-S004",
    /// The store is read-only.
    StoreReadOnly = "AOSK-S005",
    /// Another kernel owns the store.
    StoreOwned = "AOSK-S006",
    /// An append carries a stale epoch: the process belongs to another kernel.
    StoreStaleEpoch = "AOSK-S007",
    /// An append does not continue the journal.
    StoreConflict = "AOSK-S008",
    /// A content that an event names is not in the store.
    StoreContentMissing = "AOSK-S009",
    /// No such process.
    StoreUnknownProcess = "AOSK-S010",
    /// The store answered with an input/output error.
    StoreIo = "AOSK-S011",
    /// The store was closed while the operation waited.
    StoreClosed = "AOSK-S012",
    /// The database server cannot be reached.
    StoreUnreachable = "AOSK-S013",
    /// The database server does not let this role in, or not do what a store needs.
    StoreAccess = "AOSK-S014",
    /// The database schema holds somebody else's tables.
    StoreForeign = "AOSK-S015",
    /// The address of the database is malformed.
    StoreAddress = "AOSK-S016",
    /// This node's lease has been given away.
    StoreLease = "AOSK-S017",
    /// The database has no vectors.
    StoreNoVectors = "AOSK-S018",
    /// A content is too long for one buffer.
    StoreContentLong = "AOSK-S020",
    /// A query or an item breaks a bound of the search index.
    SearchInput = "AOSK-S030",
    /// The search index was damaged and begins anew.
    SearchDamaged = "AOSK-S031",

    /// The model endpoint cannot be reached.
    LlmUnreachable = "AOSK-L001",
    /// The model endpoint refused the key.
    LlmAuth = "AOSK-L002",
    /// The model endpoint does not know the model.
    LlmUnknownModel = "AOSK-L003",
    /// The model endpoint refused the request.
    LlmBadRequest = "AOSK-L004",
    /// The prompt exceeds the model's context window.
    LlmContextLength = "AOSK-L005",
    /// The model endpoint limits the rate.
    LlmThrottled = "AOSK-L006",
    /// The model endpoint failed in a way that may pass.
    LlmTransient = "AOSK-L007",
    /// The reply breaks the protocol.
    LlmProtocol = "AOSK-L008",
    /// A table of models is malformed.
    LlmModelTable = "AOSK-L009",
    /// A recorded cassette has no reply for the request.
    LlmCassette = "AOSK-L010",
    /// The provider's quota of money is used up.
    LlmProviderQuota = "AOSK-L011",
    /// A model's tokenizer file cannot be used.
    LlmTokenizer = "AOSK-L012",
    /// An embedder made other vectors than it should.
    LlmEmbedding = "AOSK-L013",
    /// The folder of a sentence model cannot be used.
    LlmSentenceModel = "AOSK-L014",

    /// The pinned pages and the newest exchange exceed the window.
    ContextOverflow = "AOSK-X001",
    /// An invariant of the page table does not hold.
    ContextInvariant = "AOSK-X002",
    /// There is no page of that number.
    ContextPage = "AOSK-X003",

    /// A manifest names a tool that does not exist.
    KernelUnknownTool = "AOSK-K001",
    /// A manifest names a program that does not exist.
    KernelUnknownProgram = "AOSK-K002",
    /// A journal does not fold: its events contradict each other.
    KernelFold = "AOSK-K003",
    /// A process cannot be resumed.
    KernelNotResumable = "AOSK-K004",
    /// The spend limit does not cover the next call.
    KernelSpendLimit = "AOSK-K005",
    /// The task is unusable.
    KernelTask = "AOSK-K006",
    /// The kernel is shutting down.
    KernelStopping = "AOSK-K008",
    /// A program or a part of the kernel panicked.
    KernelPanic = "AOSK-K009",
    /// The model refused the task.
    KernelRefused = "AOSK-K010",
    /// A kernel cannot be started from what it was given.
    KernelSetup = "AOSK-K011",
    /// A quota that agents share has no room for a call, and no time brings it.
    KernelQuota = "AOSK-K012",

    /// A tool's workspace cannot be used.
    ToolWorkspace = "AOSK-T001",

    /// The command line is wrong.
    CliUsage = "AOSK-C001",
    /// A configuration file holds a wrong key or value.
    CliConfig = "AOSK-C002",
    /// A file named on the command line cannot be used.
    CliFile = "AOSK-C003",
    /// No model endpoint is configured.
    CliNoEndpoint = "AOSK-C004",
    /// A process id is ambiguous or unknown.
    CliPid = "AOSK-C005",
    /// The daemon cannot be started or reached.
    CliDaemon = "AOSK-C006",
    /// What is asked of a process does not fit its state.
    CliState = "AOSK-C007",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique() {
        let mut seen = std::collections::HashSet::new();
        assert!(Code::ALL.iter().all(|code| seen.insert(code.as_str())));
    }

    #[test]
    fn every_code_has_a_page_and_every_page_a_code() {
        let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors");
        let mut found: Vec<String> = std::fs::read_dir(pages)
            .expect("docs/errors")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
            .filter(|name| name.starts_with("AOSK-"))
            .collect();
        let mut expected: Vec<String> = Code::ALL.iter().map(|code| format!("{code}.md")).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }
}
