//! The languages of the pages. `words.txt` is the catalogue: the English words of the templates, scripts and sentences of
//! this crate, with what they are in every other language.
//!
//! Pages are written in English; a template is translated once, when the service starts, so that no text of one can be
//! left out. Sentences that are made while the service runs are found by their pattern.
//!
//! Not here: prompts, answers and guidelines, which stay as they are.

mod markup;

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::OnceLock;

use axum::http::{HeaderMap, header};

/// The name of the cookie that keeps what somebody chose.
pub(crate) const COOKIE: &str = "hearken_language";

/// A language of the pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Language {
    #[default]
    English,
    German,
    Arabic,
}

impl Language {
    pub(crate) const ALL: [Self; 3] = [Self::English, Self::German, Self::Arabic];

    /// As HTML names it.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
            Self::Arabic => "ar",
        }
    }

    /// What its speakers call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::German => "Deutsch",
            Self::Arabic => "العربية",
        }
    }

    /// How it is written: `ltr`, `rtl`.
    pub(crate) fn direction(self) -> &'static str {
        match self {
            Self::English | Self::German => "ltr",
            Self::Arabic => "rtl",
        }
    }

    pub(crate) fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.code().eq_ignore_ascii_case(code))
    }

    /// The one that was chosen, else the one that the browser prefers.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let pairs = cookies.flat_map(|line| line.split(';'));
        let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
        let chosen = pairs.find(|(name, _)| *name == COOKIE);
        let chosen = chosen.and_then(|(_, code)| Self::of_code(code));
        let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|line| line.to_str().ok());
        chosen.or_else(|| accepted.and_then(preferred)).unwrap_or_default()
    }

    /// English words in this language; as they are where the catalogue does not have them. Lines are taken one by one.
    pub(crate) fn words(self, english: &str) -> Cow<'_, str> {
        if self == Self::English || !english.contains(char::is_alphabetic) {
            return Cow::Borrowed(english);
        }
        if english.contains('\n') {
            let lines: Vec<_> = english.split('\n').map(|line| self.words(line)).collect();
            return Cow::Owned(lines.join("\n"));
        }
        self.found(english).unwrap_or(Cow::Borrowed(english))
    }

    /// English words in this language, where the catalogue has them.
    fn found(self, english: &str) -> Option<Cow<'static, str>> {
        let catalogue = catalogue();
        if let Some(found) = catalogue.exact(self, english) {
            return Some(Cow::Borrowed(found));
        }
        let mut patterns = catalogue.patterns.iter();
        let (pattern, holes) =
            patterns.find_map(|pattern| Some((pattern, pattern.holes(english)?)))?;
        let holes: Vec<&str> =
            holes.into_iter().map(|hole| catalogue.exact(self, hole).unwrap_or(hole)).collect();
        let words = catalogue.exact(self, pattern.key).unwrap_or(pattern.key);
        Some(Cow::Owned(filled(words, |number| holes.get(number).copied())))
    }

    /// A template with its text in this language.
    pub(crate) fn template(self, source: &str) -> String {
        let mut out = String::with_capacity(source.len());
        pieces(source, &mut |piece| match piece {
            Piece::Other(text) => out.push_str(text),
            Piece::Text(text) => out.push_str(&self.text(text)),
        });
        out
    }

    /// A text of a template, whose expressions stay what they are.
    fn text(self, text: &str) -> String {
        let TextKey { key, expressions } = TextKey::of(text);
        let trimmed = text.trim();
        if self == Self::English || !is_words(&key) {
            return text.to_owned();
        }
        let Some(words) = catalogue().exact(self, &key) else { return text.to_owned() };
        let start = text.len() - text.trim_start().len();
        let filled = filled(words, |number| expressions.get(number).copied());
        format!("{}{filled}{}", &text[..start], &text[start + trimmed.len()..])
    }

    /// The script that has the words of scripts in this language.
    pub(crate) fn script(self, scripts: &[&str]) -> String {
        let keys = scripts.iter().flat_map(|script| script_keys(script));
        let words: HashMap<&str, &str> =
            keys.filter_map(|key| Some((key, catalogue().exact(self, key)?))).collect();
        let words: std::collections::BTreeMap<_, _> = words.into_iter().collect();
        let json = serde_json::to_string(&words).expect("words serialize");
        format!("\"use strict\";\nconst words = {json};\n")
    }
}

/// The language that a browser prefers of those that are there.
fn preferred(accepted: &str) -> Option<Language> {
    let weighted = accepted.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let code = parts.next()?.split('-').next()?;
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        Some((Language::of_code(code)?, weight.map_or(1.0, |q| q.parse().unwrap_or(0.0))))
    });
    let mut best: Option<(Language, f64)> = None;
    for (language, weight) in weighted {
        if 0.0 < weight && best.is_none_or(|(_, most)| most < weight) {
            best = Some((language, weight));
        }
    }
    best.map(|(language, _)| language)
}

tokio::task_local! {
    static OF_REQUEST: Language;
}
thread_local! {
    static OF_THREAD: Cell<Language> = const { Cell::new(Language::English) };
}

/// The language of the request that is answered here.
pub(crate) fn current() -> Language {
    OF_REQUEST.try_with(|language| *language).unwrap_or_else(|_| OF_THREAD.get())
}

/// Answers a request in a language.
pub(crate) async fn answering<F: Future>(language: Language, work: F) -> F::Output {
    OF_REQUEST.scope(language, work).await
}

/// Does what a request asks for on a thread of its own.
pub(crate) fn working<T>(language: Language, work: impl FnOnce() -> T) -> T {
    let before = OF_THREAD.replace(language);
    let done = work();
    OF_THREAD.set(before);
    done
}

/// A part of a template.
enum Piece<'a> {
    /// Text that a reader sees or hears, with expressions in it.
    Text(&'a str),
    /// Anything else.
    Other(&'a str),
}

/// Attributes that a reader sees or hears.
const SPOKEN: [&str; 4] = ["aria-label", "title", "alt", "placeholder"];

/// Cuts a template into its parts, in order.
fn pieces<'a>(source: &'a str, take: &mut impl FnMut(Piece<'a>)) {
    let mut rest = source;
    while !rest.is_empty() {
        let end = [statement_end(rest), tag_end(rest)].into_iter().flatten().next();
        let Some(end) = end else {
            let end = text_end(rest);
            take(Piece::Text(&rest[..end]));
            rest = &rest[end..];
            continue;
        };
        let (markup, after) = rest.split_at(end);
        match markup.starts_with('<') {
            true => attributes(markup, take),
            false => take(Piece::Other(markup)),
        }
        rest = after;
    }
}

/// Where a statement or a comment at the beginning ends.
fn statement_end(rest: &str) -> Option<usize> {
    let close =
        [("{%", "%}"), ("{#", "#}")].into_iter().find(|(open, _)| rest.starts_with(open))?.1;
    Some(rest.find(close).map_or(rest.len(), |at| at + 2))
}

/// Where a tag at the beginning ends: expressions and statements in it, and quotes, hide what ends one.
fn tag_end(rest: &str) -> Option<usize> {
    if !rest.starts_with('<') {
        return None;
    }
    let mut at = 1;
    let mut quoted = false;
    while at < rest.len() {
        let here = &rest[at..];
        if let Some(close) =
            [("{{", "}}"), ("{%", "%}")].into_iter().find(|(open, _)| here.starts_with(open))
        {
            at += here.find(close.1).map_or(here.len(), |end| end + 2);
            continue;
        }
        match here.as_bytes()[0] {
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(at + 1),
            _ => {}
        }
        at += here.chars().next().map_or(1, char::len_utf8);
    }
    Some(rest.len())
}

fn text_end(rest: &str) -> usize {
    let mut at = 0;
    while at < rest.len() {
        let here = &rest[at..];
        if here.starts_with("{{") {
            at += here.find("}}").map_or(here.len(), |end| end + 2);
        } else if here.starts_with('<') || here.starts_with("{%") || here.starts_with("{#") {
            break;
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// A tag, whose spoken attributes are text where no statement is in them.
fn attributes<'a>(tag: &'a str, take: &mut impl FnMut(Piece<'a>)) {
    let mut rest = tag;
    loop {
        let next = SPOKEN.iter().filter_map(|name| {
            let open = format!(" {name}=\"");
            rest.find(&open).map(|at| at + open.len())
        });
        let Some(start) = next.min() else { break };
        let Some(length) = value_length(&rest[start..]) else { break };
        take(Piece::Other(&rest[..start]));
        let value = &rest[start..start + length];
        take(if value.contains("{%") { Piece::Other(value) } else { Piece::Text(value) });
        rest = &rest[start + length..];
    }
    take(Piece::Other(rest));
}

/// Up to the quote that ends an attribute; quotes in expressions do not.
fn value_length(value: &str) -> Option<usize> {
    let mut at = 0;
    while at < value.len() {
        let here = &value[at..];
        if here.starts_with("{{") {
            at += here.find("}}")? + 2;
        } else if here.starts_with('"') {
            return Some(at);
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    None
}

/// What the catalogue calls a text: expressions are numbered, blanks are one.
struct TextKey<'a> {
    key: String,
    expressions: Vec<&'a str>,
}

impl<'a> TextKey<'a> {
    fn of(text: &'a str) -> Self {
        let (mut key, mut expressions) = (String::new(), Vec::new());
        let mut rest = text.trim();
        while let Some(at) = rest.find("{{") {
            let end = rest[at..].find("}}").map_or(rest.len(), |end| at + end + 2);
            key.push_str(&rest[..at]);
            let _ = write!(key, "{{{}}}", expressions.len());
            expressions.push(&rest[at..end]);
            rest = &rest[end..];
        }
        key.push_str(rest);
        Self { key: key.split_whitespace().collect::<Vec<_>>().join(" "), expressions }
    }
}

/// Whether a key says something that has a translation: a letter alone is the name of a key or of a unit.
fn is_words(key: &str) -> bool {
    let next = key.chars().skip(1);
    key.chars().zip(next).any(|(one, next)| one.is_alphabetic() && next.is_alphabetic())
}

/// `words` with what stands for `{0}`, `{1}`, ….
fn filled<'a>(words: &str, of: impl Fn(usize) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(words.len());
    let mut rest = words;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        let number = rest[at + 1..].split('}').next().and_then(|number| number.parse().ok());
        let Some(hole) = number.and_then(&of) else {
            out.push('{');
            rest = &rest[at + 1..];
            continue;
        };
        out.push_str(hole);
        rest = &rest[at..][rest[at..].find('}').map_or(1, |end| end + 1)..];
    }
    out.push_str(rest);
    out
}

/// The texts that a script hands to `t`.
fn script_keys(script: &str) -> Vec<&str> {
    let calls = script.match_indices("t(\"").filter(|(at, _)| {
        // Not the end of another name.
        !script[..*at]
            .ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == '.')
    });
    calls
        .filter_map(|(at, open)| {
            let text = &script[at + open.len()..];
            Some(&text[..text.find('"')?])
        })
        .collect()
}

/// Bytes of a pattern that may stand for any sentence.
const FEW: usize = 14;

/// A sentence with something in it that is not known beforehand.
struct Pattern {
    key: &'static str,
    literals: Vec<&'static str>,
}

impl Pattern {
    fn of(key: &'static str) -> Option<Self> {
        let mut literals = Vec::new();
        let mut rest = key;
        while let Some(at) = rest.find('{') {
            literals.push(&rest[..at]);
            rest = &rest[at + rest[at..].find('}')? + 1..];
        }
        literals.push(rest);
        (1 < literals.len()).then_some(Self { key, literals })
    }

    /// What stands in the holes of a sentence that is like this.
    fn holes<'a>(&self, sentence: &'a str) -> Option<Vec<&'a str>> {
        let (first, others) = self.literals.split_first()?;
        let (last, between) = others.split_last()?;
        let mut rest = sentence.strip_prefix(first)?;
        let mut holes = Vec::new();
        for literal in between {
            let at = rest.find(literal)?;
            holes.push(&rest[..at]);
            rest = &rest[at + literal.len()..];
        }
        holes.push(rest.strip_suffix(last)?);
        // A pattern of few letters is one for few words.
        let is_one = |hole: &&str| !markup::without_data(hole).contains(' ');
        let fits = FEW <= self.letters() || holes.iter().all(is_one);
        fits.then_some(holes)
    }

    fn letters(&self) -> usize {
        self.literals.iter().map(|literal| literal.len()).sum()
    }
}

/// The words in every language.
struct Catalogue {
    /// By the English words: one for each further language.
    words: HashMap<&'static str, [Option<&'static str>; 2]>,
    /// Those with holes, the longest first.
    patterns: Vec<Pattern>,
}

impl Catalogue {
    /// A line in English, then one that begins with its code for each other language.
    fn read(text: &'static str) -> Self {
        let mut words: HashMap<&'static str, [Option<&'static str>; 2]> = HashMap::new();
        let mut english = "";
        for line in text.lines().filter(|line| !line.is_empty()) {
            let translated =
                [Language::German, Language::Arabic].into_iter().position(|language| {
                    line.strip_prefix(language.code()).is_some_and(|rest| rest.starts_with('\t'))
                });
            if let Some(place) = translated {
                words.entry(english).or_default()[place] = Some(&line[3..]);
            } else {
                english = line;
                words.entry(english).or_default();
            }
        }
        let mut patterns: Vec<Pattern> = words.keys().filter_map(|key| Pattern::of(key)).collect();
        patterns.sort_by_key(|pattern| (std::cmp::Reverse(pattern.letters()), pattern.key));
        Self { words, patterns }
    }

    fn exact(&self, language: Language, english: &str) -> Option<&'static str> {
        let place = match language {
            Language::English => return None,
            Language::German => 0,
            Language::Arabic => 1,
        };
        self.words.get(english)?[place]
    }
}

fn catalogue() -> &'static Catalogue {
    static READ: OnceLock<Catalogue> = OnceLock::new();
    READ.get_or_init(|| Catalogue::read(include_str!("../words.txt")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::assets::SCRIPTS;
    use crate::templates::TEMPLATES;

    fn template_keys(source: &str) -> BTreeSet<String> {
        let mut keys = BTreeSet::new();
        pieces(source, &mut |piece| {
            if let Piece::Text(text) = piece {
                let key = TextKey::of(text).key;
                let without = filled(&key, |_| Some(""));
                keys.extend(is_words(&without).then_some(key));
            }
        });
        keys
    }

    /// No page and no script has text outside of the catalogue.
    #[test]
    fn every_text_of_pages_and_scripts_is_in_the_catalogue() {
        let mut missing = BTreeSet::new();
        for (name, source) in TEMPLATES {
            let keys = template_keys(source).into_iter();
            missing.extend(
                keys.filter(|key| !catalogue().words.contains_key(&**key))
                    .map(|key| format!("{name}: {key}")),
            );
        }
        for script in SCRIPTS {
            let keys = script_keys(script).into_iter();
            missing
                .extend(keys.filter(|key| !catalogue().words.contains_key(key)).map(str::to_owned));
        }
        assert_eq!(missing, BTreeSet::new());
    }

    /// What an import or an export leaves out is said by another crate; its sources have the words.
    #[test]
    fn what_imports_and_exports_leave_out_is_in_the_catalogue() {
        let formats = concat!(env!("CARGO_MANIFEST_DIR"), "/../hearken-data/src/feedback/formats");
        let (mut found, mut missing) = (0, BTreeSet::new());
        for file in std::fs::read_dir(formats).unwrap() {
            let source = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for call in ["into.leave_out(\"", "output.drop(\"", "output.lose(\""] {
                for (at, _) in source.match_indices(call) {
                    let words = source[at + call.len()..].split("\")").next().unwrap();
                    let words = words.replace("\\\"", "\"");
                    found += 1;
                    if !catalogue().words.contains_key(&*words) {
                        missing.insert(words);
                    }
                }
            }
        }
        assert_eq!(missing, BTreeSet::new());
        assert!(40 < found, "{found}");
    }

    #[test]
    fn messages_of_imports_say_what_was_found_and_expected() {
        let said = "pairs.jsonl:3: winner: found \"c\", expected one of a, b";
        let words = Language::German.words(said);
        assert_eq!(words, "pairs.jsonl:3: winner: gefunden: \"c\"; erwartet: one of a, b");
        let said =
            "a.jsonl:2: found invalid JSON at column 5 (EOF), expected one JSON object per line";
        let words = Language::German.words(said);
        assert_eq!(
            words,
            "a.jsonl:2: ungültiges JSON in Spalte 5 (EOF); erwartet: ein JSON-Objekt je Zeile"
        );
    }

    #[test]
    fn every_text_is_there_in_every_language_with_the_same_holes() {
        let holes = |text: &str| -> BTreeSet<String> {
            let parts = text.split('{').skip(1).filter_map(|part| part.split_once('}'));
            parts.map(|(number, _)| number.to_owned()).collect()
        };
        let mut wrong = Vec::new();
        let words: std::collections::BTreeMap<_, _> = catalogue().words.iter().collect();
        for (english, others) in words {
            for words in others {
                // What stands for an ending of English words is not needed elsewhere.
                let fits = words.is_some_and(|words| holes(words).is_subset(&holes(english)));
                let unsafe_in_markup = words
                    .is_some_and(|words| words.contains(['<', '>', '"']) && !english.contains('"'));
                if !fits || unsafe_in_markup {
                    wrong.push(format!("{english}: {words:?}"));
                }
            }
        }
        wrong.sort();
        assert_eq!(wrong, Vec::<String>::new());
    }

    #[test]
    fn a_template_keeps_everything_but_its_words() {
        let source = "<p class=\"Undo\" title=\"Undo\">{% if Skip == \"Skip\" %}\n Skip {% endif %}<b>{{ name }}</b></p>";
        let german = Language::German.template(source);
        let undo = Language::German.words("Undo");
        let skip = Language::German.words("Skip");
        assert_ne!((&*undo, &*skip), ("Undo", "Skip"));
        let expected = format!(
            "<p class=\"Undo\" title=\"{undo}\">{{% if Skip == \"Skip\" %}}\n {skip} {{% endif %}}<b>{{{{ name }}}}</b></p>"
        );
        assert_eq!(german, expected);
        assert_eq!(Language::English.template(source), source);
    }

    #[test]
    fn sentences_are_found_by_their_pattern() {
        let words = Language::German.words("C is better (strength 2)");
        assert!(words.contains('C') && words.contains('2') && !words.contains("better"), "{words}");
        assert_eq!(
            Language::German.words("nobody has translated this"),
            "nobody has translated this"
        );
    }

    #[test]
    fn the_language_is_what_was_chosen_or_what_the_browser_prefers() {
        let of = |accepted: &str, cookie: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_LANGUAGE, accepted.parse().unwrap());
            headers.insert(header::COOKIE, cookie.parse().unwrap());
            Language::of(&headers)
        };
        assert_eq!(of("fr, de-AT;q=0.7, en;q=0.5", ""), Language::German);
        assert_eq!(of("en, de;q=0.9", "a=b; hearken_language=ar"), Language::Arabic);
        assert_eq!(of("fr", "hearken_language=xx"), Language::English);
        assert_eq!(of("de;q=0, *", ""), Language::English);
    }
}
