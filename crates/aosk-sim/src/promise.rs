//! Promises: what a simulation holds a kernel to.
//!
//! The names are those of the invariants of `ARCHITECTURE.md`. A broken one is found under its
//! name, so that a failing seed is shrunk to the same failure and not to another one that it met
//! on the way.

use std::fmt;

macro_rules! promises {
    ($($name:ident $text:literal;)*) => {
        /// Something that must hold after every event, in every life.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Promise {
            $(#[doc = $text] $name,)*
        }

        impl Promise {
            /// Every promise.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }

        impl fmt::Display for Promise {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$name => $text,)*
                })
            }
        }
    };
}

promises! {
    Chain "a journal is one unbroken chain";
    Acknowledged "acknowledged is durable";
    Fenced "a stale epoch never appends";
    Fold "the state is the fold of the events, whole or from any checkpoint";
    Lists "lists show the fold";
    Contents "an event and the contents that it names are committed together";
    Intent "an intent is durable before its effect begins";
    UnsafeOnce "an unsafe effect happens at most once";
    IdempotentOnce "an idempotent effect happens once a key, and a call has one key";
    Outcome "an outcome is what came of its own call";
    Retried "a call is tried again as often and as late as it may be";
    Fallback "another model is asked only where one fails for good, and the journal says which";
    InboxOnce "a message is taken over once";
    InboxKept "a message that was posted is not lost";
    Planned "what is sent is what was planned";
    Prefix "within a generation each prompt begins with the one before it";
    Window "a prompt with its reply never exceeds the window";
    Limit "no call is begun that could pass the spend limit";
    Shared "no call is begun that could pass a budget which all lives share";
    Counted "what is spent is what the events say";
    Billed "what is spent is never less than what will be billed";
    Charged "a call is charged what it cost";
    Begun "a child is begun once, with no more than it was to have";
    Reaped "the end of a child is told to its parent once, as it was";
    Steps "no process makes more steps than it may";
    Restarts "a process begins again only as its manifest asks";
    Rests "who has ended, is stopped or waits for somebody begins nothing";
    Reviewed "who crashes twice in a row waits for a person";
    Slots "no call runs beyond a device's slots";
    Waits "a process that does nothing says what it waits for";
    Ends "every process comes to its end";
    Stops "a graceful stop comes within 5 seconds";
    Explained "what fails has a cause in the world";
}
