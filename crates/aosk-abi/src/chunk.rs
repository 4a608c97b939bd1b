//! Contents in chunks: how bytes of any length get an address without ever being in memory together.
//!
//! A content that is longer than a chunk is stored as a list of chunks of [`ChunkList::CHUNK`] bytes, each
//! of which is a content of its own, so equal chunks of different contents are stored once. Its address is
//! the one that [`ContentKey::hash`] gives for all its bytes: an event names it as any other, and whether it
//! is stored whole or in chunks shows nowhere.
//!
//! BLAKE3 is a tree, and a chunk whose length is a power of two is a subtree of it. So the list keeps, beside
//! each chunk's address, the value of its subtree at its place. These values give the address of the whole,
//! and a reader checks the list before the first byte and each chunk as it comes: no byte is handed out that
//! does not belong to the address, and nothing waits for the end. (The tree is that of section 2.1 of the
//! BLAKE3 paper; to verify a stream along it is what Bao does.)
//!
//! A chunk has 1 MiB: the list of 1 GB takes 64 KB, and a chunk with what compresses and sends it some 5 MB
//! of memory. Chunks end at fixed places, not where the content says so: contents that grow at their end
//! share all but their last chunk, and those that grow at their beginning share none.

use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::content::{Content, ContentKey, ContentRef, Hash};

/// How a content of more than one chunk is put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkList {
    len: u64,
    chunks: Vec<Chunk>,
}

/// A chunk of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Its own address, as that of any content.
    pub address: Hash,
    /// The value of its subtree at its place in the whole.
    link: Hash,
}

/// A content would be longer than any may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the content has more than {max} bytes, the most that one may have: store it in parts")]
pub struct TooLong {
    /// The most bytes of a content.
    pub max: u64,
}

impl ChunkList {
    /// The bytes of a chunk; the last has fewer.
    pub const CHUNK: usize = 1 << 20;

    /// The most bytes of a content: 64 GiB, whose list takes 4 MiB.
    pub const MAX_LEN: u64 = 64 << 30;

    /// The bytes that a chunk takes in [`to_bytes`](Self::to_bytes).
    const ENTRY: usize = 64;

    /// The length of the content in bytes, more than one chunk.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it never is: there are two chunks at least")]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// The chunks in their order, at least two.
    #[must_use]
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The address of the content, as the list has it. O(chunks).
    #[must_use]
    pub fn address(&self, key: &ContentKey) -> Hash {
        let mode = Mode::KeyedHash(key.as_bytes());
        let (left, right) = self.chunks.split_at(left_of(self.chunks.len()));
        let root = merge_subtrees_root(&subtree(left, mode), &subtree(right, mode), mode);
        Hash::from_bytes(*root.as_bytes())
    }

    /// Whether `bytes` are those of the chunk in that place.
    #[must_use]
    pub fn holds(&self, key: &ContentKey, place: usize, bytes: &[u8]) -> bool {
        let Some(chunk) = self.chunks.get(place) else { return false };
        let begin = place as u64 * Self::CHUNK as u64;
        let len = (self.len - begin).min(Self::CHUNK as u64);
        bytes.len() as u64 == len && link(key, place, bytes) == chunk.link
    }

    /// The list as stores keep it, beside its length: for each chunk 32 bytes of address and 32 of link.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let entry = |chunk: &Chunk| [*chunk.address.as_bytes(), *chunk.link.as_bytes()].concat();
        self.chunks.iter().flat_map(entry).collect()
    }

    /// The list from what a store kept of it; `None` where there can be none like that. Whether it is
    /// the list of an address, [`address`](Self::address) tells.
    #[must_use]
    pub fn from_bytes(len: u64, bytes: &[u8]) -> Option<Self> {
        let count = len.div_ceil(Self::CHUNK as u64);
        if !(2..=Self::MAX_LEN / Self::CHUNK as u64).contains(&count)
            || bytes.len() as u64 != count * Self::ENTRY as u64
        {
            return None;
        }
        let entry = |bytes: &[u8]| {
            let (address, link) = bytes.split_first_chunk::<32>()?;
            let link = link.first_chunk::<32>()?;
            Some(Chunk { address: Hash::from_bytes(*address), link: Hash::from_bytes(*link) })
        };
        let chunks = bytes.chunks_exact(Self::ENTRY).map(entry).collect::<Option<_>>()?;
        Some(Self { len, chunks })
    }
}

/// How many of `count` subtrees are the left one's: the largest power of two below their number.
const fn left_of(count: usize) -> usize {
    count.next_power_of_two() / 2
}

/// The value of the subtree over chunks, of which there is at least one.
fn subtree(chunks: &[Chunk], mode: Mode<'_>) -> [u8; 32] {
    match chunks {
        [one] => *one.link.as_bytes(),
        many => {
            let (left, right) = many.split_at(left_of(many.len()));
            merge_subtrees_non_root(&subtree(left, mode), &subtree(right, mode), mode)
        }
    }
}

/// The value of a chunk's subtree at its place; it has at least one byte.
fn link(key: &ContentKey, place: usize, bytes: &[u8]) -> Hash {
    let mut hasher = Hasher::new_keyed(key.as_bytes());
    hasher.set_input_offset(place as u64 * ChunkList::CHUNK as u64);
    Hash::from_bytes(hasher.update(bytes).finalize_non_root())
}

/// Cuts bytes that come in pieces into chunks.
#[derive(Debug)]
pub struct Chunker {
    key: ContentKey,
    max: u64,
    len: u64,
    rest: Vec<u8>,
    chunks: Vec<Chunk>,
}

/// What a [`Chunker`] made of all the bytes. The content it holds is the last one to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// They fit one chunk, so this is all of the content.
    Whole(Content),
    /// The last chunk, and the list of all.
    Chunks(Content, ChunkList),
}

impl Cut {
    /// How events name the content. O(chunks).
    #[must_use]
    pub fn reference(&self, key: &ContentKey) -> ContentRef {
        match self {
            Self::Whole(content) => content.reference(),
            Self::Chunks(_, list) => ContentRef { hash: list.address(key), len: list.len() },
        }
    }
}

impl Chunker {
    /// Before the first byte.
    #[must_use]
    pub fn new(key: ContentKey) -> Self {
        Self { key, max: ChunkList::MAX_LEN, len: 0, rest: Vec::new(), chunks: Vec::new() }
    }

    /// Takes bytes from the front of `bytes`, all of them or up to the end of a chunk. A chunk comes
    /// back as soon as it is known that it is not the last; what is left of `bytes` then is to be
    /// given again.
    ///
    /// # Errors
    /// [`TooLong`]; the content cannot be finished then.
    pub fn take(&mut self, bytes: &mut &[u8]) -> Result<Option<Content>, TooLong> {
        if bytes.is_empty() {
            return Ok(None);
        }
        if self.rest.len() == ChunkList::CHUNK {
            return Ok(Some(self.cut()));
        }
        let room = ChunkList::CHUNK - self.rest.len();
        let (taken, left) = bytes.split_at(room.min(bytes.len()));
        self.len += taken.len() as u64;
        if self.len > self.max {
            return Err(TooLong { max: self.max });
        }
        self.rest.extend_from_slice(taken);
        *bytes = left;
        Ok(None)
    }

    /// All bytes were taken.
    #[must_use]
    pub fn finish(mut self) -> Cut {
        if self.chunks.is_empty() {
            return Cut::Whole(self.key.seal(self.rest));
        }
        let last = self.cut();
        Cut::Chunks(last, ChunkList { len: self.len, chunks: self.chunks })
    }

    fn cut(&mut self) -> Content {
        let content = self.key.seal(std::mem::take(&mut self.rest));
        let link = link(&self.key, self.chunks.len(), content.bytes());
        self.chunks.push(Chunk { address: content.hash(), link });
        content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = ChunkList::CHUNK;

    fn key() -> ContentKey {
        ContentKey::from_bytes([7; 32])
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    fn cut(bytes: &[u8], piece: usize) -> (Vec<Content>, Cut) {
        let (mut chunker, mut chunks) = (Chunker::new(key()), Vec::new());
        for mut piece in bytes.chunks(piece) {
            while !piece.is_empty() {
                chunks.extend(chunker.take(&mut piece).expect("short enough"));
            }
        }
        (chunks, chunker.finish())
    }

    #[test]
    fn the_address_of_chunks_is_that_of_all_the_bytes() {
        let bytes = noise(9 * CHUNK + 5);
        for len in
            [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK, 7 * CHUNK + 3, bytes.len()]
        {
            let bytes = &bytes[..len];
            for piece in [1000, CHUNK, 3 * CHUNK + 1] {
                let (chunks, end) = cut(bytes, piece);
                let reference = end.reference(&key());
                assert_eq!((reference.hash, reference.len), (key().hash(bytes), len as u64));
                let (last, list) = match end {
                    Cut::Whole(content) => {
                        assert!(len <= CHUNK && chunks.is_empty());
                        assert_eq!(&content.bytes()[..], bytes);
                        continue;
                    }
                    Cut::Chunks(last, list) => (last, list),
                };
                assert_eq!(list.len(), len as u64);
                let all: Vec<&Content> = chunks.iter().chain([&last]).collect();
                assert!(
                    list.chunks().iter().map(|it| it.address).eq(all.iter().map(|it| it.hash()))
                );
                assert!(all.iter().flat_map(|it| it.bytes().iter()).eq(bytes));
                assert_eq!(ChunkList::from_bytes(list.len(), &list.to_bytes()), Some(list));
            }
        }
    }

    #[test]
    fn a_chunk_is_held_in_its_own_place_alone_and_whole() {
        let bytes = [noise(CHUNK), noise(CHUNK), noise(9)].concat();
        let (_, end) = cut(&bytes, bytes.len());
        let Cut::Chunks(_, list) = end else { panic!("{end:?}") };
        assert_eq!(list.chunks()[0].address, list.chunks()[1].address);
        let (first, last) = (&bytes[..CHUNK], &bytes[2 * CHUNK..]);
        assert!(list.holds(&key(), 0, first) && list.holds(&key(), 2, last));
        assert!(!list.holds(&key(), 2, first) && !list.holds(&key(), 0, last));
        assert!(!list.holds(&key(), 2, &last[..8]) && !list.holds(&key(), 3, last));
        assert!(!list.holds(&ContentKey::from_bytes([8; 32]), 0, first));
        // The same chunk, with another link: the list is of another address.
        let mut stored = list.to_bytes();
        stored[32] ^= 1;
        let other = ChunkList::from_bytes(list.len(), &stored).expect("well formed");
        assert_ne!(other.address(&key()), list.address(&key()));
        assert!(!other.holds(&key(), 0, first));
    }

    #[test]
    fn a_list_has_two_chunks_at_least_and_as_many_as_its_length_says() {
        let chunk = CHUNK as u64;
        let list = |len: u64, entries: u64| {
            ChunkList::from_bytes(len, &vec![0; ChunkList::ENTRY * entries as usize]).is_some()
        };
        assert!(!list(0, 0) && !list(chunk, 1) && list(chunk + 1, 2) && list(2 * chunk, 2));
        assert!(!list(2 * chunk, 1) && !list(2 * chunk + 1, 2) && list(2 * chunk + 1, 3));
        let most = ChunkList::MAX_LEN / chunk;
        assert!(list(ChunkList::MAX_LEN, most) && !list(ChunkList::MAX_LEN + 1, most + 1));
    }

    #[test]
    fn a_content_at_the_longest_is_taken_and_a_longer_one_is_refused() {
        let mut chunker = Chunker { max: 10, ..Chunker::new(key()) };
        assert_eq!(chunker.take(&mut &[1; 10][..]), Ok(None));
        assert_eq!(chunker.take(&mut &[1; 1][..]), Err(TooLong { max: 10 }));
        assert!(TooLong { max: 10 }.to_string().contains("10 bytes"));
    }
}
