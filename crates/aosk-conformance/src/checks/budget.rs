//! Budgets.

use aosk_abi::{Code, MicroDollars, Tenant, Timestamp};
use aosk_ports::{Draw, Drawn};

use super::refused;
use crate::World;

fn draw(drawer: u64, drawn: u64) -> Draw {
    Draw {
        tenant: Tenant::local(),
        budget: "pool a b".to_owned(),
        window: Timestamp::from_millis(1_000),
        drawer,
        drawn: MicroDollars(drawn),
        limit: MicroDollars(100),
    }
}

fn drawn(granted: bool, others: u64) -> Drawn {
    Drawn { granted, others: MicroDollars(others) }
}

/// All drawers together never have more than the limit; each has one number, durably, which it may
/// say again or lower at any time.
pub async fn a_budget_is_drawn_up_to_its_limit_by_all_together(mut world: World) {
    let ask = async |world: &World, draw: Draw| world.store().draw(draw).await.expect("answers");
    assert_eq!(ask(&world, draw(1, 0)).await, drawn(true, 0), "nothing is drawn");
    assert_eq!(ask(&world, draw(1, 60)).await, drawn(true, 0));
    assert_eq!(ask(&world, draw(1, 60)).await, drawn(true, 0), "said again");
    assert_eq!(ask(&world, draw(2, 41)).await, drawn(false, 60), "one above");
    assert_eq!(ask(&world, draw(u64::MAX, 40)).await, drawn(true, 60), "at the limit");
    assert_eq!(ask(&world, draw(2, 1)).await, drawn(false, 100));
    world.reopen();
    assert_eq!(ask(&world, draw(2, 0)).await, drawn(true, 100), "it is durable");
    assert_eq!(ask(&world, draw(1, 50)).await, drawn(true, 40), "given back");
    assert_eq!(ask(&world, draw(2, 10)).await, drawn(true, 90));
    // A limit that was lowered takes nothing away and lets nothing more through.
    let lower = |drawn| Draw { limit: MicroDollars(20), ..draw(1, drawn) };
    assert_eq!(ask(&world, lower(51)).await, drawn(false, 50));
    assert_eq!(ask(&world, lower(49)).await, drawn(true, 50));
}

/// Another budget, another tenant and the next window are other money.
pub async fn budgets_tenants_and_windows_are_drawn_apart(world: World) {
    let ask = async |draw: Draw| world.store().draw(draw).await.expect("answers");
    let full = draw(1, 100);
    assert_eq!(ask(full.clone()).await, drawn(true, 0));
    let tenant: Tenant = "another".parse().expect("a name");
    for other in [
        Draw { budget: "pool c".to_owned(), drawer: 2, ..full.clone() },
        Draw { tenant, drawer: 2, ..full.clone() },
        Draw { window: Timestamp::from_millis(2_000), drawer: 2, ..full.clone() },
    ] {
        assert_eq!(ask(other).await, drawn(true, 0));
    }
}

/// What many draw at once is never above the limit.
pub async fn many_who_draw_at_once_stay_below_the_limit(world: World) {
    let draws: Vec<_> = (0..20)
        .map(|drawer| {
            let store = world.store().clone();
            tokio::spawn(async move { store.draw(draw(drawer, 7)).await })
        })
        .collect();
    let mut granted = 0;
    for answer in draws {
        let answer = answer.await.expect("no panic").expect("answers");
        granted += u64::from(answer.granted);
    }
    assert_eq!(granted, 14, "14 times 7 is 98");
}

/// A name that no store can keep is refused.
pub async fn a_budget_without_a_usable_name_is_refused(world: World) {
    for (budget, is_good) in
        [("x".repeat(400), true), ("x".repeat(401), false), ("a\0b".to_owned(), false)]
    {
        let answer = world.store().draw(Draw { budget, ..draw(1, 1) }).await;
        if is_good {
            assert_eq!(answer.expect("answers"), drawn(true, 0));
        } else {
            refused(answer, Code::StoreConflict);
        }
    }
}
