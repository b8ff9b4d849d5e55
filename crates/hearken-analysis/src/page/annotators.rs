//! Annotators, groups, judges.

use std::fmt::Write as _;

use super::markup::{Table, Unit, cell, data, facts, n, notes, p, section as framed};
use crate::Analysis;
use crate::annotators::Annotator;
use hearken_page::escape;
use hearken_page::{ChartLabels, ChartSeries, Forest, LineChart, Mark};

pub(super) fn section(analysis: &Analysis) -> String {
    let a = &analysis.annotators;
    let mut body = notes(&a.notes);
    body += &conspicuous(analysis);
    body += &facts(
        "All annotators",
        &[
            ("Left side, of decisive votes", &a.left_share, Unit::Percent),
            ("Agreement with the majority of the others", &a.agreement, Unit::Percent),
        ],
    );
    body += &table(&a.list);
    let by_agreement = |k: &Annotator| Some((k.name.clone(), *k.agreement.known()?));
    body += &Forest {
        labels: ChartLabels::new("Agreement with the majority of the others", "share", ""),
        rows: a.list.iter().filter_map(by_agreement).collect(),
        reference: a.agreement.value(),
    }
    .html();
    body += &funnel(&a.list);
    body += &groups(analysis);
    framed("annotators", "Annotators", &body)
}

fn conspicuous(analysis: &Analysis) -> String {
    let a = &analysis.annotators;
    let mut table = Table::new("Conspicuous annotators", &["annotator", "why"]).with_text(1);
    for annotator in a.list.iter().filter(|k| !k.conspicuous.is_empty()) {
        let why: Vec<String> = annotator.conspicuous.iter().map(|r| escape(&r.why)).collect();
        table.row(&[data(&annotator.name), paragraphs(&why)]);
    }
    let found = table.html();
    if found.is_empty() {
        return format!(
            "<p>No annotator is conspicuous at the level {}, corrected for the number of annotators.</p>\n",
            a.level
        );
    }
    found
}

/// A sentence, or several, each on a line of its own.
fn paragraphs(sentences: &[String]) -> String {
    if let [sentence] = sentences {
        return sentence.clone();
    }
    let lines = sentences.iter().map(|sentence| format!("<div>{sentence}</div>"));
    lines.collect::<Vec<_>>().concat()
}

fn table(list: &[Annotator]) -> String {
    let columns = [
        "annotator",
        "judgements",
        "agrees with others",
        "n",
        "p",
        "left",
        "n",
        "p",
        "longer",
        "ties",
        "seconds",
        "gold",
        "n",
        "as finally decided",
        "n",
        "skill",
    ];
    let mut table = Table::new("Each annotator; p-values are corrected after Holm", &columns);
    for k in list {
        table.row(&[
            data(&k.name),
            k.judgements.to_string(),
            cell(&k.agreement, Unit::Percent),
            n(&k.agreement),
            p(k.agreement_test.as_ref()),
            cell(&k.left_share, Unit::Percent),
            n(&k.left_share),
            p(k.left_test.as_ref()),
            cell(&k.longer_share, Unit::Percent),
            cell(&k.tie_share, Unit::Percent),
            cell(&k.speed.median_seconds, Unit::Plain(1)),
            cell(&k.gold, Unit::Percent),
            n(&k.gold),
            cell(&k.final_agreement, Unit::Percent),
            n(&k.final_agreement),
            cell(&k.skill, Unit::Percent),
        ]);
    }
    table.html()
}

/// Share of left against the number of votes, with the bounds within which a fair coin stays 99.9 % of the time.
fn funnel(list: &[Annotator]) -> String {
    let points: Vec<(f64, f64)> =
        list.iter().filter_map(|k| k.left_share.known().map(|e| (e.n as f64, e.value))).collect();
    let most = points.iter().map(|p| p.0).fold(0.0, f64::max);
    if most < 2.0 {
        return String::new();
    }
    let bound = |sign: f64| {
        let name = if sign > 0.0 { "upper bound of a fair coin, 99.9 %" } else { "lower bound" };
        let points = (0..=60)
            .map(|i| (most / 2.0).powf(f64::from(i) / 60.0) * 2.0)
            .map(|n| (n, (0.5 + sign * 3.29 * 0.5 / n.sqrt()).clamp(0.0, 1.0)));
        ChartSeries::new(name, points)
    };
    let labels =
        ChartLabels::new("Preference for the left side", "decisive votes", "share of left");
    let series = vec![ChartSeries::new("annotators", points), bound(1.0), bound(-1.0)];
    LineChart { mark: Mark::PointsThenLines, ..LineChart::new(labels, series) }.html()
}

fn groups(analysis: &Analysis) -> String {
    let g = &analysis.groups;
    let mut body = "<h3>Groups</h3>\n".to_owned();
    body += &facts(
        "Two groups, divided on one half of the pairs and measured on the other",
        &[
            ("Agreement within a group", &g.within, Unit::Percent),
            ("Agreement between the groups", &g.between, Unit::Percent),
            ("Difference", &g.difference, Unit::Percent),
        ],
    );
    let sentence = if g.found {
        let [one, other] = [0, 1].map(|group| data(&g.members[group].join(", ")));
        format!("The annotators fall into two groups that prefer differently: {one} and {other}.")
    } else if g.difference.known().is_some() {
        "The annotators do not fall into groups.".to_owned()
    } else {
        return body;
    };
    let _ = writeln!(body, "<p class=\"note\">{sentence}</p>");
    body
}

pub(super) fn judges(analysis: &Analysis) -> String {
    let columns = [
        "judge",
        "votes",
        "ties",
        "agrees with people",
        "n",
        "left",
        "n",
        "p",
        "same when swapped",
        "n",
    ];
    let mut table = Table::new("Language models that judged beside people", &columns);
    for j in &analysis.judges.list {
        table.row(&[
            data(&j.name),
            j.votes.to_string(),
            j.ties.to_string(),
            cell(&j.agreement, Unit::Percent),
            n(&j.agreement),
            cell(&j.left_share, Unit::Percent),
            n(&j.left_share),
            p(j.left_test.as_ref()),
            cell(&j.swap_consistency, Unit::Percent),
            n(&j.swap_consistency),
        ]);
    }
    let body = notes(&analysis.judges.notes) + &table.html();
    framed("judges", "Judges", &body)
}

/// What people made of suggestions; nothing where nobody had any.
pub(super) fn suggestions(analysis: &Analysis) -> String {
    let s = &analysis.suggestions;
    if s.judgements == 0 {
        return String::new();
    }
    let mut body = notes(&s.notes);
    body += &facts(
        "Judgements as a model suggests",
        &[
            ("By those who saw the suggestion", &s.agreement_shown, Unit::Percent),
            ("By those who did not", &s.agreement_hidden, Unit::Percent),
            ("Difference", &s.sway, Unit::Percent),
        ],
    );
    let drawn =
        "The difference is what seeing a suggestion does only where it was drawn who sees it";
    let test =
        s.sway_test.as_ref().map_or_else(String::new, |test| format!("; p {}", p(Some(test))));
    let _ = writeln!(body, "<p class=\"note\">{drawn}{test}.</p>");
    framed("suggestions", "Suggestions", &body)
}
