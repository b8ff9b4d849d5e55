//! `hearken rlhf`, `report` and `doctor` on a quickstart that is cut short.

use std::fs;
use std::path::Path;

use crate::support::{Ran, metrics, run, set, workspace};

/// Sizes at which the whole run takes seconds.
const SHORT: [&str; 22] = [
    "quickstart.demonstrations=200",
    "quickstart.preferences=120",
    "quickstart.preferences_eval=40",
    "quickstart.prompts_eval=16",
    "quickstart.model.width=32",
    "quickstart.model.layers=1",
    "quickstart.model.heads=2",
    "quickstart.model.inner=64",
    "sft.train.batch_size=16",
    "sft.train.steps=12",
    "sft.train.eval_every=6",
    "sft.train.sample_every=6",
    "reward.train.batch_size=16",
    "reward.train.steps=6",
    "reward.train.eval_every=3",
    "ppo.train.batch_size=16",
    "ppo.train.steps=6",
    "ppo.train.sample_every=3",
    "ppo.rollout.max_new_tokens=12",
    "evaluation.prompts=16",
    "evaluation.examples=2",
    "ppo.kl.target=1.0",
];

fn rlhf(run_dir: &Path, more: &[&str]) -> Ran {
    let arguments = short_quickstart(run_dir, more);
    run(["rlhf".to_owned()].into_iter().chain(arguments))
}

/// What follows the name of a command that reads the quickstart's configuration, cut short.
pub(crate) fn short_quickstart(run_dir: &Path, more: &[&str]) -> Vec<String> {
    let config = workspace().join("configs/quickstart.toml");
    let mut arguments = vec![config.display().to_string()];
    for pair in SHORT.iter().chain(more) {
        arguments.extend(["--set".to_owned(), (*pair).to_owned()]);
    }
    arguments.extend(set("run.dir", run_dir));
    arguments
}

#[test]
fn ranks_that_would_not_be_started_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["rlhf", "rlaif", "check"] {
        let arguments = short_quickstart(folder.path(), &[]);
        let more = ["--ranks".to_owned(), "2".to_owned()];
        let ran = run([command.to_owned()].into_iter().chain(arguments).chain(more));
        let expected =
            format!("--ranks: found 2, expected none: `hearken {command}` is one process");
        assert!(ran.error().contains(&expected));
    }
}

#[test]
fn the_stages_run_in_order_are_skipped_when_nothing_changed_and_redone_when_something_did() {
    let folder = tempfile::tempdir().unwrap();
    let run_dir = folder.path().join("run");
    let first = rlhf(&run_dir, &[]).ok();
    for word in ["sft", "reward", "ppo", "win rate", "KL to", "report:"] {
        assert!(first.stdout.contains(word), "{word} in {}", first.stdout);
    }
    let page = fs::read_to_string(run_dir.join("report.html")).unwrap();
    assert!(page.contains("<svg"));
    for outside in ["src=\"http", "href=\"http", "url(http", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }

    // Nothing to do: not a weight is touched, and the table is the same.
    let changed = |name: &str| fs::metadata(run_dir.join(name)).unwrap().modified().unwrap();
    let weights =
        ["sft/final", "reward/final", "ppo/final"].map(|dir| format!("{dir}/model.safetensors"));
    let before = weights.each_ref().map(|name| changed(name));
    let again = rlhf(&run_dir, &[]).ok();
    assert_eq!(before, weights.each_ref().map(|name| changed(name)));
    assert_eq!(first.stdout, again.stdout);

    // A change of PPO's settings leaves the stages before it alone.
    rlhf(&run_dir, &["ppo.kl.beta=0.2"]).ok();
    let after = weights.each_ref().map(|name| changed(name));
    assert_eq!(before[..2], after[..2]);
    assert_ne!(before[2], after[2]);
    assert_eq!(
        metrics(&run_dir.join("ppo")).iter().filter(|record| record.get("loss").is_some()).count(),
        6
    );

    report_and_doctor(&run_dir);
}

fn report_and_doctor(run_dir: &Path) {
    let page = run_dir.with_file_name("page.html");
    let ran =
        run(["report".as_ref(), run_dir.as_os_str(), "--output".as_ref(), page.as_os_str()]).ok();
    assert_eq!(ran.stdout.trim(), page.display().to_string());
    assert!(page.exists());
    let text = run(["doctor".as_ref(), run_dir.as_os_str()]).ok().stdout;
    for word in ["sft: 12 steps", "reward: 6 steps", "ppo: 6 steps", "the ratio is 1.0000"] {
        assert!(text.contains(word), "{word} in {text}");
    }
}

#[test]
fn a_folder_without_a_run_gives_no_report() {
    let folder = tempfile::tempdir().unwrap();
    let error = run(["report".as_ref(), folder.path().as_os_str()]).error();
    assert!(error.contains("expected a run directory"), "{error}");
}
