//! Preference optimization of sampled completions that a judge compares.

use std::path::Path;
use std::time::Duration;

use crate::support::{
    After, Recorder, SAMPLED, config, metrics, number, overrides, sampled, steps,
};
use hearken_config::Configuration;
use hearken_judge::JudgeError;
use hearken_judge::pairwise::{CompletionPair, PairwiseJudge, Preferences};
use hearken_reward_source::{Closure, RolloutView, WeightedSum};
use hearken_run::error::TrainError;
use hearken_run::run::{RunOutcome, Status};
use hearken_run::run_dir::Start;
use hearken_tensor::Cpu;
use hearken_testing::chat::{ChatReceived, Reply, Stub};
use hearken_train::dpo::online::{Opinions, run_with};
use hearken_train::dpo::{self, DpoConfig};
use hearken_train::grpo::{self, GrpoConfig};
use serde_json::Value;

/// The share of a text's characters whose code is even.
fn even_share(text: &str) -> f64 {
    let count = text.chars().count().max(1);
    text.chars().filter(|c| u32::from(*c).is_multiple_of(2)).count() as f64 / count as f64
}

fn watched() -> WeightedSum<'static> {
    let share = |rollout: &RolloutView<'_>| Ok(even_share(rollout.completion));
    WeightedSum::new().with(Closure::new("even", share), 1.0)
}

/// Prefers what has the greater share, or has no opinion where the closure says so.
struct Greater<F>(F);

impl<F: FnMut() -> bool + Send> PairwiseJudge for Greater<F> {
    fn name(&self) -> &'static str {
        "greater"
    }

    fn judge(&mut self, comparisons: &[CompletionPair<'_>]) -> Result<Preferences, JudgeError> {
        let preferred = |comparison: &CompletionPair<'_>| {
            let [a, b] = comparison.completions.map(even_share);
            let p = if b < a { 1.0 } else { 0.5 };
            (!(self.0)()).then_some(if a < b { 0.0 } else { p })
        };
        let asked = comparisons.len();
        let probabilities: Vec<_> = comparisons.iter().map(preferred).collect();
        let unreadable = probabilities.iter().filter(|p| p.is_none()).count();
        Ok(Preferences { probabilities, asked, unreadable, ..Preferences::default() })
    }
}

fn train_with(
    run: &Path,
    more: &[&str],
    judge: &mut dyn PairwiseJudge,
) -> Result<RunOutcome, TrainError> {
    let loaded = DpoConfig::load(&config(run.parent().unwrap(), SAMPLED), &sampled(run, more))?;
    let mut sources = watched();
    let opinions = Opinions { sources: &mut sources, judge: Some(judge) };
    run_with(Cpu::new(), &loaded, Start::Resume, opinions, &mut Recorder::new(After::GoOn))
}

/// Mean share in the first and in the last five steps.
fn ends(records: &[Value]) -> (f64, f64) {
    let mean = |records: &[Value]| {
        records.iter().map(|r| number(r, "scores/even")).sum::<f64>() / records.len() as f64
    };
    (mean(&records[..5]), mean(&records[records.len() - 5..]))
}

/// A judge that prefers what is asked of nobody but it teaches the policy just that.
#[test]
fn what_a_judge_prefers_is_learned() {
    for more in [
        &["dpo.online=dpo", "train.steps=60"][..],
        &["dpo.online=xpo", "rollout.completions=1", "train.steps=80"],
        &["dpo.online=nash_md", "dpo.beta=0.01", "train.batch_size=16", "train.steps=80"],
        &["dpo.online=best_of_n", "rollout.completions=4", "train.steps=60"],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        train_with(&run, more, &mut Greater(|| false)).unwrap();
        let (first, last) = ends(&steps(&run));
        assert!(first + 0.1 < last, "{more:?}: from {first} to {last}");
    }
}

/// Says which of two texts has the greater share, after a word, to a question `a␞b`.
fn verdict(request: &ChatReceived) -> Reply {
    let messages = request.body["messages"].as_array().unwrap();
    let text = messages.last().unwrap()["content"].as_str().unwrap();
    let (a, b) = text.split_once('\u{241E}').unwrap();
    let word = if even_share(b) < even_share(a) { "[[A]]" } else { "[[B]]" };
    Reply::words(&["Well: ", word], Duration::ZERO)
}

#[test]
fn a_language_model_behind_an_api_teaches_what_it_prefers() {
    let folder = tempfile::tempdir().unwrap();
    let (run, stub) = (folder.path().join("run"), Stub::start(verdict));
    let url = format!("judge.base_url={}", stub.url());
    let more = [
        "dpo.online=dpo",
        "train.steps=40",
        "judge.kind=openai",
        "judge.model=m",
        "judge.question={a}\u{241E}{b}",
        &url,
    ];
    let loaded = DpoConfig::load(&config(folder.path(), SAMPLED), &sampled(&run, &more)).unwrap();
    let progress = &mut Recorder::new(After::GoOn);
    let outcome = dpo::run(Cpu::new(), &loaded, Start::Resume, progress).unwrap();
    assert_eq!((outcome.status, outcome.steps), (Status::Finished, 40));
    let records = steps(&run);
    let late = &records[records.len() - 5..];
    for record in &records {
        assert!(number(record, "judge/unreadable").abs() < f64::MIN_POSITIVE);
        // Equal shares are B in either order.
        assert!(0.5 < number(record, "judge/order_agreement"));
    }
    // The policy comes to write what is preferred to the reference's.
    let margins = late.iter().map(|record| number(record, "rewards/margins")).sum::<f64>();
    assert!(0.0 < margins, "{margins}");
    let kl = late.iter().map(|record| number(record, "objective/kl")).sum::<f64>();
    assert!(0.1 < kl, "{kl}");
    assert!(stub.requests().len() <= 40 * 8 * 2);
}

/// Where the judge has no opinion nothing is learned, and where it has none at all the run ends and is
/// kept.
#[test]
fn comparisons_without_an_opinion_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    for (method, completions) in [("dpo", 3), ("xpo", 1), ("nash_md", 1), ("best_of_n", 2)] {
        let run = folder.path().join(method);
        let more = [
            &format!("dpo.online={method}"),
            &format!("rollout.completions={completions}"),
            "online.minibatches=2",
            "train.batch_size=3",
        ];
        let mut count = 0;
        let mut judge = Greater(|| {
            count += 1;
            count % 2 == 0
        });
        train_with(&run, &more, &mut judge).unwrap();
        let records = steps(&run);
        assert_eq!(records.len(), 12);
        assert!(records.iter().any(|record| 0.0 < number(record, "judge/dropped")));
        if method != "dpo" && method != "best_of_n" {
            assert!(records.iter().any(|record| number(record, "trained") < 6.0), "{method}");
        }
        let run = folder.path().join(format!("{method}-none"));
        let mut judge = Greater(|| true);
        let error = train_with(&run, &more, &mut judge).unwrap_err().to_string();
        assert!(error.contains("greater") && error.contains("winner in none"), "{error}");
    }
}

#[test]
fn a_judge_that_fails_loses_nothing() {
    struct Fails(usize);
    impl PairwiseJudge for Fails {
        fn name(&self) -> &'static str {
            "fails"
        }
        fn judge(&mut self, comparisons: &[CompletionPair<'_>]) -> Result<Preferences, JudgeError> {
            if self.0 == 0 {
                let (judge, reason) = ("fails".to_owned(), "the line is dead".to_owned());
                return Err(JudgeError::Broken { judge, reason });
            }
            self.0 -= 1;
            Greater(|| false).judge(comparisons)
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    train_with(&whole, &["dpo.online=dpo"], &mut Fails(12)).unwrap();
    let error = train_with(&parts, &["dpo.online=dpo"], &mut Fails(7)).unwrap_err();
    assert!(matches!(error, TrainError::Kept { step: 7, .. }), "{error}");
    assert!(error.to_string().contains("the line is dead"), "{error}");
    // Where the judge lives may differ.
    train_with(&parts, &["dpo.online=dpo", "judge.timeout_s=5"], &mut Fails(5)).unwrap();
    assert_eq!(metrics(&parts), metrics(&whole));
}

#[test]
fn contradictions_are_named_early() {
    let folder = tempfile::tempdir().unwrap();
    let base = ["run.dir=x", "model.path=y", "data.train=z", "train.steps=1"];
    let program = ["judge.kind=command", "judge.program=p"];
    let chat = ["dpo.online=dpo", "judge.kind=openai", "judge.base_url=http://x"];
    for (more, parts) in [
        (&["judge.program=p", "dpo.online=dpo"][..], &["judge.kind", "\"command\""][..]),
        (&["judge.kind=llm", "dpo.online=dpo"], &["judge.kind"]),
        (&["judge.kind=command", "dpo.online=dpo"], &["judge.program"]),
        (&chat, &["judge.model"]),
        (
            &[&chat[..], &["judge.model=m", "judge.program=p"]].concat(),
            &["judge.program", "openai"],
        ),
        (
            &[&chat[..], &["judge.model=m", "judge.question={a}?"]].concat(),
            &["judge.question", "`{b}`"],
        ),
        (&[&chat[..], &["judge.model=m", "judge.parallel=0"]].concat(), &["judge.parallel"]),
        (&[&chat[..], &["judge.model=m", "judge.timeout_s=0"]].concat(), &["judge.timeout_s"]),
        (&[&program[..], &["dpo.online=spin"]].concat(), &["judge", "dpo.online"]),
        (&[&program[..], &["dpo.online=raft", "rollout.completions=4"]].concat(), &["judge"]),
        (&program, &["judge", "without dpo.online"]),
        (
            &[&program[..], &["dpo.online=dpo", "online.missing_end_penalty=1"]].concat(),
            &["online.missing_end_penalty"],
        ),
        (
            &[&program[..], &["dpo.online=dpo", "judge.both_order=true"]].concat(),
            &["judge.both_orders"],
        ),
    ] {
        let list = overrides(&[&base[..], more].concat());
        let error = DpoConfig::load(&config(folder.path(), ""), &list).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{more:?}: no {part} in {error}");
        }
    }
}

#[test]
fn a_key_that_is_not_set_is_named_before_anything_is_sampled() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let more = [
        "dpo.online=dpo",
        "judge.kind=anthropic",
        "judge.base_url=http://127.0.0.1:9",
        "judge.model=m",
        "judge.key_env=HEARKEN_NO_SUCH_KEY",
    ];
    let loaded = DpoConfig::load(&config(folder.path(), SAMPLED), &sampled(&run, &more)).unwrap();
    let progress = &mut Recorder::new(After::GoOn);
    let error = dpo::run(Cpu::new(), &loaded, Start::Resume, progress).unwrap_err().to_string();
    assert!(error.contains("HEARKEN_NO_SUCH_KEY") && error.contains("judge.key_env"), "{error}");
}

/// A number of the scale by the share, after a second character nothing that can be read.
fn rating(request: &ChatReceived) -> Reply {
    let messages = request.body["messages"].as_array().unwrap();
    let completion = messages.last().unwrap()["content"].as_str().unwrap();
    let number = 1 + (4.0 * even_share(completion)).round() as u64;
    let is_odd = completion.len().is_multiple_of(7);
    let text = if is_odd { "who knows".to_owned() } else { format!("[[{number}]]") };
    let choice = serde_json::json!({ "message": { "content": text }, "finish_reason": "stop" });
    Reply::status(200, serde_json::json!({ "model": "m", "choices": [choice] }).to_string())
}

/// The settings of a run on groups.
fn grouped() -> String {
    SAMPLED.replace("batch_size = 8\n", "")
}

fn rated(folder: &Path, run: &Path, url: &str) -> Result<RunOutcome, TrainError> {
    let judges = folder.join("judge.toml");
    let text = format!(
        "[ask]\ntask = 'rate'\nmethod = 'verdict'\n[template]\nrating = '{{answer}}'\nscale = 5\n\
         [[judge]]\nkind = 'openai'\nbase_url = '{url}'\nmodel = 'm'\n"
    );
    std::fs::write(&judges, text).unwrap();
    let scores = format!(
        "{}\n[[score]]\nkind = 'judge'\nlabel = 'taste'\nconfig = '{}'\nanswers = '{}'\n",
        grouped(),
        judges.display(),
        folder.join("answers.jsonl").display()
    );
    let more = sampled(run, &["train.steps=40", "rollout.completions=4"]);
    let loaded = GrpoConfig::load(&config(folder, &scores), &more)?;
    grpo::run(Cpu::new(), &loaded, Start::Resume, &mut Recorder::new(After::GoOn))
}

#[test]
fn ratings_of_a_language_model_are_a_reward_and_nothing_is_asked_twice() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(rating);
    let run = folder.path().join("run");
    rated(folder.path(), &run, &stub.url()).unwrap();
    let records = steps(&run);
    let mean = |of: &[Value], key: &str| {
        of.iter().map(|record| number(record, key)).sum::<f64>() / of.len() as f64
    };
    let (first, last) = (&records[..5], &records[35..]);
    let (before, after) = (mean(first, "rewards/taste/mean"), mean(last, "rewards/taste/mean"));
    assert!(before + 0.3 < after, "from {before} to {after}");
    let unreadable = mean(&records, "rewards/taste/unreadable/mean");
    assert!(0.0 < unreadable && unreadable < 0.6, "{unreadable}");
    let asked = stub.requests().len();
    let again = folder.path().join("again");
    rated(folder.path(), &again, &stub.url()).unwrap();
    assert_eq!(stub.requests().len(), asked, "the same completions were asked about before");
    assert_eq!(mean(&steps(&again)[35..], "rewards/taste/mean").to_bits(), after.to_bits());
}

#[test]
fn judges_that_do_not_rate_are_no_score() {
    let folder = tempfile::tempdir().unwrap();
    let judges = folder.path().join("judge.toml");
    let scores =
        format!("{}\n[[score]]\nkind = 'judge'\nconfig = '{}'\n", grouped(), judges.display());
    for (text, expected) in [
        ("[[judge]]\nkind = 'openai'\nbase_url = 'http://x'\nmodel = 'm'\n", "`ask.task`"),
        ("ask.task = 'rate'\n[[judge]]\nkind = 'reward'\npath = 'x'\n", "\"reward\""),
        ("ask.task = 'rate'\n[[judge]]\nkind = 'local'\npath = 'x'\n", "x/config.json"),
        ("ask.tusk = 'rate'\n", "judge.toml:1"),
    ] {
        std::fs::write(&judges, text).unwrap();
        let more = sampled(&folder.path().join("run"), &["train.steps=1"]);
        let loaded = GrpoConfig::load(&config(folder.path(), &scores), &more).unwrap();
        let ran = grpo::run(Cpu::new(), &loaded, Start::Resume, &mut Recorder::new(After::GoOn));
        let error = ran.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
