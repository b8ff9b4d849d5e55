//! The page around charts and tables.

use std::fmt::Write;

use super::{ReportError, RunFacts, charts, tables};

const STYLE: &str = include_str!("style.css");

/// The whole document.
pub(super) fn render(run: &RunFacts) -> Result<String, ReportError> {
    let mut body = String::new();
    if let Some(evaluation) = &run.outcome.evaluation {
        body.push_str(&tables::evaluation(evaluation));
        body.push_str(&tables::side_by_side(evaluation));
    }
    body.push_str(&tables::stages(&run.outcome.stages));
    if let Some(frontier) = &run.frontier {
        body.push_str(&frontier.to_html()?);
    }
    for trainer in &run.trainers {
        let _ = writeln!(body, "<h2>{}</h2>", escape(&trainer.name));
        body.push_str(&tables::both_ends(&trainer.curves));
        body.push_str("<div class=\"figures\">\n");
        body.push_str(&charts::figures(trainer)?);
        body.push_str("</div>\n");
        body.push_str(&tables::samples(&trainer.samples));
    }
    if let Some(config) = &run.config {
        let settings = tables::settings(config);
        let config = escape(config);
        let _ = write!(
            body,
            "<h2>Settings</h2>\n{settings}<details><summary>config.toml</summary><pre>{config}</pre>\
             </details>\n"
        );
    }
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (version, os) = (env!("CARGO_PKG_VERSION"), std::env::consts::OS);
    let arch = std::env::consts::ARCH;
    let _ = writeln!(
        body,
        "<p class=\"note\">This page was made by Hearken {version} on {os}, {arch}, {threads} \
         threads.</p>"
    );
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
