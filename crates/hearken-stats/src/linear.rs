//! Dense symmetric positive definite systems, small enough for textbook Cholesky.

/// A symmetric matrix, row-major, k × k.
#[derive(Clone, Debug)]
pub(crate) struct Symmetric {
    pub(crate) size: usize,
    pub(crate) entries: Vec<f64>,
}

/// The lower triangle L of A = L·Lᵀ.
#[derive(Debug)]
pub(crate) struct Cholesky {
    lower: Symmetric,
}

impl Symmetric {
    pub(crate) fn zeros(size: usize) -> Self {
        Self { size, entries: vec![0.0; size * size] }
    }

    pub(crate) fn at(&self, i: usize, j: usize) -> f64 {
        self.entries[i * self.size + j]
    }

    pub(crate) fn add(&mut self, i: usize, j: usize, x: f64) {
        self.entries[i * self.size + j] += x;
    }

    /// Adds `scale·x·xᵀ`, x given by its non-zero entries.
    pub(crate) fn add_outer(&mut self, sparse: &[(usize, f64)], scale: f64) {
        for &(i, a) in sparse {
            for &(j, b) in sparse {
                self.add(i, j, scale * a * b);
            }
        }
    }

    /// `self·other·self`.
    pub(crate) fn sandwich(&self, other: &Self) -> Self {
        self.times(other).times(self)
    }

    fn times(&self, other: &Self) -> Self {
        let k = self.size;
        let mut product = Self::zeros(k);
        for i in 0..k {
            for l in 0..k {
                let a = self.at(i, l);
                for j in 0..k {
                    product.entries[i * k + j] += a * other.at(l, j);
                }
            }
        }
        product
    }

    /// `None` if the matrix is not positive definite beyond rounding.
    pub(crate) fn cholesky(&self) -> Option<Cholesky> {
        let k = self.size;
        let mut lower = Self::zeros(k);
        for i in 0..k {
            for j in 0..=i {
                let dot: f64 = (0..j).map(|l| lower.at(i, l) * lower.at(j, l)).sum();
                let rest = self.at(i, j) - dot;
                lower.entries[i * k + j] = if i == j {
                    // A pivot this small relative to its diagonal is rounding error.
                    if rest.is_nan() || rest <= 1e-13 * self.at(i, i) {
                        return None;
                    }
                    rest.sqrt()
                } else {
                    rest / lower.at(j, j)
                };
            }
        }
        Some(Cholesky { lower })
    }
}

impl Cholesky {
    /// x with A·x = b.
    pub(crate) fn solve(&self, b: &[f64]) -> Vec<f64> {
        let k = self.lower.size;
        let mut x = b.to_vec();
        for i in 0..k {
            let dot: f64 = (0..i).map(|j| self.lower.at(i, j) * x[j]).sum();
            x[i] = (x[i] - dot) / self.lower.at(i, i);
        }
        for i in (0..k).rev() {
            let dot: f64 = (i + 1..k).map(|j| self.lower.at(j, i) * x[j]).sum();
            x[i] = (x[i] - dot) / self.lower.at(i, i);
        }
        x
    }

    /// A⁻¹.
    pub(crate) fn inverse(&self) -> Symmetric {
        let k = self.lower.size;
        let mut inverse = Symmetric::zeros(k);
        for j in 0..k {
            let mut unit = vec![0.0; k];
            unit[j] = 1.0;
            for (i, x) in self.solve(&unit).into_iter().enumerate() {
                inverse.entries[i * k + j] = x;
            }
        }
        inverse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverse_undoes_the_matrix() {
        let a = Symmetric { size: 3, entries: vec![4.0, 1.0, 0.5, 1.0, 3.0, -1.0, 0.5, -1.0, 2.0] };
        let product = a.times(&a.cholesky().unwrap().inverse());
        for i in 0..3 {
            for j in 0..3 {
                assert!((product.at(i, j) - f64::from(u8::from(i == j))).abs() < 1e-14);
            }
        }
        let singular = Symmetric { size: 2, entries: vec![1.0; 4] };
        assert!(singular.cholesky().is_none());
    }
}
