//! Chance: the same numbers in every run, or real ones for guests that may have them.

use std::{cell::Cell, sync::OnceLock};

use msm_protocol::ContentHash;

/// Where the guest's `Math.random` starts in every run: any number but 0.
const START: u64 = 0x4d53_4d31_4d53_4d31;
/// Bytes of the system's randomness that real numbers grow from: more than anyone can try.
const SEED_BYTES: usize = 32;

/// Taken before the walls stand: behind them the system gives none.
static SEED: OnceLock<[u8; SEED_BYTES]> = OnceLock::new();

/// Takes real randomness from the system, for guests that may have some. To be called before the walls are put up.
pub fn gather() {
    let mut seed = [0; SEED_BYTES];
    // SAFETY: the pointer and length are those of the array; a length below 256 is always served whole.
    if unsafe { libc::getentropy(seed.as_mut_ptr().cast(), seed.len()) } == 0 {
        // A second call would change nothing that matters.
        let _ = SEED.set(seed);
    }
}

/// A source of numbers. One per child.
pub struct Chance {
    state: Cell<u64>,
    /// Blocks of real randomness made so far; never set back, so that no two runs see the same.
    blocks: Cell<u64>,
}

impl Default for Chance {
    fn default() -> Self {
        Self::new()
    }
}

impl Chance {
    pub const fn new() -> Self {
        Self { state: Cell::new(START), blocks: Cell::new(0) }
    }

    /// Begins a run: its fixed numbers are those of every run.
    pub fn start(&self) {
        self.state.set(START);
    }

    /// The next of the fixed numbers, from 0 up to, not including, 1. xorshift64*: plain, quick, and the same on every
    /// device.
    pub fn fixed(&self) -> f64 {
        let mut state = self.state.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.state.set(state);
        unit(state.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    /// A real random number, from 0 up to, not including, 1; none if the system gave no randomness.
    pub fn real(&self) -> Option<f64> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes).then(|| unit(u64::from_le_bytes(bytes)))
    }

    /// Fills `bytes` with real randomness: hashes of the seed and a counter, which tell nothing of one another. False
    /// if the system gave no randomness.
    pub fn fill(&self, bytes: &mut [u8]) -> bool {
        let Some(seed) = SEED.get() else { return false };
        for chunk in bytes.chunks_mut(SEED_BYTES) {
            let block = self.blocks.get();
            self.blocks.set(block + 1);
            let mut text = [0; SEED_BYTES + 8];
            text[..SEED_BYTES].copy_from_slice(seed);
            text[SEED_BYTES..].copy_from_slice(&block.to_le_bytes());
            chunk.copy_from_slice(&ContentHash::of(&text).as_bytes()[..chunk.len()]);
        }
        true
    }
}

/// The upper 53 bits as a fraction.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_numbers_come_again_and_real_ones_do_not() {
        let chance = Chance::new();
        let first: Vec<f64> = (0..4).map(|_| chance.fixed()).collect();
        chance.start();
        let second: Vec<f64> = (0..4).map(|_| chance.fixed()).collect();
        assert_eq!(first, second);
        assert!(first.iter().all(|number| (0.0..1.0).contains(number)) && first[0] != first[1]);

        gather();
        let (mut a, mut b) = ([0; 100], [0; 100]);
        assert!(chance.fill(&mut a) && chance.fill(&mut b));
        chance.start();
        let mut c = [0; 100];
        assert!(chance.fill(&mut c));
        assert!(a != b && b != c && a != c && a[..32] != a[32..64]);
        assert!(chance.real().is_some_and(|number| (0.0..1.0).contains(&number)));
    }
}
