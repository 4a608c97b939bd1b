//! The weather of a simulated world: what goes wrong, and how often.
//!
//! All chances are per occasion (a sync of the disk, an attempt of a call), so that they mean the
//! same for one agent and for twenty. [`FaultPlan::rough`] is tuned so that six agents outlive
//! about ten machines before the last of them ends: more crashes, and hardly any machine would
//! live long enough to evict a page or to be stopped in order; fewer, and fifty seeds would not
//! cut every place of a step.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::dice::Chance;

/// What goes wrong in a simulated world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultPlan {
    /// On the disk.
    pub disk: DiskFaults,
    /// At the model endpoint.
    pub model: ModelFaults,
    /// In the tools.
    pub tools: ToolFaults,
    /// The machine falls over while it executes a process; for each turn of one.
    pub fall: Chance,
}

impl FaultPlan {
    /// Nothing goes wrong and nothing takes time.
    #[must_use]
    pub const fn calm() -> Self {
        Self {
            disk: DiskFaults::calm(),
            model: ModelFaults::calm(),
            tools: ToolFaults::calm(),
            fall: Chance::NEVER,
        }
    }

    /// Everything goes wrong now and then.
    #[must_use]
    pub const fn rough() -> Self {
        Self {
            disk: DiskFaults::rough(),
            model: ModelFaults::rough(),
            tools: ToolFaults::rough(),
            fall: Chance::per_mille(1),
        }
    }
}

/// What goes wrong on a disk. The chances are for each sync, which makes one or more groups of
/// appends durable at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFaults {
    /// How long a sync takes.
    pub sync: RangeInclusive<Duration>,
    /// The disk is busy with something else.
    pub stall: Chance,
    /// How much longer a sync takes then.
    pub stall_for: RangeInclusive<Duration>,
    /// The disk fills up: this sync and all writes for a while fail with `AOSK-S004`.
    pub full: Chance,
    /// How long it stays full.
    pub full_for: RangeInclusive<Duration>,
    /// The sync fails with `AOSK-S011`. In one case of two the data are durable all the same: the
    /// caller cannot know.
    pub io_error: Chance,
    /// The power is cut before anything is written.
    pub crash_before: Chance,
    /// The power is cut when everything is durable and nothing acknowledged.
    pub crash_after: Chance,
    /// How long a read takes.
    pub read: RangeInclusive<Duration>,
    /// A read fails with `AOSK-S011`.
    pub unreadable: Chance,
    /// The store cannot tell its owner that something was posted. Drawn when it is opened.
    pub mute: Chance,
}

impl DiskFaults {
    /// Nothing goes wrong and nothing takes time.
    #[must_use]
    pub const fn calm() -> Self {
        Self {
            sync: Duration::ZERO..=Duration::ZERO,
            stall: Chance::NEVER,
            stall_for: Duration::ZERO..=Duration::ZERO,
            full: Chance::NEVER,
            full_for: Duration::ZERO..=Duration::ZERO,
            io_error: Chance::NEVER,
            crash_before: Chance::NEVER,
            crash_after: Chance::NEVER,
            read: Duration::ZERO..=Duration::ZERO,
            unreadable: Chance::NEVER,
            mute: Chance::NEVER,
        }
    }

    /// Everything goes wrong now and then.
    #[must_use]
    pub const fn rough() -> Self {
        Self {
            sync: Duration::from_millis(1)..=Duration::from_millis(200),
            stall: Chance::per_mille(5),
            stall_for: Duration::from_secs(1)..=Duration::from_secs(30),
            full: Chance::per_mille(10),
            full_for: Duration::from_secs(1)..=Duration::from_secs(60),
            io_error: Chance::per_mille(10),
            crash_before: Chance::per_mille(8),
            crash_after: Chance::per_mille(8),
            read: Duration::ZERO..=Duration::from_millis(20),
            unreadable: Chance::per_mille(3),
            mute: Chance::per_mille(250),
        }
    }
}

/// What goes wrong at a model endpoint. The chances are for each attempt of a call, and the first
/// that hits decides, in the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFaults {
    /// How long an answer takes.
    pub latency: RangeInclusive<Duration>,
    /// 429, with or without a time to ask again.
    pub throttled: Chance,
    /// A failure that passes.
    pub transient: Chance,
    /// The answer is no reply at all: a page of a proxy, another protocol.
    pub garbage: Chance,
    /// The request is refused for good.
    pub fatal: Chance,
    /// The device itself never comes back.
    pub stuck: Chance,
    /// No byte comes until the request's time is up.
    pub hang: Chance,
    /// The connection breaks in the middle of the reply, or the endpoint breaks it off.
    pub disconnect: Chance,
    /// The prompt is said to be too long although it is not; once in a conversation.
    pub context_length: Chance,
    /// The usage of a good reply is missing or absurdly large.
    pub lying_usage: Chance,
    /// The reply itself is odd: cut off, malformed, refused.
    pub odd: Chance,
    /// The machine's own part of the device panics: for each prompt, the first few times.
    pub panic: Chance,
    /// The device cannot be connected; for each time that it is to be.
    pub unreachable: Chance,
}

impl ModelFaults {
    /// Nothing goes wrong and nothing takes time.
    #[must_use]
    pub const fn calm() -> Self {
        Self {
            latency: Duration::ZERO..=Duration::ZERO,
            throttled: Chance::NEVER,
            transient: Chance::NEVER,
            garbage: Chance::NEVER,
            fatal: Chance::NEVER,
            stuck: Chance::NEVER,
            hang: Chance::NEVER,
            disconnect: Chance::NEVER,
            context_length: Chance::NEVER,
            lying_usage: Chance::NEVER,
            odd: Chance::NEVER,
            panic: Chance::NEVER,
            unreachable: Chance::NEVER,
        }
    }

    /// Everything goes wrong now and then.
    #[must_use]
    pub const fn rough() -> Self {
        Self {
            latency: Duration::from_millis(50)..=Duration::from_secs(5),
            throttled: Chance::per_mille(50),
            transient: Chance::per_mille(50),
            garbage: Chance::per_mille(20),
            fatal: Chance::per_mille(2),
            stuck: Chance::per_mille(2),
            hang: Chance::per_mille(10),
            disconnect: Chance::per_mille(30),
            context_length: Chance::per_mille(10),
            lying_usage: Chance::per_mille(100),
            odd: Chance::per_mille(150),
            panic: Chance::per_mille(8),
            unreachable: Chance::per_mille(200),
        }
    }
}

/// What goes wrong in tools. The chances are for each attempt of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolFaults {
    /// How long a call takes before its effect, and again after it.
    pub latency: RangeInclusive<Duration>,
    /// The tool fails without an effect.
    pub fail: Chance,
    /// The tool panics without an effect.
    pub panic: Chance,
    /// The power is cut before the effect.
    pub crash_before: Chance,
    /// The power is cut after the effect and before the result.
    pub crash_after: Chance,
}

impl ToolFaults {
    /// Nothing goes wrong and nothing takes time.
    #[must_use]
    pub const fn calm() -> Self {
        Self {
            latency: Duration::ZERO..=Duration::ZERO,
            fail: Chance::NEVER,
            panic: Chance::NEVER,
            crash_before: Chance::NEVER,
            crash_after: Chance::NEVER,
        }
    }

    /// Everything goes wrong now and then.
    #[must_use]
    pub const fn rough() -> Self {
        Self {
            latency: Duration::ZERO..=Duration::from_secs(8),
            fail: Chance::per_mille(50),
            panic: Chance::per_mille(20),
            crash_before: Chance::per_mille(10),
            crash_after: Chance::per_mille(10),
        }
    }
}
