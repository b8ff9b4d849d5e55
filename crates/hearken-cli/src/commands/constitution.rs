//! `hearken constitution`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hearken_config::Configuration as _;
use hearken_data::{Prompt, ReadOptions};
use hearken_judge::model::KeptAnswers;
use hearken_recipes::constitution::{self, ConstitutionConfig, WrittenCounts};
use hearken_reward_source::judging::Asking;
use hearken_run::run_dir::Start;
use hearken_store::read_records;

use super::judge::stop_on_interrupt;
use crate::counter::Counter;
use crate::hub::HubNames;
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::screen::Screen;
use crate::{device, output};

/// A model improves and compares its own answers by principles
///
/// Every prompt is answered; the model criticizes its answer by a principle, revises it, and does so again (`revision.rounds`).
/// Two answers to every prompt are compared by principles, with soft labels. The folder of the run gets chains.jsonl (everything),
/// demonstrations.jsonl for `sft`, revisions.jsonl (revisions over first answers) and comparisons.jsonl for `reward` and `dpo`.
/// What the model says is kept: a run that stopped goes on where it was.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Constitution {
    /// The configuration; configs/constitution.toml lists every key
    #[arg(value_name = "CONFIG.toml")]
    config: PathBuf,

    /// Change a key of the configuration; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  hearken constitution configs/constitution.toml --set run.dir=runs/cai \\
      --set data.prompts=prompts.jsonl --set model.kind=local \\
      --set model.path=HuggingFaceTB/SmolLM2-135M-Instruct
  hearken constitution configs/constitution.toml --set run.dir=runs/cai \\
      --set data.prompts=prompts.jsonl --set model.kind=openai \\
      --set model.base_url=http://localhost:8000 --set model.model=NAME";

impl Constitution {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut loaded = ConstitutionConfig::load(&self.config, &self.overrides)?;
        HubNames::new(&mut Screen::without_interrupts())
            .configuration(&mut loaded, Start::Fresh)?;
        let config = loaded.config;
        let (mut prompts, _) =
            read_records::<Prompt>(&config.data.prompts, &ReadOptions::default())?;
        if 0 < config.data.limit {
            prompts.truncate(config.data.limit);
        }
        if prompts.is_empty() {
            bail!("{}: found no prompt, expected at least one", config.data.prompts.display());
        }
        let dir = &config.run.dir;
        std::fs::create_dir_all(dir)
            .with_context(|| format!("{}: cannot be created", dir.display()))?;
        let kept = KeptAnswers::open(&dir.join("answers.jsonl"))?;
        let asking = Asking::new(&config.budget, kept);
        let interrupt = Interrupt::install("stopping; what is answered is kept")?;
        stop_on_interrupt(&interrupt, &asking);
        let counter = Mutex::new((Counter::new(prompts.len()), asking.budget.spent()));
        let on_prompt = || {
            if let Ok(mut counter) = counter.lock() {
                let spent = asking.budget.spent();
                let tokens = spent.completion_tokens.saturating_sub(counter.1.completion_tokens);
                counter.0.add(1, usize::try_from(tokens).unwrap_or(usize::MAX));
                counter.1 = spent;
            }
        };
        let done = constitution::run(&device::open(), &config, &prompts, &asking, &on_prompt);
        if let Ok((counter, _)) = counter.into_inner() {
            counter.finish("prompt");
        }
        match done {
            Ok(written) => {
                output::print(&told(&written, &asking, dir))?;
                Ok(ExitCode::SUCCESS)
            }
            Err(_) if interrupt.requested() => Ok(ExitCode::from(INTERRUPTED)),
            Err(error) => {
                Err(error).context("stopped; what is answered is kept, and asked no more")
            }
        }
    }
}

fn told(written: &WrittenCounts, asking: &Asking, dir: &std::path::Path) -> String {
    let WrittenCounts { chains, demonstrations, revisions, comparisons } = written;
    let spent = asking.budget.spent();
    format!(
        "{chains} prompts: {demonstrations} demonstrations, {revisions} revisions, {comparisons} comparisons\n\
         {} questions with {} + {} tokens, cost {:.4}; {} answers were there already\n{}\n",
        spent.requests,
        spent.prompt_tokens,
        spent.completion_tokens,
        spent.money,
        asking.kept.found(),
        dir.display()
    )
}
