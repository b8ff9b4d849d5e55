//! Lines and points over two axes.

use plotters::chart::ChartBuilder;
use plotters::element::Circle;
use plotters::series::{LineSeries, PointSeries};
use plotters::style::{Color, ShapeStyle};

use super::{Area, Drawn, GRID, INK, Labels, PALETTE, figure, range, short, text};

/// A named series.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Points joined in their order.
    Line,
    /// Points alone for the first series, the others joined: data with curves to compare with.
    PointsThenLines,
}

/// A chart of series.
pub(crate) struct Lines {
    pub(crate) labels: Labels,
    pub(crate) mark: Mark,
    pub(crate) series: Vec<Line>,
}

const SIZE: (u32, u32) = (680, 360);

impl Lines {
    /// Empty without points.
    pub(crate) fn html(&self) -> String {
        if self.series.iter().all(|line| line.points.is_empty()) {
            return String::new();
        }
        let names: Vec<&str> = self.series.iter().map(|line| line.name.as_str()).collect();
        let legend: &[&str] = if names.len() > 1 { &names } else { &[] };
        figure(&self.labels, SIZE, legend, |area| self.draw(area))
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        let points = || self.series.iter().flat_map(|line| &line.points);
        let (x, y) = (range(points().map(|p| p.0)), range(points().map(|p| p.1)));
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
        for ((i, line), color) in self.series.iter().enumerate().zip(PALETTE.iter().cycle()) {
            let finite = line.points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite());
            if self.mark == Mark::PointsThenLines && i == 0 {
                let dots = PointSeries::<_, _, Circle<_, _>, _>::new(finite, 3, color.filled());
                chart.draw_series(dots)?;
            } else {
                chart.draw_series(LineSeries::new(finite, color.stroke_width(2)))?;
            }
        }
        Ok(())
    }
}
