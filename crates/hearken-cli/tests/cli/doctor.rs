//! `hearken doctor`.

use crate::support::{hearken, model, run, write};

#[test]
fn the_machine_is_described() {
    let text = run(["doctor"]).ok().stdout;
    for word in ["processor", "threads", "kernels", "GFLOP/s", "memory", "disk"] {
        assert!(text.contains(word), "{word} in {text}");
    }
}

/// Exit code, standard output and standard error of `hearken doctor` with a variable.
fn doctor_with(variable: &str, value: &str) -> (Option<i32>, String, String) {
    let output = hearken(["doctor"]).env(variable, value).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_lower_family_of_kernels_can_be_forced_and_is_named() {
    let (code, text, _) = doctor_with("HEARKEN_KERNELS", "portable");
    assert_eq!(code, Some(0));
    assert!(text.contains("\nkernels     portable, "), "{text}");
    let (code, _, error) = doctor_with("HEARKEN_KERNELS", "sse9");
    assert_eq!(code, Some(1));
    assert!(
        error.contains("HEARKEN_KERNELS: no kernels are called \"sse9\", but portable"),
        "{error}"
    );
}

#[test]
fn a_device_that_there_is_not_is_refused_with_the_names_of_those_there_are() {
    let (code, _, error) = doctor_with("HEARKEN_DEVICE", "tpu");
    assert_eq!(code, Some(1));
    assert!(
        error.contains(
            "HEARKEN_DEVICE: found the device \"tpu\", expected \"cpu\" or \"reference\""
        ),
        "{error}"
    );
}

fn data(name: &str, text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), name, text);
    let model = model("llama");
    run(["doctor", "--data", path.to_str().unwrap(), "--model", model.to_str().unwrap()])
        .ok()
        .stdout
}

#[test]
fn what_is_trained_on_is_marked_and_the_end_token_is_part_of_it() {
    let text = data("a.jsonl", "{\"prompt\": \"Who? \", \"completion\": \"Me.\"}\n");
    let example = text.lines().find(|line| line.starts_with('|'));
    let example = example.unwrap_or_else(|| panic!("{text}"));
    let (prompt, completion) = example.split_once('«').unwrap();
    assert!(!prompt.contains('M') && completion.ends_with("«<|endoftext|>»"), "{example}");
    assert!(text.contains("1 demonstrations"), "{text}");
}

#[test]
fn preferences_and_prompts_are_known_by_their_columns() {
    let pair = "{\"prompt\": \"Who? \", \"chosen\": \"Me.\", \"rejected\": \"You.\"}\n";
    let text = data("pairs.jsonl", pair);
    assert!(text.contains("1 preferences") && text.contains('‹'), "{text}");
    let text = data("prompts.jsonl", "{\"prompt\": \"Who?\"}\n");
    assert!(text.contains("1 prompts"), "{text}");
}

#[test]
fn examples_that_never_learn_to_stop_are_counted() {
    let text = data("ids.jsonl", "{\"prompt_ids\": [5, 6], \"completion_ids\": [7, 8]}\n");
    assert!(text.contains("look: 1 do not end"), "{text}");
    let text = data("ids.jsonl", "{\"prompt_ids\": [5, 6], \"completion_ids\": [7, 0]}\n");
    assert!(!text.contains("look:"), "{text}");
}

/// Where messages are written in a format that the model may never have seen, that is said.
#[test]
fn messages_of_a_model_without_a_template_are_said_to_be_in_the_built_in_format() {
    let messages = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, \
                    {\"role\": \"assistant\", \"content\": \"b\"}]}\n";
    let told = data("a.jsonl", messages);
    assert!(told.contains("look: the model has no chat template"), "{told}");
    assert!(!data("a.jsonl", "{\"text\": \"fine\"}\n").contains("chat template"));
}

#[test]
fn bad_records_are_counted_and_a_file_of_them_is_an_error() {
    let text = data("a.jsonl", "{\"text\": \"fine\"}\n{\"text\": 3}\n");
    assert!(text.contains("look: 1 records are bad") && text.contains("a.jsonl:2"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "b.jsonl", "{\"nothing\": 1}\n");
    let model = model("llama");
    let error =
        run(["doctor", "--data", path.to_str().unwrap(), "--model", model.to_str().unwrap()])
            .error();
    assert!(error.contains("b.jsonl:1"), "{error}");
}

/// The form is told by the columns, whatever is wrong with what they hold.
#[test]
fn a_file_of_bad_records_is_shown_as_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let model = model("llama");
    let check = |text: &str, kind: &str, fault: &str| {
        let path = write(folder.path(), "a.jsonl", text);
        let run =
            run(["doctor", "--data", path.to_str().unwrap(), "--model", model.to_str().unwrap()]);
        let told = run.stdout;
        assert_eq!(run.code, Some(1), "{told}");
        assert!(told.contains(&format!("a.jsonl: {kind}, by the columns")), "{told}");
        assert!(told.contains("look: 1 records are bad; the first: "), "{told}");
        assert!(told.contains(fault), "{told}");
    };
    let pair = "\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"";
    check(&format!("{{{pair},\"probability\":1.5}}\n"), "preferences", "`probability`: found");
    check(&format!("{{{pair},\"margin\":NaN}}\n"), "preferences", "`margin`: found NaN");
    check("{\"prompt\":\"a\",\"completion\":\"\"}\n", "demonstrations", "`completion`: found");
    check(
        "{\"prompt\":\"a\",\"completion\":\"half \\ud83d\"}\n",
        "demonstrations",
        "a lone surrogate",
    );
}

#[test]
fn single_completions_with_labels_are_no_demonstrations() {
    let text = data(
        "kto.jsonl",
        "{\"prompt\":\"a\",\"completion\":\" b\",\"label\":true}\n\
         {\"prompt\":\"a\",\"completion\":\" c\",\"label\":false}\n",
    );
    assert!(text.contains("2 unpaired preferences (1 good and 1 bad"), "{text}");
    assert!(!text.contains("demonstrations"), "{text}");
}

#[test]
fn a_column_that_nobody_reads_may_hold_anything() {
    let text = data("a.jsonl", "{\"prompt\":\"a\",\"completion\":\" b\",\"other\":NaN}\n");
    assert!(text.contains("1 demonstrations") && !text.contains("look: 1 records"), "{text}");
}

#[test]
fn a_folder_without_metrics_is_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let error = run(["doctor".as_ref(), folder.path().as_os_str()]).error();
    assert!(error.contains("has no metrics.jsonl"), "{error}");
}

/// What the rule of `[guard]` finds in logs of three programs and in event files of our own.
#[test]
fn logs_of_other_programs_are_examined_by_the_same_rule() {
    use serde_json::json;
    let folder = tempfile::tempdir().unwrap();
    let doctor = |path: &std::path::Path, more: &[&str]| {
        let path = path.display().to_string();
        run([&["doctor", &path][..], more].concat()).ok().stdout
    };
    let growing = |step: u32| 50.0 + 10.0 * f64::from(step);
    let history: Vec<_> = (1..40)
        .map(|step| {
            json!({
                "step": step, "loss": 0.1, "grad_norm": 1.0, "reward": 0.01 * f64::from(step),
                "kl": 0.01, "completions/mean_length": growing(step),
            })
        })
        .collect();
    let checkpoint = folder.path().join("trl/checkpoint-39");
    std::fs::create_dir_all(&checkpoint).unwrap();
    let state = json!({"log_history": history}).to_string();
    let state = write(&checkpoint, "trainer_state.json", &state);
    for place in [state.as_path(), &checkpoint, &folder.path().join("trl")] {
        let text = doctor(place, &[]);
        assert!(text.contains("39 steps") && text.contains("look  step "), "{text}");
        assert!(text.contains("signal length: completions are 3."), "{text}");
    }
    let truth = |step: u32| f64::from(if step < 25 { step } else { 50 - step });
    let line = |step: u32| {
        let data = json!({
            "critic/score/mean": f64::from(step), "actor/kl_loss": 0.01, "response_length/mean": 90.0,
            "actor/pg_loss": 0.1, "actor/grad_norm": 1.0, "val-core/x/mean@1": truth(step),
        });
        json!({"step": step, "data": data}).to_string() + "\n"
    };
    let lines = (0..50).map(line).collect::<String>();
    let verl = write(folder.path(), "verl.jsonl", &lines);
    let text = doctor(&verl, &["--held-out", "val-core/x/mean@1"]);
    assert!(text.contains("signal held_out: the held-out score is"), "{text}");
    let text = doctor(&verl, &[]);
    assert!(text.contains("fine  no sign of over-optimization in 50 iterations, by kl, length"));
    let error = run(["doctor", &verl.display().to_string(), "--held-out", "val/none"]).error();
    assert!(error.contains("found no \"val/none\" in any record"), "{error}");
    let damaged = write(folder.path(), "events.out.tfevents.1.x", "no events at all, but text");
    let error = run(["doctor".as_ref(), damaged.as_os_str()]).error();
    assert!(error.contains("expected an event file of TensorBoard"), "{error}");
}
