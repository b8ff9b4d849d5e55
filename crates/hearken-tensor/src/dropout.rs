//! Which elements dropout keeps: a hash of where they are, so that no state is needed to drop the same
//! ones again, in another order or on another device.

use crate::device::Dropout;

/// Mixes all bits (Wellons, "Prospecting for hash functions", the constants of lowbias32).
#[inline(always)]
pub(crate) fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// The elements of one row that are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeptElements {
    row: u32,
    /// Hashes below it are dropped.
    threshold: u32,
    /// What kept elements are multiplied by.
    pub(crate) scale: f32,
}

impl KeptElements {
    /// Those of a row with this key.
    ///
    /// # Panics
    /// If the rate is negative, or not below 1.
    pub(crate) fn new(key: u32, dropout: Dropout) -> Self {
        let Dropout { site, rate } = dropout;
        assert!((0.0..1.0).contains(&rate), "a rate of dropout of {rate}");
        let threshold = (f64::from(rate) * 2f64.powi(32)) as u32;
        let row = mix(key ^ mix(site.wrapping_add(0x9e37_79b9)));
        Self { row, threshold, scale: 1.0 / (1.0 - rate) }
    }

    /// What the element of a column is multiplied by.
    #[inline(always)]
    pub(crate) fn factor(self, column: u32) -> f32 {
        let hash = mix(self.row.wrapping_add(column.wrapping_mul(0x9e37_79b1)));
        if hash < self.threshold { 0.0 } else { self.scale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_dropped_as_often_as_the_rate_says_and_independently() {
        let rate = 0.3;
        let at = |key, site, column| KeptElements::new(key, Dropout { site, rate }).factor(column);
        let (rows, columns) = (200, 500);
        let mut dropped = 0;
        // How often an element is dropped together with its neighbor in the row, in the column and in
        // the next layer.
        let mut pairs = [0; 3];
        for key in 0..rows {
            for column in 0..columns {
                let is_dropped = |value: f32| value == 0.0;
                if is_dropped(at(key, 5, column)) {
                    dropped += 1;
                    pairs[0] += usize::from(is_dropped(at(key, 5, column + 1)));
                    pairs[1] += usize::from(is_dropped(at(key + 1, 5, column)));
                    pairs[2] += usize::from(is_dropped(at(key, 6, column)));
                }
            }
        }
        let all = f64::from(rows * columns);
        assert!((f64::from(dropped) / all - 0.3).abs() < 0.005, "{dropped}");
        for pairs in pairs {
            assert!((pairs as f64 / all - 0.09).abs() < 0.004, "{pairs}");
        }
    }

    #[test]
    fn a_rate_of_zero_keeps_everything() {
        let kept = KeptElements::new(3, Dropout { site: 1, rate: 0.0 });
        assert!((0..1000).all(|column| kept.factor(column) == 1.0));
    }
}
