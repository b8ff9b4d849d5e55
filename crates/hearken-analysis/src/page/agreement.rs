//! Agreement.

use super::markup::{Unit, facts, notes, section as framed};
use crate::Analysis;
use crate::agreement::Graded;
use hearken_page::{ChartLabels, Forest};

pub(super) fn section(analysis: &Analysis) -> String {
    let a = &analysis.agreement;
    let c = &a.comparisons;
    let fleiss = format!("Fleiss’ kappa, where {} judged", c.raters);
    let mut body = notes(&a.notes);
    body += &facts(
        "Which of two is better",
        &[
            ("Equal verdicts, of pairs of verdicts on the same answers", &c.raw, Unit::Percent),
            ("The same without ties", &c.raw_decisive, Unit::Percent),
            ("Cohen’s kappa", &c.cohen, Unit::Plain(3)),
            (&fleiss, &c.fleiss, Unit::Plain(3)),
            ("Krippendorff’s alpha, nominal", &c.alpha_nominal, Unit::Plain(4)),
            ("Krippendorff’s alpha, ordinal", &c.alpha_ordinal, Unit::Plain(4)),
            ("Krippendorff’s alpha, interval", &c.alpha_interval, Unit::Plain(4)),
            ("Krippendorff’s alpha of strengths", &c.alpha_strength, Unit::Plain(4)),
        ],
    );
    let named = [
        ("raw", &c.raw),
        ("raw, without ties", &c.raw_decisive),
        ("Cohen", &c.cohen),
        ("Fleiss", &c.fleiss),
        ("alpha, nominal", &c.alpha_nominal),
        ("alpha, ordinal", &c.alpha_ordinal),
        ("alpha, interval", &c.alpha_interval),
    ];
    let row = |(name, figure): (&str, &crate::Figure)| Some((name.to_owned(), *figure.known()?));
    body += &Forest {
        labels: ChartLabels::new("Agreement; 0 is chance for kappa and alpha", "agreement", ""),
        rows: named.into_iter().filter_map(row).collect(),
        reference: Some(0.0),
    }
    .html();
    let mut graded = |title: &str, g: &Graded| {
        if g.judged_twice > 0 {
            body += &facts(
                title,
                &[
                    ("Equal labels", &g.raw, Unit::Percent),
                    ("Krippendorff’s alpha, nominal", &g.alpha_nominal, Unit::Plain(4)),
                    ("Krippendorff’s alpha, ordinal", &g.alpha_ordinal, Unit::Plain(4)),
                ],
            );
        }
    };
    graded("Labels of steps", &a.steps);
    graded("Approvals", &a.approvals);
    for (axis, rated) in &a.ratings {
        body += &facts(
            &format!("Ratings on the axis {axis}"),
            &[
                ("Krippendorff’s alpha, ordinal", &rated.alpha_ordinal, Unit::Plain(4)),
                ("Krippendorff’s alpha, interval", &rated.alpha_interval, Unit::Plain(4)),
            ],
        );
    }
    let l = &analysis.labels;
    if l.steps > 0 || l.approved.known().is_some() {
        body += &facts(
            "Labels",
            &[
                ("Good steps", &l.good_steps, Unit::Percent),
                ("Neutral steps", &l.neutral_steps, Unit::Percent),
                ("Bad steps", &l.bad_steps, Unit::Percent),
                ("Judgements that find a bad step", &l.solutions_with_error, Unit::Percent),
                ("Approved", &l.approved, Unit::Percent),
            ],
        );
    }
    framed("agreement", "Agreement", &body)
}
