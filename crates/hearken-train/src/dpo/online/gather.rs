//! What an iteration learns from: completions of the policy, of its opponent, and the records that
//! their scores, or a judge, make of them.

use std::sync::Arc;

use hearken_objective::kl::{KlEstimator, ReferenceTerms};
use hearken_objective::moments::Variance;
use hearken_objective::{Mean, Moments};
use hearken_reward_source::{BatchScores, RewardSource};
use hearken_run::encode::PromptExample;
use hearken_run::error::TrainError;
use hearken_run::ranks::Ranks;
use hearken_tensor::Device;

use super::Online;
use super::judged::{Conduct, Tournament, ask};
use super::metrics::OnlineIteration;
use super::section::{Opponent, SelectionMethod};
use super::selection::{SelectedRecords, Selector, Standing, against_demonstrations};
use crate::dpo::LossState;
use crate::dpo::tree::Tree;
use crate::rollout::guard::repeated;
use crate::rollout::session::{ROLLOUT, RolloutSession};
use crate::rollout::source::{Mixed, RolloutSource};
use crate::rollout::{Heads, Rollout, Sequence, read_together};

/// Completions with their scores, penalties included.
#[derive(Debug, Default)]
pub(super) struct Scored {
    pub(super) rollouts: Vec<Rollout>,
    pub(super) scores: Vec<f64>,
    /// Each source's mean, unweighted and without penalties.
    pub(super) by_source: Vec<(String, Mean)>,
}

/// The records of an iteration and what its completions say.
#[derive(Debug)]
pub struct Gathered {
    pub(super) trees: Vec<Tree>,
    pub(super) metrics: OnlineIteration,
}

impl Online<'_> {
    /// Samples, scores or judges, and makes records of what came.
    pub(super) fn gather<D: Device>(
        &mut self,
        session: &mut RolloutSession<D, LossState>,
        sources: &mut dyn RewardSource,
    ) -> Result<Gathered, TrainError> {
        let drawn = session.feed.draw(session.settings.prompts, &mut session.run.counters.cursor);
        let prompts: Vec<Arc<PromptExample>> =
            drawn.iter().map(|asked| Arc::clone(&asked.prompt)).collect();
        let own = self.shaped(session.sample(&prompts, ROLLOUT, sources)?);
        let ranks = session.run.ranks.clone();
        let (records, opponents, conduct) = match self.method {
            SelectionMethod::Against(opponent) => {
                let other = match opponent {
                    Opponent::Reference { .. } => self.of_reference(session, &prompts, sources)?,
                    Opponent::Mixture { share } => {
                        self.of_mixture(session, &prompts, share, sources)?
                    }
                };
                let (standing, conduct) = self.standing(&own, Some(&other), &ranks)?;
                let selector = self.selector(session, standing);
                let records = match opponent {
                    Opponent::Reference { .. } => selector.against_reference(&own, &other),
                    Opponent::Mixture { .. } => selector.wins(&own, &other),
                };
                (records, Some(other), conduct)
            }
            SelectionMethod::Spin => {
                let per_prompt = *session.settings.rollout.completions;
                let demonstration = |at: usize| drawn[at / per_prompt].demonstration.as_slice();
                (against_demonstrations(&own, demonstration), None, None)
            }
            method => {
                let (standing, conduct) = self.standing(&own, None, &ranks)?;
                let selector = self.selector(session, standing);
                let records = match method {
                    SelectionMethod::BestOfN { selection } => selector.one_of_each(&own, selection),
                    SelectionMethod::Raft { share, selection } => {
                        selector.share(&own, share, selection)
                    }
                    _ => selector.best_against_worst(&own),
                };
                (records, None, conduct)
            }
        };
        let mut metrics = metrics(session, &own, opponents.as_ref(), &records);
        metrics.observe(conduct);
        Ok(Gathered { trees: records.trees, metrics })
    }

    /// What makes records of completions that stand as they do.
    fn selector<D: Device>(
        &self,
        session: &RolloutSession<D, LossState>,
        standing: Standing,
    ) -> Selector {
        Selector {
            labels: self.config.online.labels(self.method),
            completions: *self.config.rollout.completions,
            standing,
            seeds: session.run.seeds,
            iteration: session.iteration(),
        }
    }

    /// What says which completions are better, and how the judge did where there is one.
    fn standing(
        &mut self,
        own: &Scored,
        opponents: Option<&Scored>,
        ranks: &Ranks,
    ) -> Result<(Standing, Option<Conduct>), TrainError> {
        let is_judged = self.method.is_judged();
        let Some(judge) = self.judge.as_deref_mut().filter(|_| is_judged) else {
            return Ok((Standing::Scores, None));
        };
        let Some(other) = opponents else {
            let size = *self.config.rollout.completions;
            let (played, conduct) = Tournament::play(judge, &own.rollouts, size, ranks)?;
            return Ok((Standing::Tournament(played), Some(conduct)));
        };
        let duels: Vec<_> = own.rollouts.iter().zip(&other.rollouts).map(|(a, b)| [a, b]).collect();
        let (wins, conduct) = ask(judge, &duels, ranks)?;
        Ok((Standing::Duels(wins), Some(conduct)))
    }

    fn of_reference<D: Device>(
        &self,
        session: &RolloutSession<D, LossState>,
        prompts: &[Arc<PromptExample>],
        sources: &mut dyn RewardSource,
    ) -> Result<Scored, TrainError> {
        let options = session.sample_options("reference");
        let found = session.source(session.reference()).rollouts(prompts, &options, sources)?;
        Ok(self.shaped(found))
    }

    fn of_mixture<D: Device>(
        &self,
        session: &RolloutSession<D, LossState>,
        prompts: &[Arc<PromptExample>],
        share: f64,
        sources: &mut dyn RewardSource,
    ) -> Result<Scored, TrainError> {
        let options = session.sample_options("mixture");
        let (model, other) = (&session.run.model, session.reference());
        let tokenizer = session.run.tokenizer.as_ref();
        let dtype = self.config.rollout.dtype;
        let mut mixed = Mixed { model, other, share, tokenizer, dtype };
        let found = mixed.rollouts(prompts, &options, sources)?;
        Ok(self.shaped(found))
    }

    fn shaped(&self, (rollouts, scores): (Vec<Rollout>, BatchScores)) -> Scored {
        let penalty = self.config.online.learning.missing_end;
        let shaped = |(rollout, score): (&Rollout, &f64)| rollout.score_with_end(*score, penalty);
        Scored {
            scores: rollouts.iter().zip(&scores.total).map(shaped).collect(),
            by_source: scores.by_source.iter().map(|(n, own)| (n.clone(), Mean::of(own))).collect(),
            rollouts,
        }
    }
}

/// What the iteration's completions say of the policy, before its first update.
fn metrics<D: Device>(
    session: &mut RolloutSession<D, LossState>,
    own: &Scored,
    opponents: Option<&Scored>,
    records: &SelectedRecords,
) -> OnlineIteration {
    let sequences: Vec<Sequence<'_>> = own.rollouts.iter().map(Rollout::sequence).collect();
    session.book_reading(&sequences);
    let forward = session.forward_options();
    let ranks = &session.run.ranks;
    let read = |model| read_together(ranks, model, &sequences, Heads::LogProbs, forward);
    let (reading, reference) = (read(&session.run.model), read(session.reference()));
    let kl = reading.logprobs.iter().zip(&reference.logprobs);
    let kl: Mean = kl
        .map(|(logprobs, ref_logprobs)| -> f64 {
            let terms = ReferenceTerms { logprobs, ref_logprobs };
            KlEstimator::K1.per_token(terms).iter().sum()
        })
        .collect();
    let surprise: Mean = reading.logprobs.iter().map(|of| -of.iter().sum::<f64>()).collect();
    let lengths: Vec<usize> = own.rollouts.iter().map(|one| one.completion.ids.len()).collect();
    let ended: Mean = own.rollouts.iter().map(|one| f64::from(u8::from(one.ended()))).collect();
    let of = |mean: Mean| mean.value().unwrap_or(0.0);
    let moments = Moments::of(&own.scores);
    let is_scored = !own.by_source.is_empty();
    OnlineIteration {
        kl_k1_nats: of(kl),
        entropy_nats: of(surprise),
        entropy: of(reading.entropy),
        scores: is_scored.then(|| of(Mean::of(&own.scores))),
        scores_std: moments.std(Variance::Sample).filter(|_| is_scored),
        opponent_scores: opponents.and_then(|other| Mean::of(&other.scores).value()),
        scores_margin: records.margins.value().filter(|_| is_scored),
        kept_scores: records.kept.value().filter(|_| is_scored),
        win_probability: records.wins.value(),
        ties: records.ties.value(),
        length_mean: of(lengths.iter().map(|&length| length as f64).collect()),
        repeated_share: repeated(&own.rollouts),
        share_ended: of(ended),
        sampled: own.rollouts.len(),
        trained: records.trees.len(),
        sources: own
            .by_source
            .iter()
            .filter_map(|(name, mean)| Some((format!("scores/{name}"), mean.value()?)))
            .collect(),
        ..OnlineIteration::default()
    }
}

impl OnlineIteration {
    /// Adds what a judge did.
    fn observe(&mut self, conduct: Option<Conduct>) {
        let Some(found) = conduct else { return };
        let share = |part: usize, of: usize| (0 < of).then(|| part as f64 / of as f64);
        self.judge_unreadable = share(found.unreadable, found.asked);
        self.judge_agreement = share(found.agreed, found.both_read);
        self.judge_dropped = share(found.dropped, found.comparisons);
    }
}
