//! One round, step by step. A step whose file is there is done.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hearken_data::feedback::{Item, Judgement, Task};
use hearken_generate::EngineOptions;
use hearken_model::{LoadOptions, Model, Tokenizer};
use hearken_report::outcome::StageSummary;
use hearken_reward_source::WeightedSum;
use hearken_reward_source::scorers::{ScoreReading, open_scores};
use hearken_run::encode::PromptExample;
use hearken_run::error::TrainError;
use hearken_run::progress::Progress;
use hearken_run::ranks::Ranks;
use hearken_run::run::{self, Status};
use hearken_run::run_dir::{RunDirError, Start};
use hearken_run::seeds::Seeds;
use hearken_run::trained_model::tokenizer_of;
use hearken_tensor::Device;
use hearken_train::reward;
use hearken_train::rollout::session::sampling;
use hearken_train::rollout::{HeldOutCompletions, SampleOptions, sample};
use rand::seq::SliceRandom;
use serde_json::Value;

use super::canary::{Deploy, TriedRound};
use super::config::{Decider, Labeller, LoopConfig, SetAside};
use super::gate::{Bets, weigh};
use super::history::round_dir;
use super::labels::{Answered, AskedItems, Judges, outcomes, simulate, write_judged};
use super::questions::{RoundQuestions, scores};
use super::records::{
    ASKED, CANARY, CANARY_PLACED, CANDIDATES, COMPARED, Candidates, DECISION, GATE,
    GATE_JUDGEMENTS, GATE_PLACED, GateReport, HeldOutComparison, JUDGED, JUDGEMENTS, LINEAGE,
    Lineage, PLACED, RoundDecision, Version, read_json, read_lines, remove_unfinished, write_json,
    write_lines,
};
use super::stages::{PolicyStage, RoundPlace, policy_dir, reward_dir};
use crate::rlhf::{Sampled, Stage, Todo, complete, fingerprint_text, prompts_of};

/// Scores of a round's candidates that are closer together than this are one and the same.
const CONSTANT: f64 = 1e-6;

/// What is made of a round's lineage, the last first.
const MADE: [&str; 11] = [
    CANARY,
    CANARY_PLACED,
    GATE,
    GATE_PLACED,
    GATE_JUDGEMENTS,
    COMPARED,
    JUDGED,
    JUDGEMENTS,
    PLACED,
    ASKED,
    CANDIDATES,
];

/// How a round ends for now.
pub(super) enum RoundEnd {
    /// It is over.
    Decided(Box<RoundDecision>),
    /// It was asked to stop, and goes on from here.
    Stopped,
    /// People are to say something first.
    Waiting(String),
    /// No question is worth asking any more; why.
    Enough(String),
}

/// What a step comes to: what it was to find, or why the round stops here.
pub(super) type StageResult<T> = Result<ControlFlow<RoundEnd, T>, TrainError>;

/// Gives what a step found, or ends the round for now.
macro_rules! found {
    ($step:expr) => {
        match $step {
            ControlFlow::Continue(found) => found,
            ControlFlow::Break(ended) => return Ok(ControlFlow::Break(ended)),
        }
    };
}

/// A round with what it is made from.
pub(super) struct LoopRound<'a, D: Device> {
    pub(super) device: D,
    pub(super) config: &'a LoopConfig,
    pub(super) lineage: Lineage,
    /// Rounds before it.
    pub(super) before: &'a [RoundDecision],
}

impl<D: Device> LoopRound<'_, D> {
    /// Goes through the steps that are not done.
    pub(super) fn run(
        &self,
        deploy: Option<&mut (dyn Deploy + '_)>,
        progress: &mut dyn Progress,
    ) -> Result<RoundEnd, TrainError> {
        self.begin()?;
        Ok(match self.steps(deploy, progress)? {
            ControlFlow::Continue(decision) => {
                write_json(&self.file(DECISION), &decision)?;
                RoundEnd::Decided(Box::new(decision))
            }
            ControlFlow::Break(ended) => ended,
        })
    }

    fn steps(
        &self,
        deploy: Option<&mut (dyn Deploy + '_)>,
        progress: &mut dyn Progress,
    ) -> StageResult<RoundDecision> {
        let number = self.lineage.round;
        let rewards = self.rewards();
        let stage = self.stage(&rewards)?;
        if stage.sampled().model.lora.is_some() {
            let text = format!(
                "`{0}.lora`: the policy of one round is where the next begins, and adapters do not stack; remove [{0}.lora]",
                self.config.stages.policy.0.command()
            );
            return Err(TrainError::Other(text));
        }
        let tokenizer = tokenizer_of(stage.sampled().model)?.ok_or_else(|| {
            TrainError::Other(
                "`model.path`: found no tokenizer.json, expected one: people and judges read texts"
                    .to_owned(),
            )
        })?;
        progress.stage(&format!("round {number}: candidates"), None);
        let candidates = self.candidates(&stage.sampled(), &tokenizer)?;
        if progress.stop_requested() {
            return Ok(ControlFlow::Break(RoundEnd::Stopped));
        }
        let items = found!(self.asked(&candidates, progress)?);
        progress.stage(&format!("round {number}: labels"), None);
        let labels = found!(self.judged(&items, progress)?);
        for (member, folder) in rewards.iter().enumerate() {
            progress.stage(&format!("round {number}: reward model {}", member + 1), None);
            found!(self.reward(folder, member + 1, progress)?);
        }
        if let Some(reason) = self.constant(&candidates, &rewards)? {
            let decision = self.rolled_back(vec![reason], None, (items.len(), labels));
            return Ok(ControlFlow::Continue(decision));
        }
        progress.stage(&format!("round {number}: policy"), None);
        found!(self.policy(&stage, progress)?);
        progress.stage(&format!("round {number}: gate"), None);
        let mut report = found!(self.gate(&stage.sampled(), &tokenizer, progress)?);
        let canary = self.config.serve.as_ref().and_then(|serve| serve.canary.as_ref());
        if let (Some(config), Some(deploy), true) = (canary, deploy, report.passed) {
            let policy = policy_dir(&self.dir()).join("final");
            let tried = TriedRound { config, number, dir: &self.dir(), policy: &policy };
            let check = found!(tried.check(deploy, progress)?);
            report.passed &= check.passed;
            report.checks.push(check);
        }
        self.decide(&report, (items.len(), labels))
    }

    fn dir(&self) -> PathBuf {
        round_dir(&self.config.run.dir, self.lineage.round)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    fn seeds(&self) -> Seeds {
        Seeds::new(self.config.run.seed)
    }

    fn rewards(&self) -> Vec<PathBuf> {
        (1..=*self.config.ask.members).map(|member| reward_dir(&self.dir(), member)).collect()
    }

    fn stage(&self, rewards: &[PathBuf]) -> Result<PolicyStage, TrainError> {
        let (dir, root) = (&self.dir(), &self.config.run.dir);
        let place = RoundPlace { number: self.lineage.round, dir };
        let captured = self.lineage.captured.as_ref().and_then(|taken| taken.prompts_in(dir));
        let current = self.lineage.policy.place(root);
        Ok(self.config.stages.policy(place, &current, rewards, captured.as_deref())?)
    }

    /// Writes down what the round is made from. What was made from something else is removed, but for what trainers and judges
    /// keep, who see for themselves what has changed.
    fn begin(&self) -> Result<(), TrainError> {
        let dir = self.dir();
        remove_unfinished(&dir)?;
        let found: Option<Lineage> = read_json(&self.file(LINEAGE))?;
        if found.as_ref() == Some(&self.lineage) {
            return Ok(());
        }
        std::fs::create_dir_all(&dir).map_err(RunDirError::io(&dir, "be created"))?;
        // The last one first: a round that is half removed is one that is half done.
        for name in MADE {
            let path = self.file(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(RunDirError::io(&path, "be removed")(error).into());
                }
                _ => {}
            }
        }
        write_json(&self.file(LINEAGE), &self.lineage)
    }

    fn load(&self, path: &Path, sampled: &Sampled<'_>) -> Result<Model<D>, TrainError> {
        let precision = sampled.model.dtype.into();
        let options = LoadOptions { precision, ..LoadOptions::language_model() };
        Ok(Model::load(self.device.clone(), path, &options)?.0)
    }

    /// Prompts of the round, each completed several times by the current policy.
    fn candidates(
        &self,
        sampled: &Sampled<'_>,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<Candidates>, TrainError> {
        if let Some(done) = read_lines(&self.file(CANDIDATES))? {
            return Ok(done);
        }
        let number = self.lineage.round;
        let mut prompts = prompts_of(sampled, Some(tokenizer))?.train;
        if prompts.is_empty() {
            return Err(TrainError::Other(
                "`data.train`: found no prompt, expected one at least".to_owned(),
            ));
        }
        prompts.shuffle(&mut self.seeds().stream("loop/prompts", number));
        prompts.truncate(*self.config.candidates.prompts);
        let prompts: Vec<Arc<PromptExample>> = prompts.into_iter().map(Arc::new).collect();
        let model = self.load(&self.lineage.policy.place(&self.config.run.dir), sampled)?;
        let sampling = sampling(sampled.rollout);
        let options = SampleOptions {
            sampling: &sampling,
            engine: EngineOptions::default(),
            completions: *self.config.candidates.completions,
            seeds: self.seeds(),
            stream: "loop/candidates",
            index: number,
            version: 0,
            ranks: &Ranks::default(),
        };
        let rollouts = sample(&model, Some(tokenizer), &prompts, &options)?;
        let groups = rollouts.chunks(options.completions);
        let of = |(prompt, group): (&Arc<PromptExample>, &[hearken_train::rollout::Rollout])| {
            Candidates {
                prompt: prompt.text.clone(),
                messages: prompt.messages.clone(),
                policy: self.lineage.policy.name.clone(),
                completions: group.iter().map(|one| one.text.clone()).collect(),
            }
        };
        let all: Vec<Candidates> = prompts.iter().zip(groups).map(of).collect();
        write_lines(&self.file(CANDIDATES), &all)?;
        Ok(all)
    }

    /// The pairs that are asked about.
    fn asked(
        &self,
        candidates: &[Candidates],
        progress: &mut dyn Progress,
    ) -> StageResult<Vec<Item>> {
        if let Some(done) = read_lines(&self.file(ASKED))? {
            return Ok(ControlFlow::Continue(done));
        }
        let root = &self.config.run.dir;
        let kept = self.before.iter().filter(|one| !one.labels_set_aside);
        let questions = RoundQuestions {
            device: &self.device,
            ask: &self.config.ask,
            number: self.lineage.round,
            seeds: self.seeds(),
            policy: &self.lineage.policy.name,
            candidates,
            rewards: self.last_rewards(),
            asked_before: kept.map(|one| round_dir(root, one.round).join(ASKED)).collect(),
        };
        let items = found!(questions.items(progress)?);
        write_lines(&self.file(ASKED), &items)?;
        Ok(ControlFlow::Continue(items))
    }

    /// The reward models of the last round whose labels are learned from.
    fn last_rewards(&self) -> Vec<PathBuf> {
        let last = self.before.iter().rev().find(|one| !one.labels_set_aside);
        let Some(last) = last else { return Vec::new() };
        let dir = round_dir(&self.config.run.dir, last.round);
        let folders = (1..).map(|member| reward_dir(&dir, member).join("final"));
        folders.take_while(|folder| folder.is_dir()).collect()
    }

    /// What is said of the pairs; gives the number of labels.
    fn judged(&self, items: &[Item], progress: &mut dyn Progress) -> StageResult<usize> {
        let path = self.file(JUDGED);
        if path.exists() {
            // Items and judgements stand in one file.
            let lines: Vec<Value> = read_lines(&path)?.unwrap_or_default();
            return Ok(ControlFlow::Continue(lines.len().saturating_sub(items.len())));
        }
        let (config, number) = (self.config, self.lineage.round);
        let answered = match config.labels.by {
            Labeller::Simulated => {
                Answered::All(simulate(items, &config.labels, self.seeds(), number))
            }
            Labeller::Judge => {
                self.judges()?.ask(items, &self.file(JUDGEMENTS), &mut |_| false, progress)?
            }
            Labeller::Store => {
                let needed = (*config.labels.enough * items.len() as f64).ceil() as usize;
                let placed = self.file(PLACED);
                let asked = self.in_store(items, &placed, "labels");
                asked.collect(self.poll(), &mut |_, judged| needed <= judged, progress)?
            }
        };
        let judgements = found!(said(answered));
        if judgements.is_empty() {
            let text = format!(
                "round {number}: nothing was said of any of {} pairs, expected labels",
                items.len()
            );
            return Err(TrainError::Other(text));
        }
        write_judged(&path, items, &judgements)?;
        Ok(ControlFlow::Continue(judgements.len()))
    }

    fn in_store<'b>(
        &'b self,
        items: &'b [Item],
        placed: &'b Path,
        what: &'b str,
    ) -> AskedItems<'b> {
        let store = self.config.labels.store.as_deref().unwrap_or_default();
        AskedItems { store, items, placed, round: self.lineage.round, what }
    }

    fn poll(&self) -> Option<Duration> {
        self.config.labels.poll_s.map(|seconds| Duration::from_secs_f64(*seconds))
    }

    fn judges(&self) -> Result<Judges<D>, TrainError> {
        let judge = self.config.judge.as_ref().expect("whoever asks judges has some");
        Judges::open(&self.device, &judge.config, &self.file("answers.jsonl"))
    }

    /// Fits a reward model to all labels so far.
    fn reward(&self, folder: &Path, member: usize, progress: &mut dyn Progress) -> StageResult<()> {
        let dir = &self.dir();
        let root = &self.config.run.dir;
        let kept = self.before.iter().filter(|one| !one.labels_set_aside);
        let mut judged: Vec<PathBuf> =
            kept.map(|one| round_dir(root, one.round).join(JUDGED)).collect();
        judged.push(self.file(JUDGED));
        judged.extend(self.lineage.captured.as_ref().and_then(|taken| taken.judged_in(dir)));
        let place = RoundPlace { number: self.lineage.round, dir };
        let loaded = self.config.stages.reward(place, member, &judged)?;
        let mut inputs = judged;
        inputs.push(loaded.config.shared.model.path.clone());
        let stage =
            Stage::new(folder.to_owned(), "final", &fingerprint_text(&loaded.frozen), &inputs)?;
        let device = self.device.clone();
        trained(&stage, progress, |start, progress| reward::run(device, &loaded, start, progress))
    }

    /// Why a reward model says nothing, if one does: all candidates have the same score.
    fn constant(
        &self,
        candidates: &[Candidates],
        rewards: &[PathBuf],
    ) -> Result<Option<String>, TrainError> {
        for (at, dir) in rewards.iter().enumerate() {
            let scores = scores(&self.device, &dir.join("final"), candidates)?;
            let known = scores.iter().flatten().copied().filter(|score| !score.is_nan());
            let (low, high) = known
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), score| {
                    (low.min(score), high.max(score))
                });
            if high - low < CONSTANT {
                return Ok(Some(format!(
                    "reward model {} gives every completion of the round the score {low:.4}: there is nothing to optimize",
                    at + 1
                )));
            }
        }
        Ok(None)
    }

    fn policy(&self, stage: &PolicyStage, progress: &mut dyn Progress) -> StageResult<()> {
        let root = &self.config.run.dir;
        let data = stage.sampled().data;
        let mut inputs = vec![self.lineage.policy.place(root)];
        inputs.extend(data.training_files().chain(&data.eval).cloned());
        inputs.extend(self.rewards().iter().map(|dir| dir.join("final")));
        let folder = policy_dir(&self.dir());
        let stamp = Stage::new(folder, "final", &fingerprint_text(stage.frozen()), &inputs)?;
        let device = self.device.clone();
        trained(&stamp, progress, |start, progress| stage.run(device, start, progress))
    }

    /// Sets the new policy beside the current one.
    fn gate(
        &self,
        sampled: &Sampled<'_>,
        tokenizer: &Tokenizer,
        progress: &mut dyn Progress,
    ) -> StageResult<GateReport> {
        if let Some(done) = read_json(&self.file(GATE))? {
            return Ok(ControlFlow::Continue(done));
        }
        let compared = self.compared(sampled, tokenizer)?;
        let gate = &self.config.gate;
        let outcomes = match gate.by {
            Decider::Score => compared.iter().enumerate().map(by_score).collect(),
            Decider::Judge | Decider::People => found!(self.wins(&compared, progress)?),
        };
        let report = weigh(gate, &compared, &outcomes);
        write_json(&self.file(GATE), &report)?;
        Ok(ControlFlow::Continue(report))
    }

    fn compared(
        &self,
        sampled: &Sampled<'_>,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<HeldOutComparison>, TrainError> {
        if let Some(done) = read_lines(&self.file(COMPARED))? {
            return Ok(done);
        }
        let (root, gate, number) = (&self.config.run.dir, &self.config.gate, self.lineage.round);
        let mut prompts = prompts_of(sampled, Some(tokenizer))?.eval;
        if prompts.len() < 2 {
            let text =
                format!("`data.eval`: found {} prompts, expected two at least", prompts.len());
            return Err(TrainError::Other(text));
        }
        prompts.shuffle(&mut self.seeds().stream("loop/held-out", number));
        prompts.truncate(*gate.prompts);
        let prompts: Vec<Arc<PromptExample>> = prompts.into_iter().map(Arc::new).collect();
        let reading =
            ScoreReading { normalize: true, microbatch_tokens: sampled.microbatch_tokens };
        let mut sources = match gate.by {
            Decider::Score => open_scores(&gate.scores, &self.device, Some(tokenizer), reading)?,
            Decider::Judge | Decider::People => WeightedSum::new(),
        };
        let start = self.load(&self.lineage.start.place(root), sampled)?;
        let seeded = Sampled { seed: self.config.run.seed, ..*sampled };
        let mut of = |path: &Path, side: &str| {
            let (model, stream) = (self.load(path, sampled)?, format!("loop/gate/{number}/{side}"));
            complete(&seeded, &model, &start, Some(tokenizer), &prompts, &stream, &mut sources)
        };
        let current = of(&self.lineage.policy.place(root), "current")?;
        let candidate = of(&policy_dir(&self.dir()).join("final"), "candidate")?;
        let scored = gate.by == Decider::Score;
        let all: Vec<HeldOutComparison> =
            (0..prompts.len()).map(|at| side_by_side([&current, &candidate], at, scored)).collect();
        write_lines(&self.file(COMPARED), &all)?;
        Ok(all)
    }

    /// What judges or people say of the completions of both; of two that are equal, nobody is asked.
    fn wins(
        &self,
        compared: &[HeldOutComparison],
        progress: &mut dyn Progress,
    ) -> StageResult<Vec<(usize, f64)>> {
        let version = format!("round-{:03}", self.lineage.round);
        let differs = |at: &usize| {
            let one = &compared[*at];
            let [current, candidate] = [&one.current, &one.candidate].map(|text| text.trim());
            current != candidate && !current.is_empty() && !candidate.is_empty()
        };
        let asked: Vec<usize> = (0..compared.len()).filter(differs).collect();
        let item = |at: &usize| {
            let one = &compared[*at];
            let current = self.lineage.policy.name.as_str();
            let texts =
                [(one.current.as_str(), current), (one.candidate.as_str(), version.as_str())];
            let from = Candidates {
                prompt: one.prompt.clone(),
                messages: one.messages.clone(),
                policy: String::new(),
                completions: Vec::new(),
            };
            let mut item = from.item(Task::Pairwise, texts);
            item.id = format!("{version}-gate-{at:04}-{}", &item.hash()[..16]);
            item
        };
        let items: Vec<Item> = asked.iter().map(item).collect();
        let alpha = *self.config.gate.alpha;
        let decided = |judgements: &[Judgement]| {
            let values: Vec<f64> = outcomes(&items, judgements).iter().map(|one| one.1).collect();
            Bets::on(&values, alpha).are_decided()
        };
        let answered = if self.config.gate.by == Decider::Judge {
            self.judges()?.ask(
                &items,
                &self.file(GATE_JUDGEMENTS),
                &mut |all| decided(all),
                progress,
            )?
        } else {
            let placed = self.file(GATE_PLACED);
            let in_store = self.in_store(&items, &placed, "the gate");
            let mut is_enough = |all: &[Judgement], judged| judged == items.len() || decided(all);
            in_store.collect(self.poll(), &mut is_enough, progress)?
        };
        let judgements = found!(said(answered));
        write_judged(&self.file("gate-judged.jsonl"), &items, &judgements)?;
        let of = |(at, outcome): (usize, f64)| (asked[at], outcome);
        let is_tie = |at: &usize| compared[*at].current.trim() == compared[*at].candidate.trim();
        let ties = (0..compared.len()).filter(is_tie).map(|at| (at, 0.5));
        let said = outcomes(&items, &judgements).into_iter().map(of);
        Ok(ControlFlow::Continue(ties.chain(said).collect()))
    }

    /// Promotes the policy, rolls it back, or asks for somebody who decides.
    fn decide(&self, report: &GateReport, asked: (usize, usize)) -> StageResult<RoundDecision> {
        let candidate = self.candidate()?;
        if !report.passed {
            let failed = report.checks.iter().filter(|check| !check.passed);
            let reasons = failed.map(|check| format!("{}: {}", check.name, check.says)).collect();
            let decision = self.rolled_back(reasons, Some((candidate, report)), asked);
            return Ok(ControlFlow::Continue(decision));
        }
        let reasons =
            report.checks.iter().map(|check| format!("{}: {}", check.name, check.says)).collect();
        if self.config.gate.approve == super::config::Approval::Manual {
            let number = self.lineage.round;
            let text = format!(
                "round {number}: its policy has passed the gate; approve it by --approve {number} --by NAME, or \
                 reject it by --reject {number} --by NAME"
            );
            return Ok(ControlFlow::Break(RoundEnd::Waiting(text)));
        }
        Ok(ControlFlow::Continue(RoundDecision {
            round: self.lineage.round,
            promoted: true,
            by: "gate".to_owned(),
            at: None,
            reasons,
            candidate: Some(candidate.clone()),
            current: candidate,
            labels_set_aside: false,
            asked: asked.0,
            labels: asked.1,
        }))
    }

    /// The policy that the round has made.
    fn candidate(&self) -> Result<Version, TrainError> {
        let folder = policy_dir(&self.dir()).join("final");
        Version::of(format!("round-{:03}", self.lineage.round), &folder, &self.config.run.dir)
    }

    fn rolled_back(
        &self,
        reasons: Vec<String>,
        candidate: Option<(Version, &GateReport)>,
        asked: (usize, usize),
    ) -> RoundDecision {
        let is_worse = candidate.as_ref().is_some_and(|(_, report)| report.is_worse);
        let labels_set_aside = match self.config.rounds.set_aside {
            SetAside::Never => false,
            SetAside::Worse => is_worse,
            SetAside::Always => true,
        };
        RoundDecision {
            round: self.lineage.round,
            promoted: false,
            by: "gate".to_owned(),
            at: None,
            reasons,
            candidate: candidate.map(|(version, _)| version),
            current: self.lineage.policy.clone(),
            labels_set_aside,
            asked: asked.0,
            labels: asked.1,
        }
    }
}

/// What was said, or why the round stops here.
fn said(answered: Answered) -> ControlFlow<RoundEnd, Vec<Judgement>> {
    match answered {
        Answered::All(judgements) => ControlFlow::Continue(judgements),
        Answered::Stopped => ControlFlow::Break(RoundEnd::Stopped),
        Answered::Waiting(text) => ControlFlow::Break(RoundEnd::Waiting(text)),
    }
}

/// Runs a trainer unless it has made the same already.
fn trained(
    stage: &Stage,
    progress: &mut dyn Progress,
    run: impl FnOnce(Start, &mut dyn Progress) -> Result<run::RunOutcome, TrainError>,
) -> StageResult<()> {
    let start = match stage.todo(Start::Resume)? {
        Todo::Skip(_) => return Ok(ControlFlow::Continue(())),
        Todo::Run(start) => start,
    };
    let ended = run(start, progress)?;
    if ended.status == Status::Stopped {
        return Ok(ControlFlow::Break(RoundEnd::Stopped));
    }
    stage.done(&StageSummary {
        name: String::new(),
        tokens: ended.cost.tokens,
        flops: ended.cost.flops,
        seconds: ended.cost.seconds,
        peak_memory_bytes: None,
        bought: Vec::new(),
    })?;
    Ok(ControlFlow::Continue(()))
}

fn by_score((at, one): (usize, &HeldOutComparison)) -> (usize, f64) {
    let [current, candidate] = one.scores.expect("scores decide");
    let outcome = match candidate.total_cmp(&current) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    };
    (at, outcome)
}

fn side_by_side(both: [&HeldOutCompletions; 2], at: usize, scored: bool) -> HeldOutComparison {
    let [current, candidate] = both.map(|one| &one.rollouts[at]);
    HeldOutComparison {
        prompt: current.prompt.text.clone(),
        messages: current.prompt.messages.clone(),
        current: current.text.clone(),
        candidate: candidate.text.clone(),
        tokens: [current, candidate].map(|one| one.completion.ids.len()),
        scores: scored.then(|| both.map(|one| one.scores[at])),
        kl_nats: both[1].kl_nats[at],
    }
}
