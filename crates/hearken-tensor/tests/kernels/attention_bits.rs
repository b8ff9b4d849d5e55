//! A row of attention has the same bits however its path is cut into segments, and over a cache.

use hearken_tensor::device::{Attention, Cache, CacheMut, CachedRow, Precision, QkvLayout};
use hearken_tensor::{Cpu, Device, Forest};

use crate::attention::blocks;
use crate::{all, random};

const LEN: usize = 200;

/// One sequence.
struct Sequence {
    cpu: Cpu,
    layout: QkvLayout,
    attention: Attention,
    /// `[LEN, row_stride]`.
    qkv: Vec<f32>,
}

impl Sequence {
    fn new(layout: QkvLayout, window: Option<usize>, softcap: Option<f32>) -> Self {
        let qkv = random(layout.head_dim as u64, LEN * layout.row_stride);
        let qkv = qkv.iter().map(|x| x * 3.0).collect();
        Self {
            cpu: crate::families::cpu(),
            layout,
            attention: Attention { scale: 0.3, window, softcap },
            qkv,
        }
    }

    fn width(&self) -> usize {
        self.layout.query.heads * self.layout.head_dim
    }

    fn rows(&self, first: usize, len: usize) -> &[f32] {
        let stride = self.layout.row_stride;
        &self.qkv[first * stride..(first + len) * stride]
    }

    /// The rows of the sequence as segments of these lengths, each with a sibling that holds other
    /// values.
    fn segments(&self, lens: &[usize]) -> Vec<u32> {
        let (mut forest, mut qkv) = (Forest::new(), Vec::new());
        let (mut parent, mut done) = (None, 0);
        let mut own = Vec::new();
        for &len in lens {
            qkv.extend(random(done as u64 + 1, 5 * self.layout.row_stride));
            forest.push(parent, 5);
            parent = Some(forest.push(parent, len));
            qkv.extend_from_slice(self.rows(done, len));
            own.push(forest.rows() - len..forest.rows());
            done += len;
        }
        assert_eq!(done, LEN);
        let mut out = self.cpu.scratch(forest.rows() * self.width());
        let mut log_sum_exp = self.cpu.scratch(forest.rows() * self.layout.query.heads);
        let qkv = self.cpu.upload(&qkv);
        let (layout, attention) = (self.layout, self.attention);
        let forest = self.cpu.plan(&forest);
        self.cpu.attention(&qkv, layout, &forest, attention, &mut out, &mut log_sum_exp);
        let out = all(&self.cpu, &out);
        let rows = own.into_iter().flatten();
        rows.flat_map(|row| &out[row * self.width()..][..self.width()])
            .map(|x| x.to_bits())
            .collect()
    }

    /// The rows of the sequence over a cache, so many at a time.
    fn cached(&self, page_len: usize, at_a_time: usize) -> Vec<u32> {
        let size = LEN.next_multiple_of(page_len) * self.layout.key.heads * self.layout.head_dim;
        let (mut keys, mut values) = (self.cpu.zeros(size), self.cpu.zeros(size));
        let count = LEN.div_ceil(page_len) as u32;
        let pages: Vec<u32> = (0..count).rev().collect();
        let mut bits = Vec::new();
        for first in (0..LEN).step_by(at_a_time) {
            let len = at_a_time.min(LEN - first);
            let qkv = self.cpu.upload(self.rows(first, len));
            let row = |position: usize| CachedRow { pages: &pages, position: position as u32 };
            let rows: Vec<CachedRow<'_>> = (first..first + len).map(row).collect();
            let plan = self.cpu.cache_plan(&rows, page_len);
            let (k, v) = (&mut keys, &mut values);
            let cache = CacheMut { keys: k, values: v, page_len, precision: Precision::F32 };
            self.cpu.cache_write(&qkv, self.layout, &plan, cache);
            let cache = Cache { keys: &keys, values: &values, page_len, precision: Precision::F32 };
            let mut out = self.cpu.scratch(len * self.width());
            self.cpu.attention_cached(&qkv, self.layout, cache, &plan, self.attention, &mut out);
            bits.extend(all(&self.cpu, &out).iter().map(|x| x.to_bits()));
        }
        bits
    }
}

fn check(layout: QkvLayout, window: Option<usize>, softcap: Option<f32>) {
    let sequence = Sequence::new(layout, window, softcap);
    let expected = sequence.segments(&[LEN]);
    let splits: [&[usize]; 7] = [
        &[1, 199],
        &[63, 137],
        &[64, 136],
        &[65, 135],
        &[130, 69, 1],
        &[3, 0, 2, 1, 50, 0, 1, 6, 1, 1, 62, 70, 3],
        &[0, 0, 100, 28, 36, 0, 36],
    ];
    let name = format!("heads of {}, window {window:?}, cap {softcap:?}", layout.head_dim);
    for lens in splits {
        assert!(sequence.segments(lens) == expected, "{name}: segments of {lens:?}");
    }
    for page_len in [1, 5, 16, 64] {
        for at_a_time in [1, 7, 16, LEN] {
            assert!(
                sequence.cached(page_len, at_a_time) == expected,
                "{name}: pages of {page_len}, {at_a_time} rows at a time"
            );
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_every_segmentation_and_over_a_cache() {
    for head_dim in [4, 16, 24, 32, 64, 80, 128] {
        for window in [None, Some(16), Some(70)] {
            check(blocks(2, 1, head_dim), window, None);
        }
    }
    for head_dim in [16, 64, 80, 256] {
        check(blocks(2, 1, head_dim), Some(70), Some(2.0));
    }
    for (heads, groups) in [(1, 1), (3, 3), (6, 2), (7, 1)] {
        check(blocks(heads, groups, 64), Some(150), None);
    }
}
