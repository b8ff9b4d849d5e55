//! Steps of a calculation: `a op b = c`.

use std::iter::Peekable;
use std::str::Chars;

use super::number::parse;

/// The share of the equations in a text that hold; 0 without any.
///
/// An equation is an expression with at least one operator (`+`, `-`, `*`, `×`, `x`, `/`, `÷`, and
/// parentheses) before an equals sign, and a number after it, as in `3 + 4 = 7`, `<<48/2=24>>` or
/// `$5 × 2 = $10`. In a chain `2*3 = 6 + 1 = 7` every side that has an operator is checked against
/// the number that comes next, or against the value of that side where it is an expression, as in
/// `1 - 3/4 = 1/4`. A result may be rounded in its last decimal, and a percentage is a hundredth.
/// Where a letter, a percent sign or an operator stands before an expression, it is a part of something
/// that cannot be computed (`5x - 28 = 339`, `66 fish * 1/3 = 22`), and no equation.
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
        let right = RightSide::after(pair[1])?;
        Some(right.is(left))
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

/// What stands behind an equals sign.
struct RightSide<'a> {
    /// The first number, as it is written, where it is not the first part of a fraction.
    number: Option<(&'a str, f64)>,
    /// The value of the expression that begins there, if it has an operator.
    expression: Option<f64>,
    is_percent: bool,
}

impl<'a> RightSide<'a> {
    fn after(side: &'a str) -> Option<Self> {
        const SCALES: [&str; 6] =
            ["dozen", "hundred", "thousand", "million", "billion", "trillion"];
        let start = side.trim_start().trim_start_matches(['$', '£', '€']).trim_start();
        let is_part = |(index, c): (usize, char)| {
            c.is_ascii_digit() || c == '.' || c == ',' || (index == 0 && (c == '-' || c == '−'))
        };
        let end = start.char_indices().find(|at| !is_part(*at)).map_or(start.len(), |at| at.0);
        let shown = start[..end].trim_end_matches(['.', ',']);
        let rest = &start[end..];
        if is_letter_of_algebra(rest) || SCALES.iter().any(|of| rest.trim_start().starts_with(of)) {
            return None;
        }
        let expression = expression_at(start);
        let is_whole = !rest.starts_with('/');
        let number = parse(shown).filter(|_| is_whole).map(|value| (shown, value));
        let is_percent = rest.trim_start().starts_with('%');
        (number.is_some() || expression.is_some()).then_some(Self {
            number,
            expression,
            is_percent,
        })
    }

    fn is(&self, value: f64) -> bool {
        let is_number = |(shown, number): (&str, f64)| {
            let near = |value: f64| (value - number).abs() <= rounding(shown);
            near(value) || (self.is_percent && near(100.0 * value))
        };
        let is_near = |found: f64| (value - found).abs() <= 1e-9 * found.abs().max(1.0);
        self.number.is_some_and(is_number) || self.expression.is_some_and(is_near)
    }
}

/// Whether a text begins with one letter alone that no usual unit has: 2x, 25k, but 5m.
fn is_letter_of_algebra(text: &str) -> bool {
    let mut characters = text.chars();
    let first = characters.next().filter(|c| c.is_alphabetic() && !"mglLhsCFVWJN".contains(*c));
    first.is_some() && characters.next().is_none_or(|c| !c.is_alphabetic())
}

fn is_part(c: char) -> bool {
    c.is_ascii_digit() || " .,+-−*×x/÷()$£€".contains(c)
}

/// The value of the longest expression that a text begins with, if it has an operator.
fn expression_at(text: &str) -> Option<f64> {
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let mut candidate = &text[..end];
    loop {
        candidate = candidate.trim_end_matches([' ', '.', ',']);
        if let Some(parsed) = Parser::whole(candidate).filter(|_| !has_unknown(candidate)) {
            return (0 < parsed.operators).then_some(parsed.value).filter(|v| v.is_finite());
        }
        candidate = candidate.rsplit_once(' ')?.0;
    }
}

/// Whether an x is no sign of multiplication: nothing that begins a factor follows it.
fn has_unknown(text: &str) -> bool {
    let begins_factor = |c: char| c.is_ascii_digit() || ".($£€".contains(c);
    text.char_indices().filter(|(_, c)| *c == 'x').any(|(at, _)| {
        let behind = &text[at + 1..];
        let factor = behind.trim_start_matches(' ');
        let is_signed = behind.starts_with(' ')
            && factor.strip_prefix(['-', '−']).is_some_and(|rest| rest.starts_with(begins_factor));
        !is_signed && !factor.starts_with(begins_factor)
    })
}

/// The value of the longest expression that a text ends with, if it has an operator and is no part of what
/// cannot be computed.
fn expression_before(side: &str) -> Option<f64> {
    let start = side.char_indices().rev().take_while(|(_, c)| is_part(*c)).last()?.0;
    let (before, run) = side.split_at(start);
    let follows_letter = before.ends_with(char::is_alphabetic);
    // The end of a word: box.
    let mut candidate = if follows_letter { run.trim_start_matches('x') } else { run };
    let is_attached = candidate.starts_with(|c: char| c.is_ascii_digit() || c == '(');
    if (follows_letter && is_attached) || has_unknown(candidate) {
        return None;
    }
    // A sentence may end right before: drop what cannot begin an expression, word by word.
    loop {
        let plain = without_sentence_end(candidate);
        if begins_with_operator(plain) {
            return None;
        }
        if let Some(parsed) = Parser::whole(plain) {
            return (0 < parsed.operators).then_some(parsed.value).filter(|v| v.is_finite());
        }
        let (dropped, rest) = plain.split_once(' ')?;
        let is_count = !dropped.is_empty() && dropped.chars().all(|c| c.is_ascii_digit());
        if is_count && rest.split_once('/').is_some_and(|(above, _)| parse(above).is_some()) {
            // 1 1/2 is no product.
            return None;
        }
        candidate = rest;
    }
}

/// A text without the stops, commas and closing brackets of a sentence before it; the point of .5 stays.
fn without_sentence_end(text: &str) -> &str {
    let mut rest = text;
    loop {
        let mut characters = rest.chars();
        let is_end = match characters.next() {
            Some(' ' | ',' | ')') => true,
            Some('.') => !characters.next().is_some_and(|c| c.is_ascii_digit()),
            _ => false,
        };
        if !is_end {
            return rest;
        }
        rest = &rest[1..];
    }
}

/// Whether a text begins with a sign that needs something before it; a minus needs nothing where it touches a number.
fn begins_with_operator(text: &str) -> bool {
    let mut characters = text.chars();
    match characters.next() {
        Some('+' | '*' | '×' | 'x' | '/' | '÷') => true,
        Some('-' | '−') => characters.next().is_none_or(|c| !c.is_ascii_digit() && c != '('),
        _ => false,
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
        // Faults that solutions of GSM8K's authors' models showed.
        check("Each dog takes .5*10=<<.5*10=5.0>>5 hours", 1.0);
        check("$.20/gallon * 10 gallons = $<<.20*10=2.0>>2.00", 1.0);
        check("The dog takes 20/60 = 1/3 of an hour", 1.0);
        check("1 - 3/4 = 1/4 of its flights", 1.0);
        check("4 - 1/3 = 2/3 of the weekend", 0.0);
        check("6/6 = 1/3", 0.0);
        check("the adult gets 2*1/4 = 2/4 of it", 1.0);
        check("b = 20 * 5 - 4 = 100 - 4 = 96", 1.0);
        check("3.0 / 2 = 150%, and 3 x -2 = -6", 1.0);
        check("A box 3 + 4 = 7, then -5+3 = -2", 1.0);
        check("He walks 2*3 = 6m", 1.0);
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
        for text in [
            "5x-5 = 33",
            "x + (2x-5) = 33",
            "3x + 20 + 10 = 45",
            "33 / 2 = 2x / 2",
            "X+20+10+45 = 90",
            "s + s + 4 + 9.5 = 19",
            "C / 2 + 2 = 5",
            "x + 5 + 4x - 13 = 339",
            "66 fish * 1/3 = 22 fish",
            "25k*3 = 75,000",
            "1 1/2 = 1.5",
            "6 + 20% * 48 = 15.6",
            "3 * 2 = 6 thousand",
        ] {
            assert_eq!(step_is_right(text), None, "{text}");
        }
        check(&format!("{}1{} + 1 = 2", "(".repeat(5000), ")".repeat(5000)), 0.0);
    }
}
