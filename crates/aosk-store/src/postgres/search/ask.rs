//! Statements that are put together from what a query asks for.

use aosk_ports::Filter;
use deadpool_postgres::GenericClient;
use tokio_postgres::types::ToSql;

use super::super::fault::Fault;
use super::super::process::uuid;
use crate::search::check;
use crate::search::shelf::Row;

/// A statement under construction and its values.
///
/// A text that the server is to read as something else stands in a subquery: what is not known when
/// the statement is planned is else read again for every row, which for a vector takes as long as
/// comparing it forty times.
pub(super) struct Ask {
    sql: String,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Ask {
    pub(super) const fn new() -> Self {
        Self { sql: String::new(), values: Vec::new() }
    }

    pub(super) fn add(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Adds a value, and the mark that stands for it.
    pub(super) fn value(&mut self, value: impl ToSql + Sync + Send + 'static) -> &mut Self {
        self.values.push(Box::new(value));
        self.sql.push_str(&format!("${}", self.values.len()));
        self
    }

    /// Adds the conditions of a filter on the items `i`, each after an AND.
    pub(super) fn narrow(&mut self, filter: &Filter) -> &mut Self {
        let Filter { processes, kinds, from, until, tags } = filter;
        if !processes.is_empty() {
            let of: Vec<uuid::Uuid> = processes.iter().map(|pid| uuid(*pid)).collect();
            self.add(" AND i.pid = ANY (").value(of).add(")");
        }
        if !kinds.is_empty() {
            let of: Vec<i16> = kinds.iter().map(|kind| check::number(*kind)).collect();
            self.add(" AND i.kind = ANY (").value(of).add(")");
        }
        for (time, comparison) in [(from, ">="), (until, "<")] {
            if let Some(time) = time {
                self.add(&format!(" AND i.time {comparison} "))
                    .value(time.as_millis().cast_signed());
            }
        }
        if !tags.is_empty() {
            let of: Vec<String> = tags.iter().map(ToString::to_string).collect();
            self.add(" AND i.tags @> ").value(of);
        }
        self
    }

    pub(super) async fn rows(&self, client: &impl GenericClient) -> Result<Vec<Row>, Fault> {
        let values: Vec<&(dyn ToSql + Sync)> =
            self.values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
        let statement = client.prepare_cached(&self.sql).await?;
        let rows = client.query(&statement, &values).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }
}

/// A number as the server has it.
pub(super) fn number(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
