//! Maximal lotteries.

use super::PairMatrix;

/// What a majority is worth in the game behind a lottery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stakes {
    /// Its margin.
    Margins,
    /// One, whatever its size.
    Majorities,
}

/// Smaller numbers in the simplex tableau are taken for rounding.
const PIVOT_MIN: f64 = 1e-10;

/// Chances below this are taken for rounding.
const CHANCE_MIN: f64 = 1e-6;

/// A maximal lottery, and what others there are.
#[derive(Clone, Debug, PartialEq)]
pub struct Lottery {
    /// The chance of each candidate; they sum to 1.
    pub chances: Vec<f64>,
    /// Candidates with a chance in this or another maximal lottery, ascending.
    pub possible: Vec<usize>,
    /// Whether there is no other maximal lottery.
    pub unique: bool,
}

/// A maximal lottery (Kreweras 1965, Fishburn 1984): probabilities of the candidates to which no other lottery is
/// preferred in expectation, an optimal strategy of the symmetric zero-sum game with the majorities as payoffs. It is the
/// Condorcet winner if there is one, and unique if no majority is tied and all margins are odd; else it is one of several.
///
/// Solved by the simplex method with Bland's rule: with payoffs shifted to be positive, maximize Σy under A·y ≤ 1, y ≥ 0; the
/// lottery is y/Σy. Every other solution keeps at 0 what has a reduced cost, so that among the columns without one each yᵢ is
/// maximized in turn: that nothing grows says that the lottery is unique.
///
/// ```
/// # use hearken_stats::social_choice::{PairMatrix, Stakes, maximal_lottery};
/// // Rock, paper, scissors.
/// let mut matrix = PairMatrix::new(3);
/// [(0, 2), (1, 0), (2, 1)].iter().for_each(|&(a, b)| matrix.add(a, b, 1.0));
/// let lottery = maximal_lottery(&matrix, Stakes::Margins);
/// assert!(lottery.unique && lottery.chances.iter().all(|p| (p - 1.0 / 3.0).abs() < 1e-12));
/// ```
pub fn maximal_lottery(matrix: &PairMatrix, stakes: Stakes) -> Lottery {
    let n = matrix.candidates();
    let payoff = |a: usize, b: usize| match stakes {
        _ if a == b || matrix.margin(a, b) == 0.0 => 0.0,
        Stakes::Margins => matrix.margin(a, b),
        Stakes::Majorities => matrix.margin(a, b).signum(),
    };
    let payoffs = || (0..n).flat_map(|a| (0..n).map(move |b| payoff(a, b)));
    let largest = payoffs().fold(0.0, f64::max).max(1.0);
    // Scaled to [−1, 1] and shifted to [1, 3].
    let rows = (0..n).map(|a| (0..n).map(|b| 2.0 + payoff(a, b) / largest).collect()).collect();
    let mut tableau = Tableau::new(rows);
    tableau.improve(|_| true);
    let chances = tableau.chances();
    let largest = tableau.largest();
    let possible = (0..n).filter(|&c| largest[c] > CHANCE_MIN).collect();
    let unique = (0..n).all(|c| largest[c] - chances[c] <= CHANCE_MIN);
    Lottery { chances, possible, unique }
}

/// max Σy, A·y + slack = 1: n rows of A | I | 1, and below them the reduced costs.
struct Tableau {
    n: usize,
    rows: Vec<Vec<f64>>,
    /// The variable that each row stands for.
    basis: Vec<usize>,
}

impl Tableau {
    fn new(payoffs: Vec<Vec<f64>>) -> Self {
        let n = payoffs.len();
        let unit = |i: usize| (0..n).map(move |j| f64::from(u8::from(i == j)));
        let complete = |(i, mut row): (usize, Vec<f64>)| {
            row.extend(unit(i).chain([1.0]));
            row
        };
        let mut rows: Vec<Vec<f64>> = payoffs.into_iter().enumerate().map(complete).collect();
        rows.push((0..=2 * n).map(|j| if j < n { -1.0 } else { 0.0 }).collect());
        Self { n, rows, basis: (n..2 * n).collect() }
    }

    /// Pivots until no column that may enter gains. Bland's rule: the first column that does, the first basic variable
    /// among the tightest rows; it ends.
    fn improve(&mut self, may_enter: impl Fn(usize) -> bool) {
        let n = self.n;
        let gains =
            |rows: &[Vec<f64>]| (0..2 * n).find(|&j| may_enter(j) && rows[n][j] < -PIVOT_MIN);
        while let Some(column) = gains(&self.rows) {
            let ratio = |i: usize| self.rows[i][2 * n] / self.rows[i][column];
            let positive = (0..n).filter(|&i| self.rows[i][column] > PIVOT_MIN);
            let tightest = positive.min_by(|&i, &j| {
                ratio(i).total_cmp(&ratio(j)).then(self.basis[i].cmp(&self.basis[j]))
            });
            self.pivot(tightest.expect("positive payoffs bound the program"), column);
        }
    }

    /// y/Σy.
    fn chances(&self) -> Vec<f64> {
        let n = self.n;
        let mut y = vec![0.0; n];
        for (row, &variable) in self.basis.iter().enumerate() {
            if variable < n {
                y[variable] = self.rows[row][2 * n].max(0.0);
            }
        }
        let total: f64 = y.iter().sum();
        y.into_iter().map(|x| x / total).collect()
    }

    /// The largest chance of each candidate among the optima of an optimal tableau.
    fn largest(mut self) -> Vec<f64> {
        let n = self.n;
        let free: Vec<bool> = (0..2 * n).map(|j| self.rows[n][j].abs() <= PIVOT_MIN).collect();
        let mut largest = self.chances();
        if free.iter().filter(|&&free| free).count() == n {
            // Only the basis is free.
            return largest;
        }
        for c in (0..n).filter(|&c| free[c]) {
            // The reduced costs of maximizing y_c.
            self.rows[n] = vec![0.0; 2 * n + 1];
            self.rows[n][c] = -1.0;
            if let Some(row) = self.basis.iter().position(|&variable| variable == c) {
                let basic = self.rows[row].clone();
                self.rows[n].iter_mut().zip(&basic).for_each(|(cost, x)| *cost += x);
            }
            self.improve(|j| free[j]);
            let chances = self.chances();
            largest[c] = largest[c].max(chances[c]);
        }
        largest
    }

    fn pivot(&mut self, row: usize, column: usize) {
        let scale = self.rows[row][column];
        self.rows[row].iter_mut().for_each(|x| *x /= scale);
        let pivot = self.rows[row].clone();
        for (_, other) in self.rows.iter_mut().enumerate().filter(|(i, _)| *i != row) {
            let factor = other[column];
            other.iter_mut().zip(&pivot).for_each(|(x, p)| *x -= factor * p);
        }
        self.basis[row] = column;
    }
}
