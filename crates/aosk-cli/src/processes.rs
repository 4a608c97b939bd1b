//! Finding processes in the store, without owning it.

use std::path::Path;

use aosk_abi::{BlockedOn, Code, Pid, ProcessState, Tenant};
use aosk_kernel::ProcessStanding;
use aosk_ports::{Journal, ProcessFilter, Receipt};
use aosk_store::{Owner, owner};

use crate::config::Settings;
use crate::daemon;
use crate::error::Error;
use crate::figures::{moment, time_of_day};
use crate::reader::{self, Nodes, Reader, Reading};
use crate::text;

/// The file of a store in its folder.
pub(crate) const DATABASE: &str = "aosk.db";

/// The shortest beginning of a pid that names a process, in characters.
const SHORTEST_PREFIX: usize = 4;

/// The shortest beginning of a pid that lists show.
const SHOWN_PREFIX: usize = 8;

/// Refuses a data folder that is something else than a folder, most often the store's own file.
///
/// # Errors
/// [`Error`] with the folder to give instead, where that can be told.
pub(crate) fn refuse_file(dir: &Path) -> Result<(), Error> {
    let is_other = std::fs::metadata(dir).is_ok_and(|found| !found.is_dir());
    if !is_other {
        return Ok(());
    }
    let error = Error::new(Code::CliFile, "this is a file, not a data folder").at(dir, None);
    Err(match dir.parent().filter(|parent| parent.join(DATABASE).exists()) {
        Some(parent) => error.help(format!("the store is in --data-dir {}", parent.display())),
        None => error.help("give the folder that holds aosk.db, or one to begin a store in"),
    })
}

/// The store and the one process in it that a person means.
///
/// # Errors
/// [`Error`] where there is none or more than one, or the store cannot be read.
pub(crate) async fn open_one(settings: &Settings, named: &str) -> Result<(Reader, Pid), Error> {
    let reader = reader::open(settings)?.ok_or_else(|| unknown(named))?;
    let pid = Processes::read(&*reader).await?.find(named)?.pid;
    Ok((reader, pid))
}

/// Every process of the store, and the shortest beginnings that tell their pids apart.
pub(crate) struct Processes {
    all: Vec<Receipt>,
}

impl Processes {
    /// Reads the list.
    pub(crate) async fn read(journal: &dyn Journal) -> Result<Self, Error> {
        let all = journal.processes(&Tenant::local(), ProcessFilter::All).await?;
        Ok(Self { all })
    }

    /// Reads the list of those that have not ended; beginnings tell them apart from each other.
    pub(crate) async fn read_unfinished(journal: &dyn Journal) -> Result<Self, Error> {
        let all = journal.processes(&Tenant::local(), ProcessFilter::Unfinished).await?;
        Ok(Self { all })
    }

    /// All of them, in the order of their pids.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Receipt> {
        self.all.iter()
    }

    /// Those that have not ended.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = &Receipt> {
        self.all.iter().filter(|receipt| !receipt.row.state.is_final())
    }

    /// The name of the agent.
    pub(crate) fn name(&self, pid: Pid) -> Option<&str> {
        self.all.iter().find(|receipt| receipt.pid == pid).map(|found| found.row.name.as_str())
    }

    /// The shortest beginning of the pid, of at least 8 characters, that no other process shares.
    pub(crate) fn short(&self, pid: Pid) -> String {
        let full = pid.to_string();
        // The list is in the order of the pids, so a neighbour shares the most.
        let at = self.all.partition_point(|other| other.pid < pid);
        let own = self.all.get(at).is_some_and(|other| other.pid == pid);
        let neighbours = [at.checked_sub(1), Some(at + usize::from(own))];
        let shared = neighbours
            .into_iter()
            .filter_map(|index| self.all.get(index?))
            .map(|other| {
                let other = other.pid.to_string();
                full.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count()
            })
            .max();
        let mut end = shared.map_or(0, |shared| shared + 1).max(SHOWN_PREFIX);
        if full[..end.min(full.len())].ends_with('-') {
            end += 1;
        }
        full[..end.min(full.len())].to_owned()
    }

    /// The process that a person means: by its pid, the beginning of one, or its alias.
    ///
    /// # Errors
    /// [`Error`] where there is none or more than one.
    pub(crate) fn find(&self, named: &str) -> Result<&Receipt, Error> {
        let by_pid = |pid: Pid| self.all.iter().find(|receipt| receipt.pid == pid);
        if let Ok(pid) = named.parse()
            && let Some(found) = by_pid(pid)
        {
            return Ok(found);
        }
        let prefix = named.to_ascii_lowercase();
        let is_prefix = named.len() >= SHORTEST_PREFIX
            && prefix.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        let matching: Vec<&Receipt> = if is_prefix {
            self.all.iter().filter(|found| found.pid.to_string().starts_with(&prefix)).collect()
        } else {
            Vec::new()
        };
        match (matching.as_slice(), by_pid(Pid::from_alias(named))) {
            (_, Some(aliased)) => Ok(aliased),
            ([only], None) => Ok(only),
            ([], None) => Err(unknown(named)),
            (several, None) => {
                let error = Error::new(
                    Code::CliPid,
                    format!("{} processes begin with {named:?}", several.len()),
                );
                let names: Vec<String> = several
                    .iter()
                    .take(5)
                    .map(|found| format!("{} ({})", self.short(found.pid), found.row.name))
                    .collect();
                Err(error.help(format!("give more characters: {}", names.join(", "))))
            }
        }
    }
}

/// The error for a process that is not there.
pub(crate) fn unknown(named: &str) -> Error {
    let known = "`aosk ps --all` lists all processes";
    let error = Error::new(Code::CliPid, format!("there is no process {named:?}"));
    if named.len() < SHORTEST_PREFIX {
        error.help(format!("give at least {SHORTEST_PREFIX} characters; {known}"))
    } else {
        error.help(known)
    }
}

/// Who works on the processes of the store.
pub(crate) enum Works {
    /// One owner has all of a file, if there is one.
    Owner(Option<Owner>),
    /// Each process of a server has its node.
    Nodes(Nodes),
}

impl Works {
    /// Asks the store that is read.
    pub(crate) async fn ask(settings: &Settings, reader: &dyn Reading) -> Result<Self, Error> {
        Ok(match reader.nodes().await? {
            Some(nodes) => Self::Nodes(nodes),
            None => Self::Owner(owner(&settings.data_dir)?),
        })
    }

    /// Who that is, in a sentence; `None` where nobody does.
    pub(crate) fn said(&self) -> Option<String> {
        match self {
            Self::Owner(owner) => {
                let Owner { os_pid, command, since } = owner.as_ref()?;
                let (command, since) = (text::one_line(command), moment(*since));
                Some(format!("Process {os_pid} ({command}) owns the store since {since}."))
            }
            Self::Nodes(nodes) => match nodes.alive.as_slice() {
                [] => None,
                [only] => {
                    let (label, since) = (text::one_line(&only.label), moment(only.since));
                    Some(format!("Node {label} works on the store since {since}."))
                }
                several => {
                    let labels = several.iter().map(|node| text::one_line(&node.label));
                    let labels = labels.collect::<Vec<_>>().join(", ");
                    Some(format!("{} nodes work on the store: {labels}.", several.len()))
                }
            },
        }
    }

    /// Whether somebody does.
    pub(crate) const fn is_somebody(&self) -> bool {
        match self {
            Self::Owner(owner) => owner.is_some(),
            Self::Nodes(nodes) => !nodes.alive.is_empty(),
        }
    }

    /// What the node calls itself that has the process; `None` where none has it, or there are no
    /// nodes.
    pub(crate) fn node(&self, pid: Pid) -> Option<&str> {
        match self {
            Self::Owner(_) => None,
            Self::Nodes(nodes) => nodes.owner(pid),
        }
    }

    /// Whether there is more than one node, so that it matters which has a process.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self, Self::Nodes(nodes) if nodes.alive.len() > 1)
    }

    /// Whether the process waits for a kernel to take it up again. A daemon holds every unfinished
    /// one, also those that it has not read yet: sleepers, and who stands in line. A run works on
    /// what it was given, and every process that it took up has an event since.
    pub(crate) fn is_interrupted(&self, receipt: &Receipt) -> bool {
        let row = &receipt.row;
        let waits_for_a_kernel = match &row.state {
            ProcessState::New | ProcessState::Ready | ProcessState::Running => true,
            ProcessState::Blocked { on, .. } => !matches!(
                on,
                BlockedOn::Quota { .. }
                    | BlockedOn::Review { .. }
                    | BlockedOn::Limit { until: None, .. }
            ),
            ProcessState::Suspended { .. } | ProcessState::Exited { .. } => false,
        };
        let holds = |owner: &Owner| daemon::is_daemon(owner) || row.updated >= owner.since;
        let is_held = match self {
            Self::Owner(owner) => owner.as_ref().is_some_and(holds),
            Self::Nodes(nodes) => nodes.owner(receipt.pid).is_some(),
        };
        waits_for_a_kernel && !is_held
    }
}

/// The state in one word.
pub(crate) fn state_name(receipt: &Receipt, works: &Works) -> &'static str {
    match &receipt.row.state {
        _ if works.is_interrupted(receipt) => "interrupted",
        ProcessState::Exited { exit } => exit.name(),
        state => state.name(),
    }
}

/// The state in words: what the process waits for, since when and until when.
pub(crate) fn state(receipt: &Receipt, works: &Works) -> String {
    match &receipt.row.state {
        ProcessState::Blocked { on, since } if !works.is_interrupted(receipt) => {
            format!("blocked since {}: {}", moment(*since), blocked_on(on))
        }
        ProcessState::Suspended { since } => format!("suspended since {}", moment(*since)),
        _ => state_name(receipt, works).to_owned(),
    }
}

/// What a blocked process waits for.
pub(crate) fn blocked_on(on: &BlockedOn) -> String {
    match on {
        BlockedOn::Quota { limit, spent, needed } => {
            format!("spend limit: {spent} of {limit} used, the next call may cost {needed}")
        }
        BlockedOn::Review { crashes } => {
            format!(
                "a look: the kernel failed inside itself {crashes} times; `aosk cont` tries again"
            )
        }
        BlockedOn::Limit { owner, scarce, until } => {
            let (owner, scarce) = (text::one_line(owner), scarce.name());
            match until {
                Some(until) => format!("{scarce} ({owner}), until {}", moment(*until)),
                None => format!("{scarce} ({owner}): the quota does not cover the next call"),
            }
        }
        BlockedOn::Slot { device } => format!("a slot of {}", text::one_line(device)),
        BlockedOn::Timer { until } => {
            format!("the next attempt, or the end of a sleep, at {}", time_of_day(*until))
        }
        BlockedOn::Message { from, until } => {
            let from = from.map_or_else(|| "another agent".to_owned(), |from| from.to_string());
            format!("a message of {from}{}", at_most_until(*until))
        }
        BlockedOn::Child { children, until } => {
            let awaited = match &children[..] {
                [child] => format!("the end of {child}"),
                children => format!("the ends of {} children", children.len()),
            };
            format!("{awaited}{}", at_most_until(*until))
        }
        BlockedOn::Tool { calls: 1 } => "a tool call".to_owned(),
        BlockedOn::Tool { calls } => format!("{calls} tool calls"),
    }
}

/// What a process waits for: what the daemon knows is newer than what the journal says.
pub(crate) fn waits_for(state: &ProcessState, standing: Option<&ProcessStanding>) -> String {
    match (state, standing) {
        (ProcessState::Blocked { on, .. }, _) => text::one_line(&blocked_on(on)),
        (_, Some(standing)) if standing.in_flight > 0 => {
            format!("answer of {}", text::one_line(&standing.device))
        }
        (_, Some(standing)) if standing.waits => {
            format!("turn at {}", text::one_line(&standing.device))
        }
        (ProcessState::Suspended { .. }, _) => "to be continued".to_owned(),
        _ => String::new(),
    }
}

/// When a wait is given up, where it is.
fn at_most_until(until: Option<aosk_abi::Timestamp>) -> String {
    until.map_or_else(String::new, |until| format!(", at most until {}", moment(until)))
}

#[cfg(test)]
mod tests {
    use aosk_abi::{Epoch, Hash, MicroDollars, Seq, Timestamp, Usage};
    use aosk_ports::ProcessRow;

    use super::*;

    fn receipt(pid: Pid, state: ProcessState, updated: u64) -> Receipt {
        let row = ProcessRow {
            name: "a".into(),
            model: "local".into(),
            state,
            steps: 1,
            usage: Usage::default(),
            spent: MicroDollars(0),
            created: Timestamp::from_millis(1),
            updated: Timestamp::from_millis(updated),
        };
        let (epoch, head) = (Epoch(1), Hash::ZERO);
        Receipt { tenant: Tenant::local(), pid, epoch, next: Seq(1), head, row }
    }

    fn pid(text: &str) -> Pid {
        text.parse().expect("pid")
    }

    #[test]
    fn a_process_is_found_by_pid_prefix_or_alias_and_never_by_guess() {
        let (a, b) =
            ("01900000-aaaa-7000-8000-000000000000", "01900000-aabb-7000-8000-000000000000");
        let alias = Pid::from_alias("agent-123");
        let mut pids = [pid(a), pid(b), alias];
        pids.sort_unstable();
        let all = pids.map(|pid| receipt(pid, ProcessState::Ready, 1)).into();
        let processes = Processes { all };
        let found = |named: &str| processes.find(named).map(|found| found.pid).ok();
        assert_eq!(found(a), Some(pid(a)));
        assert_eq!(found("01900000-AAB"), Some(pid(b)));
        assert_eq!(found("agent-123"), Some(alias));
        assert_eq!(found("01900000"), None);
        // Four characters may do, three never.
        let short = &alias.to_string()[..4];
        assert_eq!(found(short), Some(alias));
        assert_eq!(found(&short[..3]), None);
        assert_eq!(processes.short(pid(a)), "01900000-aaa");
        assert_eq!(processes.short(alias), alias.to_string()[..8]);
    }

    #[test]
    fn what_no_kernel_works_on_is_interrupted() {
        let owned = |since| {
            let since = Timestamp::from_millis(since);
            Works::Owner(Some(Owner { os_pid: 1, command: "aosk run".into(), since }))
        };
        let of = |state| receipt(Pid::from_alias("a"), state, 10);
        let since = Timestamp::from_millis(9);
        let quota = BlockedOn::Quota {
            limit: MicroDollars(1),
            spent: MicroDollars(1),
            needed: MicroDollars(1),
        };
        assert!(Works::Owner(None).is_interrupted(&of(ProcessState::Running)));
        assert!(!owned(10).is_interrupted(&of(ProcessState::Running)));
        assert!(owned(11).is_interrupted(&of(ProcessState::Running)));
        let tool = ProcessState::Blocked { on: BlockedOn::Tool { calls: 1 }, since };
        assert!(Works::Owner(None).is_interrupted(&of(tool)));
        let parked = of(ProcessState::Blocked { on: quota, since });
        assert!(!Works::Owner(None).is_interrupted(&parked));
        assert!(state(&parked, &Works::Owner(None)).contains("spend limit"));
        let limit = |until| BlockedOn::Limit {
            owner: "tenant local".into(),
            scarce: aosk_abi::Scarce::Requests,
            until,
        };
        let parked = of(ProcessState::Blocked { on: limit(None), since });
        assert!(!Works::Owner(None).is_interrupted(&parked));
        let waits = of(ProcessState::Blocked { on: limit(Some(since)), since });
        assert!(Works::Owner(None).is_interrupted(&waits));
        let said = state(&waits, &owned(10));
        assert!(said.contains("requests (tenant local), until "), "{said}");
    }

    #[test]
    fn what_no_living_node_owns_is_interrupted() {
        let node = |label: &str| aosk_store::Node {
            label: label.to_owned(),
            since: Timestamp::from_millis(1),
            processes: 1,
        };
        let owned = receipt(Pid::from_alias("a"), ProcessState::Running, 10);
        let left = receipt(Pid::from_alias("b"), ProcessState::Running, 10);
        let owners = [(owned.pid, "one".to_owned())].into();
        let works = Works::Nodes(Nodes::new(vec![node("one"), node("two")], owners));
        assert!(!works.is_interrupted(&owned) && works.is_interrupted(&left));
        assert!(works.is_shared() && works.is_somebody());
        assert_eq!((works.node(owned.pid), works.node(left.pid)), (Some("one"), None));
        let alone = Works::Nodes(Nodes::new(vec![node("one")], [].into()));
        assert!(!alone.is_shared() && alone.said().is_some_and(|said| said.contains("one")));
        assert!(Works::Nodes(Nodes::default()).said().is_none());
    }

    #[test]
    fn what_a_daemon_holds_is_not_interrupted_however_old_its_last_event() {
        let daemon = |since| {
            let command = "aosk daemon run".to_owned();
            Works::Owner(Some(Owner { os_pid: 1, command, since: Timestamp::from_millis(since) }))
        };
        let since = Timestamp::from_millis(9);
        let until = Timestamp::from_millis(3_600_000);
        let sleeper = ProcessState::Blocked { on: BlockedOn::Timer { until }, since };
        // Older than the daemon: asleep and not read, in line, or begun before the clock was put
        // back.
        for held in [sleeper, ProcessState::Ready, ProcessState::New, ProcessState::Running] {
            let held = receipt(Pid::from_alias("a"), held, 10);
            for since in [9, 10, 11, 99_999] {
                assert!(!daemon(since).is_interrupted(&held), "{held:?}");
            }
            assert!(Works::Owner(None).is_interrupted(&held), "{held:?}");
        }
    }
}
