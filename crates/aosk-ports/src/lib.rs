//! The ports of the kernel: object-safe traits for everything that touches the world.
//!
//! 1. **The kernel knows ports, never devices.** The binary wires real devices in; the simulator
//!    wires in faulty ones. What a port promises stands here; a conformance suite or a test with
//!    the real thing holds each implementor to it.
//! 2. **One attempt per call.** A [`Device`] answers once; retries are the kernel's, because they
//!    are journaled.
//! 3. **Enqueue, then wait.** [`Store::append`](JournalWriter::append) queues and returns a
//!    [`Ticket`]; awaiting the ticket awaits durability; dropping it cancels nothing.
//! 4. **Time and randomness are inputs.** Nothing reads a clock but through [`Clock`].

mod budgets;
mod clock;
mod content;
mod device;
mod embedder;
mod flight;
mod memory;
mod retriever;
mod sandbox;
mod store;
mod tokenizer;
mod tool;
mod window;

pub use budgets::{Budgets, Draw, Drawn};
pub use clock::{Clock, Random};
pub use content::{ContentReader, ContentStore, ContentWriter, HOLD};
pub use device::{
    CallError, Delta, Demand, Device, DeviceInfo, Message, Part, Prices, Progress, RateLimit,
    RateLimits, RenderError, Rendered, Reply, Request, ServerLoad,
};
pub use embedder::{Embedded, Embedder, Embedding};
pub use flight::FlightRecorder;
pub use memory::Memory;
pub use retriever::{
    Batch, Coverage, Cursor, Entry, Filter, Followed, Found, Hit, Item, Means, MemoryName,
    MemoryNameError, Origin, Query, Retriever, Space,
};
pub use sandbox::{DirEntry, EntryKind, Listing, Sandbox, SandboxError};
pub use store::{
    Append, Checkpoint, Committed, Inbox, InboxId, InboxItem, Journal, JournalWriter, Leases,
    Posted, ProcessFilter, ProcessRow, Receipt, Standing, Store, StoreError, Stretch, Ticket,
};
pub use tokenizer::Tokenizer;
pub use tool::{Tool, ToolContext};
pub use window::CLOCK_STEP;
