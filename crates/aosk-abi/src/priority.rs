//! How important a process is.

use serde::{Deserialize, Serialize};

/// 0 (most important) to 99. It has no `Ord`, because "less than" would read as the opposite of
/// what it means: the only comparison is [`Priority::is_more_important_than`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Priority(u8);

/// The number is not a priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("priority {0} is out of range: give 0 (most important) to 99")]
pub struct PriorityError(u64);

impl Priority {
    /// The priority of a process that names none: 50.
    pub const DEFAULT: Self = Self(50);

    /// The priority with that number.
    ///
    /// # Errors
    /// [`PriorityError`] above 99.
    pub fn new(number: u64) -> Result<Self, PriorityError> {
        match u8::try_from(number) {
            Ok(small) if small <= 99 => Ok(Self(small)),
            _ => Err(PriorityError(number)),
        }
    }

    /// The number, 0 to 99.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Whether this one goes before `other`.
    #[must_use]
    pub const fn is_more_important_than(self, other: Self) -> bool {
        self.0 < other.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl TryFrom<u64> for Priority {
    type Error = PriorityError;

    fn try_from(number: u64) -> Result<Self, PriorityError> {
        Self::new(number)
    }
}

impl From<Priority> for u64 {
    fn from(priority: Priority) -> Self {
        priority.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_at_and_above_the_bound() {
        assert_eq!(Priority::new(0).map(Priority::get), Ok(0));
        assert_eq!(Priority::new(99).map(Priority::get), Ok(99));
        assert_eq!(Priority::new(100), Err(PriorityError(100)));
        assert_eq!(Priority::new(300), Err(PriorityError(300)));
    }

    #[test]
    fn smaller_is_more_important() {
        let (high, low) = (Priority(3), Priority(4));
        assert!(high.is_more_important_than(low));
        assert!(!low.is_more_important_than(high));
        assert!(!high.is_more_important_than(high));
    }
}
