//! The columns of the rows that every append writes, and the statements made of them.
//!
//! **Rows are given to the server as an array for each column**, because it pays for each statement
//! and the wire for each message. The arrays are taken apart in the list of a `SELECT`, which hands
//! row after row on; in a `FROM` the server first copies all of them into stores of its own, with
//! their contents: 1.59 ms for a group of 64 against 1.42.
//!
//! **A lone append is given as plain values.** It is what an agent that is alone waits for at each
//! step, and there taking 37 arrays apart and joining what comes out costs more than the writing:
//! 335 µs for one append, its sync included, against 269 with plain values, where a bare `INSERT` of
//! its contents into a table of three columns takes 236 (medians of 1,500, taken in turn). It also
//! has no need of `expect`, whose call takes another 14: its one row is there or it is not, and the
//! count of rows says so. What the journal and the process have in common is given once, and what a
//! plain step leaves as it is not at all.

use std::sync::LazyLock;

use tokio_postgres::types::ToSql;

/// A column of values, or a value.
pub(super) type Param<'a> = Box<dyn ToSql + Sync + Send + 'a>;

/// A column's name and type.
type Column = (&'static str, &'static str);

/// The columns of the journal.
const JOURNAL: [Column; 12] = [
    ("tenant", "int"),
    ("pid", "uuid"),
    ("first_seq", "bigint"),
    ("epoch", "bigint"),
    ("layout", "smallint"),
    ("hash", "bytea"),
    ("events", "bytea"),
    ("hashes", "bytea"),
    ("bodies", "bytea"),
    ("beside", "bytea"),
    ("contents", "bytea"),
    ("at", "timestamptz"),
];

/// What tells a process from others and says that it is the node's.
const KEY: [Column; 3] = [("tenant", "int"), ("pid", "uuid"), ("epoch", "bigint")];

/// What of its process only some appends change, and the link, which the journal has too.
const SELDOM: [Column; 4] = [
    ("head", "bytea"),
    ("origin", "bytea"),
    ("checkpoint", "bigint"),
    ("checkpoint_before", "bigint"),
];

/// What every append changes of its process.
const ALWAYS: [Column; 15] = [
    ("finished", "bool"),
    ("name", "text"),
    ("model", "text"),
    ("state", "text"),
    ("detail", "text"),
    ("next_seq", "bigint"),
    ("steps", "bigint"),
    ("input", "bigint"),
    ("cached", "bigint"),
    ("cache_write", "bigint"),
    ("output", "bigint"),
    ("reasoning", "bigint"),
    ("spent", "bigint"),
    ("created", "bigint"),
    ("updated", "bigint"),
];

/// Where a process must stand.
const BEFORE: [Column; 2] = [("was_next", "bigint"), ("was_head", "bytea")];

/// The list of a `SELECT` that yields the columns from arrays, the parameters from `$first` on.
fn unnested(columns: &[Column], first: usize) -> String {
    let yielded = columns
        .iter()
        .zip(first..)
        .map(|((name, kind), number)| format!("unnest(${number}::{kind}[]) AS {name}"));
    yielded.collect::<Vec<_>>().join(", ")
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// Every column that a process's row gets from an append: the key, then what changes.
fn of_process() -> Vec<Column> {
    [&KEY[..], &SELDOM, &ALWAYS].concat()
}

/// Makes processes, all of the same owner; its number is the last parameter.
pub(super) static MAKE: LazyLock<String> = LazyLock::new(|| {
    let columns = of_process();
    format!(
        "INSERT INTO processes ({}, owner_node) SELECT {}, ${}::uuid",
        names(&columns),
        unnested(&columns, 1),
        columns.len() + 1
    )
});

/// Stores appends.
pub(super) static STORE: LazyLock<String> = LazyLock::new(|| {
    format!("INSERT INTO journal ({}) SELECT {}", names(&JOURNAL), unnested(&JOURNAL, 1))
});

/// Stores appends and moves their processes on, from where they must stand. The last parameter says
/// how many there are: where one stands elsewhere the transaction fails.
pub(super) static MOVE: LazyLock<String> = LazyLock::new(|| {
    let columns = [&of_process()[..], &BEFORE].concat();
    let first = JOURNAL.len() + 1;
    let changed = SELDOM.iter().chain(&ALWAYS);
    let set: Vec<String> = changed.map(|(name, _)| format!("{name} = w.{name}")).collect();
    format!(
        "WITH moved AS (UPDATE processes AS p SET {} FROM (SELECT {}) AS w \
         WHERE p.tenant = w.tenant AND p.pid = w.pid AND p.epoch = w.epoch \
         AND p.next_seq = w.was_next AND p.head = w.was_head RETURNING 1) \
         INSERT INTO journal ({}) SELECT {} \
         WHERE (SELECT expect(count(*), ${}::bigint) FROM moved)",
        set.join(", "),
        unnested(&columns, first),
        names(&JOURNAL),
        unnested(&JOURNAL, 1),
        first + columns.len(),
    )
});

/// How many parameters [`MOVE_ONE`] has: those of the journal, the link before, the process's.
pub(super) const OF_ONE: usize = JOURNAL.len() + 1 + ALWAYS.len();

/// Stores one append and moves its process on. Where that stands elsewhere there is nothing to
/// store, and no row is counted. The link, the key and where the process must stand are parameters
/// of the journal's columns, by their places there.
pub(super) static MOVE_ONE: LazyLock<String> = LazyLock::new(|| {
    let given = |(at, (_, kind)): (usize, &Column)| format!("${at}::{kind}");
    let before = JOURNAL.len() + 1;
    let set = (before + 1..).zip(&ALWAYS).map(|it| format!(", {} = {}", it.1.0, given(it)));
    let values: Vec<String> = (1..).zip(&JOURNAL).map(given).collect();
    format!(
        "WITH moved AS (UPDATE processes SET head = $6::bytea{} WHERE tenant = $1::int \
         AND pid = $2::uuid AND epoch = $4::bigint AND next_seq = $3::bigint \
         AND head = ${before}::bytea RETURNING 1) \
         INSERT INTO journal ({}) SELECT {} FROM moved",
        set.collect::<String>(),
        names(&JOURNAL),
        values.join(", "),
    )
});
