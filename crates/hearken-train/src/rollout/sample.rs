//! Sampling completions from the policy, scored on the way.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use hearken_data::Completion;
use hearken_generate::{
    EngineOptions, GenerateError, Sampling, SamplingRequest, TokenSampled, completion_text,
    generate_with, unobserved,
};
use hearken_model::{Model, Tokenizer};
use hearken_reward_source::{
    BatchScores, Measure, Pace, RewardError, RewardSource, RolloutView, Score, sum_of,
};
use hearken_run::encode::PromptExample;
use hearken_run::error::TrainError;
use hearken_run::ranks::Ranks;
use hearken_run::seeds::Seeds;
use hearken_tensor::Device;
use serde::{Deserialize, Serialize};

use super::{Rollout, RolloutOrigin};

/// How completions are sampled.
#[derive(Clone, Debug)]
pub struct SampleOptions<'a> {
    /// Temperature, truncation, length, stop sequences.
    pub sampling: &'a Sampling,
    /// How much memory and work the sampler takes at once.
    pub engine: EngineOptions,
    /// Completions per prompt: a group.
    pub completions: usize,
    /// The stream of random numbers: one per (`stream`, `index`, prompt).
    pub seeds: Seeds,
    /// What the sampling is for.
    pub stream: &'a str,
    /// The iteration.
    pub index: u64,
    /// Optimizer steps that the policy has made.
    pub version: u64,
    /// Who else samples: streams are numbered by the prompts of all.
    pub ranks: &'a Ranks,
}

/// What the sampler tells of each token.
pub(crate) type Observer<'a> = &'a mut dyn FnMut(TokenSampled<'_>) -> ControlFlow<()>;

/// Whatever completes requests: a model, a mixture of two, or servers.
pub(crate) type Sampler<'a> =
    &'a mut dyn FnMut(&[SamplingRequest], Observer<'_>) -> Result<Vec<Vec<Completion>>, TrainError>;

/// Prompts to complete, and who reads what comes.
#[derive(Clone, Copy, Debug)]
struct SamplingJob<'a> {
    tokenizer: Option<&'a Tokenizer>,
    prompts: &'a [Arc<PromptExample>],
    /// Their numbers among those of all processes.
    numbers: &'a [usize],
    options: &'a SampleOptions<'a>,
}

/// A completion that has ended.
#[derive(Debug)]
struct EndedCompletion {
    /// Its place among the rollouts.
    index: usize,
    completion: Completion,
}

/// The completions of a prompt, and for each measure what it says of each.
#[derive(Debug, Serialize, Deserialize)]
struct PromptCompletions {
    completions: Vec<Completion>,
    scores: Vec<Vec<Score>>,
}

/// What the sources said of a completion while others were being sampled.
#[derive(Debug)]
struct SourceScores {
    index: usize,
    /// The scores of the sources that run meanwhile, in their order.
    scores: Vec<Score>,
}

/// Completes each prompt `completions` times; rollouts of one prompt follow one another.
///
/// # Errors
/// If the sampler cannot, for example because a prompt leaves no room for a completion.
pub fn sample<D: Device>(
    policy: &Model<D>,
    tokenizer: Option<&Tokenizer>,
    prompts: &[Arc<PromptExample>],
    options: &SampleOptions<'_>,
) -> Result<Vec<Rollout>, TrainError> {
    let numbers: Vec<usize> = (0..prompts.len()).collect();
    let asked = SamplingJob { tokenizer, prompts, numbers: &numbers, options };
    let SampleOptions { sampling, engine, .. } = options;
    let requests = asked.requests();
    let groups = generate_with(policy, tokenizer, &requests, sampling, engine, &mut unobserved());
    Ok(asked.rollouts(groups.map_err(refused)?))
}

/// [`sample`] with the scores of what was sampled.
///
/// Sources that need no model ([`Pace::Meanwhile`]) run on a thread of their own while other
/// completions are still being sampled. They get completions in portions, in the order in which these
/// end, which depends on the seed and not on anybody's speed: so do the scores.
///
/// # Errors
/// As [`sample`], and of the sources; a source that fails ends the sampling.
pub fn sample_scored<D: Device>(
    policy: &Model<D>,
    tokenizer: Option<&Tokenizer>,
    prompts: &[Arc<PromptExample>],
    options: &SampleOptions<'_>,
    sources: &mut dyn RewardSource,
) -> Result<(Vec<Rollout>, BatchScores), TrainError> {
    let mut sampler = |requests: &[SamplingRequest], observer: Observer<'_>| {
        let SampleOptions { sampling, engine, .. } = options;
        generate_with(policy, tokenizer, requests, sampling, engine, observer).map_err(refused)
    };
    sample_scored_by(&mut sampler, tokenizer, prompts, options, sources)
}

/// [`sample_scored`] by any sampler.
///
/// # Errors
/// As [`sample_scored`].
pub(crate) fn sample_scored_by(
    sampler: Sampler<'_>,
    tokenizer: Option<&Tokenizer>,
    prompts: &[Arc<PromptExample>],
    options: &SampleOptions<'_>,
    sources: &mut dyn RewardSource,
) -> Result<(Vec<Rollout>, BatchScores), TrainError> {
    let measures = sources.measures();
    let ranks = options.ranks;
    let shares = ranks.shares(&vec![1; prompts.len()]);
    let own = shares.pick(prompts);
    let asked = SamplingJob { tokenizer, prompts: &own, numbers: shares.own(), options };
    let told = ranks.agree(asked.told(sampler, sources, &measures))?;
    let mut told = ranks.whole(&shares, told);
    let by_measure = |told: &mut Vec<PromptCompletions>, pace: Pace| -> Vec<Vec<Score>> {
        let of = measures.iter().enumerate().filter(|(_, measure)| measure.pace == pace);
        of.map(|(measure, _)| {
            told.iter_mut().flat_map(|group| std::mem::take(&mut group.scores[measure])).collect()
        })
        .collect()
    };
    let (meanwhile, afterwards) =
        (by_measure(&mut told, Pace::Meanwhile), by_measure(&mut told, Pace::Afterwards));
    let numbers: Vec<usize> = (0..prompts.len()).collect();
    let all = SamplingJob { tokenizer, prompts, numbers: &numbers, options };
    let rollouts = all.rollouts(told.into_iter().map(|group| group.completions).collect());
    let tokens: Vec<usize> = rollouts.iter().map(|one| one.completion.ids.len()).collect();
    let scores = sum_of(&measures, meanwhile, afterwards, &tokens);
    Ok((rollouts, scores))
}

/// The requests of this process's share of `prompts`, as [`sample_scored_by`] makes them.
pub(super) fn own_requests(
    prompts: &[Arc<PromptExample>],
    options: &SampleOptions<'_>,
) -> Vec<SamplingRequest> {
    let shares = options.ranks.shares(&vec![1; prompts.len()]);
    let own = shares.pick(prompts);
    SamplingJob { tokenizer: None, prompts: &own, numbers: shares.own(), options }.requests()
}

impl SamplingJob<'_> {
    fn requests(&self) -> Vec<SamplingRequest> {
        let SampleOptions { seeds, stream, index, completions, .. } = *self.options;
        let request = |(&number, asked): (&usize, &Arc<PromptExample>)| SamplingRequest {
            prompt_ids: asked.ids.clone(),
            samples: completions,
            seed: seeds.derive(stream, index, number as u64),
        };
        self.numbers.iter().zip(self.prompts).map(request).collect()
    }

    /// Completions, and what the sources say of them.
    fn told(
        &self,
        sampler: Sampler<'_>,
        sources: &mut dyn RewardSource,
        measures: &[Measure],
    ) -> Result<Vec<PromptCompletions>, TrainError> {
        if self.prompts.is_empty() {
            return Ok(Vec::new());
        }
        let is_meanwhile = |measure: &&Measure| measure.pace == Pace::Meanwhile;
        let meanwhile = measures.iter().filter(is_meanwhile).count();
        let (mut rollouts, mut judged) = (Vec::new(), Vec::new());
        if 0 < meanwhile {
            (rollouts, judged) = self.sample_and_score(sampler, sources)?;
        } else {
            let groups = sampler(&self.requests(), &mut unobserved())?;
            rollouts.extend(self.rollouts(groups));
        }
        let mut of_meanwhile = vec![vec![Score::Whole(0.0); rollouts.len()]; meanwhile];
        for SourceScores { index, scores } in judged {
            for (source, score) in of_meanwhile.iter_mut().zip(scores) {
                source[index] = score;
            }
        }
        let views: Vec<_> = rollouts.iter().map(Rollout::view).collect();
        let of_afterwards = sources.measured(Pace::Afterwards, &views)?;
        let (mut meanwhile, mut afterwards) = (of_meanwhile.into_iter(), of_afterwards.into_iter());
        let by_measure = measures.iter().map(|measure| match measure.pace {
            Pace::Meanwhile => meanwhile.next().expect("scores of every measure").into_iter(),
            Pace::Afterwards => afterwards.next().expect("scores of every measure").into_iter(),
        });
        let mut by_measure: Vec<_> = by_measure.collect();
        let mut rollouts = rollouts.into_iter();
        let group = |_: &Arc<PromptExample>| {
            let completions = self.options.completions;
            let mut scores = |of: &mut std::vec::IntoIter<Score>| of.take(completions).collect();
            PromptCompletions {
                completions: rollouts
                    .by_ref()
                    .take(completions)
                    .map(|one| one.completion)
                    .collect(),
                scores: by_measure.iter_mut().map(&mut scores).collect(),
            }
        };
        Ok(self.prompts.iter().map(group).collect())
    }

    fn origin(&self) -> RolloutOrigin {
        RolloutOrigin::Sampled { version: self.options.version }
    }

    fn text(&self, completion: &Completion) -> String {
        self.tokenizer.map_or_else(String::new, |tokenizer| {
            completion_text(tokenizer, completion, &self.options.sampling.stop)
        })
    }

    fn rollouts(&self, groups: Vec<Vec<Completion>>) -> Vec<Rollout> {
        let mut rollouts = Vec::with_capacity(self.prompts.len() * self.options.completions);
        for ((prompt, completions), &group) in self.prompts.iter().zip(groups).zip(self.numbers) {
            rollouts.extend(completions.into_iter().map(|completion| Rollout {
                prompt: Arc::clone(prompt),
                group: group as u64,
                text: self.text(&completion),
                origin: self.origin(),
                completion,
            }));
        }
        rollouts
    }

    /// Samples on this thread and scores on another.
    fn sample_and_score(
        &self,
        sampler: Sampler<'_>,
        sources: &mut dyn RewardSource,
    ) -> Result<(Vec<Rollout>, Vec<SourceScores>), TrainError> {
        let has_failed = AtomicBool::new(false);
        let (sender, receiver) = channel();
        let (groups, judged) = thread::scope(|scope| {
            let has_failed = &has_failed;
            let scorer = scope.spawn(move || {
                let judged = self.judge(&receiver, sources);
                has_failed.store(judged.is_err(), Ordering::Relaxed);
                judged
            });
            let groups = self.sample_into(sender, sampler, has_failed);
            (groups, scorer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        // Where a source failed, the sampler was stopped because of it.
        let judged = judged?;
        Ok((self.rollouts(groups?), judged))
    }

    /// Sends completions as they end, a portion at a time. The sender is dropped in the end.
    #[expect(clippy::needless_pass_by_value, reason = "its end tells the scorer to finish")]
    fn sample_into(
        &self,
        sender: Sender<Vec<EndedCompletion>>,
        sampler: Sampler<'_>,
        has_failed: &AtomicBool,
    ) -> Result<Vec<Vec<Completion>>, TrainError> {
        let completions = self.options.completions;
        let portion = portion_len(self.prompts.len() * completions);
        let mut ended: Vec<EndedCompletion> = Vec::with_capacity(portion);
        // A scorer that is gone has failed, which is seen below.
        let send = |ended: &mut Vec<EndedCompletion>| drop(sender.send(std::mem::take(ended)));
        let mut observer = |event: TokenSampled<'_>| {
            if let Some(stop_reason) = event.stop_reason {
                let (ids, logprobs) = (event.ids.to_vec(), Vec::new());
                let completion = Completion { ids, logprobs, stop_reason };
                ended.push(EndedCompletion {
                    index: event.request * completions + event.sample,
                    completion,
                });
                if ended.len() == portion {
                    send(&mut ended);
                }
            }
            match has_failed.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let groups = sampler(&self.requests(), &mut observer)?;
        send(&mut ended);
        Ok(groups)
    }

    /// Scores portions until there are no more.
    fn judge(
        &self,
        portions: &Receiver<Vec<EndedCompletion>>,
        sources: &mut dyn RewardSource,
    ) -> Result<Vec<SourceScores>, RewardError> {
        let mut judged: Vec<SourceScores> = Vec::new();
        for ended in portions {
            let rollouts: Vec<Rollout> = ended
                .iter()
                .map(|EndedCompletion { index, completion }| {
                    let group = index / self.options.completions;
                    Rollout {
                        prompt: Arc::clone(&self.prompts[group]),
                        group: self.numbers[group] as u64,
                        text: self.text(completion),
                        origin: self.origin(),
                        completion: completion.clone(),
                    }
                })
                .collect();
            let views: Vec<RolloutView<'_>> = rollouts.iter().map(Rollout::view).collect();
            let failed = |source| RewardError::Portion {
                scored: judged.len(),
                completions: self.prompts.len() * self.options.completions,
                source: Box::new(source),
            };
            let by_source = sources.measured(Pace::Meanwhile, &views).map_err(failed)?;
            judged.extend(ended.iter().enumerate().map(|(row, ended)| SourceScores {
                index: ended.index,
                scores: by_source.iter().map(|scores| scores[row].clone()).collect(),
            }));
        }
        Ok(judged)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` gives")]
pub(super) fn refused(error: GenerateError) -> TrainError {
    TrainError::Generate(error.to_string())
}

/// Completions that are scored at once while others are sampled: few enough that scoring starts early,
/// enough that a server or program is not asked for each one.
fn portion_len(completions: usize) -> usize {
    (completions / 8).clamp(1, 32)
}

/// Tells of the completions of a request.
pub(super) fn tell(
    request: usize,
    completions: &[Completion],
    observer: Observer<'_>,
) -> ControlFlow<()> {
    for (sample, completion) in completions.iter().enumerate() {
        let Completion { ids, logprobs, stop_reason } = completion;
        let logprob = logprobs.last().copied().unwrap_or(0.0);
        let stop_reason = Some(*stop_reason);
        observer(TokenSampled { request, sample, ids, logprob, stop_reason, report: None })?;
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use hearken_data::{Source, StopReason};
    use serde_json::Map;

    use super::*;
    use hearken_reward_source::{Closure, WeightedSum};

    const PROMPTS: usize = 4;

    fn prompts() -> Vec<Arc<PromptExample>> {
        let prompt = |id: usize| PromptExample {
            ids: vec![id as u32],
            text: String::new(),
            messages: None,
            fields: Map::new(),
            source: Source::default(),
        };
        (0..PROMPTS).map(|id| Arc::new(prompt(id))).collect()
    }

    fn completion(request: usize, sample: usize) -> Completion {
        let ids = vec![request as u32, sample as u32];
        Completion { ids, logprobs: Vec::new(), stop_reason: StopReason::Length }
    }

    /// Completions end in the order of `order`; before each, `wait` may hold the sampler.
    fn scored(
        order: &[(usize, usize)],
        sources: &mut dyn RewardSource,
        wait: &dyn Fn(usize),
    ) -> Result<(Vec<Rollout>, BatchScores), TrainError> {
        let sampling = Sampling::plain(2);
        let options = SampleOptions {
            sampling: &sampling,
            engine: EngineOptions::default(),
            completions: 2,
            seeds: Seeds::new(1),
            stream: "test",
            index: 0,
            version: 0,
            ranks: &Ranks::default(),
        };
        let mut sampler = |requests: &[SamplingRequest], observer: Observer<'_>| {
            assert_eq!(requests.len(), PROMPTS);
            for (place, &(request, sample)) in order.iter().enumerate() {
                wait(place);
                let Completion { ids, stop_reason, .. } = completion(request, sample);
                let stop_reason = Some(stop_reason);
                let event = TokenSampled {
                    request,
                    sample,
                    ids: &ids,
                    logprob: -1.0,
                    stop_reason,
                    report: None,
                };
                if observer(event).is_break() {
                    return Err(refused(GenerateError::Stopped { tokens: place }));
                }
            }
            let all = |request| (0..2).map(|sample| completion(request, sample)).collect();
            Ok((0..PROMPTS).map(all).collect())
        };
        sample_scored_by(&mut sampler, None, &prompts(), &options, sources)
    }

    fn every() -> Vec<(usize, usize)> {
        (0..PROMPTS).flat_map(|request| [(request, 1), (request, 0)]).rev().collect()
    }

    #[test]
    fn completions_are_scored_while_others_are_sampled() {
        let seen = Mutex::new(Vec::new());
        let source = Closure::new("seen", |rollout| {
            seen.lock().unwrap().push(rollout.completion_ids.to_vec());
            Ok(f64::from(10 * rollout.completion_ids[0] + rollout.completion_ids[1]))
        });
        let mut sources = WeightedSum::new().with(source, 2.0);
        // The last completion does not end before the first one has been scored.
        let wait = |place: usize| {
            let mut tries = 0;
            while place + 1 == 2 * PROMPTS && seen.lock().unwrap().is_empty() {
                tries += 1;
                assert!(tries < 1000, "nothing is scored while something is sampled");
                thread::sleep(Duration::from_millis(10));
            }
        };
        let order = every();
        let (rollouts, scores) = scored(&order, &mut sources, &wait).unwrap();
        // Scores stand with their rollouts, whatever ended first.
        assert_eq!(scores.by_source[0].1, [0.0, 1.0, 10.0, 11.0, 20.0, 21.0, 30.0, 31.0]);
        assert!((scores.total[7] - 62.0).abs() < 1e-12);
        assert_eq!(rollouts[7].completion, completion(3, 1));
        // Sources see completions in the order in which they end.
        drop(sources);
        let ended: Vec<_> = order.iter().map(|&(r, s)| completion(r, s).ids).collect();
        assert_eq!(*seen.lock().unwrap(), ended);
    }

    #[test]
    fn a_source_that_fails_stops_the_sampler_and_is_what_is_told() {
        let mut calls = 0;
        let picky = Closure::new("picky", |_| {
            calls += 1;
            if calls < 3 { Ok(1.0) } else { Err("not today".to_owned()) }
        });
        let mut sources = WeightedSum::new().with(picky, 1.0);
        let pause = |_: usize| thread::sleep(Duration::from_millis(5));
        let error = scored(&every(), &mut sources, &pause).unwrap_err().to_string();
        assert!(error.contains("picky") && error.contains("not today"), "{error}");
        assert!(error.contains("2 of 8 completions had been scored"), "{error}");
    }
}
