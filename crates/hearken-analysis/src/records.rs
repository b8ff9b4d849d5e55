//! What is analyzed, and how.

use hearken_data::feedback::{Item, Judgement};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Items and judgements, as a store or a file has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JudgedItems {
    /// What was judged.
    pub items: Vec<Item>,
    /// The judgements in the order in which they were appended; what a later one revises is left out by the analysis.
    pub judgements: Vec<Judgement>,
}

/// How to analyze.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Rounds of every bootstrap. 0 leaves those intervals unbounded.
    pub bootstrap_rounds: usize,
    /// The seed of everything random.
    pub seed: u64,
    /// Items whose texts are read for patterns; a random choice of so many where there are more.
    pub texts_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { bootstrap_rounds: 1000, seed: 0, texts_max: 20_000 }
    }
}

impl Options {
    /// The generator for one purpose: sections do not share draws, so that adding one changes no other.
    pub(crate) fn rng(&self, purpose: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(purpose);
        rng
    }
}
