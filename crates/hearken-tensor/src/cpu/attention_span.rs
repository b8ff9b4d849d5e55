//! The kernel of attention's forward pass: one span of queries against the blocks of its path.

use super::attention::Span;
use super::lanes::{Kernel, LANES, Lanes, SUM_ORDER};
use super::softcap::Softcap;
use super::softmax::{BLOCK, Online};
use super::tile::Tile;

/// Queries that are computed together.
pub(crate) const ROWS: usize = 4;

/// The keys and values of one block of positions.
pub(crate) struct KeyBlock<'a> {
    /// `[width, BLOCK]`; columns beyond the block's rows are zeros up to whole lanes.
    pub(crate) keys: &'a [f32],
    /// `[BLOCK, width]`.
    pub(crate) values: &'a [f32],
    /// Number of positions.
    pub(crate) len: usize,
}

/// Attention of the rows of one span, which lies within a block, for one head.
pub(crate) struct SpanAttention<'a, F> {
    pub(crate) queries: Span,
    pub(crate) window: Option<usize>,
    pub(crate) softcap: Option<Softcap>,
    /// Scaled, `[queries, width]`, the number of rows a multiple of [`ROWS`].
    pub(crate) q: &'a [f32],
    /// The head's width in whole lanes.
    pub(crate) width: usize,
    /// The block of the positions from `index·BLOCK` along the span's path.
    pub(crate) block: F,
    pub(crate) softmax: &'a mut [Online; BLOCK],
    /// Σ weight·value, `[queries, width]`, not yet divided by the totals.
    pub(crate) sums: &'a mut [f32],
}

/// Scores of [`ROWS`] queries, one for each level of the sum over lanes; the lowest one also holds
/// the final scores and the weights.
#[repr(align(64))]
struct SpanScores([[[f32; BLOCK]; ROWS]; LANES.ilog2() as usize]);

impl<'a, F: Fn(usize) -> KeyBlock<'a>> Kernel for SpanAttention<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(mut self) {
        let queries = self.queries;
        assert!(queries.position % BLOCK + queries.len <= BLOCK, "a span lies within a block");
        assert!(self.q.len() >= queries.len.next_multiple_of(ROWS) * self.width);
        assert!(self.sums.len() >= queries.len * self.width);
        let mut scores = SpanScores([[[0.0; BLOCK]; ROWS]; _]);
        let reach = self.window.map_or(0, |window| (queries.position + 1).saturating_sub(window));
        for index in reach / BLOCK..=queries.position / BLOCK {
            let block = (self.block)(index);
            for row in (0..queries.len).step_by(ROWS) {
                self.rows::<S>(index * BLOCK, &block, row, &mut scores);
            }
        }
    }
}

impl<F> SpanAttention<'_, F> {
    /// The queries from `row` on against a block whose first position is `start`.
    #[inline(always)]
    fn rows<S: Lanes>(
        &mut self,
        start: usize,
        block: &KeyBlock<'_>,
        row: usize,
        scores: &mut SpanScores,
    ) {
        let (width, rows) = (self.width, (self.queries.len - row).min(ROWS));
        let end_of = |i: usize| (self.queries.position + row + i + 1 - start).min(BLOCK);
        let start_of = |i: usize| {
            let end = self.queries.position + row + i + 1;
            let first = self.window.map_or(0, |window| end.saturating_sub(window));
            first.saturating_sub(start).min(end_of(i))
        };
        // The first query reaches back farthest, the last one forward.
        let seen = start_of(0)..end_of(rows - 1);
        if seen.is_empty() {
            return;
        }
        assert!(seen.end <= block.len && block.len <= BLOCK, "the path reaches the queries");
        assert!(block.keys.len() >= width * BLOCK && block.values.len() >= block.len * width);
        let first = seen.start / LANES * LANES;
        let chunks = (seen.end - first).div_ceil(LANES);
        let (q, keys) = (&self.q[row * width..], &block.keys[first..]);
        match chunks {
            // As many sums as there are registers for.
            _ if !S::MANY => {
                for chunk in 0..chunks {
                    scores_of::<S, 1>(q, width, &keys[chunk * LANES..], scores, chunk);
                }
            }
            1 => scores_of::<S, 1>(q, width, keys, scores, 0),
            2 => scores_of::<S, 2>(q, width, keys, scores, 0),
            3 => scores_of::<S, 3>(q, width, keys, scores, 0),
            _ => scores_of::<S, 4>(q, width, keys, scores, 0),
        }
        for i in 0..rows {
            let weights = &mut scores.0[0][i].as_chunks_mut::<LANES>().0[..chunks];
            let softmax = &mut self.softmax[row + i];
            let seen = start_of(i) - first..end_of(i) - first;
            let factor = softmax.block::<S>(weights, seen, self.softcap);
            if factor != 1.0 {
                let sums = &mut self.sums[(row + i) * width..][..width];
                for chunk in sums.as_chunks_mut::<LANES>().0 {
                    S::load(chunk).mul(S::splat(factor)).store(chunk);
                }
            }
        }
        let tile = Tile {
            a: scores.0[0].as_flattened()[seen.start - first..].as_ptr(),
            a_row: BLOCK,
            a_inner: 1,
            b: block.values[seen.start * width..].as_ptr(),
            b_inner: width,
            c: self.sums[row * width..].as_mut_ptr(),
            c_row: width,
            m: rows,
            n: width,
            k: seen.len(),
            add: true,
        };
        // SAFETY: the lengths are asserted above and in `run`.
        unsafe { tile.run_with::<S>() }
    }
}

/// `scores[0][ROWS, 16·N] = q·keys` from a chunk on, with the keys as columns of `[width, BLOCK]`, summed
/// as [`Lanes::sum_each`] sums products of rows: first the elements of each lane, then over lanes.
#[inline(always)]
fn scores_of<S: Lanes, const N: usize>(
    q: &[f32],
    width: usize,
    keys: &[f32],
    scores: &mut SpanScores,
    chunk: usize,
) {
    assert!(width.is_multiple_of(LANES) && LANES <= width && N * LANES <= BLOCK);
    assert!(q.len() >= ROWS * width && keys.len() >= (width - 1) * BLOCK + N * LANES);
    // The levels that hold a sum are the bits of the number of lanes done.
    let mut depth = 0;
    for (done, lane) in SUM_ORDER.into_iter().enumerate() {
        let mut sums = [[S::splat(0.0); N]; ROWS];
        for l in (lane..width).step_by(LANES) {
            let mut right = [S::splat(0.0); N];
            for j in 0..N {
                // SAFETY: l < width; asserted above.
                right[j] = unsafe { S::load_at(keys.as_ptr().add(l * BLOCK + j * LANES)) };
            }
            for i in 0..ROWS {
                // SAFETY: as above.
                let left = S::splat(unsafe { *q.get_unchecked(i * width + l) });
                for j in 0..N {
                    sums[i][j] = left.mul_add(right[j], sums[i][j]);
                }
            }
        }
        for _ in 0..done.trailing_ones() {
            depth -= 1;
            for i in 0..ROWS {
                let level = &scores.0[depth][i].as_chunks::<LANES>().0[chunk..];
                for j in 0..N {
                    sums[i][j] = S::load(&level[j]).add(sums[i][j]);
                }
            }
        }
        for i in 0..ROWS {
            let level = &mut scores.0[depth][i].as_chunks_mut::<LANES>().0[chunk..];
            for j in 0..N {
                sums[i][j].store(&mut level[j]);
            }
        }
        depth += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::lanes::{Array, dispatch};

    /// Products of rows with rows, and the same from columns.
    struct Both<'a> {
        q: &'a [f32],
        keys: &'a [f32],
        width: usize,
    }

    impl Kernel for Both<'_> {
        type Output = [Vec<u32>; 2];
        #[inline(always)]
        fn run<S: Lanes>(self) -> Self::Output {
            let mut expected = Vec::new();
            for q in self.q.chunks_exact(self.width) {
                for keys in self.keys.chunks_exact(LANES * self.width) {
                    let products = std::array::from_fn(|i| {
                        let key = &keys[i * self.width..(i + 1) * self.width];
                        let chunks = q.as_chunks::<LANES>().0.iter().zip(key.as_chunks().0);
                        chunks
                            .fold(S::splat(0.0), |sum, (q, k)| S::load(q).mul_add(S::load(k), sum))
                    });
                    let mut sums = [0.0; LANES];
                    S::sum_each(&products).store(&mut sums);
                    expected.extend(sums.map(f32::to_bits));
                }
            }
            let mut columns = vec![0.0; self.width * BLOCK];
            for (i, key) in self.keys.chunks_exact(self.width).enumerate() {
                for (l, value) in key.iter().enumerate() {
                    columns[l * BLOCK + i] = *value;
                }
            }
            let mut scores = SpanScores([[[0.0; BLOCK]; ROWS]; _]);
            scores_of::<S, 4>(self.q, self.width, &columns, &mut scores, 0);
            let found = scores.0[0].as_flattened().iter().map(|x| x.to_bits()).collect();
            [expected, found]
        }
    }

    #[test]
    fn products_from_columns_are_products_of_rows_to_the_bit() {
        let random = |i: usize| (i.wrapping_mul(2_654_435_761) >> 9 & 0xffff) as f32 / 3e4 - 1.0;
        for width in [16, 80, 128] {
            let q: Vec<f32> = (0..ROWS * width).map(random).collect();
            let keys: Vec<f32> = (7..7 + BLOCK * width).map(random).collect();
            let both = || Both { q: &q, keys: &keys, width };
            let each =
                [dispatch(both()), both().run::<Array<true>>(), both().run::<Array<false>>()];
            for [expected, found] in each {
                assert_eq!(found, expected, "width {width}");
            }
        }
    }
}
