//! How long sequences are.

use rand::{Rng, RngExt as _};

/// A log-normal distribution of lengths, cut off: most are short, and a few take long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lengths {
    /// Mean, before it is cut off, in tokens.
    pub mean: f64,
    /// Standard deviation of the logarithm; 0 is one length for all.
    pub spread: f64,
    /// The most tokens.
    pub max: usize,
}

impl Lengths {
    /// One length for all.
    pub fn all(tokens: usize) -> Self {
        Self { mean: tokens as f64, spread: 0.0, max: tokens }
    }

    /// A length; at least one token.
    pub(super) fn draw(self, rng: &mut impl Rng) -> usize {
        // Box and Muller 1958. A uniform number of 0 has no logarithm.
        let (radius, angle) = (1.0 - rng.random::<f64>(), rng.random::<f64>());
        let normal = (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
        let (spread, mean) = (self.spread, self.mean);
        let tokens = (mean.ln() + spread * normal - spread * spread / 2.0).exp();
        (tokens.round() as usize).clamp(1, self.max.max(1))
    }
}
