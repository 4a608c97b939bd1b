//! What a store takes on the disk, for benchmarks and for people.

use std::path::Path;

use aosk_ports::StoreError;

use super::fault::Fault;
use super::files::Files;
use super::schema::{Access, open_shared};

/// The bytes of a store, its log included as if it were moved into the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// All pages: tables, indexes and free ones.
    pub total: u64,
    /// Pages that nothing uses.
    pub free: u64,
    /// Tables and indexes, by name.
    pub tables: Vec<TableSize>,
}

/// The bytes of a table or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSize {
    /// Its name.
    pub name: String,
    /// The bytes of its pages.
    pub bytes: u64,
    /// The bytes in those pages that hold nothing.
    pub unused: u64,
}

/// Measures the store in the folder `dir`; reads all of it.
///
/// # Errors
/// As [`SqliteReader::open`](super::SqliteReader::open).
pub fn sizes(dir: &Path) -> Result<Sizes, StoreError> {
    let files = Files::new(dir);
    let connection = open_shared(&files, Access::Read)?;
    let measured = (|| {
        let snapshot = connection.unchecked_transaction()?;
        let pragma = |name| snapshot.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
        let page = u64::from(pragma("page_size")?);
        let (pages, free) = (pragma("page_count")?, pragma("freelist_count")?);
        let mut statement = snapshot.prepare(
            "SELECT name, SUM(pgsize), SUM(unused) FROM dbstat GROUP BY name ORDER BY name",
        )?;
        let tables = statement.query_map([], |row| {
            Ok(TableSize {
                name: row.get(0)?,
                bytes: row.get::<_, i64>(1)?.cast_unsigned(),
                unused: row.get::<_, i64>(2)?.cast_unsigned(),
            })
        })?;
        Ok(Sizes {
            total: u64::from(pages) * page,
            free: u64::from(free) * page,
            tables: tables.collect::<Result<_, rusqlite::Error>>()?,
        })
    })();
    measured.map_err(|fault: Fault| fault.at(files.database()))
}
