//! The reward model on features.

use super::markup::{Unit, facts, open_section as framed, sentences};
use crate::feature_report::FeatureReport;
use hearken_page::document;
use hearken_page::{ChartLabels, ChartSeries, Forest, LineChart, Mark};

/// The report as a section for a page that somebody else frames; see [`super::fragment`].
pub fn feature_report_fragment(report: &FeatureReport) -> String {
    let warnings = sentences("warning", &report.warnings);
    let intro = format!(
        "<p>A network with {} hidden units on {} features, learned from {} pairs of {} prompts and measured on prompts \
         that it did not learn from ({} folds).</p>\n",
        report.hidden,
        report.features.len(),
        report.pairs,
        report.groups,
        report.folds
    );
    let accuracy = facts(
        "Held-out accuracy",
        &[
            ("This model", &report.accuracy, Unit::Percent),
            ("The longer answer wins", &report.longer_wins, Unit::Percent),
            ("Length alone, either direction", &report.length_only, Unit::Percent),
            ("Logistic regression", &report.logistic, Unit::Percent),
            ("This model less length alone", &report.over_length, Unit::Percent),
            ("This model less the regression", &report.over_logistic, Unit::Percent),
            ("Expected calibration error", &report.calibration_error, Unit::Percent),
        ],
    );
    let importance = Forest {
        labels: ChartLabels::new(
            "Accuracy lost when a feature is exchanged between pairs",
            "loss of held-out accuracy",
            "",
        ),
        rows: report
            .importance
            .iter()
            .filter_map(|i| Some((i.feature.clone(), *i.loss.known()?)))
            .collect(),
        reference: Some(0.0),
    };
    let body = [warnings, intro, accuracy, calibration(report), importance.html()];
    framed("features", "Reward model on features", &body.concat())
}

/// The report as a page by itself.
pub fn feature_report_html(report: &FeatureReport) -> String {
    document("Reward model on features", &feature_report_fragment(report))
}

fn calibration(report: &FeatureReport) -> String {
    let points: Vec<(f64, f64)> = report
        .calibration
        .iter()
        .filter_map(|bin| Some((bin.predicted, bin.observed.value()?)))
        .collect();
    if points.is_empty() {
        return String::new();
    }
    let perfect = ChartSeries::new("as sure as right", [(0.5, 0.5), (1.0, 1.0)]);
    let labels = ChartLabels::new("Calibration", "probability given to its choice", "share right");
    let series = vec![ChartSeries::new("held-out pairs", points), perfect];
    LineChart { mark: Mark::PointsThenLines, ..LineChart::new(labels, series) }.html()
}
