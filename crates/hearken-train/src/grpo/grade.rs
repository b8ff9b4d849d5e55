//! From rollouts to graded ones: scores, what shapes them, and which groups stay.

use hearken_objective::advantage::group::{decoupled, has_spread};
use hearken_reward_source::BatchScores;

use super::config::GrpoConfig;
use super::section::Groups;
use crate::rollout::Rollout;

/// A rollout with what was thought of it.
#[derive(Clone, Debug)]
pub(crate) struct Graded {
    pub(super) rollout: Rollout,
    /// Sum of the sources, penalties for length and a missing end included.
    pub(super) score: f64,
    /// The score that is credited: as above, or a sum of standardized sources.
    pub(super) credited: f64,
    /// What is credited, without penalties: groups are dropped by what the sources say.
    pub(super) unshaped: f64,
    /// Each source's own score, unweighted, in the order of `RewardSource::measures`.
    pub(super) by_source: Vec<f64>,
    /// What single tokens earned; empty where sources score whole completions.
    pub(super) token_scores: Vec<f64>,
    /// Score of the greedy completion of the same prompt; 0 where none was sampled.
    pub(super) greedy_score: f64,
}

/// Rollouts and greedy ones of the same groups, with what the sources say of them.
#[derive(Debug)]
pub(super) struct Ungraded {
    /// Completions of one group follow one another.
    pub(super) rollouts: Vec<Rollout>,
    pub(super) scores: BatchScores,
    /// One greedy rollout per group, in order, with its score; empty where the algorithm needs none.
    pub(super) greedy: Vec<(Rollout, f64)>,
}

/// Shapes what the sources, which have these weights, say.
pub(super) fn grade(ungraded: Ungraded, weights: &[f64], config: &GrpoConfig) -> Vec<Graded> {
    let Ungraded { rollouts, scores, greedy } = ungraded;
    let shaped = |rollout: &Rollout, score: f64| {
        let score = rollout.score_with_end(score, config.grpo.learning.missing_end);
        config.resolved.algorithm.overlong.score(score, rollout.completion.ids.len())
    };
    let own = &scores.total;
    let greedy_scores: Vec<f64> =
        greedy.iter().map(|(rollout, score)| shaped(rollout, *score)).collect();
    let mut graded = Vec::with_capacity(rollouts.len());
    let mut group_index = 0;
    for (index, rollout) in rollouts.into_iter().enumerate() {
        let before: Option<&Graded> = graded.last();
        group_index += usize::from(before.is_some_and(|b| b.rollout.group != rollout.group));
        let score = shaped(&rollout, own[index]);
        graded.push(Graded {
            rollout,
            score,
            credited: score,
            unshaped: own[index],
            by_source: scores.by_source.iter().map(|(_, own)| own[index]).collect(),
            token_scores: scores.of_tokens.get(index).cloned().unwrap_or_default(),
            greedy_score: greedy_scores.get(group_index).copied().unwrap_or(0.0),
        });
    }
    standardize_each(&mut graded, weights, config);
    graded
}

/// Recorded rollouts with the scores that were recorded with them: penalties are in those already.
pub(super) fn recorded(rollouts: Vec<Rollout>, scores: &[f64], config: &GrpoConfig) -> Vec<Graded> {
    let graded = |(rollout, &score): (Rollout, &f64)| Graded {
        rollout,
        score,
        credited: score,
        unshaped: score,
        by_source: vec![score],
        token_scores: Vec::new(),
        greedy_score: 0.0,
    };
    let mut graded: Vec<Graded> = rollouts.into_iter().zip(scores).map(graded).collect();
    // A file may have the completions of several prompts in turn.
    graded.sort_by_key(|one| one.rollout.group);
    standardize_each(&mut graded, &[1.0], config);
    for one in &mut graded {
        one.by_source.clear();
    }
    graded
}

/// With `normalize_each`, replaces what is credited by the weighted sum of standardized sources plus
/// the penalties, which are no source's.
fn standardize_each(graded: &mut [Graded], weights: &[f64], config: &GrpoConfig) {
    let Some(how) = config.resolved.normalize_each else { return };
    for group in groups_mut(graded) {
        let rows: Vec<Vec<f64>> = (0..weights.len())
            .map(|source| group.iter().map(|one| one.by_source[source]).collect())
            .collect();
        for (one, sum) in group.iter_mut().zip(decoupled(&rows, weights, how)) {
            let plain: f64 = one.by_source.iter().zip(weights).map(|(own, w)| own * w).sum();
            one.credited = sum + (one.score - plain);
            one.unshaped = sum;
        }
    }
}

/// The rollouts of each group, which follow one another.
pub(super) fn groups(graded: &[Graded]) -> impl Iterator<Item = &[Graded]> {
    graded.chunk_by(|a, b| a.rollout.group == b.rollout.group)
}

fn groups_mut(graded: &mut [Graded]) -> impl Iterator<Item = &mut [Graded]> {
    graded.chunk_by_mut(|a, b| a.rollout.group == b.rollout.group)
}

/// Whether the sources say different things of a group's completions. Penalties for length do not
/// count: completions that are all right are all right.
pub(super) fn spreads<'a>(group: impl Iterator<Item = &'a Graded>) -> bool {
    let scores: Vec<f64> = group.map(|one| one.unshaped).collect();
    has_spread(&scores)
}

/// Whether a group's credited scores are all equal.
pub(super) fn is_flat(group: &[Graded]) -> bool {
    let scores: Vec<f64> = group.iter().map(|one| one.credited).collect();
    !has_spread(&scores)
}

/// The rollouts that advantages are computed of: groups without spread leave if they leave before.
pub(super) fn kept_before(graded: &[Graded], filter: Groups) -> Vec<Graded> {
    match filter {
        Groups::Keep | Groups::DropAfter => graded.to_vec(),
        Groups::DropBefore | Groups::Resample { .. } => {
            groups(graded).filter(|group| spreads(group.iter())).flatten().cloned().collect()
        }
    }
}
