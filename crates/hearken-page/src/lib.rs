//! Parts of reports: text that stays text, charts as inline SVG, the page around them.
//!
//! What is *not* here: what a report says.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::float_cmp, clippy::unwrap_used))]

mod chart;
mod document;
mod table;
mod text;

pub use chart::{Bars, ChartLabels, ChartSeries, Forest, LineChart, Mark, Point};
pub use document::document;
pub use table::{Cell, table};
pub use text::escape;
