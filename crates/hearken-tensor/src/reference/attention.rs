//! Softmax attention: for each row and head, over the list of keys that the row sees.

use super::rows::softcap;
use super::{CachePlan, Values, bf16};
use crate::device::{Attention, Cache, CacheMut, Heads, Precision, QkvLayout};
use crate::forest::Forest;

/// The rows that each row sees, in order of position.
fn seen(forest: &Forest, window: Option<usize>) -> Vec<Vec<usize>> {
    let mut seen = vec![Vec::new(); forest.rows()];
    for (index, segment) in forest.segments().iter().enumerate() {
        let path: Vec<usize> =
            forest.path(index).iter().flat_map(|&s| forest.segments()[s].rows()).collect();
        for (i, row) in segment.rows().enumerate() {
            let until = segment.first_position + i + 1;
            let from = window.map_or(0, |window| until.saturating_sub(window));
            seen[row] = path[from..until].to_vec();
        }
    }
    seen
}

fn start(layout: QkvLayout, heads: Heads, row: usize, head: usize) -> usize {
    row * layout.row_stride + heads.offset + head * heads.head_stride
}

fn head(qkv: &Values, layout: QkvLayout, heads: Heads, row: usize, head: usize) -> &[f64] {
    &qkv.0[start(layout, heads, row, head)..][..layout.head_dim]
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// What the softmax sees of a product of a query and a key, and the derivative.
fn score(attention: Attention, product: f64) -> (f64, f64) {
    let scale = f64::from(attention.scale);
    let (score, slope) = softcap(attention.softcap, scale * product);
    (score, slope * scale)
}

/// Probabilities of scores, and ln Σ e^score.
fn softmax(scores: &[f64]) -> (Vec<f64>, f64) {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let ln_sum = max + scores.iter().map(|score| (score - max).exp()).sum::<f64>().ln();
    (scores.iter().map(|score| (score - ln_sum).exp()).collect(), ln_sum)
}

pub(super) fn forward(
    qkv: &Values,
    layout: QkvLayout,
    forest: &Forest,
    attention: Attention,
    out: &mut Values,
    log_sum_exp: &mut Values,
) {
    let (heads, d) = (layout.query.heads, layout.head_dim);
    for (row, keys) in seen(forest, attention.window).iter().enumerate() {
        for query in 0..heads {
            let group = query * layout.key.heads / heads;
            let q = head(qkv, layout, layout.query, row, query);
            let key = |&key: &usize| head(qkv, layout, layout.key, key, group);
            let score = |k: &usize| score(attention, dot(q, key(k))).0;
            let scores: Vec<f64> = keys.iter().map(score).collect();
            let (weights, ln_sum) = softmax(&scores);
            log_sum_exp.0[row * heads + query] = ln_sum;
            for i in 0..d {
                let value = |&key: &usize| head(qkv, layout, layout.value, key, group)[i];
                let weighted = keys.iter().zip(&weights).map(|(key, weight)| weight * value(key));
                out.0[(row * heads + query) * d + i] = weighted.sum();
            }
        }
    }
}

/// ```text
/// dp_j = do·v_j    ds_j = p_j·(dp_j − Σ_k p_k·dp_k)·scale, times the slope of a cap
/// dv_j += p_j·do    dk_j += ds_j·q    dq += ds_j·k_j
/// ```
pub(super) fn backward(
    qkv: &Values,
    layout: QkvLayout,
    forest: &Forest,
    attention: Attention,
    dout: &Values,
    dqkv: &mut Values,
) {
    let (heads, d) = (layout.query.heads, layout.head_dim);
    for row in 0..forest.rows() {
        for part in [layout.query, layout.key, layout.value] {
            for head in 0..part.heads {
                dqkv.0[start(layout, part, row, head)..][..d].fill(0.0);
            }
        }
    }
    for (row, keys) in seen(forest, attention.window).iter().enumerate() {
        for query in 0..heads {
            let group = query * layout.key.heads / heads;
            let q = head(qkv, layout, layout.query, row, query);
            let dout = &dout.0[(row * heads + query) * d..][..d];
            let key = |key: usize| head(qkv, layout, layout.key, key, group);
            let value = |key: usize| head(qkv, layout, layout.value, key, group);
            let score = |&k: &usize| score(attention, dot(q, key(k)));
            let (scores, slopes): (Vec<f64>, Vec<f64>) = keys.iter().map(score).unzip();
            let (weights, _) = softmax(&scores);
            let dweights: Vec<f64> = keys.iter().map(|&k| dot(dout, value(k))).collect();
            let mean = dot(&weights, &dweights);
            let given = weights.iter().zip(&dweights).zip(&slopes);
            for (&k, ((weight, dweight), slope)) in keys.iter().zip(given) {
                let dscore = weight * (dweight - mean) * slope;
                for i in 0..d {
                    dqkv.0[start(layout, layout.value, k, group) + i] += weight * dout[i];
                    dqkv.0[start(layout, layout.key, k, group) + i] += dscore * q[i];
                    dqkv.0[start(layout, layout.query, row, query) + i] += dscore * key(k)[i];
                }
            }
        }
    }
}

/// Where the key, or value, of a slot begins.
fn slot(layout: QkvLayout, page_len: usize, slot: usize, group: usize) -> usize {
    let (page, position) = (slot / page_len, slot % page_len);
    ((page * layout.key.heads + group) * page_len + position) * layout.head_dim
}

pub(super) fn cache_write(
    qkv: &Values,
    layout: QkvLayout,
    rows: &CachePlan,
    cache: CacheMut<'_, Values>,
) {
    assert_eq!(cache.page_len, rows.page_len, "the plan is for this cache");
    for (row, slots) in rows.slots.iter().enumerate() {
        let own = *slots.last().expect("a row sees itself");
        for group in 0..layout.key.heads {
            let at = slot(layout, rows.page_len, own, group);
            let parts = [(layout.key, &mut *cache.keys), (layout.value, &mut *cache.values)];
            for (heads, kept) in parts {
                let from = head(qkv, layout, heads, row, group);
                for (to, &value) in kept.0[at..at + layout.head_dim].iter_mut().zip(from) {
                    *to = match cache.precision {
                        Precision::F32 => value,
                        Precision::Bf16 => bf16(value),
                    };
                }
            }
        }
    }
}

pub(super) fn cached(
    qkv: &Values,
    layout: QkvLayout,
    cache: &Cache<'_, Values>,
    rows: &CachePlan,
    attention: Attention,
    out: &mut Values,
) {
    let (heads, d) = (layout.query.heads, layout.head_dim);
    for (row, slots) in rows.slots.iter().enumerate() {
        let first = attention.window.map_or(0, |window| slots.len().saturating_sub(window));
        for query in 0..heads {
            let group = query * layout.key.heads / heads;
            let q = head(qkv, layout, layout.query, row, query);
            let at = |&index: &usize| slot(layout, rows.page_len, index, group);
            let key = |index: &usize| &cache.keys.0[at(index)..][..d];
            let seen = &slots[first..];
            let score = |k: &usize| score(attention, dot(q, key(k))).0;
            let scores: Vec<f64> = seen.iter().map(score).collect();
            let (weights, _) = softmax(&scores);
            for i in 0..d {
                let value = |index: &usize| cache.values.0[at(index) + i];
                let weighted =
                    seen.iter().zip(&weights).map(|(index, weight)| weight * value(index));
                out.0[(row * heads + query) * d + i] = weighted.sum();
            }
        }
    }
}
