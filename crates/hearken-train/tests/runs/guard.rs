//! What is done where a signal of over-optimization is beyond its limit, by every trainer that samples.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::support::{
    After, Recorder, SAMPLED, config, even_and_length, llama, metrics, number, overrides, steps,
    write_prompts,
};
use hearken_config::Configuration;
use hearken_run::run::{RunOutcome, Status};
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use hearken_train::dpo::{self, DpoConfig};
use hearken_train::grpo::{self, GrpoConfig};
use hearken_train::ppo::{self, PpoConfig};

type Train = fn(&Path, &[String], &mut Recorder) -> RunOutcome;

fn ppo(folder: &Path, list: &[String], told: &mut Recorder) -> RunOutcome {
    // An iteration is one step, as the others' are.
    let list = [list, &overrides(&["ppo.epochs=1"])].concat();
    let loaded = PpoConfig::load(&config(folder, SAMPLED), &list).unwrap();
    ppo::run_with(Cpu::new(), &loaded, Start::Resume, &mut even_and_length(), told).unwrap()
}

fn grpo(folder: &Path, list: &[String], told: &mut Recorder) -> RunOutcome {
    let text = SAMPLED.replace("batch_size = 8\n", "");
    let loaded = GrpoConfig::load(&config(folder, &text), list).unwrap();
    grpo::run_with(Cpu::new(), &loaded, Start::Resume, &mut even_and_length(), told).unwrap()
}

fn online(folder: &Path, list: &[String], told: &mut Recorder) -> RunOutcome {
    let list = [list, &overrides(&["dpo.online=dpo"])].concat();
    let loaded = DpoConfig::load(&config(folder, SAMPLED), &list).unwrap();
    let mut scores = even_and_length();
    let opinions = dpo::online::Opinions::from(&mut scores);
    dpo::online::run_with(Cpu::new(), &loaded, Start::Resume, opinions, told).unwrap()
}

/// A run of six steps, each an iteration, in a folder of its own.
fn run(train: Train, folder: &Path, name: &str, more: &[&str]) -> (PathBuf, Recorder, RunOutcome) {
    let mut told = Recorder::new(After::GoOn);
    let (run, outcome) = run_until(train, folder, name, more, &mut told);
    (run, told, outcome.unwrap())
}

fn run_until(
    train: Train,
    folder: &Path,
    name: &str,
    more: &[&str],
    told: &mut Recorder,
) -> (PathBuf, Option<RunOutcome>) {
    let (run, own) = (folder.join(name), folder.join(format!("{name}-files")));
    std::fs::create_dir_all(&own).unwrap();
    let mut list = vec![
        format!("run.dir={}", run.display()),
        format!("model.path={}", llama().display()),
        format!("data.train={}", write_prompts(&own).display()),
        "train.steps=6".to_owned(),
        "train.save_every=2".to_owned(),
        "optimizer.lr=1e-3".to_owned(),
    ];
    list.extend(overrides(more));
    let outcome = catch_unwind(AssertUnwindSafe(|| train(&own, &list, told)));
    (run, outcome.ok())
}

const ALL: [Train; 3] = [ppo, grpo, online];
/// Any distance is too far, from the first iteration that has one.
const NEAR: [&str; 2] = ["guard.window=1", "guard.kl_max=1e-6"];

#[test]
fn an_alarm_names_the_signal_the_step_and_the_key() {
    let folder = tempfile::tempdir().unwrap();
    for (index, train) in ALL.into_iter().enumerate() {
        let (run, told, outcome) = run(train, folder.path(), &format!("warn{index}"), &NEAR);
        assert_eq!((outcome.status, outcome.steps), (Status::Finished, 6));
        let alarms: Vec<_> = told.notes.iter().filter(|note| note.contains("signal kl")).collect();
        assert_eq!(alarms.len(), 1, "{:?}", told.notes);
        assert!(alarms[0].starts_with("step "), "{}", alarms[0]);
        assert!(alarms[0].contains("nats from its reference (`guard.kl_max` = 0.000001)"));
        assert!(number(&steps(&run)[0], "completions/repeated_share") < 1.0);
    }
}

/// The run ends before it learns from the iteration that was too far, and is finished.
#[test]
fn a_run_that_is_to_stop_ends_with_its_model() {
    let folder = tempfile::tempdir().unwrap();
    for (index, train) in ALL.into_iter().enumerate() {
        let name = format!("stop{index}");
        let more = [&NEAR[..], &["guard.action=stop"]].concat();
        let (path, told, outcome) = run(train, folder.path(), &name, &more);
        assert!(outcome.status == Status::Finished && outcome.steps < 6, "{outcome:?}");
        assert!(told.said("the run ends here"), "{:?}", told.notes);
        assert_eq!(steps(&path).len() as u64, outcome.steps);
        assert!(path.join("final/config.json").exists());
        let (_, _, again) = run(train, folder.path(), &name, &more);
        assert_eq!((again.status, again.steps), (Status::AlreadyFinished, outcome.steps));
    }
}

#[test]
fn a_run_that_is_to_slow_down_has_a_part_of_its_rate_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    for (index, train) in ALL.into_iter().enumerate() {
        let rates = |name: &str, more: &[&str]| -> Vec<f64> {
            let name = format!("{name}{index}");
            let (run, _, _) = run(train, folder.path(), &name, more);
            steps(&run).iter().map(|step| number(step, "learning_rate")).collect()
        };
        let more = [&NEAR[..], &["guard.action=slow", "guard.slow_factor=0.25"]].concat();
        let (plain, slowed) = (rates("plain", &["guard.action=off"]), rates("slow", &more));
        assert_eq!(plain[0].to_bits(), slowed[0].to_bits(), "nothing is far before the first step");
        let last = (plain.last().unwrap(), slowed.last().unwrap());
        assert!((last.1 / last.0 - 0.25).abs() < 1e-12, "{last:?}");
    }
}

#[test]
fn what_is_watched_goes_on_bit_for_bit_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["guard.window=2", "guard.kl_max=1e-6", "guard.action=slow"];
    for (index, train) in ALL.into_iter().enumerate() {
        let (whole, ..) = run(train, folder.path(), &format!("whole{index}"), &more);
        let name = format!("killed{index}");
        run_until(train, folder.path(), &name, &more, &mut Recorder::new(After::Die(5)));
        let (killed, ..) = run(train, folder.path(), &name, &more);
        assert_eq!(metrics(&whole), metrics(&killed));
    }
}

#[test]
fn a_held_out_score_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = |more: &[&str]| {
        let list = ["run.dir=r", "model.path=m", "data.train=d", "train.steps=1"];
        let list = overrides(&[&list[..], more].concat());
        PpoConfig::load(&config(folder.path(), SAMPLED), &list).unwrap_err().to_string()
    };
    let score = "score=[{kind=\"contains\",text=\"a\"}]";
    for (held_out, expected) in [
        (
            "guard.held_out=gold",
            "`guard.held_out`: found \"gold\", expected the label of a [[score]]: contains",
        ),
        ("guard.held_out=contains", "with weight = 0"),
    ] {
        let error = error(&[score, held_out]);
        assert!(error.contains(expected), "{error}");
    }
    let limit = error(&["guard.outliers_max=-1"]);
    assert!(limit.contains("`guard.outliers_max`: found -1, expected a number from 0"), "{limit}");
    let action = error(&["guard.action=panic"]);
    assert!(action.contains("`guard.action`: found the text \"panic\""), "{action}");
}
