//! The backward pass of attention over a forest. Probabilities are recomputed tile by tile from the
//! log-sum-exp of the forward pass.
//!
//! ```text
//! p_ij = e^(scale·q_i·k_j − lse_i)     δ_i = Σ_d do_id·o_id     ds_ij = p_ij·(do_i·v_j − δ_i)·scale
//! dv_j = Σ_i p_ij·do_i     dk_j = Σ_i ds_ij·q_i     dq_i = Σ_j ds_ij·k_j
//! ```
//!
//! Under a cap c, p has c·tanh(scale·q·k/c) in place of scale·q·k, and ds a factor 1 − tanh².
//!
//! One task is one tree and one key/value head, so every sum belongs to one thread.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::attention::{
    ForestPlan, Span, TILE, check, head, pack_columns, pack_rows, padded, sees, visible,
};
use super::buffer::{Buffer, BufferPool};
use super::lanes::{Kernel, LANES, Lanes, dispatch, exp};
use super::rows::SharedElements;
use super::softcap::Softcap;
use super::tile::Tile;
use crate::device::{Attention, Heads, QkvLayout};

/// What the backward pass reads.
#[derive(Clone, Copy)]
pub(crate) struct Saved<'a> {
    pub(crate) qkv: &'a [f32],
    pub(crate) out: &'a [f32],
    pub(crate) log_sum_exp: &'a [f32],
    pub(crate) dout: &'a [f32],
}

/// Overwrites the query, key and value parts of `dqkv`.
pub(crate) fn attention_backward(
    pool: &Arc<BufferPool>,
    saved: Saved<'_>,
    layout: QkvLayout,
    plan: &ForestPlan,
    attention: Attention,
    dqkv: &mut Buffer,
) {
    let (rows, heads) = (plan.rows, layout.query.heads);
    check(saved.qkv, layout, rows);
    check(dqkv, layout, rows);
    assert_eq!(saved.out.len(), rows * heads * layout.head_dim, "out: {rows} rows of all heads");
    assert_eq!(saved.dout.len(), saved.out.len(), "out and its gradient: one length");
    assert_eq!(saved.log_sum_exp.len(), rows * heads, "log_sum_exp: {rows} rows of all heads");
    let ForestPlan { spans, paths, trees, .. } = plan;
    let dqkv = SharedElements::new(dqkv);
    let groups = layout.key.heads;
    (0..trees.len() * groups).into_par_iter().for_each(|task| {
        let tree_spans: Vec<Span> = trees[task / groups]
            .iter()
            .flat_map(|&segment| spans.all[spans.of_segment[segment].clone()].iter().copied())
            .collect();
        if !tree_spans.is_empty() {
            let work = BackwardTask { saved, layout, attention, paths, dqkv };
            work.task(pool, &tree_spans, task % groups);
        }
    });
}

struct BackwardTask<'a> {
    saved: Saved<'a>,
    layout: QkvLayout,
    attention: Attention,
    paths: &'a [Vec<usize>],
    dqkv: SharedElements<'a>,
}

/// Queries, their gradients and those of the outputs, for one head over one tree; `[rows, width]`.
struct QueryHead {
    q: Buffer,
    dout: Buffer,
    dq: Buffer,
    delta: Buffer,
    log_sum_exp: Buffer,
}

/// Scratch for one pair of tiles.
struct TilePair {
    /// p, then ds.
    weights: Buffer,
    /// do·vᵀ, then ds.
    slopes: Buffer,
}

/// One tile of keys and values with its gradients.
struct KeyTile {
    key_columns: Buffer,
    value_columns: Buffer,
    key_rows: Buffer,
    dkey: Buffer,
    dvalue: Buffer,
}

impl BackwardTask<'_> {
    fn task(&self, pool: &Arc<BufferPool>, spans: &[Span], group: usize) {
        let (layout, width) = (self.layout, padded(self.layout.head_dim));
        let per_group = layout.query.heads / layout.key.heads;
        // Where each span's rows start in the task's own matrices.
        let starts: Vec<usize> = spans
            .iter()
            .scan(0, |next, span| {
                let start = *next;
                *next += span.len;
                Some(start)
            })
            .collect();
        let mut heads: Vec<QueryHead> = (group * per_group..(group + 1) * per_group)
            .map(|query_head| self.query_head(pool, spans, query_head))
            .collect();
        let square = || Buffer::scratch(pool, TILE * TILE);
        let mut pair = TilePair { weights: square(), slopes: square() };
        let columns = || Buffer::scratch(pool, width * TILE);
        let rows = || Buffer::scratch(pool, TILE * width);
        let mut tile = KeyTile {
            key_columns: columns(),
            value_columns: columns(),
            key_rows: rows(),
            dkey: rows(),
            dvalue: rows(),
        };
        for keys in spans {
            self.load_keys(keys, group, &mut tile);
            for (queries, &start) in spans.iter().zip(&starts) {
                if self.paths[queries.segment].contains(&keys.segment)
                    && sees(queries, keys, self.attention.window)
                {
                    for head in &mut heads {
                        self.pair(queries, keys, start, head, &mut tile, &mut pair);
                    }
                }
            }
            self.store(keys, layout.key, group, &tile.dkey);
            self.store(keys, layout.value, group, &tile.dvalue);
        }
        for (head, query_head) in heads.iter().zip(group * per_group..) {
            for (span, &start) in spans.iter().zip(&starts) {
                self.store(span, layout.query, query_head, &head.dq[start * width..]);
            }
        }
    }

    fn query_head(&self, pool: &Arc<BufferPool>, spans: &[Span], query_head: usize) -> QueryHead {
        let (layout, width) = (self.layout, padded(self.layout.head_dim));
        let (heads, d) = (layout.query.heads, layout.head_dim);
        let rows: usize = spans.iter().map(|span| span.len).sum();
        let batch_rows = || spans.iter().flat_map(|span| span.start..span.start + span.len);
        let mut q = Buffer::scratch(pool, rows * width);
        let queries =
            batch_rows().map(|row| head(self.saved.qkv, layout, layout.query, row, query_head));
        pack_rows(queries, 1.0, width, &mut q);
        let mut dout = Buffer::scratch(pool, rows * width);
        let at = |row: usize| (row * heads + query_head) * d..(row * heads + query_head + 1) * d;
        pack_rows(batch_rows().map(|row| &self.saved.dout[at(row)]), 1.0, width, &mut dout);
        let mut delta = Buffer::scratch(pool, rows);
        let mut log_sum_exp = Buffer::scratch(pool, rows);
        for (i, row) in batch_rows().enumerate() {
            delta[i] = dispatch(Dot { a: &self.saved.dout[at(row)], b: &self.saved.out[at(row)] });
            log_sum_exp[i] = self.saved.log_sum_exp[row * heads + query_head];
        }
        QueryHead { q, dout, dq: Buffer::zeros(pool, rows * width), delta, log_sum_exp }
    }

    fn load_keys(&self, keys: &Span, group: usize, tile: &mut KeyTile) {
        let (layout, width) = (self.layout, padded(self.layout.head_dim));
        let key = |i: usize| head(self.saved.qkv, layout, layout.key, keys.start + i, group);
        let value = |i: usize| head(self.saved.qkv, layout, layout.value, keys.start + i, group);
        pack_columns(key, keys.len, &mut tile.key_columns);
        pack_columns(value, keys.len, &mut tile.value_columns);
        pack_rows((0..keys.len).map(key), 1.0, width, &mut tile.key_rows);
        tile.dkey.fill(0.0);
        tile.dvalue.fill(0.0);
    }

    /// One tile of queries against one of keys.
    fn pair(
        &self,
        queries: &Span,
        keys: &Span,
        start: usize,
        head: &mut QueryHead,
        tile: &mut KeyTile,
        pair: &mut TilePair,
    ) {
        let (d, width) = (self.layout.head_dim, padded(self.layout.head_dim));
        let (m, n) = (queries.len, keys.len);
        let at = start * width..(start + m) * width;
        let (q, dout) = (&head.q[at.clone()], &head.dout[at.clone()]);
        scores_of(q, width, &tile.key_columns, d, (m, n), &mut pair.weights);
        scores_of(dout, width, &tile.value_columns, d, (m, n), &mut pair.slopes);
        dispatch(ScoreGrads {
            weights: &mut pair.weights,
            slopes: &mut pair.slopes,
            queries,
            keys,
            attention: self.attention,
            log_sum_exp: &head.log_sum_exp[start..start + m],
            delta: &head.delta[start..start + m],
        });
        add_transposed(&pair.weights, dout, width, (m, n), &mut tile.dvalue);
        add_transposed(&pair.slopes, q, width, (m, n), &mut tile.dkey);
        add_product(&pair.slopes, &tile.key_rows, width, (m, n), &mut head.dq[at]);
    }

    /// Writes a head of a span's rows.
    fn store(&self, span: &Span, heads: Heads, index: usize, from: &[f32]) {
        let (layout, width) = (self.layout, padded(self.layout.head_dim));
        for i in 0..span.len {
            let row = (span.start + i) * layout.row_stride;
            let start = row + heads.offset + index * heads.head_stride;
            // SAFETY: each (row, head) belongs to one task.
            let to = unsafe { self.dqkv.slice(start, layout.head_dim) };
            to.copy_from_slice(&from[i * width..][..layout.head_dim]);
        }
    }
}

/// Σ a·b.
struct Dot<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl Kernel for Dot<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Lanes>(self) -> f32 {
        let (a, a_rest) = self.a.as_chunks::<LANES>();
        let (b, b_rest) = self.b.as_chunks::<LANES>();
        let mut sum = S::load_partial(a_rest).mul(S::load_partial(b_rest));
        for (a, b) in a.iter().zip(b) {
            sum = S::load(a).mul_add(S::load(b), sum);
        }
        sum.sum()
    }
}

/// Scores to probabilities, and do·vᵀ to ds; 0 where a query does not see a key.
struct ScoreGrads<'a> {
    weights: &'a mut [f32],
    slopes: &'a mut [f32],
    queries: &'a Span,
    keys: &'a Span,
    attention: Attention,
    log_sum_exp: &'a [f32],
    delta: &'a [f32],
}

impl Kernel for ScoreGrads<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let columns = self.keys.len.next_multiple_of(LANES);
        let scale = S::splat(self.attention.scale);
        let softcap = self.attention.softcap.map(Softcap::new);
        for i in 0..self.queries.len {
            let position = self.queries.position + i;
            let range: Range<usize> = visible(self.keys, position, self.attention.window);
            let weights = &mut self.weights[i * TILE..][..columns];
            let slopes = &mut self.slopes[i * TILE..][..columns];
            let (shift, delta) = (S::splat(self.log_sum_exp[i]), S::splat(self.delta[i]));
            let chunks = weights.as_chunks_mut::<LANES>().0.iter_mut();
            for (weight, slope) in chunks.zip(slopes.as_chunks_mut::<LANES>().0) {
                let score = S::load(weight).mul(scale);
                let bounded = match softcap {
                    Some(softcap) => softcap.of(score),
                    None => score,
                };
                let p = exp(bounded.sub(shift));
                p.store(weight);
                let ds = p.mul(S::load(slope).sub(delta)).mul(scale);
                match softcap {
                    Some(softcap) => ds.mul(softcap.slope(bounded)).store(slope),
                    None => ds.store(slope),
                }
            }
            for values in [weights, slopes] {
                values[..range.start].fill(0.0);
                values[range.end..].fill(0.0);
            }
        }
    }
}

/// `scores[m, TILE] = q·keysᵀ` for packed queries and keys, up to whole lanes.
fn scores_of(
    q: &[f32],
    width: usize,
    keys: &[f32],
    head_dim: usize,
    (m, n): (usize, usize),
    scores: &mut [f32],
) {
    let n = n.next_multiple_of(LANES);
    assert!(q.len() >= m * width && keys.len() >= head_dim * TILE && scores.len() >= m * TILE);
    assert!(head_dim <= width && n <= TILE);
    let tile = Tile {
        a: q.as_ptr(),
        a_row: width,
        a_inner: 1,
        b: keys.as_ptr(),
        b_inner: TILE,
        c: scores.as_mut_ptr(),
        c_row: TILE,
        m,
        n,
        k: head_dim,
        add: false,
    };
    // SAFETY: the lengths are asserted above.
    unsafe { tile.run() }
}

/// `sums[n, width] += weights[m, TILE]ᵀ·rows[m, width]`.
fn add_transposed(
    weights: &[f32],
    rows: &[f32],
    width: usize,
    (m, n): (usize, usize),
    sums: &mut [f32],
) {
    assert!(weights.len() >= m * TILE && rows.len() >= m * width && sums.len() >= n * width);
    assert!(n <= TILE);
    let tile = Tile {
        a: weights.as_ptr(),
        a_row: 1,
        a_inner: TILE,
        b: rows.as_ptr(),
        b_inner: width,
        c: sums.as_mut_ptr(),
        c_row: width,
        m: n,
        n: width,
        k: m,
        add: true,
    };
    // SAFETY: the lengths are asserted above.
    unsafe { tile.run() }
}

/// `sums[m, width] += weights[m, TILE]·rows[n, width]`.
fn add_product(
    weights: &[f32],
    rows: &[f32],
    width: usize,
    (m, n): (usize, usize),
    sums: &mut [f32],
) {
    assert!(weights.len() >= m * TILE && rows.len() >= n * width && sums.len() >= m * width);
    assert!(n <= TILE);
    let tile = Tile {
        a: weights.as_ptr(),
        a_row: TILE,
        a_inner: 1,
        b: rows.as_ptr(),
        b_inner: width,
        c: sums.as_mut_ptr(),
        c_row: width,
        m,
        n: width,
        k: n,
        add: true,
    };
    // SAFETY: the lengths are asserted above.
    unsafe { tile.run() }
}
