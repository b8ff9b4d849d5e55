//! The page about a loop: its rounds, why each was decided as it was, and completions side by side.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use hearken_data::feedback::Item;
use hearken_page::{
    Cell, ChartLabels, ChartSeries, Forest, LineChart, Point, document, escape, table,
};
use hearken_run::error::TrainError;
use hearken_run::run_dir::write_atomically;
use hearken_stats::Estimate;
use serde_json::Value;

use super::history::{RoundState, RoundSummary, round_dir, summaries};
use super::records::{ASKED, COMPARED, HeldOutComparison, JUDGED, read_lines};

/// Completions of both policies that are shown of the last round.
const EXAMPLES: usize = 8;

/// Writes `report.html` into the folder of a loop; gives its path.
///
/// # Errors
/// If a file of the loop cannot be read, or the page not be written.
pub fn report(root: &Path) -> Result<PathBuf, TrainError> {
    let name = root.file_name().unwrap_or(root.as_os_str()).to_string_lossy();
    let path = root.join("report.html");
    let page = document(&format!("Loop: {name}"), &fragment(root)?);
    write_atomically(&path, page.as_bytes())?;
    Ok(path)
}

/// What there is to say about a loop, as a part of a page: its rounds, what is asked next and why, why each was decided as it was, and
/// completions side by side. Reads the folder, and changes nothing.
///
/// # Errors
/// If a file of the loop cannot be read.
pub fn fragment(root: &Path) -> Result<String, TrainError> {
    let rounds = summaries(root)?;
    if rounds.is_empty() {
        return Ok("<p>No round has begun.</p>\n".to_owned());
    }
    let mut body = String::from("<h2>Rounds</h2>\n");
    body.push_str(&table("numbers", &HEADINGS, &rounds.iter().map(row).collect::<Vec<_>>()));
    body.push_str("<p>Foreseen is the share of all pairs of a round's candidates of which the reward models of the round before say what \
                   is said of them, estimated from those that were asked about, each divided by its propensity.</p>\n");
    body.push_str("<div class=\"figures\">\n");
    body.push_str(&wins(&rounds).html());
    body.push_str(&scores(&rounds).html());
    body.push_str("</div>\n");
    body.push_str(&next(root, &rounds)?);
    if rounds.iter().any(|round| !round.reasons.is_empty()) {
        body.push_str("<h2>Decisions</h2>\n");
    }
    for round in rounds.iter().filter(|round| !round.reasons.is_empty()) {
        let _ = writeln!(body, "<h3>Round {}: {}</h3>\n<ul>", round.round, escape(&round.what()));
        for reason in &round.reasons {
            let _ = writeln!(body, "<li>{}</li>", escape(reason));
        }
        body.push_str("</ul>\n");
    }
    body.push_str(&examples(root, &rounds)?);
    Ok(body)
}

/// What is asked in the round that is not over, and why; of a loop between two rounds, that nothing is.
fn next(root: &Path, rounds: &[RoundSummary]) -> Result<String, TrainError> {
    let mut html = String::from("<h2>What is asked next</h2>\n");
    let open = rounds.last().filter(|round| round.reasons.is_empty());
    let dir = open.map(|round| (round, round_dir(root, round.round)));
    let asked: Option<Vec<Item>> = match &dir {
        Some((_, dir)) if !dir.join(JUDGED).exists() => read_lines(&dir.join(ASKED))?,
        _ => None,
    };
    let Some(((round, _), mut asked)) = dir.zip(asked) else {
        html.push_str("<p>Nothing: no round waits for labels.</p>\n");
        return Ok(html);
    };
    let text = |item: &Item, key: &str| {
        item.meta.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let number = |item: &Item, key: &str| item.meta.get(key).and_then(Value::as_f64);
    let of_random = asked.iter().filter(|item| text(item, "order") == "random").count();
    let _ = writeln!(
        html,
        "<p>Round {}: {} pairs, {} for certain and {of_random} at random.</p>",
        round.round,
        asked.len(),
        asked.len() - of_random
    );
    asked.truncate(EXAMPLES);
    let why = |item: &Item| {
        let (order, propensity) = (text(item, "order"), number(item, "propensity").unwrap_or(1.0));
        match number(item, "worth").filter(|_| order != "random") {
            Some(worth) => format!("{order}, worth {worth:.3e}; propensity {propensity:.3}"),
            None => format!("drawn at random; propensity {propensity:.3}"),
        }
    };
    let row = |item: &Item| {
        let prompt = item.prompt.last().map_or("", |message| message.content.as_str());
        let texts = item.candidates.iter().map(|one| Cell::Text(escape(&one.text)));
        std::iter::once(Cell::Text(escape(prompt)))
            .chain(texts)
            .chain([Cell::Text(escape(&why(item)))])
            .collect()
    };
    let rows: Vec<Vec<Cell>> = asked.iter().map(row).collect();
    html.push_str(&table("texts", &["prompt", "one", "the other", "why"], &rows));
    Ok(html)
}

const HEADINGS: [&str; 9] = [
    "round", "policy", "asked", "labels", "foreseen", "win rate", "KL, nats", "tokens", "decision",
];

fn row(round: &RoundSummary) -> Vec<Cell> {
    let shown = |estimate: Option<Estimate>| {
        Cell::Number(estimate.map_or_else(|| "–".to_owned(), |found| format!("{found:.3}")))
    };
    vec![
        Cell::Heading(round.round.to_string()),
        Cell::Text(escape(&round.policy)),
        Cell::Number(round.asked.to_string()),
        Cell::Number(round.labels.to_string()),
        shown(round.foreseen),
        shown(round.win_rate),
        shown(round.kl_nats),
        shown(round.tokens),
        Cell::Text(escape(&round.what())),
    ]
}

/// Win rates with the intervals that hold at any time.
fn wins(rounds: &[RoundSummary]) -> Forest {
    let labels = ChartLabels::new("New policy against the current one", "win rate", "");
    let row = |round: &RoundSummary| {
        let what = if round.state == RoundState::Promoted { "promoted" } else { "not promoted" };
        Some((format!("round {}, {what}", round.round), round.win_rate?))
    };
    Forest { labels, rows: rounds.iter().filter_map(row).collect(), reference: Some(0.5) }
}

/// What the current policy has gained in score since the first one, by labels: a round that was rolled back gains nothing.
fn scores(rounds: &[RoundSummary]) -> LineChart {
    let mut sum = 0.0;
    let mut points = Vec::new();
    for round in rounds {
        let Some(difference) = round.score_difference else { continue };
        let is_promoted = round.state == RoundState::Promoted;
        let interval = Some((sum + difference.low, sum + difference.high)).filter(|_| is_promoted);
        if is_promoted {
            sum += difference.value;
        }
        points.push(Point { interval, ..Point::new(round.labels as f64, sum) });
    }
    let labels =
        ChartLabels::new("Score gained since the first policy", "labels", "score of the gate");
    LineChart::new(labels, vec![ChartSeries { name: "current policy".to_owned(), points }])
}

/// Completions of the last round that came to a comparison.
fn examples(root: &Path, rounds: &[RoundSummary]) -> Result<String, TrainError> {
    for round in rounds.iter().rev() {
        let path = round_dir(root, round.round).join(COMPARED);
        let Some(compared) = read_lines::<HeldOutComparison>(&path)? else { continue };
        let row = |one: &HeldOutComparison| {
            vec![
                Cell::Text(escape(&one.prompt)),
                Cell::Text(escape(&one.current)),
                Cell::Text(escape(&one.candidate)),
            ]
        };
        let rows: Vec<Vec<Cell>> = compared.iter().take(EXAMPLES).map(row).collect();
        let shown = table("texts", &["prompt", "current policy", "new policy"], &rows);
        return Ok(format!("<h2>Completions of round {}</h2>\n{shown}", round.round));
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(number: u64, state: RoundState, gained: f64) -> RoundSummary {
        let estimate = |value: f64| Estimate {
            value,
            low: value - 0.1,
            high: value + 0.1,
            n: 10,
            method: hearken_stats::IntervalMethod::Normal,
        };
        RoundSummary {
            round: number,
            state,
            policy: "start".to_owned(),
            asked: 10,
            labels: 10 * number as usize,
            win_rate: Some(estimate(0.6)),
            kl_nats: None,
            tokens: None,
            score_difference: Some(estimate(gained)),
            foreseen: None,
            by: "gate".to_owned(),
            reasons: Vec::new(),
        }
    }

    #[test]
    fn what_was_rolled_back_gains_nothing() {
        let rounds = [
            round(1, RoundState::Promoted, 1.0),
            round(2, RoundState::RolledBack, -3.0),
            round(3, RoundState::Promoted, 0.5),
        ];
        let lines = scores(&rounds);
        let sums: Vec<f64> = lines.series[0].points.iter().map(|point| point.y).collect();
        assert!(sums.iter().zip([1.0, 1.0, 1.5]).all(|(a, b)| (a - b).abs() < 1e-12), "{sums:?}");
        assert!(lines.series[0].points[1].interval.is_none());
        assert_eq!(wins(&rounds).rows.len(), 3);
    }
}
