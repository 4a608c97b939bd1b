//! Plans and checkpoints that no page table wrote.

use aosk_abi::{Admission, Conditions, PageId, PageKind, Planned, Ppm, Seq, Source, Tokens};
use aosk_context::{PageTable, TruncateOldest};
use proptest::prelude::*;

use crate::process::{conditions, demand, planned, to_cbor};
use crate::streams::{moves, run};

fn kind() -> impl Strategy<Value = PageKind> {
    prop::sample::select(vec![
        PageKind::System,
        PageKind::Tools,
        PageKind::Task,
        PageKind::Message,
        PageKind::Reply,
        PageKind::ToolCall,
        PageKind::ToolResult,
    ])
}

fn tokens() -> impl Strategy<Value = Tokens> {
    prop_oneof![4 => 0..300_u64, 1 => Just(u64::MAX), 1 => any::<u64>()].prop_map(Tokens)
}

/// An admission near the end of a table of `pages` pages, or anywhere.
fn admission(pages: u32) -> impl Strategy<Value = Admission> {
    let page = prop_oneof![8 => pages..pages.saturating_add(3), 1 => any::<u32>()];
    let unit = prop_oneof![8 => 0..400_u64, 1 => any::<u64>()];
    let importance = prop_oneof![8 => 0..=1_000_000_u32, 1 => any::<u32>()];
    let range = prop::option::of(any::<(u64, u64)>());
    (page, kind(), unit, tokens(), any::<bool>(), importance, range).prop_map(
        |(page, kind, unit, tokens, pinned, importance, range)| Admission {
            page: PageId(page),
            kind,
            source: Source { seq: Seq(unit), part: 0 },
            range,
            unit: Seq(unit),
            tokens,
            pinned,
            importance: Ppm(importance),
        },
    )
}

fn garbled(
    table: &PageTable,
    honest: &(Planned, Conditions),
) -> impl Strategy<Value = (Planned, Conditions)> + use<> {
    let pages = table.pages().len() as u32;
    let (honest, under) = honest.clone();
    let admitted =
        prop_oneof![Just(honest.admitted.clone()), prop::collection::vec(admission(pages), 0..4)];
    let evicted = prop_oneof![
        Just(honest.evicted.clone()),
        prop::collection::vec(0..pages + 2, 0..8)
            .prop_map(|ids| ids.into_iter().map(PageId).collect::<Vec<_>>()),
        prop::collection::btree_set(0..pages + 2, 0..12)
            .prop_map(|ids| ids.into_iter().map(PageId).collect::<Vec<_>>()),
    ];
    let generation = prop_oneof![
        Just(honest.generation),
        (0..3_u64).prop_map({
            let generation = honest.generation;
            move |more| generation + more
        }),
        any::<u64>()
    ];
    let window = prop_oneof![Just(under.window), Just(Tokens(u64::MAX)), tokens()];
    let prompt = prop_oneof![Just(honest.prompt_tokens), Just(Tokens(u64::MAX)), tokens()];
    let max_output = prop_oneof![Just(Tokens(0)), Just(under.max_output), tokens()];
    (admitted, evicted, generation, window, prompt, max_output).prop_map(
        move |(admitted, evicted, generation, window, prompt_tokens, max_output)| {
            let plan = Planned { generation, prompt_tokens, admitted, evicted, ..honest.clone() };
            (plan, Conditions { window, max_output, ..under.clone() })
        },
    )
}

fn with_garbled_plans() -> impl Strategy<Value = (PageTable, Vec<(Planned, Conditions)>)> {
    moves().prop_flat_map(|moves| {
        let mut process = run(&moves).expect("an honest stream");
        process.message(20);
        let demand = demand(1_000_000, 100, 0, 0);
        let plan = process.plan(&demand, &TruncateOldest).expect("a wide window");
        let honest = (planned(&plan), conditions(&demand));
        let plans = prop::collection::vec(garbled(&process.table, &honest), 1..24);
        (Just(process.table), plans)
    })
}

proptest! {
    #[test]
    fn a_garbled_plan_is_refused_whole_or_leaves_a_sound_table(
        (mut table, plans) in with_garbled_plans()
    ) {
        for (plan, under) in plans {
            let before = table.clone();
            match table.apply(&plan, &under) {
                Err(_) => prop_assert_eq!(&table, &before, "half applied"),
                Ok(()) => {
                    for &id in &plan.evicted {
                        prop_assert!(!before.page(id).expect("known").pinned);
                        prop_assert!(!table.page(id).expect("known").resident);
                    }
                    let sum: u128 = table.resident().map(|page| u128::from(page.tokens.0)).sum();
                    prop_assert_eq!(sum, u128::from(table.tokens().0));
                    prop_assert!(sum + u128::from(under.max_output.0) <= u128::from(under.window.0));
                    let back: Result<PageTable, _> = ciborium::from_reader(&to_cbor(&table)[..]);
                    prop_assert_eq!(back.expect("sound"), table.clone());
                }
            }
        }
    }

    #[test]
    fn a_damaged_checkpoint_is_refused_or_sound(
        moves in moves(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
    ) {
        let table = run(&moves)?.table;
        prop_assert_eq!(&in_two_parts(&table), &table);
        let mut bytes = to_cbor(&table);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(table) = ciborium::from_reader::<PageTable, _>(&bytes[..]) {
            prop_assert!(table.pages().iter().all(|page| page.resident || !page.pinned));
            let again: PageTable = ciborium::from_reader(&to_cbor(&table)[..]).expect("sound");
            prop_assert_eq!(&again, &table);
            // Whatever is accepted can be planned with.
            let _ = table.plan(&[], &demand(1_000, 100, 0, 0), &TruncateOldest);
        }
    }
}

/// The table as a checkpoint keeps it that writes how its pages entered once.
fn in_two_parts(table: &PageTable) -> PageTable {
    let entries: Vec<_> = table.entries(0).collect();
    let mut bytes = Vec::new();
    ciborium::into_writer(&table.residency(), &mut bytes).expect("CBOR");
    let residency = ciborium::from_reader(&bytes[..]).expect("CBOR");
    PageTable::restore(&entries, &residency).expect("sound")
}
