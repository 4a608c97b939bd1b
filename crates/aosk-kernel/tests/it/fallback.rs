//! Another model, where the first one fails for good.

use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{Code, Exit, FailureKind, What};
use aosk_kernel::{Model, Outcome};
use aosk_ports::Device;

use crate::support::{Kit, Puppet, Quarters, Say, failure, spawn};

fn spare(name: &str, script: Vec<Say>) -> Arc<Puppet> {
    Arc::new(Puppet::new(script).named(name))
}

fn refused() -> Say {
    failure(FailureKind::Fatal, Code::LlmProviderQuota, None)
}

fn slow() -> Say {
    failure(FailureKind::Throttled, Code::LlmThrottled, Some(Duration::from_millis(500)))
}

async fn devices(kit: &Kit, pid: aosk_abi::Pid) -> Vec<String> {
    let events = kit.events(pid).await;
    let asked = events.into_iter().filter_map(|what| match what {
        What::LlmRequested(requested) => Some(requested.device),
        _ => None,
    });
    asked.collect()
}

#[tokio::test(start_paused = true)]
async fn the_next_model_goes_on_where_the_first_one_stopped() {
    let kit = Kit::new(vec![Say::Call("pure", "{}"), refused()]);
    let other = spare("spare", vec![Say::Call("keyed", "{}"), Say::Text("ok")]);
    let kernel = kit.kernel_with_spares(&[&other]);
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    let outcome = kernel.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    assert_eq!(devices(&kit, pid).await, ["puppet", "puppet", "spare", "spare"]);
    assert_eq!((kit.pure.total(), kit.keyed.total()), (1, 1), "no tool was run again");
    let image = kit.image(pid).await;
    assert_eq!((image.model.as_str(), image.spawned.model.as_str()), ("spare", "puppet"));
    let (last, first) = (kit.puppet.prompts.lock().unwrap().last().cloned().unwrap(), {
        other.prompts.lock().unwrap()[0].clone()
    });
    assert_eq!(last.prompt_bytes, first.prompt_bytes, "the same conversation");
}

#[tokio::test(start_paused = true)]
async fn who_has_an_alternative_tries_twice_and_the_last_one_as_often_as_ever() {
    let ill = || failure(FailureKind::Transient, Code::LlmTransient, None);
    let kit = Kit::new((0..9).map(|_| ill()).collect());
    let other = spare("spare", (0..9).map(|_| ill()).collect());
    let kernel = kit.kernel_with_spares(&[&other]);
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    let outcome = kernel.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Failed { .. })), "{outcome:?}");
    let asked = devices(&kit, pid).await;
    let of = |name: &str| asked.iter().filter(|device| *device == name).count();
    assert_eq!((of("puppet"), of("spare")), (2, kit.options.retry.attempts as usize));
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_the_request_is_no_reason_to_ask_another() {
    let kit = Kit::new(vec![failure(FailureKind::Fatal, Code::LlmBadRequest, None)]);
    let other = spare("spare", vec![]);
    let kernel = kit.kernel_with_spares(&[&other]);
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    let outcome = kernel.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Failed { .. })), "{outcome:?}");
    assert_eq!(devices(&kit, pid).await, ["puppet"]);
}

#[tokio::test(start_paused = true)]
async fn a_smaller_window_of_the_next_model_is_planned_for() {
    let call = || Say::Call("pure", "{\"say\": \"0123456789012345678901234567890123456789\"}");
    let mut script: Vec<Say> = (0..20).map(|_| call()).collect();
    script.push(refused());
    let kit = Kit::new(script);
    let other = Arc::new(Puppet::new(vec![]).named("spare").windowed(700));
    let kernel = kit.kernel_with_spares(&[&other]);
    let mut request = spawn("go");
    request.manifest.max_steps = 40;
    request.manifest.sampling.max_output_tokens = Some(aosk_abi::Tokens(100));
    let pid = kernel.spawn(request).await.unwrap();
    let outcome = kernel.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    let last = kit.events(pid).await.into_iter().rev().find_map(|what| match what {
        What::Planned(planned) => Some(planned),
        _ => None,
    });
    let last = last.expect("a plan");
    assert_eq!(last.under.window, Some(aosk_abi::Tokens(700)));
    assert!(last.prompt_tokens.0 + 100 <= 700 && !last.evicted.is_empty(), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_later_kernel_goes_on_with_the_model_that_was_asked_last() {
    let kit = Kit::new(vec![refused()]);
    let other = spare("spare", vec![Say::Hang, Say::Text("ok")]);
    let kernel = kit.kernel_with_spares(&[&other]);
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    kernel.stop(aosk_kernel::Stop::Now);
    let again = kit.kernel_with_spares(&[&other]);
    again.recover().await.unwrap();
    let outcome = again.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    assert_eq!(devices(&kit, pid).await, ["puppet", "spare", "spare"]);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_cannot_be_asked_is_passed_over_before_anything_is_written() {
    let kit = Kit::new(vec![refused()]);
    let picky = Arc::new(Puppet::new(vec![]).named("picky").without_temperature());
    let other = spare("spare", vec![Say::Text("ok")]);
    let kernel = |names: &[&str]| {
        kit.kernel_of(kit.store(), |parts| {
            for puppet in [&picky, &other] {
                let model = Model { device: puppet.clone(), tokenizer: Arc::new(Quarters) };
                parts.models.insert(puppet.info().name.clone(), model);
            }
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            parts.alternatives.insert("puppet".to_owned(), names);
        })
    };
    let mut request = spawn("go");
    request.manifest.sampling.temperature = Some(0.5);
    let chosen = kernel(&["nobody", "picky", "spare"]);
    let pid = chosen.spawn(request.clone()).await.unwrap();
    let outcome = chosen.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    assert_eq!(devices(&kit, pid).await, ["puppet", "spare"]);

    // Where none is left, the failure stands as it came, and what may pass is tried as often as
    // ever.
    let kit = Kit::new(vec![slow(), slow(), slow(), Say::Text("ok")]);
    let none = kit.kernel_of(kit.store(), |parts| {
        parts.alternatives.insert("puppet".to_owned(), vec!["nobody".to_owned()]);
    });
    let pid = none.spawn(request).await.unwrap();
    let outcome = none.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    assert_eq!(devices(&kit, pid).await, ["puppet"; 4]);
    assert_eq!(kit.image(pid).await.model, "puppet");
}

#[tokio::test(start_paused = true)]
async fn the_next_model_gets_a_plan_of_its_own() {
    let kit = Kit::new(vec![refused()]);
    let other = Arc::new(Puppet::new(vec![]).named("spare").replying(64));
    let kernel = kit.kernel_with_spares(&[&other]);
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    let outcome = kernel.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    assert_eq!(other.asked.lock().unwrap()[0].max_output, aosk_abi::Tokens(64));
    assert_eq!(kit.image(pid).await.step.0, 1, "the same step, planned anew");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_came_to_a_smaller_window_is_taken_up_again() {
    let kit = Kit::new(vec![refused()]);
    let other = Arc::new(Puppet::new(vec![Say::Hang]).named("spare").windowed(1000));
    let kernel = kit.kernel_with_spares(&[&other]);
    let mut request = spawn("go");
    request.manifest.context.window = Some(aosk_abi::Tokens(2000));
    let pid = kernel.spawn(request).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    kernel.stop(aosk_kernel::Stop::Now);
    let again = kit.kernel_with_spares(&[&other]);
    again.recover().await.unwrap();
    let outcome = again.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn what_one_model_taught_about_its_tokens_is_not_held_against_the_next() {
    let call = || Say::Call("pure", "{\"say\": \"0123456789012345678901234567890123456789\"}");
    let long = failure(FailureKind::ContextLength, Code::LlmContextLength, None);
    let kit = Kit::new(vec![long, call(), refused()]);
    let script = (0..20).map(|_| call()).collect();
    let other = Arc::new(Puppet::new(script).named("spare").windowed(700));
    let kernel = kit.kernel_with_spares(&[&other]);
    let mut request = spawn("go");
    request.manifest.max_steps = 15;
    request.manifest.sampling.max_output_tokens = Some(aosk_abi::Tokens(100));
    let pid = kernel.spawn(request).await.unwrap();
    kernel.wait(pid).await.unwrap();
    let events = kit.events(pid).await;
    let largest = events.iter().filter_map(|what| match what {
        What::Planned(planned) => Some(planned.prompt_tokens.0),
        _ => None,
    });
    // With a quarter kept free for what the first one's tokenizer may miss, it would be 480.
    assert!(largest.max().is_some_and(|largest| largest > 480));
}
