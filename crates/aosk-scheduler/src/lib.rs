//! Which process makes the next model call.
//!
//! A model call is a black box: it cannot be interrupted, what it costs is known only when it
//! ends, and what its endpoint lets through is a set of limits that move. A *pool* is what has
//! such limits: one model of one provider under one credential. The scheduler is start-time fair
//! queueing in front of such a box (SFQ(D): Jin, Chase, Kaur, *Interposed proportional sharing for
//! a storage service utility*, SIGMETRICS 2004), over a tree of tenants, groups and processes, with
//! each call charged by an estimate when it starts and settled when it ends. It does no I/O and
//! reads no clock; a decision takes O(log n) time. Its principles:
//!
//! 1. **A share is a promise with a bound.** While two tenants, or two groups of one tenant, wait
//!    without a break, what they were charged differs from their weights by a constant that does
//!    not grow with time. The bounds and their proofs stand with [`Scheduler`].
//! 2. **Fair between owners, fast inside.** Inside a group the order is a policy ([`Order`]): by
//!    predicted size, so that short calls do not wait for long ones, unless another is chosen.
//! 3. **Wrong estimates do not pay.** Every call is settled by what it used, so that an
//!    estimate's error is gone when the call ends.
//! 4. **Neither sleep nor hoarding pays.** Who sleeps keeps its debt; what it left unused is kept
//!    up to two calls.
//! 5. **A quota is reserved before it is used**, from the pool to the process and all whom that
//!    descends from ([`Scheduler::admit_under`]) or not at all, and who has none waits until a time
//!    that it can see ([`Scheduler::waits_for`]). Whoever is held back is one node with one timer,
//!    however many wait behind it.
//! 6. **Integers only**: the same calls give the same order on every machine.
//! 7. **A slot is freed once.** Settling twice is settling once.
//!
//! ```
//! use std::time::Duration;
//! use aosk_abi::{Priority, Tenant};
//! use aosk_scheduler::{PoolOptions, Scheduler, Units};
//!
//! let mut scheduler = Scheduler::new();
//! let pool = scheduler.add_pool(PoolOptions::new(1))?;
//! scheduler.admit("writer", Tenant::local(), Priority::DEFAULT)?;
//! scheduler.admit("reader", Tenant::local(), Priority::DEFAULT)?;
//! scheduler.wake(&"writer", pool, Units(1_000), Duration::ZERO)?;
//! scheduler.wake(&"reader", pool, Units(1_000), Duration::ZERO)?;
//!
//! let first = scheduler.pick(Duration::ZERO).expect("a slot is free");
//! assert_eq!(first.key, "writer"); // nobody was charged yet: who came first
//! assert!(scheduler.pick(Duration::ZERO).is_none(), "the slot is taken");
//! scheduler.charge(first.id, Units(700))?;
//! assert_eq!(scheduler.pick(Duration::ZERO).map(|next| next.key), Some("reader"));
//! # Ok::<(), aosk_scheduler::Error>(())
//! ```

mod account;
mod accounts;
mod alias;
mod bucket;
mod error;
mod flow;
mod gate;
mod heap;
mod history;
mod kin;
mod knobs;
mod ledger;
mod lengths;
mod level;
mod lineage;
mod order;
mod pool;
mod provider;
mod queue;
mod quota;
mod registry;
mod scheduler;
mod settlement;
mod slab;
mod step;
mod time;
mod tuner;
mod units;
mod warning;
mod weight;

pub use accounts::{Stand, Wait};
pub use alias::Aliases;
pub use error::Error;
pub use history::History;
pub use knobs::Knobs;
pub use ledger::{Ledger, NoMoney};
pub use lengths::{Guess, Lengths};
pub use order::{Order, PoolOptions, Slice};
pub use pool::{Class, Load, PoolId};
pub use provider::{Heard, Nonsense, RateLimit};
pub use quota::{Budget, Gauge, Quota, Rate, Resource, Short};
pub use registry::{Owner, Place};
pub use scheduler::{Dispatch, DispatchId, Scheduler};
pub use step::{Amounts, Settled, Step, Used, Warm};
pub use tuner::{Choice, EPOCH, Ended, Tuner};
pub use units::Units;
pub use warning::Warning;
pub use weight::Weight;
