//! From what was measured under each seed to estimates.

use hearken_report::frontier::{Frontier, FrontierCost, FrontierMethod, FrontierPoint};
use hearken_report::outcome::StageSummary;
use hearken_stats::mean::{Paired, mean, paired_difference};

use crate::evaluation::{Examiner, Measured};
use crate::methods::Method;
use crate::{DRAWS, Options, Result};

/// A seed, a method, its strength, and what came of it.
type Row = (u64, &'static str, u64, Measured);

const NO_SEED: &str = "nothing was measured";

pub(crate) fn frontier(
    options: &Options,
    rows: &[Row],
    shared: Vec<StageSummary>,
) -> Result<Frontier> {
    let of = |name: &str, strength: u64| -> Vec<&Measured> {
        let found = rows.iter().filter(|row| row.1 == name && row.2 == strength);
        found.map(|row| &row.3).collect()
    };
    let starts = of("start", 0);
    let method = |name: &str, unit: String, strengths: &[u64]| -> Result<FrontierMethod> {
        let point = |&strength: &u64| {
            let draws = if name == "best-of-N" { strength } else { 1 };
            point((strength, draws), &of(name, strength), &starts)
        };
        let points = strengths.iter().map(point).collect::<Result<_>>()?;
        let best_of_n = name == "best-of-N";
        let measured = "k1 summed over the tokens of a sampled completion";
        let bound = "analytic bound ln N − (N − 1)/N, not measured";
        Ok(FrontierMethod {
            name: name.to_owned(),
            strength_unit: unit,
            kl_method: if best_of_n { bound } else { measured }.to_owned(),
            cost_of: if best_of_n {
                "answering the held-out prompts once each: sampling and scoring".to_owned()
            } else {
                "training from the start on".to_owned()
            },
            points,
        })
    };
    let mut methods = vec![method("start", "steps".to_owned(), &[0])?];
    for one in Method::ALL {
        methods.push(method(one.name(), one.strength_unit(), &one.strengths())?);
    }
    let choices = Examiner::CHOICES.map(|n| n as u64);
    methods.push(method("best-of-N", "completions".to_owned(), &choices)?);
    let settings = Method::ALL.map(|one| (one.name().to_owned(), one.settings()));
    Ok(Frontier {
        notes: notes(),
        world_seed: options.world_seed,
        seeds: options.seeds.clone(),
        prompts: starts.first().ok_or(NO_SEED)?.gold.len(),
        threads: rayon::current_num_threads(),
        settings: settings.into_iter().collect(),
        shared,
        methods,
    })
}

fn notes() -> Vec<String> {
    [
        "Start, reward model and prompts are the quickstart's; every method begins at the start, and the \
         online methods and best-of-N see the same reward model. DPO sees the comparisons that the reward \
         model was trained on.",
        "Held-out prompts are completed once each under every seed, at temperature 1. A seed is that of \
         training and of this sampling.",
        "Intervals are Student's t over seeds, 95 %: they speak of training and sampling again, with \
         this start, this reward model and these prompts. A gain is the difference from the start under the \
         same seed; gold_gain_over_prompts takes the mean over seeds of each prompt and prompts as units.",
        "Strength is the length of one run with a constant learning rate: costs add up along it.",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([format!(
        "best-of-N: expectations over all subsets of {DRAWS} completions per prompt and seed."
    )])
    .collect()
}

fn point(
    (strength, draws): (u64, u64),
    found: &[&Measured],
    starts: &[&Measured],
) -> Result<FrontierPoint> {
    let average = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let per_seed = |of: fn(&Measured) -> &Vec<f64>| -> Vec<f64> {
        found.iter().map(|one| average(of(one))).collect()
    };
    let gold = per_seed(|one| &one.gold);
    let before: Vec<f64> = starts.iter().map(|one| average(&one.gold)).collect();
    let per_prompt = |of: &[&Measured]| -> Vec<f64> {
        let prompts = 0..of.first().map_or(0, |one| one.gold.len());
        prompts.map(|i| average(&of.iter().map(|one| one.gold[i]).collect::<Vec<_>>())).collect()
    };
    let (after_prompts, before_prompts) = (per_prompt(found), per_prompt(starts));
    let over_prompts = Paired { treatment: &after_prompts, control: &before_prompts };
    let length = per_seed(|one| &one.length);
    Ok(FrontierPoint {
        strength,
        gold: mean(&gold).ok_or(NO_SEED)?,
        gold_gain: paired_difference(Paired { treatment: &gold, control: &before })
            .ok_or(NO_SEED)?,
        gold_gain_over_prompts: paired_difference(over_prompts).ok_or(NO_SEED)?,
        proxy: mean(&per_seed(|one| &one.proxy)).ok_or(NO_SEED)?,
        kl_nats: mean(&per_seed(|one| &one.kl_nats)).ok_or(NO_SEED)?,
        answer_tokens: draws as f64 * average(&length),
        length: mean(&length).ok_or(NO_SEED)?,
        cost: mean_cost(found),
    })
}

fn mean_cost(found: &[&Measured]) -> FrontierCost {
    let mean = |of: fn(&FrontierCost) -> f64| -> f64 {
        found.iter().map(|one| of(&one.cost)).sum::<f64>() / found.len() as f64
    };
    let known: Option<Vec<f64>> = found.iter().map(|one| one.cost.cpu_seconds).collect();
    FrontierCost {
        sampled_tokens: mean(|cost| cost.sampled_tokens),
        trained_tokens: mean(|cost| cost.trained_tokens),
        flops: mean(|cost| cost.flops),
        cpu_seconds: known.map(|seconds| seconds.iter().sum::<f64>() / found.len() as f64),
        wall_seconds: mean(|cost| cost.wall_seconds),
    }
}
