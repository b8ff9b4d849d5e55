//! Gold score as a function of the distance d = √KL(π ‖ π_ref) that optimizing a proxy has covered.
//!
//! Gao et al. 2022, arXiv:2210.10760.

/// Which curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optimizer {
    /// Best-of-N: R(d) = d·(a − b·d).
    BestOfN,
    /// Reinforcement learning: R(d) = d·(a − b·ln d).
    Policy,
}

/// A fitted curve: what the gold score gains at distance d.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Curve {
    /// Which form.
    pub optimizer: Optimizer,
    /// a: initial slope.
    pub a: f64,
    /// b: how soon it bends.
    pub b: f64,
}

impl Curve {
    /// Least squares through points (d, gold score gained since d = 0), d > 0. `None` where the points do
    /// not determine both coefficients.
    ///
    /// ```
    /// use hearken_objective::overoptimization::{Curve, Optimizer};
    /// let curve = Curve { optimizer: Optimizer::BestOfN, a: 1.0, b: 0.25 };
    /// let points = [1.0, 2.0, 4.0].map(|d| (d, curve.gain(d)));
    /// assert_eq!(Curve::fit(Optimizer::BestOfN, &points), Some(curve));
    /// ```
    pub fn fit(optimizer: Optimizer, points: &[(f64, f64)]) -> Option<Self> {
        // Normal equations of R ≈ a·u − b·v with u = d and v the form's second feature.
        let (mut uu, mut uv, mut vv, mut ur, mut vr) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for &(d, gain) in points {
            let v = optimizer.bend(d);
            uu += d * d;
            uv += d * v;
            vv += v * v;
            ur += d * gain;
            vr += v * gain;
        }
        let determinant = uu * vv - uv * uv;
        // Relative to the product it is 1 − cos² of the features' angle: rounding leaves about 1e-16.
        (1e-12 * uu * vv < determinant).then(|| Self {
            optimizer,
            a: (ur * vv - vr * uv) / determinant,
            b: (ur * uv - vr * uu) / determinant,
        })
    }

    /// Where the curve is highest, and how high; `None` of one that does not turn down.
    ///
    /// ```text
    /// best of N   d* = a/(2b)          R* = a²/(4b)
    /// policy      d* = exp(a/b − 1)    R* = b·d*
    /// ```
    ///
    /// ```
    /// use hearken_objective::overoptimization::{Curve, Optimizer};
    /// let curve = Curve { optimizer: Optimizer::Policy, a: 1.0, b: 0.25 };
    /// let (d, gain) = curve.peak().unwrap();
    /// assert!((d - 20.0855).abs() < 1e-4 && (gain - 5.02138).abs() < 1e-5);
    /// ```
    pub fn peak(self) -> Option<(f64, f64)> {
        let d = match self.optimizer {
            Optimizer::BestOfN => self.a / (2.0 * self.b),
            Optimizer::Policy => (self.a / self.b - 1.0).exp(),
        };
        (0.0 < self.b && 0.0 < d && d.is_finite()).then(|| (d, self.gain(d)))
    }

    /// R(d).
    pub fn gain(self, d: f64) -> f64 {
        self.a * d - self.b * self.optimizer.bend(d)
    }
}

impl Optimizer {
    /// d² or d·ln d.
    fn bend(self, d: f64) -> f64 {
        match self {
            Self::BestOfN => d * d,
            Self::Policy => d * d.ln(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{assert_close, assert_gradient, uniform};

    const POLICY: Curve = Curve { optimizer: Optimizer::Policy, a: 1.0, b: 0.25 };
    const BEST_OF_N: Curve = Curve { optimizer: Optimizer::BestOfN, a: 1.0, b: 0.25 };

    #[test]
    fn the_highest_gain_has_its_known_place() {
        for (curve, d, gain) in [(POLICY, 3f64.exp(), 5.021_38), (BEST_OF_N, 2.0, 1.0)] {
            assert_close(&[curve.gain(d)], &[gain], 5e-6);
            assert_gradient(|x| curve.gain(x[0]), &[d], &[0.0]);
        }
    }

    #[test]
    fn the_peak_is_where_the_curve_is_level_and_a_curve_that_rises_has_none() {
        let (d, gain) = BEST_OF_N.peak().unwrap();
        assert_close(&[d, gain], &[2.0, 1.0], 1e-15);
        for curve in [POLICY, BEST_OF_N] {
            let (d, _) = curve.peak().unwrap();
            assert_gradient(|x| curve.gain(x[0]), &[d], &[0.0]);
            assert_eq!(Curve { b: -0.1, ..curve }.peak(), None);
            assert_eq!(Curve { b: 0.0, ..curve }.peak(), None);
        }
        assert_eq!(Curve { a: -1.0, ..BEST_OF_N }.peak(), None);
    }

    #[test]
    fn a_fit_recovers_the_curve_through_noise() {
        let noise = uniform(7, 200);
        for curve in [POLICY, BEST_OF_N] {
            let points: Vec<(f64, f64)> = noise
                .iter()
                .enumerate()
                .map(|(i, e)| (0.1 + i as f64 * 0.05, 0.01 * e))
                .map(|(d, e)| (d, curve.gain(d) + e))
                .collect();
            let found = Curve::fit(curve.optimizer, &points).unwrap();
            assert_close(&[found.a, found.b], &[curve.a, curve.b], 5e-3);
        }
    }

    #[test]
    fn one_point_determines_nothing() {
        assert_eq!(Curve::fit(Optimizer::BestOfN, &[(1.0, 1.0)]), None);
        assert_eq!(Curve::fit(Optimizer::Policy, &[]), None);
    }
}
