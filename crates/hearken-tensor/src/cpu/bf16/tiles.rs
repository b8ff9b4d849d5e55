//! Products of bfloat16 by the tile unit of Intel's processors (AMX), which multiplies 16 rows by 16 columns over
//! 32 inner indices in one instruction.
//!
//! A panel of a right factor is what the unit reads already: words of two neighbors along the inner dimension, column
//! by column. A left factor is packed in tiles of its own. An output is summed in blocks of the inner dimension that
//! depend on its length alone, starting from what it is added to, whatever rows are beside it: the same row gives the
//! same bits among one and among many.

use std::arch::asm;
use std::ops::Range;
use std::sync::Arc;

use super::super::buffer::{Buffer, BufferPool};
use super::super::lanes::{Avx512, Lanes};
use super::super::rows::{Input, SharedElements, Source};
use super::super::shares::Panels;
use super::Bf16Product;
use super::pack::{RIGHT, for_tasks};
use super::pack_avx512::{pack_columns, round_row};
use crate::device::Write;

/// Rows of a tile.
const SIDE: usize = 16;
/// Words of a row of a tile: pairs of inner indices.
const PAIRS: usize = 16;
/// Words of a tile.
const TILE: usize = SIDE * PAIRS;
/// Rows that are multiplied at once: two tiles of the left factor by two of the right one, so that each tile that is
/// read is used twice.
const ROWS: usize = 2 * SIDE;
/// Blocks of rows per task.
const BLOCKS_PER_TASK: usize = 8;
/// At most so many right panels per task, where there are several tasks for each of them.
const RIGHT_PANELS: usize = 8;
/// At most so many tiles along the inner dimension at a time: a panel's part stays in the caches next to the unit.
const TILES_MAX: usize = 32;
/// Words of the right factor, times blocks of the left one, that are worth a task of their own.
const TASK_MIN: usize = 1 << 16;

/// A left factor in tiles: those of 16 rows along the inner dimension, then those of the next 16 rows. Both dimensions
/// are padded with 0.
pub(crate) struct TiledLeft {
    words: Buffer,
    outer: usize,
    inner: usize,
}

impl TiledLeft {
    /// Rounds and reorders a factor.
    pub(crate) fn pack(pool: &Arc<BufferPool>, source: Source<'_>) -> Self {
        let (outer, inner) = (source.outer(), source.inner());
        let tiles = inner.div_ceil(2 * PAIRS);
        let panels = outer.div_ceil(SIDE);
        let mut words = Buffer::scratch(pool, panels * tiles * TILE);
        let shared = SharedElements::new(&mut words);
        // One task packs a tile of several panels where rows are inner indices, so that it reads them in longer runs.
        let (panels_per_task, tiles_per_task) = match source {
            Source::Outer(_) => (1, tiles),
            Source::Inner(_) => (8, 4),
        };
        let groups = panels.div_ceil(panels_per_task);
        for_tasks(groups * tiles.div_ceil(tiles_per_task.max(1)), |task| {
            let (group, part) = (task % groups, task / groups);
            let end = (group * panels_per_task + panels_per_task).min(panels);
            let part = part * tiles_per_task..(part * tiles_per_task + tiles_per_task).min(tiles);
            for tile in part {
                for panel in group * panels_per_task..end {
                    // SAFETY: each tile belongs to one task.
                    let words = unsafe { shared.slice((panel * tiles + tile) * TILE, TILE) };
                    match source {
                        Source::Outer(input) => pack_rows(input, panel * SIDE, tile, words),
                        Source::Inner(input) => pack_transposed(input, panel * SIDE, tile, words),
                    }
                }
            }
        });
        Self { words, outer, inner }
    }

    /// Tiles along the inner dimension.
    fn tiles(&self) -> usize {
        self.inner.div_ceil(2 * PAIRS)
    }
}

/// A tile of 16 rows of the input.
fn pack_rows(input: Input<'_>, first: usize, tile: usize, words: &mut [f32]) {
    let columns = 2 * PAIRS * tile..(2 * PAIRS * (tile + 1)).min(input.rows.width);
    for (i, words) in words.chunks_exact_mut(PAIRS).enumerate() {
        if first + i < input.rows.rows {
            // SAFETY: the family in use has the features.
            unsafe { round_row(&input.row(first + i)[columns.clone()], words) };
        } else {
            words.fill(0.0);
        }
    }
}

/// A tile of 16 columns of the input.
fn pack_transposed(input: Input<'_>, first: usize, tile: usize, words: &mut [f32]) {
    // SAFETY: the family in use has the features.
    let block = unsafe { pack_columns(input, 2 * PAIRS * tile, first) };
    // SAFETY: as above. Only moves: words that are no numbers keep their bits.
    let block = unsafe { transposed(&block) };
    for (words, row) in words.chunks_exact_mut(PAIRS).zip(block) {
        row.store(words.first_chunk_mut().expect("invariant: rows of 16 words"));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn transposed(block: &[Avx512; 16]) -> [Avx512; 16] {
    Avx512::transpose(block)
}

/// `out (+)= left·right (+ bias)` for each part.
pub(super) fn products(left: &TiledLeft, parts: &[Bf16Product<'_>], write: Write) {
    for part in parts {
        part.check([left.outer, left.inner], [part.right.inner(), part.right.outer()]);
    }
    let panels = Panels {
        left: left.outer.div_ceil(ROWS),
        right: &parts.iter().map(|part| part.right.outer().div_ceil(RIGHT)).collect::<Vec<_>>(),
        left_per_task: BLOCKS_PER_TASK,
        right_per_task_max: RIGHT_PANELS,
        right_len: left.inner.div_ceil(2) * RIGHT,
        task_min: TASK_MIN,
    };
    panels.share_out(|part, rows, columns| {
        TilesTask { left, part: &parts[part], write }.run(rows, columns);
    });
}

/// Shapes of the unit's eight tiles, in the form in which it takes them.
#[repr(C, align(64))]
struct Shapes([u8; 64]);

impl Shapes {
    /// Sums in tiles 0 to 3, the left factor's in 4 and 5, the right one's in 6 and 7, for so many rows of the left
    /// tiles; the unit takes time by rows.
    fn of(rows: usize) -> Self {
        let mut shapes = [0; 64];
        shapes[0] = 1;
        for tile in 0..8 {
            shapes[16 + 2 * tile] = 64;
            shapes[48 + tile] = if tile < 6 { rows as u8 } else { PAIRS as u8 };
        }
        Self(shapes)
    }
}

/// Where 32 rows of 32 sums come from and go to.
#[derive(Clone, Copy)]
struct TileSums {
    pointer: *mut f32,
    /// Bytes from one row to the next.
    stride: usize,
    /// Whether they start at 0 rather than from what is there.
    from_zero: bool,
}

/// Factors of a block of sums: where their tiles begin, and how many there are.
#[derive(Clone, Copy)]
struct Factors {
    left: *const f32,
    /// Words from a tile of the left factor to that of the next 16 rows.
    left_step: usize,
    right: *const f32,
    /// The last tile of the right factor, where it is not whole; else nowhere.
    last: Option<*const f32>,
    tiles: usize,
    /// Memory that is needed soon, and how many lines of it for each tile.
    ahead: *const f32,
    lines_per_tile: usize,
}

/// Words of a cache line.
const LINE: usize = 16;

impl Factors {
    /// The tile of the right factor.
    fn right(&self, tile: usize) -> *const f32 {
        match self.last {
            Some(last) if tile + 1 == self.tiles => last,
            _ => self.right.wrapping_add(tile * PAIRS * RIGHT),
        }
    }

    fn prefetch(&self, tile: usize) {
        let soon = self.ahead.wrapping_add(tile * self.lines_per_tile * LINE);
        for line in 0..self.lines_per_tile {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            // SAFETY: addresses beyond the factor's end are harmless: nothing is read from them.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(soon.wrapping_add(line * LINE).cast()) };
        }
    }
}

struct TilesTask<'a> {
    left: &'a TiledLeft,
    part: &'a Bf16Product<'a>,
    write: Write,
}

impl TilesTask<'_> {
    /// Some blocks of rows of the left factor, and panels of the right one.
    fn run(&self, rows: Range<usize>, columns: Range<usize>) {
        let tiles = self.left.tiles();
        // Blocks of equal length, which depends on the inner dimension alone.
        let block = tiles.div_ceil(tiles.div_ceil(TILES_MAX).max(1)).max(1);
        let mut shaped = 0;
        let mut first = 0;
        loop {
            let end = (first + block).min(tiles);
            for column in columns.clone() {
                self.column(&rows, column, first..end, &mut shaped);
            }
            first = end;
            if first >= tiles {
                break;
            }
        }
        // SAFETY: the family in use has the instructions; nothing is in the tiles any more.
        unsafe { asm!("tilerelease", options(nostack)) };
    }

    /// One panel of the right factor, over some tiles of the inner dimension.
    fn column(&self, rows: &Range<usize>, column: usize, tiles: Range<usize>, shaped: &mut usize) {
        let right = self.part.right;
        let panel = right.panel(column, tiles.start * PAIRS);
        let pairs = self.left.inner.div_ceil(2);
        let mut whole = Padded([0.0; PAIRS * RIGHT]);
        let last = (pairs < tiles.end * PAIRS).then(|| {
            // What lies behind a panel is another's, and 0 times infinity is no number.
            let words = &panel[(tiles.len() - 1) * PAIRS * RIGHT..];
            whole.0[..words.len()].copy_from_slice(words);
            whole.0.as_ptr()
        });
        let next = panel.as_ptr().wrapping_add(right.panel_len());
        let lines_per_tile = (PAIRS * RIGHT / LINE).div_ceil(rows.len());
        for (index, row) in rows.clone().enumerate() {
            let left_step = self.left.tiles() * TILE;
            let first = 2 * row * left_step + tiles.start * TILE;
            let factors = Factors {
                left: self.left.words[first..].as_ptr(),
                left_step,
                right: panel.as_ptr(),
                last,
                tiles: tiles.len(),
                ahead: next.wrapping_add(index * tiles.len() * lines_per_tile * LINE),
                lines_per_tile,
            };
            self.block(row * ROWS, column * RIGHT, factors, tiles.start == 0, shaped);
        }
    }

    /// At most 32 rows by 32 columns of the outputs.
    fn block(
        &self,
        row: usize,
        column: usize,
        factors: Factors,
        is_first: bool,
        shaped: &mut usize,
    ) {
        let out = &self.part.out;
        let (rows, width) = ((out.rows.rows - row).min(ROWS), (out.rows.width - column).min(RIGHT));
        let adds = !is_first || self.write == Write::Add;
        let bias = self.part.bias.filter(|_| is_first).map(|bias| &bias[column..column + width]);
        let pointer = out.pointer().wrapping_add(row * out.rows.stride + column);
        if rows == ROWS && width == RIGHT && bias.is_none() {
            let sums = TileSums { pointer, stride: 4 * out.rows.stride, from_zero: !adds };
            // SAFETY: each task has its own elements of the outputs, of which there are as many as these tiles have.
            unsafe { multiply(factors, sums, rows, shaped) };
            return;
        }
        let mut own = Padded([0.0; ROWS * RIGHT]);
        for (i, own) in own.0.chunks_exact_mut(RIGHT).enumerate().take(rows) {
            if adds {
                // SAFETY: each task has its own elements of the outputs.
                let there =
                    unsafe { std::slice::from_raw_parts(pointer.add(i * out.rows.stride), width) };
                own[..width].copy_from_slice(there);
            }
            if let Some(bias) = bias {
                own.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
            }
        }
        let sums = TileSums {
            pointer: own.0.as_mut_ptr(),
            stride: 4 * RIGHT,
            from_zero: !adds && bias.is_none(),
        };
        // SAFETY: `own` has room for whole tiles.
        unsafe { multiply(factors, sums, rows, shaped) };
        for (i, own) in own.0.chunks_exact(RIGHT).enumerate().take(rows) {
            // SAFETY: as above.
            let there =
                unsafe { std::slice::from_raw_parts_mut(pointer.add(i * out.rows.stride), width) };
            there.copy_from_slice(&own[..width]);
        }
    }
}

/// Multiplies a block of so many rows, for which tiles get their shapes if they have others.
///
/// # Safety
/// The processor has tiles; factors and sums are as large as whole ones.
unsafe fn multiply(factors: Factors, sums: TileSums, rows: usize, shaped: &mut usize) {
    let tile_rows = rows.min(SIDE);
    // SAFETY: the caller's promise.
    unsafe {
        if *shaped != tile_rows {
            let shapes = Shapes::of(tile_rows);
            asm!("ldtilecfg [{}]", in(reg) shapes.0.as_ptr(), options(nostack, readonly));
            *shaped = tile_rows;
        }
        if rows <= SIDE { one(factors, sums) } else { two(factors, sums) }
    }
}

/// Operations of a round of [`multiply_tiles`].
pub(crate) fn operations() -> f64 {
    (4 * 2 * SIDE * SIDE * 2 * PAIRS) as f64
}

/// Products of tiles that nobody reads, to measure how fast the unit is; gives one of the sums.
pub(crate) fn multiply_tiles(rounds: u64) -> f32 {
    let half = Padded([f32::from_bits(0x3f00_3f00); TILE]);
    let (shapes, mut sums) = (Shapes::of(SIDE), Padded([0.0; TILE]));
    // SAFETY: the family in use has the instructions; tiles are read and written where there is room for them.
    unsafe {
        asm!(
            "ldtilecfg [{c}]",
            "tileloadd tmm4, [{l} + {s}]",
            "tileloadd tmm6, [{l} + {s}]",
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            c = in(reg) shapes.0.as_ptr(), l = in(reg) half.0.as_ptr(), s = in(reg) 4 * PAIRS,
            options(nostack, readonly)
        );
        for _ in 0..rounds {
            asm!(
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm6",
                "tdpbf16ps tmm2, tmm4, tmm6",
                "tdpbf16ps tmm3, tmm4, tmm6",
                options(nostack, nomem)
            );
        }
        asm!(
            "tilestored [{p} + {s}], tmm3",
            "tilerelease",
            p = in(reg) sums.0.as_mut_ptr(), s = in(reg) 4 * PAIRS, options(nostack)
        );
    }
    sums.0[0]
}

#[repr(C, align(64))]
struct Padded<const N: usize>([f32; N]);

/// One tile of rows by two of columns.
///
/// # Safety
/// The processor has tiles, which have shapes; factors and sums are as large as those say.
unsafe fn one(factors: Factors, sums: TileSums) {
    let TileSums { pointer, stride, from_zero } = sums;
    // SAFETY: the caller's promise. No code but this touches tiles.
    unsafe {
        if from_zero {
            asm!("tilezero tmm0", "tilezero tmm1", options(nostack));
        } else {
            asm!(
                "tileloadd tmm0, [{p} + {s}]",
                "tileloadd tmm1, [{p} + {s} + 64]",
                p = in(reg) pointer, s = in(reg) stride, options(nostack, readonly)
            );
        }
        for tile in 0..factors.tiles {
            factors.prefetch(tile);
            asm!(
                "tileloadd tmm4, [{l} + {ls}]",
                "tileloadd tmm6, [{r} + {rs}]",
                "tileloadd tmm7, [{r} + {rs} + 64]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                l = in(reg) factors.left.add(tile * TILE), ls = in(reg) 4 * PAIRS,
                r = in(reg) factors.right(tile), rs = in(reg) 4 * RIGHT, options(nostack, readonly)
            );
        }
        asm!(
            "tilestored [{p} + {s}], tmm0",
            "tilestored [{p} + {s} + 64], tmm1",
            p = in(reg) pointer, s = in(reg) stride, options(nostack)
        );
    }
}

/// Two tiles of rows by two of columns.
///
/// # Safety
/// As for [`one`], with tiles of 16 rows.
unsafe fn two(factors: Factors, sums: TileSums) {
    let TileSums { pointer, stride, from_zero } = sums;
    let below = pointer.wrapping_byte_add(SIDE * stride);
    // SAFETY: the caller's promise. No code but this touches tiles.
    unsafe {
        if from_zero {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                options(nostack)
            );
        } else {
            asm!(
                "tileloadd tmm0, [{p} + {s}]",
                "tileloadd tmm1, [{p} + {s} + 64]",
                "tileloadd tmm2, [{q} + {s}]",
                "tileloadd tmm3, [{q} + {s} + 64]",
                p = in(reg) pointer, q = in(reg) below, s = in(reg) stride, options(nostack, readonly)
            );
        }
        for tile in 0..factors.tiles {
            factors.prefetch(tile);
            let left = factors.left.add(tile * TILE);
            asm!(
                "tileloadd tmm4, [{l} + {ls}]",
                "tileloadd tmm6, [{r} + {rs}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{r} + {rs} + 64]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{m} + {ls}]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                l = in(reg) left, m = in(reg) left.add(factors.left_step), ls = in(reg) 4 * PAIRS,
                r = in(reg) factors.right(tile), rs = in(reg) 4 * RIGHT, options(nostack, readonly)
            );
        }
        asm!(
            "tilestored [{p} + {s}], tmm0",
            "tilestored [{p} + {s} + 64], tmm1",
            "tilestored [{q} + {s}], tmm2",
            "tilestored [{q} + {s} + 64], tmm3",
            p = in(reg) pointer, q = in(reg) below, s = in(reg) stride, options(nostack)
        );
    }
}
