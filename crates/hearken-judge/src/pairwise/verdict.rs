//! What an answer in words says of who won.

/// The probability that A is preferred to B, as an answer in words has it; `None` where it names no
/// winner.
///
/// What stands in the last double brackets counts: `[[A]]`, `[[B]]`, `[[C]]` or `[[tie]]`, or a number
/// from 0 to 1, the probability itself. Without double brackets the whole answer must be `A`, `B`,
/// `C` or `tie`, punctuation aside. Small letters are as good as capitals.
///
/// ```
/// use hearken_judge::pairwise::read_verdict;
///
/// assert_eq!(read_verdict("A is terse, [[B]] comes to mind, but: [[A]]"), Some(1.0));
/// assert_eq!(read_verdict("**B**."), Some(0.0));
/// assert_eq!(read_verdict("Both are wrong. [[tie]]"), Some(0.5));
/// assert_eq!(read_verdict("[[0.8]]"), Some(0.8));
/// assert_eq!(read_verdict("A seems better than B."), None);
/// ```
pub fn read_verdict(answer: &str) -> Option<f64> {
    if let Some((before, _)) = answer.rsplit_once("]]") {
        let (_, inside) = before.rsplit_once("[[")?;
        let inside = inside.trim();
        let number = || inside.parse::<f64>().ok().filter(|p| (0.0..=1.0).contains(p));
        return named(inside).or_else(number);
    }
    named(answer.trim_matches(|c: char| !c.is_alphanumeric()))
}

fn named(word: &str) -> Option<f64> {
    match word.to_ascii_lowercase().as_str() {
        "a" => Some(1.0),
        "b" => Some(0.0),
        "c" | "tie" => Some(0.5),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_double_brackets_count() {
        for (answer, expected) in [
            ("[[A]]", Some(1.0)),
            ("I first thought [[A]], but [[ b ]] it is.", Some(0.0)),
            ("[[C]]", Some(0.5)),
            ("[[0.25]]", Some(0.25)),
            ("[[1.5]]", None),
            ("[[NaN]]", None),
            ("[[A]] or rather [[neither]]", None),
            ("]]", None),
        ] {
            assert_eq!(read_verdict(answer), expected, "{answer}");
        }
    }

    #[test]
    fn without_brackets_the_whole_answer_must_be_the_verdict() {
        for (answer, expected) in [
            (" a\n", Some(1.0)),
            ("\"B\".", Some(0.0)),
            ("(C)", Some(0.5)),
            ("Tie!", Some(0.5)),
            ("0.7", None),
            ("", None),
            ("A, because B is rude", None),
            ("Answer A", None),
        ] {
            assert_eq!(read_verdict(answer), expected, "{answer}");
        }
    }
}
