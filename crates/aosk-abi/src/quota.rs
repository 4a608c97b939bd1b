//! Quotas and shares, as people write them.
//!
//! A rate is a text such as `60/minute`, money one such as `5/day`: a bare number leaves open what
//! it is a number of, and `requests_per_minute` beside `requests_per_hour` would be a key for each
//! time. What is 0 is refused where it is read: under it nothing would ever run, and whoever wants
//! that suspends the process.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::amount::MicroDollars;
use crate::id::Tenant;

/// A quota or share that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct QuotaError(String);

/// The times of rates, with their seconds.
const TIMES: [(&str, u64); 4] = [("second", 1), ("minute", 60), ("hour", 3_600), ("day", 86_400)];

/// So many in a time, draining evenly: `60/minute`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    limit: u64,
    seconds: u64,
}

impl Rate {
    /// The most at once, at least 1.
    #[must_use]
    pub const fn limit(self) -> u64 {
        self.limit
    }

    /// The seconds in which it drains: of a second, a minute, an hour or a day.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.seconds
    }
}

impl FromStr for Rate {
    type Err = QuotaError;

    fn from_str(text: &str) -> Result<Self, QuotaError> {
        let parsed = text.split_once('/').and_then(|(number, time)| {
            let (_, seconds) = TIMES.into_iter().find(|(name, _)| *name == time.trim())?;
            Some(Self { limit: number.trim().parse().ok()?, seconds })
        });
        match parsed {
            Some(rate) if rate.limit > 0 => Ok(rate),
            Some(_) => Err(QuotaError(format!(
                "{text:?} lets nothing through: give at least 1, or leave the quota out"
            ))),
            None => Err(QuotaError(format!(
                "{text:?} is no rate: write a whole number and a time, such as \"60/minute\"; the \
                 times are second, minute, hour and day"
            ))),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = TIMES.iter().find(|(_, seconds)| *seconds == self.seconds);
        write!(f, "{}/{}", self.limit, time.map_or("day", |(name, _)| name))
    }
}

/// The window of a budget, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From the first of a month to the first of the next.
    Month,
}

/// So much money: `5/day`, `100/month`, or `20` once and for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Spend {
    /// The most, above 0.
    pub limit: MicroDollars,
    /// In which window; `None`: it never comes back.
    pub per: Option<Period>,
}

impl FromStr for Spend {
    type Err = QuotaError;

    fn from_str(text: &str) -> Result<Self, QuotaError> {
        let (number, per) = match text.split_once('/') {
            None => (text, Some(None)),
            Some((number, "day")) => (number, Some(Some(Period::Day))),
            Some((number, "month")) => (number, Some(Some(Period::Month))),
            Some((number, _)) => (number, None),
        };
        let number = number.trim().trim_start_matches('$');
        let limit = number.parse().ok().and_then(MicroDollars::from_dollars);
        match (limit, per) {
            (Some(MicroDollars::ZERO), Some(_)) => Err(QuotaError(format!(
                "{text:?} lets no call through: give more than 0, or leave the quota out"
            ))),
            (Some(limit), Some(per)) => Ok(Self { limit, per }),
            _ => Err(QuotaError(format!(
                "{text:?} is no budget: write US dollars, such as \"5/day\", \"100/month\", or \
                 \"20\" for once and for all"
            ))),
        }
    }
}

impl fmt::Display for Spend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dollars = self.limit.to_string();
        let per = match self.per {
            None => "",
            Some(Period::Day) => "/day",
            Some(Period::Month) => "/month",
        };
        write!(f, "{}{per}", dollars.trim_start_matches('$'))
    }
}

macro_rules! as_text {
    ($($name:ident)*) => {$(
        impl TryFrom<String> for $name {
            type Error = QuotaError;

            fn try_from(text: String) -> Result<Self, QuotaError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}

as_text!(Rate Spend);

/// Who has a quota that others share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaOwner {
    /// All who use a model, by its name.
    Pool(String),
    /// All processes of a tenant, whatever they use.
    Tenant(Tenant),
    /// All processes of a group of a tenant.
    Group(Tenant, String),
}

/// As events name it: `pool NAME`, `tenant NAME` or `group NAME`.
impl fmt::Display for QuotaOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(name) => write!(f, "pool {name}"),
            Self::Tenant(tenant) => write!(f, "tenant {}", tenant.as_str()),
            Self::Group(_, group) => write!(f, "group {group}"),
        }
    }
}

/// What a pool, a tenant or a group may use. All below share it; where a limit is left out, those
/// above and below are what holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
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
    /// Money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spend: Option<Spend>,
}

/// In which order the processes of a group call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderSpec {
    /// Short calls first, nobody for ever last.
    Fsp,
    /// By what each was charged, weighted.
    Fair,
    /// First come, first served.
    Fifo,
    /// Each in its turn.
    RoundRobin,
    /// The more important first.
    Priority,
}

/// How a pool is shared: a model of the table, with what its endpoint lets one account do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    /// The order inside groups; absent: [`OrderSpec::Fsp`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<OrderSpec>,
    /// How many tokens a call with a deadline may run ahead of its turn; absent: 16,384.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead_tokens: Option<u64>,
    /// Whether a bandit moves what may be tuned, inside the ranges in which the bounds hold; absent:
    /// no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tune: Option<bool>,
    /// What all who use it may use.
    #[serde(default)]
    pub quota: Limits,
}

/// How a tenant shares pools with others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantSpec {
    /// Its share against other tenants: 1 to 1,048,576; absent: the greatest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// What it may use, in all pools.
    #[serde(default)]
    pub quota: Limits,
    /// Its groups.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, GroupSpec>,
}

/// How a group shares its tenant with other groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// Its share against the other groups: 1 to 1,048,576; absent: the greatest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// What it may use, in all pools.
    #[serde(default)]
    pub quota: Limits,
}

/// Who shares what with whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sharing {
    /// Pools, by the model's name.
    #[serde(default)]
    pub pools: BTreeMap<String, PoolSpec>,
    /// Tenants, by name.
    #[serde(default)]
    pub tenants: BTreeMap<String, TenantSpec>,
}

impl Sharing {
    /// The greatest weight.
    pub const GREATEST_WEIGHT: u32 = 1 << 20;

    /// Whether anybody has a budget of money.
    #[must_use]
    pub fn has_budgets(&self) -> bool {
        let groups = self.tenants.values().flat_map(|tenant| tenant.groups.values());
        let pools = self.pools.values().map(|pool| &pool.quota);
        let tenants = self.tenants.values().map(|tenant| &tenant.quota);
        let mut all = pools.chain(tenants).chain(groups.map(|group| &group.quota));
        all.any(|limits| limits.spend.is_some())
    }

    /// What an owner may use; `None` where nothing was ever said of it.
    #[must_use]
    pub fn limits(&self, owner: &QuotaOwner) -> Option<&Limits> {
        let tenant = |tenant: &Tenant| self.tenants.get(tenant.as_str());
        match owner {
            QuotaOwner::Pool(name) => self.pools.get(name).map(|pool| &pool.quota),
            QuotaOwner::Tenant(name) => tenant(name).map(|tenant| &tenant.quota),
            QuotaOwner::Group(name, group) => {
                tenant(name)?.groups.get(group).map(|group| &group.quota)
            }
        }
    }

    /// The same to be changed; an owner of which nothing was said is entered.
    pub fn limits_mut(&mut self, owner: &QuotaOwner) -> &mut Limits {
        match owner {
            QuotaOwner::Pool(name) => &mut self.pools.entry(name.clone()).or_default().quota,
            QuotaOwner::Tenant(name) => {
                &mut self.tenants.entry(name.as_str().to_owned()).or_default().quota
            }
            QuotaOwner::Group(name, group) => {
                let tenant = self.tenants.entry(name.as_str().to_owned()).or_default();
                &mut tenant.groups.entry(group.clone()).or_default().quota
            }
        }
    }

    /// Everybody who has a limit.
    pub fn owners(&self) -> impl Iterator<Item = (QuotaOwner, &Limits)> {
        let pools = self.pools.iter();
        let pools = pools.map(|(name, pool)| (QuotaOwner::Pool(name.clone()), &pool.quota));
        // A name that is none was refused where the settings were read.
        let tenants = self.tenants.iter();
        let tenants = tenants.filter_map(|(name, spec)| Some((name.parse::<Tenant>().ok()?, spec)));
        let below = tenants.flat_map(|(tenant, spec)| {
            let groups = spec.groups.iter();
            let of = tenant.clone();
            let groups = groups.map(move |(name, group)| {
                (QuotaOwner::Group(of.clone(), name.clone()), &group.quota)
            });
            std::iter::once((QuotaOwner::Tenant(tenant), &spec.quota)).chain(groups)
        });
        pools.chain(below).filter(|(_, limits)| **limits != Limits::default())
    }

    /// Checks what the types alone do not hold.
    ///
    /// # Errors
    /// The keys that lead to the first value out of range, and what is wrong with it.
    pub fn check(&self) -> Result<(), (Vec<&str>, QuotaError)> {
        for (name, pool) in &self.pools {
            pool.quota.check().map_err(|error| (vec!["pools", name, "quota"], error))?;
        }
        for (name, tenant) in &self.tenants {
            let at = ["tenants", name.as_str()];
            let below = |key| at.into_iter().chain([key]).collect();
            weight(tenant.weight).map_err(|error| (below("weight"), error))?;
            tenant.quota.check().map_err(|error| (below("quota"), error))?;
            for (name, group) in &tenant.groups {
                let below = |key| at.into_iter().chain(["groups", name.as_str(), key]).collect();
                weight(group.weight).map_err(|error| (below("weight"), error))?;
                group.quota.check().map_err(|error| (below("quota"), error))?;
            }
        }
        Ok(())
    }
}

impl Limits {
    /// # Errors
    /// What is wrong with the first limit that lets nothing through.
    pub fn check(&self) -> Result<(), QuotaError> {
        match self.calls_at_once {
            Some(0) => Err(QuotaError(
                "`calls_at_once` is 0, which lets nothing through: give at least 1, or leave it \
                 out"
                .to_owned(),
            )),
            _ => Ok(()),
        }
    }
}

fn weight(weight: Option<u32>) -> Result<(), QuotaError> {
    let greatest = Sharing::GREATEST_WEIGHT;
    match weight {
        Some(weight) if weight == 0 || weight > greatest => {
            Err(QuotaError(format!("`weight` is {weight}: give 1 to {greatest}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_what_lets_nothing_through_is_refused() {
        for text in ["60/minute", "1/second", "5000/hour", "18446744073709551615/day"] {
            assert_eq!(text.parse::<Rate>().expect(text).to_string(), text);
        }
        for wrong in ["60", "0/minute", "-1/minute", "1.5/minute", "60/week", "/minute", ""] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
        for (text, again) in
            [("5/day", "5.00/day"), ("$0.02", "0.02"), ("100/month", "100.00/month")]
        {
            assert_eq!(text.parse::<Spend>().expect(text).to_string(), again);
        }
        for wrong in ["0", "0/day", "-1/day", "5/week", "x", "NaN/day", ""] {
            assert!(wrong.parse::<Spend>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn weights_and_calls_at_once_below_at_and_above_their_bounds() {
        let tenant = |text: &str| {
            let text = format!("[tenants.t]\n{text}");
            toml::from_str::<Sharing>(&text)
                .expect("TOML")
                .check()
                .map_err(|(at, error)| (at.join("."), error.to_string()))
        };
        for (weight, is_good) in [(0, false), (1, true), (1 << 20, true), ((1 << 20) + 1, false)] {
            assert_eq!(tenant(&format!("weight = {weight}")).is_ok(), is_good, "{weight}");
            let group = tenant(&format!("groups.g.weight = {weight}"));
            assert_eq!(group.is_ok(), is_good, "{weight}");
        }
        let (at, said) = tenant("groups.g.quota.calls_at_once = 0").expect_err("nothing runs");
        assert_eq!(at, "tenants.t.groups.g.quota");
        assert!(said.contains("at least 1"), "{said}");
        assert_eq!(tenant("quota = { calls_at_once = 1 }"), Ok(()));
    }
}
