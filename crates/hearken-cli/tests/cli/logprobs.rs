//! `hearken logprobs`.

use std::path::Path;

use crate::support::{FAMILIES, Ran, hearken, json_lines, model, names, run, write};

fn logprobs(family: &str, input: &Path, output: &Path, more: &[&str]) -> Ran {
    let model = model(family);
    let mut arguments = vec![
        "logprobs".to_owned(),
        "--model".to_owned(),
        model.display().to_string(),
        "--input".to_owned(),
        input.display().to_string(),
        "--output".to_owned(),
        output.display().to_string(),
    ];
    arguments.extend(more.iter().map(|&text| text.to_owned()));
    run(arguments)
}

fn values(output: &Path) -> Vec<Vec<f64>> {
    let lines = json_lines(output);
    lines.iter().map(|line| serde_json::from_value(line["logprobs"].clone()).unwrap()).collect()
}

const INPUT: &str = "{\"text\": \"To be, or not to be\"}\n{\"input_ids\": [5, 6, 7, 8]}\n\
                     {\"input_ids\": [9]}\n{\"input_ids\": [10, 11]}\n";

#[test]
fn one_line_for_each_with_one_number_less_than_tokens_in_every_family() {
    for family in FAMILIES {
        let folder = tempfile::tempdir().unwrap();
        let input = write(folder.path(), "in.jsonl", INPUT);
        let output = folder.path().join("out.jsonl");
        logprobs(family, &input, &output, &[]).ok();
        let values = values(&output);
        let counts: Vec<usize> = values.iter().skip(1).map(Vec::len).collect();
        assert_eq!(counts, [3, 0, 1], "{family}");
        assert!(values.iter().flatten().all(|value| value.is_finite() && *value < 0.0), "{family}");
        assert_eq!(names(folder.path()), ["in.jsonl", "out.jsonl"]);
    }
}

#[test]
fn the_size_of_microbatches_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let input = write(folder.path(), "in.jsonl", INPUT);
    let (one, other) = (folder.path().join("one.jsonl"), folder.path().join("other.jsonl"));
    logprobs("qwen3", &input, &one, &[]).ok();
    logprobs("qwen3", &input, &other, &["--microbatch-tokens", "4"]).ok();
    for (one, other) in values(&one).iter().flatten().zip(values(&other).iter().flatten()) {
        assert!((one - other).abs() < 1e-5, "{one} and {other}");
    }
}

/// The slow device is there for users too: what it computes is right, whatever the processor's kernels do.
#[test]
fn the_reference_gives_what_the_processor_gives() {
    for family in FAMILIES {
        let folder = tempfile::tempdir().unwrap();
        let input = write(folder.path(), "in.jsonl", INPUT);
        let (fast, slow) = (folder.path().join("fast.jsonl"), folder.path().join("slow.jsonl"));
        logprobs(family, &input, &fast, &[]).ok();
        let directory = model(family);
        let arguments = [
            "logprobs".as_ref(),
            "--model".as_ref(),
            directory.as_os_str(),
            "--input".as_ref(),
            input.as_os_str(),
            "--output".as_ref(),
            slow.as_os_str(),
        ];
        let ran = hearken(arguments).env("HEARKEN_DEVICE", "reference").output().unwrap();
        assert!(ran.status.success(), "{family}: {}", String::from_utf8_lossy(&ran.stderr));
        let (fast, slow) = (values(&fast), values(&slow));
        let lengths = |of: &[Vec<f64>]| of.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(&fast), lengths(&slow), "{family}");
        assert_ne!(fast, slow, "{family}: computed in another way");
        for (fast, slow) in fast.iter().flatten().zip(slow.iter().flatten()) {
            assert!((fast - slow).abs() < 1e-5, "{family}: {fast} and {slow}");
        }
    }
}

#[test]
fn what_does_not_fit_the_model_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let input = write(folder.path(), "in.jsonl", "{\"input_ids\": [5]}\n{\"input_ids\": [384]}\n");
    let error = logprobs("llama", &input, &output, &[]).error();
    assert!(
        error.ends_with(
            "in.jsonl:2: found token id 384, expected less than the model's vocabulary of 384"
        ),
        "{error}"
    );
    let long: Vec<u32> = vec![5; 300];
    let input = write(folder.path(), "in.jsonl", &format!("{{\"input_ids\": {long:?}}}\n"));
    let error = logprobs("llama", &input, &output, &[]).error();
    assert!(
        error.contains("in.jsonl:1: found 300 tokens, expected at most the model's 256 positions"),
        "{error}"
    );
    assert!(!output.exists());
}

#[test]
fn a_file_that_could_not_be_written_is_refused_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("nowhere/out.jsonl");
    let error = logprobs("llama", &folder.path().join("absent.jsonl"), &output, &[]).error();
    assert!(error.contains("there is no folder") && error.contains("nowhere"), "{error}");
}
