//! Lines and points over two axes.

use plotters::chart::ChartBuilder;
use plotters::element::{Circle, PathElement, Rectangle, Text};
use plotters::prelude::{IntoDrawingArea, SVGBackend};
use plotters::series::{DashedLineSeries, LineSeries, PointSeries};
use plotters::style::{Color, RGBColor, ShapeStyle};

use super::{
    Area, ChartLabels, Drawn, GRID, INK, LegendEntry, PALETTE, figure, labelled, range, short, text,
};

/// A point of a chart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Where on the horizontal axis.
    pub x: f64,
    /// Where on the vertical axis.
    pub y: f64,
    /// The ends of the interval of `y`, where it has one; an infinite end is as far as the chart.
    pub interval: Option<(f64, f64)>,
}

impl Point {
    /// A point without an interval.
    pub fn new(x: f64, y: f64) -> Self {
        Self { x, y, interval: None }
    }
}

/// A named series.
#[derive(Clone, Debug, PartialEq)]
pub struct ChartSeries {
    /// What the legend calls it.
    pub name: String,
    /// Its points, in the order in which they are joined.
    pub points: Vec<Point>,
}

impl ChartSeries {
    /// A series without intervals.
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let points = points.into_iter().map(|(x, y)| Point::new(x, y)).collect();
        Self { name: name.into(), points }
    }
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Points joined in their order; a series of one point is left out.
    Line,
    /// Points alone, where their order is not the horizontal axis; a series of one point is left out.
    Point,
    /// Points joined in their order, each with its interval.
    LineAndInterval,
    /// Points alone for the first series, the others joined: data with curves to compare with.
    PointsThenLines,
}

/// A chart of series.
#[derive(Clone, Debug)]
pub struct LineChart {
    /// Title and axes.
    pub labels: ChartLabels,
    /// How series are drawn.
    pub mark: Mark,
    /// The series.
    pub series: Vec<ChartSeries>,
    /// What `y` should stay below, drawn where the series come near it.
    pub limit: Option<f64>,
    /// Whether a running mean is drawn over series of many points: for measurements that scatter.
    pub smooth: bool,
}

/// Small enough that labels can be read where a phone shows the chart in three quarters of its size.
const SIZE: (u32, u32) = (460, 300);
/// Dash and gap of the second line and of later ones: what lies under them stays visible.
const DASHES: [(u32, u32); 3] = [(7, 5), (2, 4), (11, 4)];
/// Points from which on a running mean is drawn over them.
const SMOOTHED_FROM: usize = 50;
/// What one more point weighs in the running mean.
const SMOOTHING: f64 = 0.1;
/// A chart that stands alone, and the width of its legend.
const SIZE_ALONE: (u32, u32) = (760, 420);
const LEGEND: i32 = 130;

impl LineChart {
    /// Lines over a common axis.
    pub fn new(labels: ChartLabels, series: Vec<ChartSeries>) -> Self {
        Self { labels, mark: Mark::Line, series, limit: None, smooth: false }
    }

    /// A figure with its legend; empty where no series has enough points.
    pub fn html(&self) -> String {
        let shown = self.shown();
        if shown.is_empty() {
            return String::new();
        }
        let key = |(i, line): (usize, &&ChartSeries)| LegendEntry::Series {
            name: line.name.clone(),
            dash: self.dash(i),
        };
        let mut keys: Vec<LegendEntry> = shown.iter().enumerate().map(key).collect();
        if shown.iter().any(|line| self.smooths(line)) {
            keys.push(LegendEntry::Remark("thick: running mean"));
        }
        if self.limit_in(self.heights(&shown)).is_some() {
            keys.push(LegendEntry::Remark("– – limit"));
        }
        figure(&self.labels, SIZE, &keys, |area| self.draw(&shown, area))
    }

    /// A file of its own: on white, with the legend inside.
    ///
    /// # Errors
    /// What kept it from being drawn.
    pub fn svg(&self) -> Result<String, String> {
        let mut svg = String::new();
        self.draw_alone(&mut svg).map_err(|reason| reason.to_string())?;
        Ok(labelled(&svg, &self.labels))
    }

    /// The series that can be drawn.
    fn shown(&self) -> Vec<&ChartSeries> {
        let least = match self.mark {
            Mark::Line | Mark::Point => 2,
            Mark::LineAndInterval | Mark::PointsThenLines => 1,
        };
        self.series.iter().filter(|line| least <= line.points.len()).collect()
    }

    /// From the lowest to the highest of what is drawn.
    fn heights(&self, shown: &[&ChartSeries]) -> (f64, f64) {
        let ends = |p: &Point| {
            let ends = p.interval.into_iter().flat_map(|(low, high)| [low, high]);
            std::iter::once(p.y).chain(ends).collect::<Vec<_>>()
        };
        self.with_limit(range(shown.iter().flat_map(|line| &line.points).flat_map(ends)))
    }

    /// A range that takes the limit in, unless that would make all else small.
    fn with_limit(&self, (low, high): (f64, f64)) -> (f64, f64) {
        let Some(limit) = self.limit else { return (low, high) };
        let reach = 1.5 * (high - low);
        match limit {
            above if high <= above && above < high + reach => (low, above + 0.04 * (above - low)),
            below if below <= low && low - reach < below => (below - 0.04 * (high - below), high),
            _ => (low, high),
        }
    }

    /// The limit, if it lies in the range that is drawn.
    fn limit_in(&self, (low, high): (f64, f64)) -> Option<f64> {
        self.limit.filter(|&limit| low < limit && limit < high)
    }

    /// How the line of a series is broken: the first line is whole, and so is one that has points of its own.
    fn dash(&self, i: usize) -> Option<(u32, u32)> {
        let whole = match self.mark {
            Mark::Line => 0,
            Mark::PointsThenLines => 1,
            Mark::Point | Mark::LineAndInterval => return None,
        };
        let later = i.checked_sub(whole + 1)?;
        Some(DASHES[later % DASHES.len()])
    }

    /// The radius of a series' dots: where dots of several series coincide, those below are seen around those above.
    fn radius(&self, i: usize, count: usize) -> u32 {
        const LEAST: u32 = 3;
        const MOST: u32 = 9;
        match self.mark {
            Mark::Point => (i + 1..count).fold(LEAST, |radius, _| (radius + 2).min(MOST)),
            _ => LEAST,
        }
    }

    fn smooths(&self, line: &ChartSeries) -> bool {
        self.smooth && self.mark == Mark::Line && SMOOTHED_FROM <= line.points.len()
    }

    fn draw_alone(&self, svg: &mut String) -> Drawn {
        let shown = self.shown();
        let area = SVGBackend::with_string(svg, SIZE_ALONE).into_drawing_area();
        area.fill(&RGBColor(0xff, 0xff, 0xff))?;
        let width = i32::try_from(SIZE_ALONE.0)?;
        let (left, right) = area.split_horizontally(width - LEGEND);
        self.draw(&shown, &left)?;
        for ((line, color), place) in shown.iter().zip(PALETTE.iter().cycle()).zip(0..) {
            let y = 16 + 20 * place;
            right.draw(&Rectangle::new([(4, y), (18, y + 10)], color.filled()))?;
            right.draw(&Text::new(line.name.clone(), (24, y - 1), text(13)))?;
        }
        drop((left, right));
        Ok(area.present()?)
    }

    fn draw(&self, shown: &[&ChartSeries], area: &Area<'_>) -> Drawn {
        let points = shown.iter().flat_map(|line| &line.points);
        let (x, y) = (range(points.map(|p| p.x)), self.heights(shown));
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(38)
            .y_label_area_size(58)
            .build_cartesian_2d(x.0..x.1, y.0..y.1)?;
        chart
            .configure_mesh()
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(ShapeStyle::from(GRID.mix(0.0)))
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&|x| short(*x))
            .y_label_formatter(&|y| short(*y))
            .x_desc(&self.labels.x)
            .y_desc(&self.labels.y)
            .label_style(text(13))
            .axis_desc_style(text(14))
            .draw()?;
        for ((i, line), color) in shown.iter().enumerate().zip(PALETTE.iter().cycle()) {
            let finite = || {
                let points = line.points.iter().map(|p| (p.x, p.y));
                points.filter(|p| p.0.is_finite() && p.1.is_finite())
            };
            let dots = match self.mark {
                Mark::Line => false,
                Mark::Point | Mark::LineAndInterval => true,
                Mark::PointsThenLines => i == 0,
            };
            if !dots || self.mark == Mark::LineAndInterval {
                let mut joined: Vec<(f64, f64)> = finite().collect();
                if self.smooths(line) {
                    let faint = ShapeStyle::from(color.mix(0.3)).stroke_width(1);
                    chart.draw_series(LineSeries::new(joined.clone(), faint))?;
                    joined = smoothed(&joined);
                }
                let style = color.stroke_width(2);
                if let Some((on, off)) = self.dash(i) {
                    chart.draw_series(DashedLineSeries::new(joined, on, off, style))?;
                } else {
                    chart.draw_series(LineSeries::new(joined, style))?;
                }
            }
            if dots {
                let radius = self.radius(i, shown.len());
                let dots =
                    PointSeries::<_, _, Circle<_, _>, _>::new(finite(), radius, color.filled());
                chart.draw_series(dots)?;
            }
            chart.draw_series(line.points.iter().filter_map(|point| {
                let (low, high) = point.interval?;
                let ends = [(point.x, low.max(y.0)), (point.x, high.min(y.1))];
                Some(PathElement::new(ends, color.stroke_width(1)))
            }))?;
        }
        if let Some(limit) = self.limit_in(y) {
            let ends = [(x.0, limit), (x.1, limit)];
            chart.draw_series(DashedLineSeries::new(ends, 5, 4, INK.stroke_width(1)))?;
        }
        if y.0 < 0.0 && 0.0 < y.1 {
            chart.draw_series([PathElement::new([(x.0, 0.0), (x.1, 0.0)], INK)])?;
        }
        Ok(())
    }
}

/// The running mean of `y`: each point and what came before it, with weights that fall.
fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let (mut sum, mut weight) = (0.0, 0.0);
    let mean = |&(x, y): &(f64, f64)| {
        sum += SMOOTHING * (y - sum);
        weight += SMOOTHING * (1.0 - weight);
        (x, sum / weight)
    };
    points.iter().map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(series: Vec<ChartSeries>) -> LineChart {
        LineChart::new(ChartLabels::new("title", "x", "y"), series)
    }

    #[test]
    fn a_limit_is_drawn_where_the_series_come_near_it() {
        let chart = |limit: f64| {
            let points = (0..5).map(|x| (f64::from(x), f64::from(x)));
            LineChart { limit: Some(limit), ..lines(vec![ChartSeries::new("kl", points)]) }.html()
        };
        assert!(chart(6.0).contains("limit") && chart(2.0).contains("limit"));
        assert!(!chart(1000.0).contains("limit"));
    }

    #[test]
    fn a_running_mean_starts_at_the_first_point_and_follows() {
        let points: Vec<_> = (0..200).map(|x| (f64::from(x), f64::from(x % 2))).collect();
        let smooth = smoothed(&points);
        assert_eq!(smooth[0], (0.0, 0.0));
        assert!(smooth[100..].iter().all(|&(_, y)| (y - 0.5).abs() < 0.06));
        assert!((smoothed(&[(1.0, 3.0), (2.0, 3.0)])[1].1 - 3.0).abs() < 1e-12);
    }

    #[test]
    fn only_what_scatters_has_a_running_mean_and_the_legend_says_so() {
        let points = || (0..60).map(|x| (f64::from(x), f64::from(x % 2)));
        let chart = |smooth: bool| {
            LineChart { smooth, ..lines(vec![ChartSeries::new("a", points())]) }.html()
        };
        let said = "thick: running mean";
        assert!(chart(true).contains(said) && !chart(false).contains(said));
        assert_eq!(
            chart(false).matches("<polyline").count() + 1,
            chart(true).matches("<polyline").count()
        );
    }

    /// Where dots coincide, the ones below are seen around the ones above.
    #[test]
    fn dots_of_several_series_differ_in_size() {
        let series = |name: &str| ChartSeries::new(name, vec![(1.0, 2.0), (2.0, 3.0)]);
        let svg = |names: &[&str]| {
            let lines = lines(names.iter().map(|name| series(name)).collect());
            LineChart { mark: Mark::Point, ..lines }.svg().unwrap()
        };
        let one = svg(&["a"]);
        assert_eq!(one.matches("r=\"3\"").count(), 2, "{one}");
        let two = svg(&["a", "b"]);
        assert_eq!(
            (two.matches("r=\"5\"").count(), two.matches("r=\"3\"").count()),
            (2, 2),
            "{two}"
        );
    }

    /// Where lines coincide, the one below is seen through the gaps of the one above, which the legend shows.
    #[test]
    fn lines_that_coincide_are_told_apart() {
        let line = |name: &str| ChartSeries::new(name, [(0.0, 1.0), (1.0, 2.0)]);
        let html = lines(vec![line("a"), line("b")]).html();
        assert_eq!(html.matches("stroke-dasharray").count(), 1);
        assert!(2 < html.matches("<polyline").count(), "the second line is in pieces");
        let series = vec![line("data"), line("curve"), line("other")];
        let html = LineChart { mark: Mark::PointsThenLines, ..lines(series) }.html();
        assert_eq!(html.matches("stroke-dasharray").count(), 1);
    }

    #[test]
    fn a_series_without_two_points_is_left_out_and_a_flat_one_is_drawn() {
        let chart = |points: &[(f64, f64)]| {
            let series = ChartSeries::new("a<b", points.iter().copied());
            LineChart::new(ChartLabels::new("title", "x", "y"), vec![series]).html()
        };
        assert_eq!(chart(&[]), "");
        assert_eq!(chart(&[(1.0, 2.0)]), "");
        let flat = chart(&[(1.0, 2.0), (2.0, 2.0)]);
        assert!(flat.contains("<polyline") && flat.contains("a&lt;b"));
    }

    #[test]
    fn a_point_alone_is_drawn_with_its_interval() {
        let point = Point { x: 1.0, y: 2.0, interval: Some((1.5, f64::INFINITY)) };
        let series = vec![ChartSeries { name: "one".into(), points: vec![point] }];
        let labels = ChartLabels::new("title", "x", "y");
        let lines = LineChart { mark: Mark::LineAndInterval, ..LineChart::new(labels, series) };
        let svg = lines.svg().unwrap();
        assert!(svg.starts_with("<svg role=\"img\"") && svg.contains("<circle"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
