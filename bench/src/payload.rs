//! Payloads that no compressor can shrink, the same for the same seed.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// `bytes` random bytes for step `step` of agent `agent`.
pub fn payload(seed: u64, agent: u64, step: u64, bytes: usize) -> Vec<u8> {
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ (agent << 32) ^ step);
    let mut payload = vec![0; bytes];
    random.fill_bytes(&mut payload);
    payload
}
