//! What each agent does right now, as far as the kernel told.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aosk_abi::{BlockedOn, Event, MicroDollars, Op, Pid, Seq, Timestamp, Usage, What};
use aosk_kernel::{Notice, Observer, Outcome};
use aosk_ports::Delta;
use tokio::sync::mpsc::UnboundedSender;

use crate::figures::{count, time_of_day};
use crate::processes::blocked_on;
use crate::tell::Teller;
use crate::text::one_line;

/// What the board passes on to whoever prints.
#[derive(Debug, Clone)]
pub(super) enum News {
    /// A line for people; what it tells of is durable.
    Line(String),
    /// Everything of that process up to here is durable.
    Durable { pid: Pid, from: Seq, last: Seq },
    /// Nothing more will come.
    End,
}

/// What an agent does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Activity {
    /// It begins, or is between two things.
    Ready,
    /// The model was asked and is silent so far.
    Asking { attempt: u32 },
    /// A reply comes in.
    Replying { chars: usize },
    /// The model writes a call of that tool.
    WritingCall(String),
    /// These tools run.
    Calling(BTreeMap<Op, String>),
    /// A call failed and is made again.
    Retrying { code: String, at: Timestamp },
    /// It waits for something else.
    Waiting(String),
    /// The kernel let go of it.
    Over(String),
}

/// An agent as the board knows it.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    pub(super) name: String,
    pub(super) max_steps: Option<u64>,
    pub(super) steps: u64,
    pub(super) usage: Usage,
    pub(super) spent: MicroDollars,
    pub(super) activity: Activity,
    started: Instant,
    took: Option<Duration>,
    /// Lines that wait until what they tell of is durable.
    lines: Vec<String>,
    /// The first event that was not passed on.
    next: Seq,
}

/// All agents of a run.
pub(super) struct Board {
    agents: Mutex<BTreeMap<Pid, (Agent, Teller)>>,
    news: UnboundedSender<News>,
}

impl Agent {
    fn new() -> Self {
        Self {
            name: String::new(),
            max_steps: None,
            steps: 0,
            usage: Usage::default(),
            spent: MicroDollars::ZERO,
            activity: Activity::Ready,
            started: Instant::now(),
            took: None,
            lines: Vec::new(),
            next: Seq(0),
        }
    }

    /// How long it ran in this run.
    pub(super) fn took(&self) -> Duration {
        self.took.unwrap_or_else(|| self.started.elapsed())
    }

    fn happened(&mut self, event: &Event) {
        match &event.what {
            What::LlmRequested(requested) => {
                self.activity = Activity::Asking { attempt: requested.attempt };
            }
            What::LlmFailed(failed) => {
                self.activity = match failed.retry_at {
                    Some(at) => Activity::Retrying { code: one_line(&failed.code), at },
                    None => Activity::Ready,
                };
            }
            What::ToolRequested(requested) => {
                let mut tools = match std::mem::replace(&mut self.activity, Activity::Ready) {
                    Activity::Calling(tools) => tools,
                    _ => BTreeMap::new(),
                };
                tools.insert(requested.op, one_line(&requested.tool));
                self.activity = Activity::Calling(tools);
            }
            What::ToolReturned(returned) => {
                if let Activity::Calling(tools) = &mut self.activity {
                    tools.remove(&returned.op);
                    if tools.is_empty() {
                        self.activity = Activity::Ready;
                    }
                }
            }
            What::Blocked(aosk_abi::Blocked { on, op: Some(_) }) => {
                self.activity = Activity::Waiting(blocked_on(on));
            }
            What::LlmReturned(_) | What::Unblocked(_) => self.activity = Activity::Ready,
            What::Exited(exited) => self.over(exited.exit.name().to_owned()),
            _ => {}
        }
    }

    fn over(&mut self, how: String) {
        self.activity = Activity::Over(how);
        self.took.get_or_insert(self.started.elapsed());
    }
}

impl Activity {
    /// In a few words.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Ready => "ready".to_owned(),
            Self::Asking { attempt: 1 } => "asking the model".to_owned(),
            Self::Asking { attempt } => format!("asking the model, attempt {attempt}"),
            Self::Replying { chars } => format!("replying, {} chars", count(*chars as u64)),
            Self::WritingCall(tool) => format!("writing a call of {tool}"),
            Self::Calling(tools) => {
                let names: Vec<&str> = tools.values().map(String::as_str).collect();
                format!("calling {}", names.join(", "))
            }
            Self::Retrying { code, at } => format!("{code}, again at {}", time_of_day(*at)),
            Self::Waiting(what) => format!("waits for {what}"),
            Self::Over(how) => how.clone(),
        }
    }
}

impl Board {
    pub(super) fn new(news: UnboundedSender<News>) -> Self {
        Self { agents: Mutex::default(), news }
    }

    /// Names an agent. Notices of it may have come before.
    pub(super) fn introduce(&self, pid: Pid, name: &str, max_steps: u64) {
        let mut agents = self.lock();
        let (agent, _) = agents.entry(pid).or_insert_with(|| (Agent::new(), Teller::default()));
        agent.name = one_line(name);
        agent.max_steps = Some(max_steps);
        drop(agents);
        self.tell(News::Line(format!("{} is {pid}", self.label(pid))));
    }

    /// Says where the events of this run begin.
    pub(super) fn begins_at(&self, pid: Pid, seq: Seq) {
        if let Some((agent, _)) = self.lock().get_mut(&pid) {
            agent.next = seq;
        }
    }

    /// Takes an agent off.
    pub(super) fn forget(&self, pid: Pid) {
        self.lock().remove(&pid);
    }

    /// Writes down how the agents ended, and that nothing more will come.
    pub(super) fn finish(&self, outcomes: &[(Pid, Outcome)]) {
        let mut agents = self.lock();
        for (pid, outcome) in outcomes {
            let Some((agent, _)) = agents.get_mut(pid) else { continue };
            match outcome {
                Outcome::Exited(exit) => agent.over(exit.name().to_owned()),
                Outcome::Parked(_) => agent.over("parked".to_owned()),
                Outcome::Suspended => agent.over("suspended".to_owned()),
                Outcome::Stopped => agent.over("stopped".to_owned()),
                Outcome::Broken { code, .. } => agent.over(code.to_string()),
            }
        }
        drop(agents);
        self.tell(News::End);
    }

    /// The agent's name, with a number where an earlier agent has the same.
    pub(super) fn label(&self, pid: Pid) -> String {
        let agents = self.lock();
        let Some((agent, _)) = agents.get(&pid) else { return pid.to_string() };
        match agents.range(..pid).filter(|(_, (other, _))| other.name == agent.name).count() {
            0 => agent.name.clone(),
            earlier => format!("{}#{}", agent.name, earlier + 1),
        }
    }

    /// How long the agent ran in this run, in milliseconds.
    pub(super) fn took(&self, pid: Pid) -> u64 {
        let took = self.lock().get(&pid).map(|(agent, _)| agent.took()).unwrap_or_default();
        u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
    }

    /// All agents as they are now.
    pub(super) fn agents(&self) -> Vec<(String, Agent)> {
        let agents: Vec<(Pid, Agent)> =
            self.lock().iter().map(|(pid, (agent, _))| (*pid, agent.clone())).collect();
        agents.into_iter().map(|(pid, agent)| (self.label(pid), agent)).collect()
    }

    fn tell(&self, news: News) {
        // Whoever printed has ended; there is nobody left to tell.
        let _ = self.news.send(news);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Pid, (Agent, Teller)>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the event is worth a line where lines are appended.
fn is_told(what: &What) -> bool {
    matches!(
        what,
        What::LlmReturned(_)
            | What::LlmFailed(_)
            | What::ToolReturned(_)
            | What::Interrupted(_)
            | What::Blocked(aosk_abi::Blocked {
                on: BlockedOn::Quota { .. } | BlockedOn::Limit { .. },
                ..
            })
            | What::ChildBegun(_)
            | What::ChildEnded(_)
            | What::Exited(_)
    )
}

impl Observer for Board {
    fn notice(&self, pid: Pid, notice: &Notice<'_>) {
        let mut agents = self.lock();
        let (agent, teller) =
            agents.entry(pid).or_insert_with(|| (Agent::new(), Teller::default()));
        match notice {
            Notice::Happened { event, .. } => {
                agent.happened(event);
                if let What::Planned(planned) = &event.what {
                    agent.steps = planned.step.0;
                }
                let (_, sentence) = teller.tell(&event.what);
                if is_told(&event.what) {
                    let step = agent.steps;
                    let line = match event.what {
                        What::LlmReturned(_) | What::LlmFailed(_) => {
                            format!("step {step}: {sentence}")
                        }
                        _ => sentence,
                    };
                    agent.lines.push(line);
                }
            }
            Notice::Committed { last, row } => {
                agent.steps = row.steps;
                agent.usage = row.usage;
                agent.spent = row.spent;
                if agent.name.is_empty() {
                    agent.name = one_line(&row.name);
                }
                let from = std::mem::replace(&mut agent.next, last.next());
                let lines = std::mem::take(&mut agent.lines);
                drop(agents);
                let label = self.label(pid);
                for line in lines {
                    self.tell(News::Line(format!("{label}: {line}")));
                }
                self.tell(News::Durable { pid, from, last: *last });
            }
            Notice::Streaming(delta) => {
                agent.activity = match (delta, &agent.activity) {
                    (Delta::FirstByte, _) => Activity::Replying { chars: 0 },
                    (Delta::Text { chars: more }, Activity::Replying { chars }) => {
                        Activity::Replying { chars: chars + more }
                    }
                    (Delta::Text { chars }, _) => Activity::Replying { chars: *chars },
                    (Delta::ToolCall { name }, _) => Activity::WritingCall(one_line(name)),
                };
            }
            Notice::Waiting(on) => agent.activity = Activity::Waiting(blocked_on(on)),
        }
    }
}
