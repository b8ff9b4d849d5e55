//! Products of small dense matrices that lie in the first-level caches, for attention.

use super::lanes::{Kernel, LANES, Lanes};

/// C (+)= A·B, with A m × k of any strides, B k × n and C m × n with consecutive columns.
///
/// Each element is summed over the inner dimension in order, starting from C where it is added to,
/// whatever m and n are: a product cut into several along the inner dimension has the same bits.
pub(crate) struct Tile {
    /// Element (i, l) of A is `a[i·a_row + l·a_inner]`.
    pub(crate) a: *const f32,
    pub(crate) a_row: usize,
    pub(crate) a_inner: usize,
    /// Element (l, j) of B is `b[l·b_inner + j]`.
    pub(crate) b: *const f32,
    pub(crate) b_inner: usize,
    /// Element (i, j) of C is `c[i·c_row + j]`.
    pub(crate) c: *mut f32,
    pub(crate) c_row: usize,
    pub(crate) m: usize,
    /// A multiple of [`LANES`].
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// Whether the product is added to C.
    pub(crate) add: bool,
}

impl Tile {
    /// # Safety
    /// A and B are readable and C is writable over the dimensions, and C overlaps neither.
    pub(crate) unsafe fn run(self) {
        debug_assert!(self.n.is_multiple_of(LANES));
        super::lanes::dispatch(Checked(self));
    }

    /// [`Tile::run`] within a kernel.
    ///
    /// # Safety
    /// As for [`Tile::run`].
    #[inline(always)]
    pub(crate) unsafe fn run_with<S: Lanes>(&self) {
        debug_assert!(self.n.is_multiple_of(LANES));
        let mut row = 0;
        while row < self.m {
            // As many sums as leave registers for the factors.
            let rows = (self.m - row).min(if S::MANY { 4 } else { 6 });
            match rows {
                6 if !S::MANY => columns::<S, 6>(self, row),
                5 if !S::MANY => columns::<S, 5>(self, row),
                4 => columns::<S, 4>(self, row),
                3 => columns::<S, 3>(self, row),
                2 => columns::<S, 2>(self, row),
                _ => columns::<S, 1>(self, row),
            }
            row += rows;
        }
    }
}

/// A tile whose pointers the caller of [`Tile::run`] has vouched for.
struct Checked(Tile);

impl Kernel for Checked {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        // SAFETY: see the type.
        unsafe { self.0.run_with::<S>() }
    }
}

#[inline(always)]
fn columns<S: Lanes, const M: usize>(tile: &Tile, row: usize) {
    let mut column = 0;
    if !S::MANY {
        for column in (0..tile.n).step_by(LANES) {
            block::<S, M, 1>(tile, row, column);
        }
        return;
    }
    while column + 4 * LANES <= tile.n {
        block::<S, M, 4>(tile, row, column);
        column += 4 * LANES;
    }
    match (tile.n - column) / LANES {
        3 => block::<S, M, 3>(tile, row, column),
        2 => block::<S, M, 2>(tile, row, column),
        1 => block::<S, M, 1>(tile, row, column),
        _ => {}
    }
}

#[inline(always)]
fn block<S: Lanes, const M: usize, const N: usize>(tile: &Tile, row: usize, column: usize) {
    let mut sums = [[S::splat(0.0); N]; M];
    // SAFETY: the caller of `Tile::run` vouches for all elements within m, n and k.
    unsafe {
        let a = tile.a.add(row * tile.a_row);
        let b = tile.b.add(column);
        let c = tile.c.add(row * tile.c_row + column);
        if tile.add {
            for i in 0..M {
                for j in 0..N {
                    sums[i][j] = S::load_at(c.add(i * tile.c_row + j * LANES));
                }
            }
        }
        for l in 0..tile.k {
            let mut right = [S::splat(0.0); N];
            for j in 0..N {
                right[j] = S::load_at(b.add(l * tile.b_inner + j * LANES));
            }
            for i in 0..M {
                let left = S::splat(*a.add(i * tile.a_row + l * tile.a_inner));
                for j in 0..N {
                    sums[i][j] = left.mul_add(right[j], sums[i][j]);
                }
            }
        }
        for i in 0..M {
            for j in 0..N {
                sums[i][j].store_at(c.add(i * tile.c_row + j * LANES));
            }
        }
    }
}
