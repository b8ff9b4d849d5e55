//! What is done where the sampler's probabilities are not the trainer's, in any section that says so.

use hearken_config::{Complaint, NonNegative, Positive, RolloutConfig};
use hearken_objective::grpo::shaping::{SamplerCorrection, SamplerTerms};
use hearken_objective::surrogate::RatioLevel;
use schemars::JsonSchema;
use serde::Deserialize;

/// What is done where sampler and trainer differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CorrectionName {
    /// Nothing.
    None,
    /// Weights are bounded above.
    Truncate,
    /// Weights outside the bounds are 0.
    Mask,
    /// Ratios are those to the sampler.
    Ratio,
}

/// The keys of a section about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CorrectionKeys {
    pub(crate) section: &'static str,
    /// Whether the loss has a ratio, which may start from the sampler.
    pub(crate) has_ratio: bool,
    pub(crate) name: Option<CorrectionName>,
    pub(crate) level: Option<RatioLevel>,
    pub(crate) min: Option<NonNegative>,
    pub(crate) max: Option<Positive>,
}

impl CorrectionKeys {
    /// What they ask for, and those that mean nothing to it. Where none is named it is `otherwise`, but for weights in
    /// eight bits and those of servers, whose difference is not rounding alone, and for those of an earlier policy.
    ///
    /// # Errors
    /// If bounds are in the wrong order, or rollouts are replayed, which nobody samples.
    pub(crate) fn resolve(
        self,
        rollout: &RolloutConfig,
        otherwise: SamplerCorrection,
    ) -> Result<(SamplerCorrection, Vec<&'static str>), Complaint> {
        // The published bounds of truncation and masking.
        let min = self.min.map_or(0.5, NonNegative::get);
        let max = self.max.map_or(2.0, Positive::get);
        let level = self.level.unwrap_or(RatioLevel::Token);
        let replays = rollout.replay.is_some();
        let has_bounds = self.max.is_some() || self.level.is_some();
        let correction = match self.name {
            None if otherwise == SamplerCorrection::None
                && rollout.ahead.is_some()
                && self.has_ratio
                && !has_bounds =>
            {
                SamplerCorrection::Ratio
            }
            None if otherwise == SamplerCorrection::None && rollout.differs() => {
                SamplerCorrection::Truncate { level, max }
            }
            None => otherwise,
            Some(CorrectionName::None) => SamplerCorrection::None,
            Some(CorrectionName::Ratio) => SamplerCorrection::Ratio,
            Some(CorrectionName::Truncate) => SamplerCorrection::Truncate { level, max },
            Some(CorrectionName::Mask) => {
                let key = format!("{}.correction_min", self.section);
                Complaint::unless(min < max, &key, min, "less than correction_max")?;
                SamplerCorrection::Mask { level, min, max }
            }
        };
        let none = correction == SamplerCorrection::None;
        let weighs = !none && correction != SamplerCorrection::Ratio;
        let masks = matches!(correction, SamplerCorrection::Mask { .. });
        let unused = [
            ("correction_level", self.level.is_some() && !weighs),
            ("correction_max", self.max.is_some() && !weighs),
            ("correction_min", self.min.is_some() && !masks),
        ];
        if replays && !none {
            let reason = "a recorded rollout does not say what its sampler saw";
            let key = format!("{}.correction", self.section);
            return Err(Complaint::exclusive("rollout.replay", &key, reason));
        }
        Ok((correction, unused.into_iter().filter_map(|(key, is)| is.then_some(key)).collect()))
    }
}

/// The share of tokens whose weight a correction bounds or sets to 0; `None` without weights, or without
/// tokens.
pub(crate) fn corrected_share<'a>(
    correction: SamplerCorrection,
    completions: impl Iterator<Item = SamplerTerms<'a>>,
) -> Option<f64> {
    let plain = match correction {
        SamplerCorrection::None | SamplerCorrection::Ratio => return None,
        SamplerCorrection::Truncate { level, .. } | SamplerCorrection::Mask { level, .. } => {
            SamplerCorrection::Truncate { level, max: f64::INFINITY }
        }
    };
    let (mut corrected, mut all) = (0, 0);
    for terms in completions {
        let (found, plain) = (correction.weights(terms), plain.weights(terms));
        // A weight is as it was, or bounded from above, or 0.
        corrected += found.iter().zip(&plain).filter(|(found, plain)| found < plain).count();
        all += plain.len();
    }
    (all > 0).then(|| corrected as f64 / all as f64)
}
