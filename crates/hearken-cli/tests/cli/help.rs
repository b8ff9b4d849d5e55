//! Help texts.

use crate::support::run;

const COMMANDS: [&str; 22] = [
    "init", "sft", "reward", "dpo", "ppo", "grpo", "rlhf", "check", "config", "schema", "generate",
    "chat", "collect", "analyze", "import", "export", "store", "logprobs", "merge", "report",
    "doctor", "bench",
];

#[test]
fn the_help_lists_every_command() {
    let help = run(["--help"]).ok().stdout;
    for command in COMMANDS {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(command)),
            "{command}\n{help}"
        );
    }
}

#[test]
fn the_help_of_every_command_has_an_example_of_it() {
    let help = run(["--help"]).ok().stdout;
    let list = help.split_once("Commands:\n").unwrap().1;
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names: Vec<&str> = lines.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(COMMANDS.len() <= names.len());
    for command in names.into_iter().filter(|&name| name != "help") {
        let help = run([command, "--help"]).ok().stdout;
        assert!(help.contains("Example"), "{command}\n{help}");
        assert!(help.contains(&format!("hearken {command}")), "{command}\n{help}");
    }
}

#[test]
fn a_wrong_argument_ends_with_code_2_and_a_hint() {
    let ran = run(["generat"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
    assert!(ran.stderr.contains("generate"), "{}", ran.stderr);
    let ran = run(["logprobs", "--modle", "x"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("--model"), "{}", ran.stderr);
}

#[test]
fn numbers_out_of_range_are_refused_before_anything_is_read() {
    let with = |flag: &str, value: &str| {
        let ran = run([
            "generate",
            "--model",
            "none",
            "--input",
            "none",
            "--output",
            "none",
            "--max-new-tokens",
            "1",
            flag,
            value,
        ]);
        assert_eq!(ran.code, Some(2), "{flag} {value}: {}", ran.stderr);
        ran.stderr
    };
    assert!(with("--temperature", "-1").contains("a number from 0"));
    assert!(with("--top-p", "1.5").contains("a number from 0 to 1"));
    with("-n", "0");
}
