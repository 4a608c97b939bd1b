//! What a reply shows that it used of its prompt.

use aosk_abi::{Exit, Manifest, PageId, PageKind, Pid, What};
use aosk_kernel::{Outcome, Spawn};

use crate::support::{Kit, Puppet, Say, spawn};

async fn run(policy: &str, window: u64, script: Vec<Say>) -> (Kit, Pid) {
    let kit = Kit::with(Puppet::new(script).windowed(window).replying(200));
    let kernel = kit.kernel();
    let manifest = format!(
        "name = \"tester\"\ntools = [\"pure\"]\nmax_steps = 40\n[context]\npolicy = \"{policy}\"\n"
    );
    let manifest = Manifest::from_toml(&manifest).expect("a manifest");
    let pid = kernel.spawn(Spawn { manifest, ..spawn("do it for ord_111111") }).await;
    let pid = pid.expect("spawned");
    let outcome = kernel.wait(pid).await.expect("an outcome");
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    (kit, pid)
}

/// The pages that each reply used.
async fn used(kit: &Kit, pid: Pid) -> Vec<Vec<PageId>> {
    let events = kit.events(pid).await.into_iter();
    events
        .filter_map(|what| match what {
            What::LlmReturned(returned) => Some(returned.used),
            _ => None,
        })
        .collect()
}

async fn results(kit: &Kit, pid: Pid) -> Vec<PageId> {
    let image = kit.image(pid).await;
    let pages = image.pages.pages().iter().filter(|page| page.kind == PageKind::ToolResult);
    pages.map(|page| page.id).collect()
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_repeats_a_name_or_a_line_of_an_old_result_needed_it() {
    let script = vec![
        Say::Call("pure", r#"{"say": "order ord_222222 is open"}"#),
        // The newest result is read anyway, and the task is pinned.
        Say::Call(
            "pure",
            r#"{"say": "a line that is long enough\nshort", "of": "ord_222222 ord_111111"}"#,
        ),
        Say::Call("pure", r#"{"say": "and more", "of": ["x", {"y": "close ord_222222"}]}"#),
        Say::Call("pure", r#"{"say": "still more", "of": "x\na line that is long enough\n"}"#),
        Say::Call("pure", r#"{"say": "the end", "of": "a line that is long"}"#),
        Say::Text("ord_222222: a line that is long enough."),
    ];
    let (kit, pid) = run("cost_aware", 9_000, script).await;
    let results = results(&kit, pid).await;
    let (order, line) = (results[0], results[1]);
    let found = used(&kit, pid).await;
    assert_eq!(found, [vec![], vec![], vec![order], vec![line], vec![], vec![order]]);
    let image = kit.image(pid).await;
    let accesses = |page| image.pages.page(page).expect("there").accesses;
    assert_eq!((accesses(order), accesses(line), accesses(results[2])), (2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_has_left_is_not_used_and_what_is_used_stays() {
    let mut script = vec![Say::Call("pure", r#"{"say": "order ord_222222 is open"}"#)];
    for _ in 0..12 {
        script.push(Say::Call(
            "pure",
            r#"{"say": "ten words of no use to anybody", "of": "ord_222222"}"#,
        ));
    }
    script.push(Say::Text("ord_222222"));
    let counts = |used: Vec<Vec<PageId>>| used.iter().filter(|used| !used.is_empty()).count();
    let (kit, pid) = run("truncate_oldest", 460, script.clone()).await;
    let oldest = counts(used(&kit, pid).await);
    let (kit, pid) = run("cost_aware", 460, script).await;
    let ours = counts(used(&kit, pid).await);
    let image = kit.image(pid).await;
    assert!(image.pages.generation() > 2, "{}", image.pages.generation());
    assert!((1..8).contains(&oldest), "{oldest}");
    assert_eq!(ours, 12, "from the second call on");
}
