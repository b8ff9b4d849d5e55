//! Labels of a model beside labels of people, in the quickstart's world.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{about, build, over_seeds, read_json, run, run_quickstart, write};

/// Seeds of the repetitions; the world, the base and everything behind them follow from it.
const SEEDS: [u32; 5] = [1, 2, 3, 4, 5];

/// For every seed the quickstart, and the same with its 2,500 comparisons labelled by a judge: the reward model of the next
/// seed's quickstart, which has learned from other people's comparisons of other reviews. Both reward models learn from as many
/// labels; to docs/results/rlaif.json. Runs that have finished are not run again.
pub(crate) fn rlaif(root: &Path) -> Result<()> {
    let program = build(root)?;
    let folder = |who: &str, seed: u32| format!("runs/results/rlaif/{who}-{seed}");
    for seed in SEEDS {
        run_quickstart(root, &program, &folder("people", seed), seed)?;
    }
    let mut runs = Vec::new();
    for (at, seed) in SEEDS.into_iter().enumerate() {
        let judge = SEEDS[(at + 1) % SEEDS.len()];
        let sets = [
            format!("run.seed={seed}"),
            format!("run.dir={}", folder("judge", seed)),
            format!(
                "judge.judge=[{{kind=\"reward\", path=\"{}/reward/final\"}}]",
                folder("people", judge)
            ),
        ];
        let mut arguments = vec!["rlaif", "configs/rlaif.toml"];
        arguments.extend(sets.iter().flat_map(|set| ["--set", set.as_str()]));
        run(root, &program, &arguments)?;
        let outcome = |who| read_json(&root.join(folder(who, seed)).join("outcome.json"));
        let (people, model) = (outcome("people")?, outcome("judge")?);
        let (by_people, by_model) = (gold(&people)?, gold(&model)?);
        runs.push(json!({
            "seed": seed,
            "judge": format!("the reward model of seed {judge}"),
            "labels by people": by_people.to_json(&figure(&people, "reward", "eval_accuracy")),
            "labels by the judge": by_model.to_json(&figure(&model, "reward", "eval_accuracy")),
            "agreement of the judge with people":
                figure(&model, "labels", "agreement with the pairs' own labels"),
        }));
    }
    let gains = |key: &str| -> Vec<f64> {
        runs.iter().filter_map(|run| run[key]["gain"]["value"].as_f64()).collect()
    };
    let (people, judge) = (gains("labels by people"), gains("labels by the judge"));
    let differences: Vec<f64> = judge.iter().zip(&people).map(|(a, b)| a - b).collect();
    let share = judge.iter().sum::<f64>() / people.iter().sum::<f64>();
    let result = json!({
        "about": about(root, "cargo xtask results rlaif")?,
        "labels": 2500,
        "gain of gold by labels of people": over_seeds(&people),
        "gain of gold by labels of the judge": over_seeds(&judge),
        "difference by seed": over_seeds(&differences),
        "mean gain by the judge over mean gain by people": share,
        "runs": runs,
    });
    write(root, "rlaif.json", &result)
}

/// The gold score of held-out completions before and after reinforcement learning.
struct Gold<'a> {
    before: &'a Value,
    after: &'a Value,
    difference: &'a Value,
    kl: &'a Value,
}

impl Gold<'_> {
    fn to_json(&self, accuracy: &Value) -> Value {
        json!({
            "accuracy of the reward model on people's labels": accuracy,
            "gold before": self.before,
            "gold after": self.after,
            "gain": self.difference,
            "kl_nats": self.kl,
        })
    }
}

fn gold(outcome: &Value) -> Result<Gold<'_>> {
    let evaluation = &outcome["evaluation"];
    let quantities = evaluation["quantities"].as_array().context("an outcome has quantities")?;
    let gold = quantities.iter().find(|one| one["quantity"] == "score: gold");
    let gold = gold.context("the quickstart measures gold")?;
    let (before, after, difference) = (&gold["before"], &gold["after"], &gold["difference"]);
    Ok(Gold { before, after, difference, kl: &evaluation["kl_nats"] })
}

/// What a stage bought.
fn figure(outcome: &Value, stage: &str, name: &str) -> Value {
    let stages = outcome["stages"].as_array();
    let stage = stages.and_then(|all| all.iter().find(|one| one["name"] == stage));
    let figures = stage.and_then(|stage| stage["bought"].as_array());
    let figure = figures.and_then(|all| all.iter().find(|one| one["name"] == name));
    figure.map_or(Value::Null, |figure| figure["value"].clone())
}
