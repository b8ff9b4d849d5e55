//! Environments of other processes: what they say is taken as it is meant, and what goes wrong is named.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests may panic")]
#![allow(clippy::float_cmp, reason = "the server's numbers are exact")]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hearken_env::{
    Action, ActionSpace, ControlTask, EnvironmentSetup, EnvironmentStep, Environments,
    ObservationSpace, RestoreError, Restored, ServerError, ServerOptions, StepEnd,
};
use hearken_testing::skip;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn setup(name: &str, command: &[&str]) -> EnvironmentSetup {
    let server = ServerOptions {
        command: command.iter().map(ToString::to_string).collect(),
        timeout: Duration::from_secs(20),
        ..ServerOptions::default()
    };
    EnvironmentSetup { id: format!("served:{name}").parse().unwrap(), server }
}

fn shell(script: &str) -> EnvironmentSetup {
    setup("world", &["sh", "-c", script])
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The server in plain Python, whose environment's name says what is wrong with it.
fn fake(name: &str) -> Option<EnvironmentSetup> {
    if !runs("python3", &["-c", ""]) {
        skip("there is no python3");
        return None;
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake_server.py");
    Some(setup(name, &["python3", file]))
}

/// A Python with Gymnasium: `$PYTHON`, or python3.
fn gymnasium(name: &str) -> Option<EnvironmentSetup> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if !runs(&python, &["-c", "import gymnasium"]) {
        skip(&format!("{python} has no gymnasium; set PYTHON to one that has"));
        return None;
    }
    let server = ServerOptions { python, ..ServerOptions::default() };
    Some(EnvironmentSetup { id: format!("gymnasium:{name}").parse().unwrap(), server })
}

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(3)
}

fn reset_all(environments: &mut Environments, rng: &mut ChaCha8Rng) -> Result<(), ServerError> {
    (0..environments.len()).try_for_each(|copy| environments.reset(copy, rng))
}

fn step(
    environments: &mut Environments,
    actions: &[usize],
) -> Result<Vec<EnvironmentStep>, ServerError> {
    for (copy, &action) in actions.iter().enumerate() {
        environments.begin(copy, Action::Discrete(action));
    }
    let mut steps = Vec::new();
    environments.finish(&mut steps)?;
    Ok(steps)
}

fn seen(environments: &Environments, copy: usize) -> Vec<f32> {
    let mut seen = vec![0.0; environments.spaces().observation.len()];
    environments.observe(copy, &mut seen);
    seen
}

#[test]
fn copies_are_stepped_together_and_ends_are_told_apart() {
    let Some(setup) = fake("counter") else { return };
    let mut environments = setup.open(2).unwrap();
    let spaces = environments.spaces();
    assert_eq!(spaces.observation, ObservationSpace::Vector { length: 2 });
    assert_eq!(spaces.actions, ActionSpace::Discrete { count: 3 });
    reset_all(&mut environments, &mut rng()).unwrap();
    let seeds = [0, 1].map(|copy| seen(&environments, copy)[1]);
    assert_ne!(seeds[0], seeds[1], "every episode has a seed of its own");
    for count in [1.0, 2.0, 3.0] {
        let steps = step(&mut environments, &[1, 0]).unwrap();
        assert_eq!(steps[0], EnvironmentStep { reward: f64::from(count), end: StepEnd::Running });
        assert_eq!(seen(&environments, 0), [count, seeds[0]]);
        assert_eq!(seen(&environments, 1), [0.0, seeds[1]]);
    }
    let ends: Vec<StepEnd> =
        step(&mut environments, &[2, 0]).unwrap().iter().map(|step| step.end).collect();
    assert_eq!(ends, [StepEnd::Terminated, StepEnd::Truncated], "the task's end goes first");
    assert_eq!(seen(&environments, 0)[0], 5.0, "the last observation is that of the end");
    environments.reset(1, &mut rng()).unwrap();
    assert_eq!([seen(&environments, 0)[0], seen(&environments, 1)[0]], [5.0, 0.0]);
}

#[test]
fn actions_within_bounds_of_their_own_are_brought_to_them() {
    let Some(setup) = fake("continuous") else { return };
    let mut environments = setup.open(1).unwrap();
    let expected = ActionSpace::Continuous { dimensions: 2, bound: 1.0 };
    assert_eq!(environments.spaces().actions, expected);
    reset_all(&mut environments, &mut rng()).unwrap();
    let mut steps = Vec::new();
    environments.begin(0, Action::Continuous(&[-1.0, 0.5]));
    environments.finish(&mut steps).unwrap();
    assert_eq!(steps[0].reward, -1.0 + 3.0, "the least of [−1, 3], and three quarters of [0, 4]");
    let mut again = setup.open(1).unwrap();
    assert_eq!(again.restore(environments.snapshot()).unwrap(), Restored::AsTheyWere);
    assert_eq!(seen(&again, 0), seen(&environments, 0));
}

#[test]
fn copies_are_brought_to_where_they_were_by_doing_the_same() {
    let Some(setup) = fake("counter") else { return };
    let mut environments = setup.open(2).unwrap();
    reset_all(&mut environments, &mut rng()).unwrap();
    step(&mut environments, &[1, 2]).unwrap();
    step(&mut environments, &[1, 0]).unwrap();
    environments.reset(1, &mut rng()).unwrap();
    let mut again = setup.open(2).unwrap();
    assert_eq!(again.restore(environments.snapshot()).unwrap(), Restored::AsTheyWere);
    assert_eq!(again.snapshot(), environments.snapshot());
    for actions in [[2, 1], [0, 1]] {
        let found = step(&mut again, &actions).unwrap();
        assert_eq!(found, step(&mut environments, &actions).unwrap());
        assert_eq!([0, 1].map(|at| seen(&again, at)), [0, 1].map(|at| seen(&environments, at)));
    }
    let other = setup.open(3).unwrap().restore(environments.snapshot()).unwrap_err();
    assert!(other.to_string().contains("expected the states of 3 copies"), "{other}");
}

#[test]
fn an_environment_that_does_not_repeat_itself_is_found_out() {
    let Some(mut setup) = fake("drifts") else { return };
    let mut environments = setup.open(1).unwrap();
    reset_all(&mut environments, &mut rng()).unwrap();
    environments.reset(0, &mut rng()).unwrap();
    step(&mut environments, &[1]).unwrap();
    let error = setup.open(1).unwrap().restore(environments.snapshot()).unwrap_err();
    assert!(matches!(error, RestoreError::Elsewhere { copy: 0, .. }), "{error}");
    setup.server.is_deterministic = false;
    let mut anew = setup.open(1).unwrap();
    assert_eq!(anew.restore(environments.snapshot()).unwrap(), Restored::Anew);
}

#[track_caller]
fn check(error: &ServerError, expected: &str) {
    let error = error.to_string();
    assert!(error.contains("served:") && error.contains(expected), "{expected}: {error}");
}

#[test]
fn what_is_wrong_at_the_start_is_named() {
    let failed = |setup: EnvironmentSetup| setup.open(1).map(|_| ()).unwrap_err();
    check(&failed(setup("world", &[])), "found no program that serves it");
    check(&failed(setup("world", &["/no/such"])), "(/no/such): cannot be started");
    let script = "echo no such game >&2; exit 3";
    check(
        &failed(shell(script)),
        "it ended with exit status: 3 while it was asked to make its environments; it wrote: no such game",
    );
    check(
        &failed(shell("echo Hello, world; cat")),
        "found a frame of 1819043144 bytes (the text \"Hell\")",
    );
    check(
        &failed(shell("printf '\\377\\377\\377\\377'; cat")),
        "found a frame of 4294967295 bytes",
    );
    check(&failed(shell("printf '\\005\\000\\000\\000hello'; cat")), "found \"hello\"");
    check(&failed(shell("printf '\\005\\000\\000\\000hel'")), "it ended with exit status: 0");
    for (name, expected) in [
        (
            "newer",
            "found protocol: 2 when it was asked to make its environments, expected the protocol 1",
        ),
        ("no actions", "found actions: {\"kind\":\"discrete\",\"count\":0}"),
        ("no spaces", "found no `observation`"),
        ("made of list", "expected a JSON object"),
        ("refuses", "it says: no such world"),
    ] {
        let Some(setup) = fake(name) else { return };
        check(&failed(setup), expected);
    }
}

#[test]
fn a_server_that_hangs_is_not_waited_for_and_does_not_outlive_the_wait() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    // What the server starts dies with it.
    let mut setup = shell(&format!("sleep 1000 & echo $! > {}; wait", pid.display()));
    setup.server.timeout = Duration::from_millis(400);
    let start = Instant::now();
    let error = setup.open(1).map(|_| ()).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(10));
    check(&error, "no answer within 0.4 s when it was asked to make its environments");
    let id = std::fs::read_to_string(&pid).unwrap();
    let is_gone = || {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", id.trim()));
        state.map_or(true, |state| state.contains(") Z"))
    };
    let patience = Instant::now() + Duration::from_secs(5);
    while !is_gone() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(is_gone() || !PathBuf::from("/proc/self").exists(), "process {id} is still there");
}

#[test]
fn what_is_wrong_with_a_step_is_named() {
    for (name, expected) in [
        ("nan", "found NaN at place 1 of the observation of copy 0 when it was asked to step"),
        ("infinite", "found the reward inf of copy 0"),
        ("flags", "found the ends (9, 0) of copy 0"),
        (
            "short",
            "found 15 bytes of observations when it was asked to step, expected 2 copies of 8",
        ),
        ("ends", "it ended with exit status: 7 while it was asked to step"),
    ] {
        let Some(setup) = fake(name) else { return };
        let mut environments = setup.open(2).unwrap();
        reset_all(&mut environments, &mut rng()).unwrap();
        check(&step(&mut environments, &[1, 2]).unwrap_err(), expected);
    }
}

/// Gymnasium's CartPole, put into states, does what the one here does.
#[test]
fn gymnasium_over_a_pipe_does_what_the_native_task_does() {
    let Some(setup) = gymnasium("CartPole-v1") else { return };
    let mut environments = setup.open(1).unwrap();
    assert_eq!(environments.spaces(), ControlTask::CartPole.spaces());
    let states = [[0.01, -0.2, 0.03, 0.4], [2.39, 3.0, 0.0, 0.1], [-1.0, 0.5, 0.2, 2.0], [0.0; 4]];
    for (at, state) in states.into_iter().enumerate() {
        let (state, action) = (serde_json::json!(state), serde_json::json!(at % 2));
        let native = hearken_env::replay(ControlTask::CartPole, &state, &action).unwrap();
        let served = hearken_env::replay_served(&mut environments, &state, &action).unwrap();
        for (found, expected) in served.state.iter().zip(&native.state) {
            assert!((found - expected).abs() < 1e-12, "{served:?}, {native:?}");
        }
        assert_eq!(served.observation, native.observation);
        assert_eq!((served.reward, served.terminated), (native.reward, native.terminated));
    }
}

#[test]
fn gymnasium_draws_initial_states_by_seed_and_cuts_episodes_off() {
    let Some(setup) = gymnasium("Pendulum-v1") else { return };
    let mut one = setup.open(2).unwrap();
    assert_eq!(one.spaces(), ControlTask::Pendulum.spaces());
    reset_all(&mut one, &mut rng()).unwrap();
    let mut other = setup.open(2).unwrap();
    reset_all(&mut other, &mut rng()).unwrap();
    let mut steps = Vec::new();
    for count in 1..=200 {
        for environments in [&mut one, &mut other] {
            for copy in 0..2 {
                environments.begin(copy, Action::Continuous(&[1.5]));
            }
            environments.finish(&mut steps).unwrap();
            let end = if count == 200 { StepEnd::Truncated } else { StepEnd::Running };
            assert!(steps.iter().all(|step| step.end == end), "{count}");
        }
        assert_eq!(seen(&one, 1), seen(&other, 1));
    }
    assert_ne!(seen(&one, 0), seen(&one, 1));
}

#[test]
fn what_gymnasium_does_not_have_is_its_own_message() {
    let Some(setup) = gymnasium("NoSuchPole-v1") else { return };
    let error = setup.open(1).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("gymnasium:NoSuchPole-v1") && error.contains("NameNotFound"), "{error}");
    let mut gray = gymnasium("CartPole-v1").unwrap();
    gray.server.making.grayscale = true;
    let error = gray.open(1).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("grayscale and resize are for images"), "{error}");
}

/// Frames of a game: the size that is asked for, stacked one behind another.
#[test]
fn games_of_atari_are_seen_as_they_are_wished() {
    let Some(mut setup) = gymnasium("ALE/Pong-v5") else { return };
    if !runs(&setup.server.python, &["-c", "import ale_py"]) {
        skip("that Python has no ale_py");
        return;
    }
    let making = &mut setup.server.making;
    making.modules = vec!["ale_py".to_owned()];
    making.options.insert("frameskip".to_owned(), 1.into());
    (making.frame_stack, making.frame_skip, making.grayscale) = (3, 4, true);
    making.resize = Some([84, 60]);
    let mut environments = setup.open(1).unwrap();
    let expected = ObservationSpace::Image { channels: 3, height: 84, width: 60 };
    assert_eq!(environments.spaces().observation, expected);
    assert_eq!(environments.spaces().actions, ActionSpace::Discrete { count: 6 });
    reset_all(&mut environments, &mut rng()).unwrap();
    let frames = |environments: &Environments| -> [Vec<f32>; 3] {
        let all = seen(environments, 0);
        [0, 1, 2].map(|frame| all.iter().skip(frame).step_by(3).copied().collect())
    };
    let first = frames(&environments);
    assert!(first[0] == first[2], "before the first step there is one frame");
    for _ in 0..20 {
        step(&mut environments, &[2]).unwrap();
    }
    let before = frames(&environments);
    step(&mut environments, &[2]).unwrap();
    let after = frames(&environments);
    assert!(before[1] == after[0] && before[2] == after[1] && after[1] != after[2]);
    assert!(after[2].iter().all(|x| (0.0..=1.0).contains(x)) && after[2].iter().any(|&x| 0.3 < x));
}
