//! Distillation with a teacher behind `hearken serve`.
#![cfg(unix)]

use std::path::Path;

use serde_json::{Value, json};

use crate::serve::Server;
use crate::support::{Ran, hearken, json_lines, model, number, run, write};

const KEY: &str = "HEARKEN_TEST_TEACHER_KEY";

/// A short run in `folder/name`, with these lines in `[teacher]` and `more` arguments.
fn distill(folder: &Path, name: &str, teacher: &str, more: &[&str]) -> Ran {
    let prompts = (0..6)
        .map(|at| json!({"prompt": format!("Say {}:", "ab".repeat(at + 1))}).to_string() + "\n");
    let data = write(folder, "prompts.jsonl", &prompts.collect::<String>());
    let config = format!(
        "[run]\ndir = {:?}\n[model]\npath = {:?}\n[data]\ntrain = {:?}\neval_fraction = 0.4\n[train]\nsteps = 6\n\
         batch_size = 4\n[optimizer]\nlr = 1e-3\n[rollout]\nmax_new_tokens = 8\n[teacher]\n{teacher}\n",
        folder.join(name).display().to_string(),
        model("llama").display().to_string(),
        data.display().to_string()
    );
    let config = write(folder, &format!("{name}.toml"), &config);
    let mut command = hearken(["distill", config.to_str().unwrap()]);
    command.args(more.iter().flat_map(|one| ["--set", one])).env(KEY, "admin");
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn records(folder: &Path, name: &str) -> Vec<Value> {
    json_lines(&folder.join(name).join("metrics.jsonl"))
}

fn here() -> String {
    format!("path = {:?}", model("qwen3").display().to_string())
}

/// A server that says everything is the teacher itself; one that says less gives a lower bound, and says so.
#[test]
fn a_teacher_behind_a_server_is_the_teacher_that_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&["--model", model("qwen3").to_str().unwrap(), "--name", "wise"]);
    let served = |more: &str| format!("server = {:?}\nmodel = \"wise\"\n{more}", server.url);
    for beta in ["distill.beta=0", "distill.beta=0.5", "distill.beta=1"] {
        let more = [beta, "distill.temperature=0.8"];
        distill(folder.path(), "here", &here(), &[&more[..], &["run.seed=4"]].concat()).ok();
        let ran = distill(
            folder.path(),
            "there",
            &served("top_k = 384"),
            &[&more[..], &["run.seed=4"]].concat(),
        );
        assert!(ran.ok().stderr.contains("the 384 likeliest tokens"));
        let (here, there) = (records(folder.path(), "here"), records(folder.path(), "there"));
        assert_eq!(here.len(), there.len());
        for (here, there) in here.iter().zip(&there) {
            if here.get("loss").is_none() {
                let [a, b] = [here, there].map(|one| number(&one["eval_kl"], "value"));
                assert!((a - b).abs() < 1e-3 * a.abs() + 1e-4, "{here} and {there}");
                continue;
            }
            for key in ["loss", "forward_kl", "reverse_kl", "entropy", "grad_norm"] {
                let (a, b) = (number(here, key), number(there, key));
                assert!((a - b).abs() < 1e-3 * a.abs() + 1e-5, "{beta}: {key} {here} and {there}");
            }
            assert!(
                number(there, "teacher/unnamed") < 1e-4 && here.get("teacher/unnamed").is_none()
            );
        }
        for name in ["here", "there"] {
            std::fs::remove_dir_all(folder.path().join(name)).unwrap();
        }
    }
    distill(folder.path(), "here", &here(), &[]).ok();
    distill(folder.path(), "part", &served("top_k = 8"), &[]).ok();
    let step = |name: &str| {
        records(folder.path(), name).into_iter().find(|one| one.get("loss").is_some()).unwrap()
    };
    let (all, part) = (step("here"), step("part"));
    assert!(0.5 < number(&part, "teacher/unnamed"), "{part}");
    assert!(
        0.0 < number(&part, "loss") && number(&part, "loss") < number(&all, "loss"),
        "{part} and {all}"
    );
    assert!((number(&part, "entropy") - number(&all, "entropy")).abs() < 1e-3);
    assert!(server.end().ends_with("stopped\n"));
}

#[test]
fn a_teacher_that_cannot_be_asked_is_named_before_the_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let text = "a story of some words, told again and again, and once more\n";
    let texts = json!({"text": text.repeat(20)}).to_string() + "\n";
    let data = write(folder.path(), "texts.jsonl", &texts.repeat(4));
    let other = folder.path().join("other");
    let shape = "llama,layers=1,width=32,heads=2,positions=64";
    let [data, other] = [&data, &other].map(|path| path.to_str().unwrap());
    run([
        "init",
        "--shape",
        shape,
        "--train-tokenizer",
        data,
        "--vocab-size",
        "280",
        "--output",
        other,
    ])
    .ok();
    let server = Server::start(&["--model", other]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (teacher, expected) in [
        (
            format!("server = {:?}", server.url),
            "has a model with another tokenizer or vocabulary (".to_owned(),
        ),
        (
            format!("server = {:?}\nmodel = \"x\"", server.url),
            "found no model \"x\", expected one of ".to_owned(),
        ),
        (format!("server = \"http://{free}\""), format!("http://{free}/v1/models: ")),
        (
            format!("server = {:?}\nkey_env = \"HEARKEN_NO_SUCH_KEY\"", server.url),
            "`teacher.key_env`: found no environment variable HEARKEN_NO_SUCH_KEY".to_owned(),
        ),
    ] {
        let error = distill(folder.path(), "run", &teacher, &[]).error();
        assert!(error.contains(&expected), "{error}");
        assert!(!folder.path().join("run/final").exists());
    }
}

/// A teacher that goes away costs no step: the run is kept, and goes on when it is back.
#[test]
fn a_run_whose_teacher_goes_away_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let bind = format!("127.0.0.1:{port}");
    let teacher = model("qwen3");
    let serve = || {
        let arguments = ["--model", teacher.to_str().unwrap(), "--bind", &bind];
        Server::start_as_is(&arguments)
    };
    let server = serve();
    let config = format!("server = {:?}\nkey_env = \"{KEY}\"\ntimeout_s = 5", server.url);
    let more = ["train.steps=4000", "optimizer.lr=1e-4"];
    let waiting = std::thread::scope(|scope| {
        let running = scope.spawn(|| distill(folder.path(), "run", &config, &more));
        let metrics = folder.path().join("run/metrics.jsonl");
        let since = std::time::Instant::now();
        while std::fs::read_to_string(&metrics).map_or(0, |text| text.lines().count()) < 4 {
            assert!(since.elapsed() < std::time::Duration::from_secs(60), "no step");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        drop(server);
        running.join().unwrap()
    });
    let error = waiting.error();
    assert!(error.contains("`teacher.server`: ") && error.contains("nothing is lost: "), "{error}");
    let made = records(folder.path(), "run").iter().filter(|one| one.get("loss").is_some()).count();
    let steps = format!("train.steps={}", made + 2);
    let back = serve();
    let ran = distill(folder.path(), "run", &config, &[&steps, "optimizer.lr=1e-4"]);
    drop(back);
    let told = ran.ok().stderr;
    let after =
        records(folder.path(), "run").iter().filter(|one| one.get("loss").is_some()).count();
    assert_eq!(after, made + 2, "{told}");
}
