//! The page around charts and tables.

use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hearken_page::{document, escape};

use super::{EarlyStop, RunFacts, charts, tables};

/// The whole document.
pub(super) fn render(run: &RunFacts) -> String {
    let mut body = String::new();
    if let Some(evaluation) = &run.outcome.evaluation {
        body.push_str(&tables::evaluation(evaluation));
        body.push_str(&tables::side_by_side(evaluation));
    }
    body.push_str(&tables::stages(&run.outcome.stages));
    if let Some(frontier) = &run.frontier {
        body.push_str(&frontier.to_html());
    }
    for trainer in &run.trainers {
        let _ = writeln!(body, "<h2>{}</h2>", escape(&trainer.name));
        if let Some(stop) = trainer.early_stop() {
            let _ = writeln!(body, "<p>{}</p>", escape(&early_stop(&stop)));
        }
        body.push_str(&tables::both_ends(&trainer.curves));
        body.push_str(&clips(&trainer.clips));
        body.push_str("<div class=\"figures\">\n");
        body.push_str(&charts::figures(trainer));
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
    document(&run.name, &body)
}

/// Moving pictures side by side, within the page.
fn clips(clips: &[(&str, Vec<u8>)]) -> String {
    let figure = |(name, bytes): &(&str, Vec<u8>)| {
        let data = STANDARD.encode(bytes);
        format!(
            "<figure><figcaption>An episode {name} training, likeliest actions</figcaption>\
             <img alt=\"An episode {name} training\" src=\"data:image/png;base64,{data}\"></figure>\n"
        )
    };
    let figures: String = clips.iter().map(figure).collect();
    if figures.is_empty() { figures } else { format!("<div class=\"figures\">\n{figures}</div>\n") }
}

/// How a run ended before its last step, as a sentence.
fn early_stop(stop: &EarlyStop) -> String {
    let EarlyStop { step, total, without, metric, best } = stop;
    let of = total.map_or_else(String::new, |total| format!(" of {total}"));
    format!(
        "Stopped early, after step {step}{of}: {without} evaluations in a row without a better {metric}; the \
         best is {:.4}, of step {}.",
        best.y, best.x
    )
}
