//! Softmax attention over a forest, forward: tiles of queries against blocks of keys with an online
//! softmax (Milakov and Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135).
//!
//! A row's result depends on its position, on the keys and values by position and on the window
//! alone, to the last bit, not on the segments that the path is cut into; attention over a cache
//! gives the same. Both take positions in blocks from multiples of 64, each block with one maximum;
//! a score is summed in the order of [`super::lanes::SUM_ORDER`], values in order of position.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::attention_span::{KeyBlock, ROWS, SpanAttention};
use super::buffer::{Buffer, BufferPool};
use super::lanes::{Kernel, LANES, Lanes, dispatch};
use super::rows::SharedElements;
use super::softcap::Softcap;
use super::softmax::{BLOCK, Online};
use crate::device::{Attention, Heads, QkvLayout};
use crate::forest::Forest;

/// Queries, and keys, per tile.
pub(crate) const TILE: usize = BLOCK;

/// Consecutive rows of one segment within one block of positions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) segment: usize,
    /// First row in the batch.
    pub(crate) start: usize,
    pub(crate) len: usize,
    /// Position of the first row.
    pub(crate) position: usize,
}

/// What attention reads of a forest, found once for all layers and both directions.
#[derive(Debug)]
pub struct ForestPlan {
    pub(crate) rows: usize,
    pub(crate) spans: Spans,
    blocks: Blocks,
    /// The segments from the root down to each, itself included.
    pub(crate) paths: Vec<Vec<usize>>,
    pub(crate) trees: Vec<Vec<usize>>,
}

impl ForestPlan {
    pub(crate) fn new(forest: &Forest) -> Self {
        let spans = Spans::new(forest);
        let blocks = Blocks::new(forest, &spans);
        let paths = (0..forest.segments().len()).map(|segment| forest.path(segment)).collect();
        Self { rows: forest.rows(), spans, blocks, paths, trees: forest.trees() }
    }
}

/// The rows of every segment, cut at multiples of [`TILE`] in position.
#[derive(Debug)]
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
            let end = segment.first_position + segment.len;
            let mut position = segment.first_position;
            while position < end {
                let next = (position / TILE * TILE + TILE).min(end);
                spans.all.push(Span {
                    segment: index,
                    start: segment.start + position - segment.first_position,
                    len: next - position,
                    position,
                });
                position = next;
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

/// Writes a head of each row as columns of `out[width, TILE]`, the width padded with zeros; columns
/// beyond the rows are zeroed up to whole lanes.
pub(crate) fn pack_columns<'a>(row: impl Fn(usize) -> &'a [f32], len: usize, out: &mut [f32]) {
    for first in (0..len).step_by(LANES) {
        let rows = std::array::from_fn(|i| if first + i < len { row(first + i) } else { &[] });
        dispatch(QueryColumns { rows, out: &mut out[first..] });
    }
}

/// At most sixteen rows as columns; rows that are missing are empty.
struct QueryColumns<'a> {
    rows: [&'a [f32]; LANES],
    out: &'a mut [f32],
}

impl Kernel for QueryColumns<'_> {
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
            for (i, column) in block.into_iter().enumerate() {
                if let Some(out) = self.out[(first + i) * TILE..].first_chunk_mut::<LANES>() {
                    column.store(out);
                }
            }
        }
    }
}

/// Which rows of the batch lie in each block of positions, along the path of each segment.
#[derive(Debug)]
struct Blocks {
    /// For each span the rows at the positions from the start of its block to its own end: those of
    /// its ancestors in this block, then its own.
    rows: Vec<Vec<usize>>,
    /// For each segment, by blocks of its path, the span that reaches farthest.
    of_segment: Vec<Vec<usize>>,
}

impl Blocks {
    fn new(forest: &Forest, spans: &Spans) -> Self {
        let mut blocks = Self { rows: Vec::new(), of_segment: Vec::new() };
        for (segment, own) in forest.segments().iter().zip(&spans.of_segment) {
            let mut path = match segment.parent {
                Some(parent) => blocks.of_segment[parent].clone(),
                None => Vec::new(),
            };
            for index in own.clone() {
                let span = &spans.all[index];
                let mut rows = Vec::with_capacity(BLOCK);
                if !span.position.is_multiple_of(BLOCK) {
                    let above = path.pop().expect("invariant: a path has no gaps");
                    rows.extend(&blocks.rows[above]);
                }
                rows.extend(span.start..span.start + span.len);
                blocks.rows.push(rows);
                path.push(index);
            }
            blocks.of_segment.push(path);
        }
        blocks
    }
}

/// Keys as columns and values as rows, one block for each (key/value head, span).
struct PackedKeys {
    keys: Buffer,
    values: Buffer,
    /// Elements.
    block: usize,
}

impl PackedKeys {
    fn new(pool: &Arc<BufferPool>, qkv: &[f32], layout: QkvLayout, blocks: &Blocks) -> Self {
        let (width, spans) = (padded(layout.head_dim), blocks.rows.len());
        let block = width * BLOCK;
        let mut keys = Buffer::scratch(pool, spans * layout.key.heads * block);
        let mut values = Buffer::scratch(pool, spans * layout.key.heads * block);
        keys.par_chunks_exact_mut(block.max(1))
            .zip(values.par_chunks_exact_mut(block.max(1)))
            .enumerate()
            .with_min_len(4)
            .for_each(|(index, (keys, values))| {
                let (group, rows) = (index / spans, &blocks.rows[index % spans]);
                let key = |i: usize| head(qkv, layout, layout.key, rows[i], group);
                pack_columns(key, rows.len(), keys);
                let rows = rows.iter().map(|&row| head(qkv, layout, layout.value, row, group));
                pack_rows(rows, 1.0, width, values);
            });
        Self { keys, values, block }
    }
}

/// `out[T, H·D]` and `log_sum_exp[T, H]`.
pub(crate) fn attention(
    pool: &Arc<BufferPool>,
    qkv: &Buffer,
    layout: QkvLayout,
    plan: &ForestPlan,
    attention: Attention,
    out: &mut Buffer,
    log_sum_exp: &mut Buffer,
) {
    let (rows, heads) = (plan.rows, layout.query.heads);
    check(qkv, layout, rows);
    assert_eq!(out.len(), rows * heads * layout.head_dim, "out: {rows} rows of {heads} heads");
    assert_eq!(log_sum_exp.len(), rows * heads, "log_sum_exp: {rows} rows of {heads} heads");
    let ForestPlan { spans, blocks, .. } = plan;
    let packed = PackedKeys::new(pool, qkv, layout, blocks);
    let forward = Forward {
        qkv,
        layout,
        attention,
        spans: &spans.all,
        blocks,
        packed: &packed,
        out: SharedElements::new(out),
        log_sum_exp: SharedElements::new(log_sum_exp),
    };
    // One for all tasks that a thread takes at a time: the pool has a lock.
    let scratch = || Buffer::scratch(pool, 2 * TILE * padded(layout.head_dim));
    (0..spans.all.len() * heads)
        .into_par_iter()
        .for_each_init(scratch, |scratch, task| forward.task(task / heads, task % heads, scratch));
}

struct Forward<'a> {
    qkv: &'a [f32],
    layout: QkvLayout,
    attention: Attention,
    spans: &'a [Span],
    blocks: &'a Blocks,
    packed: &'a PackedKeys,
    out: SharedElements<'a>,
    log_sum_exp: SharedElements<'a>,
}

impl Forward<'_> {
    /// One span of queries and one head; `scratch` is for [`TILE`] queries and their sums.
    fn task(&self, query_span: usize, query_head: usize, scratch: &mut [f32]) {
        let (layout, queries) = (self.layout, self.spans[query_span]);
        let group = query_head * layout.key.heads / layout.query.heads;
        let width = padded(layout.head_dim);
        let (q, sums) = scratch.split_at_mut(TILE * width);
        let rows = (queries.start..queries.start + queries.len)
            .map(|row| head(self.qkv, layout, layout.query, row, query_head));
        pack_rows(rows, self.attention.scale, width, q);
        q[queries.len * width..queries.len.next_multiple_of(ROWS) * width].fill(0.0);
        sums[..queries.len * width].fill(0.0);
        let mut softmax = [Online::new(); BLOCK];
        let path = &self.blocks.of_segment[queries.segment];
        dispatch(SpanAttention {
            queries,
            window: self.attention.window,
            softcap: self.attention.softcap.map(Softcap::new),
            q,
            width,
            block: |index| self.block(group, path[index]),
            softmax: &mut softmax,
            sums: &mut *sums,
        });
        self.finish(&queries, query_head, &softmax, sums);
    }

    fn block(&self, group: usize, span: usize) -> KeyBlock<'_> {
        let start = (group * self.spans.len() + span) * self.packed.block;
        let end = start + self.packed.block;
        let (keys, values) = (&self.packed.keys[start..end], &self.packed.values[start..end]);
        KeyBlock { keys, values, len: self.blocks.rows[span].len() }
    }

    fn finish(&self, queries: &Span, query_head: usize, softmax: &[Online], sums: &[f32]) {
        let (heads, d) = (self.layout.query.heads, self.layout.head_dim);
        let width = padded(d);
        for i in 0..queries.len {
            let row = queries.start + i;
            let Online { max, total } = softmax[i];
            let factor = 1.0 / total;
            // SAFETY: each (row, head) belongs to one task.
            let (out, log_sum_exp) = unsafe {
                let index = row * heads + query_head;
                (self.out.slice(index * d, d), self.log_sum_exp.slice(index, 1))
            };
            for (out, sum) in out.iter_mut().zip(&sums[i * width..]) {
                *out = sum * factor;
            }
            log_sum_exp[0] = max + total.ln();
        }
    }
}
