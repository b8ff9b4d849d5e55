//! What a judge says of completions that were sampled.

use hearken_judge::JudgeError;
use hearken_judge::pairwise::{CompletionPair, PairwiseJudge, Preferences, preferences};
use hearken_run::error::TrainError;
use hearken_run::ranks::Ranks;
use serde::{Deserialize, Serialize};

use crate::rollout::Rollout;

/// How a judge did, to be measured.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Conduct {
    pub(super) asked: usize,
    pub(super) unreadable: usize,
    pub(super) both_read: usize,
    pub(super) agreed: usize,
    pub(super) comparisons: usize,
    pub(super) dropped: usize,
}

impl Conduct {
    fn of(found: &Preferences) -> Self {
        Self {
            asked: found.asked,
            unreadable: found.unreadable,
            both_read: found.both_read,
            agreed: found.agreed,
            comparisons: found.probabilities.len(),
            dropped: found.probabilities.iter().filter(|found| found.is_none()).count(),
        }
    }
}

/// Every completion of a prompt against every other one.
#[derive(Debug)]
pub(super) struct Tournament {
    /// Completions per prompt.
    size: usize,
    /// P(first beats second) of the pairs of a prompt in the order of [`pairs`], prompt after prompt.
    probabilities: Vec<Option<f64>>,
}

/// The pairs of `size` completions.
fn pairs(size: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..size).flat_map(move |first| (first + 1..size).map(move |second| (first, second)))
}

impl Tournament {
    /// Asks the judge of all pairs of each prompt's `size` completions.
    pub(super) fn play(
        judge: &mut dyn PairwiseJudge,
        rollouts: &[Rollout],
        size: usize,
        ranks: &Ranks,
    ) -> Result<(Self, Conduct), TrainError> {
        let mut duels: Vec<[&Rollout; 2]> = Vec::new();
        for group in rollouts.chunks(size) {
            duels.extend(pairs(size).map(|(first, second)| [&group[first], &group[second]]));
        }
        let (probabilities, conduct) = ask(judge, &duels, ranks)?;
        Ok((Self { size, probabilities }, conduct))
    }

    /// P(`first` beats `second`) among the completions of a prompt; `None` where nobody says.
    pub(super) fn probability(&self, group: usize, first: usize, second: usize) -> Option<f64> {
        let of_group = self.of_group(group);
        let at = |pair: (usize, usize)| pairs(self.size).position(|one| one == pair);
        if first < second {
            at((first, second)).and_then(|at| of_group[at])
        } else {
            at((second, first)).and_then(|at| of_group[at]).map(|p| 1.0 - p)
        }
    }

    /// How often each completion of a prompt wins, mean over the others; ½ where nobody says of any.
    /// `None` where nobody says anything of the prompt.
    pub(super) fn wins(&self, group: usize) -> Option<Vec<f64>> {
        let judged = self.of_group(group).iter().any(Option::is_some);
        let wins_of = |one: usize| {
            let others = (0..self.size).filter(|other| *other != one);
            let known: Vec<f64> =
                others.filter_map(|other| self.probability(group, one, other)).collect();
            if known.is_empty() { 0.5 } else { known.iter().sum::<f64>() / known.len() as f64 }
        };
        judged.then(|| (0..self.size).map(wins_of).collect())
    }

    fn of_group(&self, group: usize) -> &[Option<f64>] {
        let count = self.size * (self.size - 1) / 2;
        &self.probabilities[group * count..(group + 1) * count]
    }
}

/// P(the first of each duel is preferred); `None` where the judge, whom the first process asks, does not say.
///
/// # Errors
/// Of the judge; also if it says nothing of any.
pub(super) fn ask(
    judge: &mut dyn PairwiseJudge,
    duels: &[[&Rollout; 2]],
    ranks: &Ranks,
) -> Result<(Vec<Option<f64>>, Conduct), TrainError> {
    ranks.lead(|| ask_here(judge, duels))
}

fn ask_here(
    judge: &mut dyn PairwiseJudge,
    duels: &[[&Rollout; 2]],
) -> Result<(Vec<Option<f64>>, Conduct), TrainError> {
    let comparisons: Vec<CompletionPair<'_>> = duels
        .iter()
        .map(|&[first, second]| CompletionPair {
            prompt: &first.prompt.text,
            messages: first.prompt.messages.as_deref(),
            completions: [&first.text, &second.text],
            fields: &first.prompt.fields,
        })
        .collect();
    let found = preferences(judge, &comparisons)?;
    let conduct = Conduct::of(&found);
    if conduct.dropped == conduct.comparisons {
        let judge = judge.name().to_owned();
        return Err(JudgeError::NoOpinion { judge, comparisons: conduct.comparisons }.into());
    }
    Ok((found.probabilities, conduct))
}
