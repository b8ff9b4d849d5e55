use super::*;
use crate::outcome::{Evaluation, Figure, PolicyComparison, SideBySide, StageSummary};
use hearken_stats::mean::normal_mean;

fn evaluation() -> Evaluation {
    let (before, after) = ([0.0, 1.0, 2.0], [2.0, 2.5, 4.0]);
    let difference: Vec<f64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    Evaluation {
        prompts: 3,
        before: "SFT".to_owned(),
        after: "PPO".to_owned(),
        quantities: vec![PolicyComparison {
            quantity: "gold".to_owned(),
            before: normal_mean(&before).unwrap(),
            after: normal_mean(&after).unwrap(),
            difference: normal_mean(&difference).unwrap(),
        }],
        win_rate: hearken_stats::proportion::wilson(3.0, 3),
        win_rate_by: "gold".to_owned(),
        kl_nats: normal_mean(&[4.0, 5.0, 6.0]).unwrap(),
        kl_limit_nats: Some(10.0),
        examples: vec![SideBySide {
            prompt: "Review of the <script>alert(1)</script>:".to_owned(),
            before: "It was \"ok\" & dry.".to_owned(),
            after: "It was lovely.".to_owned(),
            scores_before: vec![Figure::new("gold", 0.5)],
            scores_after: vec![Figure::new("gold", 1.5)],
        }],
    }
}

fn ppo_metrics() -> String {
    (1..=30)
        .map(|step| {
            let x = f64::from(step);
            format!(
                "{{\"step\": {step}, \"loss\": {}, \"grad_norm\": 1, \"objective/kl\": {}, \
                 \"objective/scores\": {}, \"scores/model\": {}, \"scores/quickstart_gold\": {}, \
                 \"completions/mean_length\": 20}}",
                1.0 / x,
                x / 3.0,
                x / 10.0,
                x / 10.0,
                x / 20.0
            )
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// A run of three stages, all that a report can show.
fn rlhf_run(folder: &Path) {
    for stage in ["sft", "ppo"] {
        fs::create_dir(folder.join(stage)).unwrap();
    }
    let sft = "{\"step\": 1, \"loss\": 2.0}\n{\"step\": 2, \"loss\": 1.5}\n{\"step\": 2, \"eval_loss\": 1.7}\n";
    fs::write(folder.join("sft/metrics.jsonl"), sft).unwrap();
    let samples = "{\"step\": 1, \"prompt\": \"p\", \"completion\": \"<b>\"}\n";
    fs::write(folder.join("sft/samples.jsonl"), samples).unwrap();
    fs::write(folder.join("ppo/metrics.jsonl"), ppo_metrics()).unwrap();
    fs::write(folder.join("config.toml"), "[run]\ndir = \"a&b\"\n").unwrap();
    let outcome = PolicyComparisons {
        stages: vec![StageSummary {
            name: "sft".to_owned(),
            tokens: 12_345,
            flops: 3.2e12,
            seconds: 4.25,
            peak_memory_bytes: Some(150_000_000),
            bought: vec![Figure::new("eval_loss", 1.7)],
        }],
        evaluation: Some(evaluation()),
    };
    fs::write(folder.join("outcome.json"), serde_json::to_string(&outcome).unwrap()).unwrap();
}

#[test]
fn a_run_of_several_stages_shows_curves_tables_and_texts() {
    let folder = tempfile::tempdir().unwrap();
    rlhf_run(folder.path());
    let html = fs::read_to_string(write(folder.path()).unwrap()).unwrap();
    for part in [
        "Scores against KL to the reference",
        "quickstart_gold",
        "Length of completions",
        "12345",
        "3.2 T",
        "150 MB",
        "It was lovely.",
        "1.833",
        "n=3",
        "the limit is 10",
        "prefers-color-scheme: dark",
    ] {
        assert!(html.contains(part), "no {part}");
    }
    // Charts without data are not there at all.
    assert!(!html.contains("Explained variance"));
}

#[test]
fn text_is_text_and_nothing_is_loaded_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    rlhf_run(folder.path());
    let html = fs::read_to_string(write(folder.path()).unwrap()).unwrap();
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && html.contains("a&amp;b"));
    assert!(html.contains("&quot;ok&quot; &amp; dry"));
    for forbidden in ["<script", "<link", "@import", "url(", " src=", " href="] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    let addresses = html.matches("http").count();
    assert_eq!(addresses, html.matches("xmlns=\"http://www.w3.org/2000/svg\"").count());
}

#[test]
fn a_single_trainer_has_a_report_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("metrics.jsonl"), ppo_metrics()).unwrap();
    let html = fs::read_to_string(write(folder.path()).unwrap()).unwrap();
    assert!(html.contains("<circle") && html.contains("<polyline"));
}

/// GRPO has other names for its scores than PPO.
#[test]
fn scores_against_kl_are_drawn_for_groups_too() {
    let folder = tempfile::tempdir().unwrap();
    let record = |step: u32| {
        let x = f64::from(step);
        format!(
            "{{\"step\": {step}, \"loss\": 0, \"objective/kl\": {x}, \"reward\": {}, \
             \"rewards/proxy\": 1, \"rewards/proxy/mean\": {}, \"rewards/proxy/std\": 1, \
             \"rewards/gold/mean\": {}}}\n",
            0.5 * x,
            0.6 * x,
            0.3 * x
        )
    };
    let text: String = (1..=20).map(record).collect();
    fs::write(folder.path().join("metrics.jsonl"), text).unwrap();
    let html = fs::read_to_string(write(folder.path()).unwrap()).unwrap();
    let start = html.find("<figcaption>Scores against KL").expect("the chart is there");
    let figure = &html[start..start + html[start..].find("</figure>").unwrap()];
    for name in ["> optimized</li>", "> proxy</li>", "> gold</li>"] {
        assert!(figure.contains(name), "{name} in {figure}");
    }
    assert_eq!(figure.matches("<circle").count(), 60);
}

/// A page that is wanted elsewhere is written there and nowhere else.
#[test]
fn a_page_goes_where_it_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("metrics.jsonl"), ppo_metrics()).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("page.html");
    write_to(folder.path(), &path).unwrap();
    assert!(fs::read_to_string(&path).unwrap().starts_with("<!DOCTYPE html>"));
    assert!(!folder.path().join("report.html").exists());
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = write(folder.path()).unwrap_err();
    assert!(matches!(error, ReportError::NoRun { .. }), "{error}");
    fs::write(folder.path().join("metrics.jsonl"), "{\"step\": 1}\nnonsense\n").unwrap();
    let error = write(folder.path()).unwrap_err().to_string();
    assert!(error.contains("metrics.jsonl:2"), "{error}");
}

#[test]
fn a_run_that_evaluations_ended_says_when_and_by_what() {
    let folder = tempfile::tempdir().unwrap();
    let evaluations = |losses: &[f64]| {
        let line = |(at, loss): (usize, &f64)| {
            format!(
                "{{\"step\": {}, \"eval_loss\": {{\"value\": {loss}, \"low\": 0, \"high\": 9}}}}\n",
                10 * at
            )
        };
        losses.iter().enumerate().map(line).collect::<String>()
    };
    let page = |losses: &[f64], train: &str| {
        fs::write(folder.path().join("metrics.jsonl"), evaluations(losses)).unwrap();
        fs::write(folder.path().join("config.toml"), format!("[train]\n{train}")).unwrap();
        fs::read_to_string(write(folder.path()).unwrap()).unwrap()
    };
    let patience = "early_stopping_patience = 2\nsteps = 100\n";
    let html = page(&[3.0, 1.5, 2.0, 1.75], patience);
    let expected = "Stopped early, after step 30 of 100: 2 evaluations in a row without a better eval_loss; \
                    the best is 1.5000, of step 10.";
    assert!(html.contains(expected), "{html}");
    // It went on; it came to its end; nobody waits; what falls is the better one.
    assert!(!page(&[3.0, 1.5, 2.0], patience).contains("Stopped early"));
    assert!(
        !page(&[3.0, 1.5, 2.0, 1.75], &patience.replace("100", "30")).contains("Stopped early")
    );
    assert!(!page(&[3.0, 1.5, 2.0, 1.75], "steps = 100\n").contains("Stopped early"));
    let greater =
        format!("{patience}metric_for_best_model = 'eval_loss'\ngreater_is_better = true\n");
    assert!(page(&[3.0, 1.5, 2.0], &greater).contains("the best is 3.0000, of step 0."));
}
