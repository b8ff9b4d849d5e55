//! Learning from demonstrations on small tasks.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::path::Path;

use hearken_config::{Configuration as _, LoadedConfig};
use hearken_control::config::ControlConfig;
use hearken_control::demonstrations::{
    DemonstratedEpisode, Manner, demonstrate, write_demonstrations,
};
use hearken_control::evaluation::evaluate;
use hearken_control::network::{Network, Trunk, WeightDraw};
use hearken_control::policy::{Head, Policy};
use hearken_control::reward_model::RewardModel;
use hearken_control::saved::Acting;
use hearken_control::train::run;
use hearken_env::{EnvironmentId, EnvironmentSetup, Spaces};
use hearken_run::progress::Silent;
use hearken_run::run_dir::Start;
use hearken_run::seeds::Seeds;
use hearken_tensor::dense::Nonlinearity;

const NO_LAYERS: Trunk<'_> =
    Trunk { convolutions: &[], hidden: &[], nonlinearity: Nonlinearity::Tanh };

fn environment(name: &str) -> (EnvironmentSetup, Spaces) {
    let setup = EnvironmentSetup::from(name.parse::<EnvironmentId>().unwrap());
    let spaces = setup.open(1).unwrap().spaces();
    (setup, spaces)
}

/// A policy of CartPole with one layer: pushes to where the pole falls.
fn balancer(name: &str) -> Acting {
    let (environment, spaces) = environment(name);
    let shape = Policy::shape(spaces, NO_LAYERS, Head::Categorical);
    let mut network =
        Network::new(&shape, WeightDraw::Uniform, &mut Seeds::new(0).stream("weights", 0));
    network.values_mut().fill(0.0);
    for (state, weight) in [0.4, 1.0, 10.0, 3.0].into_iter().enumerate() {
        network.values_mut()[2 * state + 1] = weight;
    }
    Acting { environment, policy: Policy::of(network, spaces, Head::Categorical), moments: None }
}

/// A policy of the gridworld with one layer: right to the last column, then down.
fn walker(name: &str) -> Acting {
    let (environment, spaces) = environment(name);
    let shape = Policy::shape(spaces, NO_LAYERS, Head::Categorical);
    let mut network =
        Network::new(&shape, WeightDraw::Uniform, &mut Seeds::new(0).stream("weights", 0));
    network.values_mut().fill(0.0);
    for cell in 0..spaces.observation.len() {
        network.values_mut()[4 * cell + if cell % 5 == 4 { 2 } else { 1 }] = 8.0;
    }
    Acting { environment, policy: Policy::of(network, spaces, Head::Categorical), moments: None }
}

fn config(dir: &Path, name: &str, settings: &[&str]) -> LoadedConfig<ControlConfig> {
    let mut layers = ControlConfig::defaults(Path::new("control.toml"));
    let file = format!("run.dir={}", dir.display());
    let id = format!("environment.id={name}");
    for text in [file.as_str(), &id, "train.environment_steps=1"].iter().chain(settings) {
        layers.set(text).unwrap();
    }
    ControlConfig::from_layers(layers).unwrap()
}

/// Demonstrations in a file, and what a run on them comes to in 20 episodes: return and length.
fn imitate(expert: &Acting, episodes: usize, settings: &[&str]) -> (f64, f64, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let id = &expert.environment.id;
    let environment = &expert.environment;
    let shown: Vec<DemonstratedEpisode> =
        demonstrate(expert, environment, episodes, Manner::Likeliest, Seeds::new(7)).unwrap();
    let file = folder.path().join("demos.jsonl");
    write_demonstrations(&file, id, &shown).unwrap();
    std::fs::create_dir(folder.path().join("expert")).unwrap();
    expert.save(&folder.path().join("expert")).unwrap();
    let demonstrations = format!("imitation.demonstrations={}", file.display());
    let asked = format!("imitation.expert={}", folder.path().join("expert").display());
    let settings = [&[demonstrations.as_str(), &asked], settings].concat();
    let dir = folder.path().join("run");
    run(&config(&dir, &id.to_string(), &settings), Start::Resume, &mut Silent).unwrap();
    let acting = Acting::load_run(&dir).unwrap();
    let of = evaluate(&acting, &expert.environment, 20, Seeds::new(3)).unwrap();
    (of.eval_return.value, of.eval_length.value, folder)
}

#[test]
fn a_balancer_is_cloned_from_its_episodes() {
    let expert = balancer("CartPole-v1");
    let (total, ..) = imitate(
        &expert,
        4,
        &[
            "imitation.method=bc",
            "imitation.epochs=20",
            "imitation.held_out=0.25",
            "imitation.patience=4",
            "optimizer.lr=3e-3",
        ],
    );
    assert!(450.0 < total, "{total}");
}

#[test]
fn an_expert_that_is_asked_teaches_its_way() {
    let expert = balancer("CartPole-v1");
    let settings = [
        "imitation.method=dagger",
        "imitation.rounds=8",
        "optimizer.lr=3e-3",
        "imitation.round_epochs=10",
    ];
    let (total, ..) = imitate(&expert, 1, &settings);
    assert!(450.0 < total, "{total}");
}

const WALK: [&str; 6] = [
    "environment.copies=8",
    "train.environment_steps=40000",
    "ppo.steps=64",
    "ppo.epochs=4",
    "optimizer.lr=3e-3",
    "imitation.updates=8",
];

#[test]
fn a_discriminators_reward_leads_to_the_demonstrators_goal() {
    let expert = walker("fixed/Gridworld-v0");
    for method in ["gail", "airl"] {
        let method = format!("imitation.method={method}");
        let (total, _, folder) = imitate(&expert, 20, &[&WALK[..], &[method.as_str()]].concat());
        assert!(0.9 < total, "{method}: {total}");
        let (id, spaces) = (&expert.environment.id, expert.policy.spaces());
        let place = folder.path().join("run/final/reward");
        let reward = RewardModel::load(&place, id, spaces).unwrap();
        let cells: Vec<f32> = (0..25)
            .flat_map(|cell| (0..25).map(move |at| f32::from(u8::from(at == cell))))
            .collect();
        let actions = hearken_control::actions::Actions::Discrete(vec![1; 25]);
        let rewards = reward.rewards(&cells, &actions);
        let others = rewards[..24].iter().sum::<f64>() / 24.0;
        assert!(others < rewards[24], "{method}: {rewards:?}");
    }
}

#[test]
fn soft_q_learning_does_what_is_demonstrated() {
    // Whoever demonstrates pushes by eight tenths, wherever the pendulum is.
    const PUSH: f32 = 0.8;
    let (environment, spaces) = environment("Pendulum-v1");
    let len = spaces.observation.len();
    let shape = Policy::shape(spaces, NO_LAYERS, Head::Gaussian);
    let mut network =
        Network::new(&shape, WeightDraw::Uniform, &mut Seeds::new(0).stream("weights", 0));
    network.values_mut().fill(0.0);
    network.values_mut()[len] = PUSH;
    let policy = Policy::of(network, spaces, Head::Gaussian);
    let expert = Acting { environment, policy, moments: None };
    let settings = [
        "imitation.method=sqil",
        "train.algorithm=sac",
        "train.environment_steps=3000",
        "environment.copies=1",
        "network.hidden=[32]",
        "sac.start_steps=200",
        "sac.batch=64",
        "optimizer.lr=3e-3",
    ];
    let (.., folder) = imitate(&expert, 3, &settings);
    let acting = Acting::load_run(&folder.path().join("run")).unwrap();
    let mut actions = hearken_control::actions::Actions::new(spaces.actions);
    let environment = &expert.environment;
    let shown = demonstrate(&expert, environment, 1, Manner::Likeliest, Seeds::new(9)).unwrap();
    let (mut row, mut pass) = (Vec::new(), hearken_control::network::Pass::default());
    for seen in shown[0].observations.chunks(len) {
        acting.choose(seen, &mut actions, &mut row, &mut pass);
    }
    let pushes = actions.numbers();
    let mean = pushes.iter().sum::<f32>() / pushes.len() as f32;
    assert!((mean - PUSH).abs() < 0.4, "{mean}");
}
