//! `hearken chat` in a pipe.

use crate::support::{model, run_with_input};

fn chat(input: &str, more: &[&str]) -> (String, String) {
    let model = model("llama");
    let mut arguments = vec!["chat", "--model", model.to_str().unwrap()];
    if !more.contains(&"--max-new-tokens") {
        arguments.extend(["--max-new-tokens", "5"]);
    }
    arguments.extend(more);
    let ran = run_with_input(arguments, input).ok();
    (ran.stdout, ran.stderr)
}

#[test]
fn only_completions_go_to_standard_output() {
    let (stdout, _) = chat("Hello\n", &["--plain", "--temperature", "0", "--ignore-eos"]);
    assert!(
        stdout.ends_with('\n') && !stdout.contains("Hello") && !stdout.contains("> "),
        "{stdout:?}"
    );
    assert!(1 < stdout.len());
}

#[test]
fn a_conversation_that_is_reset_starts_as_the_first() {
    let greedy = ["--temperature", "0"];
    let (once, _) = chat("Hello\n", &greedy);
    let (twice, _) = chat("Hello\n/reset\nHello\n", &greedy);
    assert_eq!(twice, format!("{once}{once}"));
}

#[test]
fn a_conversation_ends_at_quit_and_names_commands_that_do_not_exist() {
    let (stdout, stderr) = chat("/help\n/quit\nHello\n", &[]);
    assert_eq!(stdout, "");
    assert!(stderr.contains("there is no /help"), "{stderr}");
}

#[test]
fn the_oldest_turns_are_forgotten_where_the_model_has_no_room() {
    let line = "All the world is a stage, and all the men and women merely players.\n";
    let (_, stderr) = chat(&line.repeat(8), &["--max-new-tokens", "30"]);
    assert!(stderr.contains("forgotten"), "{stderr}");
}
