//! Particles beside a score head: what they say, what they learn, and that nothing else learns from them.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use hearken_model::{Batch, Keep, LoadOptions, Model, OutputGrads, ParticleShape};
use hearken_tensor::Cpu;
use support::{download, fixture};

const SHAPE: ParticleShape = ParticleShape { count: 3, width: 5, prior_scale: 1.0 };
/// The last tokens of both sequences.
const ROWS: [usize; 2] = [6, 11];

fn scorer() -> Model<Cpu> {
    let options = LoadOptions { new_score_head: Some(3), ..LoadOptions::scorer() };
    Model::load(Cpu::new(), &fixture("llama"), &options).unwrap().0
}

fn with_particles() -> Model<Cpu> {
    let mut model = scorer();
    model.add_particles(SHAPE, 11);
    model
}

fn batch() -> Batch {
    let mut batch = Batch::new();
    batch.push(None, &[2, 9, 40, 77, 5, 61, 8]);
    batch.push(None, &[2, 14, 300, 7, 21]);
    batch
}

fn index(model: &Model<Cpu>, name: &str) -> usize {
    model.params().iter().position(|param| param.name == name).unwrap()
}

fn set(model: &mut Model<Cpu>, name: &str, values: &[f32]) {
    let index = index(model, name);
    model.params_mut().set_values(index, values);
}

fn scores(model: &Model<Cpu>) -> Vec<f32> {
    model.particle_scores(&model.forward(&batch(), Keep::Nothing), &ROWS)
}

/// Gradients of Σ slope · r_z, and of the score alone with derivative 1.
fn gradients(model: &Model<Cpu>, slopes: &[f32]) -> Vec<Option<Vec<f32>>> {
    let mut gradients = model.gradients();
    let pass = model.forward(&batch(), Keep::Activations);
    if 0 < model.particle_count() {
        model.train_particles(&pass, &ROWS, &mut gradients, |_| slopes.to_vec());
    }
    let grads =
        OutputGrads { scalar_rows: &ROWS, scalar_grads: &[1.0, -0.5], ..OutputGrads::default() };
    model.backward(pass, &grads, &mut gradients);
    let each = model.params().iter().enumerate();
    each.map(|(index, param)| Some(download(model, gradients.get(index)?, param.len()))).collect()
}

/// With first layers that read ±h₀ of the hidden state, and second layers that pass it on, a network says
/// w₀·max(h₀, 0) + w₁·max(−h₀, 0).
#[test]
fn a_particle_says_the_score_and_both_of_its_networks() {
    let mut model = scorer();
    model.add_particles(ParticleShape { count: 2, width: 2, prior_scale: 1.0 }, 1);
    let width = model.config().width;
    let mut first = vec![0.0; 4 * width];
    for particle in 0..2 {
        first[2 * particle * width] = 1.0;
        first[(2 * particle + 1) * width] = -1.0;
    }
    for kind in ["prior", "differential"] {
        set(&mut model, &format!("particles.{kind}.first.weight"), &first);
        for particle in 0..2 {
            let name = format!("particles.{kind}.{particle}.second.weight");
            set(&mut model, &name, &[1.0, 0.0, 0.0, 1.0]);
        }
    }
    // |h₀| and 2|h₀|; h₀ and 0.
    set(&mut model, "particles.prior.0.output.weight", &[1.0, 1.0]);
    set(&mut model, "particles.prior.1.output.weight", &[2.0, 2.0]);
    set(&mut model, "particles.differential.0.output.weight", &[1.0, -1.0]);
    set(&mut model, "particles.differential.1.output.weight", &[0.0, 0.0]);
    let pass = model.forward(&batch(), Keep::Nothing);
    let (score, hidden) = (model.scalars(&pass, &ROWS), model.hidden(&pass, &ROWS));
    for (row, found) in model.particle_scores(&pass, &ROWS).chunks_exact(2).enumerate() {
        let h = hidden[row * width];
        let expected = [score[row] + h.abs() + h, score[row] + 2.0 * h.abs()];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "row {row}: {found}, expected {expected}");
        }
    }
}

/// Before they have learned anything, particles are the score and their priors, which differ.
#[test]
fn new_particles_are_apart_by_their_priors() {
    let model = with_particles();
    let found = scores(&model);
    let first = &found[..SHAPE.count];
    assert!(first.windows(2).all(|two| 1e-3 < (two[0] - two[1]).abs()), "{first:?}");
    let mut silent = scorer();
    silent.add_particles(ParticleShape { prior_scale: 1e-9, ..SHAPE }, 11);
    let pass = silent.forward(&batch(), Keep::Nothing);
    let score = silent.scalars(&pass, &ROWS);
    for (at, found) in scores(&silent).iter().enumerate() {
        assert!((found - score[at / SHAPE.count]).abs() < 1e-5);
    }
}

#[test]
fn gradients_of_particles_are_their_finite_differences() {
    let mut model = with_particles();
    // Outputs that are 0 would hide what is below them.
    for particle in 0..SHAPE.count {
        let values: Vec<f32> =
            (0..SHAPE.width).map(|i| 0.3 + 0.2 * (i + particle) as f32).collect();
        set(&mut model, &format!("particles.differential.{particle}.output.weight"), &values);
    }
    let slopes = [0.5, -1.0, 2.0, 0.25, 1.5, -0.75];
    let loss = |model: &Model<Cpu>| -> f64 {
        scores(model)
            .iter()
            .zip(slopes)
            .map(|(score, slope)| f64::from(*score) * f64::from(slope))
            .sum()
    };
    let found = gradients(&model, &slopes);
    let trained: Vec<usize> = (0..model.params().len())
        .filter(|&index| model.params()[index].name.starts_with("particles.differential."))
        .collect();
    assert_eq!(trained.len(), 2 + 2 * SHAPE.count);
    for index in trained {
        let grad = found[index].as_ref().unwrap();
        let (values, name) = (model.values(index), model.params()[index].name.clone());
        // Along the gradient itself, where the signal is largest.
        let norm = grad.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let step = 1e-3 / norm;
        let mut at = |sign: f64| {
            let shift = |(v, g): (&f32, &f32)| (f64::from(*v) + sign * step * f64::from(*g)) as f32;
            let moved: Vec<f32> = values.iter().zip(grad).map(shift).collect();
            model.params_mut().set_values(index, &moved);
            let loss = loss(&model);
            model.params_mut().set_values(index, &values);
            loss
        };
        let slope = (at(1.0) - at(-1.0)) / (2.0 * step);
        let expected = norm * norm;
        assert!((slope - expected).abs() < 1e-2 * expected, "{name}: {slope}, expected {expected}");
    }
}

/// Whatever particles learn, trunk and score head learn what they would learn alone, to the last bit.
#[test]
fn nothing_but_particles_learns_from_particles() {
    let alone = gradients(&scorer(), &[]);
    let beside = gradients(&with_particles(), &[9.0, -7.0, 5.0, 3.0, 1.0, 2.0]);
    for (index, alone) in alone.iter().enumerate() {
        assert!(*alone == beside[index], "parameter {index}");
    }
    let model = with_particles();
    for (param, gradient) in model.params().iter().zip(&beside) {
        assert_eq!(
            param.name.starts_with("particles.prior."),
            gradient.is_none(),
            "{}",
            param.name
        );
    }
}

#[test]
fn priors_stay_as_they_are_whatever_is_trained() {
    let mut model = with_particles();
    model.set_trainable(|_| true);
    for index in 0..model.params().len() {
        let is_prior = model.params()[index].name.starts_with("particles.prior.");
        assert_eq!(model.params().is_trained(index), !is_prior);
    }
}

#[test]
fn saved_particles_say_the_same_and_a_damaged_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let model = with_particles();
    model.save(folder.path()).unwrap();
    let load = || Model::load(Cpu::new(), folder.path(), &LoadOptions::scorer()).unwrap().0;
    let mut again = load();
    assert_eq!(again.particle_count(), 0, "particles are read where they are wanted");
    assert!(again.load_particles(folder.path()).unwrap());
    assert_eq!(scores(&again), scores(&model));
    assert!(!load().load_particles(&fixture("llama")).unwrap());

    // Those of a wider model.
    let mut wide = Model::load(Cpu::new(), folder.path(), &LoadOptions::scorer()).unwrap().0;
    wide.add_particles(ParticleShape { width: 6, ..SHAPE }, 1);
    let other = tempfile::tempdir().unwrap();
    wide.save(other.path()).unwrap();
    let file = |dir: &std::path::Path| dir.join("particles.safetensors");
    let bytes = std::fs::read(file(other.path())).unwrap();
    std::fs::write(file(folder.path()), &bytes[..bytes.len() / 2]).unwrap();
    let error = load().load_particles(folder.path()).unwrap_err().to_string();
    assert!(error.contains("particles.safetensors"), "{error}");
    assert_eq!(load().particle_count(), 0);
}

/// A hundred of them beside Gemma 2 9B, as in the paper, are less than a twentieth.
#[test]
fn a_hundred_particles_are_a_small_part_of_a_large_model() {
    let shape = ParticleShape { count: 100, width: 256, prior_scale: 1.0 };
    let share = shape.parameters(3584) as f64 / 9.24e9;
    assert!(0.02 < share && share < 0.05, "{share}");
    let model = with_particles();
    let count = model.params().counts().1 - scorer().params().counts().1;
    assert_eq!(SHAPE.parameters(model.config().width), count);
}
