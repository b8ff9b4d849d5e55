//! What a round asks: all pairs of its candidates, and which of them an order chooses.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use hearken_data::feedback::{Item, Task};
use hearken_model::Masters;
use hearken_run::error::TrainError;
use hearken_run::progress::Progress;
use hearken_run::seeds::Seeds;
use hearken_stats::design::{Difference, d_optimal, double_thompson, k_center};
use hearken_tensor::{Device, device::Precision};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::asking::{
    CandidatePair, Chosen, Order, certain_of, drawn_by_weight, with_random, worth_most,
};
use super::config::AskConfig;
use super::records::{Candidates, read_lines};
use super::round::{RoundEnd, StageResult};
use crate::judging::RewardJudge;

/// What the questions of a round are made from.
pub(super) struct RoundQuestions<'a, D: Device> {
    pub(super) device: &'a D,
    pub(super) ask: &'a AskConfig,
    /// The round.
    pub(super) number: u64,
    pub(super) seeds: Seeds,
    /// The policy that wrote the candidates.
    pub(super) policy: &'a str,
    pub(super) candidates: &'a [Candidates],
    /// Reward models of the last round whose labels are learned from; the particles of one are as many.
    pub(super) rewards: Vec<PathBuf>,
    /// What was asked in the rounds whose labels are.
    pub(super) asked_before: Vec<PathBuf>,
}

impl<D: Device> RoundQuestions<'_, D> {
    /// The pairs that are asked about, as items with their propensities; or why no more is asked.
    pub(super) fn items(&self, progress: &mut dyn Progress) -> StageResult<Vec<Item>> {
        let number = self.number;
        let mut order = self.ask.order;
        if order != Order::Random && self.rewards.is_empty() {
            progress.note(&format!(
                "round {number}: there is no reward model yet, so pairs are asked about at random"
            ));
            order = Order::Random;
        }
        let of = |dir: &PathBuf| opinions(self.device, dir, self.candidates);
        let scores = self.rewards.iter().map(of).collect::<Result<Vec<_>, _>>()?.concat();
        let mut pairs = pairs(self.candidates, order, &scores);
        if pairs.is_empty() {
            let text = format!(
                "round {number}: found no two different completions of any of {} prompts: the policy {} says the same \
                 each time, so there is nothing to ask about",
                self.candidates.len(),
                self.policy
            );
            return Err(TrainError::Other(text));
        }
        let mut rng = self.seeds.stream("loop/asked", number);
        let chosen = if order == Order::DoubleThompson {
            let weights = weights(&pairs, &scores);
            let count = (*self.ask.pairs, *self.ask.random_share);
            drawn_by_weight(&pairs, &weights, count, &mut rng)
        } else {
            let certain = self.certain(order, &mut pairs, &mut rng)?;
            let largest = certain.first().map(|at| pairs[*at].worth);
            let worth_min = self.ask.worth_min.map(|worth| *worth).filter(|_| order.has_worth());
            if let (Some(limit), Some(largest)) = (worth_min, largest.filter(|_| order.has_worth()))
                && largest < limit
            {
                let text = format!(
                    "round {number}: no question is worth asking any more: the largest worth by {:?} is {largest:.3e}, expected \
                     {limit} at least (`ask.worth_min`)",
                    order.as_str()
                );
                return Ok(ControlFlow::Break(RoundEnd::Enough(text)));
            }
            let is_worth = |at: &usize| worth_min.is_none_or(|limit| limit <= pairs[*at].worth);
            let worth: Vec<usize> = certain.iter().copied().filter(is_worth).collect();
            // Questions that are worth nothing are left out, not drawn in place of others.
            let count = (*self.ask.pairs).min(pairs.len()) - (certain.len() - worth.len());
            with_random(&pairs, &worth, count, &mut rng)
        };
        let item = |(number, one): (usize, &Chosen)| {
            let mut item = self.item(one, order, &self.candidates[one.pair.prompt]);
            item.id = format!("round-{:03}-{number:04}-{}", self.number, &item.hash()[..16]);
            item
        };
        Ok(ControlFlow::Continue(chosen.iter().enumerate().map(item).collect()))
    }

    /// The pairs that are asked about for certain, those that are worth most first.
    fn certain(
        &self,
        order: Order,
        pairs: &mut [CandidatePair],
        rng: &mut ChaCha8Rng,
    ) -> Result<Vec<usize>, TrainError> {
        let count = (*self.ask.pairs).min(pairs.len());
        let certain = certain_of(count, *self.ask.random_share);
        let chosen = match order {
            // What is all alike is drawn at random altogether.
            Order::Random | Order::DoubleThompson => return Ok(Vec::new()),
            Order::Entropy | Order::Disagreement | Order::Information => {
                return Ok(worth_most(pairs, certain, rng));
            }
            Order::DOptimal | Order::KCenter => {
                let judge = judge(self.device, &self.rewards[0])?;
                let differences = differences_of(&judge, self.candidates, pairs)?;
                let known = self.known(&judge)?;
                let prompts: Vec<usize> = pairs.iter().map(|pair| pair.prompt).collect();
                if order == Order::KCenter {
                    let known: Vec<Difference> = known.into_iter().map(|one| one.0).collect();
                    k_center(&differences, &prompts, &known, certain)
                } else {
                    let probability = |pair: &CandidatePair| pair.probability.unwrap_or(0.5);
                    let probabilities: Vec<f64> = pairs.iter().map(probability).collect();
                    d_optimal(&differences, &probabilities, &prompts, &known, certain)
                }
            }
        };
        for (at, worth) in &chosen {
            pairs[*at].worth = *worth;
        }
        Ok(chosen.into_iter().map(|one| one.0).collect())
    }

    /// What was asked before, as the first reward model sees it now, with its probability of the first candidate.
    fn known(&self, judge: &RewardJudge<D>) -> Result<Vec<(Difference, f64)>, TrainError> {
        let mut items: Vec<Item> = Vec::new();
        for path in &self.asked_before {
            items.extend(read_lines::<Item>(path)?.unwrap_or_default());
        }
        let asked: Vec<&Item> = items.iter().collect();
        let (states, scores) = (hidden(judge, &asked)?, scored(judge, &asked)?);
        let of = |(states, scores): (&Vec<Vec<f64>>, &Vec<f64>)| {
            (difference(&states[0], &states[1]), sigmoid(scores[0] - scores[1]))
        };
        Ok(states.iter().zip(&scores).map(of).collect())
    }

    fn item(&self, chosen: &Chosen, order: Order, from: &Candidates) -> Item {
        let pair = &chosen.pair;
        let texts = pair.candidates.map(|at| (from.completions[at].as_str(), self.policy));
        let mut item = from.item(Task::Pairwise, texts);
        let how = if chosen.at_random { json!("random") } else { json!(order) };
        for (key, value) in [
            ("round", json!(self.number)),
            ("prompt_index", json!(pair.prompt)),
            ("candidates", json!(pair.candidates)),
            ("order", how),
            ("worth", json!(pair.worth)),
            ("propensity", json!(chosen.propensity)),
        ] {
            item.meta.insert(key.to_owned(), value);
        }
        if let Some(probability) = pair.probability {
            item.meta.insert("predicted".to_owned(), json!(probability));
        }
        item
    }
}

fn judge<D: Device>(device: &D, folder: &Path) -> Result<RewardJudge<D>, TrainError> {
    RewardJudge::load(device.clone(), folder, "reward", Precision::F32, Masters::Keep)
        .map_err(|error| TrainError::Other(error.to_string()))
}

fn scored<D: Device>(judge: &RewardJudge<D>, items: &[&Item]) -> Result<Vec<Vec<f64>>, TrainError> {
    judge.scores(items).map_err(|error| TrainError::Other(error.to_string()))
}

fn hidden<D: Device>(
    judge: &RewardJudge<D>,
    items: &[&Item],
) -> Result<Vec<Vec<Vec<f64>>>, TrainError> {
    judge.hidden(items).map_err(|error| TrainError::Other(error.to_string()))
}

/// The candidates of each prompt that are not empty, as an item with their places: what is empty is no item.
fn said(candidates: &[Candidates]) -> Vec<(Vec<usize>, Item)> {
    let of = |one: &Candidates| {
        let said = |at: &usize| !one.completions[*at].is_empty();
        let places: Vec<usize> = (0..one.completions.len()).filter(said).collect();
        let texts = places.iter().map(|at| (one.completions[*at].as_str(), one.policy.as_str()));
        let item = one.item(Task::Ranking, texts);
        (places, item)
    };
    candidates.iter().map(of).collect()
}

/// What the reward model in `folder` says of every candidate: `[prompt][completion]`; NaN of what is empty.
pub(super) fn scores<D: Device>(
    device: &D,
    folder: &Path,
    candidates: &[Candidates],
) -> Result<Vec<Vec<f64>>, TrainError> {
    let items = said(candidates);
    let asked: Vec<&Item> = items.iter().map(|(_, item)| item).collect();
    let found = scored(&judge(device, folder)?, &asked)?;
    Ok(placed(candidates, &items, |item, at| found[item][at]))
}

/// What the reward model in `folder` says of every candidate, or each of its particles: `[member][prompt][completion]`.
fn opinions<D: Device>(
    device: &D,
    folder: &Path,
    candidates: &[Candidates],
) -> Result<Vec<Vec<Vec<f64>>>, TrainError> {
    let items = said(candidates);
    let asked: Vec<&Item> = items.iter().map(|(_, item)| item).collect();
    let mut judge = judge(device, folder)?;
    judge.load_particles(folder).map_err(|error| TrainError::Other(error.to_string()))?;
    let found = judge.opinions(&asked).map_err(|error| TrainError::Other(error.to_string()))?;
    let members = found.iter().flatten().next().map_or(1, Vec::len);
    let of = |member: usize| placed(candidates, &items, |item, at| found[item][at][member]);
    Ok((0..members).map(of).collect())
}

/// Numbers of the candidates that are not empty, in the places of all of them, `[prompt][completion]`; NaN of what is empty.
fn placed(
    candidates: &[Candidates],
    items: &[(Vec<usize>, Item)],
    of: impl Fn(usize, usize) -> f64,
) -> Vec<Vec<f64>> {
    let prompt = |(number, (one, (places, _))): (usize, (&Candidates, &(Vec<usize>, Item)))| {
        let mut scores = vec![f64::NAN; one.completions.len()];
        for (at, place) in places.iter().enumerate() {
            scores[*place] = of(number, at);
        }
        scores
    };
    candidates.iter().zip(items).enumerate().map(prompt).collect()
}

/// For each pair the difference of the last hidden states of its candidates.
fn differences_of<D: Device>(
    judge: &RewardJudge<D>,
    candidates: &[Candidates],
    pairs: &[CandidatePair],
) -> Result<Vec<Difference>, TrainError> {
    let items = said(candidates);
    let asked: Vec<&Item> = items.iter().map(|(_, item)| item).collect();
    let found = hidden(judge, &asked)?;
    let of = |pair: &CandidatePair| {
        let (places, _) = &items[pair.prompt];
        let state = |candidate: usize| {
            let place = places.iter().position(|at| *at == candidate);
            &found[pair.prompt][place.expect("pairs are of what is not empty")]
        };
        difference(state(pair.candidates[0]), state(pair.candidates[1]))
    };
    Ok(pairs.iter().map(of).collect())
}

fn difference(a: &[f64], b: &[f64]) -> Difference {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn sigmoid(margin: f64) -> f64 {
    1.0 / (1.0 + (-margin).exp())
}

/// The weights of pairs under double Thompson sampling, by scores `[member][prompt][completion]`.
fn weights(pairs: &[CandidatePair], scores: &[Vec<Vec<f64>>]) -> Vec<f64> {
    let of = |pairs: &[CandidatePair]| {
        let prompt = pairs[0].prompt;
        let scores: Vec<&[f64]> = scores.iter().map(|member| member[prompt].as_slice()).collect();
        let both: Vec<[usize; 2]> = pairs.iter().map(|pair| pair.candidates).collect();
        double_thompson(&scores, &both)
    };
    pairs.chunk_by(|a, b| a.prompt == b.prompt).flat_map(of).collect()
}

/// All pairs of different completions of one prompt, with what the order says of them by scores `[member][prompt][completion]`.
fn pairs(candidates: &[Candidates], order: Order, scores: &[Vec<Vec<f64>>]) -> Vec<CandidatePair> {
    let mut all = Vec::new();
    for (prompt, one) in candidates.iter().enumerate() {
        let texts = &one.completions;
        // What was sampled twice is asked about once.
        let mut seen = BTreeSet::new();
        for first in 0..texts.len() {
            for second in first + 1..texts.len() {
                let both = (texts[first].trim(), texts[second].trim());
                let both = (both.0.min(both.1), both.0.max(both.1));
                if both.0 == both.1 || both.0.is_empty() || !seen.insert(both) {
                    continue;
                }
                let probability = |scores: &Vec<Vec<f64>>| {
                    sigmoid(scores[prompt][first] - scores[prompt][second])
                };
                let probabilities: Vec<f64> = scores.iter().map(probability).collect();
                let n = probabilities.len() as f64;
                let mean = probabilities.iter().sum::<f64>() / n;
                all.push(CandidatePair {
                    prompt,
                    candidates: [first, second],
                    worth: order.worth(&probabilities),
                    probability: Some(mean).filter(|mean| mean.is_finite()),
                });
            }
        }
    }
    all
}
