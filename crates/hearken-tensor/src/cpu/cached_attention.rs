//! Attention of decoding and of prompts: rows of queries over keys and values in pages.
//!
//! A row's result has the same bits as that of attention over a forest, which says what the order of
//! its sums depends on. Rows of one sequence share what they read, without a change in any bit.

use std::ops::Range;

use super::attention::{check, head};
use super::buffer::Buffer;
use super::lanes::{Kernel, LANES, Lanes, dispatch};
use super::rounding;
use super::rows::{SharedElements, for_chunks};
use super::softcap::Softcap;
use super::softmax::{BLOCK, Online};
use crate::device::{Attention, Cache, CacheMut, CachedRow, Precision, QkvLayout};

/// Rows of sequences in a cache.
#[derive(Debug)]
pub struct CachePlan {
    page_len: usize,
    /// The pages of the sequences, one after the other.
    pages: Vec<u32>,
    rows: Vec<PlannedRow>,
    /// Neighboring rows of one sequence, at most [`RUN`], which are computed together.
    runs: Vec<Range<usize>>,
    /// The slot of each row, `page·page_len + offset`.
    slots: Vec<u32>,
}

/// One row of queries.
#[derive(Clone, Debug)]
struct PlannedRow {
    /// Where its pages lie among those of all sequences.
    pages: Range<usize>,
    position: usize,
}

impl CachePlan {
    pub(crate) fn new(rows: &[CachedRow<'_>], page_len: usize) -> Self {
        let mut plan = Self {
            page_len,
            pages: Vec::new(),
            rows: Vec::with_capacity(rows.len()),
            runs: Vec::new(),
            slots: Vec::with_capacity(rows.len()),
        };
        for (index, row) in rows.iter().enumerate() {
            let position = row.position as usize;
            let used = (position + 1).div_ceil(page_len);
            assert!(used <= row.pages.len(), "pages reach position {position}");
            let page = row.pages[position / page_len];
            plan.slots.push(page * page_len as u32 + (position % page_len) as u32);
            let before = index.checked_sub(1).map(|before| rows[before].pages);
            let pages = if before.is_some_and(|before| std::ptr::eq(before, row.pages)) {
                plan.rows[index - 1].pages.clone()
            } else {
                let start = plan.pages.len();
                plan.pages.extend(row.pages);
                start..plan.pages.len()
            };
            let shares =
                |run: &Range<usize>| run.len() < RUN && plan.rows[run.start].pages == pages;
            match plan.runs.last_mut() {
                Some(run) if shares(run) => run.end = index + 1,
                _ => plan.runs.push(index..index + 1),
            }
            plan.rows.push(PlannedRow { pages, position });
        }
        plan
    }
}

/// Copies the keys and values of each row to its slot.
pub(crate) fn cache_write(
    qkv: &Buffer,
    layout: QkvLayout,
    plan: &CachePlan,
    cache: CacheMut<'_, Buffer>,
) {
    let slots = plan.slots.as_slice();
    check(qkv, layout, slots.len());
    let groups = layout.key.heads;
    let CacheMut { keys, values, page_len, precision } = cache;
    assert_eq!(page_len, plan.page_len, "the plan is for a cache of such pages");
    assert_eq!(keys.len(), values.len(), "keys and values: one length");
    let places = Places { page_len, groups, words: head_words(layout.head_dim, precision) };
    let (keys, values) = (SharedElements::new(keys), SharedElements::new(values));
    for_chunks(groups, 2 * slots.len() * layout.head_dim, |groups| {
        dispatch(CacheWrite { qkv, layout, slots, keys, values, places, precision, groups });
    });
}

/// Keys and values of some heads on their way to their slots.
struct CacheWrite<'a> {
    qkv: &'a [f32],
    layout: QkvLayout,
    slots: &'a [u32],
    keys: SharedElements<'a>,
    values: SharedElements<'a>,
    places: Places,
    precision: Precision,
    groups: Range<usize>,
}

impl Kernel for CacheWrite<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let Self { qkv, layout, places, .. } = self;
        for (row, &slot) in self.slots.iter().enumerate() {
            let (page, position) =
                (slot as usize / places.page_len, slot as usize % places.page_len);
            for group in self.groups.clone() {
                let at = places.at(page, group, position);
                let parts = [(layout.key, self.keys), (layout.value, self.values)];
                for (heads, cache) in parts {
                    let from = head(qkv, layout, heads, row, group);
                    // SAFETY: each head's places belong to one task, and are taken one at a time.
                    let to = unsafe { cache.slice(at, places.words) };
                    match self.precision {
                        Precision::F32 => to.copy_from_slice(from),
                        Precision::Bf16 => rounding::Pack { values: from, words: to }.run::<S>(),
                    }
                }
            }
        }
    }
}

/// Elements of a buffer that one key or value of one head takes: one for each of its elements, or for
/// two of them that are rounded to bfloat16.
pub(crate) fn head_words(head_dim: usize, precision: Precision) -> usize {
    match precision {
        Precision::F32 => head_dim,
        Precision::Bf16 => head_dim.div_ceil(2),
    }
}

/// Where keys and values lie in the buffers of a cache.
#[derive(Clone, Copy)]
struct Places {
    page_len: usize,
    groups: usize,
    /// Elements of a buffer for one key or value of one head.
    words: usize,
}

impl Places {
    #[inline(always)]
    fn at(self, page: usize, group: usize, position: usize) -> usize {
        ((page * self.groups + group) * self.page_len + position) * self.words
    }
}

/// Rows of one sequence that are computed together.
const RUN: usize = 16;

/// `out[rows, H·D]`.
pub(crate) fn attention_cached(
    qkv: &Buffer,
    layout: QkvLayout,
    cache: &Cache<'_, Buffer>,
    plan: &CachePlan,
    attention: Attention,
    out: &mut Buffer,
) {
    let CachePlan { rows, runs, .. } = plan;
    check(qkv, layout, rows.len());
    assert_eq!(cache.page_len, plan.page_len, "the plan is for a cache of such pages");
    let (heads, groups, d) = (layout.query.heads, layout.key.heads, layout.head_dim);
    assert_eq!(out.len(), rows.len() * heads * d, "out: a row of {heads} heads for each row");
    assert_eq!(cache.keys.len(), cache.values.len(), "keys and values: one length");
    let places = Places { page_len: cache.page_len, groups, words: head_words(d, cache.precision) };
    let pages = cache.keys.len() / places.at(1, 0, 0).max(1);
    let mut seen = 0;
    for row in rows {
        let end = row.position + 1;
        let used = &plan.pages[row.pages.clone()][..end.div_ceil(cache.page_len)];
        assert!(used.iter().all(|&page| (page as usize) < pages), "{pages} pages");
        seen += attention.window.map_or(end, |window| window.min(end));
    }
    let out = SharedElements::new(out);
    let work = CachedTask { qkv, layout, cache, places, plan, attention, out };
    // Two products with each key and value seen.
    let elements = seen * 2 * heads * d / (runs.len() * groups).max(1);
    for_chunks(runs.len() * groups, elements, |tasks| {
        for task in tasks {
            if let Some(run) = runs.get((task + 1) / groups) {
                work.prefetch(run.clone(), (task + 1) % groups);
            }
            work.run(runs[task / groups].clone(), task % groups);
        }
    });
}

struct CachedTask<'a> {
    qkv: &'a [f32],
    layout: QkvLayout,
    cache: &'a Cache<'a, Buffer>,
    places: Places,
    plan: &'a CachePlan,
    attention: Attention,
    out: SharedElements<'a>,
}

impl CachedTask<'_> {
    /// Asks for the first keys of a task: where a sequence begins in the cache, the processor cannot
    /// foresee.
    fn prefetch(&self, rows: Range<usize>, group: usize) {
        let keys = self.keys(rows.start, group);
        let end = self.plan.rows[rows.start].position + 1;
        let first = self.attention.window.map_or(0, |window| end.saturating_sub(window));
        dispatch(FirstKeys { keys, positions: first / LANES * LANES..end });
    }

    fn keys(&self, row: usize, group: usize) -> CachedHead<'_> {
        CachedHead {
            cache: self.cache,
            places: self.places,
            pages: &self.plan.pages[self.plan.rows[row].pages.clone()],
            group,
            head_dim: self.layout.head_dim,
        }
    }

    fn run(&self, rows: Range<usize>, group: usize) {
        let (heads, d) = (self.layout.query.heads, self.layout.head_dim);
        let per_group = heads / self.layout.key.heads;
        let query = |index: usize| {
            let row = rows.start + index / per_group;
            let query_head = group * per_group + index % per_group;
            let end = self.plan.rows[row].position + 1;
            let first = self.attention.window.map_or(0, |window| end.saturating_sub(window));
            Query {
                values: head(self.qkv, self.layout, self.layout.query, row, query_head),
                seen: first..end,
                // SAFETY: each (row, head) belongs to one task, and is taken once.
                out: unsafe { self.out.slice((row * heads + query_head) * d, d) },
            }
        };
        let keys = self.keys(rows.start, group);
        let scale = self.attention.scale;
        let softcap = self.attention.softcap.map(Softcap::new);
        // As many as keep their sums in registers.
        let tile = if d > 64 { 2 } else { 4 };
        let count = rows.len() * per_group;
        for first in (0..count).step_by(tile) {
            match (count - first).min(tile) {
                1 => tile_of::<1>(first, &query, keys, scale, softcap),
                2 => tile_of::<2>(first, &query, keys, scale, softcap),
                3 => tile_of::<3>(first, &query, keys, scale, softcap),
                _ => tile_of::<4>(first, &query, keys, scale, softcap),
            }
        }
    }
}

fn tile_of<'a, const M: usize>(
    first: usize,
    query: impl Fn(usize) -> Query<'a>,
    keys: CachedHead<'a>,
    scale: f32,
    softcap: Option<Softcap>,
) {
    let queries = std::array::from_fn::<_, M, _>(|i| query(first + i));
    dispatch(QueryTile { queries, keys, scale, softcap });
}

/// Prefetches the keys of the first of these positions.
struct FirstKeys<'a> {
    keys: CachedHead<'a>,
    positions: Range<usize>,
}

impl Kernel for FirstKeys<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let end = self.positions.end;
        for start in self.positions.step_by(LANES).take(KEYS_AHEAD) {
            self.keys.prefetch::<S>(start, end);
        }
    }
}

/// How many sixteens of keys are asked for before they are needed: memory takes longer to answer than
/// one sixteen takes to compute.
const KEYS_AHEAD: usize = 2;

/// One head of one row.
struct Query<'a> {
    values: &'a [f32],
    /// Positions.
    seen: Range<usize>,
    out: &'a mut [f32],
}

/// One head of the keys and values of a sequence.
#[derive(Clone, Copy)]
struct CachedHead<'a> {
    cache: &'a Cache<'a, Buffer>,
    places: Places,
    pages: &'a [u32],
    group: usize,
    head_dim: usize,
}

impl CachedHead<'_> {
    /// Where each of the positions `start..end` begins, at most sixteen; others repeat the last one.
    #[inline(always)]
    fn chunk(&self, start: usize, end: usize) -> [usize; LANES] {
        let page_len = self.places.page_len;
        let at = |position: usize| {
            let page = self.pages[position / page_len] as usize;
            self.places.at(page, self.group, position % page_len)
        };
        let first = at(start);
        let whole = start % page_len + LANES <= page_len;
        let mut chunk = [first; LANES];
        for i in 1..LANES {
            let position = (start + i).min(end - 1);
            chunk[i] =
                if whole { first + (position - start) * self.places.words } else { at(position) };
        }
        chunk
    }

    /// Asks for sixteen keys from `start` on, as far as there are any before `end`.
    #[inline(always)]
    fn prefetch<S: Lanes>(&self, start: usize, end: usize) {
        if start < end {
            for at in self.chunk(start, end.min(start + LANES)) {
                S::prefetch(&self.cache.keys[at..at + self.places.words]);
            }
        }
    }

    /// The part of the block from `start` on that is seen.
    #[inline(always)]
    fn block(&self, start: usize, seen: &Range<usize>) -> Block {
        let end = seen.end.min(start + BLOCK);
        let first = seen.start.max(start) / LANES * LANES;
        let count = (end - first).div_ceil(LANES);
        let mut at = [[0; LANES]; CHUNKS];
        for (i, at) in at.iter_mut().enumerate().take(count) {
            let start = first + i * LANES;
            *at = self.chunk(start, end.min(start + LANES));
        }
        Block { first, end, count, at }
    }
}

/// Sixteens of positions in a block.
const CHUNKS: usize = BLOCK / LANES;

/// Positions `first..end` of one block, `first` a multiple of sixteen.
struct Block {
    first: usize,
    end: usize,
    /// Number of chunks.
    count: usize,
    /// Where the keys and values of each position begin.
    at: [[usize; LANES]; CHUNKS],
}

impl Block {
    /// What a query that sees `seen` sees of these positions.
    #[inline(always)]
    fn part(&self, seen: &Range<usize>) -> Range<usize> {
        let clip = |position: usize| position.clamp(self.first, self.end) - self.first;
        clip(seen.start)..clip(seen.end)
    }
}

/// M queries over one sequence, with an online softmax.
struct QueryTile<'a, const M: usize> {
    queries: [Query<'a>; M],
    keys: CachedHead<'a>,
    scale: f32,
    softcap: Option<Softcap>,
}

impl<const M: usize> Kernel for QueryTile<'_, M> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        match self.keys.cache.precision {
            Precision::F32 => self.over_kept::<S, Whole>(),
            Precision::Bf16 => self.over_kept::<S, Halves>(),
        }
    }
}

/// How a cache keeps elements.
trait CacheElement {
    /// Elements of a buffer that sixteen take.
    const WORDS: usize;
    /// Sixteen elements.
    fn load<S: Lanes>(words: &[f32]) -> S;
    /// At most sixteen, padded with zeros.
    fn load_partial<S: Lanes>(words: &[f32]) -> S;
}

/// As they are.
struct Whole;

impl CacheElement for Whole {
    const WORDS: usize = LANES;
    #[inline(always)]
    fn load<S: Lanes>(words: &[f32]) -> S {
        S::load(words.first_chunk().expect("invariant: sixteen words"))
    }
    #[inline(always)]
    fn load_partial<S: Lanes>(words: &[f32]) -> S {
        match words.first_chunk() {
            Some(chunk) => S::load(chunk),
            None => S::load_partial(words),
        }
    }
}

/// In bfloat16, two in a word.
struct Halves;

impl CacheElement for Halves {
    const WORDS: usize = LANES / 2;
    #[inline(always)]
    fn load<S: Lanes>(words: &[f32]) -> S {
        S::load_halves(words.first_chunk().expect("invariant: eight words"))
    }
    #[inline(always)]
    fn load_partial<S: Lanes>(words: &[f32]) -> S {
        let mut whole = [0.0; LANES / 2];
        let len = words.len().min(LANES / 2);
        whole[..len].copy_from_slice(&words[..len]);
        S::load_halves(&whole)
    }
}

impl<const M: usize> QueryTile<'_, M> {
    #[inline(always)]
    fn over_kept<S: Lanes, K: CacheElement>(self) {
        // Widths in whole registers get loops of known length.
        match self.keys.head_dim {
            32 => self.over::<S, K, 2>(),
            64 => self.over::<S, K, 4>(),
            128 => self.over::<S, K, 8>(),
            _ => self.over_any::<S, K>(),
        }
    }

    /// The positions that any query sees.
    fn seen(&self) -> Range<usize> {
        let first = self.queries.iter().map(|query| query.seen.start).min().unwrap_or(0);
        let end = self.queries.iter().map(|query| query.seen.end).max().unwrap_or(0);
        first..end
    }

    /// Heads of N registers.
    #[inline(always)]
    fn over<S: Lanes, K: CacheElement, const N: usize>(self) {
        let seen = self.seen();
        let mut q = [[S::splat(0.0); N]; M];
        for m in 0..M {
            for (n, chunk) in self.queries[m].values.as_chunks::<LANES>().0.iter().enumerate() {
                q[m][n] = S::load(chunk).mul(S::splat(self.scale));
            }
        }
        let mut sums = [[S::splat(0.0); N]; M];
        let mut softmax = [Online::new(); M];
        for start in (seen.start / BLOCK * BLOCK..seen.end).step_by(BLOCK) {
            let block = self.keys.block(start, &seen);
            let mut scores = [[[0.0; LANES]; CHUNKS]; M];
            for chunk in 0..block.count {
                // A sequence lies all over the cache, which the processor cannot foresee.
                for i in 0..LANES {
                    let at = block.at[chunk][i];
                    S::prefetch(&self.keys.cache.values[at..at + N * K::WORDS]);
                }
                let ahead = block.first + (chunk + KEYS_AHEAD) * LANES;
                self.keys.prefetch::<S>(ahead, seen.end);
                let products = self.products::<S, K, N>(&q, &block.at[chunk]);
                for m in 0..M {
                    S::sum_each(&products[m]).store(&mut scores[m][chunk]);
                }
            }
            for m in 0..M {
                let part = block.part(&self.queries[m].seen);
                let factor =
                    softmax[m].block::<S>(&mut scores[m][..block.count], part, self.softcap);
                if factor != 1.0 {
                    for n in 0..N {
                        sums[m][n] = sums[m][n].mul(S::splat(factor));
                    }
                }
            }
            // As many sums at a time as there are registers for.
            if S::MANY {
                self.add_values::<S, K, N, N>(&block, &scores, &mut sums);
            } else if M == 1 && N >= 4 {
                self.add_values::<S, K, N, 4>(&block, &scores, &mut sums);
            } else if M <= 2 {
                self.add_values::<S, K, N, 2>(&block, &scores, &mut sums);
            } else {
                self.add_values::<S, K, N, 1>(&block, &scores, &mut sums);
            }
        }
        for m in 0..M {
            let factor = S::splat(1.0 / softmax[m].total);
            let out = self.queries[m].out.as_chunks_mut::<LANES>().0;
            for n in 0..N {
                sums[m][n].mul(factor).store(&mut out[n]);
            }
        }
    }

    /// Adds the weighted values of a block, C registers of a value after the other.
    #[inline(always)]
    fn add_values<S: Lanes, K: CacheElement, const N: usize, const C: usize>(
        &self,
        block: &Block,
        scores: &[[[f32; LANES]; CHUNKS]; M],
        sums: &mut [[S; N]; M],
    ) {
        for first in (0..N).step_by(C) {
            let mut own = [[S::splat(0.0); C]; M];
            for m in 0..M {
                own[m].copy_from_slice(&sums[m][first..first + C]);
            }
            for i in 0..block.end - block.first {
                let at = block.at.as_flattened()[i];
                let value = &self.keys.cache.values[at..][..N * K::WORDS];
                for c in 0..C {
                    let v = K::load::<S>(&value[(first + c) * K::WORDS..]);
                    for m in 0..M {
                        let weight = S::splat(scores[m].as_flattened()[i]);
                        own[m][c] = weight.mul_add(v, own[m][c]);
                    }
                }
            }
            for m in 0..M {
                sums[m][first..first + C].copy_from_slice(&own[m]);
            }
        }
    }

    /// The products of queries with sixteen keys, summed over registers.
    #[inline(always)]
    fn products<S: Lanes, K: CacheElement, const N: usize>(
        &self,
        q: &[[S; N]; M],
        at: &[usize; LANES],
    ) -> [[S; LANES]; M] {
        let mut products = [[S::splat(0.0); LANES]; M];
        for i in 0..LANES {
            let key = &self.keys.cache.keys[at[i]..][..N * K::WORDS];
            let mut k = [S::splat(0.0); N];
            for n in 0..N {
                k[n] = K::load::<S>(&key[n * K::WORDS..]);
            }
            for m in 0..M {
                let mut product = q[m][0].mul(k[0]);
                for n in 1..N {
                    product = q[m][n].mul_add(k[n], product);
                }
                products[m][i] = product;
            }
        }
        products
    }

    /// Heads of any width: the last register is padded with zeros.
    #[inline(always)]
    fn over_any<S: Lanes, K: CacheElement>(self) {
        let words = self.keys.places.words;
        for query in self.queries {
            query.out.fill(0.0);
            let mut softmax = Online::new();
            let seen = query.seen;
            for start in (seen.start / BLOCK * BLOCK..seen.end).step_by(BLOCK) {
                let block = self.keys.block(start, &seen);
                let mut scores = [[0.0; LANES]; CHUNKS];
                for (scores, at) in scores.iter_mut().zip(&block.at).take(block.count) {
                    let mut products = [S::splat(0.0); LANES];
                    for (n, q) in query.values.chunks(LANES).enumerate() {
                        let q_lanes = load_chunk::<S>(q).mul(S::splat(self.scale));
                        for i in 0..LANES {
                            let key = &self.keys.cache.keys[at[i]..][..words][n * K::WORDS..];
                            products[i] = q_lanes.mul_add(K::load_partial::<S>(key), products[i]);
                        }
                    }
                    S::sum_each(&products).store(scores);
                }
                let part = block.part(&seen);
                let factor = softmax.block::<S>(&mut scores[..block.count], part, self.softcap);
                if factor != 1.0 {
                    scale::<S>(query.out, factor);
                }
                let places = block.at.as_flattened().iter().take(block.end - block.first);
                for (&at, &weight) in places.zip(scores.as_flattened()) {
                    add_scaled::<S, K>(&self.keys.cache.values[at..at + words], weight, query.out);
                }
            }
            scale::<S>(query.out, 1.0 / softmax.total);
        }
    }
}

/// At most sixteen elements, padded with zeros.
#[inline(always)]
fn load_chunk<S: Lanes>(values: &[f32]) -> S {
    match values.first_chunk::<LANES>() {
        Some(chunk) => S::load(chunk),
        None => S::load_partial(values),
    }
}

#[inline(always)]
fn scale<S: Lanes>(values: &mut [f32], factor: f32) {
    let (chunks, rest) = values.as_chunks_mut::<LANES>();
    for chunk in chunks {
        S::load(chunk).mul(S::splat(factor)).store(chunk);
    }
    for value in rest {
        *value *= factor;
    }
}

#[inline(always)]
fn add_scaled<S: Lanes, K: CacheElement>(from: &[f32], factor: f32, to: &mut [f32]) {
    let (to, to_rest) = to.as_chunks_mut::<LANES>();
    let mut from = from.chunks(K::WORDS);
    for to in to {
        let from = K::load::<S>(from.next().expect("invariant: as wide as the sum"));
        from.mul_add(S::splat(factor), S::load(to)).store(to);
    }
    if let Some(from) = from.next() {
        let from = K::load_partial::<S>(from);
        from.mul_add(S::splat(factor), S::load_partial(to_rest)).store_partial(to_rest);
    }
}
