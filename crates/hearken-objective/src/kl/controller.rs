//! The coefficient β of a KL penalty over the course of training.

/// Gives β, and may change it after seeing an iteration's KL.
///
/// ```
/// use hearken_objective::kl::KlController;
/// let mut kl = KlController::adaptive(0.15, 6.0, 10_000.0);
/// kl.observe(10.0, 512);
/// assert!((kl.beta() - 0.151536).abs() < 1e-9);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KlController {
    /// β never changes.
    Fixed {
        /// The coefficient, per nat.
        beta: f64,
    },
    /// β follows a target.
    ///
    /// ```text
    /// error = clip(KL / target − 1, −clip, clip)
    /// β    ← β·(1 + error·n / horizon)
    /// ```
    ///
    /// Ziegler et al. 2019, arXiv:1909.08593, section 2.2.
    Adaptive {
        /// The current coefficient, per nat.
        beta: f64,
        /// KL(π ‖ π_ref) of one completion that β steers towards, in nats.
        target_nats: f64,
        /// Completions over which a full error of 1 would double β.
        horizon: f64,
        /// Bound on the relative error of one observation.
        clip: f64,
    },
}

impl KlController {
    /// The published bound on one observation's relative error.
    pub const CLIP: f64 = 0.2;

    /// Adaptive with the published clip of 0.2.
    pub fn adaptive(beta: f64, target_nats: f64, horizon: f64) -> Self {
        Self::Adaptive { beta, target_nats, horizon, clip: Self::CLIP }
    }

    /// The coefficient in force, per nat.
    pub fn beta(&self) -> f64 {
        match *self {
            Self::Fixed { beta } | Self::Adaptive { beta, .. } => beta,
        }
    }

    /// Takes note of an iteration: mean KL of a completion in nats (k1 summed over its tokens), over
    /// `completions` completions.
    pub fn observe(&mut self, kl_nats: f64, completions: usize) {
        match self {
            Self::Fixed { .. } => {}
            Self::Adaptive { beta, target_nats, horizon, clip } => {
                let error = (kl_nats / *target_nats - 1.0).clamp(-*clip, *clip);
                *beta *= 1.0 + error * completions as f64 / *horizon;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::assert_close;

    #[test]
    fn beta_moves_towards_the_target() {
        for (kl, expected) in
            [(10.0, 0.151_536), (12.0, 0.151_536), (3.0, 0.148_464), (6.3, 0.150_384), (6.0, 0.15)]
        {
            let mut controller = KlController::adaptive(0.15, 6.0, 10_000.0);
            controller.observe(kl, 512);
            assert_close(&[controller.beta()], &[expected], 1e-12);
        }
    }

    #[test]
    fn a_fixed_beta_stays() {
        let mut controller = KlController::Fixed { beta: 0.05 };
        controller.observe(100.0, 512);
        assert_eq!(controller.beta(), 0.05);
    }
}
