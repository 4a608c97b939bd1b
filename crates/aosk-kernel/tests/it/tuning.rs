//! Settings of a device that are moved while it is used.

use std::time::Duration;

use aosk_abi::{Exit, Sharing, Tuned, What};
use aosk_kernel::{Outcome, Stop};

use crate::support::{Kit, Puppet, Say, spawn};

/// Runs as many agents of one call as make four choices, and some more; what was chosen.
async fn chosen(text: &str) -> Vec<Tuned> {
    let mut kit = Kit::with(Puppet::new(vec![]).slots(9));
    kit.options.sharing = toml::from_str::<Sharing>(text).expect("a sharing");
    let kernel = kit.kernel();
    let mut pids = Vec::new();
    for index in 0..4 * 128 + 20 {
        pids.push(kernel.spawn(spawn(&format!("task {index}"))).await.expect("spawned"));
    }
    let outcomes = kernel.wait_each(&pids).await;
    let is_done = |it: &Outcome| matches!(it, Outcome::Exited(Exit::Completed { .. }));
    assert!(outcomes.iter().all(|(_, outcome)| is_done(outcome)), "nobody notices");
    let mut chosen = Vec::new();
    for pid in pids {
        let events = kit.events(pid).await;
        let tuned = events.iter().position(|what| matches!(what, What::Tuned(_)));
        let asked = events.iter().position(|what| matches!(what, What::LlmRequested(_)));
        assert!(tuned.is_none_or(|tuned| Some(tuned) < asked), "before the call left: {events:?}");
        chosen.extend(events.into_iter().filter_map(|what| match what {
            What::Tuned(tuned) => Some(tuned),
            _ => None,
        }));
    }
    chosen.sort_by_key(|tuned| tuned.epochs);
    chosen
}

#[tokio::test(start_paused = true)]
async fn each_choice_is_an_event_in_front_of_the_first_call_that_goes_by_it_and_none_without_the_switch()
 {
    let tuned = chosen("[pools.puppet]\ntune = true\nahead_tokens = 4000").await;
    let epochs: Vec<u64> = tuned.iter().map(|tuned| tuned.epochs).collect();
    assert_eq!(epochs, [1, 2, 3, 4]);
    for it in &tuned {
        assert!(it.device == "puppet" && (1..=100).contains(&it.depth_percent), "{it:?}");
        assert!(it.ahead_tokens <= 4_000 && it.aging_ms <= 60_000, "{it:?}");
        assert!((1..=1_000).contains(&it.worth_milli), "nine at once of five hundred wait: {it:?}");
    }
    let settings = |it: &Tuned| (it.depth_percent, it.ahead_tokens, it.aging_ms, it.guess_percent);
    assert_ne!(settings(&tuned[0]), settings(&tuned[1]), "each is tried");
    let again = chosen("[pools.puppet]\ntune = true\nahead_tokens = 4000").await;
    assert_eq!(again, tuned, "the same calls give the same choices");
    for off in ["", "[pools.puppet]\ntune = false"] {
        assert_eq!(chosen(off).await, [], "{off:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_told_of_a_choice_goes_on_in_a_kernel_that_chooses_nothing() {
    // The calls behind the first choice hang, nine at once.
    let done = (0..128).map(|_| Say::Text("done"));
    let script = done.chain((0..9).map(|_| Say::Hang)).collect();
    let mut kit = Kit::with(Puppet::new(script).slots(9));
    let tune = "[pools.puppet]\ntune = true";
    kit.options.sharing = toml::from_str::<Sharing>(tune).expect("a sharing");
    let kernel = kit.kernel();
    let mut pids = Vec::new();
    for index in 0..140 {
        pids.push(kernel.spawn(spawn(&format!("task {index}"))).await.expect("spawned"));
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    kernel.stop(Stop::Now);
    kernel.quiet().await;
    kit.options.sharing = Sharing::default();
    let kernel = kit.kernel();
    kernel.recover().await.expect("recovered");
    let mut told = 0;
    for pid in pids {
        let outcome = kernel.wait(pid).await;
        let is_done = matches!(outcome, None | Some(Outcome::Exited(Exit::Completed { .. })));
        assert!(is_done && kit.image(pid).await.state.is_final(), "{outcome:?}");
        told += kit.names(pid).await.iter().filter(|name| **name == "tuned").count();
    }
    assert_eq!(told, 1, "what was chosen stands where it stood, and nobody chose again");
}
