//! Which pairs are worth a question.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::Deserialize;

/// What pairs are chosen by, from more than are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// Nothing.
    Random,
    /// The variance of the members' predictions. Christiano et al. 2017, section 2.2.4.
    Disagreement,
    /// The mean of the members' entropies. Lee et al. 2021, arXiv:2106.05091.
    Entropy,
    /// The entropy of the mean prediction less the mean of the entropies: what the answer says about the members. Houlsby et
    /// al. 2011, arXiv:1112.5745.
    InformationGain,
    /// Pairs that are far from one another and from those that were asked, in what is seen. Lee et al. 2021.
    KCenter,
}

/// Entropy of a coin, in nats.
fn entropy(p: f64) -> f64 {
    let term = |p: f64| if p <= 0.0 { 0.0 } else { -p * p.ln() };
    term(p) + term(1.0 - p)
}

impl Selection {
    /// What is said for asking about a pair, by the members' probabilities that the first is the better one.
    fn merit(self, predictions: &[f64]) -> f64 {
        let mean = predictions.iter().sum::<f64>() / predictions.len() as f64;
        let entropies = predictions.iter().map(|&p| entropy(p)).sum::<f64>();
        let entropies = entropies / predictions.len() as f64;
        match self {
            Self::Random | Self::KCenter => 0.0,
            Self::Disagreement => {
                predictions.iter().map(|p| (p - mean).powi(2)).sum::<f64>()
                    / predictions.len() as f64
            }
            Self::Entropy => entropies,
            Self::InformationGain => entropy(mean) - entropies,
        }
    }

    /// The places of `count` candidates: `predictions` has the members' probabilities of each, `features` what is seen in it.
    ///
    /// # Panics
    /// If there are fewer candidates than are wanted.
    pub fn choose(
        self,
        count: usize,
        predictions: &[Vec<f64>],
        features: &[Vec<f64>],
        asked: &[Vec<f64>],
        rng: &mut ChaCha8Rng,
    ) -> Vec<usize> {
        assert!(count <= features.len(), "candidates: as many as are wanted");
        match self {
            Self::Random => (0..count).collect(),
            Self::KCenter => k_center(count, features, asked, rng),
            _ => {
                let mut order: Vec<usize> = (0..features.len()).collect();
                let merits: Vec<f64> = predictions.iter().map(|each| self.merit(each)).collect();
                order.sort_by(|&a, &b| merits[b].total_cmp(&merits[a]));
                order.truncate(count);
                order
            }
        }
    }
}

/// Greedily the candidate that is farthest from the nearest of those that are chosen or were asked.
fn k_center(
    count: usize,
    features: &[Vec<f64>],
    asked: &[Vec<f64>],
    rng: &mut ChaCha8Rng,
) -> Vec<usize> {
    let distance =
        |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum() };
    let mut nearest: Vec<f64> = features
        .iter()
        .map(|one| asked.iter().map(|other| distance(one, other)).fold(f64::INFINITY, f64::min))
        .collect();
    let mut chosen = Vec::with_capacity(count);
    while chosen.len() < count {
        let best = if asked.is_empty() && chosen.is_empty() {
            rng.random_range(0..features.len())
        } else {
            let farthest = (0..features.len()).max_by(|&a, &b| nearest[a].total_cmp(&nearest[b]));
            farthest.expect("there are candidates")
        };
        chosen.push(best);
        for (place, near) in nearest.iter_mut().enumerate() {
            *near = near.min(distance(&features[place], &features[best]));
        }
        // What is chosen is not chosen again, were all others its equals.
        nearest[best] = f64::NEG_INFINITY;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn each_rule_has_its_favorite() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        // Sure; all unsure; sure of contraries.
        let predictions = [vec![0.99, 0.98], vec![0.5, 0.5], vec![0.99, 0.01]];
        let features = [vec![0.0], vec![1.0], vec![5.0]];
        let mut best = |selection: Selection, asked: &[Vec<f64>]| {
            selection.choose(1, &predictions, &features, asked, &mut rng)[0]
        };
        assert_eq!(best(Selection::Random, &[]), 0);
        assert_eq!(best(Selection::Disagreement, &[]), 2);
        assert_eq!(best(Selection::Entropy, &[]), 1);
        assert_eq!(best(Selection::InformationGain, &[]), 2);
        assert_eq!(best(Selection::KCenter, &[vec![5.0]]), 0);
    }

    #[test]
    fn centers_are_all_different() {
        let features = vec![vec![1.0]; 5];
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut chosen = k_center(5, &features, &[], &mut rng);
        chosen.sort_unstable();
        assert_eq!(chosen, [0, 1, 2, 3, 4]);
    }
}
