//! Who says which of two completions is better: simulated users, judges, people.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use hearken_data::feedback::formats::{ExportOptions, Format, FormatError, export};
use hearken_data::feedback::{Item, Judgement, Origin, Verdict, decisive, in_force};
use hearken_data::write_file;
use hearken_judge::model::KeptAnswers;
use hearken_reward_source::gold;
use hearken_reward_source::judging::{Asking, JudgingConfig};
use hearken_run::error::TrainError;
use hearken_run::progress::Progress;
use hearken_run::seeds::Seeds;
use hearken_store::{Store, StoreError, open, open_existing};
use hearken_tensor::Device;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::LabelsConfig;
use super::records::{read_json, read_lines, write_json, write_lines};
use crate::judging::Panel;
use crate::rlhf::{TOGETHER, judgements_by};

/// What came of asking.
pub(super) enum Answered {
    /// Judgements, in the order in which they were made.
    All(Vec<Judgement>),
    /// It was asked to stop.
    Stopped,
    /// People have not said enough yet.
    Waiting(String),
}

/// What simulated users say of pairs: the first completion is preferred with probability σ(sharpness · (gold₁ − gold₂)), and a share
/// of the labels is turned round.
pub(super) fn simulate(
    items: &[Item],
    config: &LabelsConfig,
    seeds: Seeds,
    round: u64,
) -> Vec<Judgement> {
    let mut rng = seeds.stream("loop/users", round);
    let is_noisy =
        config.noise_rounds.is_empty() || config.noise_rounds.contains(&(round as usize));
    let noise = if is_noisy { *config.noise } else { 0.0 };
    let of = |item: &Item| {
        let prompt = item.prompt.first().map_or("", |message| message.content.as_str());
        let [first, second] = [0, 1].map(|at| gold(prompt, &item.candidates[at].text));
        let log_odds = *config.sharpness * (first - second);
        // Two draws for every label, whatever the noise is.
        let prefers_first = rng.random::<f64>() < 1.0 / (1.0 + (-log_odds).exp());
        let is_turned = rng.random::<f64>() < noise;
        let verdict = Verdict::preferred(usize::from(prefers_first == is_turned));
        let mut judgement =
            Judgement::new(format!("simulated/{}", item.id), item, "simulated", verdict);
        judgement.origin = Origin::Synthetic;
        judgement.propensity = item.meta.get("propensity").and_then(Value::as_f64);
        judgement
    };
    items.iter().map(of).collect()
}

/// What judges said of an item; `None` where they had no opinion.
#[derive(Serialize, Deserialize)]
struct KeptJudgement {
    item: String,
    judgement: Option<Judgement>,
}

/// Judges with the answers that they have given already.
pub(super) struct Judges<D: Device> {
    panel: Panel<D>,
    /// Set where no answer is wanted any more.
    _asking: Asking,
}

impl<D: Device> Judges<D> {
    /// Opens them; what they answer is kept in `answers`.
    pub(super) fn open(
        device: &D,
        config: &JudgingConfig,
        answers: &Path,
    ) -> Result<Self, TrainError> {
        let other = |error: &dyn std::fmt::Display| TrainError::Other(error.to_string());
        let kept = KeptAnswers::open(answers).map_err(|error| other(&error))?;
        let asking = Asking::new(&config.budget, kept);
        let panel = Panel::open(device, config, &asking).map_err(|error| other(&error))?;
        Ok(Self { panel, _asking: asking })
    }

    /// Asks about one item after the other, some at a time, until `is_enough` of what was said so far. What is said goes to `kept` each
    /// time, and what stands there is not asked again.
    pub(super) fn ask(
        &mut self,
        items: &[Item],
        kept: &Path,
        is_enough: &mut dyn FnMut(&[Judgement]) -> bool,
        progress: &mut dyn Progress,
    ) -> Result<Answered, TrainError> {
        let mut all: Vec<KeptJudgement> = read_lines(kept)?.unwrap_or_default();
        let known: HashSet<String> = all.iter().map(|one| one.item.clone()).collect();
        let mut judgements: Vec<Judgement> = Vec::new();
        for chunk in items.chunks(TOGETHER) {
            if progress.stop_requested() {
                return Ok(Answered::Stopped);
            }
            if chunk.iter().all(|item| known.contains(&item.id)) {
                let is_of = |one: &&KeptJudgement| chunk.iter().any(|item| item.id == one.item);
                judgements.extend(all.iter().filter(is_of).filter_map(|one| one.judgement.clone()));
                if is_enough(&judgements) {
                    break;
                }
                continue;
            }
            let found = judgements_by(&mut self.panel, chunk).map_err(|error| {
                let text = format!(
                    "the judge: {error}; what is answered is kept, and the same command goes on"
                );
                TrainError::Other(text)
            })?;
            for (item, judgement) in chunk.iter().zip(found) {
                let propensity = item.meta.get("propensity").and_then(Value::as_f64);
                let judgement = judgement.map(|one| Judgement { propensity, ..one });
                all.push(KeptJudgement { item: item.id.clone(), judgement: judgement.clone() });
                judgements.extend(judgement);
            }
            write_lines(kept, &all)?;
            if is_enough(&judgements) {
                break;
            }
        }
        Ok(Answered::All(judgements))
    }
}

/// Items of one round in a store of the labelling service.
pub(super) struct AskedItems<'a> {
    /// Where the store is.
    pub(super) store: &'a str,
    /// What people are asked about.
    pub(super) items: &'a [Item],
    /// The file that says that they were.
    pub(super) placed: &'a Path,
    /// The round.
    pub(super) round: u64,
    /// What they are asked for: `labels`, or `the gate`.
    pub(super) what: &'a str,
}

impl AskedItems<'_> {
    /// Puts the items into the store unless they are there.
    ///
    /// A store that is not there any more, or has lost the items, is not replaced by an empty one.
    fn place(&self) -> Result<Box<dyn Store>, TrainError> {
        let lost = |error: &dyn std::fmt::Display| {
            TrainError::Other(format!(
                "`labels.store`: {error}; {} of round {} wait there, so put the store back, or remove {} to ask anew",
                self.items.len(),
                self.round,
                self.placed.display()
            ))
        };
        if read_json::<Value>(self.placed)?.is_some() {
            let store = open_existing(self.store).map_err(|error| lost(&error))?;
            for item in self.items {
                if store.item(&item.id).map_err(|error| store_error(&error))?.is_none() {
                    return Err(lost(&format!(
                        "the store at {} has no item {:?}",
                        store.home(),
                        item.id
                    )));
                }
            }
            return Ok(store);
        }
        let store = open(self.store).map_err(|error| store_error(&error))?;
        store.add_items(self.items).map_err(|error| store_error(&error))?;
        write_json(self.placed, &serde_json::json!({ "items": self.items.len() }))?;
        Ok(store)
    }

    /// What people have said: the judgements that hold, in the order of the store, once `is_enough` of them and of the number of
    /// items that they are about.
    pub(super) fn collect(
        &self,
        poll: Option<Duration>,
        is_enough: &mut dyn FnMut(&[Judgement], usize) -> bool,
        progress: &mut dyn Progress,
    ) -> Result<Answered, TrainError> {
        let mut store = self.place()?;
        loop {
            let judgements = self.holding(&*store)?;
            let mut judged: Vec<&str> = judgements.iter().map(|one| one.item.as_str()).collect();
            judged.sort_unstable();
            judged.dedup();
            let judged = judged.len();
            if is_enough(&judgements, judged) {
                return Ok(Answered::All(judgements));
            }
            let Some(poll) = poll else {
                let text = format!(
                    "round {}: {} waits for people: {judged} of {} pairs are judged in {}; judge more with \
                     `hearken collect --store {}`, then start the loop again",
                    self.round,
                    self.what,
                    self.items.len(),
                    store.home(),
                    self.store,
                );
                return Ok(Answered::Waiting(text));
            };
            // A store that is open keeps others from it, where it is a file of JSON lines.
            drop(store);
            let (round, what, all) = (self.round, self.what, self.items.len());
            progress
                .note(&format!("round {round}: {what} waits: {judged} of {all} pairs are judged"));
            let until = Instant::now() + poll;
            while Instant::now() < until {
                if progress.stop_requested() {
                    return Ok(Answered::Stopped);
                }
                std::thread::sleep(Duration::from_millis(200).min(poll));
            }
            store = self.place()?;
        }
    }

    fn holding(&self, store: &dyn Store) -> Result<Vec<Judgement>, TrainError> {
        let mut all = Vec::new();
        for item in self.items {
            let said = store.judgements_of(&item.id).map_err(|error| store_error(&error))?;
            let says = |one: &&Judgement| !matches!(one.verdict, Verdict::CantTell { .. });
            all.extend(decisive(&in_force(&said)).into_iter().filter(says).cloned());
        }
        all.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        Ok(all)
    }
}

fn store_error(error: &StoreError) -> TrainError {
    TrainError::Other(format!("`labels.store`: {error}"))
}

/// Writes items with what was said of them, as `hearken reward` reads it.
pub(super) fn write_judged(
    path: &Path,
    items: &[Item],
    judgements: &[Judgement],
) -> Result<(), TrainError> {
    let options = ExportOptions::default();
    let written = write_file::<_, FormatError>(path, |writer| {
        export(items, judgements, Format::Hearken, &options, writer)
    });
    written.map(drop).map_err(|error| TrainError::Other(format!("{}: {error}", path.display())))
}

/// For each item the mean of what was said of the second candidate against the first, in the order in which it was first said: 1 where it
/// is better, 0 where it is worse, ½ for a tie.
pub(super) fn outcomes(items: &[Item], judgements: &[Judgement]) -> Vec<(usize, f64)> {
    let places: HashMap<&str, usize> =
        items.iter().enumerate().map(|(at, item)| (item.id.as_str(), at)).collect();
    let mut order: Vec<usize> = Vec::new();
    let mut said: HashMap<usize, Vec<f64>> = HashMap::new();
    for judgement in judgements {
        let value = match &judgement.verdict {
            Verdict::Preferred { candidate, .. } => *candidate as f64,
            Verdict::Tie | Verdict::BothBad => 0.5,
            Verdict::Soft { probability } => 1.0 - probability,
            _ => continue,
        };
        let Some(place) = places.get(judgement.item.as_str()) else { continue };
        let values = said.entry(*place).or_default();
        if values.is_empty() {
            order.push(*place);
        }
        values.push(value);
    }
    let mean = |at: usize| said[&at].iter().sum::<f64>() / said[&at].len() as f64;
    order.into_iter().map(|at| (at, mean(at))).collect()
}
