//! What a reward model on features found; the trainer lives elsewhere.

use serde::{Deserialize, Serialize};

use crate::figure::Figure;

/// A reward model on features, measured on pairs that it did not learn from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureReport {
    /// The features, in the order of the network's inputs.
    pub features: Vec<String>,
    /// Pairs with a decisive majority that were learned from and measured on.
    pub pairs: usize,
    /// Prompts; a prompt's pairs are never on both sides of a split.
    pub groups: usize,
    /// Folds of the cross-validation.
    pub folds: usize,
    /// Units of the hidden layer.
    pub hidden: usize,
    /// Share of held-out pairs whose preferred answer scores higher.
    pub accuracy: Figure,
    /// The same of the rule that the longer answer wins.
    pub longer_wins: Figure,
    /// The same of the rule "longer wins" or "shorter wins", whichever holds in the training pairs of a fold.
    pub length_only: Figure,
    /// The same of a logistic regression on the same features.
    pub logistic: Figure,
    /// Accuracy less that of [`FeatureReport::length_only`], on the same pairs.
    pub over_length: Figure,
    /// Accuracy less that of the logistic regression, on the same pairs.
    pub over_logistic: Figure,
    /// What speaks against using the model.
    pub warnings: Vec<String>,
    /// How often what it is sure of is so.
    pub calibration: Vec<CalibrationBin>,
    /// Expected calibration error.
    pub calibration_error: Figure,
    /// What it loses without each feature, the greatest loss first.
    pub importance: Vec<Importance>,
    /// Seconds that the training took.
    pub seconds: f64,
}

/// Held-out pairs by how sure the model is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// The mean probability that the model gives to the answer it prefers.
    pub predicted: f64,
    /// How often that answer is the preferred one.
    pub observed: Figure,
}

/// How much a feature matters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Importance {
    /// The feature.
    pub feature: String,
    /// Held-out accuracy lost when the feature's values are exchanged between pairs.
    pub loss: Figure,
}
