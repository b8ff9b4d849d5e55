use hearken_tensor::device::{Attention, Cache, CacheMut, CachedRow, Precision};
use hearken_tensor::{Device, Forest};

use crate::attention::blocks;
use crate::{all, assert_close, random, wide};

/// Sequences of unequal length in shuffled pages against attention over packed sequences.
#[test]
#[allow(clippy::too_many_lines, reason = "one setting of pages, asked two questions")]
fn cached_rows_see_what_packed_sequences_see() {
    let cpu = crate::families::cpu();
    for (heads, groups, head_dim) in [
        (2, 2, 4),
        (4, 2, 16),
        (3, 1, 40),
        (4, 1, 64),
        (6, 2, 32),
        (2, 1, 128),
        (5, 1, 128),
        (2, 1, 7),
    ] {
        let windows = [None, Some(1), Some(7), Some(40)];
        let both = [Precision::F32, Precision::Bf16];
        let cases =
            windows.into_iter().flat_map(|window| both.map(|precision| (window, precision)));
        for (window, precision) in cases {
            let layout = blocks(heads, groups, head_dim);
            let attention = Attention { scale: 0.4, window, softcap: None };
            let lens = [37, 1, 90];
            let page_len = 8;
            let mut forest = Forest::new();
            for &len in &lens {
                forest.push(None, len);
            }
            let rows = forest.rows();
            let mut qkv = cpu.upload(&random(1, rows * layout.row_stride));
            if precision == Precision::Bf16 {
                cpu.round_heads(&mut qkv, layout, layout.key);
                cpu.round_heads(&mut qkv, layout, layout.value);
            }
            let mut expected = cpu.scratch(rows * heads * head_dim);
            let mut log_sum_exp = cpu.scratch(rows * heads);
            cpu.attention(
                &qkv,
                layout,
                &cpu.plan(&forest),
                attention,
                &mut expected,
                &mut log_sum_exp,
            );

            // Pages 1, 4, 7, …: neither in order of sequences nor adjacent.
            let mut free = (0..40_u32).map(|i| (i * 13 + 5) % 41);
            let pages: Vec<Vec<u32>> = lens
                .iter()
                .map(|&len| (0..len.div_ceil(page_len)).map(|_| free.next().unwrap()).collect())
                .collect();
            let mut cached = Vec::new();
            for (pages, &len) in pages.iter().zip(&lens) {
                for position in 0..len {
                    cached.push(CachedRow { pages, position: position as u32 });
                }
            }
            let size = 41 * page_len * groups * cpu.head_words(head_dim, precision);
            let (mut keys, mut values) = (cpu.zeros(size), cpu.zeros(size));
            let (k, v) = (&mut keys, &mut values);
            let cache = CacheMut { keys: k, values: v, page_len, precision };
            let plan = cpu.cache_plan(&cached, page_len);
            cpu.cache_write(&qkv, layout, &plan, cache);
            let mut out = cpu.scratch(rows * heads * head_dim);
            let cache = Cache { keys: &keys, values: &values, page_len, precision };
            cpu.attention_cached(&qkv, layout, cache, &plan, attention, &mut out);
            assert_close(&all(&cpu, &out), &wide(&all(&cpu, &expected)), 2e-6);

            // One row alone gives the same bits as among others.
            let last = rows - 1;
            let mut one = vec![0.0; layout.row_stride];
            cpu.download(&qkv, last * layout.row_stride, &mut one);
            let mut alone = cpu.scratch(heads * head_dim);
            let cache = Cache { keys: &keys, values: &values, page_len, precision };
            cpu.attention_cached(
                &cpu.upload(&one),
                layout,
                cache,
                &cpu.cache_plan(&cached[last..], page_len),
                attention,
                &mut alone,
            );
            let alone = all(&cpu, &alone);
            assert_eq!(alone, all(&cpu, &out)[last * heads * head_dim..]);
        }
    }
}
