//! The kernel: process table, step loop, recovery.
//!
//! 1. **Nothing happens to a process except through an event in its journal.** An [`Image`] is the
//!    fold of those events, and the step loop does what the image says is next.
//! 2. **Intent before effect, outcome after.** A model call or tool call is durable as an intent
//!    before it begins and as an outcome before anything else is done with it.
//! 3. **Decisions are recorded, never remade.** What is resident, which attempt, what it may cost:
//!    events.
//! 4. **The kernel knows ports, not devices.** Store, model, tools, clock and randomness come in
//!    as [`Parts`]; the simulator and the binary differ in nothing else.
//! 5. **Retries are the kernel's.** A device makes one attempt; waiting and trying again is
//!    journaled, and the device's slot is free meanwhile.
//!
//! ```
//! use aosk_kernel::{Redactor, REDACTED};
//!
//! // What comes in from outside is cleaned of the kernel's secrets before it is hashed.
//! let secrets = Redactor::new(["sk-live-0123456789"]);
//! assert_eq!(secrets.text("bad key sk-live-0123456789"), format!("bad key {REDACTED}"));
//! ```

mod books;
mod budget;
mod contents;
mod dispatch;
mod driver;
mod errands;
mod error;
mod flight;
mod image;
mod kernel;
mod kv_slots;
mod load;
mod names;
mod observe;
mod options;
mod process;
mod program;
mod react;
mod redact;
mod shared;
mod standing;
mod system;

pub use aosk_context::Warmth;
pub use driver::Outcome;
pub use error::Error;
pub use image::{
    Account, Action, CHECKPOINT_VERSION, Child, End, FoldError, Image, Letter, Mailbox, Pending,
    Saved, Shape, Transcript, Waits,
};
pub use kernel::{Kernel, Spawn};
pub use load::load;
pub use names::{KERNEL_TOOLS, PROGRAMS, policies};
pub use observe::{Notice, Observer, Warned};
pub use options::{Connect, Model, OpenSandbox, Options, Parts, Retry};
pub use program::Program;
pub use react::React;
pub use redact::{REDACTED, Redactor};
pub use shared::Stop;
pub use standing::{
    CircuitStanding, DeviceStanding, LimitStanding, ProcessStanding, QuotaStanding, ServerStanding,
    Serves, Standings,
};
pub use system::{OsRandom, SystemClock};
