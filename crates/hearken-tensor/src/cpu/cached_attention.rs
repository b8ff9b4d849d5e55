//! Attention of decoding: one row of queries at a time over keys and values in pages.

use rayon::prelude::*;

use super::attention::{check, head};
use super::buffer::Buffer;
use super::lanes::{Kernel, LANES, Lanes, dispatch, exp};
use super::rows::Shared;
use crate::device::{Attention, Cache, CachedRow, QkvLayout};

/// Copies the keys and values of each row to its slot.
pub(crate) fn cache_write(
    qkv: &Buffer,
    layout: QkvLayout,
    slots: &[u32],
    keys: &mut Buffer,
    values: &mut Buffer,
) {
    check(qkv, layout, slots.len());
    let (groups, d) = (layout.key.heads, layout.head_dim);
    for (row, &slot) in slots.iter().enumerate() {
        for group in 0..groups {
            let at = (slot as usize * groups + group) * d..(slot as usize * groups + group + 1) * d;
            keys[at.clone()].copy_from_slice(head(qkv, layout, layout.key, row, group));
            values[at].copy_from_slice(head(qkv, layout, layout.value, row, group));
        }
    }
}

/// `out[rows, H·D]`.
pub(crate) fn attention_cached(
    qkv: &Buffer,
    layout: QkvLayout,
    cache: &Cache<'_, Buffer>,
    rows: &[CachedRow<'_>],
    attention: Attention,
    out: &mut Buffer,
) {
    check(qkv, layout, rows.len());
    let (heads, groups, d) = (layout.query.heads, layout.key.heads, layout.head_dim);
    assert_eq!(out.len(), rows.len() * heads * d, "out: a row of {heads} heads for each row");
    for row in rows {
        let seen = row.position as usize + 1;
        assert!(seen <= row.pages.len() * cache.page_len, "pages reach position {}", row.position);
    }
    let out = Shared::new(out);
    let per_group = heads / groups.max(1);
    (0..rows.len() * groups).into_par_iter().with_min_len(2).for_each(|task| {
        let (row, group) = (task / groups, task % groups);
        for query_head in group * per_group..(group + 1) * per_group {
            // SAFETY: each (row, head) belongs to one task.
            let out = unsafe { out.slice((row * heads + query_head) * d, d) };
            let query = head(qkv, layout, layout.query, row, query_head);
            dispatch(OneQuery { query, cache, row: rows[row], group, groups, attention, out });
        }
    });
}

/// One query head over the positions that it sees, with an online softmax over blocks.
struct OneQuery<'a> {
    query: &'a [f32],
    cache: &'a Cache<'a, Buffer>,
    row: CachedRow<'a>,
    group: usize,
    groups: usize,
    attention: Attention,
    out: &'a mut [f32],
}

impl OneQuery<'_> {
    /// Where the head of a position starts in the cache.
    #[inline(always)]
    fn at(&self, position: usize) -> usize {
        let page = self.row.pages[position / self.cache.page_len] as usize;
        let slot = page * self.cache.page_len + position % self.cache.page_len;
        (slot * self.groups + self.group) * self.query.len()
    }
}

impl Kernel for OneQuery<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let d = self.query.len();
        let end = self.row.position as usize + 1;
        let first = self.attention.window.map_or(0, |window| end.saturating_sub(window));
        let (mut max, mut total) = (f32::NEG_INFINITY, 0.0_f32);
        self.out.fill(0.0);
        let mut start = first;
        while start < end {
            let len = (end - start).min(LANES);
            let mut scores = [f32::NEG_INFINITY; LANES];
            for i in 0..len {
                let at = self.at(start + i);
                scores[i] = dot::<S>(self.query, &self.cache.keys[at..at + d]) * self.attention.scale;
            }
            let block = S::load(&scores);
            let block_max = block.max_element();
            if block_max > max {
                let factor = (max - block_max).exp();
                total *= factor;
                scale::<S>(self.out, factor);
                max = block_max;
            }
            let weights = exp(block.sub(S::splat(max)));
            total += weights.sum();
            weights.store(&mut scores);
            for i in 0..len {
                let at = self.at(start + i);
                add_scaled::<S>(&self.cache.values[at..at + d], scores[i], self.out);
            }
            start += len;
        }
        scale::<S>(self.out, 1.0 / total);
    }
}

#[inline(always)]
fn dot<S: Lanes>(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sum = S::load_partial(a_rest).mul(S::load_partial(b_rest));
    for (a, b) in a.iter().zip(b) {
        sum = S::load(a).mul_add(S::load(b), sum);
    }
    sum.sum()
}

#[inline(always)]
fn scale<S: Lanes>(values: &mut [f32], factor: f32) {
    let (chunks, rest) = values.as_chunks_mut::<LANES>();
    for chunk in chunks {
        S::load(chunk).mul(S::splat(factor)).store(chunk);
    }
    rest.iter_mut().for_each(|value| *value *= factor);
}

#[inline(always)]
fn add_scaled<S: Lanes>(from: &[f32], factor: f32, to: &mut [f32]) {
    let (from, from_rest) = from.as_chunks::<LANES>();
    let (to, to_rest) = to.as_chunks_mut::<LANES>();
    for (from, to) in from.iter().zip(to) {
        S::load(from).mul_add(S::splat(factor), S::load(to)).store(to);
    }
    to_rest.iter_mut().zip(from_rest).for_each(|(to, from)| *to += factor * from);
}
