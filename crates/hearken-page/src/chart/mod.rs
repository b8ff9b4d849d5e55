//! Charts as inline SVG.
//!
//! Text, axes and grid take the color of the text around them, series have colors that can be read on white and on black; so one
//! drawing serves light and dark, with presentation attributes alone. Every chart has a title for who cannot see it.

mod bars;
mod forest;
mod lines;

use std::fmt::Write;

use plotters::prelude::{DrawingArea, IntoDrawingArea, SVGBackend};
use plotters::style::{IntoFont, RGBColor, TextStyle};

pub use bars::Bars;
pub use forest::Forest;
pub use lines::{ChartSeries, LineChart, Mark, Point};

use crate::text::escape;

/// Becomes the color of the text around.
const INK: RGBColor = RGBColor(0x33, 0x33, 0x34);
/// Becomes the same, faintly.
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xde);
/// One per series, told apart by readers of every kind of color vision (after Okabe and Ito), of middle lightness.
const PALETTE: [RGBColor; 6] = [
    RGBColor(0x2b, 0x82, 0xc4),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xa8, 0x84, 0x00),
    RGBColor(0x7a, 0x6f, 0xd0),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// What every chart has.
#[derive(Clone, Debug)]
pub struct ChartLabels {
    /// The caption.
    pub title: String,
    /// The horizontal axis.
    pub x: String,
    /// The vertical axis.
    pub y: String,
}

impl ChartLabels {
    /// Title, horizontal axis, vertical axis.
    pub fn new(title: &str, x: &str, y: &str) -> Self {
        Self { title: title.to_owned(), x: x.to_owned(), y: y.to_owned() }
    }
}

/// An entry of a legend.
enum LegendEntry {
    /// A series in the color of its place, and dash and gap where its line is broken.
    Series { name: String, dash: Option<(u32, u32)> },
    /// What else is drawn.
    Remark(&'static str),
}

/// A figure with its caption; a chart that cannot be drawn leaves its caption.
fn figure(
    labels: &ChartLabels,
    size: (u32, u32),
    legend: &[LegendEntry],
    draw: impl FnOnce(&Area<'_>) -> Drawn,
) -> String {
    let mut svg = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        draw(&area).and_then(|()| Ok(area.present()?))
    };
    let title = escape(&labels.title);
    if let Err(error) = drawn {
        return format!("<p class=\"warning\">{title}: {}</p>\n", escape(&error.to_string()));
    }
    let mut keys = String::new();
    for (key, RGBColor(r, g, b)) in legend.iter().zip(PALETTE.iter().cycle()) {
        let (name, dash) = match key {
            LegendEntry::Series { name, dash } => (escape(name), dash),
            LegendEntry::Remark(remark) => {
                let _ = write!(keys, "<li>{}</li>", escape(remark));
                continue;
            }
        };
        let dash = dash.map(|(on, off)| format!(" stroke-dasharray=\"{on} {off}\""));
        let _ = write!(
            keys,
            "<li><svg width=\"26\" height=\"10\" aria-hidden=\"true\"><line x1=\"0\" y1=\"5\" x2=\"26\" y2=\"5\" \
             stroke-width=\"3\"{} stroke=\"#{r:02X}{g:02X}{b:02X}\"/></svg> {name}</li>",
            dash.unwrap_or_default()
        );
    }
    if !keys.is_empty() {
        keys = format!("<ul class=\"legend\">{keys}</ul>");
    }
    let svg = labelled(&themed(&svg), labels);
    format!("<figure class=\"plot\"><figcaption>{title}</figcaption>{svg}{keys}</figure>\n")
}

/// A drawing with the chart's title, for who cannot see it.
fn labelled(svg: &str, labels: &ChartLabels) -> String {
    let title = escape(&labels.title);
    svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{title}\" "), 1)
}

/// Exchanges the two colors that follow the text.
fn themed(svg: &str) -> String {
    svg.replace("fill=\"#333334\"", "fill=\"currentColor\"")
        .replace("stroke=\"#333334\"", "stroke=\"currentColor\"")
        .replace("stroke=\"#DDDDDE\"", "stroke=\"currentColor\" stroke-opacity=\"0.2\"")
        .replace("fill=\"#DDDDDE\"", "fill=\"currentColor\" fill-opacity=\"0.2\"")
}

fn text(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// From the least to the greatest finite number, with a margin; never empty.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.filter(|value| value.is_finite()) {
        (low, high) = (low.min(value), high.max(value));
    }
    if low > high {
        return (0.0, 1.0);
    }
    // What does not change is drawn in the middle, at its own value: 1e-5 is not 0.
    let margin = match low.abs() {
        _ if low < high => 0.04 * (high - low),
        size if 0.0 < size => 0.5 * size,
        _ => 1.0,
    };
    (low - margin, high + margin)
}

/// A short form of a number on an axis.
fn short(value: f64) -> String {
    let size = value.abs();
    // What an axis calls 0 may come out of a sum as 1e-17.
    if size < 1e-12 {
        return "0".to_owned();
    }
    if !(1e-3..1e6).contains(&size) {
        return format!("{value:.1e}");
    }
    // Marks lie at round numbers, of which as many digits count as tell neighbors apart.
    let digits = if size < 10.0 {
        4
    } else if size < 1000.0 {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_follow_the_theme_and_hold_no_style() {
        let line = ChartSeries::new("s", [(0.0, 1.0), (1.0, 2.0)]);
        let lines = LineChart::new(ChartLabels::new("A <b> & c", "x", "y"), vec![line]);
        let html = lines.html();
        assert!(html.contains("currentColor") && !html.contains("#333334"));
        assert!(!html.contains("style=") && !html.contains("<script"));
        assert!(html.contains("role=\"img\" aria-label=\"A &lt;b&gt; &amp; c\""));
    }

    #[test]
    fn a_constant_is_drawn_at_its_value() {
        for value in [1e-5, -3.0, 4e7] {
            let (low, high) = range([value, value].into_iter());
            assert!(low < value && value < high && (low < 0.0) == (high < 0.0), "{low} {high}");
        }
        assert_eq!(range([0.0].into_iter()), (-1.0, 1.0));
    }

    #[test]
    fn an_axis_is_never_empty() {
        assert_eq!(range([f64::NAN].into_iter()), (0.0, 1.0));
        assert_eq!(range([2.0, 2.0].into_iter()), (1.0, 3.0));
        assert_eq!(
            [short(0.25), short(1500.0), short(2e-5), short(1e-17), short(0.985), short(12.5)],
            ["0.25", "1500", "2.0e-5", "0", "0.985", "12.5"]
        );
    }
}
