//! Tables and texts of the page.

use std::fmt::Write;

use hearken_page::{Cell, escape, table};
use hearken_stats::Estimate;
use serde_json::Value;

use super::series::Curves;
use crate::outcome::{Evaluation, Figure, SideBySide, StageSummary};

/// What each stage cost and bought.
pub(super) fn stages(stages: &[StageSummary]) -> String {
    if stages.is_empty() {
        return String::new();
    }
    let row = |stage: &StageSummary| {
        vec![
            Cell::Heading(escape(&stage.name)),
            Cell::Number(stage.tokens.to_string()),
            Cell::Number(si(stage.flops)),
            Cell::Number(format!("{:.1}", stage.seconds)),
            Cell::Number(stage.peak_memory_bytes.map_or_else(|| "–".to_owned(), bytes)),
            Cell::Text(figures(&stage.bought)),
        ]
    };
    let rows: Vec<Vec<Cell>> = stages.iter().map(row).collect();
    let headings = ["stage", "tokens", "operations", "seconds", "peak memory", "what came of it"];
    format!("<h2>Stages</h2>\n{}", table("numbers", &headings, &rows))
}

/// What the first and the last evaluation of a trainer found.
pub(super) fn both_ends(curves: &Curves) -> String {
    let mut rows = Vec::new();
    for key in curves.keys_with("eval_") {
        let points = curves.series("step", key).points;
        let (Some(first), Some(last)) = (points.first(), points.last()) else { continue };
        let shown = |y: f64| format!("{y:.4}");
        let later = if first.x < last.x { shown(last.y) } else { "–".to_owned() };
        rows.push(vec![
            Cell::Heading(escape(key)),
            Cell::Number(shown(first.y)),
            Cell::Number(later),
        ]);
    }
    match rows.is_empty() {
        true => String::new(),
        false => table("numbers", &["evaluation", "at the start", "at the end"], &rows),
    }
}

/// What a reader asks first: seed, model, data, how long, how fast.
pub(super) fn settings(config: &str) -> String {
    const KEYS: [&str; 9] =
        ["seed", "path", "dtype", "train", "eval", "steps", "epochs", "batch_size", "lr"];
    let table: toml::Table = config.parse().unwrap_or_default();
    let mut rows = String::new();
    let mut row = |name: &str, value: &toml::Value| {
        let (name, value) = (escape(name), escape(&value.to_string()));
        let _ =
            writeln!(rows, "<tr><th scope=\"row\">{name}</th><td class=\"text\">{value}</td></tr>");
    };
    let mut open: Vec<(String, &toml::Value)> =
        table.iter().rev().map(|(key, value)| (key.clone(), value)).collect();
    while let Some((name, value)) = open.pop() {
        match value {
            toml::Value::Table(inner) => {
                let inner = inner.iter().rev();
                open.extend(inner.map(|(key, value)| (format!("{name}.{key}"), value)));
            }
            value => {
                let key = name.rsplit('.').next().unwrap_or(&name);
                if KEYS.contains(&key) {
                    row(&name, value);
                }
            }
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    format!("<div class=\"scroll\"><table class=\"numbers\"><tbody>{rows}</tbody></table></div>\n")
}

/// Both policies, with intervals and n.
pub(super) fn evaluation(evaluation: &Evaluation) -> String {
    let mut rows = Vec::new();
    for comparison in &evaluation.quantities {
        let standard_errors = comparison
            .standard_errors()
            .map_or_else(String::new, |ratio| format!(" ({ratio:+.1} standard errors)"));
        let difference = estimate(&comparison.difference) + &standard_errors;
        rows.push(vec![
            Cell::Heading(escape(&comparison.quantity)),
            Cell::Number(estimate(&comparison.before)),
            Cell::Number(estimate(&comparison.after)),
            Cell::Number(difference),
        ]);
    }
    let headings = ["mean per completion", &evaluation.before, &evaluation.after, "difference"];
    let quantities = table("numbers", &headings, &rows);
    let (before, after) = (escape(&evaluation.before), escape(&evaluation.after));
    let limit = evaluation
        .kl_limit_nats
        .map_or_else(String::new, |limit| format!("; the limit is {limit}"));
    let wins = evaluation.win_rate.as_ref().map_or_else(String::new, |win_rate| {
        format!(
            "<p>{after} wins against {before} by {}: <b>{}</b></p>\n",
            escape(&evaluation.win_rate_by),
            estimate(win_rate)
        )
    });
    format!(
        "<h2>Before and after, on {} held-out prompts</h2>\n{quantities}{wins}<p>KL({after} ‖ {before}), nats per completion: \
         <b>{}</b>{limit}</p>\n<p class=\"note\">In brackets: intervals of 95 %.</p>\n",
        evaluation.prompts,
        estimate(&evaluation.kl_nats),
    )
}

/// Completions of both policies to the same prompts.
pub(super) fn side_by_side(evaluation: &Evaluation) -> String {
    if evaluation.examples.is_empty() {
        return String::new();
    }
    let cell = |text: &str, scores: &[Figure]| {
        Cell::Text(format!("{}<div class=\"note\">{}</div>", escape(text), figures(scores)))
    };
    let row = |example: &SideBySide| {
        vec![
            Cell::Text(escape(&example.prompt)),
            cell(&example.before, &example.scores_before),
            cell(&example.after, &example.scores_after),
        ]
    };
    let rows: Vec<Vec<Cell>> = evaluation.examples.iter().map(row).collect();
    let headings = ["prompt", &evaluation.before, &evaluation.after];
    format!("<h2>Completions</h2>\n{}", table("texts", &headings, &rows))
}

/// Samples taken during training: the first and the last of each prompt where they recur.
pub(super) fn samples(samples: &[Value]) -> String {
    const ROWS_MAX: usize = 12;
    let text = |sample: &Value, key: &str| sample[key].as_str().map(escape).unwrap_or_default();
    let step = |sample: &Value| sample["step"].as_u64().unwrap_or(0);
    let mut prompts: Vec<&str> = samples.iter().filter_map(|s| s["prompt"].as_str()).collect();
    prompts.sort_unstable();
    prompts.dedup();
    let mut rows = Vec::new();
    for prompt in prompts.into_iter().take(ROWS_MAX) {
        let of_prompt = || samples.iter().filter(|s| s["prompt"].as_str() == Some(prompt));
        let (Some(first), Some(last)) = (of_prompt().next(), of_prompt().next_back()) else {
            continue;
        };
        let cell = |sample: &Value| {
            let note = format!("<div class=\"note\">step {}</div>", step(sample));
            Cell::Text(text(sample, "completion") + &note)
        };
        let later =
            if step(first) < step(last) { cell(last) } else { Cell::Text("–".to_owned()) };
        rows.push(vec![Cell::Text(escape(prompt)), cell(first), later]);
    }
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "<details><summary>Samples during training</summary>{}</details>\n",
        table("texts", &["prompt", "first", "last"], &rows)
    )
}

fn figures(figures: &[Figure]) -> String {
    let one = |Figure { name, value }: &Figure| {
        let digits = if value.fract() == 0.0 { 0 } else { 4 };
        format!("{} {value:.digits$}", escape(name))
    };
    figures.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn estimate(estimate: &Estimate) -> String {
    escape(&format!("{estimate:.3}"))
}

fn bytes(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}

/// A count with the prefix of its thousand: 1.2 T.
pub(super) fn si(value: f64) -> String {
    const PREFIXES: [(f64, &str); 6] =
        [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let prefix = PREFIXES.iter().find(|(size, _)| *size <= value);
    prefix
        .map_or_else(|| format!("{value:.0}"), |(size, name)| format!("{:.1} {name}", value / size))
}
