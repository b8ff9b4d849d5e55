//! What a policy gains in the score that is wanted while it is trained on another, by its distance from the start.
//!
//! ```text
//! d = √KL(π ‖ π_ref)
//! best of N   R(d) = d·(a − b·d)
//! policies    R(d) = d·(a − b·ln d)
//! ```
//!
//! Gao et al. 2022, arXiv:2210.10760. R is gold less that of the start.

use std::fmt::Write as _;

use hearken_objective::best_of_n::{expected_score, kl_bound};
use hearken_objective::overoptimization::{Curve, Optimizer};
use hearken_page::{Cell, ChartLabels, ChartSeries, LineChart, Mark, document, escape, table};
use hearken_stats::Estimate;
use hearken_stats::bootstrap::bootstrap;
use rand::Rng;
use serde::Serialize;
use serde_json::Value;

use crate::ReportError;

/// Replicates of the bootstrap.
const ROUNDS: usize = 1000;
/// Runs from which on they are drawn whole: of fewer, points are.
const RUNS_MIN: usize = 3;
/// Points of a drawn curve.
const DRAWN: usize = 60;

/// A policy at one distance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Reached {
    /// √KL to the start, √nats.
    pub distance: f64,
    /// Gold less that of the start.
    pub gold_gain: f64,
    /// The score that is trained on, less that of the start; `None` where it is not known.
    pub proxy_gain: Option<f64>,
}

/// What one run reached, point after point.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Course {
    /// Where it comes from.
    pub name: String,
    /// Its points; the start is none.
    pub points: Vec<Reached>,
}

/// Which form a curve has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// d·(a − b·d).
    BestOfN,
    /// d·(a − b·ln d).
    Policy,
}

impl From<Form> for Optimizer {
    fn from(form: Form) -> Self {
        match form {
            Form::BestOfN => Self::BestOfN,
            Form::Policy => Self::Policy,
        }
    }
}

/// The curve of a method.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GoldCurve {
    /// The method.
    pub method: String,
    /// Which form is fitted.
    pub form: Form,
    /// Its runs.
    pub courses: Vec<Course>,
    /// Initial slope.
    pub a: Estimate,
    /// How soon it bends.
    pub b: Estimate,
    /// Where it is highest, √nats; `None` where the fit does not turn down.
    pub peak_distance: Option<Estimate>,
    /// How high it is there.
    pub peak_gain: Option<Estimate>,
    /// Whether the peak lies within what was measured.
    pub is_peak_measured: bool,
}

/// Several methods.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GoldCurves {
    /// One after the other.
    pub curves: Vec<GoldCurve>,
}

/// The names of what is read out of metrics.
#[derive(Clone, Debug)]
pub struct Named<'n> {
    /// The label of the score that is wanted.
    pub gold: &'n str,
    /// The label of the one that is trained on; without it the sum of all that count.
    pub proxy: Option<&'n str>,
}

impl Named<'_> {
    /// The names that a score has in the metrics of PPO, DPO and GRPO, of evaluations first.
    fn of(label: Option<&str>) -> [Vec<String>; 2] {
        match label {
            Some(label) => [
                vec![format!("eval_scores/{label}")],
                vec![format!("scores/{label}"), format!("rewards/{label}/mean")],
            ],
            None => [
                vec!["eval_scores".to_owned()],
                vec!["objective/scores".to_owned(), "reward".to_owned()],
            ],
        }
    }
}

impl Course {
    /// The course of a run, from its records: by evaluations on held-out prompts if there are three or more of them, else
    /// by the completions that were trained on, once an iteration. What a first record has is the start.
    pub fn of_run(name: &str, records: &[Value], named: &Named<'_>) -> Option<Self> {
        let [gold, proxy] = [Named::of(Some(named.gold)), Named::of(named.proxy)];
        let evaluations = points(records, "eval_kl", &gold[0], &proxy[0]);
        let found = match 3 <= evaluations.len() {
            true => evaluations,
            false => points(records, "objective/kl", &gold[1], &proxy[1]),
        };
        let (start, rest) = found.split_first()?;
        let reached = |(kl, gold, proxy): &(f64, f64, Option<f64>)| Reached {
            distance: kl.max(0.0).sqrt(),
            gold_gain: gold - start.1,
            proxy_gain: proxy.zip(start.2).map(|(proxy, start)| proxy - start),
        };
        let points: Vec<Reached> =
            rest.iter().map(reached).filter(|one| 0.0 < one.distance).collect();
        (!points.is_empty()).then(|| Self { name: name.to_owned(), points })
    }

    /// The course of best-of-N, from the gold and proxy scores of several completions of each prompt: N = 1, 2, 4, … up
    /// to the fewest that a prompt has, without bias. Distances are √(ln N − (N − 1)/N), which bounds the KL from above.
    pub fn of_choices(name: &str, prompts: &[Vec<(f64, f64)>]) -> Option<Self> {
        let most = prompts.iter().map(Vec::len).min()?;
        let mean = |n: usize, of: fn(&(f64, f64)) -> f64| -> Option<f64> {
            let of_prompt = |scored: &Vec<(f64, f64)>| {
                let mut ordered = scored.clone();
                ordered.sort_by(|one, other| other.1.total_cmp(&one.1));
                expected_score(&ordered.iter().map(of).collect::<Vec<_>>(), n)
            };
            let all = prompts.iter().map(of_prompt).collect::<Option<Vec<f64>>>()?;
            Some(all.iter().sum::<f64>() / all.len() as f64)
        };
        let (gold, proxy) = (mean(1, |one| one.0)?, mean(1, |one| one.1)?);
        let powers = std::iter::successors(Some(2), |n| Some(2 * n)).take_while(|n| *n <= most);
        let reached = |n: usize| {
            Some(Reached {
                distance: kl_bound(u32::try_from(n).ok()?).sqrt(),
                gold_gain: mean(n, |one| one.0)? - gold,
                proxy_gain: Some(mean(n, |one| one.1)? - proxy),
            })
        };
        let points = powers.map(reached).collect::<Option<Vec<_>>>()?;
        (!points.is_empty()).then(|| Self { name: name.to_owned(), points })
    }
}

/// KL, gold and proxy of the records that have the first two, once an iteration.
fn points(
    records: &[Value],
    kl: &str,
    gold: &[String],
    proxy: &[String],
) -> Vec<(f64, f64, Option<f64>)> {
    let number = |record: &Value, name: &str| {
        let value = record.get(name)?;
        let number = value.as_f64().or_else(|| value.get("value")?.as_f64());
        number.filter(|number| number.is_finite())
    };
    let any = |record: &Value, names: &[String]| names.iter().find_map(|one| number(record, one));
    let (mut found, mut last) = (Vec::new(), None);
    for record in records {
        let iteration = record.get("iteration").and_then(Value::as_u64);
        if iteration.is_some() && iteration == last {
            continue;
        }
        if let Some((kl, gold)) = number(record, kl).zip(any(record, gold)) {
            last = iteration;
            found.push((kl, gold, any(record, proxy)));
        }
    }
    found
}

impl GoldCurve {
    /// Fits the curve of a method. Intervals are the bootstrap's, which draws whole runs where there are three or more,
    /// and points of them otherwise. `None` where the points do not determine a curve.
    pub fn fit(method: &str, form: Form, courses: Vec<Course>, rng: &mut impl Rng) -> Option<Self> {
        let each: Vec<Vec<(f64, f64)>> = courses
            .iter()
            .map(|of| of.points.iter().map(|one| (one.distance, one.gold_gain)).collect())
            .collect();
        // What is drawn anew: runs, or points.
        let drawn: Vec<Vec<(f64, f64)>> = match RUNS_MIN <= each.len() {
            true => each,
            false => each.concat().into_iter().map(|point| vec![point]).collect(),
        };
        let mut of = |statistic: fn(Curve) -> Option<f64>| {
            bootstrap(
                &drawn,
                |sample| {
                    let points: Vec<_> =
                        sample.iter().flat_map(|part| part.iter().copied()).collect();
                    Curve::fit(form.into(), &points).and_then(statistic)
                },
                ROUNDS,
                rng,
            )
        };
        let (a, b) = (of(|curve| Some(curve.a))?, of(|curve| Some(curve.b))?);
        let peak_distance = of(|curve| curve.peak().map(|peak| peak.0));
        let peak_gain = of(|curve| curve.peak().map(|peak| peak.1));
        let points = || courses.iter().flat_map(|of| &of.points);
        let farthest = points().map(|one| one.distance).fold(0.0, f64::max);
        let is_peak_measured = peak_distance.is_some_and(|peak| peak.value <= farthest);
        let method = method.to_owned();
        Some(Self { method, form, courses, a, b, peak_distance, peak_gain, is_peak_measured })
    }

    fn curve(&self) -> Curve {
        let optimizer = self.form.into();
        Curve { optimizer, a: self.a.value, b: self.b.value }
    }

    fn farthest(&self) -> f64 {
        let points = self.courses.iter().flat_map(|of| &of.points);
        points.map(|one| one.distance).fold(0.0, f64::max)
    }

    /// Measured gold, the fit, its peak, and the proxy.
    fn chart(&self) -> LineChart {
        let all = |of: fn(&Reached) -> Option<f64>| -> Vec<(f64, f64)> {
            let points = self.courses.iter().flat_map(|course| &course.points);
            let mut all: Vec<_> = points.filter_map(|one| Some((one.distance, of(one)?))).collect();
            all.sort_by(|one, other| one.0.total_cmp(&other.0));
            all
        };
        let (curve, farthest) = (self.curve(), self.farthest());
        let at = |step: usize| farthest * step as f64 / DRAWN as f64;
        let fitted = (1..=DRAWN).map(|step| (at(step), curve.gain(at(step))));
        let mut series = vec![
            ChartSeries::new("gold, measured", all(|one| Some(one.gold_gain))),
            ChartSeries::new("gold, fitted", fitted),
            ChartSeries::new("trained on", all(|one| one.proxy_gain)),
        ];
        if let Some((distance, gain)) = curve.peak().filter(|_| self.is_peak_measured) {
            series.push(ChartSeries::new("peak", [(distance, 0.0), (distance, gain)]));
        }
        series.retain(|line| !line.points.is_empty());
        let labels = ChartLabels::new(
            &self.method,
            "√KL(policy ‖ start) of a completion, √nats",
            "score less that of the start",
        );
        LineChart { mark: Mark::PointsThenLines, ..LineChart::new(labels, series) }
    }

    /// What the fit says in a sentence.
    pub fn sentence(&self) -> String {
        match (self.peak_distance, self.peak_gain) {
            (Some(distance), Some(gain)) if self.is_peak_measured => format!(
                "{}: gold is highest at √KL = {distance:.2}, by {gain:.2}; what lies behind that is over-optimized",
                self.method
            ),
            (Some(distance), Some(_)) => format!(
                "{}: the fit is highest at √KL = {distance:.2}, beyond what was measured ({:.2})",
                self.method,
                self.farthest()
            ),
            _ => format!(
                "{}: gold rises as far as was measured (√KL = {:.2})",
                self.method,
                self.farthest()
            ),
        }
    }
}

impl GoldCurves {
    /// The fits as rows: method, runs, points, a, b, √KL and gain of the peak.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let estimate = |estimate: &Estimate| format!("{estimate:.3}");
        let optional = |one: &Option<Estimate>| one.as_ref().map_or("–".to_owned(), estimate);
        let row = |curve: &GoldCurve| {
            let points: usize = curve.courses.iter().map(|of| of.points.len()).sum();
            vec![
                curve.method.clone(),
                curve.courses.len().to_string(),
                points.to_string(),
                estimate(&curve.a),
                estimate(&curve.b),
                optional(&curve.peak_distance),
                optional(&curve.peak_gain),
            ]
        };
        self.curves.iter().map(row).collect()
    }

    /// The headings of [`GoldCurves::rows`].
    pub const HEADINGS: [&'static str; 7] =
        ["method", "runs", "points", "a", "b", "√KL of the peak", "gain at the peak"];

    /// A page by itself: a chart for each method, and the fits.
    pub fn html(&self) -> String {
        let mut body = String::from("<div class=\"figures\">\n");
        self.curves.iter().for_each(|curve| body.push_str(&curve.chart().html()));
        body.push_str("</div>\n");
        let cell = |(at, text): (usize, String)| match at {
            0 => Cell::Heading(escape(&text)),
            _ => Cell::Number(escape(&text)),
        };
        let rows: Vec<Vec<Cell>> = self
            .rows()
            .into_iter()
            .map(|row| row.into_iter().enumerate().map(cell).collect())
            .collect();
        body.push_str(&table("numbers", &Self::HEADINGS, &rows));
        for curve in &self.curves {
            let _ = writeln!(body, "<p class=\"note\">{}</p>", escape(&curve.sentence()));
        }
        document("Gold score against distance", &body)
    }

    /// The chart of the first method as a file of its own.
    ///
    /// # Errors
    /// If it cannot be drawn, or there is none.
    pub fn svg(&self) -> Result<String, ReportError> {
        let failed = |reason: String| ReportError::Chart { title: "gold".to_owned(), reason };
        let first = self.curves.first().ok_or_else(|| failed("no curve was fitted".to_owned()))?;
        first.chart().svg().map_err(failed)
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // Exact by construction.
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use serde_json::json;

    use super::*;

    const TRUTH: Curve = Curve { optimizer: Optimizer::Policy, a: 1.0, b: 0.5 };

    /// Records of a run that follows [`TRUTH`] but for a little.
    fn run(shift: f64, named: impl Fn(u64, f64, f64) -> Value) -> Vec<Value> {
        (0..40_u32)
            .map(|step| {
                let d = f64::from(step) / 8.0;
                let gain = if step == 0 { 0.0 } else { TRUTH.gain(d) };
                named(step.into(), d * d, 3.0 + gain + shift * f64::from(step % 2))
            })
            .collect()
    }

    fn ppo(shift: f64) -> Vec<Value> {
        run(
            shift,
            |step, kl, gold| json!({"step": step, "iteration": step, "loss": 0.0, "objective/kl": kl, "scores/gold": gold, "objective/scores": kl}),
        )
    }

    const NAMED: Named<'static> = Named { gold: "gold", proxy: None };

    #[test]
    fn a_run_gives_back_the_curve_that_it_follows_and_its_peak() {
        let shifts = [0.0, 0.02, -0.02, 0.01];
        let courses: Vec<Course> = shifts
            .iter()
            .map(|shift| Course::of_run("run", &ppo(*shift), &NAMED).unwrap())
            .collect();
        let rng = &mut ChaCha8Rng::seed_from_u64(0);
        let fit = GoldCurve::fit("ppo", Form::Policy, courses, rng).unwrap();
        let (distance, gain) = TRUTH.peak().unwrap();
        for (found, expected) in [
            (fit.a, 1.0),
            (fit.b, 0.5),
            (fit.peak_distance.unwrap(), distance),
            (fit.peak_gain.unwrap(), gain),
        ] {
            assert!((found.value - expected).abs() < 0.05, "{found:?}, expected {expected}");
            assert!(
                found.low <= found.value && found.value <= found.high && found.n == 4,
                "{found:?}"
            );
        }
        assert!(fit.is_peak_measured && fit.sentence().contains("gold is highest at"));
        let curves = GoldCurves { curves: vec![fit] };
        let html = curves.html();
        assert!(html.contains("peak") && html.contains("gold, fitted"), "{html}");
        assert!(curves.svg().unwrap().starts_with("<svg"));
        assert_eq!(curves.rows()[0].len(), GoldCurves::HEADINGS.len());
    }

    #[test]
    fn metrics_of_all_trainers_are_read_and_evaluations_count_more() {
        let of = |records: &[Value]| Course::of_run("r", records, &NAMED).unwrap();
        let grpo = run(
            0.0,
            |step, kl, gold| json!({"step": step, "iteration": step, "loss": 0.0, "objective/kl": kl, "rewards/gold/mean": gold, "reward": kl}),
        );
        assert_eq!(of(&ppo(0.0)).points, of(&grpo).points);
        let held_out = run(
            0.0,
            |step, kl, gold| json!({"step": step, "eval_kl": {"value": kl}, "eval_scores/gold": {"value": gold}, "eval_scores": {"value": kl}}),
        );
        let both = [ppo(5.0), held_out.clone()].concat();
        assert_eq!(of(&both).points, of(&held_out).points);
        // Steps of one iteration say the same.
        let twice: Vec<Value> = ppo(0.0).into_iter().flat_map(|one| [one.clone(), one]).collect();
        assert_eq!(of(&twice).points.len(), 39);
        assert_eq!(Course::of_run("r", &ppo(0.0), &Named { gold: "none", proxy: None }), None);
    }

    /// Proxy and gold agree: the best by one is the best by the other.
    #[test]
    fn choices_gain_what_the_best_of_them_have() {
        let prompts = vec![vec![(0.0, 0.0), (1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]; 5];
        let course = Course::of_choices("best of N", &prompts).unwrap();
        let gains: Vec<f64> = course.points.iter().map(|one| one.gold_gain).collect();
        // The maxima of the six pairs of 0, 1, 2, 3 are 1, 2, 3, 2, 3, 3: 7/3 on average, and the mean is 3/2.
        assert!((gains[0] - (7.0 / 3.0 - 1.5)).abs() < 1e-12, "{gains:?}");
        assert_eq!(gains[1], 1.5);
        assert_eq!(course.points[1].proxy_gain, Some(1.5));
        assert!((course.points[0].distance - kl_bound(2).sqrt()).abs() < 1e-15);
        assert_eq!(Course::of_choices("one", &[vec![(0.0, 0.0)]]), None);
    }

    #[test]
    fn gold_that_only_rises_has_no_peak() {
        let rising = run(
            0.0,
            |step, kl, _| json!({"step": step, "iteration": step, "loss": 0.0, "objective/kl": kl, "scores/gold": kl}),
        );
        let course = Course::of_run("r", &rising, &NAMED).unwrap();
        let rng = &mut ChaCha8Rng::seed_from_u64(0);
        let fit = GoldCurve::fit("ppo", Form::Policy, vec![course], rng).unwrap();
        assert_eq!((fit.peak_distance, fit.is_peak_measured), (None, false));
        assert!(fit.sentence().contains("gold rises as far as was measured"), "{}", fit.sentence());
    }
}
