//! The leaderboard.

use super::markup::{Table, Unit, cell, data, facts, n, notes, p, probability, section as framed};
use crate::Analysis;
use crate::leaderboard::{Leaderboard, LikelihoodRatio, ModelRow};
use hearken_page::escape;
use hearken_page::{ChartLabels, ChartSeries, Forest, LineChart};

pub(super) fn section(analysis: &Analysis) -> String {
    let board = &analysis.leaderboard;
    let rating = |row: &ModelRow| {
        let shown = row.rating.known().or(row.rating_sandwich.known())?;
        Some((row.model.clone(), *shown))
    };
    let body = [
        notes(&board.notes),
        table(board),
        Forest {
            labels: ChartLabels::new("Ratings", "rating", ""),
            rows: board.models.iter().filter_map(rating).collect(),
            reference: None,
        }
        .html(),
        if board.models.is_empty() { String::new() } else { effects(board) },
        history(board),
    ];
    framed("leaderboard", "Leaderboard", &body.concat())
}

fn table(board: &Leaderboard) -> String {
    let columns = [
        "model",
        "rank",
        "bounds",
        "rating",
        "rating, sandwich",
        "votes",
        "win rate",
        "Davidson",
        "Rao–Kupper",
        "style equal",
        "Elo",
    ];
    let mut table = Table::new(
        "Bradley–Terry ratings with bootstrap intervals; strengths in log-odds with sandwich intervals",
        &columns,
    );
    for row in &board.models {
        table.row(&[
            data(&row.model),
            row.rank.to_string(),
            row.rank_bounds.map_or_else(String::new, |b| format!("{}–{}", b.best, b.worst)),
            cell(&row.rating, Unit::Plain(0)),
            cell(&row.rating_sandwich, Unit::Plain(0)),
            row.votes.to_string(),
            cell(&row.win_rate, Unit::Percent),
            cell(&row.strength_davidson, Unit::Plain(2)),
            cell(&row.strength_rao_kupper, Unit::Plain(2)),
            cell(&row.strength_styled, Unit::Plain(2)),
            row.elo.map_or_else(String::new, |elo| format!("{elo:.0}")),
        ]);
    }
    table.html()
}

fn effects(board: &Leaderboard) -> String {
    let mut body = facts(
        "Order, ties, cycles",
        &[
            ("Advantage of the left side, log-odds", &board.order_effect, Unit::Plain(3)),
            ("Ties, of votes", &board.ties.tie_share, Unit::Percent),
            ("Cyclic triads of models; 25 % if random", &board.triads.share, Unit::Percent),
        ],
    );
    let ratio = |what: &str, r: Option<LikelihoodRatio>| {
        r.map(|r| {
            format!(
                "<p class=\"note\">{what}: χ² {:.1} on {}, p {}.</p>\n",
                r.chi_squared,
                r.degrees,
                probability(r.p)
            )
        })
        .unwrap_or_default()
    };
    body += &ratio("The left side has no advantage", board.order_test);
    body += &ratio("Strengths explain every pair of models", board.fit);
    let mut style =
        Table::new("Style: log-odds per standard deviation", &["more of", "effect", "n", "p"]);
    for effect in &board.style.effects {
        style.row(&[
            escape(&effect.aspect.replace('_', " ")),
            cell(&effect.effect, Unit::Plain(3)),
            n(&effect.effect),
            p(effect.test.as_ref()),
        ]);
    }
    body + &style.html() + &notes(&board.style.notes)
}

/// Elo's ratings of the models that end highest.
fn history(board: &Leaderboard) -> String {
    const SHOWN: usize = 6;
    let elo = &board.elo;
    let Some(last) = elo.checkpoints.last() else { return String::new() };
    let mut order: Vec<usize> = (0..elo.models.len()).collect();
    order.sort_by(|&a, &b| last.ratings[b].total_cmp(&last.ratings[a]));
    let line = |&m: &usize| {
        let points = std::iter::once((0.0, elo.initial))
            .chain(elo.checkpoints.iter().map(|c| (c.votes as f64, c.ratings[m])));
        ChartSeries::new(&elo.models[m], points)
    };
    let order_note = if elo.by_time { "" } else { ", in the order in which they were stored" };
    let title = format!("Elo ratings over the votes{order_note}: history, not ranking");
    let labels = ChartLabels::new(&title, "votes", "rating");
    LineChart::new(labels, order.iter().take(SHOWN).map(line).collect()).html()
}
