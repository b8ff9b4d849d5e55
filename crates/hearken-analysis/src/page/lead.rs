//! What matters, before everything else: who wins, how far people agree, who is conspicuous, what is preferred.

use std::fmt::Write as _;

use hearken_page::escape;

use super::markup::{Unit, cell, probability};
use crate::Analysis;
use crate::leaderboard::{Leaderboard, ModelRow};
use crate::patterns::{Pattern, Patterns};

/// The level of the tests whose patterns are told here.
const LEVEL: f64 = 0.05;
/// Models, annotators and patterns that are told here.
const SHOWN: usize = 4;

pub(super) fn section(analysis: &Analysis) -> String {
    let findings = [
        finding("Who wins", "leaderboard", "Leaderboard", &who_wins(&analysis.leaderboard)),
        finding("Do people agree", "agreement", "Agreement", &agreement(analysis)),
        finding("Who is conspicuous", "annotators", "Annotators", &conspicuous(analysis)),
        finding("What is preferred", "patterns", "Patterns", &preferred(analysis)),
    ];
    format!(
        "<section class=\"lead\" aria-label=\"What matters\">\n{}</section>\n",
        findings.concat()
    )
}

/// A heading, what is found, and where there is more.
fn finding(title: &str, id: &str, more: &str, body: &str) -> String {
    format!(
        "<div class=\"finding\"><h2>{title}</h2>\n{body}<p class=\"more\"><a href=\"#{id}\">{more}</a></p></div>\n"
    )
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

fn who_wins(board: &Leaderboard) -> String {
    let mut models: Vec<&ModelRow> = board.models.iter().collect();
    models.sort_by_key(|row| row.rank);
    let [first, second, ..] = models[..] else {
        return missing(&board.notes, "No votes between answers of two named models.");
    };
    let may_be_first = |row: &&&ModelRow| row.rank_bounds.is_some_and(|bounds| bounds.best <= 1);
    let tied: Vec<String> =
        models.iter().filter(may_be_first).map(|row| escape(&row.model)).collect();
    let is_sure = tied.len() == 1 && first.rank_bounds.is_some();
    let mut body = match is_sure {
        true => headline(&format!("{} is best", escape(&first.model))),
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
        escape(&first.model),
        cell(&first.win_rate, Unit::Percent),
        first.votes,
        escape(&second.model),
        cell(&second.win_rate, Unit::Percent)
    ));
    body + &styled(&models)
}

/// Whether who leads would lead if answers were equally long and equally formatted.
fn styled(models: &[&ModelRow]) -> String {
    let strength = |row: &&&ModelRow| row.strength_styled.value().unwrap_or(f64::NEG_INFINITY);
    let best = models.iter().max_by(|a, b| strength(a).total_cmp(&strength(b)));
    let Some(best) = best.filter(|best| best.strength_styled.known().is_some()) else {
        return String::new();
    };
    let text = if best.rank == models[0].rank {
        "With length and formatting held equal it leads as well.".to_owned()
    } else {
        format!("With length and formatting held equal {} leads instead.", escape(&best.model))
    };
    sentence(&text)
}

fn agreement(analysis: &Analysis) -> String {
    let compared = &analysis.agreement.comparisons;
    let Some(raw) = compared.raw.known() else {
        return missing(&analysis.agreement.notes, "No two people judged the same pair.");
    };
    let alpha = compared.alpha_nominal.known().map(|alpha| alpha.value);
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
        cell(&compared.raw, Unit::Percent),
        raw.n
    ));
    if alpha.is_some() {
        body += &sentence(&format!(
            "Krippendorff’s alpha is {}: 0 is chance, 1 is always the same.",
            cell(&compared.alpha_nominal, Unit::Plain(2))
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
        let _ = writeln!(body, "<li><b>{}</b>: {}</li>", escape(&one.name), escape(why));
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
            format!("{more} “{}”", escape(&pattern.description.to_lowercase()))
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
        let what = if by_length.is_some() { "Beside length" } else { "What does" };
        body += &sentence(&format!("{what}: {} wins more often.", others.join("; ")));
    }
    body
}
