//! The random numbers of a sample.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The random numbers of one sample: `ChaCha8` keyed by the request's seed, its stream the sample's
/// index. Each token takes one number, so nothing else can shift them.
pub(crate) fn stream(seed: u64, sample: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(sample as u64);
    rng
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::stream;

    #[test]
    fn streams_differ_by_seed_and_by_sample() {
        let first = |seed, sample| stream(seed, sample).random::<u64>();
        assert_eq!(first(1, 0), first(1, 0));
        assert_ne!(first(1, 0), first(1, 1));
        assert_ne!(first(1, 0), first(2, 0));
    }
}
