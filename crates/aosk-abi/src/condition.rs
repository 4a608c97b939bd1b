//! The conditions that plans are made under.
//!
//! They hardly ever change between two plans of a process, and together they are a third of a plan
//! that says all of them. So a plan says which of them differ from those of the plan before, and
//! the first one says all.

use serde::{Deserialize, Serialize};

use crate::amount::Tokens;

/// How an endpoint is known to keep prompts: prefixes of them, for a time after their last use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheRules {
    /// How long after its last use a prefix is kept that a call asked to be kept long, in
    /// milliseconds; `None`: no call can ask for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_ttl_ms: Option<u64>,
    /// Whether it keeps a prompt only up to marks that the request sets; else every prefix.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub marked: bool,
    /// The shortest prefix that is kept, in its own tokens.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub minimum: Tokens,
    /// How long after its last use any other prefix is kept, in milliseconds; `None`: not known, taken
    /// as for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

impl CacheRules {
    /// Whether nothing is known of it.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

/// For how long an endpoint is asked to keep what a call writes to its cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheLife {
    /// For as long as it keeps what nobody asked to be kept longer.
    #[default]
    Short,
    /// For as long as [`CacheRules::long_ttl_ms`] says, at a higher price.
    Long,
}

impl CacheLife {
    /// Whether nothing has to be asked for.
    #[must_use]
    pub fn is_short(&self) -> bool {
        *self == Self::Short
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_nothing(tokens: &Tokens) -> bool {
    *tokens == Tokens::ZERO
}

/// What a plan was made under, besides the pages that there were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// How the endpoint keeps prompts.
    #[serde(default, skip_serializing_if = "CacheRules::is_unknown")]
    pub cache: CacheRules,
    /// What is kept free for the reply.
    pub max_output: Tokens,
    /// The replacement policy that decided.
    pub policy: String,
    /// The version of the renderer and, after a slash, its dialect.
    pub render: String,
    /// The tokenizer that counted.
    pub tokenizer: String,
    /// The model's window.
    pub window: Tokens,
}

/// Those conditions that differ from the ones of the plan before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// How the endpoint keeps prompts; in a first plan absent where nothing is known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheRules>,
    /// What is kept free for the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output: Option<Tokens>,
    /// The replacement policy that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The version of the renderer and, after a slash, its dialect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub render: Option<String>,
    /// The tokenizer that counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// The model's window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Tokens>,
}

impl Conditions {
    /// What differs from `before`; everything where there was no plan before.
    #[must_use]
    pub fn changes_since(&self, before: Option<&Self>) -> Changes {
        let differs = |of: fn(&Self) -> &String| {
            let now = of(self);
            before.is_none_or(|before| of(before) != now).then(|| now.clone())
        };
        let tokens = |of: fn(&Self) -> Tokens| {
            let now = of(self);
            before.is_none_or(|before| of(before) != now).then_some(now)
        };
        let cache = before.map_or_else(CacheRules::default, |before| before.cache);
        Changes {
            cache: (self.cache != cache).then_some(self.cache),
            max_output: tokens(|it| it.max_output),
            policy: differs(|it| &it.policy),
            render: differs(|it| &it.render),
            tokenizer: differs(|it| &it.tokenizer),
            window: tokens(|it| it.window),
        }
    }
}

impl Changes {
    /// Whether every condition is that of the plan before.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The conditions after these changes; `None` where there are none before and these do not say
    /// all of them.
    #[must_use]
    pub fn onto(&self, before: Option<&Conditions>) -> Option<Conditions> {
        let text = |new: &Option<String>, of: fn(&Conditions) -> &String| {
            new.clone().or_else(|| before.map(|before| of(before).clone()))
        };
        let tokens =
            |new: Option<Tokens>, of: fn(&Conditions) -> Tokens| new.or_else(|| before.map(of));
        let cache = self.cache.or_else(|| before.map(|before| before.cache));
        Some(Conditions {
            cache: cache.unwrap_or_default(),
            max_output: tokens(self.max_output, |it| it.max_output)?,
            policy: text(&self.policy, |it| &it.policy)?,
            render: text(&self.render, |it| &it.render)?,
            tokenizer: text(&self.tokenizer, |it| &it.tokenizer)?,
            window: tokens(self.window, |it| it.window)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn conditions() -> impl Strategy<Value = Conditions> {
        (0..3_u64, "[ab]", "[ab]", "[ab]", 0..3_u64).prop_map(
            |(max_output, policy, render, tokenizer, window)| Conditions {
                cache: CacheRules {
                    minimum: Tokens(max_output),
                    long_ttl_ms: (max_output == 1).then_some(3_600_000),
                    ..CacheRules::default()
                },
                max_output: Tokens(max_output),
                policy,
                render,
                tokenizer,
                window: Tokens(window),
            },
        )
    }

    proptest! {
        #[test]
        fn changes_lead_from_the_conditions_before_to_those_after(
            before in prop::option::of(conditions()),
            after in conditions(),
        ) {
            let changes = after.changes_since(before.as_ref());
            prop_assert_eq!(changes.onto(before.as_ref()), Some(after.clone()));
            prop_assert_eq!(changes.is_none(), before.as_ref() == Some(&after));
        }
    }

    #[test]
    fn a_first_plan_that_leaves_a_condition_out_has_none() {
        let all = Changes {
            cache: None,
            max_output: Some(Tokens(1)),
            policy: Some("p".into()),
            render: Some("r".into()),
            tokenizer: Some("t".into()),
            window: Some(Tokens(2)),
        };
        let known = all.onto(None).expect("the rules of the cache may be unknown");
        assert_eq!(known.cache, CacheRules::default());
        for partial in [
            Changes { max_output: None, ..all.clone() },
            Changes { policy: None, ..all.clone() },
            Changes { render: None, ..all.clone() },
            Changes { tokenizer: None, ..all.clone() },
            Changes { window: None, ..all.clone() },
        ] {
            assert_eq!(partial.onto(None), None, "{partial:?}");
        }
    }
}
