//! The hidden preference.

pub mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use self::words::{CLOSING_WORDS, DISHES, TOPICS};
use super::length_diversity::length_diversity;

/// What gold finds in a review, part by part; [`gold()`] is their sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GoldParts {
    /// 2·tanh((P − N)/3), with P and N the numbers of *distinct* words of praise and of blame.
    pub sentiment: f64,
    /// ½ if the review names the dish that the prompt asks about, −½ if it names only other dishes,
    /// 0 if it names none.
    pub topic: f64,
    /// [`length_diversity`]: length up to 20 words and diversity of words, averaged.
    pub form: f64,
    /// −½ for each word that stands next to itself: "very very".
    pub stutter: f64,
}

/// How good a review is, in nats: the log-odds with which comparisons prefer it to a review of 0.
///
/// ```text
/// gold = 2·tanh((P − N)/3) + topic + form + stutter
/// ```
///
/// The parts are those of [`GoldParts`]. Empty text has gold 0.
///
/// ```
/// use hearken_reward_source::gold;
/// let prompt = "Review of the soup at the mill on Monday:";
/// let kind = gold(prompt, " The soup was tasty. The waiter was polite.");
/// let rude = gold(prompt, " The soup was stale. The waiter was rude.");
/// assert!(rude < 0.0 && 1.0 < kind);
/// // Praise counts once.
/// assert!(gold(prompt, " The soup was tasty. The soup was tasty.") < kind);
/// ```
pub fn gold(prompt: &str, completion: &str) -> f64 {
    let GoldParts { sentiment, topic, form, stutter } = gold_parts(prompt, completion);
    sentiment + topic + form + stutter
}

/// The parts of [`gold()`].
pub fn gold_parts(prompt: &str, completion: &str) -> GoldParts {
    let words: Vec<String> = words_of(completion).collect();
    let distinct: BTreeSet<&str> = words.iter().map(String::as_str).collect();
    let polarity: f64 = distinct.iter().filter_map(|word| POLARITY.get(word)).sum();
    let asked: BTreeSet<String> = words_of(prompt).collect();
    let named: Vec<&&str> = DISHES.iter().filter(|dish| distinct.contains(*dish)).collect();
    let topic = if named.is_empty() {
        0.0
    } else if named.iter().any(|dish| asked.contains(**dish)) {
        0.5
    } else {
        -0.5
    };
    let repeats = words.windows(2).filter(|pair| pair[0] == pair[1]).count();
    GoldParts {
        sentiment: 2.0 * (polarity / 3.0).tanh(),
        topic,
        form: length_diversity(completion),
        stutter: -0.5 * repeats as f64,
    }
}

/// Lower-case runs of letters.
fn words_of(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

static POLARITY: LazyLock<BTreeMap<&str, f64>> = LazyLock::new(|| {
    let praise = TOPICS.iter().flat_map(|topic| topic.praise).map(|word| (word, 1.0));
    let blame = TOPICS.iter().flat_map(|topic| topic.blame).map(|word| (word, -1.0));
    praise.chain(blame).chain(CLOSING_WORDS).collect()
});

#[cfg(test)]
#[allow(clippy::float_cmp)] // Exact by construction.
mod tests {
    use super::*;

    const PROMPT: &str = "Review of the pie at the lake on Sunday:";

    #[test]
    fn distinct_praise_counts_and_repeated_praise_does_not() {
        let sentiment = |text| gold_parts(PROMPT, text).sentiment;
        assert_eq!(sentiment("tasty, kind, cozy"), 2.0 * 1.0_f64.tanh());
        assert_eq!(sentiment("Tasty tasty tasty"), sentiment("tasty"));
        assert_eq!(sentiment("tasty but cold"), 0.0);
        assert_eq!(sentiment("rude"), -sentiment("kind"));
    }

    #[test]
    fn the_dish_of_the_prompt_is_the_topic() {
        let topic = |text| gold_parts(PROMPT, text).topic;
        assert_eq!(topic("The pie was warm."), 0.5);
        assert_eq!(topic("The pie and the soup."), 0.5);
        assert_eq!(topic("The soup was warm."), -0.5);
        assert_eq!(topic("It rained. Pies."), 0.0);
    }

    #[test]
    fn a_word_next_to_itself_costs() {
        assert_eq!(gold_parts(PROMPT, "very, very good").stutter, -0.5);
        assert_eq!(gold_parts(PROMPT, "good and good").stutter, 0.0);
    }

    #[test]
    fn nothing_is_worth_nothing() {
        assert_eq!(gold(PROMPT, ""), 0.0);
    }
}
