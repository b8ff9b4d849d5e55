//! What matters, before everything else: who wins, how far people agree, who is conspicuous, what is preferred.

use std::fmt::Write as _;

use hearken_page::escape;

use super::markup::{Unit, cell, data, probability};
use crate::Analysis;
use crate::leaderboard::{Contender, ModelRow, NO_VOTES};
use crate::patterns::{Pattern, Patterns};
use crate::standing::Standing;

/// The level of the tests whose patterns are told here.
const LEVEL: f64 = 0.05;
/// Models, annotators and patterns that are told here.
const SHOWN: usize = 4;

/// What matters.
#[derive(Debug)]
pub(super) struct Lead {
    standing: Standing,
    /// The model that leads where answers are equally long and equally formatted.
    styled: Option<String>,
    conspicuous: String,
    preferred: String,
}

impl Lead {
    pub(super) fn new(analysis: &Analysis) -> Self {
        Self {
            standing: Standing::of(analysis),
            styled: styled(&analysis.leaderboard.models),
            conspicuous: conspicuous(analysis),
            preferred: preferred(analysis),
        }
    }

    /// The section; who wins and how far people agree, of later judgements where there are.
    pub(super) fn section(&self, standing: Option<&Standing>) -> String {
        let standing = standing.unwrap_or(&self.standing);
        let wins = who_wins(standing, self.styled.as_deref());
        section(&[
            finding("Who wins", Some(("leaderboard", "Leaderboard")), &wins),
            finding("Do people agree", Some(("agreement", "Agreement")), &agreement(standing)),
            finding("Who is conspicuous", Some(("annotators", "Annotators")), &self.conspicuous),
            finding("What is preferred", Some(("patterns", "Patterns")), &self.preferred),
        ])
    }
}

/// Who wins and how far people agree, where nothing else is known.
pub(super) fn standing_section(standing: &Standing) -> String {
    section(&[
        finding("Who wins", None, &who_wins(standing, None)),
        finding("Do people agree", None, &agreement(standing)),
    ])
}

fn section(findings: &[String]) -> String {
    format!(
        "<section class=\"lead\" aria-label=\"What matters\">\n{}</section>\n",
        findings.concat()
    )
}

/// A heading, what is found, and where there is more.
fn finding(title: &str, more: Option<(&str, &str)>, body: &str) -> String {
    let more = more.map_or_else(String::new, |(id, more)| {
        format!("<p class=\"more\"><a href=\"#{id}\">{more}</a></p>")
    });
    format!("<div class=\"finding\"><h2>{title}</h2>\n{body}{more}</div>\n")
}

fn headline(text: &str) -> String {
    format!("<p class=\"headline\">{text}</p>\n")
}

fn sentence(text: &str) -> String {
    format!("<p>{text}</p>\n")
}

/// Why there is nothing to say.
fn missing(notes: &[String], otherwise: &str) -> String {
    sentence(&escape(notes.first().map_or(otherwise, String::as_str)))
}

fn who_wins(standing: &Standing, styled: Option<&str>) -> String {
    let contenders = &standing.contenders;
    let [first, second, ..] = &contenders[..] else { return sentence(NO_VOTES) };
    let may_be_first = |row: &&Contender| row.rank_bounds.is_some_and(|bounds| bounds.best <= 1);
    let tied: Vec<String> =
        contenders.iter().filter(may_be_first).map(|row| data(&row.model)).collect();
    let is_sure = tied.len() == 1 && first.rank_bounds.is_some();
    let mut body = match is_sure {
        true => headline(&format!("{} is best", data(&first.model))),
        false => headline("No model is best for sure"),
    };
    if !is_sure && 1 < tied.len() {
        let names = tied.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
        let more = match tied.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        body += &sentence(&format!("Any of {names}{more} may be: their intervals overlap."));
    }
    body += &sentence(&format!(
        "{} wins {} of {} votes on it; the next is {} with {}.",
        data(&first.model),
        cell(&first.win_rate, Unit::Percent),
        first.votes,
        data(&second.model),
        cell(&second.win_rate, Unit::Percent)
    ));
    body + &styled.map_or_else(String::new, |best| equal_style(best == first.model, best))
}

/// Whether who leads would lead if answers were equally long and equally formatted.
fn equal_style(is_first: bool, best: &str) -> String {
    let text = match is_first {
        true => "With length and formatting held equal it leads as well.".to_owned(),
        false => format!("With length and formatting held equal {} leads instead.", data(best)),
    };
    sentence(&text)
}

/// The strongest model with style held equal, where that is known.
fn styled(models: &[ModelRow]) -> Option<String> {
    let strength = |row: &&ModelRow| row.strength_styled.value().unwrap_or(f64::NEG_INFINITY);
    let best = models.iter().max_by(|a, b| strength(a).total_cmp(&strength(b)))?;
    best.strength_styled.known().map(|_| best.model.clone())
}

fn agreement(standing: &Standing) -> String {
    let Some(raw) = standing.agreement.known() else {
        return sentence("No two people judged the same pair.");
    };
    let alpha = standing.alpha.known().map(|alpha| alpha.value);
    let how = match alpha {
        Some(alpha) if alpha < 0.2 => "little more than by chance",
        Some(alpha) if alpha < 0.4 => "fairly",
        Some(alpha) if alpha < 0.67 => "moderately",
        Some(_) => "well",
        None => "as far as the verdicts say",
    };
    let mut body = headline(&format!("They agree {how}"));
    body += &sentence(&format!(
        "Two people say the same of a pair {} of the time ({} pairs of verdicts).",
        cell(&standing.agreement, Unit::Percent),
        raw.n
    ));
    if alpha.is_some() {
        body += &sentence(&format!(
            "Krippendorff’s alpha is {}: 0 is chance, 1 is always the same.",
            cell(&standing.alpha, Unit::Plain(2))
        ));
    }
    body
}

fn conspicuous(analysis: &Analysis) -> String {
    let all = &analysis.annotators;
    let conspicuous: Vec<_> = all.list.iter().filter(|one| !one.conspicuous.is_empty()).collect();
    if all.list.len() < 2 {
        return missing(&all.notes, "There is nobody to compare with.");
    }
    if conspicuous.is_empty() {
        return headline("Nobody")
            + &sentence(&format!(
                "None of {} annotators is, at the level {} after correction.",
                all.list.len(),
                all.level
            ));
    }
    let mut body = headline(&format!("{} of {} annotators", conspicuous.len(), all.list.len()));
    body += "<ul>\n";
    for one in conspicuous.iter().take(SHOWN) {
        let why = one.conspicuous.first().map_or("", |reason| &reason.why);
        let _ = writeln!(body, "<li><div>{}</div><div>{}</div></li>", data(&one.name), escape(why));
    }
    body += "</ul>\n";
    if SHOWN < conspicuous.len() {
        body += &sentence(&format!("And {} more.", conspicuous.len() - SHOWN));
    }
    body
}

/// How sure a pattern is beside all others, where it is sure enough.
fn certain(pattern: &Pattern) -> Option<f64> {
    let test = pattern.joint_test.or(pattern.test)?;
    (test.p_holm < LEVEL).then_some(test.p_holm)
}

fn preferred(analysis: &Analysis) -> String {
    let patterns: &Patterns = &analysis.patterns;
    let length = patterns.features.iter().find(|pattern| pattern.feature == "words");
    let Some(length) = length.filter(|length| length.more_wins.known().is_some()) else {
        return missing(&patterns.notes, "No decisive vote on answers of different length.");
    };
    let mut sure: Vec<&Pattern> =
        patterns.features.iter().filter(|pattern| certain(pattern).is_some()).collect();
    let effect = |pattern: &Pattern| {
        let figure =
            if pattern.joint_test.is_some() { &pattern.joint_effect } else { &pattern.effect };
        figure.value().unwrap_or(0.0)
    };
    sure.sort_by(|a, b| effect(b).abs().total_cmp(&effect(a).abs()));
    let is_length = |pattern: &&Pattern| ["words", "characters"].contains(&&*pattern.feature);
    let others: Vec<String> = sure
        .iter()
        .filter(|pattern| !is_length(pattern))
        .take(SHOWN)
        .map(|pattern| {
            let more = if 0.0 < effect(pattern) { "more of" } else { "less of" };
            format!("<li>{more} “{}”</li>\n", escape(&pattern.description))
        })
        .collect();
    let by_length = length.more_wins_test.filter(|test| test.p_holm < LEVEL);
    let longer = length.more_wins.value().is_some_and(|share| 0.5 < share);
    let which = if longer { "Longer answers" } else { "Shorter answers" };
    let mut body = headline(&match (by_length.is_some(), others.is_empty()) {
        (true, true) => format!("{which}, and nothing else"),
        (true, false) => format!("{which}, and more than that"),
        (false, true) => "Nothing that can be counted".to_owned(),
        (false, false) => "Not length".to_owned(),
    });
    let p = length
        .more_wins_test
        .map_or_else(String::new, |test| format!(", p {}", probability(test.p_holm)));
    body += &sentence(&format!(
        "The longer answer wins {} of {} votes where one is longer{p}.",
        cell(&length.more_wins, Unit::Percent),
        length.wins + length.losses
    ));
    if !others.is_empty() {
        let which = if by_length.is_some() { "Beside length, answers" } else { "Answers" };
        body += &sentence(&format!("{which} win more often that have"));
        let _ = writeln!(body, "<ul>\n{}</ul>", others.concat());
    }
    body
}
