//! The closed loop in the quickstart's world: rounds that go well, one that is poisoned, and rounds without progress.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{about, build, over_seeds, read_json, run, run_quickstart, share, world, write};

/// Seeds of the repetitions; the world, its first policy and everything behind them follow from it.
const SEEDS: [u32; 3] = [1, 2, 3];
/// Rounds of each seed whose policy is the one before it.
const NULL_ROUNDS: u64 = 67;

/// Rounds in which nothing is learned: what stays of them is the gate, with 64 of the held-out prompts.
const NULL: [&str; 10] = [
    "candidates.prompts=4",
    "candidates.completions=2",
    "ask.pairs=4",
    "ask.members=1",
    "reward.train.epochs=1",
    "grpo.train.steps=1",
    "grpo.optimizer.lr=0",
    "grpo.grpo.prompts=1",
    "gate.prompts=64",
    "rounds.set_aside=never",
];

/// For every seed the quickstart, and from its fine-tuned policy three loops with simulated users: one as configs/loop.toml has
/// it, one whose second round has its labels turned round, and one of rounds whose policy is the one before it; to
/// docs/results/loop.json. Runs that have finished are not run again.
pub(crate) fn closed_loop(root: &Path) -> Result<()> {
    let program = build(root)?;
    let mut runs = Vec::new();
    for seed in SEEDS {
        let world = world(seed);
        run_quickstart(root, &program, &world, seed)?;
        let seed_key = format!("run.seed={seed}");
        let arm = |name: &str, more: &[&str]| -> Result<Vec<Value>> {
            let dir = format!("runs/results/loop/{name}-{seed}");
            let sets = [
                seed_key.clone(),
                format!("run.dir={dir}"),
                format!("model.path={world}/sft/final"),
                format!("data.train={world}/data/prompts.jsonl"),
                format!("data.eval={world}/data/prompts_eval.jsonl"),
            ];
            let mut arguments = vec!["loop", "configs/loop.toml"];
            let all = sets.iter().map(String::as_str).chain(more.iter().copied());
            arguments.extend(all.flat_map(|set| ["--set", set]));
            run(root, &program, &arguments)?;
            rounds(&root.join(dir))
        };
        let poison = ["labels.noise=1", "labels.noise_rounds=[2]"];
        let count = format!("rounds.count={NULL_ROUNDS}");
        runs.push(json!({
            "seed": seed,
            "clean": arm("clean", &[])?,
            "second round poisoned": arm("poisoned", &poison)?,
            "without progress": arm("null", &[&NULL[..], &[&count]].concat())?
                .iter()
                .map(|one| {
                    json!({
                        "round": one["round"], "promoted": one["promoted"],
                        "win rate": one["win rate"]["value"],
                        "comparisons until decided": one["comparisons until decided"],
                    })
                })
                .collect::<Vec<_>>(),
        }));
    }
    let promoted = |arm: &str, round: Option<u64>| {
        let all = runs.iter().flat_map(|run| run[arm].as_array().into_iter().flatten());
        let taken = all.filter(|one| round.is_none_or(|round| one["round"] == round));
        let (mut count, mut of) = (0_u64, 0_u64);
        for one in taken {
            of += 1;
            count += u64::from(one["promoted"] == true);
        }
        json!({"promoted": count, "rounds": of, "share": share(count, of)})
    };
    let result = json!({
        "about": about(root, "cargo xtask results loop")?,

        "clean rounds": promoted("clean", None),
        "poisoned rounds": promoted("second round poisoned", Some(2)),
        "rounds after the poisoned one": promoted("second round poisoned", Some(3)),
        "rounds without progress": promoted("without progress", None),
        "gold gained by the current policy over the loop": gained(&runs, "clean"),
        "the same with a poisoned round": gained(&runs, "second round poisoned"),
        "runs": runs,
    });
    write(root, "loop.json", &result)
}

/// What the gate found in every round of a loop, and what became of it.
fn rounds(dir: &Path) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for number in 1.. {
        let folder = dir.join(format!("rounds/{number:03}"));
        if !folder.join("decision.json").exists() {
            return Ok(all);
        }
        let decision = read_json(&folder.join("decision.json"))?;
        let gate = read_json(&folder.join("gate.json")).unwrap_or(Value::Null);
        all.push(json!({
            "round": number,
            "promoted": decision["promoted"],
            "labels": decision["labels"],
            "labels set aside": decision["labels_set_aside"],
            "win rate": gate["win_rate"],
            "comparisons until decided": gate["comparisons"],
            "gold gained": gate["score_difference"],
            "kl_nats": gate["kl_nats"],
            "tokens": gate["tokens_candidate"],
            "reasons": decision["reasons"],
        }));
    }
    Ok(all)
}

/// By seed the sum of what promoted policies gained, and its mean with Student's t over seeds.
fn gained(runs: &[Value], arm: &str) -> Value {
    let of = |run: &Value| -> Result<f64> {
        let all = run[arm].as_array().context("rounds")?.iter();
        let taken = all.filter(|one| one["promoted"] == true);
        Ok(taken.filter_map(|one| one["gold gained"]["value"].as_f64()).sum())
    };
    let sums: Vec<f64> = runs.iter().filter_map(|run| of(run).ok()).collect();
    over_seeds(&sums)
}
