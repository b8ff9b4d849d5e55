//! Pairs that models label: those of files, or completions of the policy.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use hearken_config::LoadedConfig;
use hearken_data::feedback::formats::{
    ExportOptions, Format, FormatError, ImportOptions, Ties, export, import,
};
use hearken_data::feedback::{Item, Judgement, Origin, Task, Verdict};
use hearken_data::{write_file, write_jsonl};
use hearken_generate::{
    EngineOptions, SamplingRequest, TokenSampled, completion_text, generate_with,
};
use hearken_judge::JudgeError;
use hearken_judge::model::KeptAnswers;
use hearken_model::{LoadOptions, Model};
use hearken_report::outcome::Figure;
use hearken_reward_source::judging::{Asking, JudgingConfig, MemberKind};
use hearken_run::encode::PromptExample;
use hearken_run::error::TrainError;
use hearken_run::metrics::Cost;
use hearken_run::progress::Progress;
use hearken_run::run::{RunOutcome, Status};
use hearken_run::run_dir::{RunDirError, STAGE_FILE};
use hearken_run::seeds::Seeds;
use hearken_run::trained_model::tokenizer_of;
use hearken_tensor::Device;
use hearken_train::ppo::PpoConfig;
use hearken_train::rollout::session::sampling;
use serde_json::{Value, json};

use super::config::{LABELS, LabelsConfig, RlhfConfig};
use super::evaluation::{Sampled, prompts_of};
use super::other;
use crate::judging::{JudgedItem, Panel};

/// Pairs that are judged together: between two of them the stage can stop.
pub(crate) const TOGETHER: usize = 32;

/// Labels pairs, and writes them down once all are labelled. What was answered until then is kept.
pub(super) fn label<D: Device>(
    device: &D,
    config: &RlhfConfig,
    labels: &LabelsConfig,
    judges: &JudgingConfig,
    folder: &Path,
    progress: &mut dyn Progress,
) -> Result<(RunOutcome, Vec<Figure>), TrainError> {
    let files = match labels.sampled {
        0 => labels.pairs.clone(),
        count => {
            let ppo = config.ppo.as_ref().expect("prompts to sample for are those of PPO");
            let file = folder.join("pairs.jsonl");
            match sample(device, config, &ppo.config, count, &file, progress)? {
                ControlFlow::Continue(()) => vec![file],
                ControlFlow::Break(()) => {
                    return Ok((outcome(Status::Stopped, 0, folder), Vec::new()));
                }
            }
        }
    };
    let read = import(&files, None, &ImportOptions::default()).map_err(other)?;
    let is_pair = |item: &Item| {
        item.task == Task::Pairwise && item.media.is_empty() && item.candidates.len() == 2
    };
    let mut items: Vec<Item> = read.items.into_iter().filter(is_pair).collect();
    if 0 < labels.limit {
        items.truncate(labels.limit);
    }
    if items.is_empty() {
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let text = format!("{}: found no pair of answers, expected one at least", names.join(", "));
        return Err(TrainError::Other(text));
    }
    let kept = KeptAnswers::open(&folder.join("answers.jsonl")).map_err(other)?;
    let asking = Asking::new(&judges.budget, kept);
    let mut panel = Panel::open(device, judges, &asking).map_err(other)?;
    progress.note(&format!("labels: {} pairs for {}", items.len(), panel.name()));
    let mut judgements: Vec<Judgement> = Vec::new();
    let mut known = Vec::new();
    for chunk in items.chunks(TOGETHER) {
        if progress.stop_requested() {
            return Ok((
                outcome(Status::Stopped, asking.budget.spent().tokens(), folder),
                Vec::new(),
            ));
        }
        let found = judgements_by(&mut panel, chunk).map_err(|error| stopped(&error))?;
        for (item, judgement) in chunk.iter().zip(found) {
            let Some(judgement) = judgement else { continue };
            if let Some(said) = said(&read.judgements, item) {
                known.extend(agrees(&judgement.verdict, said));
            }
            judgements.push(judgement);
        }
    }
    let options = ExportOptions { ties: Ties::Half, ..ExportOptions::default() };
    let path = folder.join(LABELS);
    write_file::<_, FormatError>(&path, |writer| {
        export(&items, &judgements, Format::TrlPreference, &options, writer)
    })
    .map_err(|error| TrainError::Other(format!("{}: {error}", path.display())))?;
    let bought = bought(&items, &judgements, &known, &asking);
    Ok((outcome(Status::Finished, asking.budget.spent().tokens(), folder), bought))
}

/// What judges say of items, signed; `None` where they say nothing.
pub(crate) fn judgements_by<D: Device>(
    panel: &mut Panel<D>,
    items: &[Item],
) -> Result<Vec<Option<Judgement>>, JudgeError> {
    let asked: Vec<&Item> = items.iter().collect();
    let judged = panel.judge(&asked)?;
    let signed = |(item, judged): (&Item, JudgedItem)| {
        let id = format!("{}/{}", panel.name(), item.id);
        let mut judgement = Judgement::new(id, item, panel.name(), judged.verdict?);
        judgement.origin = Origin::Ai;
        judgement.rationale = judged.rationale;
        Some(judgement)
    };
    Ok(items.iter().zip(judged).map(signed).collect())
}

/// Removes what another configuration's labels left: they are made from what was answered, and answers are looked up by who
/// was asked what.
pub(super) fn forget(folder: &Path) -> Result<(), TrainError> {
    for name in [LABELS, "pairs.jsonl", STAGE_FILE] {
        let path = folder.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(RunDirError::io(&path, "be removed")(error).into());
            }
            _ => {}
        }
    }
    Ok(())
}

fn stopped(error: &JudgeError) -> TrainError {
    let text = format!("labels: {error}; what is answered is kept, and asked no more");
    TrainError::Other(text)
}

fn outcome(status: Status, tokens: u64, folder: &Path) -> RunOutcome {
    let cost = Cost { tokens, ..Cost::default() };
    RunOutcome { status, steps: 0, cost, model_dir: folder.to_owned() }
}

fn bought(items: &[Item], labels: &[Judgement], known: &[f64], asking: &Asking) -> Vec<Figure> {
    let mut figures = vec![
        Figure::new("pairs", items.len() as f64),
        Figure::new("labelled", labels.len() as f64),
    ];
    if !known.is_empty() {
        let share = known.iter().sum::<f64>() / known.len() as f64;
        figures.push(Figure::new("agreement with the pairs' own labels", share));
    }
    let spent = asking.budget.spent();
    if 0 < spent.requests {
        figures.push(Figure::new("questions", spent.requests as f64));
        figures.push(Figure::new("cost", spent.money));
    }
    if 0 < asking.kept.too_long() {
        figures.push(Figure::new("too long", asking.kept.too_long() as f64));
    }
    figures
}

/// What the file itself says of a pair.
fn said<'a>(judgements: &'a [Judgement], item: &Item) -> Option<&'a Verdict> {
    judgements.iter().find(|one| one.item == item.id).map(|one| &one.verdict)
}

/// 1 where both prefer the same candidate, 0 where they do not, ½ where the judges are undecided; nothing where the file is.
fn agrees(verdict: &Verdict, own: &Verdict) -> Option<f64> {
    let leaning = |of: &Verdict| match of {
        Verdict::Preferred { candidate, .. } => Some(if *candidate == 0 { 1.0 } else { -1.0 }),
        Verdict::Soft { probability } => Some(probability - 0.5),
        _ => None,
    };
    let (found, own) = (leaning(verdict)?, leaning(own).filter(|own| *own != 0.0)?);
    Some(if found == 0.0 { 0.5 } else { f64::from(u8::from(0.0 < found * own)) })
}

/// Two completions of the policy for each prompt of PPO, over and over until there are enough; two that are equal are no
/// pair.
fn sample<D: Device>(
    device: &D,
    config: &RlhfConfig,
    ppo: &PpoConfig,
    count: usize,
    file: &Path,
    progress: &mut dyn Progress,
) -> Result<ControlFlow<()>, TrainError> {
    let tokenizer = tokenizer_of(&ppo.shared.model)?;
    let prompts = prompts_of(&Sampled::from(ppo), tokenizer.as_ref())?.train;
    if prompts.is_empty() {
        return Err(TrainError::Other(
            "`ppo.data.train`: found no prompt to sample for".to_owned(),
        ));
    }
    let precision = ppo.shared.model.dtype.into();
    let options = LoadOptions { precision, ..LoadOptions::language_model() };
    let model = Model::load(device.clone(), &config.start, &options)?.0;
    let (sampling, seeds) = (sampling(&ppo.rollout), Seeds::new(config.run.seed));
    let mut rows: Vec<Value> = Vec::new();
    // A policy that always says the same has no pairs.
    let rounds = 4 * count.div_ceil(prompts.len());
    for round in 0..rounds {
        let wanted = (count - rows.len()).min(prompts.len());
        let asked: Vec<&PromptExample> = prompts.iter().take(wanted).collect();
        let request = |(at, prompt): (usize, &&PromptExample)| SamplingRequest {
            prompt_ids: prompt.ids.clone(),
            samples: 2,
            seed: seeds.derive("labels", round as u64, at as u64),
        };
        let requests: Vec<SamplingRequest> = asked.iter().enumerate().map(request).collect();
        let watch = &mut |_: TokenSampled<'_>| match progress.stop_requested() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let engine = EngineOptions::default();
        let sampled =
            generate_with(&model, tokenizer.as_ref(), &requests, &sampling, &engine, watch);
        let sampled = match sampled {
            Ok(sampled) => sampled,
            Err(_) if progress.stop_requested() => return Ok(ControlFlow::Break(())),
            Err(error) => return Err(TrainError::Generate(error.to_string())),
        };
        for (prompt, both) in asked.iter().zip(sampled) {
            let text = |at: usize| {
                let tokenizer = tokenizer.as_ref().expect("prompts are texts");
                completion_text(tokenizer, &both[at], &sampling.stop)
            };
            rows.extend(pair(prompt, &text(0), &text(1)));
        }
        if rows.len() == count {
            break;
        }
    }
    write_jsonl(file, &rows).map_err(other)?;
    Ok(ControlFlow::Continue(()))
}

/// Two completions as a pair without a preference.
fn pair(prompt: &PromptExample, a: &str, b: &str) -> Option<Value> {
    if a == b || a.trim().is_empty() || b.trim().is_empty() {
        return None;
    }
    Some(match &prompt.messages {
        None => json!({ "prompt": prompt.text, "chosen": a, "rejected": b, "probability": 0.5 }),
        Some(messages) => {
            let prompt: Value = messages.iter().map(hearken_data::Message::to_json).collect();
            let answer = |text: &str| json!([{ "role": "assistant", "content": text }]);
            json!({ "prompt": prompt, "chosen": answer(a), "rejected": answer(b), "probability": 0.5 })
        }
    })
}

/// What goes into the labels besides their configuration.
pub(super) fn inputs(
    config: &RlhfConfig,
    labels: &LabelsConfig,
    judges: &LoadedConfig<JudgingConfig>,
) -> Vec<PathBuf> {
    let mut inputs = labels.pairs.clone();
    if 0 < labels.sampled {
        inputs.push(config.start.clone());
        let prompts = config.ppo.as_ref().and_then(|ppo| ppo.config.prompts());
        inputs.extend(prompts.into_iter().flat_map(|data| data.training_files().cloned()));
    }
    inputs.extend(judges.config.judges.iter().filter_map(|judge| match &judge.who {
        MemberKind::Local { path, .. } | MemberKind::Reward { path, .. } => Some(path.clone()),
        _ => None,
    }));
    inputs.extend(judges.config.template.file.clone());
    inputs
}
