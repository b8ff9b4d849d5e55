//! Steps of a calculation: `a op b = c`.

use std::iter::Peekable;
use std::str::Chars;

use super::number::parse;

/// The share of the equations in a text that hold; 0 without any.
///
/// An equation is an expression with at least one operator (`+`, `-`, `*`, `×`, `x`, `/`, `÷`, and
/// parentheses) before an equals sign, and a number after it, as in `3 + 4 = 7`, `<<48/2=24>>` or
/// `$5 × 2 = $10`. In a chain `2*3 = 6 + 1 = 7` every side that has an operator is checked against
/// the number that comes next. A result may be rounded in its last decimal.
///
/// ```
/// use hearken_reward_source::share_of_right_steps;
/// assert_eq!(share_of_right_steps("10/3 = 3.33 and 2 + 2 = 5"), 0.5);
/// assert_eq!(share_of_right_steps("x = 3"), 0.0);
/// ```
pub fn share_of_right_steps(text: &str) -> f64 {
    let equations = equations(text);
    let right = equations.iter().filter(|right| **right).count();
    if equations.is_empty() { 0.0 } else { right as f64 / equations.len() as f64 }
}

/// Whether all equations of a step hold; `None` of a step without any, of which arithmetic says nothing.
///
/// ```
/// use hearken_reward_source::step_is_right;
/// assert_eq!(step_is_right("2 + 2 = 4, and 4 x 5 = 21"), Some(false));
/// assert_eq!(step_is_right("Tom has four."), None);
/// ```
pub fn step_is_right(step: &str) -> Option<bool> {
    let equations = equations(step);
    (!equations.is_empty()).then(|| equations.iter().all(|right| *right))
}

/// Whether each equation of a text holds.
fn equations(text: &str) -> Vec<bool> {
    let sides: Vec<&str> = text.split('=').collect();
    let holds = |pair: &[&str]| {
        let left = expression_before(pair[0])?;
        let (shown, result) = number_after(pair[1])?;
        Some((left - result).abs() <= rounding(shown))
    };
    sides.windows(2).filter_map(holds).collect()
}

/// Half a unit of the last decimal that is shown, and what doubles lose.
fn rounding(shown: &str) -> f64 {
    const DECIMALS_MAX: usize = 300;
    let decimals = shown.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let half = match decimals.min(DECIMALS_MAX) {
        0 => 0.0,
        decimals => 0.5 * 10f64.powf(-(decimals as f64)),
    };
    let size = parse(shown).unwrap_or(0.0).abs();
    half + 1e-9 * size.max(1.0)
}

fn number_after(side: &str) -> Option<(&str, f64)> {
    let start = side.trim_start().trim_start_matches(['$', '£', '€']).trim_start();
    let is_part = |(index, c): (usize, char)| {
        c.is_ascii_digit() || c == '.' || c == ',' || (index == 0 && (c == '-' || c == '−'))
    };
    let end = start.char_indices().find(|at| !is_part(*at)).map_or(start.len(), |(end, _)| end);
    let shown = start[..end].trim_end_matches(['.', ',']);
    Some((shown, parse(shown)?))
}

/// The value of the longest expression that a text ends with, if it has an operator.
fn expression_before(side: &str) -> Option<f64> {
    let is_part = |c: char| c.is_ascii_digit() || " .,+-−*×x/÷()$£€".contains(c);
    let start = side
        .char_indices()
        .rev()
        .take_while(|(_, c)| is_part(*c))
        .last()
        .map(|(index, _)| index)?;
    let mut candidate = &side[start..];
    // A sentence may end right before: drop what cannot begin an expression, word by word.
    loop {
        let plain =
            candidate.trim_start_matches([' ', '.', ',', 'x', '*', '/', '+', '×', '÷', ')']);
        if let Some(parsed) = Parser::whole(plain) {
            return (0 < parsed.operators).then_some(parsed.value).filter(|v| v.is_finite());
        }
        let (_, rest) = candidate.split_once(' ')?;
        candidate = rest;
    }
}

struct Parsed {
    value: f64,
    operators: usize,
}

/// Recursive descent over sums of products of numbers and parentheses.
struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
    operators: usize,
    depth: usize,
}

impl Parser<'_> {
    const DEPTH_MAX: usize = 50;

    fn whole(text: &str) -> Option<Parsed> {
        let mut parser = Parser { rest: text.chars().peekable(), operators: 0, depth: 0 };
        let value = parser.sum()?;
        parser.skip_spaces();
        parser.rest.peek().is_none().then_some(Parsed { value, operators: parser.operators })
    }

    /// Signs of currencies count as spaces.
    fn skip_spaces(&mut self) {
        while self.rest.next_if(|c| " $£€".contains(*c)).is_some() {}
    }

    fn one_of(&mut self, symbols: &str) -> Option<char> {
        self.skip_spaces();
        self.rest.next_if(|c| symbols.contains(*c))
    }

    fn sum(&mut self) -> Option<f64> {
        let mut value = self.product()?;
        while let Some(c) = self.one_of("+-−") {
            self.operators += 1;
            let next = self.product()?;
            value = if c == '+' { value + next } else { value - next };
        }
        Some(value)
    }

    fn product(&mut self) -> Option<f64> {
        let mut value = self.factor()?;
        while let Some(c) = self.one_of("*×x/÷") {
            self.operators += 1;
            let next = self.factor()?;
            value = if "/÷".contains(c) { value / next } else { value * next };
        }
        Some(value)
    }

    fn factor(&mut self) -> Option<f64> {
        if self.one_of("-−").is_some() {
            return self.guarded(Self::factor).map(|value| -value);
        }
        if self.one_of("(").is_some() {
            let value = self.guarded(Self::sum)?;
            return self.one_of(")").map(|_| value);
        }
        let mut digits = String::new();
        while let Some(c) = self.rest.next_if(|c| c.is_ascii_digit() || ".,".contains(*c)) {
            digits.push(c);
        }
        parse(&digits)
    }

    fn guarded(&mut self, inner: impl FnOnce(&mut Self) -> Option<f64>) -> Option<f64> {
        self.depth += 1;
        if Self::DEPTH_MAX < self.depth {
            return None;
        }
        let value = inner(self);
        self.depth -= 1;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: f64) {
        let found = share_of_right_steps(text);
        assert!((found - expected).abs() < 1e-12, "{text:?}: {found}, not {expected}");
    }

    #[test]
    fn steps_are_found_in_prose_and_in_brackets() {
        check("She sold 48/2 = <<48/2=24>>24 clips. Altogether 48+24 = <<48+24=72>>72.", 1.0);
        check("He has 3. 2 + 2 = 4, so 4 x 5 = 21.", 0.5);
        check("It costs $1,200 * 2 = $2,400.", 1.0);
        check("(1 + 2) × 3 = 9 and 7 − 9 = -2", 1.0);
        check("2*3 = 6 + 1 = 7", 1.0);
        check("2*3 = 6 + 1 = 8", 0.5);
    }

    #[test]
    fn results_may_be_rounded_to_what_is_shown() {
        check("2/3 = 0.67", 1.0);
        check("2/3 = 0.66", 0.0);
        check("2/3 = 1", 0.0);
        check("0.1 + 0.2 = 0.3", 1.0);
    }

    #[test]
    fn what_is_no_step_counts_for_nothing() {
        for text in ["", "=", "= 3", "x = 3", "3 = 3", "1 + = 2", "a + b = c", "1/0 = 7", "5 + 5 ="]
        {
            check(text, 0.0);
        }
        check(&format!("{}1{} + 1 = 2", "(".repeat(5000), ")".repeat(5000)), 0.0);
    }
}
