//! The time of steps.

use std::time::Instant;

use hearken_run::error::TrainError;
use hearken_stats::quantile::middle;

use super::Profile;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lap {
    /// How long it took.
    pub seconds: f64,
    /// Floating-point operations that the result needs; what is computed a second time to save
    /// memory does not count again.
    pub flops: f64,
}

/// Times steps, the first of which does not count.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    warmed: bool,
    laps: Vec<Lap>,
    decode_tokens_per_s: Vec<f64>,
    weight_bytes: f64,
    profile: Option<Profile>,
}

impl Clock {
    /// A clock that clears `profile` after the first step.
    pub(crate) fn with_profile(profile: Profile) -> Self {
        Self { profile: Some(profile), ..Self::default() }
    }

    /// Times a step that returns its operations.
    pub(crate) fn lap(
        &mut self,
        step: impl FnOnce() -> Result<f64, TrainError>,
    ) -> Result<(), TrainError> {
        let start = Instant::now();
        let flops = step()?;
        let seconds = start.elapsed().as_secs_f64();
        if self.warmed {
            self.laps.push(Lap { seconds, flops });
        } else {
            self.warmed = true;
            if let Some(profile) = &self.profile {
                profile.clear();
            }
        }
        Ok(())
    }

    /// Notes how fast tokens came of a single sequence, and the bytes of weights that each needs.
    pub(crate) fn decoded(&mut self, tokens_per_s: f64, weight_bytes: f64) {
        self.decode_tokens_per_s.push(tokens_per_s);
        self.weight_bytes = weight_bytes;
    }

    pub(crate) fn stop(self, tokens: usize) -> TimedSteps {
        let rate = middle(self.decode_tokens_per_s.get(1..).unwrap_or_default());
        let decode_bytes_per_s = rate.map(|rate| rate * self.weight_bytes);
        TimedSteps { laps: self.laps, tokens, decode_bytes_per_s }
    }
}

/// The steps of a work.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedSteps {
    /// All steps but the first; at least one.
    pub laps: Vec<Lap>,
    /// Tokens of a step, as [`super::Sizes::tokens`] counts them.
    pub tokens: usize,
    /// Where one sequence is sampled at a time: bytes of weights per second of decoding, if every
    /// weight is read once per token.
    pub decode_bytes_per_s: Option<f64>,
}

impl TimedSteps {
    /// The median step.
    ///
    /// # Panics
    /// If there is no step.
    pub fn seconds(&self) -> f64 {
        let seconds: Vec<f64> = self.laps.iter().map(|lap| lap.seconds).collect();
        middle(&seconds).expect("at least one step")
    }

    /// Tokens per second of the median step.
    pub fn tokens_per_s(&self) -> f64 {
        self.tokens as f64 / self.seconds()
    }

    /// Floating-point operations per second: those of a mean step over the median time.
    pub fn flops_per_s(&self) -> f64 {
        let total: f64 = self.laps.iter().map(|lap| lap.flops).sum();
        total / self.laps.len() as f64 / self.seconds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_does_not_count() {
        let mut clock = Clock::default();
        for flops in [7.0, 1.0, 3.0] {
            clock.lap(|| Ok(flops)).unwrap();
        }
        let measured = clock.stop(10);
        assert_eq!(measured.laps.iter().map(|lap| lap.flops).collect::<Vec<_>>(), [1.0, 3.0]);
        assert_eq!(measured.decode_bytes_per_s, None);
    }

    #[test]
    fn rates_follow_from_the_median_step() {
        let laps = [1.0, 4.0, 2.0].map(|seconds| Lap { seconds, flops: 6.0 });
        let measured = TimedSteps { laps: laps.to_vec(), tokens: 10, decode_bytes_per_s: None };
        assert_eq!((measured.tokens_per_s(), measured.flops_per_s()), (5.0, 3.0));
    }
}
