//! The same events as they may come over the wire. Line ends, comments, pings, names, blanks and a
//! byte-order mark do not matter, nor where TCP cuts, be it within a character.

use proptest::prelude::*;
use proptest::sample::Index;

use crate::server::{Act, stream_head};

/// What may stand in front of an event: lines of it, and whole events that mean nothing.
const NOISE: [&[&str]; 5] = [
    &[": keep-alive", ""],
    &["event: ping", "data: {\"type\": \"ping\"}", ""],
    &["event: message"],
    &["id: 7"],
    &["retry: 10"],
];

#[derive(Debug, Clone)]
pub struct Framing {
    line_end: &'static str,
    blank: &'static str,
    noise: Vec<&'static [&'static str]>,
    bom: bool,
    cuts: Vec<Index>,
}

pub fn any_framing() -> impl Strategy<Value = Framing> {
    let line_end = prop::sample::select(&["\n", "\r\n", "\r"][..]);
    let blank = prop::sample::select(&["", " "][..]);
    let noise = prop::sample::subsequence(NOISE.to_vec(), 0..=NOISE.len());
    let cuts = prop::collection::vec(any::<Index>(), 0..12);
    (line_end, blank, noise, any::<bool>(), cuts).prop_map(|(line_end, blank, noise, bom, cuts)| {
        Framing { line_end, blank, noise, bom, cuts }
    })
}

impl Framing {
    /// The bytes of a stream of `events`, and a server's acts that send them.
    pub fn play(&self, events: &[String]) -> (Vec<u8>, Vec<Act>) {
        let mut text = String::from(if self.bom { "\u{feff}" } else { "" });
        for event in events {
            let data = format!("data:{}{event}", self.blank);
            for line in self.noise.iter().copied().flatten().copied().chain([data.as_str(), ""]) {
                text.push_str(line);
                text.push_str(self.line_end);
            }
        }
        let bytes = text.into_bytes();
        let sends = pieces(&self.cuts, bytes.len()).map(|at| Act::Send(bytes[at].to_vec()));
        let acts = [stream_head()].into_iter().chain(sends).collect();
        (bytes, acts)
    }
}

/// The ranges that `cuts` make of something that long.
pub fn pieces(cuts: &[Index], len: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(len)).collect();
    places.extend([0, len]);
    places.sort_unstable();
    (1..places.len()).map(move |at| places[at - 1]..places[at])
}
