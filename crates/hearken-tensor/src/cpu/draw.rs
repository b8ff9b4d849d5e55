//! From a row of logits to a token and its log-probability.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::exponential::{exp_nonpositive, largest, sums_of_exponentials};
use crate::draw::{BadLogit, Choice, DrawRow, Drawn, TokenReport};

/// Logits whose exponentials are summed together; also the vocabulary entries that a draw walks
/// through one by one.
const BLOCK: usize = 64;
/// How many tokens a truncated distribution is assumed to keep at first.
const FIRST_GUESS: usize = 64;

/// Rows do not know of one another, so that the threads among which they are divided do not matter.
pub(super) fn draw(rows: &[DrawRow<'_, Buffer>]) -> Vec<Result<Drawn, BadLogit>> {
    rows.par_iter().map(draw_row).collect()
}

fn draw_row(row: &DrawRow<'_, Buffer>) -> Result<Drawn, BadLogit> {
    let at = row.logits.rows;
    let logits = &row.logits.buffer[at.offset..][..at.width];
    let shaped = shaped(logits, row);
    let (id, logprob) = choose(shaped.as_deref().unwrap_or(logits), &row.choice)?;
    let report = row.likeliest.and_then(|likeliest| report(logits, id, likeliest).ok());
    Ok(Drawn { id, logprob, report })
}

/// The logits after all that changes them; `None` where nothing does.
fn shaped(logits: &[f32], row: &DrawRow<'_, Buffer>) -> Option<Vec<f32>> {
    if row.added.is_empty() && row.allowed.is_none() {
        return None;
    }
    let mut shaped = logits.to_vec();
    for &(id, added) in &row.added {
        shaped[id as usize] += added;
    }
    if let Some(allowed) = &row.allowed {
        for (_, logit) in shaped.iter_mut().enumerate().filter(|(id, _)| !allowed.contains(*id)) {
            *logit = f32::NEG_INFINITY;
        }
        // What was added may have left nothing of what is allowed.
        if shaped.iter().all(|&logit| logit == f32::NEG_INFINITY) {
            allowed.otherwise.iter().for_each(|&id| shaped[id as usize] = 0.0);
        }
    }
    Some(shaped)
}

/// A token from `logits[V]`, and its log-probability.
fn choose(logits: &[f32], choice: &Choice) -> Result<(u32, f64), BadLogit> {
    let highest = highest(logits)?;
    let greedy = choice.temperature == 0.0;
    let softmax = Softmax::new(logits, highest, if greedy { 1.0 } else { choice.temperature });
    let id = if greedy {
        first_equal(logits, highest)
    } else if keeps_all(choice) {
        softmax.at(choice.uniform * softmax.total)
    } else {
        truncated(&softmax, choice, choice.uniform)
    };
    Ok((id, softmax.logprob(id)))
}

/// A token, and the `n` likeliest, at temperature 1.
fn report(logits: &[f32], id: u32, n: usize) -> Result<TokenReport, BadLogit> {
    let softmax = Softmax::new(logits, highest(logits)?, 1.0);
    let mut likeliest = Vec::new();
    if 0 < n {
        let candidate = |(id, &logit): (usize, &f32)| Candidate { logit, id: id as u32 };
        let mut all: Vec<_> = logits.iter().enumerate().map(candidate).collect();
        sort_front(&mut all, n);
        likeliest.extend(all.iter().take(n).map(|of| (of.id, softmax.logprob(of.id))));
    }
    Ok(TokenReport { logprob: softmax.logprob(id), likeliest })
}

fn keeps_all(choice: &Choice) -> bool {
    choice.top_p >= 1.0 && choice.top_k.is_none() && choice.min_p <= 0.0
}

/// The largest logit.
fn highest(logits: &[f32]) -> Result<f32, BadLogit> {
    let highest = largest(logits);
    let is_bad = |value: f32| value.is_nan() || value == f32::INFINITY;
    if is_bad(highest) {
        let id = logits.iter().position(|&value| is_bad(value)).expect("one of them is bad");
        return Err(BadLogit { id, value: logits[id] });
    }
    if highest == f32::NEG_INFINITY {
        return Err(BadLogit { id: 0, value: highest });
    }
    Ok(highest)
}

/// Where `value`, one of the logits, comes first.
fn first_equal(logits: &[f32], value: f32) -> u32 {
    logits.iter().position(|&logit| logit == value).expect("it is one of them") as u32
}

/// The tempered distribution of a row: weight i is e^{(logitᵢ − highest)/temperature}.
struct Softmax<'a> {
    logits: &'a [f32],
    highest: f64,
    rate: f64,
    /// The sum of the weights of each block.
    blocks: Vec<f64>,
    /// The sum of all weights, at least 1.
    total: f64,
}

impl<'a> Softmax<'a> {
    fn new(logits: &'a [f32], highest: f32, temperature: f64) -> Self {
        // A temperature whose reciprocal overflows is as good as 0, but 0·∞ would be NaN.
        let (highest, rate) = (f64::from(highest), temperature.recip().min(f64::MAX));
        let mut blocks = vec![0.0; logits.len().div_ceil(BLOCK)];
        sums_of_exponentials(logits, (highest, rate), BLOCK, &mut blocks);
        let total = blocks.iter().sum();
        Self { logits, highest, rate, blocks, total }
    }

    /// The difference is taken first: it is exact where logits are close, whatever the temperature.
    #[inline]
    fn exponent(&self, logit: f32) -> f64 {
        (f64::from(logit) - self.highest) * self.rate
    }

    #[inline]
    fn weight(&self, logit: f32) -> f64 {
        exp_nonpositive(self.exponent(logit))
    }

    fn logprob(&self, id: u32) -> f64 {
        self.exponent(self.logits[id as usize]) - self.total.ln()
    }

    /// The token in whose part of 0 .. total `target` lies, tokens in the order of their ids.
    fn at(&self, target: f64) -> u32 {
        let last_block = self.blocks.iter().rposition(|&sum| sum > 0.0).expect("the total is ≥ 1");
        let (mut block, mut before) = (0, 0.0);
        while block < last_block && before + self.blocks[block] <= target {
            before += self.blocks[block];
            block += 1;
        }
        let (mut cumulative, mut chosen) = (before, block * BLOCK);
        for (id, &logit) in self.logits.iter().enumerate().skip(block * BLOCK).take(BLOCK) {
            let weight = self.weight(logit);
            cumulative += weight;
            if weight > 0.0 {
                // A block's sum and the sums of its parts can differ in their last digits: a target
                // beyond the parts falls to the last token with a weight.
                chosen = id;
                if target < cumulative {
                    break;
                }
            }
        }
        chosen as u32
    }
}

/// A token that may be kept.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    logit: f32,
    id: u32,
}

/// Likelier first, lower ids first among equals.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "what sorting wants")]
fn by_likelihood(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// Moves the `n` likeliest to the front, in order; nothing else is sorted.
fn sort_front(candidates: &mut [Candidate], n: usize) {
    if n < candidates.len() {
        candidates.select_nth_unstable_by(n, by_likelihood);
    }
    let n = n.min(candidates.len());
    candidates[..n].sort_unstable_by(by_likelihood);
}

/// A token of what top-k, top-p and min-p leave, chosen by `uniform` in [0, 1).
fn truncated(softmax: &Softmax<'_>, choice: &Choice, uniform: f64) -> u32 {
    let kept = kept(softmax, choice);
    let total: f64 = kept.iter().map(|&(_, weight)| weight).sum();
    let mut cumulative = 0.0;
    for &(id, weight) in &kept {
        cumulative += weight;
        if uniform * total < cumulative {
            return id;
        }
    }
    kept.last().expect("the likeliest token is kept").0
}

/// The kept tokens and their weights, likeliest first.
///
/// All three cuts keep a beginning of the tokens in order of likelihood, and the shortest counts.
fn kept(softmax: &Softmax<'_>, choice: &Choice) -> Vec<(u32, f64)> {
    let mut candidates = candidates(softmax, choice);
    let mut mass = softmax.total;
    if let Some(k) = choice.top_k.filter(|&k| k < softmax.logits.len()) {
        if k < candidates.len() {
            candidates.select_nth_unstable_by(k, by_likelihood);
            candidates.truncate(k);
        }
        mass = candidates.iter().map(|candidate| softmax.weight(candidate.logit)).sum();
    }
    let enough = if choice.top_p < 1.0 { choice.top_p * mass } else { f64::INFINITY };
    let (mut kept, mut cumulative) = (Vec::new(), 0.0);
    let mut sorted = 0;
    while sorted < candidates.len() {
        let rest = &mut candidates[sorted..];
        let n = rest.len().min(sorted.max(FIRST_GUESS));
        sort_front(rest, n);
        for candidate in &rest[..n] {
            let weight = softmax.weight(candidate.logit);
            let enough_before = cumulative >= enough || weight < choice.min_p || weight <= 0.0;
            if enough_before && !kept.is_empty() {
                return kept;
            }
            kept.push((candidate.id, weight));
            cumulative += weight;
        }
        sorted += n;
    }
    kept
}

/// The tokens that can be kept, found without sorting.
///
/// Without top-k, tokens lighter than (1 − p)·total/V sum to less than (1 − p)·total, so top-p is
/// satisfied before it comes to them. With top-k, what top-p is measured against is not known yet.
fn candidates(softmax: &Softmax<'_>, choice: &Choice) -> Vec<Candidate> {
    let limits_by_count = choice.top_k.is_some_and(|k| k < softmax.logits.len());
    let lightest = if limits_by_count {
        0.0
    } else {
        let tail = (1.0 - choice.top_p) * softmax.total / softmax.logits.len() as f64;
        // Half of it, to be far from what rounding could do.
        (0.5 * tail).max(0.5 * choice.min_p)
    };
    let lowest = softmax.highest + lightest.ln() / softmax.rate;
    let candidate = |(id, &logit): (usize, &f32)| {
        (f64::from(logit) >= lowest).then_some(Candidate { logit, id: id as u32 })
    };
    softmax.logits.iter().enumerate().filter_map(candidate).collect()
}

#[cfg(test)]
mod tests;
