//! What callers of the scheduler can get wrong.

use crate::device::DeviceId;
use crate::scheduler::DispatchId;

/// Why the scheduler refuses. It then stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A device without slots would queue for ever.
    #[error("a device has 0 slots: give at least 1")]
    NoSlots,
    /// The device belongs to another scheduler.
    #[error("{0:?} is not a device of this scheduler: use what `add_device` returned")]
    UnknownDevice(DeviceId),
    /// The process was not admitted, or was removed.
    #[error("process {0} is not known to the scheduler: admit it first")]
    UnknownProcess(String),
    /// The process is there already.
    #[error("process {0} is admitted already: remove it first")]
    AlreadyAdmitted(String),
    /// The process waits for a call already.
    #[error("process {key} waits for device {} already: block it first", device.index())]
    AlreadyWaiting {
        /// The process.
        key: String,
        /// What it waits for.
        device: DeviceId,
    },
    /// No such call was ever dispatched here.
    #[error("{0:?} was never dispatched by this scheduler")]
    UnknownDispatch(DispatchId),
}
