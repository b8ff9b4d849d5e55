//! Words and phrases that say little and may decide much.

use std::sync::LazyLock;

use regex::Regex;

const HEDGES: [&str; 34] = [
    "perhaps",
    "maybe",
    "might",
    "may",
    "could",
    "possibly",
    "probably",
    "likely",
    "unlikely",
    "seems",
    "seem",
    "seemingly",
    "appears",
    "appear",
    "apparently",
    "generally",
    "usually",
    "typically",
    "often",
    "sometimes",
    "somewhat",
    "roughly",
    "approximately",
    "presumably",
    "arguably",
    "potentially",
    "suggests",
    "suggest",
    "tends",
    "tend",
    "assume",
    "guess",
    "believe",
    "depends",
];

const ITSELF: [&str; 12] =
    ["i", "i'm", "i’m", "i've", "i’ve", "i'll", "i’ll", "i'd", "i’d", "me", "my", "myself"];

/// Phrases in which models decline, at word boundaries, either apostrophe.
static REFUSAL: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"(?ix)
        \b(?:
            i(?:['’]m|\ am)\ (?:very\ |so\ )?sorry\b,?\ (?:but|i)
          | i\ (?:can(?:['’]t|not|\ not)|won['’]t|will\ not|am\ not\ able\ to|am\ unable\ to|must\ decline)
          | i['’]m\ (?:not\ able\ to|unable\ to)
          | as\ an?\ (?:ai|artificial\ intelligence|(?:large\ )?language\ model)
          | i\ do(?:n['’]t|\ not)\ (?:feel\ comfortable|have\ the\ ability)
          | against\ my\ (?:guidelines|programming)
          | can(?:['’]t|not)\ (?:assist|help)\ (?:you\ )?with
        )";
    Regex::new(pattern).expect("a constant pattern")
});

/// Hedging words among lower-case words.
pub(super) fn hedges(words: &[String]) -> usize {
    words.iter().filter(|word| HEDGES.contains(&word.as_str())).count()
}

/// Words of the first person among lower-case words.
pub(super) fn about_itself(words: &[String]) -> usize {
    words.iter().filter(|word| ITSELF.contains(&word.as_str())).count()
}

/// Phrases of refusal.
pub(super) fn refusals(text: &str) -> usize {
    REFUSAL.find_iter(text).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_found_and_nothing_else() {
        for refusal in [
            "I cannot provide that.",
            "I'm sorry, but no.",
            "As an AI language model I have no body.",
            "I’m unable to open links.",
            "We can't help with this.",
        ] {
            assert_eq!(refusals(refusal), 1, "{refusal}");
        }
        for other in
            ["I am sorry for your loss.", "I can help.", "He said as a model citizen he would."]
        {
            assert_eq!(refusals(other), 0, "{other}");
        }
    }
}
