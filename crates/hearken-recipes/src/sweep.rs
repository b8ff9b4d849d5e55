//! Runs of one trainer over values of some keys of its configuration: all combinations, or drawn at random.
//!
//! A sweep is a folder of ordinary runs. What was asked stands in `sweep.json`, so that the same command goes on
//! where it was stopped and another one is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hearken_report::sweep::{FigureCourse, RunState, Sweep as Report, SweptRun};
use hearken_run::error::TrainError;
use hearken_run::run::Status;
use hearken_run::run_dir::write_atomically;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use toml::Value;

/// What was asked, in the sweep's folder.
const ASKED: &str = "sweep.json";
/// The most runs of a sweep: more are a slip.
const RUNS_MAX: usize = 10_000;

/// A key and the values that it takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Over {
    /// As `optimizer.lr`.
    pub key: String,
    /// What it takes.
    pub values: Values,
}

/// The values that a key takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Values {
    /// One of these.
    List(Vec<Value>),
    /// A number between two, all equally likely; a whole one where both are, and then both are among them.
    Uniform(Value, Value),
    /// A positive number between two, its logarithm equally likely.
    LogUniform(f64, f64),
}

impl FromStr for Over {
    type Err = String;

    /// Reads `KEY=[A, B, …]`, `KEY=uniform(A, B)` or `KEY=log_uniform(A, B)`.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |found: &str| {
            format!(
                "found {found:?}, expected KEY=[A, B, …], KEY=uniform(A, B) or KEY=log_uniform(A, B), \
                 with numbers A < B"
            )
        };
        let (key, given) = text.split_once('=').ok_or_else(|| bad(text))?;
        let (key, given) = (key.trim().to_owned(), given.trim());
        let between = |name: &str| {
            let inside = given.strip_prefix(name)?.trim().strip_prefix('(')?.strip_suffix(')')?;
            toml_list(&format!("[{inside}]"))
        };
        let values = if let Some(ends) = between("log_uniform") {
            match ends.as_slice() {
                [low, high] => match (number(low), number(high)) {
                    (Some(low), Some(high)) if 0.0 < low && low < high => {
                        Values::LogUniform(low, high)
                    }
                    _ => return Err(bad(given)),
                },
                _ => return Err(bad(given)),
            }
        } else if let Some(ends) = between("uniform") {
            match ends.as_slice() {
                [low, high] if number(low).zip(number(high)).is_some_and(|(a, b)| a < b) => {
                    Values::Uniform(low.clone(), high.clone())
                }
                _ => return Err(bad(given)),
            }
        } else {
            match toml_list(given) {
                Some(list) if !list.is_empty() => Values::List(list),
                _ => return Err(bad(given)),
            }
        };
        if key.is_empty() || key.split('.').any(str::is_empty) {
            return Err(bad(text));
        }
        Ok(Self { key, values })
    }
}

/// A list of TOML; words without quotation marks are text, as in `--set`.
fn toml_list(text: &str) -> Option<Vec<Value>> {
    let parsed = |text: &str| format!("x = {text}").parse::<toml::Table>().ok()?.remove("x");
    if let Some(Value::Array(list)) = parsed(text) {
        return Some(list);
    }
    let words = text.strip_prefix('[')?.strip_suffix(']')?.split(',').map(str::trim);
    let plain = |word: &str| {
        let is_plain = |c: char| c.is_alphanumeric() || "_-./*+".contains(c);
        !word.is_empty() && word.chars().all(is_plain)
    };
    words
        .filter(|word| !word.is_empty())
        .map(|word| parsed(word).or_else(|| plain(word).then(|| Value::String(word.to_owned()))))
        .collect()
}

fn number(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64))
}

/// The settings of one run: a value for every key.
pub type SweepSettings = Vec<(String, Value)>;

/// What a sweep tries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepPlan {
    /// The trainer.
    pub trainer: String,
    /// The keys.
    pub over: Vec<Over>,
    /// How many combinations are drawn; without it all are tried.
    pub draws: Option<usize>,
    /// The seed of what is drawn.
    pub seed: u64,
    /// The figure by which runs are compared.
    pub metric: String,
    /// Whether a higher one is better.
    pub greater_is_better: bool,
}

impl SweepPlan {
    /// The settings of all runs.
    ///
    /// # Errors
    /// Says what is missing, or too much.
    pub fn settings(&self) -> Result<Vec<SweepSettings>, String> {
        if let Some(twice) = self.over.iter().enumerate().find_map(|(index, over)| {
            self.over[..index].iter().any(|other| other.key == over.key).then_some(&over.key)
        }) {
            return Err(format!("`{twice}`: found twice, expected each key once"));
        }
        match self.draws {
            None => self.grid(),
            Some(0) => Err("found 0 draws, expected at least one".to_owned()),
            Some(draws) if RUNS_MAX < draws => {
                Err(format!("found {draws} draws, expected at most {RUNS_MAX}"))
            }
            Some(draws) => Ok(self.drawn(draws)),
        }
    }

    fn grid(&self) -> Result<Vec<SweepSettings>, String> {
        let mut all = vec![SweepSettings::new()];
        for Over { key, values } in &self.over {
            let Values::List(list) = values else {
                return Err(format!(
                    "`{key}`: found a range, expected a list of values, or a number of draws (--draws)"
                ));
            };
            if RUNS_MAX < all.len() * list.len() {
                return Err(format!("found more than {RUNS_MAX} combinations, expected fewer"));
            }
            let with = |settings: &SweepSettings| {
                let settings = settings.clone();
                list.iter().map(move |value| {
                    let mut one = settings.clone();
                    one.push((key.clone(), value.clone()));
                    one
                })
            };
            all = all.iter().flat_map(with).collect();
        }
        Ok(all)
    }

    fn drawn(&self, draws: usize) -> Vec<SweepSettings> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut value = |values: &Values| match values {
            Values::List(list) => list[rng.random_range(0..list.len())].clone(),
            Values::Uniform(Value::Integer(low), Value::Integer(high)) => {
                Value::Integer(rng.random_range(*low..=*high))
            }
            Values::Uniform(low, high) => {
                let (low, high) = (number(low).unwrap_or(0.0), number(high).unwrap_or(1.0));
                Value::Float(rounded(rng.random_range(low..high)))
            }
            Values::LogUniform(low, high) => {
                Value::Float(rounded(rng.random_range(low.ln()..high.ln()).exp()))
            }
        };
        let mut one =
            || self.over.iter().map(|over| (over.key.clone(), value(&over.values))).collect();
        (0..draws).map(|_| one()).collect()
    }
}

/// Four digits: what a person can read and type again.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// How one run ended.
pub type RunEnd = Result<Status, String>;

/// A sweep in its folder.
#[derive(Debug)]
pub struct Sweep {
    dir: PathBuf,
    asked: SweepPlan,
    settings: Vec<SweepSettings>,
    ends: Vec<Option<RunEnd>>,
}

impl Sweep {
    /// Opens the folder of a sweep, new or begun.
    ///
    /// # Errors
    /// If what is asked makes no runs, or the folder holds something else.
    pub fn open(dir: &Path, asked: SweepPlan) -> Result<Self, TrainError> {
        let settings = asked.settings().map_err(TrainError::Other)?;
        let path = dir.join(ASKED);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let found: Option<SweepPlan> = serde_json::from_str(&text).ok();
                if found.as_ref() != Some(&asked) {
                    return Err(TrainError::Other(format!(
                        "{}: found another sweep than the one that is asked for; expected the same keys, values, \
                         draws, seed and metric, or a `run.dir` of its own",
                        path.display()
                    )));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                for name in ["metrics.jsonl", "final", "checkpoints", "config.toml", "report.html"]
                {
                    if dir.join(name).symlink_metadata().is_ok() {
                        return Err(TrainError::Other(format!(
                            "{}: found {name}, expected a folder of a sweep, or none: set `run.dir` to another one",
                            dir.display()
                        )));
                    }
                }
                fs::create_dir_all(dir).map_err(|error| unwritable(dir, &error))?;
                let text = serde_json::to_string_pretty(&asked).expect("a tree of plain values");
                write_atomically(&path, format!("{text}\n").as_bytes())?;
            }
            Err(error) => {
                return Err(TrainError::Other(format!("{}: {error}", path.display())));
            }
        }
        let ends = vec![None; settings.len()];
        Ok(Self { dir: dir.to_owned(), asked, settings, ends })
    }

    /// The settings of every run.
    pub fn settings(&self) -> &[SweepSettings] {
        &self.settings
    }

    /// The name of a run's folder.
    pub fn name(&self, index: usize) -> String {
        let digits = self.settings.len().to_string().len();
        format!("{:0digits$}", index + 1)
    }

    /// What a run changes of the configuration, as `--set` takes it.
    pub fn overrides(&self, index: usize) -> Vec<String> {
        let settings = self.settings[index].iter().map(|(key, value)| format!("{key}={value}"));
        let dir = Value::String(self.dir.join(self.name(index)).to_string_lossy().into_owned());
        settings.chain([format!("run.dir={dir}")]).collect()
    }

    /// Notes how a run ended, and writes the table and the page of all that have.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn note(&mut self, index: usize, ended: RunEnd) -> Result<PathBuf, TrainError> {
        self.ends[index] = Some(ended);
        reported(self.report()?.write())
    }

    /// What all runs came to so far.
    ///
    /// # Errors
    /// If a run's metrics are damaged.
    pub fn report(&self) -> Result<Report, TrainError> {
        let SweepPlan { metric, greater_is_better, .. } = &self.asked;
        let run = |(index, settings): (usize, &SweepSettings)| -> Result<SweptRun, TrainError> {
            let name = self.name(index);
            let run = self.dir.join(&name);
            let measured = reported(FigureCourse::read(&run, metric, *greater_is_better))?;
            Ok(SweptRun {
                measured,
                name,
                settings: settings.clone(),
                state: match &self.ends[index] {
                    None => RunState::Waiting,
                    Some(Ok(Status::Stopped)) => RunState::Stopped,
                    Some(Ok(Status::Finished | Status::AlreadyFinished)) => RunState::Finished,
                    Some(Err(reason)) => RunState::Failed(reason.clone()),
                },
            })
        };
        let runs: Result<Vec<_>, _> = self.settings.iter().enumerate().map(run).collect();
        Ok(Report {
            dir: self.dir.clone(),
            metric: metric.clone(),
            greater_is_better: *greater_is_better,
            runs: runs?,
        })
    }

    /// How many runs ended with an error.
    pub fn failures(&self) -> usize {
        self.ends.iter().filter(|end| matches!(end, Some(Err(_)))).count()
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> TrainError {
    TrainError::Other(format!("{}: cannot be made: {error}", path.display()))
}

fn reported<T>(read: Result<T, hearken_report::ReportError>) -> Result<T, TrainError> {
    read.map_err(|error| TrainError::Other(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(over: &[&str], draws: Option<usize>) -> SweepPlan {
        SweepPlan {
            trainer: "sft".to_owned(),
            over: over.iter().map(|text| text.parse().unwrap()).collect(),
            draws,
            seed: 3,
            metric: "eval_loss".to_owned(),
            greater_is_better: false,
        }
    }

    #[test]
    fn a_grid_has_every_combination_once_the_last_key_changing_fastest() {
        let settings =
            asked(&["optimizer.lr=[1e-4, 1e-3]", "optimizer.schedule=[linear, cosine]"], None);
        let shown: Vec<String> = settings
            .settings()
            .unwrap()
            .iter()
            .map(|one| one.iter().map(|(_, value)| value.to_string()).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            shown,
            ["0.0001 \"linear\"", "0.0001 \"cosine\"", "0.001 \"linear\"", "0.001 \"cosine\""]
        );
    }

    #[test]
    fn draws_follow_from_the_seed_and_lie_in_their_ranges() {
        let over = ["a.x=log_uniform(1e-5, 1e-2)", "a.n=uniform(2, 4)", "a.y=uniform(0.5, 1)"];
        let first = asked(&over, Some(200)).settings().unwrap();
        assert_eq!(first, asked(&over, Some(200)).settings().unwrap());
        assert_ne!(first, SweepPlan { seed: 4, ..asked(&over, Some(200)) }.settings().unwrap());
        let below = first.iter().filter(|one| number(&one[0].1).unwrap() < 3.16e-4).count();
        assert!((70..130).contains(&below), "half of the logarithms, not {below} of 200");
        let mut whole: Vec<i64> = first.iter().map(|one| one[1].1.as_integer().unwrap()).collect();
        whole.sort_unstable();
        whole.dedup();
        assert_eq!(whole, [2, 3, 4]);
        assert!(first.iter().all(|one| (0.5..=1.0).contains(&number(&one[2].1).unwrap())));
    }

    #[test]
    fn what_makes_no_runs_is_refused() {
        for text in [
            "lr",
            "lr=",
            "lr=[]",
            "lr=3",
            "lr=uniform(2, 1)",
            "lr=log_uniform(0, 1)",
            "=[1]",
            "a..b=[1]",
        ] {
            assert!(text.parse::<Over>().is_err(), "{text}");
        }
        let range = asked(&["a.x=uniform(0, 1)"], None).settings().unwrap_err();
        assert!(range.contains("`a.x`: found a range"), "{range}");
        assert!(asked(&["a.x=[1]", "a.x=[2]"], None).settings().is_err());
        assert!(asked(&["a.x=[1]"], Some(0)).settings().is_err());
    }

    #[test]
    fn a_folder_keeps_one_sweep_and_no_run_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("sweep");
        let one = asked(&["optimizer.lr=[1e-4, 1e-3]"], None);
        let sweep = Sweep::open(&dir, one.clone()).unwrap();
        assert_eq!(sweep.overrides(1)[0], "optimizer.lr=0.001");
        assert!(sweep.overrides(1)[1].ends_with("sweep/2\""));
        Sweep::open(&dir, one.clone()).unwrap();
        let other = asked(&["optimizer.lr=[1e-4]"], None);
        assert!(Sweep::open(&dir, other).unwrap_err().to_string().contains("another sweep"));
        let run = folder.path().join("run");
        fs::create_dir(&run).unwrap();
        fs::write(run.join("metrics.jsonl"), "").unwrap();
        assert!(Sweep::open(&run, one).unwrap_err().to_string().contains("found metrics.jsonl"));
    }
}
