//! A simulated world for the kernel: disk, clock, model and tools that fail by seed.
//!
//! 1. **One seed, one history.** Every choice is drawn from streams that the seed names; time is
//!    virtual; one thread runs everything. A failing seed fails again.
//! 2. **The real kernel.** [`simulate`] boots the kernel of the binary, life after life, and holds
//!    what it left on the disk against what it promised.
//! 3. **The model store is obviously right.** [`MemoryStore`] keeps the promises of the store
//!    ports in the plainest way, so that real stores can be judged against it.
//! 4. **A crash gives nobody a last word.** [`Power`] is cut, and from then on no device answers.
//! 5. **The world remembers by itself.** A [`Disk`], a [`Ledger`] and a [`SimModel`] outlive every
//!    machine that uses them; what the kernel claims is compared with what they saw.
//!
//! A machine to which everything happens, to the end of its last process:
//!
//! ```
//! use aosk_sim::{Scenario, simulate};
//!
//! let report = simulate(7, &Scenario { agents: 2, ..Scenario::rough() });
//! assert!(report.is_clean(), "{report}");
//! ```
//!
//! What is checked are [`Promise`]s; that the checks see anything is tried with [`Flaw`]s. A failing
//! seed is made small by [`shrink`]. A line of its trace is the machine's number, the virtual time,
//! the process and what happened; a number before an event is its place in the journal when a
//! kernel *made* it, and `durable up to n` is what a kernel was told. `docs/simulation.md` says
//! more of it, and of `./x sim`.
//!
//! A store whose machine dies at once keeps nothing that it did not acknowledge:
//!
//! ```
//! use aosk_abi::Tenant;
//! use aosk_ports::{Journal as _, ProcessFilter};
//! use aosk_sim::{Disk, DiskFaults, MemoryStore, Power};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let disk = Disk::new(42);
//! let store = MemoryStore::open(&disk, DiskFaults::rough(), Power::on());
//! store.crash();
//! let again = MemoryStore::open(&disk, DiskFaults::calm(), Power::on());
//! assert!(again.processes(&Tenant::local(), ProcessFilter::All).await?.is_empty());
//! # Ok::<(), aosk_ports::StoreError>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod clock;
mod dice;
mod disk;
mod fail_points;
mod faults;
mod flaw;
mod image;
mod lease;
mod ledger;
mod model;
mod power;
mod promise;
mod prompt;
mod queue;
mod random;
mod simulation;
mod speech;
mod store;
mod sweep;
mod tokens;
mod tools;

pub use clock::SimClock;
pub use dice::Chance;
pub use disk::Disk;
pub use fail_points::{FailPoints, Mishap};
pub use faults::{DiskFaults, FaultPlan, ModelFaults, ToolFaults};
pub use flaw::Flaw;
pub use ledger::{Entry, Ledger};
pub use model::{Conversation, SimModel};
pub use power::Power;
pub use promise::Promise;
pub use random::SeededRandom;
pub use simulation::{Line, Report, Scenario, Shrunk, Violation, shrink, simulate};
pub use store::MemoryStore;
pub use sweep::{PATIENCE, regressions, sweep};
pub use tokens::SimTokenizer;
pub use tools::SimTool;
