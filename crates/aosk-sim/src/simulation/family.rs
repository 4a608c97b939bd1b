//! Families: who was begun by whom, what became of them, and who waits for whom.
//!
//! A child is begun by an event of its parent's journal, and its end is told in it. Both are held
//! here against the child's own journal. Who waits for whom is followed through every journal at
//! once, so a circle of waits is seen at the append that closes it: whoever is told of a circle must
//! have been in one, and a circle that stays has to be told to somebody.

use std::collections::{BTreeMap, BTreeSet};

use aosk_abi::{
    BlockedOn, ChildBegun, ChildEnded, Content, ContentKey, ContentRef, Exit, Hash, Manifest,
    MicroDollars, Op, Pid, ProcessState, Seq, Spawned, Timestamp, ToolResult,
};
use aosk_ports::Append;
use serde_json::Value;

use super::book::{Book, Broken};
use crate::promise::Promise;

/// What a process is to be spawned with.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) manifest: Manifest,
    /// What it may spend.
    pub(super) limit: Option<MicroDollars>,
}

impl Terms {
    pub(super) fn of(manifest: &Manifest) -> Self {
        Self { manifest: manifest.clone(), limit: manifest.spend_limit() }
    }
}

/// Who was begun by whom.
#[derive(Debug, Default)]
pub(super) struct Families {
    children: BTreeMap<Pid, Child>,
    /// The waits that were in a circle, by their processes and beginnings.
    caught: BTreeSet<(Pid, Timestamp)>,
    /// The results that tell somebody of a circle.
    told: BTreeSet<(Pid, Hash)>,
}

/// A process that another one began.
#[derive(Debug)]
struct Child {
    parent: Pid,
    op: Op,
    granted: Option<MicroDollars>,
    is_born: bool,
    /// How its parent was told that it ended.
    end: Option<(String, Option<ContentRef>)>,
}

impl Families {
    /// The processes that others began, born or not.
    pub(super) fn children(&self) -> Vec<Pid> {
        self.children.keys().copied().collect()
    }

    /// Those that a process begins at the moment.
    pub(super) fn unborn(&self, parent: Pid) -> Vec<Pid> {
        let unborn = |child: &Child| child.parent == parent && !child.is_born;
        self.children.iter().filter(|(_, child)| unborn(child)).map(|(pid, _)| *pid).collect()
    }

    /// How many were told of a circle of waits, alike ones counted once.
    pub(super) fn told(&self) -> usize {
        self.told.len()
    }

    /// A process's first event is durable.
    pub(super) fn born(&mut self, pid: Pid, spawned: &Spawned, broken: &mut Broken) {
        let begun = self.children.get_mut(&pid).map(|child| {
            child.is_born = true;
            (child.parent, child.granted)
        });
        if spawned.parent != begun.map(|(parent, _)| parent)
            || begun.is_some_and(|(_, granted)| spawned.spend_limit != granted)
        {
            let (parent, limit) = (spawned.parent, spawned.spend_limit);
            let what = format!("is born to {parent:?} with {limit:?}, and {begun:?} was begun");
            broken.push((Promise::Begun, what));
        }
    }

    /// A process begins a child, which gets the terms that are answered.
    pub(super) fn begins(
        &mut self,
        parent: Pid,
        terms: &Terms,
        begun: &ChildBegun,
        broken: &mut Broken,
    ) -> Option<Terms> {
        let ChildBegun { child, granted, name, op } = begun;
        let is_twice = self.children.values().any(|it| (it.parent, it.op) == (parent, *op));
        if is_twice || self.children.contains_key(child) {
            broken.push((Promise::Begun, format!("{op} begins {child} a second time")));
        }
        let manifest = terms.manifest.children.iter().find(|it| it.name == *name);
        let most = manifest.and_then(Manifest::spend_limit);
        let beyond = most.is_some_and(|most| granted.is_none_or(|granted| granted > most));
        if manifest.is_none() || beyond {
            let what = format!("{op} begins {name:?} with {granted:?} of {most:?}");
            broken.push((Promise::Begun, what));
        }
        let known = Child { parent, op: *op, granted: *granted, is_born: false, end: None };
        self.children.insert(*child, known);
        manifest.map(|manifest| Terms { manifest: manifest.clone(), limit: *granted })
    }

    /// A process is told that a child has ended, whose book that is.
    pub(super) fn ended(
        &mut self,
        parent: Pid,
        ended: &ChildEnded,
        book: Option<&Book>,
        broken: &mut Broken,
    ) {
        let ChildEnded { child, exit, answer, spent } = ended;
        let known = self.children.get_mut(child).filter(|known| known.parent == parent);
        let is_new =
            known.is_some_and(|known| known.end.replace((exit.clone(), *answer)).is_none());
        let is_so = match book {
            Some(book) => book.ends.iter().any(|(end, cost)| {
                (end.name(), said(end), cost) == (exit, answer.map(|it| it.hash), spent)
            }),
            // It could not be born.
            None => (exit.as_str(), *answer, *spent) == ("failed", None, MicroDollars::ZERO),
        };
        if !is_new || !is_so {
            let what = format!("{child} is said to have ended: {ended:?}");
            broken.push((Promise::Reaped, what));
        }
    }

    /// A call of a process returned what its kernel says of children, or of a circle of waits;
    /// whether it was that.
    pub(super) fn returned(
        &mut self,
        append: &Append,
        result: &ContentRef,
        before: Option<&ProcessState>,
        key: &ContentKey,
        broken: &mut Broken,
    ) -> bool {
        let (pid, result) = (append.pid, (result.hash, brought(append, result)));
        for end in result.1.iter().flat_map(ends_in) {
            let known = self.children.get(&end.pid).filter(|child| child.parent == pid);
            let told = known.and_then(|child| child.end.as_ref());
            let answer = |text: &str| key.hash(text.as_bytes());
            let is_so = told.is_some_and(|(exit, said)| {
                *exit == end.exit && said.map(|said| said.hash) == end.answer.as_deref().map(answer)
            });
            if !is_so {
                broken.push((Promise::Reaped, format!("{end:?} is reported, and not {told:?}")));
            }
        }
        let error = result.1.and_then(|result| result.error);
        if error.is_some_and(|error| error.code == "deadlock") {
            self.told.insert((pid, result.0));
        }
        if self.told.contains(&(pid, result.0)) {
            let wait = match before {
                Some(ProcessState::Blocked { since, .. }) => Some((pid, *since)),
                _ => None,
            };
            if !wait.is_some_and(|wait| self.caught.contains(&wait)) {
                let what = format!("is told of a circle of waits, and was {before:?}");
                broken.push((Promise::Explained, what));
            }
            return true;
        }
        false
    }

    /// A process stands where it does now: notes the circles that it closes.
    pub(super) fn stands(&mut self, pid: Pid, processes: &BTreeMap<Pid, Book>) {
        let (mut met, mut ways) = (BTreeSet::from([pid]), vec![pid]);
        while let Some(pid) = ways.pop() {
            if let Some(ProcessState::Blocked { on, since }) = state(processes, pid) {
                ways.extend(endless(on).iter().filter(|next| met.insert(**next)));
                if circle(pid, processes).is_some() {
                    self.caught.insert((pid, *since));
                }
            }
        }
    }

    /// Somebody was told of a circle: nobody else need be whose circle that broke.
    pub(super) fn heals(&mut self, processes: &BTreeMap<Pid, Book>) {
        self.caught.retain(|(pid, _)| circle(*pid, processes).is_some());
    }
}

/// The circles of waits that nothing is on its way to end, each by its processes and the ends of
/// their journals.
pub(super) fn circles(
    processes: &BTreeMap<Pid, Book>,
    is_spoken_to: impl Fn(Pid) -> bool,
) -> BTreeSet<Vec<(Pid, Seq)>> {
    let all = processes.keys().filter_map(|pid| circle(*pid, processes));
    all.filter(|circle| !circle.iter().any(|pid| is_spoken_to(*pid)))
        .map(|mut circle| {
            circle.sort_unstable();
            let place = |pid: Pid| (pid, processes.get(&pid).map_or(Seq(0), |book| book.next));
            circle.into_iter().map(place).collect()
        })
        .collect()
}

/// The circle of waits without an end that a process is in.
fn circle(pid: Pid, processes: &BTreeMap<Pid, Book>) -> Option<Vec<Pid>> {
    let (mut seen, mut ways) = (BTreeSet::new(), vec![vec![pid]]);
    while let Some(way) = ways.pop() {
        let Some(ProcessState::Blocked { on, .. }) =
            way.last().and_then(|last| state(processes, *last))
        else {
            continue;
        };
        for next in endless(on) {
            if *next == pid {
                return Some(way);
            }
            if seen.insert(*next) {
                ways.push([&way[..], &[*next]].concat());
            }
        }
    }
    None
}

/// Those without whom a wait has no end.
fn endless(on: &BlockedOn) -> &[Pid] {
    if on.until().is_none() { on.awaited() } else { &[] }
}

fn state(processes: &BTreeMap<Pid, Book>, pid: Pid) -> Option<&ProcessState> {
    processes.get(&pid)?.image.as_ref().map(|image| &image.state)
}

/// What an exit names, if it says anything.
fn said(exit: &Exit) -> Option<Hash> {
    match exit {
        Exit::Completed { answer: said } | Exit::Refused { message: said } => {
            said.map(|said| said.hash)
        }
        Exit::Failed { message, .. } => Some(message.hash),
        Exit::StepLimit { .. } | Exit::Killed => None,
    }
}

/// The end of a child as a result tells it.
#[derive(Debug)]
pub(super) struct End {
    pid: Pid,
    exit: String,
    answer: Option<String>,
}

/// The result that an append brings.
pub(super) fn brought(append: &Append, result: &ContentRef) -> Option<ToolResult> {
    let content = append.contents.iter().find(|it| it.hash() == result.hash);
    content.map(Content::bytes).and_then(|bytes| serde_json::from_slice(bytes).ok())
}

/// The ends of children that a result tells of.
pub(super) fn ends_in(result: &ToolResult) -> Vec<End> {
    let end = |told: &Value| {
        let text = |name: &str| told.get(name).and_then(Value::as_str).map(str::to_owned);
        let (pid, exit) = (text("pid")?.parse().ok()?, text("exit")?);
        Some(End { pid, exit, answer: text("answer") })
    };
    match &result.data {
        Value::Array(all) => all.iter().filter_map(end).collect(),
        one => end(one).into_iter().collect(),
    }
}
