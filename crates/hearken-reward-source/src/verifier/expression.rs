//! Expressions of numbers and variables: read from LaTeX or plain text, and compared by their values.

use std::collections::BTreeSet;

use num_complex::Complex64;
use num_rational::BigRational;
use num_traits::{One, Pow, Signed, ToPrimitive, Zero};

/// How deep brackets may nest.
const DEPTH_MAX: usize = 50;
/// The largest exponent that is computed exactly, by absolute value.
const EXPONENT_MAX: i64 = 1000;
/// Bits of the largest base that is raised exactly.
const BASE_BITS_MAX: u64 = 512;
/// Where expressions with variables are evaluated.
const PROBES: usize = 7;
/// Of these, how many must have a value in both.
const PROBES_MIN: usize = 3;

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    /// A number as it was written, which is exact; decimals may have been rounded.
    Number {
        value: BigRational,
        is_decimal: bool,
    },
    /// A letter, or a constant's sign.
    Symbol(String),
    Sum(Vec<Expression>),
    Product(Vec<Expression>),
    Negative(Box<Expression>),
    Quotient(Box<Expression>, Box<Expression>),
    Power(Box<Expression>, Box<Expression>),
    Function(Function, Box<Expression>),
    /// To a base.
    Logarithm(Box<Expression>, Box<Expression>),
    /// n over k.
    Binomial(Box<Expression>, Box<Expression>),
}

/// A function of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Absolute,
    Floor,
    Ceiling,
    Factorial,
    Sine,
    Cosine,
    Tangent,
    Cotangent,
    Secant,
    Cosecant,
    Arcsine,
    Arccosine,
    Arctangent,
    NaturalLogarithm,
    CommonLogarithm,
    Exponential,
}

impl Function {
    /// Whether it takes an angle, which may be in degrees.
    fn is_of_angle(self) -> bool {
        use Function::{Cosecant, Cosine, Cotangent, Secant, Sine, Tangent};
        matches!(self, Sine | Cosine | Tangent | Cotangent | Secant | Cosecant)
    }
}

const FUNCTIONS: &[(&str, Function)] = &[
    ("arcsin", Function::Arcsine),
    ("arccos", Function::Arccosine),
    ("arctan", Function::Arctangent),
    ("sin", Function::Sine),
    ("cos", Function::Cosine),
    ("tan", Function::Tangent),
    ("cot", Function::Cotangent),
    ("sec", Function::Secant),
    ("csc", Function::Cosecant),
    ("ln", Function::NaturalLogarithm),
    ("log", Function::CommonLogarithm),
    ("exp", Function::Exponential),
];

impl Expression {
    /// The expression that a text is, all of it; `None` if it is none.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut parser = Parser { rest: text, depth: 0, bars: 0, angles: 0 };
        let read = parser.group()?;
        parser.skip_spaces();
        parser.rest.is_empty().then_some(read)
    }

    /// Whether it is one letter, perhaps with an index, that stands for something unknown.
    pub(super) fn is_variable(&self) -> bool {
        matches!(self, Self::Symbol(name) if !["π", "∞"].contains(&name.as_str()))
    }

    /// The expression times -1.
    pub(super) fn negated(self) -> Self {
        Self::Negative(Box::new(self))
    }

    fn number(value: i64) -> Self {
        Self::Number { value: BigRational::from_integer(value.into()), is_decimal: false }
    }

    /// This divided by a hundred.
    pub(super) fn hundredth(self) -> Self {
        Self::Quotient(Box::new(self), Box::new(Self::number(100)))
    }

    /// The rational number that it is exactly, and whether a decimal is part of it.
    fn exact(&self) -> Option<(BigRational, bool)> {
        let two = |a: &Self, b: &Self| Some((a.exact()?, b.exact()?));
        Some(match self {
            Self::Number { value, is_decimal } => (value.clone(), *is_decimal),
            Self::Negative(inner) => {
                let (value, decimal) = inner.exact()?;
                (-value, decimal)
            }
            Self::Sum(terms) => {
                terms.iter().try_fold((BigRational::zero(), false), |(sum, decimal), term| {
                    let (value, is_decimal) = term.exact()?;
                    Some((sum + value, decimal || is_decimal))
                })?
            }
            Self::Product(factors) => factors.iter().try_fold(
                (BigRational::one(), false),
                |(product, decimal), one| {
                    let (value, is_decimal) = one.exact()?;
                    Some((product * value, decimal || is_decimal))
                },
            )?,
            Self::Quotient(above, below) => {
                let ((above, one), (below, other)) = two(above, below)?;
                (!below.is_zero()).then(|| (above / below, one || other))?
            }
            Self::Power(base, exponent) => {
                let ((base, one), (exponent, other)) = two(base, exponent)?;
                let exponent = exponent.is_integer().then(|| exponent.to_integer().to_i64())??;
                let bits = base.numer().bits().max(base.denom().bits());
                let is_small = exponent.abs() <= EXPONENT_MAX && bits <= BASE_BITS_MAX;
                if !is_small || (base.is_zero() && exponent <= 0) {
                    return None;
                }
                let exponent = i32::try_from(exponent).ok()?;
                (Pow::pow(base, exponent), one || other)
            }
            Self::Function(Function::Absolute, inner) => {
                let (value, decimal) = inner.exact()?;
                (value.abs(), decimal)
            }
            Self::Function(Function::Floor, inner) => (inner.exact()?.0.floor(), false),
            Self::Function(Function::Ceiling, inner) => (inner.exact()?.0.ceil(), false),
            Self::Symbol(_) | Self::Function(..) | Self::Logarithm(..) | Self::Binomial(..) => {
                return None;
            }
        })
    }

    /// The value where `at` says what symbols stand for; NaN where there is none.
    fn value(&self, at: &dyn Fn(&str) -> Complex64) -> Complex64 {
        match self {
            Self::Number { value, .. } => value.to_f64().unwrap_or(f64::NAN).into(),
            Self::Symbol(name) => at(name),
            Self::Sum(terms) => terms.iter().map(|term| term.value(at)).sum(),
            Self::Product(factors) => factors.iter().map(|factor| factor.value(at)).product(),
            Self::Negative(inner) => -inner.value(at),
            Self::Quotient(above, below) => above.value(at) / below.value(at),
            Self::Power(base, exponent) => power(base.value(at), exponent.value(at)),
            Self::Function(function, inner) => function.of(inner.value(at)),
            Self::Logarithm(base, inner) => inner.value(at).ln() / base.value(at).ln(),
            Self::Binomial(n, k) => binomial(n.value(at), k.value(at)),
        }
    }

    fn symbols<'a>(&'a self, into: &mut BTreeSet<&'a str>) {
        match self {
            Self::Number { .. } => {}
            Self::Symbol(name) => {
                into.insert(name);
            }
            Self::Sum(all) | Self::Product(all) => all.iter().for_each(|one| one.symbols(into)),
            Self::Negative(inner) | Self::Function(_, inner) => inner.symbols(into),
            Self::Quotient(one, other)
            | Self::Power(one, other)
            | Self::Logarithm(one, other)
            | Self::Binomial(one, other) => {
                one.symbols(into);
                other.symbols(into);
            }
        }
    }
}

/// Whether two expressions have the same value wherever they have one. Rational numbers are compared
/// exactly, but decimals in about nine digits; all else by values at some places.
pub(super) fn same_value(one: &Expression, other: &Expression) -> bool {
    if let (Some((a, one_decimal)), Some((b, other_decimal))) = (one.exact(), other.exact()) {
        let is_rounded = one_decimal || other_decimal;
        let (a64, b64) = (a.to_f64(), b.to_f64());
        return a == b
            || (is_rounded && a64.zip(b64).is_some_and(|(a, b)| close(a.into(), b.into())));
    }
    let values = probe(one, other);
    PROBES_MIN <= values.len() && values.iter().all(|(a, b)| close(*a, *b))
}

/// Whether one equation, as left minus right, is a multiple of the other.
pub(super) fn proportional(one: &Expression, other: &Expression) -> bool {
    let values = probe(one, other);
    let Some((a, b)) = values.iter().find(|(_, b)| 1e-9 < b.norm()) else { return false };
    let ratio = a / b;
    PROBES_MIN <= values.len()
        && 1e-9 < ratio.norm()
        && values.iter().all(|(a, b)| close(*a, ratio * b))
}

/// Values of two expressions at the same places, where both have one.
fn probe(one: &Expression, other: &Expression) -> Vec<(Complex64, Complex64)> {
    let mut symbols = BTreeSet::new();
    one.symbols(&mut symbols);
    other.symbols(&mut symbols);
    let names: Vec<&str> = symbols.into_iter().collect();
    let place = |probe: usize, name: &str| -> Complex64 {
        match name {
            "π" => std::f64::consts::PI.into(),
            "i" => Complex64::i(),
            "e" => std::f64::consts::E.into(),
            _ => {
                let index = names.iter().position(|known| *known == name).unwrap_or(0);
                // Steps of the golden ratio and of √2, which fill an interval evenly.
                let step = (probe as f64 + 1.0) * 0.618_033_988_75
                    + (index as f64 + 1.0) * std::f64::consts::SQRT_2;
                (0.3 + 2.4 * step.fract()).into()
            }
        }
    };
    let values = (0..PROBES).map(|probe| {
        let at = |name: &str| place(probe, name);
        (one.value(&at), other.value(&at))
    });
    values.filter(|(a, b)| a.is_finite() && b.is_finite()).collect()
}

/// Equal but for rounding in the last of about nine digits.
fn close(one: Complex64, other: Complex64) -> bool {
    (one - other).norm() <= 1e-9 * one.norm().max(other.norm()).max(1e-6)
}

fn power(base: Complex64, exponent: Complex64) -> Complex64 {
    // A negative zero would lead to the other root of a negative number.
    let base = if base.im == 0.0 { base.re.into() } else { base };
    if exponent.im == 0.0 && exponent.re.fract() == 0.0 && exponent.re.abs() <= 64.0 {
        return base.powi(exponent.re as i32);
    }
    // A root of odd degree of a negative number is the real one.
    let degree = 1.0 / exponent.re;
    let is_odd_root = exponent.im == 0.0
        && (degree - degree.round()).abs() < 1e-9
        && (degree.round() % 2.0).abs() > 0.5;
    if base.im == 0.0 && base.re < 0.0 && is_odd_root {
        return (-(-base.re).powf(exponent.re)).into();
    }
    base.powc(exponent)
}

fn binomial(n: Complex64, k: Complex64) -> Complex64 {
    let (n, k) = (n.re, k.re);
    if !(0.0..=1000.0).contains(&k) || k.fract() != 0.0 {
        return f64::NAN.into();
    }
    (1..=k as u32).map(|j| (n - k + f64::from(j)) / f64::from(j)).product::<f64>().into()
}

impl Function {
    fn of(self, x: Complex64) -> Complex64 {
        match self {
            Self::Absolute => x.norm().into(),
            // What rounding has put just below a whole number is one.
            Self::Floor => (x.re + 1e-9).floor().into(),
            Self::Ceiling => (x.re - 1e-9).ceil().into(),
            Self::Factorial => {
                let n = x.re;
                let is_count = x.im == 0.0 && (0.0..=170.0).contains(&n) && n.fract() == 0.0;
                let product = |n: f64| (1..=n as u32).map(f64::from).product::<f64>();
                if is_count { product(n).into() } else { f64::NAN.into() }
            }
            Self::Sine => x.sin(),
            Self::Cosine => x.cos(),
            Self::Tangent => x.tan(),
            Self::Cotangent => x.tan().inv(),
            Self::Secant => x.cos().inv(),
            Self::Cosecant => x.sin().inv(),
            Self::Arcsine => x.asin(),
            Self::Arccosine => x.acos(),
            Self::Arctangent => x.atan(),
            Self::NaturalLogarithm => x.ln(),
            Self::CommonLogarithm => x.log(10.0),
            Self::Exponential => x.exp(),
        }
    }
}

/// Recursive descent over sums of products of powers.
struct Parser<'a> {
    rest: &'a str,
    depth: usize,
    /// Bars of absolute values that are open.
    bars: usize,
    /// Functions of angles whose argument is read: there `60°` is a number.
    angles: usize,
}

impl<'a> Parser<'a> {
    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, prefix: &str) -> bool {
        self.skip_spaces();
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn peek(&mut self) -> Option<char> {
        self.skip_spaces();
        self.rest.chars().next()
    }

    fn guarded<T>(&mut self, inner: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.depth += 1;
        let value = if self.depth <= DEPTH_MAX { inner(self) } else { None };
        self.depth -= 1;
        value
    }

    /// A sum, or one over another with `\choose` between them.
    fn group(&mut self) -> Option<Expression> {
        let value = self.guarded(Self::sum)?;
        if !self.take("\\choose") {
            return Some(value);
        }
        Some(Expression::Binomial(Box::new(value), Box::new(self.guarded(Self::sum)?)))
    }

    fn sum(&mut self) -> Option<Expression> {
        let first = match (self.take("-"), self.take("+")) {
            (true, _) => self.product()?.negated(),
            (false, _) => self.product()?,
        };
        let mut terms = vec![first];
        loop {
            if self.take("+") {
                terms.push(self.product()?);
            } else if self.take("-") {
                terms.push(self.product()?.negated());
            } else {
                break;
            }
        }
        Some(if terms.len() == 1 { terms.pop()? } else { Expression::Sum(terms) })
    }

    fn product(&mut self) -> Option<Expression> {
        let mut value = self.signed_power()?;
        loop {
            if self.take("*") {
                value = product(value, self.signed_power()?);
            } else if self.take("/") {
                value = Expression::Quotient(Box::new(value), Box::new(self.signed_power()?));
            } else if self.begins_factor(&value) {
                let factor = self.power()?;
                value = mixed_or_product(value, factor);
            } else {
                return Some(value);
            }
        }
    }

    /// Whether what comes behind `value` is multiplied without a sign. Two numbers are two numbers.
    fn begins_factor(&mut self, value: &Expression) -> bool {
        match self.peek() {
            Some(c) if c.is_ascii_digit() || c == '.' => {
                !matches!(value, Expression::Number { .. } | Expression::Symbol(_))
            }
            Some('|') => self.bars == 0,
            Some('\\') => !["\\}", "\\choose"].iter().any(|end| self.rest.starts_with(end)),
            Some(c) => c.is_alphabetic() || "({[∞⌊⌈".contains(c),
            None => false,
        }
    }

    fn signed_power(&mut self) -> Option<Expression> {
        if self.take("-") {
            return self.guarded(Self::signed_power).map(Expression::negated);
        }
        if self.take("+") {
            return self.guarded(Self::signed_power);
        }
        self.power()
    }

    fn power(&mut self) -> Option<Expression> {
        let mut base = self.primary()?;
        if 0 < self.angles && self.take("°") {
            base = product(base, radians_of_a_degree());
        }
        while self.take("!") {
            base = Expression::Function(Function::Factorial, Box::new(base));
        }
        if self.take("**") || self.take("^") {
            let exponent = self.guarded(Self::exponent)?;
            return Some(Expression::Power(Box::new(base), Box::new(exponent)));
        }
        Some(base)
    }

    fn exponent(&mut self) -> Option<Expression> {
        if self.take("-") {
            return self.guarded(Self::exponent).map(Expression::negated);
        }
        if self.peek() == Some('{') { self.braced() } else { self.power() }
    }

    fn braced(&mut self) -> Option<Expression> {
        if !self.take("{") {
            return None;
        }
        self.inside("}")
    }

    fn inside(&mut self, end: &str) -> Option<Expression> {
        let bars = std::mem::take(&mut self.bars);
        let value = self.group()?;
        self.bars = bars;
        self.take(end).then_some(value)
    }

    fn primary(&mut self) -> Option<Expression> {
        let c = self.peek()?;
        match c {
            '(' | '[' | '{' => {
                self.rest = &self.rest[1..];
                self.inside(match c {
                    '(' => ")",
                    '[' => "]",
                    _ => "}",
                })
            }
            '⌊' | '⌈' => {
                self.rest = &self.rest[c.len_utf8()..];
                let (end, function) = match c {
                    '⌊' => ("⌋", Function::Floor),
                    _ => ("⌉", Function::Ceiling),
                };
                let value = self.inside(end)?;
                Some(Expression::Function(function, Box::new(value)))
            }
            '|' => {
                self.rest = &self.rest[1..];
                self.bars += 1;
                let value = self.guarded(Self::sum)?;
                self.bars -= 1;
                let closes = self.take("|");
                closes.then(|| Expression::Function(Function::Absolute, Box::new(value)))
            }
            '\\' => self.guarded(Self::command),
            _ if c.is_ascii_digit() || c == '.' => self.number(),
            _ if c.is_alphabetic() || c == '∞' => self.guarded(Self::letters),
            _ => None,
        }
    }

    /// An argument of a command: in braces, or one sign.
    fn argument(&mut self) -> Option<Expression> {
        match self.peek()? {
            '{' => self.braced(),
            '\\' => self.guarded(Self::command),
            c if c.is_ascii_digit() => {
                self.rest = &self.rest[1..];
                Some(Expression::number(c.to_digit(10)?.into()))
            }
            c if c.is_alphabetic() => {
                self.rest = &self.rest[c.len_utf8()..];
                Some(Expression::Symbol(c.to_string()))
            }
            _ => None,
        }
    }

    fn command(&mut self) -> Option<Expression> {
        self.rest = self.rest.strip_prefix('\\')?;
        let end = self.rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        match name {
            "frac" => {
                let above = self.argument()?;
                Some(Expression::Quotient(Box::new(above), Box::new(self.argument()?)))
            }
            "sqrt" => self.root(),
            "binom" | "dbinom" | "tbinom" => {
                let n = self.argument()?;
                Some(Expression::Binomial(Box::new(n), Box::new(self.argument()?)))
            }
            "" => None,
            _ => match FUNCTIONS.iter().find(|(known, _)| *known == name) {
                Some((_, function)) => self.applied(*function),
                None => Some(self.indexed(format!("\\{name}"))),
            },
        }
    }

    fn root(&mut self) -> Option<Expression> {
        let degree = match self.take("[") {
            true => self.inside("]")?,
            false => Expression::number(2),
        };
        let radicand = match self.peek()? {
            '(' => self.primary()?,
            c if c.is_ascii_digit() => self.number()?,
            _ => self.argument()?,
        };
        let exponent = Expression::Quotient(Box::new(Expression::number(1)), Box::new(degree));
        Some(Expression::Power(Box::new(radicand), Box::new(exponent)))
    }

    /// A function of what follows it: something in brackets, or a product up to the next sign.
    fn applied(&mut self, function: Function) -> Option<Expression> {
        let base = match function == Function::CommonLogarithm && self.take("_") {
            true => Some(self.argument()?),
            false => None,
        };
        let exponent = match self.take("^") {
            true => Some(self.exponent()?),
            false => None,
        };
        let is_of_angle = function.is_of_angle();
        self.angles += usize::from(is_of_angle);
        let argument = self.applied_to()?;
        self.angles -= usize::from(is_of_angle);
        let value = match base {
            Some(base) => Expression::Logarithm(Box::new(base), Box::new(argument)),
            None => Expression::Function(function, Box::new(argument)),
        };
        Some(match exponent {
            Some(exponent) => Expression::Power(Box::new(value), Box::new(exponent)),
            None => value,
        })
    }

    fn applied_to(&mut self) -> Option<Expression> {
        if "({[".contains(self.peek()?) {
            return self.primary();
        }
        let mut argument = self.power()?;
        while self.peek().is_some_and(char::is_alphanumeric) && !self.is_at_function() {
            argument = product(argument, self.power()?);
        }
        Some(argument)
    }

    fn is_at_function(&self) -> bool {
        let rest = self.rest.trim_start();
        FUNCTIONS.iter().any(|(name, _)| rest.starts_with(name))
    }

    /// Letters without a sign between them are multiplied; a run of three or more is a word.
    fn letters(&mut self) -> Option<Expression> {
        if self.rest.starts_with('∞') {
            self.rest = &self.rest['∞'.len_utf8()..];
            return Some(Expression::Symbol("∞".to_owned()));
        }
        let end = self.rest.find(|c: char| !c.is_alphabetic()).unwrap_or(self.rest.len());
        let run = &self.rest[..end];
        if let Some((name, function)) = FUNCTIONS.iter().find(|(name, _)| run.starts_with(name)) {
            self.rest = &self.rest[name.len()..];
            return self.applied(*function);
        }
        if let Some(rest) = self.rest.strip_prefix("sqrt") {
            self.rest = rest;
            return self.root();
        }
        if let Some(rest) = self.rest.strip_prefix("pi") {
            self.rest = rest;
            return Some(Expression::Symbol("π".to_owned()));
        }
        if 3 <= run.chars().count() {
            return None;
        }
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(self.indexed(c.to_string()))
    }

    /// A symbol with what stands below it and its primes.
    fn indexed(&mut self, mut name: String) -> Expression {
        if let Some(rest) = self.rest.strip_prefix('_') {
            let end = match rest.starts_with('{') {
                true => super::latex::closing(&rest[1..]).map_or(rest.len(), |end| end + 2),
                false => rest.chars().next().map_or(0, char::len_utf8),
            };
            name.push('_');
            name.extend(rest[..end].chars().filter(|c| !"{}".contains(*c)));
            self.rest = &rest[end..];
        }
        while let Some(rest) = self.rest.strip_prefix('\'') {
            name.push('\'');
            self.rest = rest;
        }
        Expression::Symbol(name)
    }

    /// Digits, decimals, which may repeat under a line, and a power of ten.
    fn number(&mut self) -> Option<Expression> {
        let digits = |text: &'a str| -> &'a str {
            &text[..text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())]
        };
        let whole = digits(self.rest);
        let mut rest = &self.rest[whole.len()..];
        let (mut decimals, mut repeated) = ("", "");
        let mut is_decimal = false;
        if let Some(after) = rest.strip_prefix('.') {
            decimals = digits(after);
            is_decimal = !decimals.is_empty();
            rest = &after[decimals.len()..];
            if let Some(line) = rest.strip_prefix("\\overline{") {
                repeated = digits(line);
                rest = line[repeated.len()..].strip_prefix('}')?;
            }
        }
        if whole.is_empty() && decimals.is_empty() && repeated.is_empty() {
            return None;
        }
        self.rest = rest;
        let mut value: BigRational =
            format!("{whole}{decimals}").parse().unwrap_or_else(|_| BigRational::zero());
        let ten = BigRational::from_integer(10.into());
        let tens = |count: usize| -> BigRational { Pow::pow(&ten, count) };
        value /= tens(decimals.len());
        if !repeated.is_empty() {
            let nines = (tens(repeated.len()) - BigRational::one()) * tens(decimals.len());
            value += repeated.parse::<BigRational>().ok()? / nines;
            is_decimal = false;
        }
        let exponent = self.power_of_ten();
        if exponent.unsigned_abs() as usize > EXPONENT_MAX as usize {
            return None;
        }
        let scale = tens(exponent.unsigned_abs() as usize);
        value = if exponent < 0 { value / scale } else { value * scale };
        Some(Expression::Number { value, is_decimal })
    }

    /// The exponent of `e5` behind a number, 0 without one.
    fn power_of_ten(&mut self) -> i64 {
        let Some(rest) = self.rest.strip_prefix(['e', 'E']) else { return 0 };
        let unsigned = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        let end = unsigned.find(|c: char| !c.is_ascii_digit()).unwrap_or(unsigned.len());
        let signed = &rest[..rest.len() - unsigned.len() + end];
        match signed.parse() {
            Ok(exponent) if 0 < end => {
                self.rest = &unsigned[end..];
                exponent
            }
            _ => 0,
        }
    }
}

fn product(one: Expression, other: Expression) -> Expression {
    match one {
        Expression::Product(mut factors) => {
            factors.push(other);
            Expression::Product(factors)
        }
        one => Expression::Product(vec![one, other]),
    }
}

/// π/180.
fn radians_of_a_degree() -> Expression {
    let pi = Expression::Symbol("π".to_owned());
    Expression::Quotient(Box::new(pi), Box::new(Expression::number(180)))
}

/// A whole number before a proper fraction of whole numbers is added to it: 1½.
fn mixed_or_product(value: Expression, factor: Expression) -> Expression {
    let whole = |of: &Expression| match of {
        Expression::Number { value, is_decimal: false } if value.is_integer() => {
            Some(value.clone())
        }
        _ => None,
    };
    let is_mixed = match (&value, &factor) {
        (number, Expression::Quotient(above, below)) if whole(number).is_some() => {
            whole(above).zip(whole(below)).is_some_and(|(above, below)| above < below)
        }
        _ => false,
    };
    if is_mixed { Expression::Sum(vec![value, factor]) } else { product(value, factor) }
}
