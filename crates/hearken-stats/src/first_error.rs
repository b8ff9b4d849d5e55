//! How well the first wrong step of a solution is found.

use rand::Rng;

use crate::{Estimate, bootstrap, proportion};

/// The first wrong step of a solution, as it is and as it was found; `None` where every step is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstError {
    /// As it is.
    pub expected: Option<usize>,
    /// As it was found.
    pub found: Option<usize>,
}

/// How often the first wrong step was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FirstErrorScores {
    /// Of solutions with a wrong step, the share in which the first one was found. Wilson's interval.
    pub erroneous: Option<Estimate>,
    /// Of solutions without one, the share in which none was found. Wilson's interval.
    pub correct: Option<Estimate>,
    /// The harmonic mean of both; `None` unless there are solutions of both kinds. Bootstrap interval.
    pub f1: Option<Estimate>,
}

/// ProcessBench's scores. Zheng et al. 2024, arXiv:2412.06559, section 4.1.
///
/// ```
/// # use rand::SeedableRng;
/// use hearken_stats::first_error::{FirstError, first_error_scores};
/// let solution = |expected, found| FirstError { expected, found };
/// let all = [
///     solution(Some(2), Some(2)), solution(Some(1), Some(2)), // One of two first errors.
///     solution(None, None),                                   // The one that is right.
/// ];
/// let rng = &mut rand_chacha::ChaCha8Rng::seed_from_u64(0);
/// let found = first_error_scores(&all, 100, rng);
/// assert_eq!((found.erroneous.unwrap().value, found.correct.unwrap().value), (0.5, 1.0));
/// assert!((found.f1.unwrap().value - 2.0 / 3.0).abs() < 1e-15);
/// ```
pub fn first_error_scores(
    solutions: &[FirstError],
    rounds: usize,
    rng: &mut impl Rng,
) -> FirstErrorScores {
    let all: Vec<&FirstError> = solutions.iter().collect();
    let [erroneous, correct] = counts(&all).map(|(hits, n)| proportion::wilson(hits as f64, n));
    FirstErrorScores {
        erroneous,
        correct,
        f1: bootstrap::bootstrap(solutions, harmonic_mean, rounds, rng),
    }
}

/// Hits and number of solutions with a wrong step, and of those without.
fn counts(solutions: &[&FirstError]) -> [(usize, usize); 2] {
    let mut counts = [(0, 0); 2];
    for solution in solutions {
        let (hits, n) = &mut counts[usize::from(solution.expected.is_none())];
        *n += 1;
        *hits += usize::from(solution.found == solution.expected);
    }
    counts
}

fn harmonic_mean(solutions: &[&FirstError]) -> Option<f64> {
    let [erroneous, correct] =
        counts(solutions).map(|(hits, n)| (n > 0).then(|| hits as f64 / n as f64));
    let (erroneous, correct) = (erroneous?, correct?);
    let sum = erroneous + correct;
    Some(if sum == 0.0 { 0.0 } else { 2.0 * erroneous * correct / sum })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn scores(solutions: &[(Option<usize>, Option<usize>)]) -> FirstErrorScores {
        let of = |&(expected, found): &_| FirstError { expected, found };
        let all: Vec<FirstError> = solutions.iter().map(of).collect();
        first_error_scores(&all, 50, &mut ChaCha8Rng::seed_from_u64(1))
    }

    #[test]
    fn solutions_of_one_kind_alone_have_no_harmonic_mean() {
        let found = scores(&[(None, None), (None, Some(0))]);
        assert_eq!(found.correct.unwrap().value, 0.5);
        assert_eq!((found.erroneous, found.f1), (None, None));
        assert_eq!(scores(&[]).correct, None);
    }

    #[test]
    fn who_calls_everything_right_or_everything_wrong_scores_zero() {
        let right = scores(&[(None, None), (Some(0), None)]);
        let wrong = scores(&[(None, Some(0)), (Some(1), Some(0))]);
        assert_eq!((right.f1.unwrap().value, wrong.f1.unwrap().value), (0.0, 0.0));
    }
}
