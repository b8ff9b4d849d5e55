//! Personal data taken out of texts by patterns, before anything of them is stored.
//!
//! ```
//! use hearken_data::redaction::{Redaction, PersonalData};
//! let redaction = Redaction::of(PersonalData::ALL);
//! let text = "Write to ada@example.org or call +41 44 668 18 00.";
//! assert_eq!(redaction.redact(text), "Write to [email] or call [phone].");
//! ```
//!
//! Patterns find what has a form. Names, places and what people tell of themselves have none: not here.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use regex::{Captures, Regex};
use serde_json::Value;

/// What is personal and has a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PersonalData {
    /// Addresses of e-mail.
    Email,
    /// International bank account numbers whose check digits are right (ISO 13616).
    Iban,
    /// Numbers of payment cards, of 13 to 19 digits with a check digit after Luhn.
    Card,
    /// Addresses of machines, IPv4 and IPv6.
    Ip,
    /// Numbers of telephones: with a country code (E.164), with a leading 0 and an area code, or as three, three and four digits.
    Phone,
}

impl PersonalData {
    /// All of it, in the order in which it is looked for: an account number holds what could be a telephone's.
    pub const ALL: [Self; 5] = [Self::Email, Self::Iban, Self::Card, Self::Ip, Self::Phone];

    /// The name in settings, and in brackets in place of what was found.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Iban => "iban",
            Self::Card => "card",
            Self::Ip => "ip",
            Self::Phone => "phone",
        }
    }

    fn pattern(self) -> &'static str {
        match self {
            Self::Email => {
                r"(?i)\b[a-z0-9][a-z0-9._%+'-]*@[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,}\b"
            }
            Self::Iban => r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b",
            Self::Card => r"\b\d(?:[ -]?\d){12,18}\b",
            // Four numbers; or hexadecimal digits and at least two colons.
            Self::Ip => {
                r"\b\d{1,3}(?:\.\d{1,3}){3}\b|\b[0-9A-Za-z]*:[0-9A-Za-z:.]*:[0-9A-Za-z:.]*\b|::[0-9A-Fa-f]+\b"
            }
            Self::Phone => {
                r"\+\d[\d ().\-/]{5,20}\d\b|\b00[1-9][\d ().\-/]{6,20}\d\b|\(?\b\d{3}\)?[ .-]\d{3}[ .-]\d{4}\b|\b0\d{1,4}[ /-]\d[\d -]{3,10}\d\b"
            }
        }
    }

    /// Whether what has the form is what it looks like.
    fn holds(self, found: &str) -> bool {
        let digits = found.bytes().filter(u8::is_ascii_digit).count();
        match self {
            Self::Email => true,
            Self::Iban => is_iban(found),
            Self::Card => (13..=19).contains(&digits) && passes_luhn(found),
            Self::Ip => {
                // Names of programs have colons too.
                let is_v6 = || Ipv6Addr::from_str(found).is_ok() && 0 < digits;
                Ipv4Addr::from_str(found).is_ok() || is_v6()
            }
            Self::Phone => (7..=15).contains(&digits),
        }
    }
}

impl fmt::Display for PersonalData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PersonalData {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|one| one.as_str() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            format!("found {name:?}, expected one of {known}")
        })
    }
}

/// Luhn's check (ISO/IEC 7812-1): every second digit from the right is doubled, and the sum of all digits ends in 0.
fn passes_luhn(text: &str) -> bool {
    let digits = text.bytes().rev().filter(u8::is_ascii_digit).map(|digit| u32::from(digit - b'0'));
    let sum: u32 = digits
        .enumerate()
        .map(|(at, digit)| match (at % 2, 2 * digit) {
            (0, _) => digit,
            (_, doubled) if doubled < 10 => doubled,
            (_, doubled) => doubled - 9,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// The check of ISO 13616: the first four characters go to the end, letters are 10 to 35, and the remainder by 97 is 1.
fn is_iban(text: &str) -> bool {
    let plain: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
    if !(15..=34).contains(&plain.len()) {
        return false;
    }
    let moved = plain[4..].iter().chain(&plain[..4]);
    let remainder = moved.fold(0_u32, |so_far, byte| match byte {
        b'0'..=b'9' => (so_far * 10 + u32::from(byte - b'0')) % 97,
        letter => (so_far * 100 + u32::from(letter - b'A') + 10) % 97,
    });
    remainder == 1
}

/// What is looked for, and what takes its place.
#[derive(Clone, Debug)]
struct Rule {
    pattern: Regex,
    /// `[name]`.
    instead: String,
    /// What checks a match; patterns of one's own have none.
    kind: Option<PersonalData>,
}

/// Patterns of what is taken out of texts.
#[derive(Clone, Debug, Default)]
pub struct Redaction {
    rules: Vec<Rule>,
}

impl Redaction {
    /// Takes these out.
    ///
    /// # Panics
    /// Never: the patterns are the program's own.
    pub fn of(kinds: impl IntoIterator<Item = PersonalData>) -> Self {
        let mut kinds: Vec<PersonalData> = kinds.into_iter().collect();
        kinds.sort_unstable();
        kinds.dedup();
        let rule = |kind: PersonalData| Rule {
            pattern: Regex::new(kind.pattern()).expect("the program's own patterns are patterns"),
            instead: format!("[{kind}]"),
            kind: Some(kind),
        };
        Self { rules: kinds.into_iter().map(rule).collect() }
    }

    /// And before them whatever matches `pattern`, with `[name]` in its place.
    ///
    /// # Errors
    /// If it is no pattern, or matches the empty text.
    pub fn and(mut self, name: &str, pattern: &str) -> Result<Self, String> {
        let pattern = Regex::new(pattern).map_err(|error| error.to_string())?;
        if pattern.is_match("") {
            return Err(
                "the pattern matches the empty text, expected one that matches something".into()
            );
        }
        self.rules.insert(0, Rule { pattern, instead: format!("[{name}]"), kind: None });
        Ok(self)
    }

    /// The text without what the patterns find.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut out = Cow::Borrowed(text);
        for rule in &self.rules {
            let put = |found: &Captures<'_>| {
                let found = &found[0];
                let is_it = rule.kind.is_none_or(|kind| kind.holds(found));
                if is_it { rule.instead.clone() } else { found.to_owned() }
            };
            if let Cow::Owned(text) = rule.pattern.replace_all(&out, put)
                && text != *out
            {
                out = Cow::Owned(text);
            }
        }
        out
    }

    /// Does the same to every text in a JSON value, keys apart; says whether anything was found.
    pub fn redact_json(&self, value: &mut Value) -> bool {
        match value {
            Value::String(text) => {
                let Cow::Owned(redacted) = self.redact(text) else { return false };
                *text = redacted;
                true
            }
            // All of them, however early one is found.
            Value::Array(all) => {
                all.iter_mut().fold(false, |found, one| self.redact_json(one) | found)
            }
            Value::Object(map) => {
                map.values_mut().fold(false, |found, one| self.redact_json(one) | found)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(Redaction::of(PersonalData::ALL).redact(text), expected);
    }

    #[test]
    fn what_is_personal_is_taken_out() {
        check("ask Ada.Lovelace+x@mail.example.co.uk!", "ask [email]!");
        // Numbers that are published as examples, with right check digits.
        check("card 4111 1111 1111 1111, or 5500-0000-0000-0004", "card [card], or [card]");
        check(
            "IBAN CH93 0076 2011 6238 5295 7 and GB82WEST12345698765432",
            "IBAN [iban] and [iban]",
        );
        check(
            "from 192.168.0.17 and 2001:db8::8a2e:370:7334 and ::1",
            "from [ip] and [ip] and [ip]",
        );
        check("+1 (212) 555-0147, 0041 44 668 18 00", "[phone], [phone]");
        check("212-555-0147 or (212) 555-0147 or 044 668 18 00", "[phone] or [phone] or [phone]");
    }

    #[test]
    fn what_only_looks_like_it_stays() {
        for text in [
            // Wrong check digits.
            "4111 1111 1111 1112",
            "CH93 0076 2011 6238 5295 8",
            "version 1.2.3.400 of 2026-11-30 at 12:30:45",
            "std::cell::Cell and a::b",
            "3.14159265358979, 1234567, 12 + 30 = 42",
            "the ratio 16:9 and @home",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn own_patterns_come_first_and_json_keeps_its_keys() {
        let redaction = Redaction::of([PersonalData::Email]).and("ticket", r"T-\d+").unwrap();
        assert_eq!(redaction.redact("T-17 by a@b.ch"), "[ticket] by [email]");
        assert_eq!(redaction.redact("call 212-555-0147"), "call 212-555-0147");
        let mut value =
            serde_json::json!([{"role": "user", "content": "I am a@b.ch", "a@b.ch": 1}]);
        assert!(redaction.redact_json(&mut value));
        let expected =
            serde_json::json!([{"role": "user", "content": "I am [email]", "a@b.ch": 1}]);
        assert_eq!(value, expected);
        assert!(!redaction.redact_json(&mut serde_json::json!(["nothing", 3, null])));
        assert!(Redaction::default().and("x", "(").is_err());
        assert!(Redaction::default().and("x", "a*").unwrap_err().contains("empty text"));
        assert!("emails".parse::<PersonalData>().unwrap_err().contains("expected one of email"));
    }
}
