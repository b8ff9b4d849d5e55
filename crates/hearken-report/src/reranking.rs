//! How often the right answer is chosen among N.

use hearken_page::{ChartLabels, ChartSeries, LineChart, Mark, Point, document};
use hearken_stats::Estimate;
use serde::Serialize;

/// The accuracy of a way of choosing, by the number of answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AccuracyCurve {
    /// What chooses.
    pub choice: String,
    /// The number of answers, and the share of problems whose chosen answer is right.
    pub points: Vec<(usize, Estimate)>,
}

/// Ways of choosing among the same answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AccuracyCurves {
    /// How many problems there are.
    pub problems: usize,
    /// How many answers each of them has, at least.
    pub answers_each: usize,
    /// A curve for each way.
    pub curves: Vec<AccuracyCurve>,
}

impl AccuracyCurves {
    /// All curves in one plot, as a page by itself.
    pub fn html(&self) -> String {
        let point = |(n, of): &(usize, Estimate)| Point {
            x: (*n as f64).log2(),
            y: 100.0 * of.value,
            interval: Some((100.0 * of.low.max(0.0), 100.0 * of.high.min(1.0))),
        };
        let line = |curve: &AccuracyCurve| ChartSeries {
            name: curve.choice.clone(),
            points: curve.points.iter().map(point).collect(),
        };
        let series = self.curves.iter().map(line).collect();
        let labels = ChartLabels::new("The right answer chosen among N", "log₂ N", "% right");
        let chart = LineChart { mark: Mark::LineAndInterval, ..LineChart::new(labels, series) };
        let lead = format!(
            "<p>{} problems, {} answers each; bars are 95 % intervals over problems.</p>\n",
            self.problems, self.answers_each
        );
        document("Choosing among N answers", &(lead + &chart.html()))
    }
}
