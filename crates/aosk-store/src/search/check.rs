//! What every backend refuses, in the same words.

use aosk_abi::{Code, PageKind};
use aosk_ports::{Batch, Entry, Means, Query, Space, StoreError};

/// The number under which a kind is kept.
pub(crate) const fn number(kind: PageKind) -> i16 {
    match kind {
        PageKind::System => 0,
        PageKind::Tools => 1,
        PageKind::Task => 2,
        PageKind::Message => 3,
        PageKind::Reply => 4,
        PageKind::ToolCall => 5,
        PageKind::ToolResult => 6,
    }
}

/// The kind of that number.
pub(crate) const fn kind(number: i16) -> Option<PageKind> {
    Some(match number {
        0 => PageKind::System,
        1 => PageKind::Tools,
        2 => PageKind::Task,
        3 => PageKind::Message,
        4 => PageKind::Reply,
        5 => PageKind::ToolCall,
        6 => PageKind::ToolResult,
        _ => return None,
    })
}

fn refused(message: String) -> StoreError {
    StoreError::new(Code::SearchInput, message)
}

/// Checks a query.
pub(crate) fn query(query: &Query) -> Result<(), StoreError> {
    if query.spaces.is_empty() || query.spaces.len() > Query::SPACES_MAX {
        return Err(refused(format!(
            "a query names {} memories: name 1 to {}",
            query.spaces.len(),
            Query::SPACES_MAX
        )));
    }
    if !(1..=Query::K_MAX).contains(&query.k) {
        return Err(refused(format!(
            "a query asks for {} pages: ask for 1 to {}",
            query.k,
            Query::K_MAX
        )));
    }
    let has_text = query.text.as_ref().is_some_and(|text| !text.trim().is_empty());
    let asks = match query.means {
        Means::Words => has_text,
        Means::Hybrid | Means::Vectors => has_text || query.vector.is_some(),
    };
    if !asks {
        return Err(refused("a query asks for nothing: give it a text".to_owned()));
    }
    for tag in &query.filter.tags {
        self::tag(tag)?;
    }
    Ok(())
}

/// Checks what is put in.
pub(crate) fn batch(batch: &Batch) -> Result<(), StoreError> {
    for item in &batch.items {
        let (entry, text) = (&item.entry, &item.text);
        let page = format_args!("page {} of process {}", entry.page.0, entry.pid).to_string();
        if text.len() > Entry::TEXT_MAX {
            return Err(refused(format!(
                "{page} has {} bytes of text: put it in in parts of up to {}",
                text.len(),
                Entry::TEXT_MAX
            )));
        }
        if entry.tags.len() > Entry::TAGS_MAX || !entry.tags.is_sorted_by(|a, b| a < b) {
            return Err(refused(format!(
                "the tags of {page} are {:?}: give up to {}, sorted, none twice",
                entry.tags,
                Entry::TAGS_MAX
            )));
        }
        entry.tags.iter().try_for_each(|tag| self::tag(tag))?;
        if matches!(entry.space, Space::Process(owner) if owner != entry.pid) {
            return Err(refused(format!("{page} is put into another process's own memory")));
        }
        if batch.followed.is_some_and(|followed| followed.pid != entry.pid) {
            return Err(refused(format!("{page} comes with another process's journal")));
        }
        if i64::try_from(entry.start).is_err() || i64::try_from(entry.seq.0).is_err() {
            return Err(refused(format!("{page} begins beyond the end of any text or journal")));
        }
    }
    Ok(())
}

fn tag(tag: &str) -> Result<(), StoreError> {
    if tag.is_empty() || tag.len() > Entry::TAG_MAX || tag.contains('\0') {
        return Err(refused(format!(
            "{tag:?} is no tag: give 1 to {} bytes without U+0000",
            Entry::TAG_MAX
        )));
    }
    Ok(())
}

/// A cursor that is not where the batch begins.
pub(crate) fn elsewhere(there: u64, from: u64) -> StoreError {
    StoreError::new(
        Code::StoreConflict,
        format!(
            "the index stands at event {there}, not at {from}: somebody else follows this journal \
             too; read the cursor and go on from there"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_number_of_its_own() {
        let mut kinds = 0;
        for number in -1..100 {
            if let Some(kind) = kind(number) {
                assert_eq!(self::number(kind), number);
                kinds += 1;
            }
        }
        assert_eq!(kinds, 7);
    }
}
