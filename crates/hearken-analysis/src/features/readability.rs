//! Flesch's formulas. The counter of syllables is the whole error: it is a rule of thumb for English, and frozen here.

use super::words;

/// Counts behind the formulas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TextCounts {
    words: usize,
    sentences: usize,
    syllables: usize,
}

impl TextCounts {
    pub(super) fn of(text: &str) -> Self {
        let (mut count, mut syllables_of_all) = (0, 0);
        for word in words(text) {
            count += 1;
            syllables_of_all += syllables(word);
        }
        Self { words: count, sentences: sentences(text).max(1), syllables: syllables_of_all }
    }

    /// Flesch 1948: 206.835 − 1.015·words/sentences − 84.6·syllables/words. Held within −100 and 121.22 (one-syllable
    /// one-word sentences): a text without periods is no thousand times harder.
    pub(super) fn ease(self) -> f64 {
        let (length, weight) = self.ratios();
        if self.words == 0 {
            return 0.0;
        }
        (206.835 - 1.015 * length - 84.6 * weight).clamp(-100.0, 121.22)
    }

    /// Kincaid et al. 1975: 0.39·words/sentences + 11.8·syllables/words − 15.59, held within −3.4 and 40.
    pub(super) fn grade(self) -> f64 {
        let (length, weight) = self.ratios();
        if self.words == 0 {
            return 0.0;
        }
        (0.39 * length + 11.8 * weight - 15.59).clamp(-3.4, 40.0)
    }

    fn ratios(self) -> (f64, f64) {
        let words = self.words.max(1) as f64;
        (words / self.sentences as f64, self.syllables as f64 / words)
    }
}

/// Runs of `.`, `!`, `?` or `…` that end a word, and line breaks after a line without one.
fn sentences(text: &str) -> usize {
    let of_line = |line: &str| {
        let mut ends = 0;
        let mut open = false;
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            let is_end = matches!(c, '.' | '!' | '?' | '…');
            // A period inside a number or a name goes on.
            let followed = chars.peek().is_some_and(|next| next.is_alphanumeric());
            if is_end && !followed && open {
                ends += 1;
                open = false;
            } else if c.is_alphanumeric() {
                open = true;
            }
        }
        ends + usize::from(open)
    };
    text.lines().map(of_line).sum()
}

/// Groups of vowels, less a silent e at the end, at least one.
fn syllables(word: &str) -> usize {
    let word = word.to_lowercase();
    let is_vowel = |c: char| "aeiouyäöüáéíóúàèìòùâêîôûãõåøæœ".contains(c);
    let mut groups = 0;
    let mut before = false;
    for c in word.chars() {
        let vowel = is_vowel(c);
        groups += usize::from(vowel && !before);
        before = vowel;
    }
    let silent = word.ends_with('e') && !word.ends_with("le") && !word.ends_with("ee")
        || word.ends_with("ed") && !word.ends_with("ted") && !word.ends_with("ded")
        || word.ends_with("es")
            && !["ses", "zes", "xes", "ches", "shes", "ges", "ces", "les"]
                .iter()
                .any(|end| word.ends_with(end));
    if silent && groups > 1 { groups - 1 } else { groups.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syllables_are_frozen() {
        for (word, expected) in [
            ("the", 1),
            ("table", 2),
            ("readability", 5),
            ("made", 1),
            ("wanted", 2),
            ("walked", 1),
            ("boxes", 2),
            ("names", 1),
            ("agree", 2),
            ("queue", 1),
            ("rhythm", 1),
            ("2024", 1),
            ("banana", 3),
        ] {
            assert_eq!(syllables(word), expected, "{word}");
        }
    }

    /// 6 words, 1 sentence, 6 syllables; then 13 words, 2 sentences.
    #[test]
    fn the_formulas_on_counted_texts() {
        let reading = TextCounts::of("The cat sat on the mat.");
        assert_eq!(reading, TextCounts { words: 6, sentences: 1, syllables: 6 });
        assert!((reading.ease() - 116.145).abs() < 1e-9);
        assert!((reading.grade() + 1.45).abs() < 1e-9);
        let reading =
            TextCounts::of("Version 3.5 came. It was not what anybody had wanted!\nA list");
        assert_eq!((reading.words, reading.sentences), (13, 3));
    }

    #[test]
    fn endless_sentences_are_held() {
        let reading = TextCounts::of(&"word ".repeat(5000));
        assert_eq!((reading.ease(), reading.grade()), (-100.0, 40.0));
    }
}
