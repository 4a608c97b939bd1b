//! Compression: what pays, with which dictionary.
//!
//! The bodies of a step are some 850 bytes of JSON, 750 with their hashes [packed](super::hashes),
//! and with a dictionary of typical bodies these compress to about 340. The dictionary is plain
//! text, one body a line, because that can be read and reviewed; one trained on the very stream
//! saves 100 bytes more, one trained on another stream does not, and either is 4 KiB of noise.
//! Stored rows name their dictionary by number, so a dictionary is never changed: a better one gets
//! the next number.
//!
//! Contents compress without a dictionary. Measured on two public streams of agents with tools (64 contents
//! of more than 1 KiB; zstd's own training, 16 KiB): one trained on the one stream takes the other's contents of 1 to 4 KiB from 47.2 to
//! 47.4 % of their bytes, and its larger ones from 32.1 to 32.1 %. What pays is one of the very stream, 22 in
//! place of 35 % and 6.0 in place of 8.2 %: each store would train its own, keep every one for as long as a
//! row needs it, and hand them along with copies. Of bodies, which are alike in all stores, it pays at once.
//!
//! Contents are compressed only above [`WORTH_TRYING`]: below, a frame saves less than
//! the page it stands in wastes.

use std::cell::RefCell;
use std::sync::LazyLock;

use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::{DecoderDictionary, EncoderDictionary};
use zstd::zstd_safe::CParameter;

use super::hashes;

/// Contents of up to this many bytes are stored as they are.
pub(super) const WORTH_TRYING: usize = 1024;

/// The level for contents that are compressed while an agent waits; higher ones cost twice the time
/// for 3 %.
const FAST: i32 = 1;

/// The level for bodies: a negative one codes no literals, which halves the instructions (34,000 a
/// step) for some 13 bytes; most literals are hashes, which no code makes shorter.
const FASTER: i32 = -4;

/// The level for blobs and checkpoints, which are large and rare.
const THOROUGH: i32 = 3;

const DICTIONARY: &[u8] = include_bytes!("dictionary/1.txt");

static ENCODER: LazyLock<EncoderDictionary<'static>> =
    LazyLock::new(|| EncoderDictionary::copy(DICTIONARY, FASTER));
static DECODER: LazyLock<DecoderDictionary<'static>> =
    LazyLock::new(|| DecoderDictionary::copy(DICTIONARY));

// Making a context costs more than using it for a step, so each thread keeps those it used.
thread_local! {
    static BODIES: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static INLINE: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static RESTORE_BODIES: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    static RESTORE: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Uses a thread's context, made by `make` at the first use.
fn with<C, T>(
    key: &'static std::thread::LocalKey<RefCell<Option<C>>>,
    make: impl FnOnce() -> std::io::Result<C>,
    act: impl FnOnce(&mut C) -> std::io::Result<T>,
) -> std::io::Result<T> {
    key.with_borrow_mut(|slot| {
        let context = match slot.take() {
            Some(context) => context,
            None => make()?,
        };
        act(slot.insert(context))
    })
}

/// How bytes are stored; the number is part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// As they are.
    Plain = 0,
    /// A zstd frame.
    Zstd = 1,
    /// Bodies: hashes packed, then a zstd frame that needs dictionary 1.
    Bodies1 = 2,
}

impl Codec {
    /// The codec with that number.
    pub(super) const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Plain),
            1 => Some(Self::Zstd),
            2 => Some(Self::Bodies1),
            _ => None,
        }
    }
}

/// Compresses event bodies; `None` where it does not pay, or where they are no JSON.
pub(super) fn bodies(plain: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
    let Some(packed) = hashes::pack(plain) else {
        return Ok(None);
    };
    let make = || {
        let mut new = Compressor::with_prepared_dictionary(&ENCODER)?;
        new.set_parameter(CParameter::DictIdFlag(false))?;
        Ok(new)
    };
    with(&BODIES, make, |context| Ok(paying(context.compress(&packed)?, plain)))
}

/// Compresses contents that stand beside events; `None` where it does not pay.
pub(super) fn inline(plain: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
    if plain.len() <= WORTH_TRYING || looks_random(plain) {
        return Ok(None);
    }
    with(&INLINE, || Compressor::new(FAST), |context| Ok(paying(context.compress(plain)?, plain)))
}

/// Whether the bytes look as if they were compressed or encrypted already, by their first 256: of
/// random ones 162 differ on average and 128 or fewer in less than one case of a million, while
/// text has at most about 90. Trying in vain would cost a fifth of a step's instructions.
fn looks_random(plain: &[u8]) -> bool {
    let mut seen = [false; 256];
    let sample = plain.iter().take(256);
    let different = sample.filter(|&&byte| !std::mem::replace(&mut seen[usize::from(byte)], true));
    different.count() > 128
}

/// Compresses a large content; `None` where it does not pay.
pub(super) fn blob(plain: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
    Ok(paying(Compressor::new(THOROUGH)?.compress(plain)?, plain))
}

/// Compresses a checkpoint. Always a frame, because the frame's checksum is what detects damage.
pub(crate) fn checkpoint(plain: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut compressor = Compressor::new(THOROUGH)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    compressor.compress(plain)
}

fn paying(packed: Vec<u8>, plain: &[u8]) -> Option<Vec<u8>> {
    (packed.len() < plain.len()).then_some(packed)
}

/// The `len` plain bytes of what was stored with `codec`.
///
/// # Errors
/// An error of kind `InvalidData` where that is not what is stored.
pub(crate) fn restore(codec: Codec, stored: &[u8], len: usize) -> std::io::Result<Vec<u8>> {
    let plain = match codec {
        Codec::Plain => stored.to_vec(),
        Codec::Zstd => {
            with(&RESTORE, Decompressor::new, |context| context.decompress(stored, len))?
        }
        Codec::Bodies1 => {
            let packed = with(
                &RESTORE_BODIES,
                || Decompressor::with_prepared_dictionary(&DECODER),
                |context| context.decompress(stored, len),
            )?;
            hashes::unpack(&packed, len).unwrap_or(packed)
        }
    };
    if plain.len() == len {
        return Ok(plain);
    }
    Err(std::io::Error::new(
        std::io::ErrorKind::InvalidData,
        format!("{} bytes where {len} were stored", plain.len()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aosk_abi::Hash;

    #[test]
    fn dictionary_1_is_the_one_that_stored_rows_need() {
        assert_eq!(Hash::of(DICTIONARY).to_string(), include_str!("dictionary/1.blake3").trim());
    }

    #[test]
    fn contents_below_at_and_above_what_is_worth_trying() {
        for (len, tried) in
            [(WORTH_TRYING - 1, false), (WORTH_TRYING, false), (WORTH_TRYING + 1, true)]
        {
            assert_eq!(inline(&vec![b'a'; len]).expect("zstd").is_some(), tried);
        }
    }

    #[test]
    fn what_looks_random_is_not_tried_and_text_is() {
        let of = |different: usize| (0..2048).map(|i| (i % different) as u8).collect::<Vec<_>>();
        assert!(!looks_random(&of(128)));
        assert!(looks_random(&of(129)));
        let chinese = "操作系统的虚拟内存".repeat(99);
        assert!(inline(chinese.as_bytes()).expect("zstd").is_some());
    }

    #[test]
    fn a_length_that_is_not_the_stored_one_is_damage() {
        let plain = vec![b'a'; 5000];
        let packed = blob(&plain).expect("zstd").expect("pays");
        assert_eq!(restore(Codec::Zstd, &packed, 5000).expect("whole"), plain);
        assert!(restore(Codec::Zstd, &packed, 4999).is_err());
        assert!(restore(Codec::Zstd, &packed, 5001).is_err());
        assert!(restore(Codec::Plain, &plain, 4999).is_err());
    }

    #[test]
    fn a_flipped_bit_in_a_checkpoint_is_damage() {
        let plain: Vec<u8> = (0..4000_u32)
            .flat_map(|n| Hash::of(&n.to_le_bytes()).as_bytes()[..2].to_vec())
            .collect();
        let packed = checkpoint(&plain).expect("zstd");
        assert_eq!(restore(Codec::Zstd, &packed, plain.len()).expect("whole"), plain);
        for place in (0..packed.len()).step_by(97) {
            let mut bad = packed.clone();
            bad[place] ^= 1;
            assert_ne!(
                restore(Codec::Zstd, &bad, plain.len()).ok(),
                Some(plain.clone()),
                "{place}"
            );
        }
    }
}
