//! `hearken generate`.

use std::path::Path;

use serde_json::Value;

use crate::support::{FAMILIES, json_lines, model, names, run, write};

fn generate(family: &str, input: &str, more: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let input = write(folder.path(), "in.jsonl", input);
    let output = folder.path().join("out.jsonl");
    let mut arguments = vec!["generate".to_owned()];
    for (flag, path) in
        [("--model", model(family).as_path()), ("--input", &input), ("--output", &output)]
    {
        arguments.extend([flag.to_owned(), Path::display(path).to_string()]);
    }
    arguments.extend(more.iter().map(|&text| text.to_owned()));
    run(arguments).ok();
    assert_eq!(names(folder.path()), ["in.jsonl", "out.jsonl"]);
    json_lines(&output)
}

fn ids(line: &Value) -> Vec<u64> {
    line["completion_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
}

const PROMPTS: &str = "{\"prompt\": \"ROMEO:\"}\n{\"prompt_ids\": [5, 6, 7]}\n\
                       {\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}\n";

#[test]
fn every_family_completes_every_kind_of_prompt_in_order() {
    for family in FAMILIES {
        let more = ["--max-new-tokens", "6", "--temperature", "0", "--ignore-eos"];
        let lines = generate(family, PROMPTS, &more);
        assert_eq!(lines.len(), 3, "{family}");
        for line in &lines {
            assert_eq!(ids(line).len(), 6, "{family}");
            assert_eq!(line["logprobs"].as_array().unwrap().len(), 6);
            assert_eq!(line["stop_reason"], "length");
            assert!(line["completion"].is_string());
            assert!(line.get("sample").is_none());
        }
    }
}

#[test]
fn greedy_completions_do_not_depend_on_the_neighbors() {
    let more = ["--max-new-tokens", "8", "--temperature", "0"];
    let together = generate("gpt_neox", PROMPTS, &more);
    for (line, alone) in PROMPTS.lines().zip(&together) {
        assert_eq!(
            &generate("gpt_neox", &format!("{line}\n"), &more)[0]["completion_ids"],
            &alone["completion_ids"]
        );
    }
}

#[test]
fn samples_are_consecutive_and_numbered_and_the_seed_decides() {
    let more = ["--max-new-tokens", "5", "-n", "3", "--seed", "7"];
    let lines = generate("llama", PROMPTS, &more);
    let samples: Vec<u64> = lines.iter().map(|line| line["sample"].as_u64().unwrap()).collect();
    assert_eq!(samples, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    assert_eq!(lines, generate("llama", PROMPTS, &more));
    let other = generate("llama", PROMPTS, &["--max-new-tokens", "5", "-n", "3", "--seed", "8"]);
    assert_ne!(lines, other);
    assert_ne!(ids(&lines[0]), ids(&lines[1]));
}

#[test]
fn a_completion_ends_at_a_stop_text_which_its_text_lacks() {
    let free = &generate("qwen2", PROMPTS, &["--max-new-tokens", "12", "--temperature", "0"])[0];
    let text = free["completion"].as_str().unwrap();
    let stop = text.chars().find(char::is_ascii_graphic).unwrap().to_string();
    let more = ["--max-new-tokens", "12", "--temperature", "0", "--stop", &stop];
    let line = &generate("qwen2", PROMPTS, &more)[0];
    assert_eq!(line["stop_reason"], "stop_sequence");
    assert_eq!(line["completion"].as_str().unwrap(), &text[..text.find(&stop).unwrap()]);
    assert!(ids(line).len() <= ids(free).len());
}

#[test]
fn a_sampled_end_token_is_among_the_ids_and_not_in_the_text() {
    // With enough samples at a high temperature, a random model samples its end token.
    let more = ["--max-new-tokens", "200", "-n", "64", "--temperature", "3"];
    let lines = generate("llama", "{\"prompt_ids\": [5]}\n", &more);
    let ended: Vec<&Value> =
        lines.iter().filter(|line| line["stop_reason"] == "end_of_text").collect();
    assert!(!ended.is_empty());
    for line in ended {
        assert_eq!(ids(line).last(), Some(&0));
        assert!(!line["completion"].as_str().unwrap().contains("<|endoftext|>"));
    }
}

#[test]
fn a_file_that_could_not_be_written_is_refused_before_anything_is_sampled() {
    let folder = tempfile::tempdir().unwrap();
    let input = write(folder.path(), "in.jsonl", PROMPTS).display().to_string();
    let model = model("llama").display().to_string();
    let output = folder.path().join("nowhere/out.jsonl").display().to_string();
    let files = ["generate", "--model", &model, "--input", &input, "--output", &output];
    let error = run(files.into_iter().chain(["--max-new-tokens", "6"])).error();
    assert!(error.contains("there is no folder") && error.contains("nowhere"), "{error}");
    assert!(!error.contains("tokens/s"), "{error}");
}

/// The arguments of a greedy generation from `input` to `output`.
fn greedy(input: &Path, output: &Path, more: &[&str]) -> Vec<String> {
    let model = model("llama").display().to_string();
    let (input, output) = (input.display().to_string(), output.display().to_string());
    let files = ["generate", "--model", &model, "--input", &input, "--output", &output];
    let how = ["--max-new-tokens", "6", "--temperature", "0", "--ignore-eos"];
    files.iter().chain(&how).chain(more).map(|&text| text.to_owned()).collect()
}

#[test]
fn an_output_that_broke_off_goes_on_after_its_last_whole_line() {
    let folder = tempfile::tempdir().unwrap();
    let input = write(folder.path(), "in.jsonl", PROMPTS);
    let output = folder.path().join("out.jsonl");
    for more in [&["--keep"][..], &["-n", "2"]] {
        run(greedy(&input, &output, more)).ok();
        let whole = std::fs::read_to_string(&output).unwrap();
        let ends: Vec<usize> = whole.match_indices('\n').map(|(end, _)| end + 1).collect();
        for kept in [0, 10, ends[0], ends[1], ends[1] + 20, whole.len()] {
            std::fs::write(&output, &whole[..kept]).unwrap();
            run(greedy(&input, &output, &[more, &["--resume"]].concat())).ok();
            assert_eq!(std::fs::read_to_string(&output).unwrap(), whole, "{kept}");
        }
    }
    // What another command wrote does not go on.
    let error = run(greedy(&input, &output, &["--resume"])).error();
    assert!(error.contains("found 6 lines, expected at most the 3"), "{error}");
    std::fs::write(&output, "{\"logprobs\":[]}\n").unwrap();
    let error = run(greedy(&input, &output, &["--resume"])).error();
    assert!(error.contains("out.jsonl:1: is no line of this command"), "{error}");
    // Without --resume what is there is replaced.
    run(greedy(&input, &output, &[])).ok();
    assert_eq!(json_lines(&output).len(), 3);
    assert_eq!(names(folder.path()), ["in.jsonl", "out.jsonl"]);
}

#[test]
fn the_columns_of_the_input_are_kept_where_that_is_asked_for() {
    let lines = generate(
        "llama",
        "{\"id\": 7, \"prompt_ids\": [5], \"x\": null}\n",
        &["--max-new-tokens", "2", "--keep"],
    );
    assert_eq!((&lines[0]["id"], &lines[0]["prompt_ids"][0]), (&7.into(), &5.into()));
    assert!(lines[0]["x"].is_null() && lines[0].get("x").is_some() && ids(&lines[0]).len() <= 2);

    let folder = tempfile::tempdir().unwrap();
    let text = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    let input = write(folder.path(), "in.jsonl", text);
    let error = run(greedy(&input, &folder.path().join("out.jsonl"), &["--keep"])).error();
    assert!(error.contains("in.jsonl:1: found a column `completion`, which the output has too"));
}

#[test]
fn standard_input_and_output_serve_as_files() {
    let standard = Path::new("-");
    let ran = crate::support::run_with_input(greedy(standard, standard, &[]), PROMPTS).ok();
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (write(folder.path(), "in.jsonl", PROMPTS), folder.path().join("out"));
    run(greedy(&input, &output, &[])).ok();
    assert_eq!(ran.stdout, std::fs::read_to_string(output).unwrap());
    let ran = crate::support::run_with_input(greedy(standard, standard, &[]), "{}\n").error();
    assert!(ran.starts_with("standard input:1: "), "{ran}");
}

#[test]
fn prompts_are_never_overwritten_by_their_completions() {
    let folder = tempfile::tempdir().unwrap();
    let input = write(folder.path(), "in.jsonl", PROMPTS);
    let error = run(greedy(&input, &input, &[])).error();
    assert!(error.contains("which is read; expected another file"), "{error}");
    assert_eq!(std::fs::read_to_string(&input).unwrap(), PROMPTS);
}

#[test]
fn a_prompt_without_room_for_a_completion_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let prompt = |tokens: usize| format!("{{\"prompt_ids\": {:?}}}\n", vec![5; tokens]);
    let input = write(folder.path(), "in.jsonl", &(prompt(250) + &prompt(256)));
    let output = folder.path().join("out.jsonl");
    let error = run(greedy(&input, &output, &[])).error();
    assert!(error.contains("in.jsonl:2: found a prompt of 256 tokens, which leaves no room"));
    let input = write(folder.path(), "in.jsonl", &prompt(252));
    run(greedy(&input, &output, &[])).ok();
    let line = &json_lines(&output)[0];
    assert_eq!((ids(line).len(), line["stop_reason"].as_str().unwrap()), (4, "positions"));
}
