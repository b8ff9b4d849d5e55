//! Solutions as they are written, divided into steps.

use regex::Regex;

/// Where a step ends.
#[derive(Clone, Debug)]
pub enum StepSplit {
    /// At the end of a line.
    Lines,
    /// At a blank line.
    BlankLines,
    /// Behind a full stop, question mark or exclamation mark that white space and a capital, digit or bracket follow.
    Sentences,
    /// Before a line that begins with a number ("1.", "2)") or "Step 3:".
    Numbered,
    /// Wherever an expression matches; what matches belongs to no step.
    Pattern(Box<Regex>),
}

impl StepSplit {
    /// [`StepSplit::Pattern`] of the text of an expression.
    ///
    /// # Errors
    /// Why it is none.
    pub fn pattern(text: &str) -> Result<Self, String> {
        match Regex::new(text) {
            Ok(pattern) => Ok(Self::Pattern(Box::new(pattern))),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Divides a text. No step is blank, and none begins or ends with white space.
    ///
    /// ```
    /// use hearken_reward_source::StepSplit;
    /// let text = "Tom has 3.5 apples. He eats 1.\n\nSo 3.5 - 1 = 2.5 are left.";
    /// assert_eq!(StepSplit::BlankLines.steps(text).len(), 2);
    /// assert_eq!(StepSplit::Sentences.steps(text)[0], "Tom has 3.5 apples.");
    /// let text = "Let us see.\n1. Add.\n2. Carry\nthe one.";
    /// assert_eq!(StepSplit::Numbered.steps(text), ["Let us see.", "1. Add.", "2. Carry\nthe one."]);
    /// ```
    pub fn steps(&self, text: &str) -> Vec<String> {
        let parts: Vec<&str> = match self {
            Self::Lines => text.split('\n').collect(),
            Self::BlankLines => blank_lines(text),
            Self::Sentences => at(text, &sentence_ends(text)),
            Self::Numbered => at(text, &numbered_lines(text)),
            Self::Pattern(pattern) => pattern.split(text).collect(),
        };
        let parts = parts.into_iter().map(str::trim).filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    }
}

/// The text cut at these places.
fn at<'a>(text: &'a str, places: &[usize]) -> Vec<&'a str> {
    let starts = [0].into_iter().chain(places.iter().copied());
    let ends = places.iter().copied().chain([text.len()]);
    starts.zip(ends).map(|(start, end)| &text[start..end]).collect()
}

fn blank_lines(text: &str) -> Vec<&str> {
    let (mut places, mut offset) = (Vec::new(), 0);
    for line in text.split_inclusive('\n') {
        if line.trim().is_empty() {
            places.push(offset);
        }
        offset += line.len();
    }
    at(text, &places)
}

fn sentence_ends(text: &str) -> Vec<usize> {
    let begins = |rest: &str| {
        let after = rest.trim_start();
        after.len() < rest.len()
            && after
                .chars()
                .next()
                .is_some_and(|c| c.is_uppercase() || c.is_ascii_digit() || "([$\\\"'".contains(c))
    };
    let ends = text.char_indices().filter(|(_, c)| ".?!".contains(*c)).map(|(index, _)| index + 1);
    ends.filter(|end| begins(&text[*end..])).collect()
}

fn numbered_lines(text: &str) -> Vec<usize> {
    let is_numbered = |line: &str| {
        let line = line.trim_start();
        let line =
            line.strip_prefix("Step ").or_else(|| line.strip_prefix("step ")).unwrap_or(line);
        let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
        rest.len() < line.len()
            && rest.starts_with(['.', ')', ':'])
            && rest[1..].starts_with(|c: char| c.is_whitespace())
    };
    let (mut places, mut offset) = (Vec::new(), 0);
    for line in text.split_inclusive('\n') {
        if is_numbered(line) && 0 < offset {
            places.push(offset);
        }
        offset += line.len();
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_and_abbreviated_results_stay_whole() {
        let split = |text: &str| StepSplit::Sentences.steps(text);
        assert_eq!(
            split("It is 3.5 m. Then it grows! 2 + 2 = 4."),
            ["It is 3.5 m.", "Then it grows!", "2 + 2 = 4."]
        );
        assert_eq!(split("approx. three"), ["approx. three"]);
    }

    #[test]
    fn steps_are_numbered_in_several_ways() {
        let split = |text: &str| StepSplit::Numbered.steps(text);
        assert_eq!(split("Step 1: a\nStep 2: b"), ["Step 1: a", "Step 2: b"]);
        assert_eq!(
            split("1) a\n 2) b\n3.5 is no number of a step"),
            ["1) a", "2) b\n3.5 is no number of a step"]
        );
        assert_eq!(StepSplit::Lines.steps("a\n\n b \n"), ["a", "b"]);
        let pattern = StepSplit::Pattern(Box::new(Regex::new("ки").unwrap()));
        assert_eq!(pattern.steps("aки bки"), ["a", "b"]);
    }
}
