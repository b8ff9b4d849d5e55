//! What the held-out margins say.

use std::collections::BTreeMap;

use hearken_run::seeds::Seeds;
use hearken_stats::bootstrap::bootstrap;
use hearken_stats::calibration::{Prediction, expected_calibration_error, reliability};
use hearken_stats::estimate::Interval;
use hearken_stats::{Estimate, proportion};

use super::folds::Fold;
use super::{FeatureOptions, FeaturePair, FeatureReport};

/// Bins of the calibration curve over [0, 1]; the half below ½ is empty.
const BINS: usize = 20;
/// Below so many prompts a warning stands beside the numbers.
const GROUPS_FEW: usize = 20;

/// Hits per pair of everything that is compared, in the order of the folds.
struct Hits {
    groups: Vec<u64>,
    network: Vec<f64>,
    logistic: Vec<f64>,
    length: Vec<f64>,
    longer: Vec<f64>,
}

impl Hits {
    fn new(pairs: &[&FeaturePair], folds: &[Fold]) -> Self {
        let order: Vec<&FeaturePair> =
            folds.iter().flat_map(|fold| fold.held_out.iter().map(|&i| pairs[i])).collect();
        let of = |margins: fn(&Fold) -> &Vec<f64>| -> Vec<f64> {
            let margins = folds.iter().flat_map(|fold| margins(fold).iter());
            order.iter().zip(margins).map(|(pair, &margin)| pair.hit(margin)).collect()
        };
        Self {
            groups: order.iter().map(|pair| pair.group).collect(),
            network: of(|fold| &fold.margins),
            logistic: of(|fold| &fold.logistic),
            length: of(|fold| &fold.length),
            longer: order.iter().map(|pair| pair.hit(pair.length_margin())).collect(),
        }
    }

    /// Mean of ours − theirs per pair; the interval resamples prompts, because pairs of one prompt are alike.
    fn difference(
        &self,
        ours: &[f64],
        theirs: &[f64],
        rounds: usize,
        rng: &mut rand_chacha::ChaCha8Rng,
    ) -> Option<Estimate> {
        let mut sums: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
        for ((group, a), b) in self.groups.iter().zip(ours).zip(theirs) {
            let sum = sums.entry(*group).or_default();
            sum.0 += a - b;
            sum.1 += 1.0;
        }
        let sums: Vec<(f64, f64)> = sums.into_values().collect();
        let mean = |sample: &[&(f64, f64)]| {
            let (sum, n) = sample.iter().fold((0.0, 0.0), |(s, m), (a, b)| (s + a, m + b));
            (n > 0.0).then(|| sum / n)
        };
        let estimate = bootstrap(&sums, mean, rounds, rng)?;
        Some(Estimate { n: ours.len(), ..estimate })
    }
}

pub(super) fn report(
    pairs: &[&FeaturePair],
    folds: &[Fold],
    options: &FeatureOptions,
) -> FeatureReport {
    let hits = Hits::new(pairs, folds);
    let rounds = options.bootstrap_rounds;
    let mut rng = Seeds::new(options.seed).stream("feature report", 0);
    let share = |hits: &[f64]| proportion::wilson(hits.iter().sum::<f64>(), hits.len());
    let predictions: Vec<Prediction> = folds
        .iter()
        .flat_map(|fold| fold.held_out.iter().zip(&fold.margins))
        .map(|(&i, &margin)| Prediction {
            outcome: pairs[i].hit(margin),
            ..Prediction::from_margin(margin)
        })
        .collect();
    let features = pairs[0].first.len();
    let importance = (0..features).map(|j| {
        let without: Vec<f64> =
            folds.iter().flat_map(|fold| fold.exchanged[j].iter().copied()).collect();
        hits.difference(&hits.network, &without, rounds, &mut rng)
    });
    let importance = importance.collect();
    let groups = hits.groups.iter().collect::<std::collections::BTreeSet<_>>().len();
    let mut report = FeatureReport {
        pairs: pairs.len(),
        groups,
        folds: folds.len(),
        hidden: options.hidden,
        accuracy: share(&hits.network),
        longer_wins: share(&hits.longer),
        length_only: share(&hits.length),
        logistic: share(&hits.logistic),
        over_length: hits.difference(&hits.network, &hits.length, rounds, &mut rng),
        over_logistic: hits.difference(&hits.network, &hits.logistic, rounds, &mut rng),
        warnings: Vec::new(),
        calibration: reliability(&predictions, BINS),
        calibration_error: expected_calibration_error(&predictions, BINS, rounds, &mut rng),
        importance,
    };
    report.warnings = warnings(&report);
    report
}

fn warnings(report: &FeatureReport) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |condition: bool, text: String| warnings.extend(condition.then_some(text));
    let percent = |e: &Estimate| {
        let Estimate { value, low, high, .. } = e.map(|share| 100.0 * share);
        format!("{value:.1} % {}", Interval { low, high, digits: 1 })
    };
    if let Some(e) = &report.accuracy {
        let text = format!("The model does not beat a coin: accuracy {}.", percent(e));
        warn(e.low <= 0.5, text);
    }
    if let Some(e) = &report.over_length {
        let text = format!(
            "Length alone explains it: over a rule on length the model gains {}, an interval that does not lie above 0.",
            percent(e)
        );
        warn(e.low <= 0.0, text);
    }
    if let Some(e) = &report.over_logistic {
        let text = format!(
            "A logistic regression on the same features does better: the network gains {}.",
            percent(e)
        );
        warn(e.high < 0.0, text);
    }
    warn(
        report.groups < GROUPS_FEW,
        format!(
            "Only {} prompts: intervals that resample prompts are too narrow, and other prompts may differ.",
            report.groups
        ),
    );
    warnings
}
