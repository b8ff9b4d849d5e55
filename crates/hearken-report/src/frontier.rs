//! What methods that start from one policy buy for their distance from it.
//!
//! A [`Frontier`] is plain data, `frontier.json` of a run directory; [`Frontier::to_svg`] draws gold
//! reward against the root of the KL, one series per method, intervals upright.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hearken_page::{Cell, ChartLabels, ChartSeries, LineChart, Mark, Point, escape, table};
use hearken_stats::Estimate;
use serde::{Deserialize, Serialize};

use super::ReportError;
use crate::outcome::StageSummary;

/// Methods, each at several strengths, on the same held-out prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frontier {
    /// What was done, in sentences: task, prompts, intervals.
    pub notes: Vec<String>,
    /// The seed of world, start and reward model.
    pub world_seed: u64,
    /// The seeds of the methods and of the sampling on held-out prompts.
    pub seeds: Vec<u64>,
    /// Held-out prompts.
    pub prompts: usize,
    /// Threads that computed.
    pub threads: usize,
    /// Configuration of each method, over the defaults.
    pub settings: BTreeMap<String, String>,
    /// What was made before and is shared: the start, the reward model.
    pub shared: Vec<StageSummary>,
    /// The methods, the start first.
    pub methods: Vec<FrontierMethod>,
}

/// One method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrontierMethod {
    /// Its name.
    pub name: String,
    /// What `strength` counts.
    pub strength_unit: String,
    /// How the distance was found.
    pub kl_method: String,
    /// What `cost` paid for.
    pub cost_of: String,
    /// From the weakest to the strongest.
    pub points: Vec<FrontierPoint>,
}

/// One method at one strength. Estimates are over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrontierPoint {
    /// How strongly it was applied.
    pub strength: u64,
    /// Gold reward of a completion.
    pub gold: Estimate,
    /// Gold reward minus that of the start, on the same prompts and seeds.
    pub gold_gain: Estimate,
    /// The same difference over prompts, each the mean of all seeds.
    pub gold_gain_over_prompts: Estimate,
    /// Score of the reward model.
    pub proxy: Estimate,
    /// KL(policy ‖ start) of a completion, nats.
    pub kl_nats: Estimate,
    /// Tokens of a completion.
    pub length: Estimate,
    /// Tokens sampled to answer one prompt: `length`, times N where the best of N is kept.
    pub answer_tokens: f64,
    /// Mean over seeds.
    pub cost: FrontierCost,
}

/// What a point took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FrontierCost {
    /// Tokens sampled.
    pub sampled_tokens: f64,
    /// Tokens forward and backward through the policy.
    pub trained_tokens: f64,
    /// Floating-point operations, estimated.
    pub flops: f64,
    /// Seconds of processor time of all threads, where the system says so.
    pub cpu_seconds: Option<f64>,
    /// Seconds on the clock.
    pub wall_seconds: f64,
}

impl Frontier {
    /// The chart as a file of its own, legend included.
    ///
    /// # Errors
    /// If it cannot be drawn.
    pub fn to_svg(&self) -> Result<String, ReportError> {
        let chart = self.chart();
        chart
            .svg()
            .map_err(|reason| ReportError::Chart { title: chart.labels.title.clone(), reason })
    }

    /// Chart and table as a part of a page.
    pub(super) fn to_html(&self) -> String {
        let mut html = String::from("<h2>Frontier</h2>\n<div class=\"figures\">\n");
        html.push_str(&self.chart().html());
        html.push_str("</div>\n");
        html.push_str(&self.table());
        for note in &self.notes {
            let _ = writeln!(html, "<p class=\"note\">{}</p>", escape(note));
        }
        html
    }

    fn chart(&self) -> LineChart {
        let point = |point: &FrontierPoint| Point {
            x: point.kl_nats.value.max(0.0).sqrt(),
            y: point.gold.value,
            interval: Some((point.gold.low, point.gold.high)),
        };
        let series = |method: &FrontierMethod| ChartSeries {
            name: method.name.clone(),
            points: method.points.iter().map(point).collect(),
        };
        let labels = ChartLabels::new(
            "Gold reward against distance from the start",
            "√KL(policy ‖ start) of a completion, √nats",
            "gold reward",
        );
        let lines = LineChart::new(labels, self.methods.iter().map(series).collect());
        LineChart { mark: Mark::LineAndInterval, ..lines }
    }

    fn table(&self) -> String {
        let headings = [
            "method",
            "strength",
            "KL, nats",
            "gold",
            "gold, gain",
            "reward model",
            "tokens sampled",
            "tokens trained",
            "CPU s",
            "s",
        ];
        let estimate = |estimate: &Estimate| Cell::Number(escape(&format!("{estimate:.2}")));
        let mut rows = Vec::new();
        for method in &self.methods {
            for point in &method.points {
                let cpu =
                    point.cost.cpu_seconds.map_or("–".to_owned(), |cpu| format!("{cpu:.1}"));
                let strength = format!("{} {}", point.strength, escape(&method.strength_unit));
                rows.push(vec![
                    Cell::Heading(escape(&method.name)),
                    Cell::Number(strength),
                    estimate(&point.kl_nats),
                    estimate(&point.gold),
                    estimate(&point.gold_gain),
                    estimate(&point.proxy),
                    Cell::Number(format!("{:.0}", point.cost.sampled_tokens)),
                    Cell::Number(format!("{:.0}", point.cost.trained_tokens)),
                    Cell::Number(cpu),
                    Cell::Number(format!("{:.1}", point.cost.wall_seconds)),
                ]);
            }
        }
        table("numbers", &headings, &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearken_stats::mean::normal_mean;

    fn frontier() -> Frontier {
        let at = |center: f64| normal_mean(&[center - 1.0, center, center + 1.0]).unwrap();
        let point = |strength, kl, gold| FrontierPoint {
            strength,
            gold: at(gold),
            gold_gain: at(gold - 1.0),
            gold_gain_over_prompts: at(gold - 1.0),
            proxy: at(0.0),
            kl_nats: at(kl),
            length: at(20.0),
            answer_tokens: 20.0,
            cost: FrontierCost::default(),
        };
        let method = |name: &str, points| FrontierMethod {
            name: name.to_owned(),
            strength_unit: "steps".to_owned(),
            kl_method: "k1".to_owned(),
            cost_of: "training".to_owned(),
            points,
        };
        Frontier {
            notes: vec!["a < b".to_owned()],
            world_seed: 1,
            seeds: vec![2, 3],
            prompts: 3,
            threads: 1,
            settings: BTreeMap::new(),
            shared: Vec::new(),
            methods: vec![
                method("start", vec![point(0, 0.0, 1.0)]),
                method("DPO", vec![point(10, 4.0, 2.0), point(20, 9.0, 1.5)]),
            ],
        }
    }

    #[test]
    fn a_method_with_one_point_is_drawn_with_its_interval() {
        let svg = frontier().to_svg().unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("start") && svg.contains("DPO"));
        // One mark per point, one upright line per interval.
        assert_eq!(svg.matches("<circle").count(), 3);
        let html = frontier().to_html();
        assert!(html.contains("a &lt; b") && html.contains("20 steps"));
    }

    #[test]
    fn a_frontier_is_what_was_written() {
        let text = serde_json::to_string(&frontier()).unwrap();
        assert_eq!(serde_json::from_str::<Frontier>(&text).unwrap(), frontier());
    }
}
