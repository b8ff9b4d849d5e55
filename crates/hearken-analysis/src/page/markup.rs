//! Pieces of HTML.

use std::fmt::Write;

use hearken_page::escape;
use hearken_stats::Estimate;
use hearken_stats::estimate::UNBOUNDED;

use crate::figure::{Figure, Test};

/// How a number is written.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    /// As it is, with so many digits.
    Plain(usize),
    /// Times 100, one digit.
    Percent,
}

impl Unit {
    fn number(self, x: f64) -> String {
        match self {
            _ if !x.is_finite() => UNBOUNDED.to_owned(),
            Self::Plain(digits) => minus(&format!("{x:.digits$}")),
            Self::Percent => minus(&format!("{:.1}", 100.0 * x)),
        }
    }
}

/// A minus sign instead of a hyphen, none before zero.
fn minus(number: &str) -> String {
    match number.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| matches!(c, '0' | '.')) => rest.to_owned(),
        Some(rest) => format!("−{rest}"),
        None => number.to_owned(),
    }
}

/// Value and interval.
fn estimate(e: &Estimate, unit: Unit) -> String {
    let percent = if matches!(unit, Unit::Percent) { " %" } else { "" };
    let ends = if e.is_unbounded() {
        UNBOUNDED.to_owned()
    } else {
        format!("{}, {}", unit.number(e.low), unit.number(e.high))
    };
    format!("{}{percent} <span class=\"interval\">[{ends}]</span>", unit.number(e.value))
}

/// A cell of a table: the number, or a dash that says on demand why there is none.
pub(super) fn cell(figure: &Figure, unit: Unit) -> String {
    match figure {
        Figure::Known(e) => estimate(e, unit),
        Figure::Missing { missing } => {
            format!("<abbr title=\"{}\">–</abbr>", escape(missing))
        }
    }
}

/// What others have named or written: it is the same in every language.
pub(super) fn data(text: &str) -> String {
    format!("<bdi translate=\"no\">{}</bdi>", escape(text))
}

/// The number of observations of a figure.
pub(super) fn n(figure: &Figure) -> String {
    figure.known().map_or_else(String::new, |e| e.n.to_string())
}

/// A corrected p-value.
pub(super) fn p(test: Option<&Test>) -> String {
    test.map_or_else(String::new, |test| probability(test.p_holm))
}

pub(super) fn probability(p: f64) -> String {
    if p < 1e-4 { "&lt; 0.0001".to_owned() } else { format!("{p:.4}") }
}

/// A table of what, number, n.
pub(super) fn facts(caption: &str, rows: &[(&str, &Figure, Unit)]) -> String {
    let mut table = Table::new(caption, &["", "value [95 % interval]", "n"]);
    for (what, figure, unit) in rows {
        match figure {
            Figure::Known(e) => table.row(&[escape(what), estimate(e, *unit), e.n.to_string()]),
            Figure::Missing { missing } => {
                table.row(&[escape(what), escape(missing), String::new()]);
            }
        }
    }
    table.html()
}

/// Sentences that a reader should know.
pub(super) fn notes(notes: &[String]) -> String {
    sentences("note", notes)
}

/// A paragraph of a class for each sentence.
pub(super) fn sentences(class: &str, sentences: &[String]) -> String {
    let mut html = String::new();
    for sentence in sentences {
        let _ = writeln!(html, "<p class=\"{class}\">{}</p>", escape(sentence));
    }
    html
}

/// A table that grows; cells are HTML.
pub(super) struct Table {
    caption: String,
    columns: Vec<String>,
    body: String,
    text_column: Option<usize>,
}

impl Table {
    pub(super) fn new(caption: &str, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|column| escape(column)).collect();
        Self { caption: escape(caption), columns, body: String::new(), text_column: None }
    }

    /// The column that holds sentences.
    pub(super) fn with_text(mut self, column: usize) -> Self {
        self.text_column = Some(column);
        self
    }

    fn head(&self) -> String {
        let mut head = format!("<caption>{}</caption><thead><tr>", self.caption);
        for (i, column) in self.columns.iter().enumerate() {
            let _ = if column.is_empty() {
                // A header without a name would be read out as one.
                write!(head, "<td></td>")
            } else if self.text_column == Some(i) {
                write!(head, "<th class=\"text\" scope=\"col\">{column}</th>")
            } else {
                write!(head, "<th scope=\"col\">{column}</th>")
            };
        }
        head + "</tr></thead>"
    }

    pub(super) fn row(&mut self, cells: &[String]) {
        self.body.push_str("<tr>");
        for (i, cell) in cells.iter().enumerate() {
            let _ = if i == 0 {
                write!(self.body, "<th scope=\"row\">{cell}</th>")
            } else if self.text_column == Some(i) {
                write!(self.body, "<td class=\"text\">{cell}</td>")
            } else {
                write!(self.body, "<td>{cell}</td>")
            };
        }
        self.body.push_str("</tr>\n");
    }

    /// Empty without rows.
    pub(super) fn html(&self) -> String {
        if self.body.is_empty() {
            return String::new();
        }
        format!(
            "<div class=\"scroll\" tabindex=\"0\"><table class=\"numbers\">{}<tbody>\n{}</tbody></table></div>\n",
            self.head(),
            self.body
        )
    }
}

/// A section with its heading.
pub(super) fn open_section(id: &str, title: &str, body: &str) -> String {
    format!("<section id=\"{id}\">\n<h2>{title}</h2>\n{body}</section>\n")
}

/// A section of which the heading is seen until it is asked for. Browsers unfold it where a link leads into it.
pub(super) fn section(id: &str, title: &str, body: &str) -> String {
    format!(
        "<section class=\"folded\"><details><summary><h2>{title}</h2></summary>\n<div id=\"{id}\">\n{body}</div></details></section>\n"
    )
}

#[cfg(test)]
mod tests {
    use hearken_stats::proportion::wilson;

    use super::*;

    #[test]
    fn a_cell_is_a_number_or_says_why_not() {
        let share = Figure::new(wilson(1.0, 2), "");
        assert!(cell(&share, Unit::Percent).starts_with("50.0 % <span"));
        let one = hearken_stats::mean::mean(&[2.0]);
        let unbounded = cell(&Figure::new(one, ""), Unit::Plain(1));
        assert_eq!(unbounded, "2.0 <span class=\"interval\">[unbounded]</span>");
        let missing = cell(&Figure::missing("No \"votes\"."), Unit::Percent);
        assert_eq!(missing, "<abbr title=\"No &quot;votes&quot;.\">–</abbr>");
        assert_eq!([minus("-0.00"), minus("-1.5"), minus("2")], ["0.00", "−1.5", "2"]);
    }
}
