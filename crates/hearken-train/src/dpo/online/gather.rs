//! What an iteration learns from: completions of the policy, of its opponent, and the records that
//! their scores, or a judge, make of them.

use std::ops::ControlFlow;
use std::sync::Arc;

use hearken_generate::{Event, Mixture, Request, generate_mixed};
use hearken_objective::kl::{KlEstimator, ReferenceTerms};
use hearken_objective::moments::Variance;
use hearken_objective::online::{best, best_and_worst, top, win_probability};
use hearken_objective::{Mean, Moments};
use hearken_tensor::Device;
use rand::RngExt;

use super::judged::{Conduct, Tournament, ask};
use super::metrics::IterationMetrics;
use super::section::{Labels, Method, OnlineConfig, Selection};
use super::{Online, Opinions};
use crate::dpo::tree::{Label, Tree};
use crate::encode::PromptExample;
use crate::error::TrainError;
use crate::reward_source::WeightedSum;
use crate::rollout::{Heads, Rollout, Sequence, read, sample_scored, sample_scored_by};
use crate::seeds::Seeds;

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

/// Records, and what their making says.
#[derive(Debug, Default)]
struct Records {
    trees: Vec<Tree>,
    /// Score of the chosen minus that of the rejected completion.
    margins: Mean,
    /// Scores of what was kept.
    kept: Mean,
    /// How often the policy's completion wins.
    wins: Mean,
    /// Whether neither is better.
    ties: Mean,
}

impl Records {
    fn observe(&mut self, duel: Duel<'_>) {
        duel.margin.into_iter().for_each(|margin| self.margins.push(margin));
        self.ties.push(f64::from(u8::from(duel.lead == 0.0)));
    }
}

/// What says which completions are better.
#[derive(Debug)]
enum Standing {
    /// Their scores.
    Scores,
    /// A judge who saw every two completions of a prompt.
    Tournament(Tournament),
    /// A judge who saw each completion of the policy and its opponent: P(the policy's wins).
    Duels(Vec<Option<f64>>),
}

/// Makes records of completions of which some are better.
struct Selector<'a> {
    online: &'a OnlineConfig,
    standing: Standing,
    seeds: Seeds,
    iteration: u64,
}

/// Two completions, and what is known of which is better.
#[derive(Clone, Copy)]
struct Duel<'a> {
    first: &'a Rollout,
    second: &'a Rollout,
    /// P(the first is preferred), where labels are soft.
    soft: f64,
    /// How much better the first is: above 0 if it is.
    lead: f64,
    /// Score of the first minus that of the second; `None` where nobody scored them.
    margin: Option<f64>,
}

impl<'a> Duel<'a> {
    fn scored((first, score): (&'a Rollout, f64), (second, other): (&'a Rollout, f64)) -> Self {
        let margin = score - other;
        let soft = win_probability(score, other);
        Self { first, second, soft, lead: margin, margin: Some(margin) }
    }

    fn judged(first: &'a Rollout, second: &'a Rollout, probability: f64) -> Self {
        Self { first, second, soft: probability, lead: probability - 0.5, margin: None }
    }

    fn swapped(self) -> Self {
        Self {
            first: self.second,
            second: self.first,
            soft: 1.0 - self.soft,
            lead: -self.lead,
            margin: self.margin.map(|margin| -margin),
        }
    }
}

impl Selector<'_> {
    /// The probability that a duel's first completion is preferred.
    fn probability(&self, duel: Duel<'_>) -> f64 {
        match self.online.labels {
            Labels::Soft => duel.soft,
            Labels::Hard if 0.0 < duel.lead => 1.0,
            Labels::Hard if duel.lead < 0.0 => 0.0,
            Labels::Hard => 0.5,
        }
    }

    /// The first completion as the chosen one.
    fn pair(&self, duel: Duel<'_>, records: &mut Records) {
        records.observe(duel);
        let label = Label::Pair { probability: self.probability(duel), margin: 0.0 };
        let completions = [duel.first, duel.second].map(|one| one.completion.ids.as_slice());
        records.trees.push(Tree::pair(&duel.first.prompt.ids, completions, label));
    }

    fn best_against_worst(&self, own: &Scored) -> Records {
        let (mut records, size) = (Records::default(), self.online.rollout.completions);
        for (group, rollouts) in own.rollouts.chunks(size).enumerate() {
            let Some(standing) = self.of_group(own, group) else { continue };
            let [chosen, rejected] = best_and_worst(&standing).expect("at least two completions");
            let (first, second) = (&rollouts[chosen], &rollouts[rejected]);
            let duel = match &self.standing {
                Standing::Tournament(played) => played
                    .probability(group, chosen, rejected)
                    .map(|probability| Duel::judged(first, second, probability)),
                _ => Some(Duel::scored((first, standing[chosen]), (second, standing[rejected]))),
            };
            duel.into_iter().for_each(|duel| self.pair(duel, &mut records));
        }
        records
    }

    /// How good each completion of a prompt is; `None` where nobody says.
    fn of_group(&self, own: &Scored, group: usize) -> Option<Vec<f64>> {
        let size = self.online.rollout.completions;
        match &self.standing {
            Standing::Tournament(played) => played.wins(group),
            _ => Some(own.scores[group * size..(group + 1) * size].to_vec()),
        }
    }

    /// The policy's completions, each against its opponent, with their place.
    fn duels<'r>(&'r self, own: &'r Scored, other: &'r Scored) -> impl Iterator<Item = Duel<'r>> {
        (0..own.rollouts.len()).filter_map(|index| {
            let (first, second) = (&own.rollouts[index], &other.rollouts[index]);
            match &self.standing {
                Standing::Duels(wins) => Some(Duel::judged(first, second, wins[index]?)),
                _ => Some(Duel::scored((first, own.scores[index]), (second, other.scores[index]))),
            }
        })
    }

    /// The policy's completion is the chosen one of a tie, as in TRL.
    fn against_reference(&self, own: &Scored, other: &Scored) -> Records {
        let mut records = Records::default();
        for duel in self.duels(own, other) {
            let wins = 0.0 <= duel.lead;
            records.wins.push(self.probability(duel));
            self.pair(if wins { duel } else { duel.swapped() }, &mut records);
            let tree = records.trees.last_mut().expect("a pair was made");
            tree.explored = Some(usize::from(wins));
        }
        records
    }

    fn wins(&self, own: &Scored, other: &Scored) -> Records {
        let mut records = Records::default();
        for duel in self.duels(own, other) {
            let probability = self.probability(duel);
            records.wins.push(probability);
            records.observe(duel);
            let (prompt, completion) = (&duel.first.prompt.ids, &duel.first.completion.ids);
            records.trees.push(Tree::single(prompt, completion, Label::Wins(probability)));
        }
        records
    }

    fn one_of_each(&self, own: &Scored, selection: Selection) -> Records {
        let size = self.online.rollout.completions;
        let mut rng = self.seeds.stream("selection", self.iteration);
        let kept = (0..own.rollouts.len() / size).filter_map(|group| {
            let within = match selection {
                Selection::Score => {
                    best(&self.of_group(own, group)?).expect("at least one completion")
                }
                Selection::Random => rng.random_range(0..size),
            };
            Some(group * size + within)
        });
        kept_records(own, &kept.collect::<Vec<_>>())
    }

    fn share(&self, own: &Scored, share: f64, selection: Selection) -> Records {
        let all = own.scores.len();
        let count = ((share * all as f64).round() as usize).clamp(1, all);
        let kept = match selection {
            Selection::Score => top(&own.scores, count),
            Selection::Random => {
                let mut rng = self.seeds.stream("selection", self.iteration);
                let mut indices: Vec<usize> = (0..all).collect();
                for at in 0..count {
                    indices.swap(at, rng.random_range(at..all));
                }
                indices.truncate(count);
                indices.sort_unstable();
                indices
            }
        };
        kept_records(own, &kept)
    }
}

fn kept_records(own: &Scored, kept: &[usize]) -> Records {
    let tree = |&index: &usize| {
        let rollout = &own.rollouts[index];
        Tree::single(&rollout.prompt.ids, &rollout.completion.ids, Label::Kept)
    };
    Records {
        trees: kept.iter().map(tree).collect(),
        kept: kept.iter().map(|&index| own.scores[index]).collect(),
        ..Records::default()
    }
}

/// A demonstration is preferred to whatever the policy writes.
fn against_demonstrations<'a>(own: &Scored, demonstration: impl Fn(usize) -> &'a [u32]) -> Records {
    let tree = |(index, rollout): (usize, &Rollout)| {
        let completions = [demonstration(index), &rollout.completion.ids];
        let label = Label::Pair { probability: 1.0, margin: 0.0 };
        Tree::pair(&rollout.prompt.ids, completions, label)
    };
    let trees = own.rollouts.iter().enumerate().map(tree).collect();
    Records { trees, ..Records::default() }
}
