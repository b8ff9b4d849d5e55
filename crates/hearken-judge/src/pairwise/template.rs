//! The text that a language model is asked with.

use super::rules::Question;

/// A text with the places `{prompt}`, `{a}` and `{b}`; other braces are text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(String);

/// A place that a template lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {}, expected {}", self.parts().0, self.parts().1)]
pub struct TemplateError {
    place: &'static str,
    meaning: &'static str,
}

impl TemplateError {
    /// What was found, and what was expected.
    pub fn parts(&self) -> (String, String) {
        let Self { place, meaning } = self;
        (format!("no `{place}`"), format!("one at least: it is where {meaning} stands"))
    }
}

const PLACES: [(&str, &str); 3] = [
    ("{a}", "the completion that is shown first"),
    ("{b}", "the completion that is shown second"),
    ("{prompt}", "the prompt"),
];

impl Template {
    /// Reads a template. `{prompt}` may be missing: the completions may say enough.
    ///
    /// # Errors
    /// If it has no place for one of the completions.
    pub fn new(text: impl Into<String>) -> Result<Self, TemplateError> {
        let text = text.into();
        match PLACES[..2].iter().find(|(place, _)| !text.contains(place)) {
            Some(&(place, meaning)) => Err(TemplateError { place, meaning }),
            None => Ok(Self(text)),
        }
    }

    /// The text for a question. What is filled in is not looked into: a completion may hold `{b}`.
    pub(super) fn fill(&self, question: &Question<'_>) -> String {
        let [a, b] = question.completions();
        let texts = [a, b, question.comparison.prompt];
        filled(&self.0, &[0, 1, 2].map(|index| (PLACES[index].0, texts[index])))
    }
}

/// A text with what belongs in its places. What is filled in is not looked into.
pub(crate) fn filled(text: &str, places: &[(&str, &str)]) -> String {
    let (mut filled, mut rest) = (String::new(), text);
    let next = |rest: &str| {
        let found = places.iter().enumerate().filter_map(|(index, (place, _))| {
            let at = rest.find(place)?;
            Some((at, index))
        });
        found.min()
    };
    while let Some((at, index)) = next(rest) {
        let (place, value) = places[index];
        filled.push_str(&rest[..at]);
        filled.push_str(value);
        rest = &rest[at + place.len()..];
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::super::{CompletionPair, Orders, Rules, Unreadable};
    use super::*;

    #[test]
    fn what_is_filled_in_is_not_looked_into() {
        let template = Template::new("{prompt}|{a}|{b}|{a}|{\"json\": {}}").unwrap();
        let fields = Map::new();
        let comparison = CompletionPair {
            prompt: "{b}{a}",
            messages: None,
            completions: ["x{b}", "{prompt}"],
            fields: &fields,
        };
        let rules = Rules { orders: Orders::Both, unreadable: Unreadable::Tie };
        let comparisons = [comparison];
        let questions = rules.questions(&comparisons);
        let filled: Vec<String> = questions.iter().map(|one| template.fill(one)).collect();
        assert_eq!(filled[0], "{b}{a}|x{b}|{prompt}|x{b}|{\"json\": {}}");
        assert_eq!(filled[1], "{b}{a}|{prompt}|x{b}|{prompt}|{\"json\": {}}");
    }

    #[test]
    fn both_completions_have_a_place() {
        assert!(Template::new("{a} or {b}?").is_ok());
        let error = Template::new("{prompt} {a}").unwrap_err().to_string();
        assert!(error.contains("`{b}`") && error.contains("shown second"), "{error}");
    }
}
