//! Markup that others draw in English, in another language: the report of the analysis.
//!
//! A sentence may have elements within it, such as an interval or the name of a model; they stay what they are, where the
//! sentence of the other language wants them. What is data says so by `translate="no"`, as it tells a browser.

use std::borrow::Cow;

use super::{Language, Piece, attributes, is_words};

/// Elements that stand within a sentence.
const INLINE: [&str; 8] = ["a", "abbr", "b", "bdi", "br", "code", "em", "span"];
/// What says that an element has no words of the page.
const DATA: &str = " translate=\"no\"";
/// What may stand around a text beside an element.
const MARKS: [char; 6] = [',', '.', ';', ':', '·', ' '];

impl Language {
    /// HTML with its text in this language.
    pub(crate) fn html(self, html: &str) -> String {
        self.html_telling(html, &mut |_| ())
    }

    /// The same; `missing` is told every text that the catalogue has not.
    fn html_telling(self, html: &str, missing: &mut dyn FnMut(&str)) -> String {
        if self == Self::English {
            return html.to_owned();
        }
        let mut out = String::with_capacity(html.len() + html.len() / 8);
        let mut rest = html;
        while !rest.is_empty() {
            let (sentence, after) = rest.split_at(sentence_end(rest));
            out.push_str(&self.sentence(sentence, missing));
            let (markup, after) = after.split_at(markup_end(after));
            out.push_str(&self.markup(markup, missing));
            rest = after;
        }
        out
    }

    /// What stands between two elements that are no part of a sentence.
    fn sentence(self, html: &str, missing: &mut dyn FnMut(&str)) -> String {
        let trimmed = html.trim();
        let start = html.len() - html.trim_start().len();
        let mut parts = Vec::new();
        let mut rest = trimmed;
        while !rest.is_empty() {
            let end = match rest.starts_with('<') {
                true => markup_end(rest),
                false => rest.find('<').unwrap_or(rest.len()),
            };
            parts.push(&rest[..end]);
            rest = &rest[end..];
        }
        let dressed = |parts: &[&str], missing: &mut dyn FnMut(&str)| -> String {
            let part = |part: &&str| match part.starts_with('<') {
                true => self.markup(part, missing),
                false => (*part).to_owned(),
            };
            parts.iter().map(part).collect()
        };
        let translated = match parts[..] {
            [] => String::new(),
            [text] if !text.starts_with('<') => self.line(text, missing),
            _ => {
                let whole = dressed(&parts, missing).replace("&#39;", "'");
                let spoken: String =
                    parts.iter().filter(|part| !part.starts_with('<')).copied().collect();
                let found = speaks(&spoken).then(|| self.found(&whole)).flatten();
                found.map_or_else(
                    || {
                        let part = |part: &&str| match part.starts_with('<') {
                            true => self.markup(part, missing),
                            false => self.line(part, missing),
                        };
                        parts.iter().map(part).collect()
                    },
                    Cow::into_owned,
                )
            }
        };
        format!("{}{translated}{}", &html[..start], &html[start + trimmed.len()..])
    }

    /// Text without elements, with what stands around it.
    fn line(self, text: &str, missing: &mut dyn FnMut(&str)) -> String {
        if !speaks(text) {
            return text.to_owned();
        }
        let plain = text.replace("&#39;", "'").replace("&quot;", "\"");
        for marks in [&[' ', '\n'][..], &MARKS[..]] {
            let words = plain.trim_matches(marks);
            if let Some(found) = self.found(words) {
                let start = plain.len() - plain.trim_start_matches(marks).len();
                return format!("{}{found}{}", &plain[..start], &plain[start + words.len()..]);
            }
        }
        missing(text);
        text.to_owned()
    }

    /// A tag, whose attributes may be read out, or an element that is data.
    fn markup(self, markup: &str, missing: &mut dyn FnMut(&str)) -> String {
        if is_data(markup) {
            return markup.to_owned();
        }
        let mut out = String::with_capacity(markup.len());
        attributes(markup, &mut |piece| match piece {
            Piece::Other(text) => out.push_str(text),
            Piece::Text(text) => out.push_str(&self.line(text, missing).replace('"', "&quot;")),
        });
        out
    }
}

/// Whether a text of a page says something.
fn speaks(text: &str) -> bool {
    is_words(text)
        && is_words(&text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
}

/// Whether the tag at the beginning says that the element is data.
fn is_data(markup: &str) -> bool {
    markup.split_once('>').is_some_and(|(tag, _)| tag.contains(DATA))
}

/// The name of the element whose tag, opening or closing, is at the beginning.
fn name_of(markup: &str) -> &str {
    let name = markup.trim_start_matches(['<', '/']);
    name.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default()
}

/// Where the first element is that is no part of a sentence.
fn sentence_end(html: &str) -> usize {
    let mut at = 0;
    while let Some(next) = html[at..].find('<') {
        at += next;
        if !INLINE.contains(&name_of(&html[at..])) {
            return at;
        }
        at += markup_end(&html[at..]);
    }
    html.len()
}

/// Where the tag at the beginning ends, or the whole element where it is data.
fn markup_end(html: &str) -> usize {
    let Some(end) = html.find('>').map(|at| at + 1) else { return html.len() };
    if !is_data(html) {
        return end;
    }
    let name = name_of(html);
    let (mut depth, mut at) = (1, end);
    while 0 < depth {
        let Some(next) = html[at..].find('<') else { return html.len() };
        let tag = &html[at + next..];
        if name_of(tag) == name {
            depth = if tag.starts_with("</") { depth - 1 } else { depth + 1 };
        }
        at += next + tag.find('>').map_or(tag.len(), |end| end + 1);
    }
    at
}

/// What is left of a text without elements that are data.
pub(super) fn without_data(text: &str) -> Cow<'_, str> {
    if !text.contains('<') {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        out.push_str(&rest[..at]);
        rest = &rest[at + markup_end(&rest[at..])..];
    }
    Cow::Owned(out + rest)
}

#[cfg(test)]
mod tests {
    use hearken_analysis::simulate::{Habits, World, simulate};
    use hearken_analysis::{JudgedItems, Options, analyze};
    use hearken_data::feedback::{Candidate, Item, Judgement, Origin, Suggested, Task, Verdict};
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn sentences_are_whole_and_data_stays() {
        let german = |html: &str| {
            let mut left = Vec::new();
            let html = Language::German.html_telling(html, &mut |text| left.push(text.to_owned()));
            (html, left)
        };
        let (undo, skip) = (Language::German.words("Undo"), Language::German.words("Skip"));
        let (html, left) = german("<p class=\"Undo\">Undo</p>\n<td>5 <span>[1, 2]</span></td>");
        assert_eq!(html, format!("<p class=\"Undo\">{undo}</p>\n<td>5 <span>[1, 2]</span></td>"));
        assert_eq!(left, Vec::<String>::new());
        let (html, _) = german(
            "<p><bdi translate=\"no\">Undo <bdi>x</bdi></bdi>, Skip.</p><abbr title=\"Undo\">–</abbr>",
        );
        assert_eq!(
            html,
            format!(
                "<p><bdi translate=\"no\">Undo <bdi>x</bdi></bdi>, {skip}.</p><abbr title=\"{undo}\">–</abbr>"
            )
        );
        let (html, left) =
            german("<blockquote translate=\"no\"><p>Undo</p></blockquote><p>No such words</p>");
        assert!(html.contains("<p>Undo</p>") && html.ends_with("<p>No such words</p>"), "{html}");
        assert_eq!(left, ["No such words"]);
        let (html, left) = german("<p>Again: <bdi translate=\"no\">two words</bdi></p>");
        assert!(!html.contains("Again") && html.contains(">two words</bdi>"), "{html}");
        assert_eq!(left, Vec::<String>::new());
    }

    /// What is said of judgements of every kind, by people and by models.
    fn everything() -> JudgedItems {
        let world = World { items: 240, overlap: 3, gold_every: 20, ..World::default() };
        let mut people = vec![Habits::HONEST; 5];
        people.extend([Habits::SPAMMER, Habits::LAZY]);
        let mut records = simulate(&world, &people, &mut ChaCha8Rng::seed_from_u64(3));
        let mut further = Vec::new();
        for (at, judgement) in records.judgements.iter_mut().enumerate() {
            judgement.annotator = format!("Zwetschge-{}", judgement.annotator);
            judgement.suggestion = Some([Suggested::Shown, Suggested::Hidden][at % 2]);
            let mut copy = judgement.clone();
            copy.id = format!("further-{at}");
            match at % 40 {
                0 => (copy.origin, copy.annotator) = (Origin::Ai, "Zwetschge-ai".into()),
                1 => (copy.is_final, copy.suggestion) = (true, None),
                2 => (copy.revises, copy.verdict) = (Some(judgement.id.clone()), Verdict::BothBad),
                3 => copy.item = "nowhere".into(),
                _ => continue,
            }
            further.push(copy);
        }
        records.judgements.extend(further);
        for task in [Task::Ranking, Task::Rating, Task::Steps] {
            let answer = |at: usize| Candidate {
                steps: if task == Task::Steps { vec!["Zwetschge".into(); 3] } else { Vec::new() },
                ..Candidate::text(format!("Zwetschge {at}")).by(format!("Zwetschge-{at}"))
            };
            for at in 0..6 {
                let answers = (0..if task == Task::Steps { 1 } else { 3 }).map(answer).collect();
                let mut item = Item::new(task, Vec::new(), answers);
                item.id = format!("Zwetschge-{task}-{at}");
                for person in 0..3 {
                    let verdict = match task {
                        Task::Ranking if person == at % 3 => {
                            Verdict::Ranking { order: vec![vec![1], vec![2], vec![0]] }
                        }
                        Task::Ranking => Verdict::Ranking {
                            order: vec![vec![person], vec![(person + 1) % 3, (person + 2) % 3]],
                        },
                        Task::Steps => Verdict::Steps {
                            labels: vec![Some(1), Some(if person == 0 { 0 } else { -1 }), None],
                        },
                        _ => {
                            let values =
                                (0..3).map(|n| Some((n + at + person) as f64 % 5.0)).collect();
                            Verdict::Ratings {
                                axes: [("Zwetschge und Mirabelle".to_owned(), values)].into(),
                            }
                        }
                    };
                    let name = format!("Zwetschge-{person}");
                    records.judgements.push(Judgement::new(
                        format!("{}-{person}", item.id),
                        &item,
                        name,
                        verdict,
                    ));
                }
                records.items.push(item);
            }
        }
        records
    }

    /// Nothing of a report is left in English but names and texts of others.
    #[test]
    fn the_report_of_an_analysis_is_whole_in_every_language() {
        let mut few = everything();
        few.judgements.truncate(40);
        let mut alone = everything();
        alone.judgements.retain(|judgement| judgement.annotator == "Zwetschge-0");
        let mut nothing = everything();
        nothing.judgements.clear();
        let options = Options { bootstrap_rounds: 60, ..Options::default() };
        for records in [everything(), few, alone, nothing] {
            let report = hearken_analysis::fragment(&analyze(&records, &options));
            for language in [Language::German, Language::Arabic] {
                let mut left = Vec::new();
                language.html_telling(&report, &mut |text| {
                    let is_name = text.contains("Zwetschge")
                        || hearken_analysis::features::NAMES.contains(&text.trim())
                        || text.trim().starts_with("model");
                    left.extend((!is_name).then(|| text.to_owned()));
                });
                left.sort();
                left.dedup();
                assert_eq!(left, Vec::<String>::new(), "in {}", language.code());
            }
        }
    }
}
