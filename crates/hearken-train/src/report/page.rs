//! The page around charts and tables.

use std::fmt::Write;

use hearken_page::{document, escape};

use super::{RunFacts, charts, tables};

/// The whole document.
pub(super) fn render(run: &RunFacts) -> String {
    let mut body = String::new();
    body.push_str(&tables::stages(&run.outcome.stages));
    if let Some(evaluation) = &run.outcome.evaluation {
        body.push_str(&tables::evaluation(evaluation));
        body.push_str(&tables::side_by_side(evaluation));
    }
    if let Some(frontier) = &run.frontier {
        body.push_str(&frontier.to_html());
    }
    // What matters most comes first: the last trainer is the one that the others were for.
    for trainer in run.trainers.iter().rev() {
        let _ = write!(body, "<h2>{}</h2>\n<div class=\"figures\">\n", escape(&trainer.name));
        body.push_str(&charts::figures(trainer));
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
    document(&run.name, &body)
}
