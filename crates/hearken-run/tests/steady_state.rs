//! What repeats takes its memory from the pool.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use hearken_config::{BelowOne, NonNegative, OptimizerConfig, ScheduleKind, Warmup};
use hearken_model::{Batch, Keep, LoadOptions, Model, OutputGrads};
use hearken_run::optimizer::{Optimizer, Trained};
use hearken_run::ranks::Ranks;
use hearken_tensor::Cpu;
use hearken_tensor::device::{HeadOptions, Precision, PredictionGrad};
use hearken_testing::llama;

const fn from_zero(x: f64) -> NonNegative {
    NonNegative::new(x).unwrap()
}

const CONFIG: OptimizerConfig = OptimizerConfig {
    lr: from_zero(1e-3),
    betas: [BelowOne::new(0.9).unwrap(), BelowOne::new(0.999).unwrap()],
    eps: from_zero(1e-8),
    weight_decay: from_zero(0.01),
    grad_norm_max: NonNegative::new(1.0),
    schedule: ScheduleKind::Constant,
    warmup_steps: Warmup::NONE,
};

#[test]
fn steps_of_one_size_make_no_buffer_anew() {
    // Of several threads, how many need scratch at once differs from step to step.
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    one_thread.install(check_steps_of_one_size);
}

fn check_steps_of_one_size() {
    let alone = Ranks::default();
    let ids: Vec<u32> = (0..60).map(|i| i % 50).collect();
    let mut batch = Batch::new();
    batch.push(None, &ids);
    let predictions = Model::<Cpu>::next_token_predictions(&ids, 0);
    let grads = vec![PredictionGrad { logprob: -0.1, entropy: 0.0 }; predictions.len()];
    let head = HeadOptions::default();
    for (precision, keep) in [Precision::F32, Precision::Bf16]
        .into_iter()
        .flat_map(|precision| [(precision, Keep::Activations), (precision, Keep::BlockInputs)])
    {
        let mut model =
            Model::load(Cpu::new(), &llama(), &LoadOptions::language_model()).unwrap().0;
        model.set_precision(precision);
        let mut gradients = model.gradients();
        let mut optimizer = Optimizer::new(&CONFIG, &[model.params()], &alone);
        let mut made = Vec::new();
        for _ in 0..6 {
            gradients.zero();
            let mut pass = model.forward(&batch, keep);
            model.logprobs_keeping(&mut pass, &predictions, head, usize::MAX);
            let of = OutputGrads {
                predictions: &predictions,
                prediction_grads: &grads,
                head,
                ..OutputGrads::default()
            };
            model.backward(pass, &of, &mut gradients);
            let trained =
                Trained { params: model.params_mut(), gradients: &mut gradients, lr: 1e-3 };
            optimizer.step(&mut [trained], &alone).unwrap();
            made.push(model.device().buffers_made());
        }
        assert_eq!(made[2], made[5], "{precision:?} {keep:?}: {made:?}");
    }
}
