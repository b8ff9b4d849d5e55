use hearken_tensor::Device;
use hearken_tensor::cpu::Prepared;
use hearken_tensor::device::{
    HeadOptions, Precision, Prediction, PredictionGrad, Weight, WeightLayout, WeightShape,
};

use crate::{all, assert_close, numeric_gradient, random, wide};

const WIDTH: usize = 12;

struct Reference {
    logprobs: Vec<f64>,
    entropy: Vec<f64>,
    sum_squares: Vec<f64>,
    hits: Vec<bool>,
}

fn naive(
    hidden: &[f64],
    weight: &[f64],
    layout: WeightLayout,
    predictions: &[Prediction],
    (temperature, softcap): (f64, Option<f32>),
) -> Reference {
    let vocabulary = weight.len() / WIDTH;
    let mut reference = Reference {
        logprobs: Vec::new(),
        entropy: Vec::new(),
        sum_squares: Vec::new(),
        hits: Vec::new(),
    };
    for prediction in predictions {
        let row = &hidden[prediction.row as usize * WIDTH..][..WIDTH];
        let at = |v: usize, i: usize| match layout {
            WeightLayout::OutputsByInputs => weight[v * WIDTH + i],
            WeightLayout::InputsByOutputs => weight[i * vocabulary + v],
        };
        let product = |v: usize| (0..WIDTH).map(|i| row[i] * at(v, i)).sum::<f64>();
        let bounded = |product: f64| match softcap.map(f64::from) {
            Some(cap) => cap * (product / cap).tanh(),
            None => product,
        };
        let logit = |v: usize| bounded(product(v)) / temperature;
        let logits: Vec<f64> = (0..vocabulary).map(logit).collect();
        let max = logits.iter().copied().fold(f64::MIN, f64::max);
        let ln_sum = max + logits.iter().map(|z| (z - max).exp()).sum::<f64>().ln();
        let ln_p = |z: &f64| z - ln_sum;
        let token = prediction.token as usize;
        reference.logprobs.push(ln_p(&logits[token]));
        reference.entropy.push(-logits.iter().map(|z| ln_p(z).exp() * ln_p(z)).sum::<f64>());
        reference.sum_squares.push(logits.iter().map(|z| (2.0 * ln_p(z)).exp()).sum());
        reference.hits.push(logits.iter().all(|&z| z <= logits[token]));
    }
    reference
}

fn predictions(rows: usize, vocabulary: usize) -> Vec<Prediction> {
    // Every row once, in reverse; some rows again, with the same and with another token.
    let token = |i: usize| ((i * 7 + 3) % vocabulary) as u32;
    let mut predictions: Vec<Prediction> =
        (0..rows).rev().map(|row| Prediction { row: row as u32, token: token(row) }).collect();
    predictions.push(Prediction { row: 0, token: token(5) });
    predictions.push(Prediction { row: 0, token: token(0) });
    predictions
}

fn check(
    rows: usize,
    vocabulary: usize,
    layout: WeightLayout,
    temperature: f32,
    chunk_bytes: usize,
) {
    for softcap in [None, Some(3.0)] {
        let options = HeadOptions { temperature, chunk_bytes, statistics: true, softcap };
        check_with(rows, vocabulary, layout, options);
    }
}

fn check_with(rows: usize, vocabulary: usize, layout: WeightLayout, options: HeadOptions) {
    let cpu = crate::families::cpu();
    let hidden: Vec<f32> = random(1, rows * WIDTH).iter().map(|x| x * 3.0).collect();
    let weight = random(2, vocabulary * WIDTH);
    let predictions = predictions(rows, vocabulary);
    let grads: Vec<PredictionGrad> = random(3, predictions.len())
        .into_iter()
        .zip(random(4, predictions.len()))
        .map(|(logprob, entropy)| PredictionGrad { logprob, entropy })
        .collect();
    let shape =
        WeightShape { inputs: WIDTH, outputs: vocabulary, layout, precision: Precision::F32 };
    let (h, values) = (cpu.upload(&hidden), cpu.upload(&weight));
    let head = Weight { values: &values, prepared: &Prepared::default(), shape };
    let found = cpu.logprob_head(&h, head, &predictions, options, None);
    let (hidden, weight) = (wide(&hidden), wide(&weight));
    let temperature = (f64::from(options.temperature), options.softcap);
    let expected = naive(&hidden, &weight, layout, &predictions, temperature);
    assert_close(&found.logprobs, &expected.logprobs, 1e-6);
    assert_close(&found.entropy, &expected.entropy, 2e-6);
    assert_close(&found.sum_squares, &expected.sum_squares, 2e-6);
    assert_eq!(found.argmax_hit, expected.hits);

    let (mut dhidden, mut dweight) =
        (cpu.scratch(rows * WIDTH), cpu.upload(&random(5, weight.len())));
    let both = cpu.logprob_head_backward(
        &h,
        head,
        &predictions,
        &grads,
        options,
        None,
        &mut dhidden,
        Some(&mut dweight),
    );
    assert_eq!(both, found, "forward alone and with backward");
    let loss = |hidden: &[f64], weight: &[f64]| {
        let reference = naive(hidden, weight, layout, &predictions, temperature);
        let term = |i: usize| {
            f64::from(grads[i].logprob) * reference.logprobs[i]
                + f64::from(grads[i].entropy) * reference.entropy[i]
        };
        (0..grads.len()).map(term).sum::<f64>()
    };
    let expected = numeric_gradient(|hidden| loss(hidden, &weight), &hidden);
    assert_close(&all(&cpu, &dhidden), &expected, 5e-6);
    let mut expected = numeric_gradient(|weight| loss(&hidden, weight), &weight);
    expected.iter_mut().zip(random(5, weight.len())).for_each(|(e, b)| *e += f64::from(b));
    assert_close(&all(&cpu, &dweight), &expected, 5e-6);
}

#[test]
fn log_probabilities_entropies_and_their_gradients() {
    for layout in [WeightLayout::OutputsByInputs, WeightLayout::InputsByOutputs] {
        for temperature in [1.0, 0.7, 2.5] {
            check(5, 35, layout, temperature, 16 << 20);
        }
    }
    check(1, 3, WeightLayout::OutputsByInputs, 1.0, 16 << 20);
    check(12, 16, WeightLayout::OutputsByInputs, 1.3, 16 << 20);
}

#[test]
fn chunks_of_rows_change_nothing_but_memory() {
    for chunk_bytes in [1, 35 * 4, 2 * 35 * 4 + 3, 4 * 35 * 4] {
        check(5, 35, WeightLayout::OutputsByInputs, 0.9, chunk_bytes);
    }
}

#[test]
fn logits_that_are_kept_change_no_bit() {
    let (cpu, rows, vocabulary) = (crate::families::cpu(), 7, 35);
    let hidden = cpu.upload(&random(1, rows * WIDTH));
    let values = cpu.upload(&random(2, vocabulary * WIDTH));
    let predictions = predictions(rows, vocabulary);
    let grads = vec![PredictionGrad { logprob: 0.3, entropy: -0.1 }; predictions.len()];
    for (precision, softcap) in [(Precision::F32, None), (Precision::Bf16, Some(2.0))] {
        let chunk_bytes = 3 * 4 * vocabulary;
        let options = HeadOptions { chunk_bytes, statistics: true, temperature: 0.7, softcap };
        assert_eq!(options.chunk_rows(vocabulary), 3);
        let layout = WeightLayout::OutputsByInputs;
        let shape = WeightShape { inputs: WIDTH, outputs: vocabulary, layout, precision };
        let head = Weight { values: &values, prepared: &Prepared::default(), shape };
        let run = |kept: Option<usize>| {
            let mut logits = kept.map(|rows| cpu.scratch(rows * vocabulary));
            let output = cpu.logprob_head(&hidden, head, &predictions, options, logits.as_mut());
            let (mut dhidden, mut dweight) =
                (cpu.scratch(rows * WIDTH), cpu.zeros(vocabulary * WIDTH));
            let again = cpu.logprob_head_backward(
                &hidden,
                head,
                &predictions,
                &grads,
                options,
                logits,
                &mut dhidden,
                Some(&mut dweight),
            );
            assert_eq!(again, output);
            (output, all(&cpu, &dhidden), all(&cpu, &dweight))
        };
        let expected = run(None);
        for kept in [0, 3, 6, 7] {
            assert_eq!(run(Some(kept)), expected, "{kept} rows kept");
        }
    }
}

/// Were they computed again all the same, nothing would come of what is changed here.
#[test]
fn kept_logits_are_what_the_backward_pass_reads() {
    let cpu = crate::families::cpu();
    let shape = WeightShape {
        inputs: WIDTH,
        outputs: 20,
        layout: WeightLayout::OutputsByInputs,
        precision: Precision::F32,
    };
    let values = cpu.upload(&random(1, 20 * WIDTH));
    let head = Weight { values: &values, prepared: &Prepared::default(), shape };
    let hidden = cpu.upload(&random(2, WIDTH));
    let prediction = [Prediction { row: 0, token: 4 }];
    let grads = [PredictionGrad { logprob: 1.0, entropy: 0.0 }];
    let options = HeadOptions::default();
    let logits = cpu.zeros(20);
    let mut dhidden = cpu.scratch(WIDTH);
    let output = cpu.logprob_head_backward(
        &hidden,
        head,
        &prediction,
        &grads,
        options,
        Some(logits),
        &mut dhidden,
        None,
    );
    assert!((output.logprobs[0] + 20.0_f32.ln()).abs() < 1e-6);
}

#[test]
fn statistics_are_given_only_when_asked_for() {
    let cpu = crate::families::cpu();
    let shape = WeightShape {
        inputs: WIDTH,
        outputs: 20,
        layout: WeightLayout::OutputsByInputs,
        precision: Precision::F32,
    };
    let values = cpu.upload(&random(1, 20 * WIDTH));
    let head = Weight { values: &values, prepared: &Prepared::default(), shape };
    let hidden = cpu.upload(&random(2, WIDTH));
    let prediction = [Prediction { row: 0, token: 4 }];
    let output = cpu.logprob_head(&hidden, head, &prediction, HeadOptions::default(), None);
    assert_eq!(output.logprobs.len(), 1);
    assert!(output.entropy.is_empty() && output.sum_squares.is_empty());
    assert!(output.argmax_hit.is_empty());
}

/// Logits far apart, where a softmax without its maximum overflows.
#[test]
fn extreme_logits_stay_finite() {
    let cpu = crate::families::cpu();
    let shape = WeightShape {
        inputs: 1,
        outputs: 3,
        layout: WeightLayout::OutputsByInputs,
        precision: Precision::F32,
    };
    let values = cpu.upload(&[1000.0, 0.0, -1000.0]);
    let head = Weight { values: &values, prepared: &Prepared::default(), shape };
    let hidden = cpu.upload(&[1.0]);
    let predictions = [0, 1, 2].map(|token| Prediction { row: 0, token });
    let options = HeadOptions { statistics: true, ..HeadOptions::default() };
    let output = cpu.logprob_head(&hidden, head, &predictions, options, None);
    assert_eq!(output.logprobs, [0.0, -1000.0, -2000.0]);
    assert_eq!(output.entropy[0], 0.0);
    assert_eq!(output.sum_squares[0], 1.0);
    assert_eq!(output.argmax_hit, [true, false, false]);
}

#[test]
fn rows_without_derivatives_give_gradients_of_exactly_zero() {
    let cpu = crate::families::cpu();
    let shape = WeightShape {
        inputs: WIDTH,
        outputs: 20,
        layout: WeightLayout::OutputsByInputs,
        precision: Precision::F32,
    };
    let values = cpu.upload(&random(1, 20 * WIDTH));
    let head = Weight { values: &values, prepared: &Prepared::default(), shape };
    let hidden = cpu.upload(&random(2, 3 * WIDTH));
    let predictions = [0, 1, 2].map(|row| Prediction { row, token: 4 });
    let mut grads = [PredictionGrad::default(); 3];
    let (mut dhidden, mut dweight) = (cpu.scratch(3 * WIDTH), cpu.zeros(20 * WIDTH));
    let mut run = |grads: &[PredictionGrad]| {
        cpu.logprob_head_backward(
            &hidden,
            head,
            &predictions,
            grads,
            HeadOptions::default(),
            None,
            &mut dhidden,
            Some(&mut dweight),
        );
        (all(&cpu, &dhidden), all(&cpu, &dweight))
    };
    let (dhidden, dweight) = run(&grads);
    assert!(dhidden.iter().chain(&dweight).all(|&x| x == 0.0));
    grads[1].logprob = 1.0;
    let (dhidden, dweight) = run(&grads);
    assert!(dhidden[..WIDTH].iter().chain(&dhidden[2 * WIDTH..]).all(|&x| x == 0.0));
    assert!(dhidden[WIDTH..2 * WIDTH].iter().all(|&x| x != 0.0));
    assert!(dweight.iter().all(|&x| x != 0.0));
}
