//! Rankings by words, by BM25.
//!
//! The server has no index that knows scores, so every entry that is found is ranked. In a large memory a
//! question of twelve words is found in most entries, by words that weigh nearly nothing. So only its
//! rarest terms find there, its essential ones as MaxScore calls them (Turtle and Flood, 1995); the others
//! rank what those found. MaxScore goes by the highest score that each term has anywhere and leaves out
//! nothing that could be among the first. Those scores are not kept here, so the essential terms are chosen
//! by how many entries they bring, and now and then one of the first is missed.

use aosk_ports::Filter;
use deadpool_postgres::Object;

use super::super::fault::Fault;
use super::ask::{Ask, number};
use super::space::{self, Memory};
use crate::search::shelf::{Row, Scope};

/// How many entries the essential terms are to bring for each that is asked for. In a simulation with 100,000
/// texts of words as unlike in frequency as in a language, twelve words a question and 100 asked for, the
/// first ten were 99.5 % those of a ranking of all entries and the hundred 97 %; 3,200 entries were ranked
/// in place of 70,000.
const BROUGHT: i64 = 40;

/// One in so many of that is enough where the next term would bring more than all of that.
const ENOUGH: i64 = 8;

/// Up to how many memories are looked up with the terms, in the same index. Of more each is compared
/// with what has the terms: a thousand memories of 100 entries, asked for twelve words, took 980 ms by
/// that index and 98 ms so, 40 of them 7 and 12.
const LOOKED_UP: usize = 32;

/// Where a query looks.
struct Inside {
    memories: Vec<i64>,
    looks_up: bool,
}

impl Inside {
    fn new(memories: &[Memory]) -> Self {
        let memories: Vec<i64> = memories.iter().map(|it| it.id).collect();
        Self { looks_up: memories.len() <= LOOKED_UP, memories }
    }

    /// The pattern of entries with any of the terms.
    fn pattern<'a>(&self, terms: impl IntoIterator<Item = &'a String>) -> String {
        let terms = any(terms.into_iter().map(|term| quoted(term)));
        match self.looks_up {
            true => format!(
                "{} & {terms}",
                any(self.memories.iter().map(|id| quoted(&space::lexeme(*id))))
            ),
            false => terms,
        }
    }

    /// Adds what the pattern leaves out, after an AND.
    fn narrow(&self, ask: &mut Ask) {
        if !self.looks_up {
            ask.add(" AND i.space = ANY (").value(self.memories.clone()).add(")");
        }
    }
}

/// Those with any of the terms, by BM25 (k1 1.2, b 0.75). The server ranks by how often a term is
/// there, but not by how rare it is; that is counted over what was found, and where a term is not essential
/// taken from its share of that. Its rank of one term is a sum of 1/i² over the places, times 6/π², from
/// which their number follows: n ≈ 1 / (π²/6 - sum) - 1/2, off by 5 % at one place and less above.
pub(super) async fn words(
    client: &Object,
    scope: &Scope,
    terms: &[String],
    limit: usize,
) -> Result<Vec<Row>, Fault> {
    let memories = space::find_all(client, &scope.tenant, &scope.spaces).await?;
    if memories.is_empty() || terms.is_empty() {
        return Ok(Vec::new());
    }
    let inside = Inside::new(&memories);
    let most = BROUGHT.saturating_mul(number(limit));
    let is_essential = match memories.iter().map(|it| it.items).sum::<i64>() > most {
        true => essential(&entries(client, &inside, &scope.filter, terms, most).await?, most),
        false => vec![true; terms.len()],
    };
    let finding = terms.iter().zip(&is_essential).filter(|it| *it.1).map(|it| it.0);
    let mut ask = Ask::new();
    ask.add("WITH found AS MATERIALIZED (SELECT i.id, i.len, i.terms FROM search_items AS i WHERE i.terms @@ (SELECT ")
        .value(inside.pattern(finding))
        .add("::text::tsquery)");
    inside.narrow(&mut ask);
    ask.narrow(&scope.filter)
        .add(
            "), size AS (SELECT sum(items)::float8 AS items, \
             greatest(sum(terms), 1)::float8 / greatest(sum(items), 1)::float8 AS mean, \
             (SELECT greatest(count(*), 1)::float8 FROM found) AS found \
             FROM search_spaces WHERE id = ANY (",
        )
        .value(inside.memories)
        .add(
            ")), held AS MATERIALIZED (SELECT f.id, t.number, t.essential, \
             1 / greatest(1.6449341 - 1.6449341 * ts_rank('{1,1,1,1}', f.terms, t.term), 0.001) \
             - 0.5 AS times, \
             0.25 + 0.75 * f.len / size.mean AS length \
             FROM size, found AS f JOIN UNNEST(",
        )
        .value(terms.iter().map(|term| quoted(term)).collect::<Vec<String>>())
        .add("::text[]::tsquery[], ")
        .value(is_essential)
        .add(
            "::bool[]) WITH ORDINALITY AS t (term, essential, number) ON f.terms @@ t.term), \
             word AS (SELECT number, \
             count(*) * CASE WHEN essential THEN 1 ELSE size.items / size.found END AS entries \
             FROM held, size GROUP BY number, essential, size.items, size.found), \
             weight AS (SELECT number, ln(1 + (greatest(size.items - entries, 0) + 0.5) \
             / (entries + 0.5)) AS weight FROM word, size) \
             SELECT held.id FROM held JOIN weight USING (number) GROUP BY held.id \
             ORDER BY sum(weight * 2.2 * held.times / (held.times + 1.2 * held.length)) DESC, \
             held.id DESC LIMIT ",
        )
        .value(number(limit));
    ask.rows(client).await
}

/// How many entries have each of the terms, counted up to one more than `most`.
async fn entries(
    client: &Object,
    inside: &Inside,
    filter: &Filter,
    terms: &[String],
    most: i64,
) -> Result<Vec<i64>, Fault> {
    let patterns: Vec<String> = terms.iter().map(|term| inside.pattern([term])).collect();
    let mut ask = Ask::new();
    ask.add(
        "SELECT (SELECT count(*) FROM (SELECT FROM search_items AS i WHERE i.terms @@ t.pattern",
    );
    inside.narrow(&mut ask);
    ask.narrow(filter)
        .add(" LIMIT ")
        .value(most + 1)
        .add(") AS few) FROM UNNEST(")
        .value(patterns)
        .add("::text[]::tsquery[]) WITH ORDINALITY AS t (pattern, number) ORDER BY t.number");
    ask.rows(client).await
}

/// Which terms are essential: the rarest, until they are in `most` entries, or in an eighth of that where
/// the next is in more than all of that. One is always.
fn essential(entries: &[i64], most: i64) -> Vec<bool> {
    let mut rarest: Vec<(i64, usize)> = entries.iter().copied().zip(0..).collect();
    rarest.sort_unstable();
    let mut essential = vec![false; entries.len()];
    let mut sum = 0;
    for (entries, term) in rarest {
        if sum >= if entries > most { most / ENOUGH } else { most } {
            break;
        }
        essential[term] = true;
        sum += entries;
    }
    essential
}

fn any(quoted: impl Iterator<Item = String>) -> String {
    format!("({})", quoted.collect::<Vec<String>>().join(" | "))
}

/// A term as the server reads it in a pattern. Terms are letters, digits and `_`, and what a memory has
/// is `@` and digits.
fn quoted(term: &str) -> String {
    format!("'{term}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rarest_terms_are_essential_until_they_are_in_enough_entries() {
        assert_eq!(essential(&[3, 900, 0, 200], 1_000), [true; 4]);
        assert_eq!(essential(&[800, 900, 300, 950], 1_000), [true, false, true, false]);
        // Of one that is in more than all that is to be brought, an eighth of that is enough.
        assert_eq!(essential(&[1_001, 124], 1_000), [true; 2]);
        assert_eq!(essential(&[1_001, 125], 1_000), [false, true]);
        assert_eq!(essential(&[1_000, 125], 1_000), [true; 2]);
        assert_eq!(essential(&[1_001, 1_001], 1_000), [true, false]);
    }
}
