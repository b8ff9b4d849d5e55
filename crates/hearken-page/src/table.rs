//! Tables that can be read on a phone.

use std::fmt::Write;

use crate::text::escape;

/// A cell, as HTML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// What its row is about.
    Heading(String),
    /// A figure.
    Number(String),
    /// Words, which may be many.
    Text(String),
}

/// A table of class `numbers` or `texts` with headings of columns, which are text. Where the screen is narrow
/// every row is a block of lines, and each cell has its heading before it.
pub fn table(class: &str, headings: &[&str], rows: &[Vec<Cell>]) -> String {
    let mut html = format!("<div class=\"scroll\"><table class=\"{class} stacked\"><thead><tr>");
    for heading in headings {
        let _ = write!(html, "<th scope=\"col\">{}</th>", escape(heading));
    }
    html.push_str("</tr></thead><tbody>\n");
    for row in rows {
        html.push_str("<tr>");
        for (cell, heading) in row.iter().zip(headings) {
            let label = format!(" data-label=\"{}\"", escape(heading));
            let _ = match cell {
                Cell::Heading(inner) => write!(html, "<th scope=\"row\">{inner}</th>"),
                Cell::Number(inner) => write!(html, "<td{label}>{inner}</td>"),
                Cell::Text(inner) => write!(html, "<td class=\"text\"{label}>{inner}</td>"),
            };
        }
        html.push_str("</tr>\n");
    }
    html + "</tbody></table></div>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_knows_its_heading() {
        let row = vec![Cell::Heading("a &lt; b".to_owned()), Cell::Number("1".to_owned())];
        let html = table("numbers", &["what", "how \"many\""], &[row]);
        assert!(html.contains("<th scope=\"row\">a &lt; b</th>"), "{html}");
        assert!(html.contains("<td data-label=\"how &quot;many&quot;\">1</td>"), "{html}");
    }
}
