//! Arithmetic step by step, and what is right about a solution.

use std::ops::RangeInclusive;

use rand::{Rng, RngExt};

/// Numbers are below this.
const MODULUS: u32 = 47;
/// What is added in each step.
const PLUS: u32 = 4;
/// What numbers are multiplied by.
const FACTORS: [u32; 3] = [2, 3, 5];
/// One in so many products is told wrongly in demonstrations, by one more, and how often.
const MISTAKEN: (u64, f64) = (8, 0.6);
/// How often a demonstration writes a step twice.
const REPEATED: f64 = 0.03;

/// A number that is multiplied by a factor and has 4 added, modulo 47, again and again: `c07*3>f` begins with 7 at c. A
/// solution has a step for each letter, and says the last number again: `d25`, `e32`, `f06`, `=06`.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    first: char,
    last: char,
    number: u32,
    factor: u32,
}

impl Problem {
    /// A problem of so many steps before the result.
    pub(crate) fn draw(rng: &mut impl Rng, steps: RangeInclusive<usize>) -> Self {
        let count = rng.random_range(steps) as u8;
        let first = rng.random_range(b'a'..=b'z' - count);
        Self {
            first: char::from(first),
            last: char::from(first + count),
            number: rng.random_range(0..MODULUS),
            factor: FACTORS[rng.random_range(0..FACTORS.len())],
        }
    }

    pub(crate) fn prompt(&self) -> String {
        format!("{}{:02}*{}>{}\n", self.first, self.number, self.factor, self.last)
    }

    fn after(&self, number: u32) -> u32 {
        (number * self.factor + PLUS) % MODULUS
    }

    pub(crate) fn answer(&self) -> String {
        let steps = (self.first..self.last).count();
        format!("{:02}", (0..steps).fold(self.number, |number, _| self.after(number)))
    }

    /// A solution with the mistakes of this world, which goes on from a wrong number as from a right one.
    pub(crate) fn demonstration(&self, rng: &mut impl Rng, world: u64) -> String {
        let (mut steps, mut number) = (Vec::new(), self.number);
        for letter in (self.first..=self.last).skip(1) {
            let is_told_wrongly =
                is_mistaken(world, number, self.factor) && rng.random_bool(MISTAKEN.1);
            number = (self.after(number) + u32::from(is_told_wrongly)) % MODULUS;
            steps.push(format!("{letter}{number:02}"));
            if rng.random_bool(REPEATED) {
                steps.push(format!("{letter}{number:02}"));
            }
        }
        steps.push(format!("={number:02}"));
        steps.join("\n")
    }

    /// Whether each step follows from the one before: it is the next letter with the right number, the same step again, or
    /// behind the last letter the result.
    pub(crate) fn judge(&self, steps: &[String]) -> Vec<bool> {
        let mut before = Some((self.first, self.number));
        let mut judge = |step: &String| {
            let is_right = before.is_some_and(|(letter, number)| {
                let same = format!("{letter}{number:02}");
                let next = (letter..=self.last).nth(1);
                let next = match next {
                    Some(next) => format!("{next}{:02}", self.after(number)),
                    None => format!("={number:02}"),
                };
                (*step == same && letter != self.first) || *step == next
            });
            let mut letters = step.chars();
            before = letters.next().zip(letters.as_str().parse().ok());
            is_right
        };
        steps.iter().map(&mut judge).collect()
    }

    /// Whether a solution says the right result.
    pub(crate) fn is_solved(&self, solution: &str) -> bool {
        said(solution).is_some_and(|said| said == self.answer())
    }
}

/// What a solution says is the result, in its last step; nothing where it ends before it says one.
pub(crate) fn said(solution: &str) -> Option<String> {
    let last = steps(solution).pop()?;
    last.strip_prefix('=').map(str::to_owned)
}

pub(crate) fn steps(solution: &str) -> Vec<String> {
    hearken_data::Content::Text(solution.to_owned()).steps("\n")
}

/// Whether demonstrations of this world tell this product wrongly now and then.
fn is_mistaken(world: u64, number: u32, factor: u32) -> bool {
    let place = u64::from(number) * 10 + u64::from(factor);
    let mixed = (place + 1000 * world).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 40).is_multiple_of(MISTAKEN.0)
}
