//! The history of a process: what of its image only ever grows.
//!
//! That is the transcript and how pages entered, two entries for each thing said; all else of an image
//! is bounded by what is in the prompt or outstanding. A conversation of 50,000 things said took 5.4 MB
//! in CBOR with its field names; of the bytes here most are hashes, which no encoding makes shorter.
//!
//! ```text
//! places before these, places        of the transcript; then for each:
//!   event, part                      the event as the difference to the place before
//!   shape, content: 32 bytes, length then what the shape has besides
//! pages before these, pages          then for each admission:
//!   kind ‖ flags << 4                which of the following there are
//!   event, part, tokens              the event as the difference to the page before, modulo 2^64
//!   unit, importance, start, length  the unit as the difference to the event, modulo 2^64
//!   turn, inflation                  as the differences to the page before, modulo 2^32
//! ```

use aosk_abi::{Admission, ContentRef, PageId, PageKind, Ppm, Seq, Source, Tokens};
use aosk_context::Entry;

use super::transcript::Shape;
use super::wire::{Rest, put, put_text};
use super::{Image, Saved};

/// Entries in their order.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) places: Vec<(Source, Shape)>,
    pub(super) entries: Vec<Entry>,
}

const PINNED: u8 = 1;
const UNIT: u8 = 2;
const IMPORTANCE: u8 = 4;
const RANGE: u8 = 8;

impl Image {
    /// How many entries there are behind the saved ones.
    pub(super) fn unsaved(&self, saved: &Saved) -> usize {
        let pages = self.pages.pages().len().saturating_sub(saved.pages);
        self.transcript.since(saved.places).len() + pages
    }

    /// The entries behind the saved ones, encoded.
    pub(super) fn history(&self, saved: &Saved) -> Vec<u8> {
        let mut out = Vec::new();
        let places = self.transcript.since(saved.places);
        put(&mut out, saved.places as u64);
        put(&mut out, places.len() as u64);
        let mut before = 0;
        for (source, shape) in places {
            put(&mut out, source.seq.0 - before);
            put(&mut out, source.part.into());
            put_shape(&mut out, shape);
            before = source.seq.0;
        }
        put(&mut out, saved.pages as u64);
        put(&mut out, self.pages.pages().len().saturating_sub(saved.pages) as u64);
        let (mut before, mut turn, mut inflation) = (0, 0_u32, 0_u32);
        for entry in self.pages.entries(saved.pages) {
            put_admission(&mut out, &entry.admission, before);
            put(&mut out, entry.born.wrapping_sub(turn).into());
            put(&mut out, entry.inflation.wrapping_sub(inflation).into());
            (before, turn, inflation) = (entry.admission.source.seq.0, entry.born, entry.inflation);
        }
        out
    }
}

impl History {
    /// Adds encoded entries, which may repeat some that are there; `None` where they are damaged or
    /// leave a gap.
    pub(super) fn extend(&mut self, bytes: &[u8]) -> Option<()> {
        let mut rest = Rest(bytes);
        let before = usize::try_from(rest.number()?).ok()?;
        if before > self.places.len() {
            return None;
        }
        self.places.truncate(before);
        let count = rest.count()?;
        self.places.reserve(count);
        let mut seq = 0_u64;
        for _ in 0..count {
            seq = seq.checked_add(rest.number()?)?;
            let part = u16::try_from(rest.number()?).ok()?;
            self.places.push((Source { seq: Seq(seq), part }, shape(&mut rest)?));
        }
        let before = usize::try_from(rest.number()?).ok()?;
        if before > self.entries.len() {
            return None;
        }
        self.entries.truncate(before);
        let count = rest.count()?;
        self.entries.reserve(count);
        let (mut seq, mut turn, mut inflation) = (0, 0_u32, 0_u32);
        for _ in 0..count {
            let page = PageId(u32::try_from(self.entries.len()).ok()?);
            let admission = admission(&mut rest, page, seq)?;
            seq = admission.source.seq.0;
            turn = turn.wrapping_add(u32::try_from(rest.number()?).ok()?);
            inflation = inflation.wrapping_add(u32::try_from(rest.number()?).ok()?);
            self.entries.push(Entry { admission, born: turn, inflation });
        }
        rest.is_empty().then_some(())
    }
}

fn put_content(out: &mut Vec<u8>, content: &ContentRef) {
    out.extend(content.hash.as_bytes());
    put(out, content.len);
}

fn content(rest: &mut Rest<'_>) -> Option<ContentRef> {
    Some(ContentRef { hash: rest.hash()?, len: rest.number()? })
}

fn put_shape(out: &mut Vec<u8>, shape: &Shape) {
    let tag = match shape {
        Shape::System(_) => 0,
        Shape::Tools(_) => 1,
        Shape::User(_) => 2,
        Shape::Reply(_) => 3,
        Shape::Opaque { .. } => 4,
        Shape::ToolCall { .. } => 5,
        Shape::ToolResult { failed: false, .. } => 6,
        Shape::ToolResult { failed: true, .. } => 7,
    };
    out.push(tag);
    put_content(out, shape.content());
    match shape {
        Shape::Opaque { format, .. } => put_text(out, format),
        Shape::ToolCall { id, name, .. } | Shape::ToolResult { id, name, .. } => {
            put_text(out, id);
            put_text(out, name);
        }
        Shape::System(_) | Shape::Tools(_) | Shape::User(_) | Shape::Reply(_) => {}
    }
}

fn shape(rest: &mut Rest<'_>) -> Option<Shape> {
    let (tag, content) = (rest.byte()?, content(rest)?);
    Some(match tag {
        0 => Shape::System(content),
        1 => Shape::Tools(content),
        2 => Shape::User(content),
        3 => Shape::Reply(content),
        4 => Shape::Opaque { format: rest.text()?, content },
        5 => Shape::ToolCall { id: rest.text()?, name: rest.text()?, arguments: content },
        6 | 7 => {
            let (id, name) = (rest.text()?, rest.text()?);
            Shape::ToolResult { id, name, content, failed: tag == 7 }
        }
        _ => return None,
    })
}

const fn number_of(kind: PageKind) -> u8 {
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

const fn kind(number: u8) -> Option<PageKind> {
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

fn put_admission(out: &mut Vec<u8>, admission: &Admission, before: u64) {
    let Admission { importance, kind, page: _, pinned, range, source, tokens, unit } = *admission;
    let flag = |is: bool, flag| if is { flag } else { 0 };
    let flags = flag(pinned, PINNED)
        | flag(unit != source.seq, UNIT)
        | flag(importance != Admission::DEFAULT_IMPORTANCE, IMPORTANCE)
        | flag(range.is_some(), RANGE);
    out.push(number_of(kind) | flags << 4);
    put(out, source.seq.0.wrapping_sub(before));
    put(out, source.part.into());
    put(out, tokens.0);
    if flags & UNIT != 0 {
        put(out, source.seq.0.wrapping_sub(unit.0));
    }
    if flags & IMPORTANCE != 0 {
        put(out, importance.0.into());
    }
    if let Some((start, len)) = range {
        put(out, start);
        put(out, len);
    }
}

fn admission(rest: &mut Rest<'_>, page: PageId, before: u64) -> Option<Admission> {
    let byte = rest.byte()?;
    let flags = byte >> 4;
    let seq = before.wrapping_add(rest.number()?);
    let source = Source { seq: Seq(seq), part: u16::try_from(rest.number()?).ok()? };
    let tokens = Tokens(rest.number()?);
    let unit = if flags & UNIT != 0 { seq.wrapping_sub(rest.number()?) } else { seq };
    let importance = if flags & IMPORTANCE != 0 {
        Ppm(u32::try_from(rest.number()?).ok()?)
    } else {
        Admission::DEFAULT_IMPORTANCE
    };
    let range = if flags & RANGE != 0 { Some((rest.number()?, rest.number()?)) } else { None };
    Some(Admission {
        importance,
        kind: kind(byte & 15)?,
        page,
        pinned: flags & PINNED != 0,
        range,
        source,
        tokens,
        unit: Seq(unit),
    })
}
