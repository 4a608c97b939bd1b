//! Money.

use aosk_abi::{BlockedOn, Code, Exit, FailureKind, MicroDollars, ProcessState};
use aosk_kernel::Outcome;
use aosk_ports::CallError;

use crate::support::{Kit, Puppet, Say, failure, spawn};

const DOLLAR: u64 = 1_000_000;

#[tokio::test(start_paused = true)]
async fn a_spent_limit_blocks_the_process_and_raising_it_goes_on() {
    let kit = Kit::with(Puppet::new(vec![Say::Call("pure", "{}"), Say::Text("ok")]).priced());
    let kernel = kit.kernel();
    let mut request = spawn("spend");
    request.manifest.quota.spend_usd = Some(0.5);
    let pid = kernel.spawn(request).await.unwrap();
    let outcome = kernel.wait(pid).await.unwrap();
    // The first call may cost 256 output tokens and its prompt: more than half a dollar is not
    // there, so it is not made at all or it is the second that does not fit.
    let Outcome::Parked(BlockedOn::Quota { limit, spent, needed }) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(limit, MicroDollars(DOLLAR / 2));
    assert!(spent + needed > limit);
    assert!(spent <= limit, "never overspent");
    assert!(matches!(
        kit.image(pid).await.state,
        ProcessState::Blocked { on: BlockedOn::Quota { .. }, .. }
    ));

    kernel.resume(pid, None).await.unwrap();
    assert!(matches!(kernel.wait(pid).await, Some(Outcome::Parked(_))), "nothing has changed");
    kernel.resume(pid, Some(MicroDollars(10 * DOLLAR))).await.unwrap();
    let outcome = kernel.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn forty_processes_never_overspend_the_cap_of_the_run() {
    let mut kit = Kit::with(Puppet::new(vec![]).priced().slots(40));
    // Each call costs 0.11 and may cost up to about 0.4.
    kit.options.spend_limit = Some(MicroDollars(DOLLAR));
    let kernel = kit.kernel();
    let mut pids = Vec::new();
    for index in 0..40 {
        pids.push(kernel.spawn(spawn(&format!("task {index}"))).await.unwrap());
    }
    let outcomes = kernel.wait_each(&pids).await;
    let mut spent = MicroDollars::ZERO;
    for (pid, _) in &outcomes {
        spent += kit.image(*pid).await.account.spent();
    }
    assert!(spent <= MicroDollars(DOLLAR), "{spent}");
    let done = outcomes.iter().filter(|(_, o)| matches!(o, Outcome::Exited(_))).count();
    let parked = outcomes.iter().filter(|(_, o)| matches!(o, Outcome::Parked(_))).count();
    assert!(done >= 2 && done + parked == 40, "{done} done, {parked} parked");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_broke_off_counts_as_spent() {
    let broken = failure(FailureKind::Transient, Code::LlmTransient, None);
    let kit = Kit::with(Puppet::new(vec![broken, Say::Text("ok")]).priced());
    let (pid, _) = kit.run().await;
    let account = kit.image(pid).await.account;
    assert!(account.spent() > MicroDollars(110_000 + 256_000), "{account:?}");

    // Whatever its end is called, as long as nobody says what it used.
    for (kind, code) in
        [(FailureKind::Throttled, Code::LlmThrottled), (FailureKind::Fatal, Code::LlmProviderQuota)]
    {
        let Say::Fail(error) = failure(kind, code, None) else { panic!("it fails") };
        let silent = Say::Fail(CallError { usage: None, ..error });
        let kit = Kit::with(Puppet::new(vec![silent]).priced());
        let (pid, _) = kit.run().await;
        let account = kit.image(pid).await.account;
        assert!(account.spent() > MicroDollars(256_000), "{kind:?}: {account:?}");
    }

    let refused = failure(FailureKind::Fatal, Code::LlmBadRequest, None);
    let kit = Kit::with(Puppet::new(vec![refused]).priced());
    let (pid, _) = kit.run().await;
    assert_eq!(kit.image(pid).await.account.spent(), MicroDollars::ZERO);
}

#[tokio::test(start_paused = true)]
async fn money_for_a_call_that_was_never_made_is_given_back() {
    let script = vec![Say::Call("slow", "{}"), Say::Text("taken over"), Say::Text("ok")];
    let mut kit = Kit::with(Puppet::new(script).priced());
    kit.options.tool_timeout = std::time::Duration::from_secs(20);
    // A call may cost about 0.4 and costs 0.11: there is room for one more, and not for two.
    kit.options.spend_limit = Some(MicroDollars(DOLLAR * 8 / 10));
    let old = kit.kernel();
    let lost = old.spawn(spawn("go")).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let new = kit.kernel();
    new.resume(lost, None).await.unwrap();
    new.wait(lost).await.unwrap();
    let outcome = old.wait(lost).await.unwrap();
    assert!(matches!(outcome, Outcome::Broken { code: Code::StoreStaleEpoch, .. }), "{outcome:?}");
    let next = old.spawn(spawn("go")).await.unwrap();
    let outcome = old.wait(next).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
}
