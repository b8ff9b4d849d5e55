//! Estimates with their intervals, one row each.

use hearken_stats::Estimate;
use plotters::chart::ChartBuilder;
use plotters::element::{Circle, PathElement, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, ShapeStyle};

use super::{Area, ChartLabels, Drawn, GRID, INK, PALETTE, figure, range, short, text};

/// A forest plot. The y label is unused: rows have names.
pub struct Forest {
    /// Title and horizontal axis.
    pub labels: ChartLabels,
    /// Name and estimate, from top to bottom.
    pub rows: Vec<(String, Estimate)>,
    /// Where a line is drawn for comparison.
    pub reference: Option<f64>,
}

const WIDTH: u32 = 680;
const ROW: u32 = 20;
const NAMES: u32 = 210;
/// Characters that fit beside a row.
const NAME: usize = 32;
/// More rows are left out; the table beside the plot has them.
const ROWS: usize = 80;

impl Forest {
    /// Empty without rows.
    pub fn html(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let rows = &self.rows[..self.rows.len().min(ROWS)];
        let mut labels = self.labels.clone();
        if rows.len() < self.rows.len() {
            let all = self.rows.len();
            labels.title = format!("{} (the first {ROWS} of {all})", labels.title);
        }
        let height = 60 + ROW * rows.len() as u32;
        figure(&labels, (WIDTH, height), &[], |area| self.draw(rows, area))
    }

    fn draw(&self, rows: &[(String, Estimate)], area: &Area<'_>) -> Drawn {
        let ends = rows.iter().flat_map(|(_, e)| [e.low, e.value, e.high]);
        let (low, high) = range(ends.chain(self.reference));
        let n = rows.len() as f64;
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(38)
            .y_label_area_size(NAMES)
            .build_cartesian_2d(low..high, 0.0..n)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(ShapeStyle::from(GRID.mix(0.0)))
            .x_labels(8)
            .y_labels(0)
            .x_label_formatter(&|x| short(*x))
            .x_desc(&self.labels.x)
            .label_style(text(12))
            .axis_desc_style(text(13))
            .draw()?;
        if let Some(reference) = self.reference {
            let ends = [(reference, 0.0), (reference, n)];
            chart.draw_series([PathElement::new(ends, INK.stroke_width(1))])?;
        }
        let name_style = text(12).pos(Pos::new(HPos::Right, VPos::Center));
        for ((name, estimate), i) in rows.iter().zip(0..) {
            let y = n - f64::from(i) - 0.5;
            // An unbounded interval reaches the edge.
            let ends = [(estimate.low.max(low), y), (estimate.high.min(high), y)];
            chart.draw_series([PathElement::new(ends, PALETTE[0].stroke_width(2))])?;
            chart.draw_series([Circle::new((estimate.value, y), 4, PALETTE[0].filled())])?;
            let (x, y) = chart.backend_coord(&(low, y));
            area.draw(&Text::new(shortened(name), (x - 8, y), name_style.clone()))?;
        }
        Ok(())
    }
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    name.chars().take(NAME - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use hearken_stats::proportion::wilson;

    use super::*;

    #[test]
    fn each_row_has_its_name_and_its_mark() {
        let rows = (1..=3).map(|i| (format!("row {i}"), wilson(f64::from(i), 10).unwrap()));
        let labels = ChartLabels::new("Shares", "share", "");
        let html = Forest { labels, rows: rows.collect(), reference: Some(0.5) }.html();
        assert_eq!(html.matches("<circle").count(), 3);
        assert!(html.contains("row 1") && html.contains("row 3"));
        assert!(!html.contains("NaN") && !html.contains("inf"));
    }
}
