//! Softmax attention over a forest, forward: tiles of queries against tiles of keys with an online
//! softmax (Milakov and Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135).

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::buffer::{Buffer, Pool};
use super::lanes::{Kernel, LANES, Lanes, dispatch, exp};
use super::rows::Shared;
use super::tile::Tile;
use crate::device::{Attention, Heads, QkvLayout};
use crate::forest::Forest;

/// Queries, and keys, per tile.
pub(crate) const TILE: usize = 64;

/// Consecutive rows of one segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) segment: usize,
    /// First row in the batch.
    pub(crate) start: usize,
    pub(crate) len: usize,
    /// Position of the first row.
    pub(crate) position: usize,
}

/// The rows of every segment in tiles of at most [`TILE`].
pub(crate) struct Spans {
    pub(crate) all: Vec<Span>,
    /// The spans of each segment.
    pub(crate) of_segment: Vec<Range<usize>>,
}

impl Spans {
    pub(crate) fn new(forest: &Forest) -> Self {
        let mut spans = Self { all: Vec::new(), of_segment: Vec::new() };
        for (index, segment) in forest.segments().iter().enumerate() {
            let first = spans.all.len();
            for done in (0..segment.len).step_by(TILE) {
                spans.all.push(Span {
                    segment: index,
                    start: segment.start + done,
                    len: (segment.len - done).min(TILE),
                    position: segment.first_position + done,
                });
            }
            spans.of_segment.push(first..spans.all.len());
        }
        spans
    }
}

/// The keys of a span that its queries see: for the query at `position`, the columns of a range.
pub(crate) fn visible(keys: &Span, position: usize, window: Option<usize>) -> Range<usize> {
    let end = (position + 1).saturating_sub(keys.position).min(keys.len);
    let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
    first.saturating_sub(keys.position).min(end)..end
}

/// Whether any query of one span sees any key of the other, the keys lying on the queries' path.
pub(crate) fn sees(queries: &Span, keys: &Span, window: Option<usize>) -> bool {
    let last = queries.position + queries.len - 1;
    // The first query reaches back farthest, the last one forward.
    let reach = window.map_or(0, |window| (queries.position + 1).saturating_sub(window));
    keys.position <= last && reach < keys.position + keys.len
}

/// Checks the layout against the buffer.
pub(crate) fn check(qkv: &[f32], layout: QkvLayout, rows: usize) {
    for (name, heads) in [("query", layout.query), ("key", layout.key), ("value", layout.value)] {
        let last = heads.offset + heads.heads.saturating_sub(1) * heads.head_stride;
        let end = last + layout.head_dim;
        assert!(end <= layout.row_stride, "{name} heads end at {end} of {}", layout.row_stride);
    }
    assert_eq!(qkv.len(), rows * layout.row_stride, "qkv: {rows} rows of {}", layout.row_stride);
    assert_eq!(layout.key.heads, layout.value.heads, "as many key heads as value heads");
    assert!(layout.query.heads.is_multiple_of(layout.key.heads.max(1)), "equal groups of heads");
}

/// The elements of one head in one row.
pub(crate) fn head(
    qkv: &[f32],
    layout: QkvLayout,
    heads: Heads,
    row: usize,
    head: usize,
) -> &[f32] {
    let start = row * layout.row_stride + heads.offset + head * heads.head_stride;
    &qkv[start..start + layout.head_dim]
}

/// Head widths are padded with zeros to whole lanes.
pub(crate) fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(LANES)
}

/// Writes `factor` times a head of each row of a span as rows of `out`, padded.
pub(crate) fn pack_rows(
    rows: impl Iterator<Item = impl AsRef<[f32]>>,
    factor: f32,
    width: usize,
    out: &mut [f32],
) {
    for (row, out) in rows.zip(out.chunks_exact_mut(width)) {
        let row = row.as_ref();
        for (out, value) in out.iter_mut().zip(row) {
            *out = value * factor;
        }
        out[row.len()..].fill(0.0);
    }
}

/// Writes a head of each row as columns of `out[D][TILE]`; columns beyond the rows are zeroed up
/// to whole lanes.
pub(crate) fn pack_columns<'a>(row: impl Fn(usize) -> &'a [f32], len: usize, out: &mut [f32]) {
    for first in (0..len).step_by(LANES) {
        let rows = std::array::from_fn(|i| if first + i < len { row(first + i) } else { &[] });
        dispatch(Columns { rows, out: &mut out[first..] });
    }
}

/// At most sixteen rows as columns; rows that are missing are empty.
struct Columns<'a> {
    rows: [&'a [f32]; LANES],
    out: &'a mut [f32],
}

impl Kernel for Columns<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let width = self.rows[0].len();
        for first in (0..width).step_by(LANES) {
            let mut block = [S::splat(0.0); LANES];
            for (block, row) in block.iter_mut().zip(self.rows) {
                let row = &row[first.min(row.len())..];
                *block = match row.first_chunk::<LANES>() {
                    Some(chunk) => S::load(chunk),
                    None => S::load_partial(row),
                };
            }
            let block = S::transpose(&block);
            for (i, column) in block.into_iter().enumerate().take(width - first) {
                if let Some(out) = self.out[(first + i) * TILE..].first_chunk_mut::<LANES>() {
                    column.store(out);
                }
            }
        }
    }
}

/// Keys as columns and values as rows, one block for each (key/value head, span).
struct PackedKeys {
    keys: Buffer,
    values: Buffer,
    key_block: usize,
    value_block: usize,
    spans: usize,
}

impl PackedKeys {
    fn new(pool: &Arc<Pool>, qkv: &[f32], layout: QkvLayout, spans: &[Span]) -> Self {
        let width = padded(layout.head_dim);
        let (key_block, value_block) = (layout.head_dim * TILE, width * TILE);
        let blocks = spans.len() * layout.key.heads;
        let mut keys = Buffer::scratch(pool, blocks * key_block);
        let mut values = Buffer::scratch(pool, blocks * value_block);
        keys.par_chunks_exact_mut(key_block.max(1))
            .zip(values.par_chunks_exact_mut(value_block.max(1)))
            .enumerate()
            .with_min_len(4)
            .for_each(|(block, (keys, values))| {
                let (group, span) = (block / spans.len(), &spans[block % spans.len()]);
                let key = |i: usize| head(qkv, layout, layout.key, span.start + i, group);
                pack_columns(key, span.len, keys);
                let rows = (span.start..span.start + span.len)
                    .map(|row| head(qkv, layout, layout.value, row, group));
                pack_rows(rows, 1.0, width, values);
            });
        Self { keys, values, key_block, value_block, spans: spans.len() }
    }

    fn key(&self, group: usize, span: usize) -> &[f32] {
        &self.keys[(group * self.spans + span) * self.key_block..][..self.key_block]
    }

    fn value(&self, group: usize, span: usize) -> &[f32] {
        &self.values[(group * self.spans + span) * self.value_block..][..self.value_block]
    }
}

/// `out[T, H·D]` and `log_sum_exp[T, H]`.
pub(crate) fn attention(
    pool: &Arc<Pool>,
    qkv: &Buffer,
    layout: QkvLayout,
    forest: &Forest,
    attention: Attention,
    (out, log_sum_exp): (&mut Buffer, &mut Buffer),
) {
    let (rows, heads) = (forest.rows(), layout.query.heads);
    check(qkv, layout, rows);
    assert_eq!(out.len(), rows * heads * layout.head_dim, "out: {rows} rows of {heads} heads");
    assert_eq!(log_sum_exp.len(), rows * heads, "log_sum_exp: {rows} rows of {heads} heads");
    let spans = Spans::new(forest);
    let packed = PackedKeys::new(pool, qkv, layout, &spans.all);
    let paths: Vec<Vec<usize>> = (0..forest.segments().len()).map(|s| forest.path(s)).collect();
    let forward = Forward {
        pool,
        qkv,
        layout,
        attention,
        spans: &spans,
        paths: &paths,
        packed: &packed,
        out: Shared::new(out),
        log_sum_exp: Shared::new(log_sum_exp),
    };
    (0..spans.all.len() * heads)
        .into_par_iter()
        .for_each(|task| forward.task(task / heads, task % heads));
}

struct Forward<'a> {
    pool: &'a Arc<Pool>,
    qkv: &'a [f32],
    layout: QkvLayout,
    attention: Attention,
    spans: &'a Spans,
    paths: &'a [Vec<usize>],
    packed: &'a PackedKeys,
    out: Shared<'a>,
    log_sum_exp: Shared<'a>,
}

impl Forward<'_> {
    /// One span of queries and one head.
    fn task(&self, query_span: usize, query_head: usize) {
        let (layout, queries) = (self.layout, &self.spans.all[query_span]);
        let group = query_head * layout.key.heads / layout.query.heads;
        let width = padded(layout.head_dim);
        let mut scratch = Buffer::scratch(self.pool, TILE * (2 * width + TILE));
        let (q, rest) = scratch.split_at_mut(TILE * width);
        let (sums, scores) = rest.split_at_mut(TILE * width);
        sums.fill(0.0);
        let rows = (queries.start..queries.start + queries.len)
            .map(|row| head(self.qkv, layout, layout.query, row, query_head));
        pack_rows(rows, self.attention.scale, width, q);
        let mut running = Running::new();
        for &segment in &self.paths[queries.segment] {
            for key_span in self.spans.of_segment[segment].clone() {
                let keys = &self.spans.all[key_span];
                if sees(queries, keys, self.attention.window) {
                    let key = self.packed.key(group, key_span);
                    scores_of(q, width, key, layout.head_dim, (queries.len, keys.len), scores);
                    dispatch(SoftmaxTile {
                        scores,
                        queries,
                        keys,
                        window: self.attention.window,
                        running: &mut running,
                        sums: &mut *sums,
                        width,
                    });
                    let value = self.packed.value(group, key_span);
                    add_values(scores, value, width, (queries.len, keys.len), sums);
                }
            }
        }
        self.finish(queries, query_head, &running, sums);
    }

    fn finish(&self, queries: &Span, query_head: usize, running: &Running, sums: &[f32]) {
        let (heads, d) = (self.layout.query.heads, self.layout.head_dim);
        let width = padded(d);
        for i in 0..queries.len {
            let row = queries.start + i;
            let total = running.total[i];
            // SAFETY: each (row, head) belongs to one task.
            let (out, log_sum_exp) = unsafe {
                let index = row * heads + query_head;
                (self.out.slice(index * d, d), self.log_sum_exp.slice(index, 1))
            };
            for (out, sum) in out.iter_mut().zip(&sums[i * width..]) {
                *out = sum / total;
            }
            log_sum_exp[0] = running.max[i] + total.ln();
        }
    }
}

/// `scores[m, TILE] = q·keysᵀ` for packed queries and keys, up to whole lanes.
pub(crate) fn scores_of(
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

/// `sums[m, width] += weights[m, TILE]·values[n, width]`.
fn add_values(
    weights: &[f32],
    values: &[f32],
    width: usize,
    (m, n): (usize, usize),
    sums: &mut [f32],
) {
    assert!(weights.len() >= m * TILE && values.len() >= n * width && sums.len() >= m * width);
    assert!(n <= TILE);
    let tile = Tile {
        a: weights.as_ptr(),
        a_row: TILE,
        a_inner: 1,
        b: values.as_ptr(),
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

/// What the softmax of each query has seen so far.
struct Running {
    max: [f32; TILE],
    total: [f32; TILE],
}

impl Running {
    fn new() -> Self {
        Self { max: [f32::NEG_INFINITY; TILE], total: [0.0; TILE] }
    }
}

/// Turns scores into e^(score − max), and rescales what was summed under a smaller maximum.
struct SoftmaxTile<'a> {
    scores: &'a mut [f32],
    queries: &'a Span,
    keys: &'a Span,
    window: Option<usize>,
    running: &'a mut Running,
    sums: &'a mut [f32],
    width: usize,
}

impl Kernel for SoftmaxTile<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let columns = self.keys.len.next_multiple_of(LANES);
        for i in 0..self.queries.len {
            let range = visible(self.keys, self.queries.position + i, self.window);
            let scores = &mut self.scores[i * TILE..][..columns];
            if range.is_empty() {
                scores.fill(0.0);
                continue;
            }
            scores[..range.start].fill(f32::NEG_INFINITY);
            scores[range.end..].fill(f32::NEG_INFINITY);
            let scores = scores.as_chunks_mut::<LANES>().0;
            let mut max = S::splat(f32::NEG_INFINITY);
            for chunk in scores.iter() {
                max = S::load(chunk).max(max);
            }
            let before = self.running.max[i];
            let max = max.max_element().max(before);
            let mut total = S::splat(0.0);
            for chunk in scores.iter_mut() {
                let weight = exp(S::load(chunk).sub(S::splat(max)));
                total = total.add(weight);
                weight.store(chunk);
            }
            if max > before {
                let factor = (before - max).exp();
                self.running.total[i] *= factor;
                let sums = &mut self.sums[i * self.width..][..self.width];
                for chunk in sums.as_chunks_mut::<LANES>().0 {
                    S::load(chunk).mul(S::splat(factor)).store(chunk);
                }
                self.running.max[i] = max;
            }
            self.running.total[i] += total.sum();
        }
    }
}
