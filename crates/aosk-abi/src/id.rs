//! Identifiers. Each is a type of its own, so that a sequence number cannot stand where an
//! operation number is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The namespace under which an external string becomes a [`Pid`]: UUIDv5 of the DNS namespace
/// and `pid.agent-os-kernel`. It can never change: aliases in old journals depend on it.
const ALIAS_NAMESPACE: Uuid = Uuid::from_u128(0xa558_372f_45fc_5fe7_bc5b_7559_a7bd_93ad);

/// The longest tenant name, in bytes.
const TENANT_MAX: usize = 63;

/// Why a string is not the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The string is no UUID.
    #[error("{0:?} is not a process id: give a UUID as `aosk ps` prints it")]
    Pid(String),
    /// The tenant name has a form that keys do not allow.
    #[error(
        "{0:?} is not a tenant name: use 1-63 of a-z, 0-9, '-', '_' and '.', first a letter or digit"
    )]
    Tenant(String),
}

/// A process id. New ones are UUIDv7 (they sort by spawn time); an external name such as
/// `agent-123` is an alias and maps to a UUIDv5 for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pid(Uuid);

impl Pid {
    /// A fresh id from a wall clock in milliseconds and 10 bytes of randomness.
    #[must_use]
    pub fn from_parts(unix_millis: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_millis, &random).into_uuid())
    }

    /// The id that an external name stands for; the same name always gives the same id.
    #[must_use]
    pub fn from_alias(alias: &str) -> Self {
        Self(Uuid::new_v5(&ALIAS_NAMESPACE, alias.as_bytes()))
    }

    /// The id from its 16 bytes, as stores keep it.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes of the id, most significant first.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pid({self})")
    }
}

impl FromStr for Pid {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Uuid::try_parse(text).map(Self).map_err(|_| IdError::Pid(text.to_owned()))
    }
}

/// Who owns a process; the first part of every key in every store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tenant(std::sync::Arc<str>);

impl Tenant {
    /// The tenant of one's own machine, `local`.
    #[must_use]
    pub fn local() -> Self {
        Self("local".into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tenant {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let first_is_plain =
            text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let rest_is_plain = text.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.')
        });
        if text.len() <= TENANT_MAX && first_is_plain && rest_is_plain {
            Ok(Self(text.into()))
        } else {
            Err(IdError::Tenant(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Tenant {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Tenant> for String {
    fn from(tenant: Tenant) -> Self {
        tenant.0.as_ref().to_owned()
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The place of an event in its process's journal: 0, 1, 2, … without a gap.
    Seq(u64)
}
number! {
    /// A fencing token: grows by one each time a process changes hands.
    Epoch(u64)
}
number! {
    /// The deterministic number of a syscall within its process; outcomes name it.
    Op(u64)
}
number! {
    /// A step of a process: one plan, one LLM call and its effects. The first is 1.
    Step(u64)
}
number! {
    /// A page of a process's context, numbered in order of admission.
    PageId(u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alias_maps_to_one_id_for_ever() {
        let pid = Pid::from_alias("agent-123");
        assert_eq!(pid, Pid::from_alias("agent-123"));
        assert_ne!(pid, Pid::from_alias("agent-124"));
        assert_eq!(pid.to_string(), "0ae151d4-3d73-53df-b185-7dae2c162c86");
        assert_eq!(pid.0.get_version_num(), 5);
    }

    #[test]
    fn new_ids_sort_by_spawn_time() {
        let early = Pid::from_parts(1_000, [0xff; 10]);
        let late = Pid::from_parts(1_001, [0; 10]);
        assert!(early < late);
        assert_eq!(early.0.get_version_num(), 7);
    }

    #[test]
    fn tenant_names_at_and_past_the_bounds() {
        assert!("a".parse::<Tenant>().is_ok());
        assert!("a".repeat(63).parse::<Tenant>().is_ok());
        for bad in ["", "-a", "A", "a b", "a\0", &"a".repeat(64)] {
            assert_eq!(bad.parse::<Tenant>(), Err(IdError::Tenant(bad.to_owned())));
        }
    }

    #[test]
    fn pid_text_round_trips_and_refuses_nonsense() {
        let pid = Pid::from_parts(42, [7; 10]);
        assert_eq!(pid.to_string().parse::<Pid>(), Ok(pid));
        assert!("agent-123".parse::<Pid>().is_err());
    }
}
