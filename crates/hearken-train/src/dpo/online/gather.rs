//! What an iteration learns from: completions of the policy, of its opponent, and the records that
//! their scores, or a judge, make of them.

use std::ops::ControlFlow;
use std::sync::Arc;

use hearken_generate::{Event, Mixture, Request, generate_mixed};
use hearken_objective::kl::{KlEstimator, ReferenceTerms};
use hearken_objective::moments::Variance;
use hearken_objective::{Mean, Moments};
use hearken_tensor::Device;

use super::judged::{Conduct, Tournament, ask};
use super::metrics::IterationMetrics;
use super::section::Method;
use super::selection::{Records, Selector, Standing, against_demonstrations};
use super::{Online, Opinions};
use crate::dpo::tree::Tree;
use crate::encode::PromptExample;
use crate::error::TrainError;
use crate::reward_source::WeightedSum;
use crate::rollout::{Heads, Rollout, Sequence, read, sample_scored, sample_scored_by};

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
pub(super) struct Gathered {
    pub(super) trees: Vec<Tree>,
    pub(super) metrics: IterationMetrics,
}

impl<D: Device> Online<'_, D> {
    /// Samples, scores or judges, and makes records of what came.
    pub(super) fn gather(&mut self, opinions: Opinions<'_, '_>) -> Result<Gathered, TrainError> {
        let Opinions { sources, judge } = opinions;
        let session = &mut self.session;
        let drawn = session.feed.draw(session.settings.prompts, &mut session.counters.cursor);
        let prompts: Vec<Arc<PromptExample>> =
            drawn.iter().map(|&index| session.feed.prompt(index)).collect();
        let own = self.of_policy(&prompts, sources)?;
        let opponents = match self.how.method {
            Method::Xpo { .. } => Some(self.of_reference(&prompts, sources)?),
            Method::NashMd { mixture } => Some(self.of_mixture(&prompts, mixture, sources)?),
            _ => None,
        };
        let mut conduct = None;
        let standing = match judge.filter(|_| self.how.is_judged()) {
            None => Standing::Scores,
            Some(judge) => {
                let (standing, found) = match &opponents {
                    None => {
                        let size = self.how.rollout.completions;
                        let (played, found) = Tournament::play(judge, &own.rollouts, size)?;
                        (Standing::Tournament(played), found)
                    }
                    Some(other) => {
                        let duels: Vec<_> =
                            own.rollouts.iter().zip(&other.rollouts).map(|(a, b)| [a, b]).collect();
                        let (wins, found) = ask(judge, &duels)?;
                        (Standing::Duels(wins), found)
                    }
                };
                conduct = Some(found);
                standing
            }
        };
        let selector = Selector {
            online: self.how,
            standing,
            seeds: self.session.seeds,
            iteration: self.session.counters.iteration,
        };
        let records = match (self.how.method, &opponents) {
            (Method::Dpo, _) => selector.best_against_worst(&own),
            (Method::Xpo { .. }, Some(other)) => selector.against_reference(&own, other),
            (Method::NashMd { .. }, Some(other)) => selector.wins(&own, other),
            (Method::Spin, _) => {
                let per_prompt = self.session.settings.rollout.completions;
                let demonstration =
                    |at: usize| self.session.feed.demonstration(drawn[at / per_prompt]);
                against_demonstrations(&own, demonstration)
            }
            (Method::BestOfN { selection }, _) => selector.one_of_each(&own, selection),
            (Method::Raft { share, selection }, _) => selector.share(&own, share, selection),
            (Method::Xpo { .. } | Method::NashMd { .. }, None) => {
                unreachable!("both have opponents")
            }
        };
        let mut metrics = self.metrics(&own, opponents.as_ref(), &records);
        metrics.observe(conduct);
        Ok(Gathered { trees: records.trees, metrics })
    }

    fn of_policy(
        &self,
        prompts: &[Arc<PromptExample>],
        sources: &mut WeightedSum<'_>,
    ) -> Result<Scored, TrainError> {
        let session = &self.session;
        let options = session.sample_options("rollout");
        let tokenizer = session.tokenizer.as_ref();
        let found = sample_scored(&session.policy, tokenizer, prompts, &options, sources)?;
        Ok(self.shaped(found))
    }

    fn of_reference(
        &self,
        prompts: &[Arc<PromptExample>],
        sources: &mut WeightedSum<'_>,
    ) -> Result<Scored, TrainError> {
        let session = &self.session;
        let options = session.sample_options("reference");
        let tokenizer = session.tokenizer.as_ref();
        let found = sample_scored(&session.reference, tokenizer, prompts, &options, sources)?;
        Ok(self.shaped(found))
    }

    fn of_mixture(
        &self,
        prompts: &[Arc<PromptExample>],
        share: f64,
        sources: &mut WeightedSum<'_>,
    ) -> Result<Scored, TrainError> {
        let session = &self.session;
        let options = session.sample_options("mixture");
        let tokenizer = session.tokenizer.as_ref();
        let mut sampler =
            |requests: &[Request], observer: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>| {
                let mixture = Mixture { model: &session.reference, share };
                let sampling = options.sampling;
                generate_mixed(&session.policy, &mixture, tokenizer, requests, sampling, observer)
            };
        let found = sample_scored_by(&mut sampler, tokenizer, prompts, &options, sources)?;
        Ok(self.shaped(found))
    }

    fn shaped(&self, (rollouts, scores): (Vec<Rollout>, crate::reward_source::Scores)) -> Scored {
        let penalty = self.how.missing_end;
        let shaped = |(rollout, score): (&Rollout, &f64)| {
            if rollout.ended() { *score } else { penalty.score(*score) }
        };
        Scored {
            scores: rollouts.iter().zip(&scores.total).map(shaped).collect(),
            by_source: scores.by_source.iter().map(|(n, own)| (n.clone(), Mean::of(own))).collect(),
            rollouts,
        }
    }

    /// What the iteration's completions say of the policy, before its first update.
    fn metrics(
        &mut self,
        own: &Scored,
        opponents: Option<&Scored>,
        records: &Records,
    ) -> IterationMetrics {
        let session = &mut self.session;
        let sequences: Vec<Sequence<'_>> = own.rollouts.iter().map(Rollout::sequence).collect();
        session.counters.cost.flops += session.reading_flops(&sequences);
        let forward = session.forward_options();
        let reading = read(&session.policy, &sequences, Heads::LogProbs, forward);
        let reference = read(&session.reference, &sequences, Heads::LogProbs, forward);
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
        IterationMetrics {
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
            share_ended: of(ended),
            sampled: own.rollouts.len(),
            trained: records.trees.len(),
            sources: own
                .by_source
                .iter()
                .filter_map(|(name, mean)| Some((format!("scores/{name}"), mean.value()?)))
                .collect(),
            ..IterationMetrics::default()
        }
    }
}

impl IterationMetrics {
    /// Adds what a judge did.
    fn observe(&mut self, conduct: Option<Conduct>) {
        let Some(found) = conduct else { return };
        let share = |part: usize, of: usize| (0 < of).then(|| part as f64 / of as f64);
        self.judge_unreadable = share(found.unreadable, found.asked);
        self.judge_agreement = share(found.agreed, found.both_read);
        self.judge_dropped = share(found.dropped, found.comparisons);
    }
}
