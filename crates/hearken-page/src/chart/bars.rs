//! Counts per category.

use plotters::chart::ChartBuilder;
use plotters::element::{Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, ShapeStyle};

use super::{Area, ChartLabels, Drawn, GRID, INK, PALETTE, figure, short, text};

/// A bar chart.
pub struct Bars {
    /// Title and axes.
    pub labels: ChartLabels,
    /// Name and height, from left to right.
    pub bars: Vec<(String, f64)>,
}

const SIZE: (u32, u32) = (680, 280);
/// Names that fit under the bars.
const NAMES: usize = 12;

impl Bars {
    /// Empty without bars.
    pub fn html(&self) -> String {
        if self.bars.is_empty() {
            return String::new();
        }
        figure(&self.labels, SIZE, &[], |area| self.draw(area))
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        let highest = self.bars.iter().map(|bar| bar.1).fold(0.0, f64::max);
        let n = self.bars.len() as f64;
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(46)
            .y_label_area_size(58)
            .build_cartesian_2d(0.0..n, 0.0..(1.05 * highest).max(1.0))?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(ShapeStyle::from(GRID.mix(0.0)))
            .x_labels(0)
            .y_labels(6)
            .y_label_formatter(&|y| short(*y))
            .x_desc(&self.labels.x)
            .y_desc(&self.labels.y)
            .label_style(text(12))
            .axis_desc_style(text(13))
            .draw()?;
        let every = self.bars.len().div_ceil(NAMES);
        let name_style = text(12).pos(Pos::new(HPos::Center, VPos::Top));
        for ((i, (name, height)), left) in self.bars.iter().enumerate().zip(0..) {
            let left = f64::from(left);
            let corners = [(left + 0.1, 0.0), (left + 0.9, *height)];
            chart.draw_series([Rectangle::new(corners, PALETTE[0].filled())])?;
            if i % every == 0 {
                let (x, y) = chart.backend_coord(&(left + 0.5, 0.0));
                area.draw(&Text::new(name.clone(), (x, y + 5), name_style.clone()))?;
            }
        }
        Ok(())
    }
}
