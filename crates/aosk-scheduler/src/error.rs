//! What callers of the scheduler can get wrong.

use crate::pool::PoolId;
use crate::quota::Resource;
use crate::scheduler::DispatchId;

/// Why the scheduler refuses. It then stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A pool without slots would queue for ever.
    #[error("a pool has 0 slots: give at least 1")]
    NoSlots,
    /// A slice without steps would let nobody begin.
    #[error("a slice has 0 steps: give at least 1")]
    EmptySlice,
    /// The pool belongs to another scheduler.
    #[error("{0:?} is not a pool of this scheduler: use what `add_pool` returned")]
    UnknownPool(PoolId),
    /// The process was not admitted, or was removed.
    #[error("process {0} is not known to the scheduler: admit it first")]
    UnknownProcess(String),
    /// The process is there already.
    #[error("process {0} is admitted already: remove it first")]
    AlreadyAdmitted(String),
    /// The process has more ancestors than are counted.
    #[error("process {0} has more than 64 ancestors: begin it with fewer")]
    TooDeep(String),
    /// The process waits for a call already.
    #[error("process {key} waits for pool {} already: block it first", pool.index())]
    AlreadyWaiting {
        /// The process.
        key: String,
        /// What it waits for.
        pool: PoolId,
    },
    /// No such call was ever dispatched here.
    #[error("{0:?} was never dispatched by this scheduler")]
    UnknownDispatch(DispatchId),
    /// A weight outside of 1 to 1,048,576.
    #[error("weight {0} is out of range: give 1 to 1048576")]
    Weight(u32),
    /// Under a limit of nothing nothing would ever run.
    #[error(
        "the quota of {0:?} is 0 or has a window of 0: give at least 1, or suspend the process"
    )]
    EmptyQuota(Resource),
    /// The call is larger than a whole window of a quota on its way.
    #[error(
        "the call may take {asked} of {resource:?} where a window of its {level}'s quota holds \
         {limit}: raise the quota or lower the most that the call may use"
    )]
    NeverFits {
        /// Whose quota: of its pool, tenant or group, its own as a process, or an ancestor's.
        level: &'static str,
        /// What it takes.
        resource: Resource,
        /// How much.
        asked: u64,
        /// The limit.
        limit: u64,
    },
    /// A setting that a pool's bounds do not cover.
    #[error("{knob} is {value}, out of the range of its pool: give {range}")]
    Knob {
        /// Which.
        knob: &'static str,
        /// What it was.
        value: String,
        /// What it may be.
        range: String,
    },
    /// The alias leads back to itself.
    #[error("the alias {0:?} leads back to itself: let one of {1:?} name a pool")]
    AliasCycle(String, Vec<String>),
    /// The alias names something that is there neither as a pool nor as an alias.
    #[error(
        "{name:?} is neither a pool nor an alias, but {alias:?} names it: add it or correct it"
    )]
    UnknownTarget {
        /// The alias.
        alias: String,
        /// What it names.
        name: String,
    },
}
