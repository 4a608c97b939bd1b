//! Reading: rankings by words, filters, and what is shown of a row.

use std::fmt::Write as _;

use aosk_abi::{Hash, PageId, Pid, Seq, Timestamp};
use aosk_ports::{Entry, Filter};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row as Line, params_from_iter};

use super::super::fault::Fault;
use super::{put, space};
use crate::search::check;
use crate::search::shelf::{self, Row, Scope, Shown};

/// Those with any of the terms, by BM25 (k1 1.2, b 0.75, as FTS5 has it). The term of the memory
/// narrows the list before anything is ranked, and weighs nothing.
pub(super) fn words(
    connection: &Connection,
    scope: &Scope,
    terms: &[String],
    limit: usize,
) -> Result<Vec<Row>, Fault> {
    let spaces = space::find_all(connection, &scope.tenant, &scope.spaces)?;
    if spaces.is_empty() || terms.is_empty() {
        return Ok(Vec::new());
    }
    let any = |terms: Vec<String>| terms.join(" OR ");
    let spaces = spaces.iter().map(|id| format!("\"{}\"", space::term(*id))).collect();
    let terms = terms.iter().map(|term| format!("\"{term}\"")).collect();
    let pattern = format!("scope : ({}) AND body : ({})", any(spaces), any(terms));
    let (narrowed, mut values) = narrow(&scope.filter, "i");
    let join = if narrowed.is_empty() { "" } else { "JOIN items AS i ON i.id = words.rowid" };
    let sql = format!(
        "SELECT words.rowid FROM words {join} WHERE words MATCH ?{narrowed} \
         ORDER BY bm25(words, 0.0, 1.0), words.rowid DESC LIMIT ?"
    );
    values.insert(0, Value::Text(pattern));
    values.push(number(limit));
    rows(connection, &sql, values)
}

/// The entries of the memories that the filter lets through, where it narrows anything.
pub(super) fn let_through(
    connection: &Connection,
    spaces: &[i64],
    filter: &Filter,
) -> Result<Option<Vec<Row>>, Fault> {
    let (narrowed, values) = narrow(filter, "i");
    if narrowed.is_empty() {
        return Ok(None);
    }
    let marks = vec!["?"; spaces.len()].join(",");
    let sql = format!("SELECT i.id FROM items AS i WHERE i.space IN ({marks}){narrowed}");
    let spaces = spaces.iter().map(|id| Value::Integer(*id));
    rows(connection, &sql, spaces.chain(values).collect()).map(Some)
}

fn rows(connection: &Connection, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| row.get(0))?;
    Ok(rows.collect::<Result<Vec<_>, _>>()?)
}

fn number(value: usize) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

/// The conditions of a filter on the table of that alias, each after an AND, and their values.
fn narrow(filter: &Filter, table: &str) -> (String, Vec<Value>) {
    let Filter { processes, kinds, from, until, tags } = filter;
    let (mut sql, mut values) = (String::new(), Vec::new());
    let mut one_of = |column: &str, of: Vec<Value>| {
        if !of.is_empty() {
            let marks = vec!["?"; of.len()].join(",");
            // Writing to a string cannot fail.
            let _ = write!(sql, " AND {table}.{column} IN ({marks})");
            values.extend(of);
        }
    };
    one_of("pid", processes.iter().map(|it| Value::Blob(it.as_bytes().to_vec())).collect());
    one_of("kind", kinds.iter().map(|it| Value::Integer(check::number(*it).into())).collect());
    for (time, comparison) in [(from, ">="), (until, "<")] {
        if let Some(time) = time {
            let _ = write!(sql, " AND {table}.time {comparison} ?");
            values.push(Value::Integer(time.as_millis().cast_signed()));
        }
    }
    for tag in tags {
        let _ = write!(sql, " AND EXISTS (SELECT 1 FROM tags WHERE item = {table}.id AND tag = ?)");
        values.push(Value::Text(tag.to_string()));
    }
    (sql, values)
}

const COLUMNS: &str =
    "i.id, s.name, i.pid, i.page, i.start, i.seq, i.hash, i.kind, i.time, i.space, i.seal";

/// What stands in the rows that are still there.
pub(super) fn show(
    connection: &Connection,
    rows: &[Row],
    neighbours: bool,
) -> Result<Vec<Shown>, Fault> {
    let mut shown = Vec::with_capacity(rows.len());
    for row in rows {
        let condition = "i.id = ?1";
        let Some((entry, space)) = one(connection, condition, (*row,))? else {
            continue;
        };
        let mut beside = Vec::new();
        if neighbours {
            for condition in [
                "i.space = ?1 AND i.pid = ?2 AND i.page < ?3 ORDER BY i.page DESC, i.start LIMIT 1",
                "i.space = ?1 AND i.pid = ?2 AND i.page > ?3 ORDER BY i.page, i.start LIMIT 1",
            ] {
                let key = (space, entry.pid.as_bytes(), entry.page.0);
                beside.extend(one(connection, condition, key)?.map(|(entry, _)| entry));
            }
        }
        shown.push(Shown { row: *row, entry, beside });
    }
    Ok(shown)
}

fn one(
    connection: &Connection,
    condition: &str,
    values: impl rusqlite::Params,
) -> Result<Option<(Entry, i64)>, Fault> {
    let sql = format!(
        "SELECT {COLUMNS} FROM items AS i JOIN spaces AS s ON s.id = i.space WHERE {condition}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(values)?;
    let Some(line) = rows.next()? else {
        return Ok(None);
    };
    let mut entry = entry(line)?;
    let (row, space, sealed): (Row, i64, i64) = (line.get(0)?, line.get(9)?, line.get(10)?);
    drop(rows);
    let mut statement =
        connection.prepare_cached("SELECT tag FROM tags WHERE item = ?1 ORDER BY tag")?;
    let tags = statement.query_map([row], |line| Ok(line.get::<_, String>(0)?.into()))?;
    entry.tags = tags.collect::<Result<_, _>>()?;
    if put::seal(&entry) != sealed {
        return Err(Fault::damaged(format_args!("entry {row} is not what was put in")));
    }
    Ok(Some((entry, space)))
}

fn entry(line: &Line<'_>) -> Result<Entry, Fault> {
    let name: Vec<u8> = line.get(1)?;
    let kind = check::kind(line.get(7)?)
        .ok_or_else(|| Fault::damaged("an entry has a kind that there is not"))?;
    Ok(Entry {
        space: shelf::of_name(&name).ok_or_else(|| Fault::damaged("a memory has no name"))?,
        pid: Pid::from_bytes(line.get(2)?),
        page: PageId(line.get(3)?),
        start: line.get::<_, i64>(4)?.cast_unsigned(),
        seq: Seq(line.get::<_, i64>(5)?.cast_unsigned()),
        hash: Hash::from_bytes(line.get(6)?),
        kind,
        time: Timestamp::from_millis(line.get::<_, i64>(8)?.cast_unsigned()),
        tags: Vec::new(),
    })
}

/// The vector of an entry.
pub(super) fn vector(connection: &Connection, row: Row) -> Result<Option<Vec<f32>>, Fault> {
    let mut statement = connection.prepare_cached("SELECT vector FROM vectors WHERE item = ?1")?;
    let read = |line: &Line<'_>| {
        let bytes = line.get_ref(0)?.as_blob()?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|it| f32::from_le_bytes(*it)).collect())
    };
    Ok(statement.query_row([row], read).optional()?)
}
