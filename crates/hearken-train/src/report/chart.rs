//! One chart as inline SVG.
//!
//! Colors are the light theme's; the page's style sheet finds them by attribute and exchanges them in
//! the dark.

use std::fmt::Write;

use plotters::{
    chart::ChartBuilder,
    coord::Shift,
    element::Circle,
    prelude::{DrawingArea, IntoDrawingArea, PathElement, Rectangle, SVGBackend, Text},
    series::{DashedLineSeries, LineSeries, PointSeries},
    style::{Color, IntoFont, RGBColor, ShapeStyle, TextStyle},
};

use super::{
    ReportError,
    page::escape,
    series::{Point, Series},
};

/// What is drawn.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) x_label: String,
    pub(super) y_label: String,
    pub(super) mark: Mark,
    pub(super) series: Vec<Series>,
    /// What `y` should stay below, drawn where the series come near it.
    pub(super) limit: Option<f64>,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Points joined in their order.
    Line,
    /// Points alone, where their order is not the x axis.
    Point,
    /// Points joined in their order, each with its interval.
    LineAndInterval,
}

/// Text and axes, and the lines of the grid; the style sheet knows both.
pub(super) const INK: RGBColor = RGBColor(0x33, 0x33, 0x34);
pub(super) const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xde);
/// One per series, told apart by readers of every kind of color vision (after Okabe and Ito).
pub(super) const PALETTE: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x8a, 0x6d, 0x00),
    RGBColor(0x56, 0x8e, 0xb9),
];

/// Small enough that labels can be read where a phone shows the chart in three quarters of its size.
const SIZE: (u32, u32) = (460, 300);
/// Dash and gap of the second series and of later ones: what lies under them stays visible.
const DASHES: [(u32, u32); 3] = [(7, 5), (2, 4), (11, 4)];
/// Points from which on a running mean is drawn over them.
const SMOOTHED_FROM: usize = 50;
/// What one more point weighs in the running mean.
const SMOOTHING: f64 = 0.1;
/// A chart that stands alone, and the width of its legend.
const SIZE_ALONE: (u32, u32) = (760, 420);
const LEGEND: i32 = 130;

impl Chart {
    /// A line chart over optimizer steps.
    pub(super) fn over_steps(title: &str, y_label: &str, series: Vec<Series>) -> Self {
        Self {
            title: title.to_owned(),
            x_label: "optimizer step".to_owned(),
            y_label: y_label.to_owned(),
            mark: Mark::Line,
            series,
            limit: None,
        }
    }

    /// A figure with caption and legend; empty where no series has enough points.
    pub(super) fn to_html(&self) -> Result<String, ReportError> {
        let drawn = self.drawn();
        if drawn.is_empty() {
            return Ok(String::new());
        }
        let mut svg = String::new();
        self.draw(&drawn, &mut svg).map_err(|reason| self.failed(reason))?;
        let mut legend = String::new();
        for (index, series) in drawn.iter().enumerate() {
            let name = escape(&series.name);
            let RGBColor(r, g, b) = PALETTE[index % PALETTE.len()];
            let dash = dash(index).filter(|_| self.mark == Mark::Line);
            let dash = dash.map(|(on, off)| format!(" stroke-dasharray=\"{on} {off}\""));
            let _ = write!(
                legend,
                "<li><svg width=\"26\" height=\"10\" aria-hidden=\"true\"><line x1=\"0\" y1=\"5\" \
                 x2=\"26\" y2=\"5\" stroke-width=\"3\"{} stroke=\"#{r:02X}{g:02X}{b:02X}\"/></svg> \
                 {name}</li>",
                dash.unwrap_or_default()
            );
        }
        if self.limit_in(range(&drawn, |point| vec![point.y])).is_some() {
            legend.push_str("<li>– – limit</li>");
        }
        let title = escape(&self.title);
        let svg = self.labelled(&svg);
        Ok(format!(
            "<figure><figcaption>{title}</figcaption>{svg}<ul class=\"legend\">{legend}</ul></figure>\n"
        ))
    }

    /// A file of its own: on white, with the legend inside.
    pub(super) fn to_svg(&self) -> Result<String, ReportError> {
        let mut svg = String::new();
        self.draw_alone(&mut svg).map_err(|reason| self.failed(reason.to_string()))?;
        Ok(self.labelled(&svg))
    }

    /// The series that can be drawn: a line needs two points, an interval is something by itself.
    fn drawn(&self) -> Vec<&Series> {
        let least = if self.mark == Mark::LineAndInterval { 1 } else { 2 };
        self.series.iter().filter(|series| least <= series.points.len()).collect()
    }

    /// The drawing with the chart's title, for who cannot see it.
    fn labelled(&self, svg: &str) -> String {
        let title = escape(&self.title);
        svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{title}\" "), 1)
    }

    fn failed(&self, reason: String) -> ReportError {
        ReportError::Chart { title: self.title.clone(), reason }
    }

    /// The limit, if it lies in a range.
    fn limit_in(&self, range: (f64, f64)) -> Option<f64> {
        let (low, high) = self.with_limit(range);
        self.limit.filter(|&limit| low < limit && limit < high)
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

    fn draw(&self, drawn: &[&Series], svg: &mut String) -> Result<(), String> {
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        self.draw_on(&area, drawn).map_err(|error| error.to_string())?;
        area.present().map_err(|error| error.to_string())
    }

    fn draw_alone(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let drawn = self.drawn();
        let area = SVGBackend::with_string(svg, SIZE_ALONE).into_drawing_area();
        area.fill(&RGBColor(0xff, 0xff, 0xff))?;
        let width = i32::try_from(SIZE_ALONE.0)?;
        let (left, right) = area.split_horizontally(width - LEGEND);
        self.draw_on(&left, &drawn)?;
        let text = ("sans-serif", 13).into_font().color(&INK);
        for ((series, color), line) in drawn.iter().zip(PALETTE.iter().cycle()).zip(0..) {
            let y = 16 + 20 * line;
            right.draw(&Rectangle::new([(4, y), (18, y + 10)], color.filled()))?;
            right.draw(&Text::new(series.name.clone(), (24, y - 1), text.clone()))?;
        }
        drop((left, right));
        Ok(area.present()?)
    }

    fn draw_on(
        &self,
        area: &DrawingArea<SVGBackend<'_>, Shift>,
        drawn: &[&Series],
    ) -> Result<(), Box<dyn std::error::Error>> {
        let text =
            |size: i32| -> TextStyle<'static> { ("sans-serif", size).into_font().color(&INK) };
        let (x, y) = (
            range(drawn, |point| vec![point.x]),
            self.with_limit(range(drawn, |point| {
                let ends = point.interval.into_iter().flat_map(|(low, high)| [low, high]);
                std::iter::once(point.y).chain(ends).collect()
            })),
        );
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
            .x_label_formatter(&|x| label(*x))
            .y_label_formatter(&|y| label(*y))
            .x_desc(&self.x_label)
            .y_desc(&self.y_label)
            .label_style(text(13))
            .axis_desc_style(text(14))
            .draw()?;
        for (index, series) in drawn.iter().enumerate() {
            let color = PALETTE[index % PALETTE.len()];
            let points = || series.points.iter().map(|point| (point.x, point.y));
            let mut line = points().collect::<Vec<_>>();
            if self.mark == Mark::Line && SMOOTHED_FROM <= line.len() {
                let faint = ShapeStyle::from(color.mix(0.3)).stroke_width(1);
                chart.draw_series(LineSeries::new(line.clone(), faint))?;
                line = smoothed(&line);
            }
            match (self.mark, dash(index)) {
                (Mark::Point, _) => {}
                (Mark::Line, Some((on, off))) => {
                    let style = color.stroke_width(2);
                    chart.draw_series(DashedLineSeries::new(line, on, off, style))?;
                }
                _ => {
                    chart.draw_series(LineSeries::new(line, color.stroke_width(2)))?;
                }
            }
            if self.mark != Mark::Line {
                let dots = PointSeries::<_, _, Circle<_, _>, _>::new(points(), 3, color.filled());
                chart.draw_series(dots)?;
            }
            // An unbounded interval is as high as the chart.
            chart.draw_series(series.points.iter().filter_map(|point| {
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

/// From the least to the greatest finite number, with a margin; never empty.
fn range(drawn: &[&Series], of: impl Fn(&Point) -> Vec<f64>) -> (f64, f64) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in drawn.iter().flat_map(|series| &series.points).flat_map(of) {
        if value.is_finite() {
            (low, high) = (low.min(value), high.max(value));
        }
    }
    // What does not change is drawn in the middle, at its own value: 1e-5 is not 0.
    let margin = match low.abs() {
        _ if low < high => 0.04 * (high - low),
        size if 0.0 < size && size.is_finite() => 0.5 * size,
        _ => 1.0,
    };
    (low - margin, high + margin)
}

/// How the line of a series is broken: the first is whole.
fn dash(index: usize) -> Option<(u32, u32)> {
    index.checked_sub(1).map(|later| DASHES[later % DASHES.len()])
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

/// A short form of a number on an axis.
pub(super) fn label(value: f64) -> String {
    let size = value.abs();
    // What an axis calls 0 may come out of a sum as 1e-17.
    if size < 1e-12 {
        "0".to_owned()
    } else if (1e-3..1e5).contains(&size) {
        let digits = if size < 0.1 {
            4
        } else if size < 10.0 {
            2
        } else {
            0
        };
        let text = format!("{value:.digits$}");
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    } else {
        format!("{value:.1e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_labels_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (1500.0, "1500"),
            (-3.0, "-3"),
            (2e-5, "2.0e-5"),
            (1e-17, "0"),
        ] {
            assert_eq!(label(value), text);
        }
    }

    #[test]
    fn a_chart_without_two_points_is_left_out_and_a_flat_one_is_drawn() {
        let chart = |points: &[(f64, f64)]| {
            let points = points.iter().map(|&(x, y)| Point::new(x, y)).collect();
            let series = Series { name: "a<b".to_owned(), points };
            Chart::over_steps("title", "y", vec![series]).to_html().unwrap()
        };
        assert_eq!(chart(&[]), "");
        assert_eq!(chart(&[(1.0, 2.0)]), "");
        let flat = chart(&[(1.0, 2.0), (2.0, 2.0)]);
        assert!(flat.contains("<polyline") && flat.contains("a&lt;b"));
    }

    #[test]
    fn a_constant_is_drawn_at_its_value() {
        for value in [1e-5, -3.0, 4e7] {
            let points = vec![Point::new(1.0, value), Point::new(2.0, value)];
            let series = Series { name: String::new(), points };
            let (low, high) = range(&[&series], |point| vec![point.y]);
            assert!(low < value && value < high && (low < 0.0) == (high < 0.0), "{low} {high}");
        }
    }

    #[test]
    fn a_limit_is_drawn_where_the_series_come_near_it() {
        let chart = |limit: f64| {
            let points = (0..5).map(|x| Point::new(f64::from(x), f64::from(x))).collect();
            let series = vec![Series { name: "kl".to_owned(), points }];
            let chart = Chart { limit: Some(limit), ..Chart::over_steps("title", "y", series) };
            chart.to_html().unwrap()
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
}
