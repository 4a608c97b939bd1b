//! Flaws: doubles of the world's parts that break one promise each.
//!
//! A check that never failed may check nothing. Each flaw stands for a mistake that a store, a
//! device or the kernel's use of them could hold; a suite that claims to find such mistakes has to
//! find this one. They are part of the simulated world, so no flaw can reach the binary.

use std::fmt;

use crate::promise::Promise;

macro_rules! flaws {
    ($($(#[doc = $doc:literal])* $name:ident $text:literal $promise:ident;)*) => {
        /// A mistake that is made on purpose.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Flaw {
            $($(#[doc = $doc])* $name,)*
        }

        impl Flaw {
            /// Every flaw.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The promise that it breaks.
            #[must_use]
            pub const fn breaks(self) -> Promise {
                match self {
                    $(Self::$name => Promise::$promise,)*
                }
            }
        }
    };
}

flaws! {
    /// The wait for the intent of a tool call ends before the intent is durable.
    EagerTool "eager-tool" Intent;
    /// The wait for the intent of a model call ends before the intent is durable.
    EagerCall "eager-call" Intent;
    /// The store acknowledges what is only queued.
    EarlyAnswer "early-answer" Acknowledged;
    /// A crash takes the newest append of a process with it, acknowledged or not.
    LostAppend "lost-append" Acknowledged;
    /// A crash leaves the first event of an append of several, with the row of all.
    TornAppend "torn-append" Lists;
    /// The store takes appends of any epoch.
    ForgottenEpoch "forgotten-epoch" Fenced;
    /// A crash alters a byte of the newest event of each process.
    AlteredEvent "altered-event" Chain;
    /// The store takes what was queued behind a refused append, wherever it stands.
    ForgottenPlace "forgotten-place" Chain;
    /// The store keeps no small content beside its events.
    ForgottenContent "forgotten-content" Contents;
    /// Lists keep what the first append said.
    StaleRow "stale-row" Lists;
    /// A checkpoint comes back with another amount spent.
    WrongCheckpoint "wrong-checkpoint" Fold;
    /// An item of the inbox stays there when it was taken over.
    RepeatedItem "repeated-item" InboxOnce;
    /// A crash empties the inbox.
    LostItem "lost-item" InboxKept;
    /// A tool that acts each time says that it acts once a key.
    BoldTool "bold-tool" UnsafeOnce;
    /// Each attempt of a tool call has a key of its own.
    FreshKeys "fresh-keys" IdempotentOnce;
    /// The prompt begins with the number of its messages.
    VolatileHead "volatile-head" Prefix;
    /// The tokenizer counts too little and says that it does not.
    ShortCount "short-count" Billed;
    /// The kernel believes that the window is larger by a half.
    WideWindow "wide-window" Window;
    /// The kernel believes that calls cost half.
    HalfPrices "half-prices" Billed;
    /// The kernel believes that the model has a slot more.
    ExtraSlot "extra-slot" Slots;
    /// Now and then nobody is told that an append is durable.
    LostWakeup "lost-wakeup" Waits;
    /// An append takes everything over that waits for its process, heard or not.
    SwallowedItem "swallowed-item" InboxKept;
    /// The store says that it will tell what is posted, and never does.
    DeafKernel "deaf-kernel" InboxKept;
    /// A tool call is answered with what the machine's tools gave before.
    CrossedResults "crossed-results" Outcome;
    /// A reply loses its last part on its way.
    AlteredReply "altered-reply" Outcome;
    /// A call sends the prompt that the conversation's last call sent.
    StalePrompt "stale-prompt" Planned;
    /// The kernel believes that agents may spend ten times as much.
    RaisedLimit "raised-limit" Limit;
    /// The kernel believes that those whom agents begin may spend ten times as much.
    RichHelper "rich-helper" Begun;
    /// Lists say that who has ended spent nothing.
    UnpaidEnd "unpaid-end" Reaped;
    /// The kernel believes that its run may spend a hundred times as much.
    LooseBudget "loose-budget" Limit;
    /// The store grants what is drawn of a budget and does not keep it.
    ForgottenDraw "forgotten-draw" Shared;
    /// A checkpoint comes back as if nothing had been spent.
    LostCost "lost-cost" Counted;
    /// The kernel believes that agents may make a step more.
    EndlessSteps "endless-steps" Steps;
    /// Now and then an alarm never rings.
    ForgottenAlarm "forgotten-alarm" Ends;
    /// The kernel believes that a stop may take a minute.
    SlowStop "slow-stop" Stops;
    /// What the endpoint refuses comes with the code of another failure.
    OddCode "odd-code" Explained;
    /// The kernel believes that calls cost double.
    DoublePrices "double-prices" Charged;
    /// The kernel does not hear when the endpoint wants to be asked again.
    HastyRetry "hasty-retry" Retried;
    /// The kernel believes that a call may be tried no more than twice.
    ShortRetry "short-retry" Retried;
    /// Alarms ring after half their time.
    HastyAlarm "hasty-alarm" Retried;
    /// The name of the second model leads to the first.
    WrongModel "wrong-model" Fallback;
    /// The kernel believes that every agent is to begin again once more.
    EagerRestart "eager-restart" Restarts;
    /// A call stands on the wire for ten seconds before it leaves.
    LateCall "late-call" Rests;
    /// A checkpoint comes back as if the kernel had never fallen over.
    ForgottenCrash "forgotten-crash" Reviewed;
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
