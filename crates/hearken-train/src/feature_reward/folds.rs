//! Cross-validation over prompts.

use std::collections::BTreeMap;

use hearken_run::seeds::Seeds;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::network::{self, FeatureNetwork, Network, Scale};
use super::optimize::{Learned, Standardized, Until, learn, margins};
use super::{FeatureOptions, FeaturePair, baseline};

/// Everything that is known about a fold's held-out pairs.
pub(super) struct Fold {
    /// Held-out pairs: positions among all.
    pub(super) held_out: Vec<usize>,
    /// Margins of the network.
    pub(super) margins: Vec<f64>,
    /// Margins of the logistic regression; 0 where it did not converge.
    pub(super) logistic: Vec<f64>,
    /// Margins of length alone.
    pub(super) length: Vec<f64>,
    /// Per feature, hits of the network with the feature's values exchanged, the mean of several exchanges.
    pub(super) exchanged: Vec<Vec<f64>>,
    /// Epochs until the least validation loss.
    pub(super) epochs: usize,
}

/// Exchanges of a feature's values, for its importance.
const EXCHANGES: usize = 5;
/// One training prompt in so many is for early stopping.
const VALIDATION: usize = 6;

pub(super) fn cross_validate(
    names: &[String],
    pairs: &[&FeaturePair],
    options: &FeatureOptions,
) -> Vec<Fold> {
    let seeds = Seeds::new(options.seed);
    let mut groups = groups(pairs);
    groups.shuffle(&mut seeds.stream("feature folds", 0));
    let folds = options.folds.clamp(2, groups.len());
    let fold = |fold: usize| {
        let of = |held_out: bool| {
            let chosen = (0..groups.len()).filter(|g| (g % folds == fold) == held_out);
            chosen.map(|g| groups[g].as_slice()).collect::<Vec<_>>()
        };
        FoldSplit { training: of(false), held_out: of(true) }.run(names, pairs, options, fold)
    };
    (0..folds).into_par_iter().map(fold).collect()
}

/// Positions of pairs by prompt, in the order of the prompts' numbers.
fn groups(pairs: &[&FeaturePair]) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    pairs.iter().enumerate().for_each(|(i, pair)| groups.entry(pair.group).or_default().push(i));
    groups.into_values().collect()
}

/// Prompts to learn from and prompts to measure on.
struct FoldSplit<'a> {
    training: Vec<&'a [usize]>,
    held_out: Vec<&'a [usize]>,
}

impl FoldSplit<'_> {
    fn run(
        &self,
        names: &[String],
        pairs: &[&FeaturePair],
        options: &FeatureOptions,
        fold: usize,
    ) -> Fold {
        let of = |groups: &[&[usize]]| -> Vec<&FeaturePair> {
            groups.iter().flat_map(|group| group.iter().map(|&i| pairs[i])).collect()
        };
        let training = of(&self.training);
        let scale = scale(&training);
        let seeds = Seeds::new(options.seed);
        let mut rng = seeds.stream("feature network", fold as u64);
        let start = network::draw(names.len(), options.hidden, options.activation, &mut rng);
        let learned = self.learn(start, pairs, &scale, options, &mut rng);
        let held_out: Vec<usize> = self.held_out.concat();
        let standardized: Vec<Standardized> =
            held_out.iter().map(|&i| standardize(pairs[i], &scale)).collect();
        let direction = baseline::length_direction(&training);
        let coefficients = baseline::logistic(&training, &scale);
        let regress = |&i: &usize| {
            coefficients.as_ref().map_or(0.0, |c| baseline::margin(c, pairs[i], &scale))
        };
        let mut exchange = seeds.stream("feature exchange", fold as u64);
        let targets: Vec<&FeaturePair> = held_out.iter().map(|&i| pairs[i]).collect();
        Fold {
            margins: margins(&learned.network, &standardized),
            logistic: held_out.iter().map(regress).collect(),
            length: targets.iter().map(|pair| direction * pair.length_margin()).collect(),
            exchanged: (0..names.len())
                .map(|j| exchanged(j, &standardized, &targets, &learned.network, &mut exchange))
                .collect(),
            epochs: learned.epochs,
            held_out,
        }
    }

    /// Learns with early stopping on some of the training prompts; with one training prompt alone, on its own pairs.
    fn learn(
        &self,
        start: Network,
        pairs: &[&FeaturePair],
        scale: &Scale,
        options: &FeatureOptions,
        rng: &mut rand_chacha::ChaCha8Rng,
    ) -> Learned {
        let validates =
            |at: usize| at % VALIDATION == VALIDATION - 1 || at + 1 == self.training.len();
        let of = |validation: bool| -> Vec<Standardized> {
            let alone = self.training.len() == 1;
            let groups = self.training.iter().enumerate();
            let chosen = groups.filter(|(at, _)| alone || validates(*at) == validation);
            chosen.flat_map(|(_, g)| g.iter().map(|&i| standardize(pairs[i], scale))).collect()
        };
        learn(start, &of(false), &Until::Validated(&of(true)), options, rng)
    }
}

/// Trains on all pairs, for as many epochs as the folds took in the median.
pub(super) fn train_on_all(
    names: &[String],
    pairs: &[&FeaturePair],
    folds: &[Fold],
    options: &FeatureOptions,
) -> FeatureNetwork {
    let scale = scale(pairs);
    let mut epochs: Vec<usize> = folds.iter().map(|fold| fold.epochs).collect();
    epochs.sort_unstable();
    let epochs = epochs[epochs.len() / 2];
    let mut rng = Seeds::new(options.seed).stream("feature network", folds.len() as u64);
    let start = network::draw(names.len(), options.hidden, options.activation, &mut rng);
    let standardized: Vec<Standardized> = pairs.iter().map(|p| standardize(p, &scale)).collect();
    let learned = learn(start, &standardized, &Until::Epochs(epochs), options, &mut rng);
    FeatureNetwork::new(&learned.network, options.activation, names, &scale)
}

fn scale(pairs: &[&FeaturePair]) -> Scale {
    Scale::of(pairs.iter().flat_map(|pair| [pair.first.as_slice(), pair.second.as_slice()]))
}

fn standardize(pair: &FeaturePair, scale: &Scale) -> Standardized {
    Standardized {
        first: scale.standardize(&pair.first),
        second: scale.standardize(&pair.second),
        target: pair.target,
    }
}

/// Hits per held-out pair when the values of one feature, both sides together, come from another pair.
fn exchanged(
    feature: usize,
    pairs: &[Standardized],
    targets: &[&FeaturePair],
    network: &Network,
    rng: &mut rand_chacha::ChaCha8Rng,
) -> Vec<f64> {
    let mut hits = vec![0.0; pairs.len()];
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    for _ in 0..EXCHANGES {
        order.shuffle(rng);
        let mut mixed = pairs.to_vec();
        for (pair, &from) in mixed.iter_mut().zip(&order) {
            pair.first[feature] = pairs[from].first[feature];
            pair.second[feature] = pairs[from].second[feature];
        }
        let margins = margins(network, &mixed);
        for ((hits, target), margin) in hits.iter_mut().zip(targets).zip(margins) {
            *hits += target.hit(margin) / EXCHANGES as f64;
        }
    }
    hits
}
