//! `hearken judge`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hearken_analysis::JudgedItems;
use hearken_config::Configuration as _;
use hearken_data::feedback::formats::{ExportOptions, Format, FormatError, Ties, export};
use hearken_data::feedback::{Item, Judgement, Origin, Task, Verdict, in_force};
use hearken_data::write_file;
use hearken_judge::JudgeError;
use hearken_judge::model::KeptAnswers;
use hearken_recipes::judging::{JudgedItem, Panel};
use hearken_reward_source::judging::{AskedTask, Asking, JudgingConfig};
use hearken_run::run_dir::Start;
use hearken_store::Store;
use hearken_tensor::AnyDevice;

use super::evaluate::judged;
use super::import::add_new_items;
use super::output_file::check_outputs;
use crate::hub::HubNames;
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::screen::Screen;
use crate::{device, output, sources};

/// Items that are judged together: what is stored between two of them is safe.
const TOGETHER: usize = 32;

/// Judge items by models: labels without people
///
/// Reads items from stores and files in any of the import formats and asks the judges of the configuration: servers of
/// OpenAI's or Anthropic's kind, language models and reward models in this process, programs. Judgements go to a store,
/// signed with the judge and a hash of how it was asked (`origin` is `ai`), or to a file. Every answer is kept, and nothing
/// is asked twice: a run that stopped goes on where it was.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Judge {
    /// The configuration; configs/judge.toml lists every key
    #[arg(value_name = "CONFIG.toml")]
    config: PathBuf,

    /// Change a key of the configuration; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<String>,

    /// Stores or files with items
    #[arg(long, value_name = "STORE_OR_FILE", num_args = 1.., required = true)]
    input: Vec<String>,

    /// The store that items and judgements are added to
    #[arg(long, value_name = "STORE")]
    into: Option<String>,

    /// A file for items and judgements
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Its format: trl has soft labels as `probability`
    #[arg(long, value_name = "FORMAT", default_value = "trl")]
    format: Format,

    /// The most items
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// Where answers are kept; without it beside the output or the store, with .answers.jsonl behind the name
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,

    /// Say what the judge is worth beside the people who judged the input
    #[arg(long)]
    evaluate: bool,

    /// With --evaluate: write every number to FILE
    #[arg(long, value_name = "FILE", requires = "evaluate")]
    json: Option<PathBuf>,

    /// Seed of intervals
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

const EXAMPLES: &str = "\
Examples:
  # A reward model of your own labels pairs; `hearken reward` trains on them
  hearken judge configs/judge.toml --output labels.jsonl \\
      --input runs/quickstart/data/preferences_eval.jsonl \\
      --set 'judge=[{kind=\"reward\", path=\"runs/quickstart/reward/final\"}]'
  # Into a store, beside what people said, and what the judge is worth
  hearken judge configs/judge.toml --evaluate --limit 8 --into ai.db \\
      --input runs/quickstart/data/preferences_eval.jsonl \\
      --set 'judge=[{kind=\"reward\", path=\"runs/quickstart/reward/final\"}]'
  # Others: kind=\"openai\" or \"anthropic\" with base_url and model, \"local\"
  # with path, \"command\" with program";

/// Where verdicts go as they come.
struct Sinks<'a> {
    store: Option<Box<dyn Store>>,
    items: Vec<Item>,
    judgements: Vec<Judgement>,
    /// One judgement for each order that was asked, for the evaluation.
    seen: Vec<Judgement>,
    name: &'a str,
    undecided: usize,
}

impl Judge {
    pub(crate) fn run(self) -> Result<ExitCode> {
        self.check()?;
        let mut loaded = JudgingConfig::load(&self.config, &self.overrides)?;
        let mut screen = Screen::without_interrupts();
        HubNames::new(&mut screen).configuration(&mut loaded, Start::Fresh)?;
        drop(screen);
        let config = loaded.config;
        let mut records = sources::load(&self.input)?;
        let left_out = self.choose(&mut records, config.ask.task);
        if records.items.is_empty() {
            bail!(
                "{}: found no item to judge{}; expected items with texts of two answers or more",
                self.input.join(", "),
                noted(&left_out)
            );
        }
        let kept = match self.kept_place() {
            Some(path) => KeptAnswers::open(&path)?,
            None => KeptAnswers::in_memory(),
        };
        let asking = Asking::new(&config.budget, kept);
        let mut panel = Panel::open(&device::open(), &config, &asking)?;
        let name = panel.name().to_owned();
        let mut sinks = Sinks::open(&self, &name)?;
        let stopped = ask(&mut panel, &records.items, &asking, &mut sinks)?;
        self.finish(&sinks)?;
        output::print(&told(&sinks, &asking, records.items.len(), &left_out))?;
        if self.evaluate {
            self.report(records, sinks)?;
        }
        match stopped {
            None => Ok(ExitCode::SUCCESS),
            Some(Stopped::Interrupt) => Ok(ExitCode::from(INTERRUPTED)),
            Some(Stopped::Error(error)) => {
                Err(error).context("judging stopped; what is answered is kept, and asked no more")
            }
        }
    }

    fn check(&self) -> Result<()> {
        if self.into.is_none() && self.output.is_none() && !self.evaluate {
            bail!("found nothing to do with verdicts, expected --into, --output or --evaluate");
        }
        let into = self.into.as_deref().filter(|into| !into.contains("://")).map(Path::new);
        let outputs: Vec<&Path> =
            [self.output.as_deref(), self.json.as_deref(), into].into_iter().flatten().collect();
        // A store may be read and added to.
        let inputs: Vec<&Path> = self.input.iter().map(Path::new).collect();
        let inputs: Vec<&Path> = inputs.into_iter().filter(|&path| Some(path) != into).collect();
        check_outputs(&outputs, &inputs)
    }

    /// The items that can be judged; says what is left out.
    fn choose(&self, records: &mut JudgedItems, task: AskedTask) -> Vec<(usize, &'static str)> {
        let (mut without_text, mut other_task, mut short) = (0, 0, 0);
        records.items.retain(|item| {
            let media =
                !item.media.is_empty() || item.candidates.iter().any(|one| !one.media.is_empty());
            let is_step = item.task == Task::Steps;
            let is_single = task != AskedTask::Rate && item.candidates.len() < 2;
            without_text += usize::from(media);
            other_task += usize::from(!media && is_step);
            short += usize::from(!media && !is_step && is_single);
            !media && !is_step && !is_single
        });
        records.items.truncate(self.limit.unwrap_or(usize::MAX));
        [(without_text, "with images"), (other_task, "with steps"), (short, "with a single answer")]
            .into_iter()
            .filter(|(count, _)| 0 < *count)
            .collect()
    }

    fn kept_place(&self) -> Option<PathBuf> {
        let beside = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(".answers.jsonl");
            PathBuf::from(name)
        };
        let into = self.into.as_deref().filter(|into| !into.contains("://")).map(Path::new);
        self.answers
            .clone()
            .or_else(|| self.output.as_deref().map(beside))
            .or_else(|| into.map(beside))
    }

    fn finish(&self, sinks: &Sinks<'_>) -> Result<()> {
        let Some(path) = &self.output else { return Ok(()) };
        let options = ExportOptions { ties: Ties::Half, ..ExportOptions::default() };
        let report = write_file::<_, FormatError>(path, |writer| {
            export(&sinks.items, &sinks.judgements, self.format, &options, writer)
        });
        let report = report.with_context(|| format!("{}", path.display()))?;
        output::say(&format!("wrote {} rows to {}", report.written, path.display()));
        for (why, count) in &report.dropped {
            output::say(&format!("{count} judgements are not among them: {why}"));
        }
        Ok(())
    }

    fn report(&self, records: JudgedItems, sinks: Sinks<'_>) -> Result<()> {
        // What this judge said before, from the input, is not what it says now.
        let others = in_force(&records.judgements);
        let others = others.into_iter().filter(|one| one.origin != Origin::Ai).cloned();
        let judgements = others.chain(sinks.seen).collect();
        judged::print(
            &JudgedItems { items: records.items, judgements },
            self.seed,
            self.json.as_deref(),
        )
    }
}

/// Why judging ended before all items were judged.
enum Stopped {
    Interrupt,
    Error(JudgeError),
}

/// Breaks off what is being asked where an interrupt comes. The thread that waits for it ends with the program.
pub(super) fn stop_on_interrupt(interrupt: &Interrupt, asking: &Asking) {
    let (watched, is_over) = (interrupt.clone(), asking.is_over.clone());
    thread::spawn(move || {
        while !watched.requested() {
            thread::sleep(Duration::from_millis(50));
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

/// Asks the panel of all items, a few at a time.
fn ask(
    panel: &mut Panel<AnyDevice>,
    items: &[Item],
    asking: &Asking,
    sinks: &mut Sinks<'_>,
) -> Result<Option<Stopped>> {
    let interrupt = Interrupt::install("stopping; what is answered is kept")?;
    stop_on_interrupt(&interrupt, asking);
    let members: Vec<String> = panel.members().into_iter().map(str::to_owned).collect();
    let mut counter = crate::counter::Counter::new(items.len());
    let mut tokens = asking.budget.spent().tokens();
    for chunk in items.chunks(TOGETHER) {
        let chunk: Vec<&Item> = chunk.iter().collect();
        match panel.judge(&chunk) {
            Ok(judged) => {
                sinks.take(&chunk, judged, &members)?;
                let spent = asking.budget.spent().tokens();
                counter.add(chunk.len(), (spent - tokens) as usize);
                tokens = spent;
            }
            Err(_) if interrupt.requested() => {
                counter.finish("item");
                return Ok(Some(Stopped::Interrupt));
            }
            Err(error) => {
                counter.finish("item");
                return Ok(Some(Stopped::Error(error)));
            }
        }
    }
    counter.finish("item");
    Ok(None)
}

impl<'a> Sinks<'a> {
    fn open(judge: &Judge, name: &'a str) -> Result<Self> {
        let store = judge.into.as_deref().map(hearken_store::open).transpose()?;
        let (items, judgements, seen) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { store, items, judgements, seen, name, undecided: 0 })
    }

    fn take(&mut self, items: &[&Item], judged: Vec<JudgedItem>, members: &[String]) -> Result<()> {
        let first = self.judgements.len();
        let mut new = Vec::new();
        for (item, judged) in items.iter().zip(judged) {
            new.push((*item).clone());
            self.see(item, &judged, members);
            let Some(verdict) = judged.verdict else {
                self.undecided += 1;
                continue;
            };
            let mut judgement =
                Judgement::new(format!("{}/{}", self.name, item.id), item, self.name, verdict);
            judgement.origin = Origin::Ai;
            judgement.rationale = judged.rationale;
            self.judgements.push(judgement);
        }
        if let Some(store) = &self.store {
            add_new_items(store.as_ref(), &new)?;
            store.add_judgements(&self.judgements[first..]).with_context(|| {
                format!(
                    "the store has other verdicts of {:?}: another `name` of the judge keeps them apart",
                    self.name
                )
            })?;
        }
        self.items.extend(new);
        Ok(())
    }

    /// What each judge said in each order, as judgements of its own.
    fn see(&mut self, item: &Item, judged: &JudgedItem, members: &[String]) {
        if item.candidates.len() != 2 {
            return;
        }
        for opinion in &judged.opinions {
            let member = &members[opinion.member];
            let mut say = |probability: f64, presented: Vec<usize>| {
                let id = format!("{member}/{}/{presented:?}", item.id);
                let verdict = Verdict::Soft { probability };
                let mut judgement = Judgement::new(id, item, member.as_str(), verdict);
                judgement.origin = Origin::Ai;
                judgement.presented = presented;
                self.seen.push(judgement);
            };
            match (opinion.shown, opinion.probability) {
                ([None, None], Some(probability)) => say(probability, Vec::new()),
                ([first, second], _) => {
                    if let Some(probability) = first {
                        say(probability, vec![0, 1]);
                    }
                    if let Some(probability) = second {
                        say(probability, vec![1, 0]);
                    }
                }
            }
        }
    }
}

fn noted(left_out: &[(usize, &str)]) -> String {
    let parts: Vec<String> = left_out.iter().map(|(n, what)| format!("{n} {what}")).collect();
    if parts.is_empty() { String::new() } else { format!(" (left out: {})", parts.join(", ")) }
}

fn told(sinks: &Sinks<'_>, asking: &Asking, items: usize, left_out: &[(usize, &str)]) -> String {
    let spent = asking.budget.spent();
    let mut text = format!(
        "{}: {} of {items} items judged{}{}\n",
        sinks.name,
        sinks.judgements.len(),
        match sinks.undecided {
            0 => String::new(),
            n => format!(", {n} without a verdict"),
        },
        noted(left_out)
    );
    if 0 < asking.kept.too_long() {
        let count = asking.kept.too_long();
        let _ =
            writeln!(text, "{count} questions are longer than the model takes, and have no answer");
    }
    if 0 < spent.requests || 0 < asking.kept.found() {
        let estimated = match spent.estimated {
            0 => String::new(),
            n => format!("; the tokens of {n} are estimated"),
        };
        let _ = writeln!(
            text,
            "{} questions with {} + {} tokens, cost {:.4}{estimated}; {} answers were there already",
            spent.requests,
            spent.prompt_tokens,
            spent.completion_tokens,
            spent.money,
            asking.kept.found()
        );
    }
    text
}
