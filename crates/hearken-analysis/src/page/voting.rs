//! Voting rules.

use std::fmt::Write;

use super::markup::{Table, data, notes};
use crate::voting::{RuleResult, Voting};
use hearken_page::escape;
use hearken_stats::social_choice::Rule;

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
            data(&rule.winners.join(", ")),
            data(&order(rule)),
            escape(rule.note.as_deref().unwrap_or_default()),
        ]);
    }
    body += &table.html();
    for sentence in voting.verdict() {
        let _ = writeln!(body, "<p>{}</p>", escape(&sentence));
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
        Table::new("Items on which rules disagree", &["item", "rankings", "answers that win"])
            .with_text(2);
    for item in &per_item.disagreements {
        let rules: Vec<String> = item
            .rules
            .iter()
            .map(|r| {
                let winners: Vec<String> = r.winners.iter().map(|w| (w + 1).to_string()).collect();
                format!("<div><span>{}</span>: {}</div>", named(r.rule), winners.join(", "))
            })
            .collect();
        table.row(&[data(&item.item), item.ballots.to_string(), rules.concat()]);
    }
    body + &table.html()
}

fn named(rule: Rule) -> &'static str {
    match rule {
        Rule::Plurality => "plurality",
        Rule::InstantRunoff => "instant runoff",
        Rule::Borda => "borda",
        Rule::Copeland => "copeland",
        Rule::Maximin => "maximin",
        Rule::Schulze => "schulze",
        Rule::RankedPairs => "ranked pairs",
        Rule::Kemeny => "kemeny",
    }
}

/// The first places; equals are joined by =.
fn order(rule: &RuleResult) -> String {
    const SHOWN: usize = 5;
    let tiers: Vec<String> = rule.order.iter().take(SHOWN).map(|tier| tier.join(" = ")).collect();
    let more = if rule.order.len() > SHOWN { " > …" } else { "" };
    tiers.join(" > ") + more
}
