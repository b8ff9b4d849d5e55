//! Lines and points over two axes.

use plotters::chart::ChartBuilder;
use plotters::element::{Circle, PathElement, Rectangle, Text};
use plotters::prelude::{IntoDrawingArea, SVGBackend};
use plotters::series::{LineSeries, PointSeries};
use plotters::style::{Color, RGBColor, ShapeStyle};

use super::{Area, Drawn, GRID, INK, Labels, PALETTE, figure, labelled, range, short, text};

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
pub struct Line {
    /// What the legend calls it.
    pub name: String,
    /// Its points, in the order in which they are joined.
    pub points: Vec<Point>,
}

impl Line {
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
pub struct Lines {
    /// Title and axes.
    pub labels: Labels,
    /// How series are drawn.
    pub mark: Mark,
    /// The series.
    pub series: Vec<Line>,
}

const SIZE: (u32, u32) = (680, 360);
/// A chart that stands alone, and the width of its legend.
const SIZE_ALONE: (u32, u32) = (760, 420);
const LEGEND: i32 = 130;

impl Lines {
    /// Lines over a common axis.
    pub fn new(labels: Labels, series: Vec<Line>) -> Self {
        Self { labels, mark: Mark::Line, series }
    }

    /// A figure with its legend; empty where no series has enough points.
    pub fn html(&self) -> String {
        let shown = self.shown();
        if shown.is_empty() {
            return String::new();
        }
        let names: Vec<&str> = shown.iter().map(|line| line.name.as_str()).collect();
        figure(&self.labels, SIZE, &names, |area| self.draw(&shown, area))
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
    fn shown(&self) -> Vec<&Line> {
        let least = match self.mark {
            Mark::Line | Mark::Point => 2,
            Mark::LineAndInterval | Mark::PointsThenLines => 1,
        };
        self.series.iter().filter(|line| least <= line.points.len()).collect()
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

    fn draw(&self, shown: &[&Line], area: &Area<'_>) -> Drawn {
        let points = || shown.iter().flat_map(|line| &line.points);
        let ends = |p: &Point| {
            let ends = p.interval.into_iter().flat_map(|(low, high)| [low, high]);
            std::iter::once(p.y).chain(ends).collect::<Vec<_>>()
        };
        let (x, y) = (range(points().map(|p| p.x)), range(points().flat_map(ends)));
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
            .x_label_formatter(&|x| short(*x))
            .y_label_formatter(&|y| short(*y))
            .x_desc(&self.labels.x)
            .y_desc(&self.labels.y)
            .label_style(text(12))
            .axis_desc_style(text(13))
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
                chart.draw_series(LineSeries::new(finite(), color.stroke_width(2)))?;
            }
            if dots {
                let dots = PointSeries::<_, _, Circle<_, _>, _>::new(finite(), 3, color.filled());
                chart.draw_series(dots)?;
            }
            chart.draw_series(line.points.iter().filter_map(|point| {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_without_two_points_is_left_out_and_a_flat_one_is_drawn() {
        let chart = |points: &[(f64, f64)]| {
            let series = Line::new("a<b", points.iter().copied());
            Lines::new(Labels::new("title", "x", "y"), vec![series]).html()
        };
        assert_eq!(chart(&[]), "");
        assert_eq!(chart(&[(1.0, 2.0)]), "");
        let flat = chart(&[(1.0, 2.0), (2.0, 2.0)]);
        assert!(flat.contains("<polyline") && flat.contains("a&lt;b"));
    }

    #[test]
    fn a_point_alone_is_drawn_with_its_interval() {
        let point = Point { x: 1.0, y: 2.0, interval: Some((1.5, f64::INFINITY)) };
        let series = vec![Line { name: "one".into(), points: vec![point] }];
        let labels = Labels::new("title", "x", "y");
        let svg = Lines { labels, mark: Mark::LineAndInterval, series }.svg().unwrap();
        assert!(svg.starts_with("<svg role=\"img\"") && svg.contains("<circle"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
