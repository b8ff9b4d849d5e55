//! LLMFAO as records: a small reader of its own, so that these tests depend on no importer.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "test code")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use hearken_analysis::JudgedItems;
use hearken_data::feedback::{Candidate, Item, Judgement, Origin, Task, Verdict};
use hearken_data::{Message, Role};

/// The folder of LLMFAO, if it is there.
pub fn llmfao_folder() -> Option<PathBuf> {
    hearken_testing::data("llmfao")
}

/// Pairs, the votes of people, and those of two judges.
pub fn llmfao() -> Option<JudgedItems> {
    let folder = llmfao_folder()?;
    let crowd = rows(&folder.join("crowd-comparisons.csv"));
    let names: HashMap<&str, [&str; 2]> =
        crowd.iter().map(|row| (row[0].as_str(), [row[6].as_str(), row[7].as_str()])).collect();
    let mut records = JudgedItems::default();
    let pairs = std::fs::read_to_string(folder.join("pairs-crowd.jsonl")).unwrap();
    for line in pairs.lines() {
        let pair: serde_json::Value = serde_json::from_str(line).unwrap();
        let id = pair["id"].to_string();
        let text = |key: &str| pair[key].as_str().unwrap_or_default().to_owned();
        let prompt = vec![Message::new(Role::User, text("text"))];
        let [left, right] = names[id.as_str()];
        let candidates = vec![
            Candidate::text(text("result_x")).by(left),
            Candidate::text(text("result_y")).by(right),
        ];
        let mut item = Item::new(Task::Pairwise, prompt, candidates);
        item.id = id;
        records.items.push(item);
    }
    let position: HashMap<String, usize> =
        records.items.iter().enumerate().map(|(i, item)| (item.id.clone(), i)).collect();
    let gpt = |file: &str| rows(&folder.join(file));
    let sources = [
        (crowd.clone(), None),
        (gpt("gpt4-crowd-comparisons.csv"), Some("gpt4")),
        (gpt("gpt3-crowd-comparisons.csv"), Some("gpt3")),
    ];
    for (rows, judge) in sources {
        for row in &rows {
            let item = &records.items[position[row[0].as_str()]];
            let winner = if judge.is_some() { &row[4] } else { &row[5] };
            let verdict = match winner.as_str() {
                "left" => Verdict::preferred(0),
                "right" => Verdict::preferred(1),
                _ => Verdict::Tie,
            };
            let annotator = judge.unwrap_or(&row[4]);
            let id = format!("j{}", records.judgements.len());
            let mut judgement = Judgement::new(id, item, annotator, verdict);
            judgement.presented = vec![0, 1];
            if judge.is_some() {
                judgement.origin = Origin::Ai;
            }
            records.judgements.push(judgement);
        }
    }
    Some(records)
}

/// Data lines of a CSV file in which nothing is quoted.
fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}
