//! Help texts.

use std::fs;
use std::process::Command;

use crate::support::{names, run};

const COMMANDS: [&str; 30] = [
    "init",
    "sft",
    "reward",
    "dpo",
    "ppo",
    "grpo",
    "distill",
    "rlhf",
    "rlaif",
    "loop",
    "check",
    "config",
    "schema",
    "generate",
    "chat",
    "serve",
    "collect",
    "analyze",
    "import",
    "export",
    "store",
    "logprobs",
    "merge",
    "control",
    "report",
    "frontier",
    "doctor",
    "bench",
    "completions",
    "man",
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

#[test]
fn shells_are_told_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let text = run(["completions", shell]).ok().stdout;
        for command in COMMANDS {
            assert!(text.contains(command), "{shell}: {command}");
        }
        assert!(text.contains("max-new-tokens"), "{shell}");
    }
    let ran = run(["completions", "csh"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("bash"), "{}", ran.stderr);
}

/// Where there is a bash, it must take what it is given, and complete by it.
#[test]
fn bash_completes_commands_and_options() {
    let text = run(["completions", "bash"]).ok().stdout;
    let script = text
        + "\nCOMP_WORDS=(hearken logp); COMP_CWORD=1; _hearken hearken logp hearken; echo ${COMPREPLY[@]}\
           \nCOMP_WORDS=(hearken sft --fr); COMP_CWORD=2; _hearken hearken --fr sft; echo ${COMPREPLY[@]}\n";
    let ran = Command::new("bash").args(["-u", "-c", &script]).output();
    let Ok(ran) = ran else {
        eprintln!("SKIPPED: there is no bash");
        return;
    };
    let found = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(found, "logprobs\n--fresh\n", "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    let arguments = ["man".as_ref(), "--output".as_ref(), pages.as_os_str()];
    let printed = run(arguments).ok().stdout;
    assert_eq!(printed, format!("{}\n", pages.display()));
    let read = |name: &str| fs::read_to_string(pages.join(name)).unwrap_or_default();
    assert!(read("hearken.1").contains("hearken\\-sft(1)"), "{}", read("hearken.1"));
    for command in COMMANDS {
        let page = read(&format!("hearken-{command}.1"));
        assert!(page.contains(".TH") && page.contains(".SH SYNOPSIS"), "{command}: {page}");
    }
    assert!(
        read("hearken-sft.1").contains("fresh") && read("hearken-data-inspect.1").contains(".TH")
    );
    // Once more: the pages are replaced, and nothing else is there.
    let before = names(&pages);
    run(arguments).ok();
    assert_eq!(names(&pages), before);
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = run(["man".as_ref(), "--output".as_ref(), file.as_os_str()]).error();
    assert!(error.contains("file: cannot be created"), "{error}");
}
