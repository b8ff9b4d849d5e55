//! How likely a model finds completions that somebody else wrote.

use std::cmp::Ordering;

use hearken_model::microbatch::microbatches;
use hearken_model::{Batch, Keep, Model};
use hearken_tensor::Device;
use rayon::prelude::*;

use crate::error::GenerateError;
use crate::wishes::{AdapterId, TokenReport};

/// Rows that go through the model at once, or one sequence.
const ROWS: usize = 2048;
/// The most bytes of logits that are there at a time.
const LOGITS_BYTES: usize = 16 << 20;

/// Completions to read.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Prompts with their completions.
    pub sequences: Vec<(Vec<u32>, Vec<u32>)>,
    /// Logits are divided by it.
    pub temperature: f64,
    /// How many of the likeliest tokens are reported in the place of each.
    pub likeliest: usize,
    /// The adapter of an engine that reads; without it the model as it is.
    pub adapter: Option<AdapterId>,
}

/// Of each sequence, how likely each token of its completion is, given all tokens before it; under the temperature of
/// the reading, with nothing added or cut off.
pub type Read = Vec<Vec<TokenReport>>;

/// Reads completions with a model, which has the adapter that the reading names, if it names one. What is found of a
/// sequence does not depend on the others, but for the last digits of sums.
///
/// # Errors
/// If a prompt is empty, a token unknown, a sequence longer than the model's positions, the temperature not above 0, or
/// a logit NaN or infinite.
///
/// # Panics
/// If the model has no language-model head.
pub fn read_completions<D: Device>(
    model: &Model<D>,
    reading: &Reading,
) -> Result<Read, GenerateError> {
    check(model, reading)?;
    let Reading { sequences, .. } = reading;
    let rows: Vec<usize> =
        sequences.iter().map(|(prompt, completion)| prompt.len() + completion.len()).collect();
    let mut read = Vec::with_capacity(sequences.len());
    for group in microbatches(&rows, ROWS) {
        read.extend(read_group(model, reading, group.start, &sequences[group])?);
    }
    Ok(read)
}

fn check<D: Device>(model: &Model<D>, reading: &Reading) -> Result<(), GenerateError> {
    let (vocab, positions) = (model.config().vocab, model.config().max_positions);
    let found = reading.temperature;
    if !(found.is_finite() && 0.0 < found) {
        let (option, expected) = ("temperature", "a number above 0");
        return Err(GenerateError::Option { option, found, expected });
    }
    for (request, (prompt, completion)) in reading.sequences.iter().enumerate() {
        if prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt { request });
        }
        let mut ids = prompt.iter().chain(completion);
        if let Some(&id) = ids.find(|&&id| vocab <= id as usize) {
            return Err(GenerateError::UnknownToken { request, id, vocab });
        }
        let tokens = prompt.len() + completion.len();
        if positions < tokens {
            return Err(GenerateError::TooLong { request, tokens, positions });
        }
    }
    Ok(())
}

/// Sequences that go through the model together, of which the first has the number `first`.
fn read_group<D: Device>(
    model: &Model<D>,
    reading: &Reading,
    first: usize,
    sequences: &[(Vec<u32>, Vec<u32>)],
) -> Result<Read, GenerateError> {
    let mut batch = Batch::new();
    // The row that each token is predicted from.
    let mut places = Vec::new();
    for (index, (prompt, completion)) in sequences.iter().enumerate() {
        let start = batch.rows() + prompt.len() - 1;
        // Nothing is predicted from the last token.
        let read = [prompt.as_slice(), &completion[..completion.len().saturating_sub(1)]].concat();
        batch.push(None, &read);
        places.extend((0..completion.len()).map(|at| (index, at, start + at)));
    }
    let pass = model.forward(&batch, Keep::Nothing);
    let vocab = model.config().vocab;
    let mut read: Read = sequences.iter().map(|_| Vec::new()).collect();
    for part in places.chunks((LOGITS_BYTES / (size_of::<f32>() * vocab)).max(1)) {
        let rows: Vec<usize> = part.iter().map(|(_, _, row)| *row).collect();
        let logits = model.logits(&pass, &rows);
        let report = |(logits, &(index, at, _)): (&[f32], &(usize, usize, usize))| {
            report(logits, sequences[index].1[at], reading).map_err(|(id, found)| {
                let (request, sample) = (first + index, 0);
                GenerateError::Logits { request, sample, token: at, id, found }
            })
        };
        let reports: Vec<_> = logits.par_chunks(vocab).zip(part).map(report).collect();
        for (report, (index, _, _)) in reports.into_iter().zip(part) {
            read[*index].push(report?);
        }
    }
    Ok(read)
}

/// A token with the likeliest; or a logit that makes the row no distribution.
fn report(logits: &[f32], id: u32, reading: &Reading) -> Result<TokenReport, (usize, f32)> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let is_bad = |&(_, logit): &(usize, f32)| !logit.is_finite() && logit != f32::NEG_INFINITY;
    if let Some(bad) = logits.iter().copied().enumerate().find(is_bad) {
        return Err(bad);
    }
    if highest == f32::NEG_INFINITY {
        return Err((0, highest));
    }
    let scaled = |logit: f32| f64::from(logit - highest) / reading.temperature;
    let total = logits.iter().map(|&logit| scaled(logit).exp()).sum::<f64>().ln();
    let logprob = |id: u32| scaled(logits[id as usize]) - total;
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let order = |a: &u32, b: &u32| -> Ordering {
        logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b))
    };
    let count = reading.likeliest.min(ids.len());
    if 0 < count && count < ids.len() {
        ids.select_nth_unstable_by(count - 1, order);
    }
    ids.truncate(count);
    ids.sort_unstable_by(order);
    let likeliest = ids.into_iter().map(|id| (id, logprob(id))).collect();
    Ok(TokenReport { logprob: logprob(id), likeliest })
}
