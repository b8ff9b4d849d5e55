//! `hearken score --items`: what reward models think of the candidates of items, in the items' metadata.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hearken_data::feedback::{Candidate, Item};
use hearken_data::write_jsonl;
use hearken_model::Tokenizer;
use hearken_recipes::judging::RewardJudge;
use hearken_recipes::search::Scorer;
use hearken_tensor::AnyDevice;
use serde_json::Value;

use crate::commands::output_file::STANDARD;
use crate::commands::output_lines::LineArguments;
use crate::counter::Counter;
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::{output, sources};

/// Items that are scored together.
const TOGETHER: usize = 32;
/// Where a candidate's metadata have its scores, and its coordinates in the first reward model.
const SCORES: &str = "scores";
const STATE: &str = "state";

#[derive(Args, Debug)]
pub(super) struct ItemArguments {
    /// The input is a store, or a file of items in any of the import formats: each candidate gets the score as one more of
    /// `scores` in its metadata, for the orders of `hearken collect`
    #[arg(
        long,
        conflicts_with_all = ["keep", "resume", "column", "aggregate", "microbatch_tokens"],
        help_heading = "Items"
    )]
    items: bool,

    /// With --items: the coordinates of a candidate's last hidden state that go into `state`, drawn together by a fixed random
    /// projection where the model has more; 0 = none. A state that is there stays
    #[arg(
        long,
        value_name = "N",
        default_value_t = 32,
        value_parser = clap::value_parser!(u16).range(0..=512),
        requires = "items",
        help_heading = "Items"
    )]
    states: u16,
}

impl ItemArguments {
    /// Whether items are scored in place of answers.
    pub(super) fn are_read(&self) -> bool {
        self.items
    }

    /// Scores the items of the input.
    pub(super) fn score(
        &self,
        lines: &LineArguments,
        (scorer, tokenizer): (Scorer<AnyDevice>, Option<Tokenizer>),
        name: &str,
    ) -> Result<ExitCode> {
        let tokenizer =
            tokenizer.with_context(|| format!("{name}: found no tokenizer.json, expected one"))?;
        let input = lines.input.display().to_string();
        let records = sources::load(std::slice::from_ref(&input))?;
        if records.items.is_empty() {
            bail!("{input}: found no item, expected at least one");
        }
        if !records.judgements.is_empty() {
            let count = records.judgements.len();
            output::say(&format!("{input}: left out {count} judgements; the output has items"));
        }
        let mut items = records.items;
        for item in &items {
            known_scores(item).with_context(|| format!("{input}: the item {:?}", item.id))?;
        }
        let judge = RewardJudge::of(name, scorer, tokenizer);
        let interrupt = Interrupt::install("stopping; nothing is written")?;
        let mut counter = Counter::new(items.len());
        for chunk in items.chunks_mut(TOGETHER) {
            if interrupt.requested() {
                return Ok(ExitCode::from(INTERRUPTED));
            }
            self.add(&judge, chunk)?;
            counter.add(chunk.len(), 0);
        }
        counter.finish("item");
        if lines.output == Path::new(STANDARD) {
            for item in &items {
                output::print(&(serde_json::to_string(item)? + "\n"))?;
            }
        } else {
            write_jsonl(&lines.output, items)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn add(&self, judge: &RewardJudge<AnyDevice>, items: &mut [Item]) -> Result<()> {
        let read: Vec<&Item> = items.iter().collect();
        let scores = judge.scores(&read)?;
        let states = if self.states == 0 { None } else { Some(judge.hidden(&read)?) };
        for (at, item) in items.iter_mut().enumerate() {
            let has_state = item.candidates.iter().any(|one| one.meta.contains_key(STATE));
            for (place, candidate) in item.candidates.iter_mut().enumerate() {
                let score = scores[at][place] as f32;
                if !score.is_finite() {
                    bail!("the item {:?}: the score of candidate {place} is {score}", item.id);
                }
                push(candidate, score);
                if let (Some(states), false) = (&states, has_state) {
                    let state = projected(&states[at][place], usize::from(self.states));
                    candidate.meta.insert(STATE.to_owned(), Value::from(state));
                }
            }
        }
        Ok(())
    }
}

/// Refuses scores to which none can be added.
fn known_scores(item: &Item) -> Result<()> {
    let mut count = None;
    for (place, candidate) in item.candidates.iter().enumerate() {
        let found = candidate.meta.get(SCORES);
        let numbers = found.map_or(Some(0), |found| {
            let list = found.as_array()?;
            list.iter().all(Value::is_number).then_some(list.len())
        });
        let Some(numbers) = numbers else {
            bail!(
                "candidate {place}: found {SCORES:?}: {}, expected a list of numbers",
                found.unwrap_or(&Value::Null)
            );
        };
        let first = *count.get_or_insert(numbers);
        if numbers != first {
            bail!(
                "candidate {place}: found {numbers} {SCORES}, expected {first} as for the first candidate"
            );
        }
    }
    Ok(())
}

fn push(candidate: &mut Candidate, score: f32) {
    let list = candidate.meta.entry(SCORES).or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(list) = list {
        list.push(Value::from(score));
    }
}

/// At most `count` coordinates: products with fixed random signs, which keep distances but for a few percent where there are enough of
/// them (Achlioptas 2003, "Database-friendly random projections").
fn projected(state: &[f64], count: usize) -> Vec<f32> {
    if state.len() <= count {
        return state.iter().map(|value| *value as f32).collect();
    }
    let scale = 1.0 / (count as f64).sqrt();
    let of = |row: usize| {
        let signed = |(column, value): (usize, &f64)| {
            // The finalizer of SplitMix64 (Steele et al. 2014) over the place.
            let mut bits = ((row as u64) << 32 | column as u64).wrapping_add(1);
            bits = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            if (bits ^ (bits >> 31)) & 1 == 0 { *value } else { -value }
        };
        (scale * state.iter().enumerate().map(signed).sum::<f64>()) as f32
    };
    (0..count).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projections_keep_distances() {
        let state = |seed: usize| -> Vec<f64> {
            (0..400).map(|at| ((at * 37 + seed * 101) as f64 * 0.61).sin()).collect()
        };
        let far = |a: &[f64], b: &[f64]| -> f64 {
            a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
        };
        let mut ratios = Vec::new();
        for seed in 1..40 {
            let (a, b) = (state(seed), state(seed + 1));
            let both = [&a, &b].map(|one| {
                let short = projected(one, 256);
                assert_eq!(short.len(), 256);
                short.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>()
            });
            ratios.push(far(&both[0], &both[1]) / far(&a, &b));
        }
        assert!(ratios.iter().all(|ratio| (0.75..1.25).contains(ratio)), "{ratios:?}");
        assert_eq!(projected(&[1.0, -2.0], 32), [1.0, -2.0]);
    }
}
