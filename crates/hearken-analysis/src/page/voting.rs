//! Voting rules.

use std::fmt::Write;

use super::markup::{Table, notes};
use crate::voting::{RuleResult, Voting};
use hearken_page::escape;

/// What the section holds.
pub(super) fn body(voting: &Voting) -> String {
    let mut body = notes(&voting.notes);
    let mut table = Table::new(
        "What each rule would choose",
        &["rule", "winner", "first places of its order", "to know"],
    )
    .with_text(2);
    for rule in &voting.rules {
        table.row(&[
            escape(&rule.rule.replace('_', " ")),
            escape(&rule.winners.join(", ")),
            escape(&order(rule)),
            escape(rule.note.as_deref().unwrap_or_default()),
        ]);
    }
    body += &table.html();
    let verdict = voting.verdict();
    if !verdict.is_empty() {
        let _ = writeln!(body, "<p>{}</p>", escape(&verdict.join(" ")));
    }
    let per_item = &voting.per_item;
    if per_item.items > 0 {
        let _ = writeln!(
            body,
            "<p>Of {} items that several annotators ranked, all rules choose the same answer in {}.</p>",
            per_item.items, per_item.agree
        );
    }
    let mut table =
        Table::new("Items on which rules disagree", &["item", "rankings", "winners"]).with_text(2);
    for item in &per_item.disagreements {
        let rules: Vec<String> = item
            .rules
            .iter()
            .map(|r| {
                let winners: Vec<String> =
                    r.winners.iter().map(|w| format!("answer {}", w + 1)).collect();
                format!("{:?}: {}", r.rule, winners.join(" and "))
            })
            .collect();
        table.row(&[escape(&item.item), item.ballots.to_string(), escape(&rules.join("; "))]);
    }
    body + &table.html()
}

/// The first places; equals are joined by =.
fn order(rule: &RuleResult) -> String {
    const SHOWN: usize = 5;
    let tiers: Vec<String> = rule.order.iter().take(SHOWN).map(|tier| tier.join(" = ")).collect();
    let more = if rule.order.len() > SHOWN { " > …" } else { "" };
    tiers.join(" > ") + more
}
