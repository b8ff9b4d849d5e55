//! Which votes of LMArena are left out where an import asks for clean ones
//! ([`ImportOptions::clean`](super::ImportOptions::clean)).

use crate::content::{Message, Role};

/// Words that tell who wrote an answer, in lower case.
const NAMES: [&str; 33] = [
    "ai2",
    "alibaba",
    "alpaca",
    "anthropic",
    "bard",
    "chatglm",
    "chatgpt",
    "claude",
    "cohere",
    "dbrx",
    "deepmind",
    "deepseek",
    "falcon",
    "gemini",
    "gemma",
    "google",
    "gpt",
    "grok",
    "koala",
    "laion",
    "llama",
    "lmsys",
    "meta ai",
    "microsoft",
    "mistral",
    "mixtral",
    "openai",
    "open assistant",
    "palm",
    "qwen",
    "tulu",
    "vicuna",
    "zhipu",
];

/// What a server says instead of an answer.
const ERRORS: [&str; 3] =
    ["network error due to high traffic", "api request error", "$moderation$"];

/// The mark of an answer that was still being written.
const CURSOR: char = '▌';

/// A battle as it was shown.
pub(super) struct ShownBattle<'a> {
    /// The two conversations, prompts included.
    pub(super) conversations: [&'a [Message]; 2],
    /// The names of the two models.
    pub(super) models: [&'a str; 2],
    /// Whether the names were hidden until the vote, where that is known.
    pub(super) anonymous: Option<bool>,
}

/// Why a vote does not count, if so: the names of the models were shown, an answer is missing, broken
/// off or an error, or the conversation tells who answers.
pub(super) fn flaw(shown: &ShownBattle<'_>) -> Option<&'static str> {
    if shown.anonymous == Some(false) {
        return Some("vote of somebody who saw the names of the models");
    }
    let is_answered = |conversation: &&[Message]| {
        conversation.last().is_some_and(|last| last.role == Role::Assistant)
            && conversation.iter().all(|message| !message.content.trim().is_empty())
    };
    if !shown.conversations.iter().all(is_answered) {
        return Some("vote on a conversation with an empty message");
    }
    let messages = || shown.conversations.iter().copied().flatten();
    let answers = || messages().filter(|message| message.role == Role::Assistant);
    if answers().any(|answer| answer.content.trim_end().ends_with(CURSOR)) {
        return Some("vote on an answer that was still being written");
    }
    let in_lower_case: Vec<String> =
        messages().map(|message| message.content.to_lowercase()).collect();
    let any = |word: &str| in_lower_case.iter().any(|text| has_word(text, word));
    if ERRORS.iter().any(|error| in_lower_case.iter().any(|text| text.contains(error))) {
        return Some("vote on an error message");
    }
    let own = shown.models.iter().filter(|model| !model.is_empty());
    if NAMES.iter().any(|name| any(name)) || own.into_iter().any(|name| any(&name.to_lowercase())) {
        return Some("vote on a conversation that tells who answers");
    }
    None
}

/// Whether the words of `wanted` stand in the text, next to no other letter: `gpt` is in "gpt-4" and
/// "GPT4", not in "egpt".
fn has_word(text: &str, wanted: &str) -> bool {
    text.match_indices(wanted).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + wanted.len()..].chars().next();
        [before, after].into_iter().flatten().all(|beside| !beside.is_alphabetic())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaw_of(answer: &str) -> Option<&'static str> {
        let conversation =
            |said: &str| vec![Message::new(Role::User, "x"), Message::new(Role::Assistant, said)];
        let (one, other) = (conversation(answer), conversation("fine"));
        let conversations = [one.as_slice(), other.as_slice()];
        flaw(&ShownBattle { conversations, models: ["zephyr-7b", "m"], anonymous: Some(true) })
    }

    #[test]
    fn each_rule_finds_its_flaw() {
        assert_eq!(flaw_of("The palms sway; Bardo is a state, not a name."), None);
        for (said, why) in [
            ("As ChatGPT I cannot.", "tells who answers"),
            ("I am GPT4.", "tells who answers"),
            ("My name is Zephyr-7B.", "tells who answers"),
            ("**NETWORK ERROR DUE TO HIGH TRAFFIC.**", "error message"),
            ("and then▌", "still being written"),
            (" ", "empty message"),
        ] {
            assert!(flaw_of(said).is_some_and(|flaw| flaw.contains(why)), "{said}");
        }
    }
}
