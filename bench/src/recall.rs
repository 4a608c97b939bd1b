//! `recall`: how often what a question is about stands in a context that holds a share of the history.
//!
//! Each scenario is the memory of one process and each turn a page of it. A policy puts the turns in
//! an order; they are taken from the front while they fit into the share of all characters, and the
//! question counts where the turn that it was made from is among them. That turn is the one with the
//! most word trigrams of the question's source; a question without one is left out.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use aosk_abi::{Hash, PageId, PageKind, Pid, Seq, Tenant, Timestamp};
use aosk_ports::{Batch, Entry, Item, Means, Query, Retriever, Space};
use aosk_store::SearchIndex;
use serde::{Deserialize, Serialize};

use crate::lines;
use crate::model;
use crate::report::{Failure, result, say};

/// What to ask.
#[derive(clap::Args)]
pub struct Args {
    /// Questions with their sources, one JSON object a line: .jsonl or .jsonl.zst.
    #[arg(long)]
    questions: PathBuf,
    /// The conversations that they are about, likewise.
    #[arg(long)]
    conversations: PathBuf,
    /// The shares of the history that fit, each above 0 and up to 1.
    #[arg(long, value_delimiter = ',', default_values_t = [0.05, 0.10, 0.25])]
    shares: Vec<f64>,
    /// The folder of a sentence model.
    #[arg(long, env = "AOSK_TEST_MINILM")]
    model: PathBuf,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Question {
    scenario: String,
    question: String,
    source: String,
}

#[derive(Deserialize)]
struct Conversation {
    scenario: String,
    turns: Vec<String>,
}

#[derive(Serialize)]
struct Row {
    policy: &'static str,
    share: f64,
    /// In percent of the questions.
    recall: f64,
    questions: usize,
}

const POLICIES: [&str; 5] = ["recency", "bm25", "vector", "hybrid", "hybrid_neighbours"];

/// Asks every question under every policy.
pub fn run(args: &Args) -> Result<(), Failure> {
    if let Some(share) = args.shares.iter().find(|share| !(**share > 0.0 && **share <= 1.0)) {
        return Err(format!("--shares has {share}: give shares above 0 and up to 1").into());
    }
    let mut scenarios: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (_, conversation) in lines::read::<Conversation>(&args.conversations)? {
        scenarios.entry(conversation.scenario).or_default().extend(conversation.turns);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let hits = runtime.block_on(ask(args, &scenarios))?;
    for policy in POLICIES {
        for (at, share) in args.shares.iter().enumerate() {
            let of = hits.iter().filter(|hit| hit.policy == policy && hit.share == at);
            let (questions, found) =
                of.fold((0, 0), |(all, found), hit| (all + 1, found + usize::from(hit.found)));
            let recall = (1e4 * found as f64 / questions as f64).round() / 1e2;
            result(&Row { policy, share: *share, recall, questions }, args.json)?;
        }
    }
    Ok(())
}

/// Whether one question found its evidence under one policy in one share.
struct Asked {
    policy: &'static str,
    share: usize,
    found: bool,
}

async fn ask(
    args: &Args,
    scenarios: &BTreeMap<String, Vec<String>>,
) -> Result<Vec<Asked>, Failure> {
    let folder = tempfile::tempdir()?;
    let index = SearchIndex::in_folder(folder.path(), Some(model::open(&args.model)?))?;
    for (scenario, turns) in scenarios {
        if turns.len() > Query::K_MAX {
            return Err(format!("{scenario} has more than {} turns", Query::K_MAX).into());
        }
        index.index(batch(scenario, turns)).await?;
    }
    while index.embed(64).await?.waiting > 0 {}
    let mut asked = Vec::new();
    for (line, question) in lines::read::<Question>(&args.questions)? {
        let turns = scenarios.get(&question.scenario).ok_or_else(|| {
            format!("question {line}: there is no conversation of {:?}", question.scenario)
        })?;
        let Some(evidence) = evidence(&question.source, turns) else {
            say(&format!(
                "question {line} is left out: no turn shares three words with its source"
            ));
            continue;
        };
        for policy in POLICIES {
            let order = order(&index, policy, &question, turns.len()).await?;
            for (share, part) in args.shares.iter().enumerate() {
                let found = fitting(&order, turns, *part).any(|turn| turn == evidence);
                asked.push(Asked { policy, share, found });
            }
        }
    }
    Ok(asked)
}

/// The process whose memory a scenario is.
fn owner(scenario: &str) -> Pid {
    Pid::from_alias(scenario)
}

fn batch(scenario: &str, turns: &[String]) -> Batch {
    let pid = owner(scenario);
    let items = (0..).zip(turns).map(|(page, text)| Item {
        entry: Entry {
            space: Space::Process(pid),
            pid,
            page: PageId(page),
            start: 0,
            seq: Seq(u64::from(page)),
            hash: Hash::of(text.as_bytes()),
            kind: PageKind::Message,
            time: Timestamp::from_millis(u64::from(page)),
            tags: Vec::new(),
        },
        text: Arc::from(text.as_str()),
    });
    Batch { tenant: Tenant::local(), items: items.collect(), followed: None }
}

/// The turns in the order in which a policy wants them.
async fn order(
    index: &SearchIndex,
    policy: &str,
    question: &Question,
    turns: usize,
) -> Result<Vec<usize>, Failure> {
    let (means, neighbours) = match policy {
        "recency" => return Ok((0..turns).rev().collect()),
        "bm25" => (Means::Words, false),
        "vector" => (Means::Vectors, false),
        "hybrid" => (Means::Hybrid, false),
        _ => (Means::Hybrid, true),
    };
    let space = Space::Process(owner(&question.scenario));
    let query = Query::new(Tenant::local(), space, question.question.as_str(), turns);
    let found = index.query(Query { means, neighbours, ..query }).await?;
    if let Some(why) = found.words_only {
        return Err(format!("the index compared words alone: {why}").into());
    }
    Ok(found.hits.iter().map(|hit| hit.entry.page.0 as usize).collect())
}

/// Those of the turns that fit, from the front.
fn fitting<'a>(
    order: &'a [usize],
    turns: &'a [String],
    share: f64,
) -> impl Iterator<Item = usize> + 'a {
    let chars = |turn: &String| turn.chars().count() as f64;
    let mut room = share * turns.iter().map(chars).sum::<f64>();
    order.iter().copied().take_while(move |turn| {
        room -= turns.get(*turn).map_or(0.0, chars);
        room >= 0.0
    })
}

/// The turn with the most word trigrams of the source; `None` where none has one.
fn evidence(source: &str, turns: &[String]) -> Option<usize> {
    let wanted = trigrams(source);
    let shared = |turn: &String| trigrams(turn).intersection(&wanted).count();
    let best = turns.iter().map(shared).enumerate().rev().max_by_key(|(_, count)| *count)?;
    (best.1 > 0).then_some(best.0)
}

fn trigrams(text: &str) -> HashSet<[String; 3]> {
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.windows(3).filter_map(|three| three.to_vec().try_into().ok()).collect()
}
