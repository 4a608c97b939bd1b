//! For how long an endpoint is asked to keep what a call writes.

use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{
    CacheLife, Code, Exit, FailureKind, MicroDollars, Pid, StopReason, Tokens, Usage, What,
};
use aosk_kernel::{Outcome, Spawn};
use aosk_ports::{Journal, Part, ProcessFilter, Reply};

use crate::support::{Kit, Puppet, Say, failure, spawn};

const CALL: Say = Say::Call("pure", "{}");

/// A task of 1,500 tokens, beside which what a step adds is little.
fn long_task() -> Spawn {
    spawn(&"go on ".repeat(1_000))
}

/// What the process's plans ask for, and what its calls reserved.
async fn asked_for(kit: &Kit, pid: Pid) -> (Vec<CacheLife>, Vec<MicroDollars>) {
    let (mut lives, mut reserved) = (Vec::new(), Vec::new());
    let mut most = MicroDollars::ZERO;
    for what in kit.events(pid).await {
        match what {
            What::Planned(planned) => {
                lives.push(planned.life);
                most =
                    kit.puppet.prices().ceiling(planned.prompt_tokens, Tokens(256), planned.life);
            }
            What::LlmRequested(requested) => {
                assert_eq!(requested.reserved, most, "as dear as the life that it asks for");
                reserved.push(requested.reserved);
            }
            _ => {}
        }
    }
    (lives, reserved)
}

#[tokio::test(start_paused = true)]
async fn a_call_that_writes_little_asks_for_the_long_life_where_there_is_one() {
    for long in [true, false] {
        let puppet = Puppet::new(vec![CALL, CALL, CALL]);
        let kit = Kit::with(if long {
            puppet.keeping_long()
        } else {
            puppet.keeping(Duration::from_secs(300))
        });
        let kernel = kit.kernel();
        let pid = kernel.spawn(long_task()).await.unwrap();
        kernel.wait(pid).await.unwrap();
        let (lives, _) = asked_for(&kit, pid).await;
        let asked = kit.puppet.asked.lock().unwrap().clone();
        assert_eq!(asked.iter().map(|request| request.life).collect::<Vec<_>>(), lives);
        let second = if long { CacheLife::Long } else { CacheLife::Short };
        // The first writes all of it, and behind the second there is next to nothing to be lost.
        let short = CacheLife::Short;
        assert_eq!(lives, [short, second, short, short]);
        // Where the second ended is told while it stands.
        let ended = if long { asked[1].messages.len() } else { 0 };
        let lasting: Vec<usize> = asked.iter().map(|request| request.lasting).collect();
        assert_eq!(lasting, [0, 0, ended, ended]);
        let image = kit.image(pid).await;
        let now = kit.clock_now();
        for (minutes, cold) in [(1, false), (6, !long), (59, !long), (61, true)] {
            let then = now.plus_millis(minutes * 60_000);
            assert_eq!(image.warmth.is_cold(then), cold, "{long} {minutes}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_life_of_a_call_that_was_cut_off_is_the_planned_one_and_later_choices_are_the_same() {
    let smooth = Kit::with(Puppet::new(vec![CALL, CALL, CALL]).keeping_long());
    let kernel = smooth.kernel();
    let pid = kernel.spawn(long_task()).await.unwrap();
    kernel.wait(pid).await.unwrap();
    let (lives, _) = asked_for(&smooth, pid).await;

    let kit = Kit::with(Puppet::new(vec![CALL, Say::Hang, CALL, CALL]).keeping_long());
    let store = kit.boot();
    let kernel = kit.kernel_on(store.clone());
    let pid = kernel.spawn(long_task()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    store.crash();
    kernel.stop(aosk_kernel::Stop::Now);
    kernel.wait(pid).await.unwrap();
    drop(kit.boot());
    let kernel = kit.kernel();
    assert_eq!(kernel.recover().await.unwrap(), [pid]);
    kernel.wait(pid).await.unwrap();
    let asked = kit.puppet.asked.lock().unwrap().clone();
    let told = |call: usize| (asked[call].life, asked[call].lasting, asked[call].settled);
    assert_eq!((told(1), told(2)), ((CacheLife::Long, 0, 0), told(1)), "the same marks");
    assert_eq!(asked_for(&kit, pid).await.0, lives);
    assert_eq!(asked[3].lasting, asked[1].messages.len());
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_money_that_only_the_long_life_takes() {
    // The second call takes up to 3.2 thousandths of a dollar, or 4.4 with an hour; 0.15 are spent.
    for (limit, second) in [(0.004, CacheLife::Short), (0.005, CacheLife::Long)] {
        let kit = Kit::with(Puppet::new(vec![CALL, CALL, CALL]).keeping_long());
        let kernel = kit.kernel();
        let mut request = long_task();
        request.manifest.quota.spend_usd = Some(limit);
        let pid = kernel.spawn(request).await.unwrap();
        let outcome = kernel.wait(pid).await.unwrap();
        assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
        let (lives, reserved) = asked_for(&kit, pid).await;
        let short = CacheLife::Short;
        assert_eq!(lives, [short, second, short, short], "{limit}");
        assert_eq!(lives.len(), reserved.len());
    }
}

#[tokio::test(start_paused = true)]
async fn another_endpoint_has_kept_nothing() {
    let fail = failure(FailureKind::Fatal, Code::LlmAuth, None);
    let kit = Kit::with(Puppet::new(vec![CALL, CALL, fail]).keeping_long());
    let spare = Arc::new(Puppet::new(vec![]).named("spare").keeping_long());
    let kernel = kit.kernel_with_spares(&[&spare]);
    let pid = kernel.spawn(long_task()).await.unwrap();
    kernel.wait(pid).await.unwrap();
    let lasting = |puppet: &Puppet| {
        let asked = puppet.asked.lock().unwrap();
        asked.iter().map(|request| (request.life, request.lasting > 0)).collect::<Vec<_>>()
    };
    let (short, long) = (CacheLife::Short, CacheLife::Long);
    assert_eq!(lasting(&kit.puppet), [(short, false), (long, false), (short, true)]);
    assert_eq!(lasting(&spare), [(short, false)]);
    assert_eq!(kit.image(pid).await.lasting, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_for_long_is_paid_as_such_and_listed_with_all_that_is_written() {
    let usage = Usage {
        input: Tokens(1_600),
        cache_write: Tokens(1_600),
        cache_write_long: Tokens(600),
        ..Usage::default()
    };
    let reply = Reply {
        parts: vec![Part::Text("done".into())],
        stop: StopReason::Stop,
        usage: Some(usage),
        model: "puppet-1".into(),
        raw: None,
    };
    let kit = Kit::with(Puppet::new(vec![Say::Full(reply)]).keeping_long());
    let kernel = kit.kernel();
    let pid = kernel.spawn(long_task()).await.unwrap();
    kernel.wait(pid).await.unwrap();
    let account = kit.image(pid).await.account;
    assert_eq!(account.usage, usage);
    assert_eq!(account.spent(), MicroDollars(1_250 + 1_200));
    let tenant = aosk_abi::Tenant::local();
    let listed = kit.store().processes(&tenant, ProcessFilter::All).await.unwrap();
    assert_eq!(listed[0].row.usage, Usage { cache_write_long: Tokens::ZERO, ..usage });
}
