//! Patterns and ratings.

use std::fmt::Write;

use super::markup::{Table, Unit, cell, data, facts, n, notes, p, section as framed};
use crate::Analysis;
use crate::patterns::{ExampleSide, Pattern};
use hearken_page::escape;
use hearken_page::{ChartLabels, Forest};

pub(super) fn section(analysis: &Analysis) -> String {
    let patterns = &analysis.patterns;
    let columns = [
        "feature",
        "alone",
        "p",
        "with all others",
        "p",
        "the side with more wins",
        "n",
        "p",
        "equal",
    ];
    let mut table = Table::new(
        "Effects in log-odds per standard deviation; p-values are corrected after Holm",
        &columns,
    );
    for pattern in &patterns.features {
        table.row(&[
            escape(&pattern.description),
            cell(&pattern.effect, Unit::Plain(3)),
            p(pattern.test.as_ref()),
            cell(&pattern.joint_effect, Unit::Plain(3)),
            p(pattern.joint_test.as_ref()),
            cell(&pattern.more_wins, Unit::Percent),
            n(&pattern.more_wins),
            p(pattern.more_wins_test.as_ref()),
            pattern.equal.to_string(),
        ]);
    }
    let row = |pattern: &Pattern| Some((pattern.feature.clone(), *pattern.effect.known()?));
    let forest = Forest {
        labels: ChartLabels::new(
            "What predicts the choice: above 0, more of it wins",
            "log-odds per standard deviation",
            "",
        ),
        rows: patterns.features.iter().filter_map(row).collect(),
        reference: Some(0.0),
    };
    let examples: String = patterns.features.iter().map(examples).collect();
    let body = [
        notes(&patterns.notes),
        format!(
            "<p class=\"note\">{} pairs of answers, {} decisive votes.</p>\n",
            patterns.pairs, patterns.votes
        ),
        table.html(),
        forest.html(),
        examples,
    ];
    framed("patterns", "Patterns", &body.concat())
}

/// Examples of a pattern that is certain enough to be looked at.
fn examples(pattern: &Pattern) -> String {
    const LEVEL: f64 = 0.05;
    let certain =
        [pattern.test, pattern.more_wins_test].iter().flatten().any(|test| test.p_holm < LEVEL);
    if !certain || pattern.examples.is_empty() {
        return String::new();
    }
    let mut body = format!(
        "<details><summary>Examples of pairs: “{}”</summary>\n",
        escape(&pattern.description)
    );
    for example in &pattern.examples {
        let side = |side: &ExampleSide, what: &str| {
            format!(
                "<p>{what} ({} votes, {:.1}):</p><blockquote translate=\"no\" dir=\"auto\">{}</blockquote>",
                side.votes,
                side.value,
                escape(&side.excerpt)
            )
        };
        let _ = writeln!(
            body,
            "<h3>Item {}</h3>{}{}",
            data(&example.item),
            side(&example.chosen, "Chosen"),
            side(&example.rejected, "Rejected")
        );
    }
    body + "</details>\n"
}

pub(super) fn ratings(analysis: &Analysis) -> String {
    let ratings = &analysis.ratings;
    if ratings.axes.is_empty() {
        return String::new();
    }
    let mut body = notes(&ratings.notes);
    body += &facts(
        "Do ratings say what choices say?",
        &[
            ("Choices for the answer rated higher, all axes", &ratings.consistency, Unit::Percent),
            ("The same, by one annotator", &ratings.consistency_same_annotator, Unit::Percent),
        ],
    );
    let mut table = Table::new("Axes", &["axis", "mean", "n", "choices for the higher", "n"]);
    for (name, axis) in &ratings.axes {
        table.row(&[
            data(name),
            cell(&axis.mean, Unit::Plain(2)),
            n(&axis.mean),
            cell(&axis.consistency, Unit::Percent),
            n(&axis.consistency),
        ]);
    }
    body += &table.html();
    for (name, axis) in &ratings.axes {
        let row = |m: &crate::ratings::ModelRating| Some((m.model.clone(), *m.mean.known()?));
        body += &Forest {
            labels: ChartLabels::new(&format!("Mean rating on the axis {name}"), "rating", ""),
            rows: axis.models.iter().filter_map(row).collect(),
            reference: None,
        }
        .html();
    }
    framed("ratings", "Ratings", &body)
}
