//! Manifests: one TOML file that describes an agent.
//!
//! Reading is strict: an unknown key, a wrong type or a value out of range is an error that names
//! the line. A manifest may come with a cloned folder, so it can only *request*: endpoints, keys
//! and commands are no part of it.

use serde::{Deserialize, Serialize};

use crate::amount::{MicroDollars, Tokens};
use crate::priority::Priority;
use crate::quota::{Limits, Rate, Spend};
use crate::restart::RestartSpec;

/// What an agent is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The agent's name: 1 to 64 characters.
    pub name: String,
    /// The program that it runs.
    #[serde(default = "react")]
    pub program: String,
    /// A name of the table of models; absent: the one that the user's settings choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The system prompt.
    #[serde(default)]
    pub system: String,
    /// The task, where none is given with the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The tools that it may call.
    #[serde(default)]
    pub tools: Vec<String>,
    /// How tool calls are made.
    #[serde(default)]
    pub tool_calls: ToolCalls,
    /// How important it is.
    #[serde(default)]
    pub priority: Priority,
    /// The group inside its tenant with which it shares: 1 to 64 characters; absent: that of all
    /// who name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// How soon each of its calls should begin, in seconds, at least 1; absent: in its turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<u64>,
    /// How many steps it may make, at least 1.
    #[serde(default = "twenty")]
    pub max_steps: u64,
    /// The folder that file tools see, relative to the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// Settings of the `react` program.
    #[serde(default)]
    pub react: ReactSpec,
    /// How replies are drawn.
    #[serde(default)]
    pub sampling: Sampling,
    /// How the context is kept.
    #[serde(default)]
    pub context: ContextSpec,
    /// What the agent may use.
    #[serde(default)]
    pub quota: QuotaSpec,
    /// Whether it begins again when it has ended.
    #[serde(default)]
    pub restart: RestartSpec,
    /// The agents that it may spawn, each with a name of its own among them. What one leaves out of
    /// `model` and `workspace` is its parent's; it is always of its parent's group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Self>,
}

fn react() -> String {
    "react".to_owned()
}

const fn twenty() -> u64 {
    20
}

/// How tool calls are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolCalls {
    /// By the endpoint's own tool interface.
    #[default]
    Native,
    /// By a JSON schema that every reply must match: for small models that call tools badly.
    Constrained,
}

/// Settings of the `react` program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReactSpec {
    /// After how many steps with tool calls the agent must answer; absent: never forced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tool_steps: Option<u64>,
}

/// How replies are drawn. Absent settings are left to the endpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// For endpoints that draw repeatably.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The most tokens of one reply; absent: the model's default of the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<Tokens>,
}

/// How the context is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextSpec {
    /// A smaller window than the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Tokens>,
    /// Whether time and steps left stand at the end of every prompt.
    #[serde(default = "yes")]
    pub tail: bool,
    /// The replacement policy: which pages leave when the window is full.
    #[serde(default = "cost_aware")]
    pub policy: String,
}

const fn yes() -> bool {
    true
}

fn cost_aware() -> String {
    "cost_aware".to_owned()
}

impl Default for ContextSpec {
    fn default() -> Self {
        Self { window: None, tail: true, policy: cost_aware() }
    }
}

/// What the agent and all that descend from it may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaSpec {
    /// What it may spend in all, in US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spend_usd: Option<f64>,
    /// What it may spend in a day or a month, such as `5/day`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spend: Option<Spend>,
    /// Calls begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Rate>,
    /// Tokens that go in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<Rate>,
    /// Tokens that come out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<Rate>,
    /// Calls in flight, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_at_once: Option<u32>,
}

impl QuotaSpec {
    /// All but its money in all, which is counted in its journal.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let Self { spend_usd: _, spend, requests, input_tokens, output_tokens, calls_at_once } =
            *self;
        Limits { requests, input_tokens, output_tokens, calls_at_once, spend }
    }
}

/// Why a manifest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ManifestError {
    /// What is wrong, and what to do.
    pub message: String,
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
}

impl Manifest {
    /// The longest name, in characters.
    pub const NAME_MAX: usize = 64;

    /// Reads a manifest.
    ///
    /// # Errors
    /// [`ManifestError`] for TOML that is malformed, an unknown key, or a value out of range.
    pub fn from_toml(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(text).map_err(|error| ManifestError {
            message: error.message().to_owned(),
            line: error.span().map(|span| line_of(text, span.start)),
        })?;
        manifest.in_range().map_err(|(key, message)| ManifestError {
            message,
            line: text
                .lines()
                .position(|line| line.split('=').next().is_some_and(|left| left.trim() == key))
                .map(|index| index + 1),
        })?;
        Ok(manifest)
    }

    /// The spend limit as money.
    #[must_use]
    pub fn spend_limit(&self) -> Option<MicroDollars> {
        self.quota.spend_usd.and_then(MicroDollars::from_dollars)
    }

    /// Checks a manifest that was made otherwise than from TOML as [`from_toml`](Self::from_toml)
    /// does.
    ///
    /// # Errors
    /// [`ManifestError`] for the first value that is out of range.
    pub fn check(&self) -> Result<(), ManifestError> {
        self.in_range().map_err(|(_, message)| ManifestError { message, line: None })
    }

    /// Whether each value is in its range; else the key of one that is not, and what is wrong.
    fn in_range(&self) -> Result<(), (&'static str, String)> {
        let length = self.name.chars().count();
        if length == 0 || length > Self::NAME_MAX {
            return Err((
                "name",
                format!("`name` has {length} characters: give 1 to {}", Self::NAME_MAX),
            ));
        }
        if self.name.chars().any(char::is_control) {
            return Err(("name", "`name` holds a control character".to_owned()));
        }
        if let Some(group) = &self.group {
            let length = group.chars().count();
            if length == 0 || length > Self::NAME_MAX || group.chars().any(char::is_control) {
                return Err((
                    "group",
                    format!(
                        "`group` is {group:?}: give 1 to {} characters that are no control \
                         characters",
                        Self::NAME_MAX
                    ),
                ));
            }
        }
        if self.deadline_s == Some(0) {
            return Err(("deadline_s", "`deadline_s` is 0: give at least 1 second".to_owned()));
        }
        if self.max_steps == 0 {
            return Err(("max_steps", "`max_steps` is 0: give at least 1".to_owned()));
        }
        if self.react.max_tool_steps == Some(0) {
            return Err((
                "max_tool_steps",
                "`max_tool_steps` is 0: give at least 1, or leave `tools` empty".to_owned(),
            ));
        }
        if let Some(temperature) = self.sampling.temperature
            && !(0.0..=2.0).contains(&temperature)
        {
            return Err(("temperature", format!("`temperature` is {temperature}: give 0 to 2")));
        }
        if self.sampling.max_output_tokens == Some(Tokens::ZERO) {
            return Err(("max_output_tokens", "`max_output_tokens` is 0: give at least 1".into()));
        }
        if self.context.window == Some(Tokens::ZERO) {
            return Err(("window", "`window` is 0: give at least 1".to_owned()));
        }
        if let Some(dollars) = self.quota.spend_usd
            && MicroDollars::from_dollars(dollars).is_none()
        {
            return Err((
                "spend_usd",
                format!("`spend_usd` is {dollars}: give an amount of 0 or more"),
            ));
        }
        self.quota
            .limits()
            .check()
            .map_err(|error| ("calls_at_once", format!("of `[quota]`: {error}")))?;
        if self.restart.max == Some(0) {
            return Err((
                "max",
                "`max` of `[restart]` is 0: give at least 1, or `when = \"never\"`".to_owned(),
            ));
        }
        if self.restart.wait_s > self.restart.max_wait_s {
            return Err((
                "wait_s",
                format!(
                    "`wait_s` is {}, longer than `max_wait_s`, {}",
                    self.restart.wait_s, self.restart.max_wait_s
                ),
            ));
        }
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = self.tools.iter().find(|tool| !seen.insert(tool.as_str())) {
            return Err(("tools", format!("`tools` names {twice:?} twice")));
        }
        let mut seen = std::collections::BTreeSet::new();
        for child in &self.children {
            child.in_range()?;
            if !seen.insert(child.name.as_str()) {
                return Err(("children", format!("two of `children` are named {:?}", child.name)));
            }
            if let Some(group) = &child.group {
                return Err((
                    "group",
                    format!(
                        "`group` of the child {:?} is {group:?}: leave it out, a child is of its \
                         parent's group",
                        child.name
                    ),
                ));
            }
        }
        Ok(())
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> (String, Option<usize>) {
        let error = Manifest::from_toml(text).expect_err("refused");
        (error.message, error.line)
    }

    #[test]
    fn the_smallest_manifest_is_a_name() {
        let manifest = Manifest::from_toml("name = \"a\"").expect("valid");
        assert_eq!(manifest.program, "react");
        assert_eq!(manifest.max_steps, 20);
        assert_eq!(manifest.priority, Priority::DEFAULT);
        assert!(manifest.context.tail);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let (message, line) = error("name = \"a\"\nmodle = \"x\"\n");
        assert!(message.contains("modle") && message.contains("model"), "{message}");
        assert_eq!(line, Some(2));
    }

    #[test]
    fn values_at_and_past_the_bounds() {
        let with = |text: &str| Manifest::from_toml(&format!("name = \"a\"\n{text}"));
        assert!(with("[sampling]\ntemperature = 2.0").is_ok());
        assert!(with("[sampling]\ntemperature = 2.1").is_err());
        assert!(with("[sampling]\ntemperature = nan").is_err());
        assert!(with("max_steps = 1").is_ok());
        assert_eq!(error("name = \"a\"\nmax_steps = 0").1, Some(2));
        assert!(with("priority = 99").is_ok());
        assert!(with("priority = 100").is_err());
        assert!(with("[quota]\nspend_usd = 0.0").is_ok());
        assert!(with("[quota]\nspend_usd = -0.1").is_err());
        for (at, above) in [("group = \"g\"", "group = \"\""), ("deadline_s = 1", "deadline_s = 0")]
        {
            assert!(with(at).is_ok() && with(above).is_err(), "{at}");
        }
        assert!(with("[quota]\nrequests = \"1/minute\"").is_ok());
        assert!(with("[quota]\ncalls_at_once = 1").is_ok());
        assert_eq!(error("name = \"a\"\n[quota]\ncalls_at_once = 0").1, Some(3));
        assert_eq!(error("name = \"a\"\n[quota]\nrequests = \"0/minute\"").1, Some(3));
        assert!(with("[context]\nwindow = 0").is_err());
        assert!(with("tools = [\"now\", \"now\"]").is_err());
        assert!(with("[restart]\nmax = 1").is_ok());
        assert!(with("[restart]\nmax = 0").is_err());
        assert!(with("[restart]\nwait_s = 300").is_ok());
        assert!(with("[restart]\nwait_s = 301").is_err());
        assert!(Manifest::from_toml(&format!("name = \"{}\"", "é".repeat(64))).is_ok());
        assert!(Manifest::from_toml(&format!("name = \"{}\"", "é".repeat(65))).is_err());
        assert!(Manifest::from_toml("name = \"\"").is_err());
    }

    #[test]
    fn a_manifest_that_was_not_read_from_toml_is_held_to_the_same_bounds() {
        let mut manifest = Manifest::from_toml("name = \"a\"").expect("valid");
        assert_eq!(manifest.check(), Ok(()));
        for (dollars, holds) in [(0.0, true), (-1.0, false), (f64::NAN, false)] {
            manifest.quota.spend_usd = Some(dollars);
            assert_eq!(manifest.check().is_ok(), holds, "{dollars}");
        }
        let error = manifest.check().expect_err("no amount");
        assert!(error.message.contains("spend_usd") && error.line.is_none(), "{error}");
    }

    #[test]
    fn children_are_manifests_with_names_of_their_own_and_no_group() {
        let with = |text: &str| Manifest::from_toml(&format!("name = \"a\"\n{text}"));
        let child = "[[children]]\nname = \"b\"\n";
        let parsed = with(&format!("{child}tools = [\"now\"]")).expect("valid");
        assert_eq!(parsed.children[0].tools, ["now"]);
        for (wrong, part) in [
            (format!("{child}{child}"), "two of `children`"),
            (format!("{child}group = \"g\""), "parent's group"),
            (format!("{child}max_steps = 0"), "`max_steps` is 0"),
            (format!("{child}modle = \"x\""), "modle"),
        ] {
            let error = with(&wrong).expect_err(part);
            assert!(error.message.contains(part), "{error}");
        }
    }

    #[test]
    fn endpoints_are_no_part_of_a_manifest() {
        assert!(error("name = \"a\"\nbase_url = \"http://x\"").0.contains("base_url"));
    }
}
