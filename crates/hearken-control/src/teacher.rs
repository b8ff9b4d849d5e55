//! Teachers that compare segments by what they are worth, each with a fault that people have.
//!
//! Lee et al. 2021, arXiv:2111.03026 (B-Pref), section 3: six teachers, each perfect but for one thing. Every query that is
//! shown counts, those that are skipped too.

use hearken_objective::numerics::sigmoid;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::Deserialize;

/// What a teacher does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Teacher {
    /// Nothing: the segment with the greater sum is the better one.
    Oracle,
    /// Prefers at random, by Bradley and Terry's model with β = 1.
    Stochastic,
    /// Says the contrary in one of ten cases.
    Mistake,
    /// Passes over pairs of which neither is worth much.
    Skip,
    /// Calls a tie what differs by little.
    Equal,
    /// Goes by the end of a segment more than by its beginning, with γ = 0.9.
    Myopic,
    /// None of these: people compare clips on the pages of the labelling service.
    People,
}

/// Share of mistakes; and of the mean worth of a segment, what "much" and "little" are.
const EPSILON: f64 = 0.1;
/// What a step before the last counts less by, of the myopic teacher.
const DISCOUNT: f64 = 0.9;

impl Teacher {
    /// All that are simulated.
    pub const ALL: [Self; 6] =
        [Self::Oracle, Self::Stochastic, Self::Mistake, Self::Skip, Self::Equal, Self::Myopic];

    /// The probability that the first of two segments is the better one: 1, 0, ½ for a tie; `None` where the pair is
    /// skipped. `range` is that of the sums that have been seen.
    ///
    /// | teacher | rule |
    /// |---|---|
    /// | oracle | 1 if Σu₁ > Σu₂, 0 if less, ½ if equal |
    /// | stochastic | 1 with probability σ(Σu₁ − Σu₂) |
    /// | mistake | the oracle's, exchanged with probability 0.1 |
    /// | skip | `None` if max(Σu₁, Σu₂) < least + 0.1·(greatest − least) |
    /// | equal | ½ if \|Σu₁ − Σu₂\| < 0.1·(greatest − least) |
    /// | myopic | the oracle's, of Σ 0.9^(H−t)·u_t |
    ///
    /// # Panics
    /// If these are people, who are not asked here.
    pub fn compare(
        self,
        utilities: [&[f32]; 2],
        range: UtilityRange,
        rng: &mut ChaCha8Rng,
    ) -> Option<f64> {
        let [first, second] = utilities.map(sum);
        let by = |a: f64, b: f64| {
            if b < a {
                1.0
            } else if a < b {
                0.0
            } else {
                0.5
            }
        };
        let right = by(first, second);
        match self {
            Self::Oracle => Some(right),
            Self::Stochastic => {
                Some(f64::from(u8::from(rng.random::<f64>() < sigmoid(first - second))))
            }
            Self::Mistake => {
                let is_wrong = rng.random::<f64>() < EPSILON;
                Some(if is_wrong { 1.0 - right } else { right })
            }
            Self::Skip => {
                let is_little = first.max(second) < range.least + EPSILON * range.width();
                (!is_little).then_some(right)
            }
            Self::Equal => {
                let is_close = (first - second).abs() < EPSILON * range.width();
                Some(if is_close { 0.5 } else { right })
            }
            Self::Myopic => {
                let weighed = utilities.map(|of| {
                    of.iter().fold(0.0, |sum, &utility| DISCOUNT * sum + f64::from(utility))
                });
                Some(by(weighed[0], weighed[1]))
            }
            Self::People => unreachable!("people are asked through a store"),
        }
    }
}

/// Σu, in `f64`.
fn sum(utilities: &[f32]) -> f64 {
    utilities.iter().map(|&utility| f64::from(utility)).sum()
}

/// The least and the greatest sum of a segment that has been seen.
///
/// B-Pref measures "little" by the mean return, which has no zero to be measured from where rewards are costs; the range does
/// not depend on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UtilityRange {
    /// The least.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
}

impl Default for UtilityRange {
    fn default() -> Self {
        Self { least: f64::INFINITY, greatest: f64::NEG_INFINITY }
    }
}

impl UtilityRange {
    /// Takes a segment into account.
    pub fn include(&mut self, utilities: &[f32]) {
        let sum = sum(utilities);
        self.least = self.least.min(sum);
        self.greatest = self.greatest.max(sum);
    }

    fn width(self) -> f64 {
        self.greatest - self.least
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const RANGE: UtilityRange = UtilityRange { least: 0.0, greatest: 100.0 };

    fn share(teacher: Teacher, first: &[f32], second: &[f32]) -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let asked = (0..20_000).map(|_| teacher.compare([first, second], RANGE, &mut rng));
        asked.map(|label| label.expect("an answer")).sum::<f64>() / 20_000.0
    }

    #[test]
    fn each_teacher_has_its_own_fault() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut ask = |teacher: Teacher, first: &[f32], second: &[f32]| {
            teacher.compare([first, second], RANGE, &mut rng)
        };
        assert_eq!(ask(Teacher::Oracle, &[30.0, 1.0], &[10.0, 20.0]), Some(1.0));
        assert_eq!(ask(Teacher::Oracle, &[5.0], &[5.0]), Some(0.5));
        assert_eq!(ask(Teacher::Myopic, &[30.0, 1.0], &[10.0, 20.0]), Some(0.0));
        assert_eq!(ask(Teacher::Equal, &[31.0], &[40.0]), Some(0.5));
        assert_eq!(ask(Teacher::Equal, &[31.0], &[42.0]), Some(0.0));
        assert_eq!(ask(Teacher::Skip, &[3.0], &[9.0]), None);
        assert_eq!(ask(Teacher::Skip, &[3.0], &[11.0]), Some(0.0));
        assert!((share(Teacher::Mistake, &[2.0], &[1.0]) - 0.9).abs() < 0.01);
        assert!((share(Teacher::Stochastic, &[2.0], &[1.0]) - sigmoid(1.0)).abs() < 0.01);
    }
}
