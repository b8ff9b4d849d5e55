//! One file per command.

mod analyze;
mod bench;
mod best_of;
mod chat;
mod check;
mod closed_loop;
mod collect;
mod completions;
mod config;
mod constitution;
mod control;
mod convert;
mod data;
mod distill;
mod doctor;
mod dpo;
mod evaluate;
mod export;
mod frontier;
mod generate;
mod grpo;
mod import;
mod init;
mod judge;
mod logprobs;
mod man;
mod merge;
mod ppo;
mod report;
mod reward;
mod rlaif;
mod rlhf;
mod sft;
mod steps;
mod store;
mod sweep;
mod template;

mod model_arguments;
mod new_folder;
mod output_file;
mod output_lines;
mod sampling_arguments;
mod scaling;
mod score;
mod serve;
mod shape;
mod template_arguments;
mod trainer_arguments;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::Init),
    Sft(sft::Sft),
    Reward(reward::Reward),
    Dpo(dpo::Dpo),
    Ppo(ppo::Ppo),
    Grpo(grpo::Grpo),
    Distill(distill::Distill),
    Rlhf(rlhf::Rlhf),
    Rlaif(rlaif::Rlaif),
    #[command(name = "loop")]
    ClosedLoop(closed_loop::ClosedLoop),
    Sweep(sweep::Sweep),
    Check(check::Check),
    Config(config::Config),
    Schema(config::Schema),
    Generate(generate::Generate),
    Chat(chat::Chat),
    Serve(Box<serve::Serve>),
    Collect(Box<collect::Collect>),
    Analyze(analyze::Analyze),
    Import(import::Import),
    Export(export::Export),
    Store(store::Store),
    Logprobs(logprobs::Logprobs),
    Score(score::Score),
    BestOf(best_of::BestOf),
    Steps(steps::Steps),
    Evaluate(evaluate::Evaluate),
    Judge(Box<judge::Judge>),
    Constitution(constitution::Constitution),
    Merge(merge::Merge),
    Convert(convert::Convert),
    Template(template::Template),
    Control(control::Control),
    Report(report::Report),
    Frontier(frontier::Frontier),
    Data(data::Data),
    Doctor(doctor::Doctor),
    Bench(bench::Bench),
    Scaling(scaling::Scaling),
    Completions(completions::Completions),
    Man(man::ManPages),
}

impl Command {
    /// Whether the command answers requests until it is interrupted.
    pub(crate) fn is_service(&self) -> bool {
        matches!(self, Self::Serve(_) | Self::Collect(_))
    }

    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Init(command) => command.run(),
            Self::Sft(command) => command.run(),
            Self::Reward(command) => command.run(),
            Self::Dpo(command) => command.run(),
            Self::Ppo(command) => command.run(),
            Self::Grpo(command) => command.run(),
            Self::Distill(command) => command.run(),
            Self::Rlhf(command) => command.run(),
            Self::Rlaif(command) => command.run(),
            Self::ClosedLoop(command) => command.run(),
            Self::Sweep(command) => command.run(),
            Self::Check(command) => command.run(),
            Self::Config(command) => command.run(),
            Self::Schema(command) => command.run(),
            Self::Generate(command) => command.run(),
            Self::Chat(command) => command.run(),
            Self::Serve(command) => command.run(),
            Self::Collect(command) => command.run(),
            Self::Analyze(command) => command.run(),
            Self::Import(command) => command.run(),
            Self::Export(command) => command.run(),
            Self::Store(command) => command.run(),
            Self::Logprobs(command) => command.run(),
            Self::Score(command) => command.run(),
            Self::BestOf(command) => command.run(),
            Self::Steps(command) => command.run(),
            Self::Evaluate(command) => command.run(),
            Self::Judge(command) => command.run(),
            Self::Constitution(command) => command.run(),
            Self::Merge(command) => command.run(),
            Self::Convert(command) => command.run(),
            Self::Template(command) => command.run(),
            Self::Control(command) => command.run(),
            Self::Report(command) => command.run(),
            Self::Frontier(command) => command.run(),
            Self::Data(command) => command.run(),
            Self::Doctor(command) => command.run(),
            Self::Bench(command) => command.run(),
            Self::Scaling(command) => command.run(),
            Self::Completions(command) => command.run(),
            Self::Man(command) => command.run(),
        }
    }
}
