//! The log-probability head.

use super::rows::softcap;
use super::{Prepared, Values, products};
use crate::device::{
    HeadOptions, HeadOutput, Prediction, PredictionGrad, Rows, View, ViewMut, Weight, Write,
};

/// All logits, `[rows, V]`, and their derivatives by what a cap bounds.
fn logits(
    hidden: &Values,
    weight: Weight<'_, Values, Prepared>,
    options: HeadOptions,
) -> (Values, Vec<f64>) {
    let (width, vocabulary) = (weight.shape.inputs, weight.shape.outputs);
    let rows = hidden.0.len() / width;
    let mut logits = Values(vec![0.0; rows * vocabulary]);
    let x = View::new(hidden, Rows::dense(rows, width));
    let y = ViewMut::new(&mut logits, Rows::dense(rows, vocabulary));
    products::forward(x, weight, None, y, Write::Overwrite);
    let bounded = logits.0.into_iter().map(|logit| softcap(options.softcap, logit));
    let (logits, slopes) = bounded.unzip();
    (Values(logits), slopes)
}

/// Leaves the logits of the first rows, as many as there is room for.
pub(super) fn keep(
    hidden: &Values,
    weight: Weight<'_, Values, Prepared>,
    options: HeadOptions,
    kept: &mut Values,
) {
    let len = kept.0.len();
    kept.0.copy_from_slice(&logits(hidden, weight, options).0.0[..len]);
}

/// ln p of every token of a row.
fn ln_p(logits: &[f64], temperature: f64) -> Vec<f64> {
    let z: Vec<f64> = logits.iter().map(|logit| logit / temperature).collect();
    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let ln_sum = max + z.iter().map(|z| (z - max).exp()).sum::<f64>().ln();
    z.iter().map(|z| z - ln_sum).collect()
}

/// −Σ p·ln p; a token of probability 0 adds nothing.
fn entropy(ln_p: &[f64]) -> f64 {
    -ln_p.iter().map(|&l| if l == f64::NEG_INFINITY { 0.0 } else { l.exp() * l }).sum::<f64>()
}

pub(super) fn forward(
    hidden: &Values,
    weight: Weight<'_, Values, Prepared>,
    predictions: &[Prediction],
    options: HeadOptions,
) -> HeadOutput {
    let (vocabulary, (logits, _)) = (weight.shape.outputs, logits(hidden, weight, options));
    let mut output = HeadOutput::default();
    for prediction in predictions {
        let row = &logits.0[prediction.row as usize * vocabulary..][..vocabulary];
        let ln_p = ln_p(row, f64::from(options.temperature));
        let own = ln_p[prediction.token as usize];
        output.logprobs.push(own as f32);
        if options.statistics {
            output.entropy.push(entropy(&ln_p) as f32);
            output.sum_squares.push(ln_p.iter().map(|l| (2.0 * l).exp()).sum::<f64>() as f32);
            output.argmax_hit.push(ln_p.iter().all(|&l| l <= own));
        }
    }
    output
}

pub(super) fn backward(
    hidden: &Values,
    weight: Weight<'_, Values, Prepared>,
    predictions: &[Prediction],
    grads: &[PredictionGrad],
    options: HeadOptions,
    dhidden: &mut Values,
    dweight: Option<&mut Values>,
) -> HeadOutput {
    let (width, vocabulary) = (weight.shape.inputs, weight.shape.outputs);
    let (logits, slopes) = logits(hidden, weight, options);
    let temperature = f64::from(options.temperature);
    let mut dlogits = Values(vec![0.0; logits.0.len()]);
    for (prediction, grad) in predictions.iter().zip(grads) {
        let at = prediction.row as usize * vocabulary;
        let ln_p = ln_p(&logits.0[at..at + vocabulary], temperature);
        let (g, e, entropy) = (f64::from(grad.logprob), f64::from(grad.entropy), entropy(&ln_p));
        for (token, &l) in ln_p.iter().enumerate() {
            let (p, own) = (l.exp(), f64::from(u8::from(token == prediction.token as usize)));
            let of_entropy = if p == 0.0 { 0.0 } else { e * p * (l + entropy) };
            dlogits.0[at + token] +=
                (g * (own - p) - of_entropy) / temperature * slopes[at + token];
        }
    }
    let rows = hidden.0.len() / width;
    let dy = View::new(&dlogits, Rows::dense(rows, vocabulary));
    let dense = Rows::dense(rows, width);
    products::backward_input(dy, weight, ViewMut::new(dhidden, dense), Write::Overwrite);
    if let Some(dweight) = dweight {
        products::backward_weight(dy, View::new(hidden, dense), weight.shape, dweight);
    }
    forward(hidden, weight, predictions, options)
}
