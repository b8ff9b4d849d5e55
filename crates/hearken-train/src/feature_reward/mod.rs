//! A small reward model on features of answers: seconds instead of hours, and a measure of what a large one has to beat.
//!
//! A network with one hidden layer scores an answer from its features; it learns from pairs by Bradley and Terry's loss, the
//! negative log-likelihood of P(first preferred) = σ(r(first) − r(second)). [`train`] measures it by cross-validation over
//! prompts against the rule "longer wins" and a logistic regression, and then trains one on everything.
//!
//! Not here: what the features are, and where judgements come from.

mod baseline;
mod folds;
mod measure;
mod network;
mod optimize;

use std::path::Path;

use hearken_stats::Estimate;
use hearken_stats::calibration::Bin;
use serde::{Deserialize, Serialize};

pub use network::{Activation, FeatureNetwork};

use hearken_config::NonNegative;
use hearken_run::run_dir::{RunDirError, write_atomically};

/// Two answers to one prompt, as numbers, and which is preferred.
#[derive(Clone, Debug, PartialEq)]
pub struct FeaturePair {
    /// Features of the first answer.
    pub first: Vec<f64>,
    /// Features of the second answer.
    pub second: Vec<f64>,
    /// P(first preferred), in [0, 1].
    pub target: f64,
    /// The prompt: pairs with the same number are never on both sides of a split.
    pub group: u64,
    /// How long the first answer is, for the rule "longer wins".
    pub first_length: f64,
    /// How long the second answer is.
    pub second_length: f64,
}

/// How to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeatureOptions {
    /// Units of the hidden layer.
    pub hidden: usize,
    /// What a hidden unit computes.
    pub activation: Activation,
    /// Folds of the cross-validation; fewer where there are fewer prompts.
    pub folds: usize,
    /// Most epochs.
    pub epochs_max: usize,
    /// Epochs without a better loss on the validation pairs before training stops.
    pub patience: usize,
    /// Pairs of a minibatch.
    pub minibatch: usize,
    /// Adam's learning rate.
    pub learning_rate: NonNegative,
    /// Decoupled weight decay.
    pub weight_decay: NonNegative,
    /// Rounds of bootstraps.
    pub bootstrap_rounds: usize,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for FeatureOptions {
    fn default() -> Self {
        Self {
            hidden: 16,
            activation: Activation::Tanh,
            folds: 5,
            epochs_max: 200,
            patience: 15,
            minibatch: 64,
            learning_rate: const { NonNegative::new(0.003).expect("from 0") },
            weight_decay: const { NonNegative::new(0.01).expect("from 0") },
            bootstrap_rounds: 1000,
            seed: 0,
        }
    }
}

/// What was trained, and how good it is.
#[derive(Clone, Debug)]
pub struct TrainedFeatures {
    /// Trained on all pairs.
    pub network: FeatureNetwork,
    /// Measured on pairs of prompts that the measured networks did not learn from.
    pub report: FeatureReport,
}

/// Held-out measurements. A number is `None` where there is nothing to measure.
#[derive(Clone, Debug)]
pub struct FeatureReport {
    /// Pairs that are learned from.
    pub pairs: usize,
    /// Prompts.
    pub groups: usize,
    /// Folds of the cross-validation.
    pub folds: usize,
    /// Units of the hidden layer.
    pub hidden: usize,
    /// Share of decisive pairs whose preferred answer scores higher.
    pub accuracy: Option<Estimate>,
    /// The same of "the longer answer wins".
    pub longer_wins: Option<Estimate>,
    /// The same of "longer wins" or "shorter wins", whichever holds in the training pairs of a fold.
    pub length_only: Option<Estimate>,
    /// The same of a logistic regression.
    pub logistic: Option<Estimate>,
    /// Accuracy less that of length alone; bootstrap over prompts.
    pub over_length: Option<Estimate>,
    /// Accuracy less that of the logistic regression; bootstrap over prompts.
    pub over_logistic: Option<Estimate>,
    /// What speaks against using the model.
    pub warnings: Vec<String>,
    /// How often what it is sure of is so.
    pub calibration: Vec<Bin>,
    /// Expected calibration error.
    pub calibration_error: Option<Estimate>,
    /// Per feature, in their order: accuracy lost when its values are exchanged between pairs; bootstrap over prompts.
    pub importance: Vec<Option<Estimate>>,
}

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum FeatureRewardError {
    /// Too little to learn from.
    #[error(
        "{pairs} pairs with a preference on {groups} prompts, expected at least {} pairs and {} prompts",
        PAIRS_MIN,
        GROUPS_MIN
    )]
    TooFew {
        /// Pairs whose target is not one half.
        pairs: usize,
        /// Their prompts.
        groups: usize,
    },
    /// A pair that is not as it should be.
    #[error("pair {index}: {what}")]
    BadPair {
        /// Position of the pair.
        index: usize,
        /// What was found and what was expected.
        what: String,
    },
    /// A setting that makes no sense.
    #[error("{name} is 0, expected at least 1")]
    BadOption {
        /// The setting.
        name: &'static str,
    },
    /// A file that cannot be written.
    #[error(transparent)]
    Written(#[from] RunDirError),
    /// A file that cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file that holds no network.
    #[error("{}:{line}: {what}", path.display())]
    NotANetwork {
        /// The file.
        path: std::path::PathBuf,
        /// The line, from 1.
        line: usize,
        /// What was found and what was expected.
        what: String,
    },
}

/// Decisive pairs from which on a model is trained.
pub const PAIRS_MIN: usize = 20;
/// Prompts from which on a model is trained.
pub const GROUPS_MIN: usize = 2;

/// Trains and measures. The same pairs and options give the same network and the same numbers.
///
/// # Errors
/// If there are too few pairs, a pair has the wrong number of features or a number that is not finite, or an option is 0.
pub fn train(
    names: &[String],
    pairs: &[FeaturePair],
    options: &FeatureOptions,
) -> Result<TrainedFeatures, FeatureRewardError> {
    check(names, pairs, options)?;
    let decisive: Vec<&FeaturePair> = pairs.iter().filter(|pair| pair.is_decisive()).collect();
    let groups: std::collections::BTreeSet<u64> = decisive.iter().map(|pair| pair.group).collect();
    if decisive.len() < PAIRS_MIN || groups.len() < GROUPS_MIN {
        let (pairs, groups) = (decisive.len(), groups.len());
        return Err(FeatureRewardError::TooFew { pairs, groups });
    }
    let folds = folds::cross_validate(names, &decisive, options);
    let network = folds::train_on_all(names, &decisive, &folds, options);
    let report = measure::report(&decisive, &folds, options);
    Ok(TrainedFeatures { network, report })
}

impl FeaturePair {
    /// Whether one answer is preferred.
    fn is_decisive(&self) -> bool {
        (self.target - 0.5).abs() > f64::EPSILON
    }

    /// Whether a margin, score(first) − score(second), says what the target says: 1, or ½ for a margin of 0.
    fn hit(&self, margin: f64) -> f64 {
        if margin == 0.0 { 0.5 } else { f64::from(u8::from((margin > 0.0) == (self.target > 0.5))) }
    }
}

fn check(
    names: &[String],
    pairs: &[FeaturePair],
    options: &FeatureOptions,
) -> Result<(), FeatureRewardError> {
    let sizes = [
        ("hidden", options.hidden),
        ("folds", options.folds),
        ("epochs_max", options.epochs_max),
        ("minibatch", options.minibatch),
    ];
    if let Some((name, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
        return Err(FeatureRewardError::BadOption { name });
    }
    for (index, pair) in pairs.iter().enumerate() {
        let bad = |what: String| Err(FeatureRewardError::BadPair { index, what });
        for side in [&pair.first, &pair.second] {
            if side.len() != names.len() {
                return bad(format!("found {} features, expected {}", side.len(), names.len()));
            }
            if let Some(j) = side.iter().position(|x| !x.is_finite()) {
                return bad(format!("{} is {}, expected a finite number", names[j], side[j]));
            }
        }
        if !(0.0..=1.0).contains(&pair.target) {
            return bad(format!("the target is {}, expected 0 to 1", pair.target));
        }
    }
    Ok(())
}

impl FeatureNetwork {
    /// Writes the network as JSON, whole or not at all.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn save(&self, path: &Path) -> Result<(), FeatureRewardError> {
        let json = serde_json::to_vec_pretty(self).expect("numbers and strings serialise");
        Ok(write_atomically(path, &json)?)
    }

    /// Reads what [`FeatureNetwork::save`] wrote.
    ///
    /// # Errors
    /// If the file cannot be read, or its numbers do not fit together.
    pub fn load(path: &Path) -> Result<Self, FeatureRewardError> {
        let file = |source| FeatureRewardError::File { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(file)?;
        let wrong = |line: usize, what: String| FeatureRewardError::NotANetwork {
            path: path.to_owned(),
            line,
            what,
        };
        let network: Self =
            serde_json::from_str(&text).map_err(|e| wrong(e.line(), e.to_string()))?;
        network.check().map_err(|what| wrong(1, what))?;
        Ok(network)
    }
}

#[cfg(test)]
mod tests;
