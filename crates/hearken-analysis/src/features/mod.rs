//! What can be counted in an answer, without a model.

mod markup;
mod phrases;
mod readability;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use hearken_data::Message;
use hearken_data::feedback::Candidate;
use vader_parity::SentimentIntensityAnalyzer;

use crate::index::{Index, Unit};
pub(crate) use markup::Markup;

/// A feature: its name, what it is, and whether it counts something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The name in JSON.
    pub name: &'static str,
    /// What it is, for a reader.
    pub description: &'static str,
    /// Whether it is a count; models read the logarithm of one more than a count.
    pub is_count: bool,
}

const fn count(name: &'static str, description: &'static str) -> Feature {
    Feature { name, description, is_count: true }
}

const fn measure(name: &'static str, description: &'static str) -> Feature {
    Feature { name, description, is_count: false }
}

/// All features, in the order of the values of [`of`].
pub const FEATURES: [Feature; 17] = [
    count("characters", "Characters"),
    count("words", "Words"),
    measure("reading_ease", "Flesch reading ease; higher is easier"),
    measure("grade_level", "Flesch–Kincaid grade level"),
    measure("sentiment", "VADER sentiment, −1 to 1"),
    count("list_items", "Items of lists"),
    count("bold", "Bold spans"),
    count("headers", "Headers"),
    count("code_blocks", "Blocks of code"),
    measure("hedging", "Hedging words per 100 words"),
    count("refusals", "Phrases of refusal"),
    measure("prompt_overlap", "Share of distinct words that the prompt has too"),
    measure("type_token_ratio", "Distinct words per word"),
    measure("self_mention", "Words about itself per 100 words"),
    count("exclamations", "Exclamation marks"),
    count("questions", "Question marks"),
    count("numbers", "Numbers"),
];

/// The names of [`FEATURES`].
pub const NAMES: [&str; FEATURES.len()] = {
    let mut names = [""; FEATURES.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = FEATURES[i].name;
        i += 1;
    }
    names
};

static SENTIMENT: LazyLock<SentimentIntensityAnalyzer> =
    LazyLock::new(SentimentIntensityAnalyzer::new);

/// The features of an answer to a prompt, one per name in [`NAMES`]; all are finite. An answer without words has a reading ease,
/// a grade level and shares of 0.
///
/// ```
/// # use hearken_analysis::features::{NAMES, of};
/// # use hearken_data::feedback::Candidate;
/// let values = of(&[], &Candidate::text("I cannot help with that!"));
/// let at = |name| values[NAMES.iter().position(|n| *n == name).unwrap()];
/// assert_eq!((at("characters"), at("words"), at("refusals"), at("exclamations")), (24.0, 5.0, 1.0, 1.0));
/// ```
pub fn of(prompt: &[Message], candidate: &Candidate) -> Vec<f64> {
    let text = candidate.full_text();
    let words: Vec<String> = words(&text).map(str::to_lowercase).collect();
    let distinct: BTreeSet<&str> = words.iter().map(String::as_str).collect();
    let asked: String = prompt.iter().map(|m| m.content.to_lowercase() + " ").collect();
    let asked: BTreeSet<&str> = self::words(&asked).collect();
    let shared = distinct.iter().filter(|word| asked.contains(*word)).count();
    let markup = Markup::of(&text);
    let reading = readability::TextCounts::of(&text);
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    let marks = |mark: char| text.chars().filter(|&c| c == mark).count() as f64;
    let numeric = |word: &&String| word.chars().all(|c| c.is_ascii_digit());
    vec![
        text.chars().count() as f64,
        words.len() as f64,
        reading.ease(),
        reading.grade(),
        SENTIMENT.polarity_scores(&text).compound,
        markup.list_items as f64,
        markup.bold as f64,
        markup.headers as f64,
        markup.code_blocks as f64,
        100.0 * share(phrases::hedges(&words), words.len()),
        phrases::refusals(&text) as f64,
        share(shared, distinct.len()),
        share(distinct.len(), words.len()),
        100.0 * share(phrases::about_itself(&words), words.len()),
        marks('!'),
        marks('?'),
        words.iter().filter(numeric).count() as f64,
    ]
}

/// Features as models read them: ln(1 + x) of a count, the others as they are.
///
/// # Panics
/// If there is not one value per feature.
pub fn for_model(values: &[f64]) -> Vec<f64> {
    assert_eq!(values.len(), FEATURES.len(), "one value per feature");
    let scaled = |(f, x): (&Feature, &f64)| if f.is_count { x.ln_1p() } else { *x };
    FEATURES.iter().zip(values).map(scaled).collect()
}

/// Characters of an answer, as [`Candidate::full_text`] has them.
pub(crate) fn characters(candidate: &Candidate) -> usize {
    let breaks = candidate.steps.len().saturating_sub(1);
    let steps: usize = candidate.steps.iter().map(|step| step.chars().count()).sum();
    if candidate.steps.is_empty() { candidate.text.chars().count() } else { steps + breaks }
}

/// Whether the first candidate of a unit is longer; `None` where neither is.
pub(crate) fn first_longer(index: &Index<'_>, unit: &Unit) -> Option<bool> {
    let candidates = &index.items[unit.item].candidates;
    let (first, second) =
        (characters(&candidates[unit.first]), characters(&candidates[unit.second]));
    (first != second).then_some(first > second)
}

/// Runs of letters, digits and inner apostrophes.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '\'' || c == '’'))
        .map(|word| word.trim_matches(['\'', '’']))
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use hearken_data::Role;

    use super::*;

    fn value(name: &str, prompt: &str, text: &str) -> f64 {
        let prompt = [Message::new(Role::User, prompt)];
        let values = of(&prompt, &Candidate::text(text));
        values[NAMES.iter().position(|n| *n == name).unwrap()]
    }

    #[test]
    fn names_are_distinct_and_values_finite() {
        assert_eq!(NAMES.iter().collect::<BTreeSet<_>>().len(), NAMES.len());
        for text in ["", " ", "!!!", "a", "日本語のテキスト", "# H\n\n- x\n- y\n```\ncode\n```"]
        {
            let values = of(&[], &Candidate::text(text));
            assert_eq!(values.len(), NAMES.len());
            assert!(values.iter().chain(&for_model(&values)).all(|v| v.is_finite()), "{text:?}");
        }
    }

    #[test]
    fn features_count_what_they_say() {
        let markdown = "# Title\n\n**Bold** and __strong__\n\n1. one\n2. two\n- three\n\n```rust\n# not a header\n- nor an item\n```\n";
        assert_eq!(value("headers", "", markdown), 1.0);
        assert_eq!(value("bold", "", markdown), 2.0);
        assert_eq!(value("list_items", "", markdown), 3.0);
        assert_eq!(value("code_blocks", "", markdown), 1.0);
        assert_eq!(
            value("prompt_overlap", "Name the capital of France", "The capital: Paris"),
            2.0 / 3.0
        );
        assert_eq!(value("type_token_ratio", "", "no no yes"), 2.0 / 3.0);
        assert_eq!(value("questions", "", "Why? Really?"), 2.0);
        assert_eq!(value("hedging", "", "perhaps it might rain"), 50.0);
        assert_eq!(value("self_mention", "", "I think I can"), 50.0);
        assert_eq!(value("refusals", "", "I'm sorry, but I can’t do that."), 2.0);
        assert_eq!(value("numbers", "", "2 plus 40"), 2.0);
        assert_eq!(value("sentiment", "", "VADER is smart, handsome, and funny."), 0.8316);
    }

    #[test]
    fn characters_of_steps_are_those_of_the_full_text() {
        let steps = Candidate { steps: vec!["añb".into(), "c".into()], ..Candidate::default() };
        assert_eq!(characters(&steps), steps.full_text().chars().count());
    }
}
