//! The page around charts and tables.

use std::fmt::Write;

use super::{ReportError, RunFacts, charts, tables};

const STYLE: &str = include_str!("style.css");

/// The whole document.
pub(super) fn render(run: &RunFacts) -> Result<String, ReportError> {
    let mut body = String::new();
    body.push_str(&tables::stages(&run.outcome.stages));
    if let Some(evaluation) = &run.outcome.evaluation {
        body.push_str(&tables::evaluation(evaluation));
        body.push_str(&tables::side_by_side(evaluation));
    }
    if let Some(frontier) = &run.frontier {
        body.push_str(&frontier.to_html()?);
    }
    // What matters most comes first: the last trainer is the one that the others were for.
    for trainer in run.trainers.iter().rev() {
        let _ = write!(body, "<h2>{}</h2>\n<div class=\"figures\">\n", escape(&trainer.name));
        body.push_str(&charts::figures(trainer)?);
        body.push_str("</div>\n");
        body.push_str(&tables::samples(&trainer.samples));
    }
    if let Some(config) = &run.config {
        let config = escape(config);
        let _ = write!(
            body,
            "<h2>Configuration</h2>\n<details><summary>config.toml</summary><pre>{config}</pre>\
             </details>\n"
        );
    }
    let name = escape(&run.name);
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{name} – Hearken</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{name}</h1>\n{body}</body>\n</html>\n"
    ))
}

/// Text that is only text, in an element or in a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Not allowed in HTML, not even as references.
            c if c.is_control() && !matches!(c, '\n' | '\t') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
