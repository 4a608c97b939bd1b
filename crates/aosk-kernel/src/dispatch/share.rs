//! From quotas and shares as people write them to those of the scheduler.

use std::time::Duration;

use aosk_abi::{Code, Limits, OrderSpec, Pid, PoolSpec, Sharing, Spend, Tenant, Timestamp};
use aosk_ports::DeviceInfo;
use aosk_scheduler::{
    Budget, Knobs, Order, Owner, PoolId, PoolOptions, Quota, Rate, Scheduler, Tuner, Units, Weight,
};

use super::window::window;
use crate::error::Error;

/// How many units a call with a deadline may run ahead of its turn: about one call of a long
/// conversation, so that a deadline is worth a call and never a share.
const AHEAD: u64 = 16_384;

/// How many windows a call is charged at most, whatever its endpoint says that it used: prompt and
/// reply fit into one, counted with the endpoint's own tokens, of which no tokenizer's error makes
/// two. One reply that claims more would otherwise keep its process from the pool for ever. Quotas and
/// money count what was said.
const WINDOWS: u64 = 2;

/// The aging that the bounds of a tuned pool rest on: twice that of others, which is where it begins.
const LONGEST_AGING: Duration = Duration::from_secs(60);

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) wall: Timestamp,
    pub(super) monotonic: Duration,
}

/// Enters tenants and groups.
pub(super) fn tenants(
    scheduler: &mut Scheduler<Pid>,
    sharing: &Sharing,
    now: Now,
) -> Result<(), Error> {
    sharing.check().map_err(|(at, error)| refused(&at.join("."), &error))?;
    for (name, spec) in &sharing.tenants {
        let at = format!("tenants.{name}");
        let tenant: Tenant = name.parse().map_err(|error| refused(&at, &error))?;
        if let Some(weight) = spec.weight {
            let weight = Weight::new(weight).map_err(|error| refused(&at, &error))?;
            scheduler.weigh_tenant(&tenant, weight);
        }
        limit(scheduler, &Owner::Tenant(tenant.clone()), &spec.quota, &at, now)?;
        for (group, spec) in &spec.groups {
            let at = format!("{at}.groups.{group}");
            if let Some(weight) = spec.weight {
                let weight = Weight::new(weight).map_err(|error| refused(&at, &error))?;
                scheduler.weigh_group(&tenant, group, weight);
            }
            let owner = Owner::Group(tenant.clone(), group.clone());
            limit(scheduler, &owner, &spec.quota, &at, now)?;
        }
    }
    Ok(())
}

/// Adds a pool; what tunes it, where it shall be tuned.
pub(super) fn pool(
    scheduler: &mut Scheduler<Pid>,
    info: &DeviceInfo,
    spec: &PoolSpec,
    now: Now,
) -> Result<(PoolId, Option<Tuner>), Error> {
    let mut options = PoolOptions::new(info.slots);
    options.greatest = Units(info.window.0.saturating_mul(WINDOWS).max(1));
    options.window = Units(spec.ahead_tokens.unwrap_or(AHEAD));
    options.order = match spec.order {
        None | Some(OrderSpec::Fsp) => Order::Fsp,
        Some(OrderSpec::Fair) => Order::Fair,
        Some(OrderSpec::Fifo) => Order::Fifo,
        Some(OrderSpec::RoundRobin) => Order::RoundRobin,
        Some(OrderSpec::Priority) => Order::Priority,
    };
    let base = Knobs::of(&options);
    let is_tuned = spec.tune == Some(true);
    if is_tuned {
        options.aging = LONGEST_AGING;
    }
    let id = scheduler.add_pool(options).map_err(super::bug)?;
    limit(scheduler, &Owner::Pool(id), &spec.quota, "pools", now)?;
    if !is_tuned {
        return Ok((id, None));
    }
    scheduler.tune(id, base).map_err(super::bug)?;
    // The same for a name on every machine, and another for each name.
    let seed = info.name.bytes().fold(0_u64, |seed, byte| seed.rotate_left(8) ^ u64::from(byte));
    Ok((id, Some(Tuner::new(&options, base, seed))))
}

pub(super) fn limit(
    scheduler: &mut Scheduler<Pid>,
    owner: &Owner<Pid>,
    limits: &Limits,
    at: &str,
    now: Now,
) -> Result<(), Error> {
    let quota = quota(limits, now);
    if quota == Quota::default() {
        return Ok(());
    }
    scheduler.set_quota(owner, quota, now.monotonic).map_err(|error| refused(at, &error))
}

/// The limits as the scheduler has them.
pub(super) fn quota(limits: &Limits, now: Now) -> Quota {
    let rate = |rate: aosk_abi::Rate| Rate {
        limit: rate.limit(),
        window: Duration::from_secs(rate.seconds()),
    };
    Quota {
        requests: limits.requests.map(rate),
        input: limits.input_tokens.map(rate),
        output: limits.output_tokens.map(rate),
        money: limits.spend.map(|spend| budget(spend, now)),
        concurrency: limits.calls_at_once,
    }
}

/// A budget whose window ends on this clock when it ends on the wall's.
fn budget(spend: Spend, now: Now) -> Budget {
    let Some(per) = spend.per else {
        return Budget { limit: spend.limit, opened: now.monotonic, window: None };
    };
    let (began, ends) = window(per, now.wall);
    let left = Duration::from_millis(ends.millis_since(now.wall));
    Budget {
        limit: spend.limit,
        opened: now.monotonic.saturating_add(left),
        window: Some(Duration::from_millis(ends.millis_since(began))),
    }
}

fn refused(at: &str, error: &dyn std::fmt::Display) -> Error {
    Error::refused(Code::KernelSetup, format!("`{at}`: {error}"))
}
