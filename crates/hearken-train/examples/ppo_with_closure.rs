//! PPO against a reward that is a Rust closure: `cargo run --release --example ppo_with_closure --
//! MODEL_DIR PROMPTS.jsonl RUN_DIR`.
#![allow(clippy::print_stdout, reason = "an example that prints")]

use std::error::Error;
use std::path::Path;

use hearken_config::Configuration;
use hearken_reward_source::Closure;
use hearken_run::progress::{Progress, StepReport};
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use hearken_train::ppo::{self, PpoConfig};

struct Print;
impl Progress for Print {
    fn stage(&mut self, name: &str, _: Option<u64>) {
        println!("{name}");
    }

    fn step(&mut self, report: &StepReport<'_>) {
        println!("step {}/{} {:.4} {:?}", report.step, report.total, report.loss, report.figures);
    }

    fn note(&mut self, text: &str) {
        println!("{text}");
    }

    fn stop_requested(&self) -> bool {
        false
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, prompts, run_dir] = arguments.as_slice() else {
        return Err("usage: ppo_with_closure MODEL_DIR PROMPTS.jsonl RUN_DIR".into());
    };
    // The more of its letters are vowels, the better a completion.
    let mut vowels = Closure::new("vowels", |rollout| {
        let letters = rollout.completion.chars().filter(|letter| letter.is_alphabetic());
        let (all, vowels) = letters.fold((0, 0), |(all, vowels), letter| {
            (all + 1, vowels + usize::from("aeiouAEIOU".contains(letter)))
        });
        Ok(vowels as f64 / f64::from(all.max(1)))
    });

    let mut layers = PpoConfig::defaults(Path::new("ppo_with_closure"));
    for (key, path) in [("run.dir", run_dir), ("model.path", model), ("data.train", prompts)] {
        layers.set(&format!("{key}={path:?}"))?;
    }
    for setting in ["train.steps=40", "train.batch_size=32", "optimizer.lr=1e-4", "kl.beta=0.02"] {
        layers.set(setting)?;
    }
    let loaded = PpoConfig::from_layers(layers)?;
    let outcome = ppo::run_with(Cpu::new(), &loaded, Start::Fresh, &mut vowels, &mut Print)?;
    println!("the policy is in {}", outcome.model_dir.display());
    Ok(())
}
