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
    series::{LineSeries, PointSeries},
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

const SIZE: (u32, u32) = (560, 320);
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
        for (series, RGBColor(r, g, b)) in drawn.iter().zip(PALETTE.iter().cycle()) {
            let name = escape(&series.name);
            let _ = write!(
                legend,
                "<li><svg width=\"14\" height=\"10\" aria-hidden=\"true\"><rect width=\"14\" \
                 height=\"10\" fill=\"#{r:02X}{g:02X}{b:02X}\"/></svg> {name}</li>"
            );
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
            range(drawn, |point| {
                let ends = point.interval.into_iter().flat_map(|(low, high)| [low, high]);
                std::iter::once(point.y).chain(ends).collect()
            }),
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
            .x_labels(8)
            .y_labels(7)
            .x_label_formatter(&|x| label(*x))
            .y_label_formatter(&|y| label(*y))
            .x_desc(&self.x_label)
            .y_desc(&self.y_label)
            .label_style(text(12))
            .axis_desc_style(text(13))
            .draw()?;
        for (series, color) in drawn.iter().zip(PALETTE.iter().cycle()) {
            let points = || series.points.iter().map(|point| (point.x, point.y));
            if self.mark != Mark::Point {
                chart.draw_series(LineSeries::new(points(), color.stroke_width(2)))?;
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
    let margin = if low < high { 0.04 * (high - low) } else { 0.5 * low.abs().max(1.0) };
    (low - margin, high + margin)
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
}
