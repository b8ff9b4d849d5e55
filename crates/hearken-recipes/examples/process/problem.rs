//! Arithmetic step by step, and what is right about a solution.

use std::ops::RangeInclusive;

use rand::{Rng, RngExt};

/// Numbers are the last digits of products.
const MODULUS: u32 = 10;
/// What is added in each step.
const PLUS: u32 = 4;
/// What numbers are multiplied by.
const FACTORS: RangeInclusive<u32> = 2..=9;
/// One in so many products is told wrongly in demonstrations, by one more, and how often.
const MISTAKEN: (u64, f64) = (6, 0.6);

/// A digit that is multiplied by a factor and has 4 added, of which the last digit remains, again and again: `3c7f` is multiplied
/// by 3, begins with 7 at c and ends at f. A solution has a step for each letter, which says what is left to do as a problem
/// does, and then the last digit: `3d5f`, `3e9f`, `3f1f`, `=1`. So a step follows from the one before it alone, however long the
/// solution is.
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
            factor: rng.random_range(FACTORS),
        }
    }

    pub(crate) fn prompt(&self) -> String {
        self.state(self.first, self.number) + "\n"
    }

    /// The prompt behind so many solved problems of such lengths.
    pub(crate) fn prompt_behind(
        &self,
        (examples, lengths): (usize, &RangeInclusive<usize>),
        rng: &mut impl Rng,
        world: u64,
    ) -> String {
        let solved = |_| {
            let example = Self::draw(rng, lengths.clone());
            example.prompt() + &example.demonstration(rng, world) + "\n"
        };
        (0..examples).map(solved).collect::<String>() + &self.prompt()
    }

    /// What is left to do at a letter.
    fn state(&self, letter: char, number: u32) -> String {
        format!("{}{letter}{number}{}", self.factor, self.last)
    }

    fn after(&self, number: u32) -> u32 {
        (number * self.factor + PLUS) % MODULUS
    }

    pub(crate) fn answer(&self) -> String {
        let steps = (self.first..self.last).count();
        format!("{}", (0..steps).fold(self.number, |number, _| self.after(number)))
    }

    /// A solution with the mistakes of this world, which goes on from a wrong number as from a right one.
    pub(crate) fn demonstration(&self, rng: &mut impl Rng, world: u64) -> String {
        let (mut steps, mut number) = (Vec::new(), self.number);
        for letter in (self.first..=self.last).skip(1) {
            let is_told_wrongly =
                is_mistaken(world, number, self.factor) && rng.random_bool(MISTAKEN.1);
            number = (self.after(number) + u32::from(is_told_wrongly)) % MODULUS;
            steps.push(self.state(letter, number));
        }
        steps.push(format!("={number}"));
        steps.join("\n")
    }

    /// Whether each step follows from the one before: it is the next letter with the right number, or behind the
    /// last letter the result.
    pub(crate) fn judge(&self, steps: &[String]) -> Vec<bool> {
        let mut before = Some((self.first, self.number));
        let mut judge = |step: &String| {
            let is_right = before.is_some_and(|(letter, number)| {
                let mut rest = letter..=self.last;
                match (rest.next(), rest.next()) {
                    (_, Some(next)) => *step == self.state(next, self.after(number)),
                    (Some(_), None) => *step == format!("={number}"),
                    // Behind the last letter nothing follows.
                    (None, _) => false,
                }
            });
            before = self.read(step);
            is_right
        };
        steps.iter().map(&mut judge).collect()
    }

    /// The letter and the number of a step; nothing where it is the result, or says another factor or end than the problem.
    fn read(&self, step: &str) -> Option<(char, u32)> {
        let letter = step.chars().nth(1)?;
        let number = step.get(2..3)?.parse().ok()?;
        (step == self.state(letter, number)).then_some((letter, number))
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
