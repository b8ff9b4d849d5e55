use hearken_tensor::cpu::Prepared;
use hearken_tensor::device::{
    Activation, Attention, Gelu, HeadOptions, Precision, Prediction, PredictionGrad, Rows, View,
    ViewMut, Weight, WeightLayout, WeightShape, Write,
};
use hearken_tensor::{Device, Forest};

use crate::attention::blocks;
use crate::{all, random};

#[expect(clippy::too_many_lines, reason = "one step, from the first kernel to the last")]
/// A step through most kernels at sizes where work is divided among threads.
fn step(precision: Precision) -> Vec<Vec<f32>> {
    let cpu = crate::families::cpu();
    let (rows, width, vocabulary) = (300, 96, 700);
    let layout = blocks(4, 2, 16);
    let shape = |inputs, outputs, layout| WeightShape { inputs, outputs, layout, precision };
    let mut results = Vec::new();
    let x = cpu.upload(&random(1, rows * width));
    let dense = Rows::dense(rows, width);

    let norm = cpu.upload(&random(2, width));
    let (mut y, mut rstd) = (cpu.scratch(rows * width), cpu.scratch(rows));
    cpu.rms_norm(View::new(&x, dense), 1, &norm, 1e-5, ViewMut::new(&mut y, dense), &mut rstd);

    let qkv_shape = shape(width, layout.row_stride, WeightLayout::OutputsByInputs);
    let values = cpu.upload(&random(3, width * layout.row_stride));
    let weight = Weight { values: &values, prepared: &Prepared::default(), shape: qkv_shape };
    let qkv_rows = Rows::dense(rows, layout.row_stride);
    let mut qkv = cpu.scratch(qkv_rows.end());
    cpu.linear(
        View::new(&y, dense),
        weight,
        None,
        ViewMut::new(&mut qkv, qkv_rows),
        Write::Overwrite,
    );

    let mut forest = Forest::new();
    let root = forest.push(None, 100);
    forest.push(Some(root), 120);
    forest.push(Some(root), 80);
    let forest = cpu.plan(&forest);
    let attention = Attention { scale: 0.25, window: None, softcap: None };
    let (mut out, mut lse) = (cpu.scratch(rows * 64), cpu.scratch(rows * 4));
    cpu.attention(&qkv, layout, &forest, attention, &mut out, &mut lse);
    let dout = cpu.upload(&random(4, rows * 64));
    let mut dqkv = cpu.scratch(qkv_rows.end());
    cpu.attention_backward(&qkv, layout, &forest, attention, &out, &lse, &dout, &mut dqkv);

    let mut dy = cpu.scratch(rows * width);
    let dqkv_view = View::new(&dqkv, qkv_rows);
    cpu.linear_backward_input(dqkv_view, weight, ViewMut::new(&mut dy, dense), Write::Overwrite);
    let mut dweight = cpu.zeros(width * layout.row_stride);
    cpu.linear_backward_weight(dqkv_view, View::new(&y, dense), qkv_shape, &mut dweight);
    let mut dbias = cpu.zeros(layout.row_stride);
    cpu.sum_rows(dqkv_view, &mut dbias);
    let (mut dx, mut dnorm) = (cpu.scratch(rows * width), cpu.zeros(width));
    cpu.rms_norm_backward(
        View::new(&x, dense),
        1,
        &norm,
        &rstd,
        View::new(&dy, dense),
        ViewMut::new(&mut dx, dense),
        Write::Overwrite,
        Some(&mut dnorm),
    );
    let mut gelu = cpu.scratch(rows * width);
    cpu.activation(Activation::Gelu(Gelu::Erf), &x, &mut gelu);

    let head_values = cpu.upload(&random(5, width * vocabulary));
    let head_shape = shape(width, vocabulary, WeightLayout::OutputsByInputs);
    let head = Weight { values: &head_values, prepared: &Prepared::default(), shape: head_shape };
    let predictions: Vec<Prediction> =
        (0..rows as u32).map(|row| Prediction { row, token: row * 2 }).collect();
    let grads = vec![PredictionGrad { logprob: 1.0, entropy: 0.5 }; rows];
    let mut dhead = cpu.zeros(width * vocabulary);
    let mut dhidden = cpu.scratch(rows * width);
    let output = cpu.logprob_head_backward(
        &y,
        head,
        &predictions,
        &grads,
        HeadOptions { chunk_bytes: 1 << 18, ..HeadOptions::default() },
        None,
        &mut dhidden,
        Some(&mut dhead),
    );
    results.push(output.logprobs);
    results
        .push(cpu.sums_of_squares(vec![&dhead, &dhidden]).iter().map(|&sum| sum as f32).collect());
    for buffer in [qkv, out, dqkv, dweight, dbias, dx, dnorm, gelu, dhidden, dhead] {
        results.push(all(&cpu, &buffer));
    }
    results
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for precision in [Precision::F32, Precision::Bf16] {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| step(precision))
        };
        let (one, two) = (with(1), with(2));
        for (index, (one, two)) in one.iter().zip(&two).enumerate() {
            assert_eq!(one, two, "{precision:?}: result {index}");
        }
    }
}
