//! Tokens drawn as the definition reads: the whole distribution, sorted where anything is cut off.

use super::Values;
use crate::draw::{BadLogit, Choice, DrawRow, Drawn, TokenReport};

pub(super) fn draw(row: &DrawRow<'_, Values>) -> Result<Drawn, BadLogit> {
    let logits = row.logits.buffer.row(row.logits.rows, 0);
    let mut shaped = logits.to_vec();
    for &(id, added) in &row.added {
        shaped[id as usize] += f64::from(added);
    }
    if let Some(allowed) = &row.allowed {
        for id in 0..shaped.len() {
            if !allowed.contains(id) {
                shaped[id] = f64::NEG_INFINITY;
            }
        }
        if shaped.iter().all(|&logit| logit == f64::NEG_INFINITY) {
            allowed.otherwise.iter().for_each(|&id| shaped[id as usize] = 0.0);
        }
    }
    let Choice { temperature, .. } = row.choice;
    let probabilities = softmax(&shaped, if temperature == 0.0 { 1.0 } else { temperature })?;
    let id = chosen(&shaped, &probabilities, &row.choice);
    let report = row.likeliest.and_then(|n| report(logits, id, n).ok());
    Ok(Drawn { id: id as u32, logprob: probabilities[id].ln(), report })
}

/// The distribution at a temperature.
fn softmax(logits: &[f64], temperature: f64) -> Result<Vec<f64>, BadLogit> {
    let is_bad = |value: f64| value.is_nan() || value == f64::INFINITY;
    let bad = logits.iter().position(|&logit| is_bad(logit));
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let bad = bad.or((highest == f64::NEG_INFINITY).then_some(0));
    if let Some(id) = bad {
        return Err(BadLogit { id, value: logits[id] as f32 });
    }
    let rate = temperature.recip().min(f64::MAX);
    let weights: Vec<f64> = logits.iter().map(|&l| ((l - highest) * rate).exp()).collect();
    let total: f64 = weights.iter().sum();
    Ok(weights.iter().map(|weight| weight / total).collect())
}

/// Token ids, likelier ones first.
fn by_likelihood(logits: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    order
}

fn chosen(logits: &[f64], probabilities: &[f64], choice: &Choice) -> usize {
    let order = by_likelihood(logits);
    if choice.temperature == 0.0 {
        return order[0];
    }
    let cuts = choice.top_p < 1.0 || choice.top_k.is_some() || choice.min_p > 0.0;
    let mut kept = if cuts { order.clone() } else { (0..logits.len()).collect() };
    if cuts {
        kept.truncate(choice.top_k.unwrap_or(kept.len()));
        let mass: f64 = kept.iter().map(|&id| probabilities[id]).sum();
        let (mut cumulative, mut n) = (0.0, 0);
        while n < kept.len() && (n == 0 || cumulative < choice.top_p * mass) {
            cumulative += probabilities[kept[n]];
            n += 1;
        }
        kept.truncate(if choice.top_p < 1.0 { n } else { kept.len() });
        let least = choice.min_p * probabilities[order[0]];
        kept.retain(|&id| id == order[0] || probabilities[id] >= least);
    }
    kept.retain(|&id| probabilities[id] > 0.0);
    let total: f64 = kept.iter().map(|&id| probabilities[id]).sum();
    let mut cumulative = 0.0;
    for &id in &kept {
        cumulative += probabilities[id];
        if choice.uniform * total < cumulative {
            return id;
        }
    }
    *kept.last().expect("the likeliest token is kept")
}

fn report(logits: &[f64], id: usize, n: usize) -> Result<TokenReport, BadLogit> {
    let probabilities = softmax(logits, 1.0)?;
    let of = |id: usize| (id as u32, probabilities[id].ln());
    let likeliest = by_likelihood(logits).into_iter().take(n).map(of).collect();
    Ok(TokenReport { logprob: probabilities[id].ln(), likeliest })
}
