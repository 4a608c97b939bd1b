//! The fold: the same state from the whole journal and from any checkpoint of it.

use aosk_abi::{
    Blocked, BlockedOn, CacheLife, CacheRules, Cancelled, Changes, ChildBegun, ChildEnded, Code,
    Conditions, ContentKey, ContentRef, Effect, Epoch, Event, Exit, Exited, FailureKind, Hash,
    Interrupted, LlmFailed, LlmRequested, LlmReturned, MessageReceived, MessageTaken, MicroDollars,
    Op, PageId, PageKind, Pid, Planned, Priority, Recalled, Record, Recovered, ReplyPart, Seq,
    Signal, SignalReceived, Spawned, SpendRaised, StopReason, Tenant, Timestamp, Tokens, Told,
    ToolRequested, ToolReturned, Unblocked, Usage, What,
};
use aosk_context::{Arrival, Demand, TruncateOldest};
use aosk_kernel::{Action, FoldError, Image, Saved};
use aosk_ports::{Checkpoint, Stretch};
use proptest::prelude::*;

/// A journal that grows by events that may follow, chosen by a stream of numbers.
struct Author {
    image: Image,
    records: Vec<Record>,
    choices: std::vec::IntoIter<u8>,
}

fn text(text: &str) -> ContentRef {
    ContentKey::from_bytes([3; 32]).seal(text.as_bytes()).reference()
}

impl Author {
    fn begin(choices: Vec<u8>) -> Self {
        let spawned = Spawned {
            name: "author".into(),
            alias: None,
            parent: None,
            program: "react".into(),
            model: "m".into(),
            priority: Priority::DEFAULT,
            max_steps: 12,
            max_tool_steps: Some(9),
            spend_limit: Some(MicroDollars(1_000)),
            manifest: text("{}"),
            system: text("system"),
            tools: text("[]"),
            task: text("task"),
        };
        let event = Event::new(Timestamp::from_millis(1), What::Spawned(spawned));
        let (tenant, pid) = (Tenant::local(), Pid::from_alias("author"));
        let record = Record::seal(&tenant, pid, Seq(0), Epoch(1), Hash::ZERO, &event).unwrap();
        let image = Image::begin(&tenant, pid, &record).unwrap();
        Self { image, records: vec![record], choices: choices.into_iter() }
    }

    fn choose(&mut self) -> Option<u8> {
        self.choices.next()
    }

    fn write(&mut self, what: What) {
        let at = Timestamp::from_millis(1_000_000 - self.image.next.0);
        let event = Event::new(at, what);
        let record = Record::seal(
            &self.image.tenant,
            self.image.pid,
            self.image.next,
            self.image.epoch,
            self.image.head,
            &event,
        )
        .unwrap();
        self.image.apply(&record).expect("a journal that the kernel could write");
        self.records.push(record);
    }

    /// Writes until the choices or the process end.
    fn story(mut self) -> (Image, Vec<Record>) {
        while let Some(choice) = self.choose() {
            if self.image.state.is_final() {
                break;
            }
            match choice % 16 {
                0 => self.write(What::MessageReceived(MessageReceived {
                    from: "user".into(),
                    content: text("message"),
                    op: None,
                })),
                1 if choice & 64 != 0 => self.mail(choice),
                1 => self.write(What::SignalReceived(SignalReceived { signal: Signal::Stop })),
                2 => self.write(What::SignalReceived(SignalReceived { signal: Signal::Cont })),
                3 => {
                    let from = self.image.epoch;
                    self.image.epoch = from.next();
                    self.write(What::Recovered(Recovered { from, instance: "i".into() }));
                }
                4 => self.write(What::SpendRaised(SpendRaised { limit: MicroDollars(5_000) })),
                5 => {
                    self.write(What::Blocked(Blocked {
                        on: BlockedOn::Timer { until: Timestamp::from_millis(7) },
                        op: None,
                    }));
                    self.write(What::Unblocked(Unblocked {}));
                }
                6 if choice > 240 => self.kill(),
                _ => self.act(choice),
            }
        }
        (self.image, self.records)
    }

    fn kill(&mut self) {
        self.write(What::SignalReceived(SignalReceived { signal: Signal::Kill }));
        for op in self.image.pending.keys().copied().collect::<Vec<_>>() {
            self.write(What::Cancelled(Cancelled { op }));
        }
        self.write(What::Exited(Exited { op: None, exit: Exit::Killed }));
    }

    fn act(&mut self, choice: u8) {
        match self.image.next_action() {
            Action::Tell(op, words) => {
                self.write(What::Told(Told { op, content: text(&words) }));
            }
            Action::Exit(op, exit) => self.write(What::Exited(Exited { op: Some(op), exit })),
            Action::Tools(ops) => self.tools(&ops, choice),
            Action::Infer(op) => self.infer(op, choice),
            Action::Stuck => panic!("the program is stuck: {:?}", self.image),
        }
    }

    /// A message of another process; it may be one that it waits for.
    fn mail(&mut self, choice: u8) {
        let from = Pid::from_bytes([choice & 1; 16]);
        let op = (0..).map(Op).find(|op| !self.image.mailbox.has_heard(from, *op));
        self.write(What::MessageReceived(MessageReceived {
            from: from.to_string(),
            content: text("mail"),
            op,
        }));
    }

    /// What a call of the kernel's own writes before its result.
    fn own(&mut self, op: Op, choice: u8) {
        let living = self.image.children.iter().find(|(_, child)| child.end.is_none());
        match (self.image.mailbox.first(None), living.map(|(child, _)| *child)) {
            (Some(letter), _) if choice & 4 != 0 => {
                let message = letter.seq;
                self.write(What::MessageTaken(MessageTaken { message, op }));
            }
            (_, Some(child)) => {
                let (spent, answer) = (MicroDollars(3), Some(text("found")));
                let on = BlockedOn::Child { children: vec![child], until: None };
                self.write(What::Blocked(Blocked { on, op: Some(op) }));
                let exit = "completed".to_owned();
                self.write(What::ChildEnded(ChildEnded { child, exit, answer, spent }));
            }
            _ => {
                let child = Pid::from_parts(op.0, [choice; 10]);
                let granted = Some(MicroDollars(9));
                let begun = ChildBegun { child, granted, name: "helper".into(), op };
                self.write(What::ChildBegun(begun));
            }
        }
    }

    fn tools(&mut self, ops: &[Op], choice: u8) {
        let op = ops[usize::from(choice) % ops.len()];
        let result = text("{\"success\":true,\"data\":1}");
        if choice & 16 != 0 && choice & 2 != 0 {
            self.own(op, choice);
        }
        if choice & 64 == 0 {
            self.write(What::ToolRequested(ToolRequested {
                op,
                tool: "t".into(),
                effect: Effect::Unsafe,
                attempt: 1,
                isolation: "none".into(),
                to: None,
            }));
        }
        let left = |page: &&aosk_context::Page| !page.resident;
        if choice & 8 != 0
            && let Some(page) =
                self.image.pages.pages().iter().filter(left).nth((choice / 16).into())
        {
            let pages = vec![page.id];
            self.write(What::Recalled(Recalled { op, pages, search: None }));
        }
        if choice & 128 == 0 {
            let done = ToolReturned { op, success: true, result, took_ms: 1 };
            self.write(What::ToolReturned(done));
        } else {
            self.write(What::Interrupted(Interrupted { op, result }));
        }
    }

    fn infer(&mut self, op: Op, choice: u8) {
        if self.image.plan.is_none() {
            self.plan(op);
        }
        // What must stay may have no room; then the kernel ends the process.
        if self.image.state.is_final() {
            return;
        }
        let attempt = 1 + u32::from(choice & 1);
        let reserved = MicroDollars(10);
        self.write(What::LlmRequested(LlmRequested { op, attempt, device: "d".into(), reserved }));
        if choice & 32 != 0 {
            let (failure, retry_at) = match choice % 5 {
                0 => (FailureKind::Fatal, None),
                1 => (FailureKind::ContextLength, Some(Timestamp::from_millis(3))),
                _ => (FailureKind::Transient, Some(Timestamp::from_millis(9))),
            };
            self.write(What::LlmFailed(LlmFailed {
                next: None,
                op,
                attempt,
                failure,
                code: "AOSK-L007".into(),
                message: text("failed"),
                retry_at,
                cost: MicroDollars(2),
            }));
            return;
        }
        let call = |id: u8| ReplyPart::ToolCall {
            id: format!("c{id}"),
            name: "t".into(),
            arguments: text("{}"),
        };
        let (parts, stop) = match choice % 4 {
            0 => (vec![ReplyPart::Text { content: text("done") }], StopReason::Stop),
            1 => (vec![ReplyPart::Text { content: text("cut") }], StopReason::Length),
            _ => ((0..=choice % 3).map(call).collect(), StopReason::ToolCalls),
        };
        self.write(What::LlmReturned(LlmReturned {
            op,
            attempt,
            parts,
            stop,
            usage: Some(Usage { input: Tokens(9), output: Tokens(1), ..Usage::default() }),
            cost: MicroDollars(3),
            model: "m".into(),
            raw: None,
            took_ms: 5,
            used: choice.is_multiple_of(5).then_some(PageId(0)).into_iter().collect(),
        }));
    }

    fn plan(&mut self, op: Op) {
        let mut arrivals: Vec<Arrival> = self.image.arrivals.clone();
        arrivals.sort_by_key(|arrival| arrival.kind == PageKind::Message);
        for arrival in &mut arrivals {
            arrival.tokens = Tokens(20);
        }
        let arrivals: Vec<Arrival> = arrivals.into_iter().flat_map(in_parts).collect();
        let demand = Demand {
            window: Tokens(330),
            max_output: Tokens(10),
            overhead: Tokens(0),
            reserve: Tokens(0),
            gaps: 2,
            margin: aosk_abi::Ppm(0),
        };
        let plan = match self.image.pages.plan(&arrivals, &demand, &TruncateOldest) {
            Ok(plan) => plan,
            Err(full) => {
                let exit =
                    Exit::Failed { code: full.code().as_str().into(), message: text("full") };
                return self.write(What::Exited(Exited { op: None, exit }));
            }
        };
        let stubs = match plan.evicted.is_empty() {
            true => Vec::new(),
            false => self.image.pages.stubs(&plan, 3),
        };
        // Now and then the tokenizer is another one, so that changes are folded too.
        let under = Conditions {
            cache: CacheRules {
                long_ttl_ms: Some(9 + self.image.step.0 / 7),
                marked: true,
                ttl_ms: Some(3),
                ..CacheRules::default()
            },
            max_output: Tokens(10),
            policy: "truncate_oldest".into(),
            render: "1/t".into(),
            tokenizer: format!("t/{}", self.image.step.0 / 2),
            window: Tokens(330),
        };
        let under = under.changes_since(self.image.conditions.as_ref());
        self.write(What::Planned(Planned {
            op,
            step: self.image.step.next(),
            generation: plan.generation,
            life: match self.image.step.0 % 3 {
                1 => CacheLife::Long,
                _ => CacheLife::Short,
            },
            tools: true,
            under,
            prompt_tokens: plan.prompt_tokens,
            prompt: Hash::ZERO,
            prompt_len: 0,
            tail: false,
            admitted: plan.admitted,
            evicted: plan.evicted,
            reasons: None,
            stubs,
        }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_journal_folds_to_the_same_state_whole_and_from_any_checkpoint(
        choices in prop::collection::vec(any::<u8>(), 0..80)
    ) {
        let (lived, records) = Author::begin(choices).story();
        let begin = || Image::begin(&Tenant::local(), lived.pid, &records[0]).unwrap();
        let mut whole = begin();
        for record in &records[1..] {
            whole.apply(record).unwrap();
        }
        prop_assert_eq!(&whole, &lived);
        let mut image = begin();
        for at in 0..records.len() {
            let checkpoint = image.to_checkpoint().expect("encodable");
            prop_assert_eq!(checkpoint.seq, Seq(at as u64));
            let mut resumed = Image::from_checkpoint(&checkpoint).expect("readable");
            for record in &records[at + 1..] {
                resumed.apply(record).unwrap();
            }
            prop_assert_eq!(&resumed, &whole);
            if let Some(next) = records.get(at + 1) {
                image.apply(next).unwrap();
            }
        }
    }

    #[test]
    fn an_event_that_cannot_follow_is_an_error_and_never_a_panic(
        choices in prop::collection::vec(any::<u8>(), 10..60),
        skip in 1_usize..20,
    ) {
        let (_, records) = Author::begin(choices).story();
        let mut image = Image::begin(&Tenant::local(), Pid::from_alias("author"), &records[0])
            .unwrap();
        let Some(after_gap) = records.get(skip + 1) else {
            return Ok(());
        };
        let refused = matches!(image.apply(after_gap), Err(FoldError::State { .. }));
        prop_assert!(refused);
    }
}

/// Every second new result in three parts.
fn in_parts(arrival: Arrival) -> Vec<Arrival> {
    let Arrival { kind, source, range, unit, .. } = arrival;
    let is_new = range.is_none() && unit <= source.seq;
    if kind != PageKind::ToolResult || !is_new || source.seq.0 % 2 == 1 {
        return vec![arrival];
    }
    let part = |start| Arrival { range: Some((start, 2)), tokens: Tokens(8), ..arrival };
    [0, 2, 4].map(part).to_vec()
}

/// A life of `steps` that call a tool each.
fn long_life(steps: usize) -> Vec<Record> {
    let mut author = Author::begin(vec![]);
    for _ in 0..steps {
        // A person lets it go on when its steps are used up.
        if author.image.state.is_final() {
            let content = text("message");
            author.write(What::MessageReceived(MessageReceived {
                from: "user".into(),
                content,
                op: None,
            }));
        }
        while !matches!(author.image.next_action(), Action::Tools(_) | Action::Exit(..)) {
            author.act(7);
        }
        author.act(64);
    }
    author.records
}

#[test]
fn a_checkpoint_stands_on_stretches_and_costs_the_same_at_any_length() {
    let records = long_life(700);
    let mut image = Image::begin(&Tenant::local(), Pid::from_alias("author"), &records[0]).unwrap();
    let (mut stretches, mut saved) = (Vec::new(), Saved::default());
    let mut sizes = Vec::new();
    let mut before: Option<(Checkpoint, Image)> = None;
    for (n, record) in records[1..].iter().enumerate() {
        image.apply(record).unwrap();
        if n % 100 != 99 {
            continue;
        }
        let (brought, now) = image.to_checkpoint_on(&saved).expect("encodable");
        let new: usize = brought.stretches.iter().map(|stretch| stretch.bytes.len()).sum();
        sizes.push(brought.bytes.len() + new);
        let settled = brought.settle(&mut stretches);
        assert_eq!(Image::from_checkpoint_with(&settled), Some((image.clone(), now)));
        // The one before still stands, though what it says itself is in a stretch by now.
        if let Some((older, lived)) = before.take() {
            assert_eq!(Image::from_checkpoint(&older.on(&stretches)).as_ref(), Some(&lived));
        }
        (before, saved) = (Some((brought, image.clone())), now);
    }
    assert!(stretches.len() > 5, "{} stretches", stretches.len());
    let largest = |sizes: &[usize]| sizes.iter().max().copied().unwrap_or(0);
    let (early, late) = sizes.split_at(sizes.len() / 2);
    assert!(largest(late) < largest(early) * 11 / 10, "{early:?}, then {late:?}");

    // One that could not be read back is written anew from the start, over all that is there.
    let (anew, _) = image.to_checkpoint_on(&Saved::default()).expect("encodable");
    let settled = anew.settle(&mut stretches);
    assert_eq!(settled.stretches.len(), 1);
    assert_eq!(Image::from_checkpoint(&settled).as_ref(), Some(&image));
    let (older, lived) = before.expect("there were some");
    assert_eq!(Image::from_checkpoint(&older.on(&stretches)).as_ref(), Some(&lived));
}

#[test]
fn a_damaged_or_foreign_checkpoint_is_ignored() {
    let (image, _) = Author::begin(vec![255; 9]).story();
    let good = image.to_checkpoint().unwrap();
    assert!(Image::from_checkpoint(&good).is_some());
    let mut newer = good.clone();
    newer.version += 1;
    let mut cut = good.clone();
    cut.bytes.truncate(good.bytes.len() / 2);
    let mut moved = good;
    moved.seq = moved.seq.next();
    for bad in [newer, cut, moved] {
        assert!(Image::from_checkpoint(&bad).is_none());
    }
    let records = long_life(300);
    let mut image = Image::begin(&Tenant::local(), Pid::from_alias("author"), &records[0]).unwrap();
    records[1..].iter().for_each(|record| image.apply(record).unwrap());
    let (good, _) = image.to_checkpoint_on(&Saved::default()).unwrap();
    assert_eq!((good.stretches.len(), Image::from_checkpoint(&good)), (1, Some(image)));
    let mut without = good.clone();
    without.stretches.clear();
    let mut cut = good;
    cut.stretches[0].bytes.pop();
    for bad in [without, cut] {
        assert!(Image::from_checkpoint(&bad).is_none());
    }
}

proptest! {
    #[test]
    fn damaged_checkpoints_are_refused_or_sound_and_never_a_panic(
        choices in prop::collection::vec(any::<u8>(), 0..60),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        aside: bool,
    ) {
        let (image, _) = Author::begin(choices).story();
        let mut checkpoint = image.to_checkpoint().expect("encodable");
        if aside {
            // As a stretch it is read before what the checkpoint says itself.
            let bytes = checkpoint.bytes.clone();
            checkpoint.stretches.push(Stretch { first: Seq(0), bytes });
        }
        let bytes = checkpoint.stretches.last_mut().map_or(&mut checkpoint.bytes, |it| &mut it.bytes);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(read) = Image::from_checkpoint(&checkpoint) {
            let again = read.to_checkpoint().expect("encodable");
            prop_assert_eq!(Image::from_checkpoint(&again), Some(read));
        }
    }
}

#[test]
fn an_unknown_program_is_named() {
    let (image, _) = Author::begin(vec![]).story();
    let spawned = Spawned { program: "later".into(), ..image.spawned };
    let event = Event::new(Timestamp::from_millis(1), What::Spawned(spawned));
    let (tenant, pid) = (Tenant::local(), image.pid);
    let record = Record::seal(&tenant, pid, Seq(0), Epoch(1), Hash::ZERO, &event).unwrap();
    let error = Image::begin(&tenant, pid, &record).expect_err("unknown");
    assert_eq!(error.code(), Code::KernelUnknownProgram);
    assert!(error.to_string().contains("later"));
}

#[test]
fn a_first_plan_that_does_not_say_what_it_was_made_under_is_refused() {
    let (_, records) = Author::begin(vec![255; 40]).story();
    let (at, first) = records
        .iter()
        .enumerate()
        .find_map(|(at, record)| match record.decode().unwrap() {
            Event { what: What::Planned(planned), .. } => Some((at, planned)),
            _ => None,
        })
        .expect("the story has a plan");
    let (tenant, pid) = (Tenant::local(), Pid::from_alias("author"));
    let mut image = Image::begin(&tenant, pid, &records[0]).unwrap();
    for record in &records[1..at] {
        image.apply(record).unwrap();
    }
    assert!(image.clone().apply(&records[at]).is_ok());
    let silent = Planned { under: Changes { window: None, ..first.under.clone() }, ..first };
    let event = Event::new(Timestamp::from_millis(1), What::Planned(silent));
    let record = Record::seal(&tenant, pid, image.next, image.epoch, image.head, &event).unwrap();
    assert!(matches!(image.apply(&record), Err(FoldError::Conditions { .. })));
}

#[test]
fn a_reply_that_used_a_page_that_there_is_not_is_refused() {
    let records = long_life(3);
    let mut image = Image::begin(&Tenant::local(), Pid::from_alias("author"), &records[0]).unwrap();
    let mut seen = 0;
    for record in &records[1..] {
        if let Event { at, what: What::LlmReturned(returned) } = record.decode().unwrap() {
            let pages = image.pages.pages().len() as u32;
            for (page, is_there) in [(0, true), (pages - 1, true), (pages, false)] {
                let used = LlmReturned { used: vec![PageId(page)], ..returned.clone() };
                let event = Event::new(at, What::LlmReturned(used));
                let (tenant, pid) = (&image.tenant, image.pid);
                let used =
                    Record::seal(tenant, pid, image.next, image.epoch, image.head, &event).unwrap();
                let mut other = image.clone();
                let before = image.pages.page(PageId(page)).map_or(0, |page| page.accesses);
                match other.apply(&used) {
                    Ok(_) => {
                        assert!(is_there, "{page} of {pages}");
                        let page = other.pages.page(PageId(page)).unwrap();
                        assert_eq!(
                            (page.accesses, page.last_access),
                            (before + 1, other.pages.turns())
                        );
                    }
                    Err(error) => {
                        assert!(!is_there && matches!(error, FoldError::Use { .. }), "{error}");
                    }
                }
            }
            seen += 1;
        }
        image.apply(record).unwrap();
    }
    assert!(seen > 1);
}

#[test]
fn a_plan_that_admits_a_part_of_what_is_never_cut_is_refused() {
    let records = long_life(9);
    let mut image = Image::begin(&Tenant::local(), Pid::from_alias("author"), &records[0]).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for record in &records[1..] {
        if let Event { at, what: What::Planned(planned) } = record.decode().unwrap() {
            for index in 0..planned.admitted.len() {
                let mut planned = planned.clone();
                let (page, kind) = (planned.admitted[index].page, planned.admitted[index].kind);
                if planned.admitted[index].range.is_some() {
                    continue;
                }
                planned.admitted[index].range = Some((0, 1));
                let event = Event::new(at, What::Planned(planned));
                let (tenant, pid) = (&image.tenant, image.pid);
                let cut =
                    Record::seal(tenant, pid, image.next, image.epoch, image.head, &event).unwrap();
                let folded = image.clone().apply(&cut);
                seen.insert(format!("{kind:?}"));
                if [PageKind::Message, PageKind::ToolResult].contains(&kind) {
                    assert!(folded.is_ok(), "{kind:?}: {folded:?}");
                } else {
                    let refused = matches!(folded, Err(FoldError::Range { seq, page: other })
                        if (seq, other) == (record.seq, page));
                    assert!(refused, "{kind:?}: {folded:?}");
                }
            }
        }
        image.apply(record).unwrap();
    }
    assert!(["Task", "ToolCall", "ToolResult"].iter().all(|kind| seen.contains(*kind)), "{seen:?}");
}
