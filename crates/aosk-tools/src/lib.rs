//! Tools: what an agent can do besides speaking.
//!
//! 1. **A result is for the model to act on.** What it should mend comes back as a failed
//!    [`ToolResult`](aosk_abi::ToolResult) with the wrong value and what to send instead, never as
//!    an error of the program.
//! 2. **The schema is the contract.** Arguments are checked against the very schema that the model
//!    was shown; unknown ones are refused, none is converted or defaulted in silence.
//! 3. **Everything is bounded**: bytes, lines, files, matches, time. A result that was cut says so
//!    in the `note` of its metadata, and how to get the rest.
//! 4. **Files only through the sandbox** of the calling process, on blocking threads.
//! 5. **No global state**: a [`Registry`] is a value; a tool gets all it may know with the call.
//!
//! ```
//! use aosk_tools::{Error, Registry};
//!
//! let registry = Registry::builtin();
//! let specs = registry.specs(&["calculator", "read_file"])?;
//! assert_eq!(specs[1].name, "read_file");
//!
//! let error = registry.specs(&["read_flie"]).unwrap_err();
//! assert!(error.to_string().contains("did you mean `read_file`?"));
//! # Ok::<(), Error>(())
//! ```

mod builtin;
mod failure;
mod registry;
mod schema;
mod similar;

pub use registry::{Error, Registry};
