//! From contents to pages: how large what arrived is, and where it is cut.
//!
//! A long result or message becomes pages of at most 1,024 tokens, so that a part of it can leave and
//! come back. Where it is cut is a decision like any other: the plan that admits the pages holds their
//! places in the text, and nobody has to count again to know them. What the model said itself stays
//! whole: endpoints sign it and refuse a changed one.
//!
//! A tokenizer may have to ask a server for each count, so nothing is counted line by line: a text is
//! cut where it would have to be if its tokens were spread evenly, and a page that is too large all
//! the same is cut once more by its own count. Most texts take one round of asking.

use std::num::NonZeroU64;
use std::sync::Arc;

use aosk_abi::{PageKind, Tokens};
use aosk_context::{Arrival, OPENING, PAGE, cut};

use super::Driver;
use super::recall::is_recalled;
use crate::image::Shape;

/// A content that is longer than a page.
struct Long {
    /// Where it stands among the arrivals.
    index: usize,
    text: Arc<str>,
    /// What the text takes, and what stands around it.
    tokens: Tokens,
    around: Tokens,
}

/// A page of a content: its place in the text in bytes, and what it holds.
struct Piece {
    start: u64,
    text: Arc<str>,
}

impl Driver {
    /// The arrivals with their sizes, which the tokenizer may have to ask for, the long ones in pages.
    /// Messages that came while the model or its tools were at work stand behind the results: a call
    /// must be followed by its results.
    pub(super) async fn sized_arrivals(&mut self) -> Vec<Arrival> {
        let mut arrivals = self.process.image.arrivals.clone();
        arrivals.sort_by_key(|arrival| {
            arrival.kind == PageKind::Message || is_recalled(arrival.source, arrival.unit)
        });
        let mut arrived = Vec::with_capacity(arrivals.len());
        let mut texts = Vec::with_capacity(arrivals.len());
        // Where the texts of each end, and what it holds besides texts.
        let mut ends = Vec::with_capacity(arrivals.len());
        for arrival in &arrivals {
            let mut opaque = Tokens::ZERO;
            if let Some(shape) = self.process.image.transcript.get(arrival.source) {
                let recalled = is_recalled(arrival.source, arrival.unit);
                let text = match recalled {
                    true => self.recalled_text(shape, arrival.range),
                    false => self.text(shape),
                };
                // What is not text travels as base64, of which a token holds about a byte and a
                // half.
                if matches!(shape, Shape::Opaque { .. }) && text.is_empty() {
                    opaque = Tokens(shape.content().len);
                }
                if let Shape::ToolResult { id, name, .. } | Shape::ToolCall { id, name, .. } = shape
                    && !recalled
                {
                    texts.extend([id.as_str().into(), name.as_str().into()]);
                }
                arrived.push((arrival.source, arrival.range, text.clone()));
                texts.push(text);
            }
            ends.push((texts.len(), opaque));
        }
        self.cache.expect(arrived);
        let tokenizer = &self.means.model.tokenizer;
        tokenizer.prepare(&texts).await;
        let mut sizes = texts.iter().map(|text| tokenizer.count(text));
        let mut long = Vec::new();
        let mut begin = 0;
        for (index, (arrival, (end, opaque))) in arrivals.iter_mut().zip(ends).enumerate() {
            let mut around = opaque + tokenizer.per_message();
            let mut tokens = Tokens::ZERO;
            // The content is the last.
            for size in sizes.by_ref().take(end - begin) {
                around += std::mem::replace(&mut tokens, size);
            }
            arrival.tokens = around + tokens;
            if tokens.0 > PAGE.get() && may_be_cut(arrival) {
                long.push(Long { index, text: texts[end - 1].clone(), tokens, around });
            }
            begin = end;
        }
        if long.is_empty() { arrivals } else { self.in_pages(&arrivals, &long).await }
    }

    /// The arrivals, the long ones in pages.
    async fn in_pages(&self, arrivals: &[Arrival], long: &[Long]) -> Vec<Arrival> {
        let mut pages = Vec::with_capacity(arrivals.len());
        let mut long = long.iter().peekable();
        for (index, arrival) in arrivals.iter().enumerate() {
            let Some(it) = long.next_if(|it| it.index == index) else {
                pages.push(*arrival);
                continue;
            };
            let mut around = it.around;
            for (piece, tokens) in self.pieces(it).await {
                let range = Some((piece.start, piece.text.len() as u64));
                // What stands around the text stays as long as its first page does.
                let tokens = tokens + std::mem::take(&mut around);
                pages.push(Arrival { range, tokens, ..*arrival });
            }
        }
        pages
    }

    /// The pages of a long content, none too large, with their sizes.
    async fn pieces(&self, long: &Long) -> Vec<(Piece, Tokens)> {
        let tokenizer = &self.means.model.tokenizer;
        let mut pieces = evenly(&long.text, 0, long.tokens, OPENING);
        loop {
            let texts: Vec<Arc<str>> = pieces.iter().map(|piece| piece.text.clone()).collect();
            tokenizer.prepare(&texts).await;
            let sized: Vec<(Piece, Tokens)> = pieces
                .into_iter()
                .map(|piece| {
                    let tokens = tokenizer.count(&piece.text);
                    (piece, tokens)
                })
                .collect();
            let limit = |piece: &Piece| if piece.start == 0 { OPENING } else { PAGE };
            // A single character cannot be cut.
            let is_too_large = |(piece, tokens): &(Piece, Tokens)| {
                *tokens > Tokens(limit(piece).get()) && piece.text.chars().nth(1).is_some()
            };
            if !sized.iter().any(is_too_large) {
                return sized;
            }
            pieces = Vec::with_capacity(sized.len() + 1);
            for it in sized {
                if is_too_large(&it) {
                    let (piece, tokens) = it;
                    pieces.extend(evenly(&piece.text, piece.start, tokens, limit(&piece)));
                } else {
                    pieces.push(it.0);
                }
            }
        }
    }
}

/// `text`, which stands at `start` and has that many tokens, in pages that would be seven eighths full
/// if the tokens were spread evenly over it, as they seldom are.
fn evenly(text: &str, start: u64, tokens: Tokens, opening: NonZeroU64) -> Vec<Piece> {
    let bytes = text.len() as u128;
    let share = |part: &str| {
        let tokens = (part.len() as u128 * u128::from(tokens.0) * 8).div_ceil(bytes.max(1) * 7);
        Tokens(u64::try_from(tokens).unwrap_or(u64::MAX))
    };
    let mut rest = text;
    cut(text, opening, PAGE, share)
        .into_iter()
        .map(|(at, length)| {
            let (piece, behind) = rest.split_at(usize::try_from(length).unwrap_or(rest.len()));
            rest = behind;
            Piece { start: start + at, text: piece.into() }
        })
        .collect()
}

/// Whether parts of it may leave: it is no word of the model's, and not pinned or recalled.
fn may_be_cut(arrival: &Arrival) -> bool {
    matches!(arrival.kind, PageKind::Message | PageKind::ToolResult)
        && !arrival.pinned
        && !is_recalled(arrival.source, arrival.unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_large_becomes_at_least_two_pages() {
        for tokens in [1_025, 2_048, 3_000] {
            let pieces = evenly(&"x".repeat(4_000), 7, Tokens(tokens), PAGE);
            assert!(pieces.len() > 1 && pieces[0].start == 7, "{tokens}");
            let text: String = pieces.iter().map(|piece| &*piece.text).collect();
            assert_eq!(text.len(), 4_000);
            for pair in pieces.windows(2) {
                assert_eq!(pair[1].start, pair[0].start + pair[0].text.len() as u64);
            }
        }
    }
}
