//! RewardBench 2: how reward models score right answers among wrong ones, as its authors count.
//!
//! Malik et al. 2025, arXiv:2506.01937; the conventions are those of `rewardbench/utils.py` in allenai/reward-bench.

use std::collections::BTreeMap;

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::bootstrap::bootstrap;
use crate::proportion::wilson;
use crate::{Estimate, IntervalMethod};

/// The subset whose prompts have several right answers.
pub const TIES: &str = "ties";

/// A prompt with the scores of its answers.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredPrompt {
    /// Of the ties, `ref:N` with one right answer or `tied:N` with several; anything else elsewhere.
    pub id: String,
    /// The subset; [`TIES`], in any case, is counted by a formula of its own.
    pub subset: String,
    /// The scores, those of right answers first.
    pub scores: Vec<f64>,
    /// How many answers are right.
    pub num_correct: usize,
}

/// The score of each subset, and the unweighted mean of all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RewardBench {
    /// By subset, in the order of their names.
    pub subsets: BTreeMap<String, Estimate>,
    /// The mean of the subsets' scores. Its interval takes their errors for independent.
    pub total: Estimate,
}

/// Why prompts cannot be counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewardBenchError {
    /// There are none.
    #[error("found no prompt, expected at least one")]
    Nothing,
    /// A prompt without a right answer, or without a wrong one.
    #[error(
        "{id}: found {right} right of {all} answers, expected at least one right and one wrong"
    )]
    Answers {
        /// Its id.
        id: String,
        /// Right answers.
        right: usize,
        /// All answers.
        all: usize,
    },
    /// A score that is not finite.
    #[error("{id}: found the score {found}, expected a finite number")]
    Score {
        /// The id of the prompt.
        id: String,
        /// The score.
        found: String,
    },
    /// An id of the ties of another form.
    #[error("found the id {0:?} among the ties, expected ref:NUMBER or tied:NUMBER")]
    Id(String),
    /// Ties of which none has both prompts, or a tied prompt with a single right answer.
    #[error("ties: {0}")]
    Ties(&'static str),
}

/// Scores prompts as RewardBench 2 does.
///
/// ```text
/// elsewhere: the mean over prompts of 1/k where the right answer is among the k best, else 0
/// ties:      0.30 acc_tied + 0.30 acc_ref + 0.20 P(m_t > m_c) + 0.20 P(min(m_r, m_t) > m_c)
///            + 0.01 mean tanh(min(m_r, m_t)/m_c − 1)
/// ```
///
/// A prompt of the ties is accurate where the worst right answer outscores the best wrong one, by the margin m_t of a tied prompt
/// and m_r of its reference; m_c is the best right answer's score less the worst right one's, in the tied prompt. Where m_c and the
/// smaller margin are 0, tanh counts 0. Means of margins are over pairs of a tied prompt and its reference.
///
/// # Errors
/// If a prompt is not of this form.
pub fn reward_bench(
    prompts: &[ScoredPrompt],
    rounds: usize,
    rng: &mut impl Rng,
) -> Result<RewardBench, RewardBenchError> {
    let mut subsets: BTreeMap<&str, Vec<&ScoredPrompt>> = BTreeMap::new();
    for prompt in prompts {
        let (right, all) = (prompt.num_correct, prompt.scores.len());
        if right == 0 || all <= right {
            return Err(RewardBenchError::Answers { id: prompt.id.clone(), right, all });
        }
        if let Some(found) = prompt.scores.iter().find(|score| !score.is_finite()) {
            let found = found.to_string();
            return Err(RewardBenchError::Score { id: prompt.id.clone(), found });
        }
        subsets.entry(&prompt.subset).or_default().push(prompt);
    }
    let mut found = BTreeMap::new();
    for (name, prompts) in subsets {
        let estimate = if name.eq_ignore_ascii_case(TIES) {
            ties(&prompts, rounds, rng)?
        } else {
            let hits: f64 = prompts.iter().map(|prompt| best_of(&prompt.scores)).sum();
            let n = prompts.len();
            // Thirds and halves do not add up exactly.
            wilson(hits.min(n as f64), n).ok_or(RewardBenchError::Nothing)?
        };
        found.insert(name.to_owned(), estimate);
    }
    if found.is_empty() {
        return Err(RewardBenchError::Nothing);
    }
    let count = found.len() as f64;
    let sum = |of: fn(&Estimate) -> f64| found.values().map(of).sum::<f64>();
    let square = |of: fn(&Estimate) -> f64| {
        found.values().map(|one| of(one).powi(2)).sum::<f64>().sqrt() / count
    };
    let value = sum(|one| one.value) / count;
    let total = Estimate {
        value,
        low: value - square(|one| one.value - one.low),
        high: value + square(|one| one.high - one.value),
        n: prompts.len(),
        method: IntervalMethod::Newcombe,
    };
    Ok(RewardBench { subsets: found, total })
}

/// 1/k where the first is among the k best, else 0.
fn best_of(scores: &[f64]) -> f64 {
    let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let is_best = |score: f64| best <= score;
    let equal = scores.iter().filter(|score| is_best(**score)).count();
    if is_best(scores[0]) { 1.0 / equal as f64 } else { 0.0 }
}

/// A prompt of the ties.
#[derive(Clone, Copy, Debug)]
struct Margins {
    /// The best right answer's score less the worst right one's; `None` of a single one.
    among_right: Option<f64>,
    /// The worst right answer's score less the best wrong one's.
    to_wrong: f64,
}

impl Margins {
    fn of(prompt: &ScoredPrompt) -> Self {
        let (right, wrong) = prompt.scores.split_at(prompt.num_correct);
        let best = |of: &[f64]| of.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let worst = right.iter().copied().fold(f64::INFINITY, f64::min);
        let among_right = (1 < right.len()).then(|| best(right) - worst);
        Self { among_right, to_wrong: worst - best(wrong) }
    }
}

/// A number of the ties: the prompt with one right answer, the one with several.
type TiePair = [Option<Margins>; 2];

fn ties(
    prompts: &[&ScoredPrompt],
    rounds: usize,
    rng: &mut impl Rng,
) -> Result<Estimate, RewardBenchError> {
    let mut pairs: BTreeMap<u64, TiePair> = BTreeMap::new();
    for prompt in prompts {
        let unknown = || RewardBenchError::Id(prompt.id.clone());
        let (kind, number) = prompt.id.split_once(':').ok_or_else(unknown)?;
        let place = match kind {
            "ref" => 0,
            "tied" => 1,
            _ => return Err(unknown()),
        };
        let number = number.trim().parse().map_err(|_| unknown())?;
        pairs.entry(number).or_insert([None; 2])[place] = Some(Margins::of(prompt));
    }
    let pairs: Vec<TiePair> = pairs.into_values().collect();
    let is_whole = |pair: &&TiePair| pair.iter().all(Option::is_some);
    if !pairs.iter().any(|pair| is_whole(&pair)) {
        let what = "found no number with both ref:NUMBER and tied:NUMBER, expected one at least";
        return Err(RewardBenchError::Ties(what));
    }
    if pairs.iter().filter(is_whole).any(|pair| pair[1].is_some_and(|m| m.among_right.is_none())) {
        let what = "found a tied prompt with a single right answer, expected two at least";
        return Err(RewardBenchError::Ties(what));
    }
    let score = |sample: &[&TiePair]| score_of_ties(sample);
    bootstrap(&pairs, score, rounds, rng).ok_or(RewardBenchError::Nothing)
}

fn score_of_ties(pairs: &[&TiePair]) -> Option<f64> {
    let accuracy = |place: usize| {
        let of: Vec<bool> =
            pairs.iter().filter_map(|pair| Some(0.0 < pair[place]?.to_wrong)).collect();
        let right = of.iter().filter(|accurate| **accurate).count();
        if of.is_empty() { 0.0 } else { right as f64 / of.len() as f64 }
    };
    let (mut preferred, mut hard, mut margin, mut count) = (0.0, 0.0, 0.0, 0.0);
    for pair in pairs {
        let [Some(reference), Some(tied)] = pair else { continue };
        let among_right = tied.among_right?;
        let smaller = reference.to_wrong.min(tied.to_wrong);
        count += 1.0;
        preferred += f64::from(u8::from(among_right < tied.to_wrong));
        hard += f64::from(u8::from(among_right < smaller));
        let gap = (smaller / among_right - 1.0).tanh();
        margin += if gap.is_nan() { 0.0 } else { gap };
    }
    (0.0 < count).then(|| {
        0.30 * accuracy(1)
            + 0.30 * accuracy(0)
            + 0.20 * preferred / count
            + 0.20 * hard / count
            + 0.01 * margin / count
    })
}
