//! A score of length and diversity.

use std::collections::HashSet;

/// Length up to 20 words and diversity of words, averaged.
///
/// ```text
/// (min(words, 20)/20 + distinct words/words) / 2
/// ```
///
/// Words are what white space separates, as they are written. A text without words scores 0.
///
/// ```
/// use hearken_reward_source::length_diversity;
/// assert_eq!(length_diversity("tea tea"), (0.1 + 0.5) / 2.0);
/// assert_eq!(length_diversity(" \n"), 0.0);
/// ```
pub fn length_diversity(text: &str) -> f64 {
    const WORDS_ENOUGH: usize = 20;
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() {
        return 0.0;
    }
    let distinct = words.iter().collect::<HashSet<_>>().len();
    let length = words.len().min(WORDS_ENOUGH) as f64 / WORDS_ENOUGH as f64;
    f64::midpoint(length, distinct as f64 / words.len() as f64)
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // Exact by construction.
mod tests {
    use super::*;

    #[test]
    fn length_counts_up_to_twenty_words_and_no_further() {
        let words = |n: usize| (0..n).map(|i| format!("w{i}")).collect::<Vec<_>>().join(" ");
        assert_eq!(length_diversity(&words(20)), 1.0);
        assert_eq!(length_diversity(&words(500)), 1.0);
        assert_eq!(length_diversity(&words(10)), 0.75);
        assert_eq!(length_diversity(&"w ".repeat(20)), f64::midpoint(1.0, 0.05));
    }
}
