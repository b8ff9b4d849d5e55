//! One seed, named streams.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The seed of a run and the streams that come from it.
///
/// A stream is named by what it is for and by a counter (an epoch, an iteration): a draw more in one
/// place changes nothing elsewhere, and a run that resumes needs no state of a generator.
///
/// ```
/// use hearken_run::seeds::Seeds;
/// let seeds = Seeds::new(7);
/// assert_eq!(seeds.derive("sampling", 3, 0), Seeds::new(7).derive("sampling", 3, 0));
/// assert_ne!(seeds.derive("sampling", 3, 0), seeds.derive("sampling", 3, 1));
/// assert_ne!(seeds.derive("sampling", 3, 0), seeds.derive("shuffle", 3, 0));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    seed: u64,
}

impl Seeds {
    /// The streams of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The generator named `name`, number `index`.
    pub fn stream(&self, name: &str, index: u64) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(self.digest(name, index, None))
    }

    /// A seed for something that takes one: one per (name, index, sub).
    pub fn derive(&self, name: &str, index: u64, sub: u64) -> u64 {
        let digest = self.digest(name, index, Some(sub));
        u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
    }

    fn digest(self, name: &str, index: u64, sub: Option<u64>) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update(index.to_le_bytes());
        if let Some(sub) = sub {
            hash.update(sub.to_le_bytes());
        }
        hash.finalize().into()
    }
}
