use hearken_tensor::Device;
use hearken_tensor::device::{Rows, View, ViewMut, Write};

use crate::{all, assert_close, dot, numeric_gradient, random, wide};

const EPS: f32 = 1e-5;

fn rms(x: &[f64], weight: &[f64]) -> Vec<f64> {
    let groups = x.chunks(weight.len());
    let norm = |x: &[f64]| {
        let rstd = 1.0 / (dot(x, x) / x.len() as f64 + f64::from(EPS)).sqrt();
        x.iter().zip(weight).map(|(x, w)| x * rstd * w).collect::<Vec<_>>()
    };
    groups.flat_map(norm).collect()
}

fn layer(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let norm = |x: &[f64]| {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let rstd = 1.0 / (variance + f64::from(EPS)).sqrt();
        let parameters = weight.iter().zip(bias);
        x.iter().zip(parameters).map(|(x, (w, b))| (x - mean) * rstd * w + b).collect::<Vec<_>>()
    };
    x.chunks(weight.len()).flat_map(norm).collect()
}

/// (rows, groups, width of a group)
const SHAPES: [(usize, usize, usize); 6] =
    [(1, 1, 3), (3, 1, 16), (5, 2, 7), (40, 1, 20), (2, 3, 64), (70, 1, 37)];

#[test]
fn rms_norm_forward_and_backward() {
    let cpu = crate::families::cpu();
    for (rows, groups, width) in SHAPES {
        for write in [Write::Overwrite, Write::Add] {
            let len = rows * groups * width;
            let (x, weight, dy) = (random(1, len), random(2, width), random(3, len));
            let (before, dweight_before) = (random(4, len), random(5, width));
            let dense = Rows::dense(rows, groups * width);
            let (x_buffer, w) = (cpu.upload(&x), cpu.upload(&weight));
            let (mut y, mut rstd) = (cpu.scratch(len), cpu.scratch(rows * groups));
            let view = View::new(&x_buffer, dense);
            cpu.rms_norm(view, groups, &w, EPS, ViewMut::new(&mut y, dense), &mut rstd);
            assert_close(&all(&cpu, &y), &rms(&wide(&x), &wide(&weight)), 1e-6);

            let (dy_buffer, mut dx) = (cpu.upload(&dy), cpu.upload(&before));
            let mut dweight = cpu.upload(&dweight_before);
            cpu.rms_norm_backward(
                view,
                groups,
                &w,
                &rstd,
                View::new(&dy_buffer, dense),
                ViewMut::new(&mut dx, dense),
                write,
                Some(&mut dweight),
            );
            let loss = |x: &[f64], weight: &[f64]| dot(&rms(x, weight), &wide(&dy));
            let mut expected = numeric_gradient(|x| loss(x, &wide(&weight)), &wide(&x));
            if write == Write::Add {
                expected.iter_mut().zip(&before).for_each(|(e, &b)| *e += f64::from(b));
            }
            assert_close(&all(&cpu, &dx), &expected, 2e-6);
            let mut expected = numeric_gradient(|w| loss(&wide(&x), w), &wide(&weight));
            expected.iter_mut().zip(&dweight_before).for_each(|(e, &b)| *e += f64::from(b));
            assert_close(&all(&cpu, &dweight), &expected, 2e-6);
        }
    }
}

#[test]
fn layer_norm_forward_and_backward() {
    let cpu = crate::families::cpu();
    for (rows, groups, width) in SHAPES {
        let width = groups * width;
        if width == 1 {
            continue;
        }
        let len = rows * width;
        // A mean far from 0 shows cancellation where there is any.
        let x: Vec<f32> = random(1, len).into_iter().map(|x| x + 10.0).collect();
        let (weight, bias, dy) = (random(2, width), random(3, width), random(4, len));
        let dense = Rows::dense(rows, width);
        let (x_buffer, w, b) = (cpu.upload(&x), cpu.upload(&weight), cpu.upload(&bias));
        let (mut y, mut statistics) = (cpu.scratch(len), cpu.scratch(rows * 2));
        let view = View::new(&x_buffer, dense);
        cpu.layer_norm(view, &w, &b, EPS, ViewMut::new(&mut y, dense), &mut statistics);
        let expected = layer(&wide(&x), &wide(&weight), &wide(&bias));
        assert_close(&all(&cpu, &y), &expected, 5e-6);

        let (dy_buffer, mut dx) = (cpu.upload(&dy), cpu.scratch(len));
        let (mut dweight, mut dbias) = (cpu.zeros(width), cpu.zeros(width));
        cpu.layer_norm_backward(
            view,
            &w,
            &statistics,
            View::new(&dy_buffer, dense),
            ViewMut::new(&mut dx, dense),
            Write::Overwrite,
            Some(&mut dweight),
            Some(&mut dbias),
        );
        let (x, weight, bias, dy) = (wide(&x), wide(&weight), wide(&bias), wide(&dy));
        let loss = |x: &[f64], w: &[f64], b: &[f64]| dot(&layer(x, w, b), &dy);
        let expected = numeric_gradient(|x| loss(x, &weight, &bias), &x);
        assert_close(&all(&cpu, &dx), &expected, 2e-5);
        let expected = numeric_gradient(|w| loss(&x, w, &bias), &weight);
        assert_close(&all(&cpu, &dweight), &expected, 1e-5);
        let expected = numeric_gradient(|b| loss(&x, &weight, b), &bias);
        assert_close(&all(&cpu, &dbias), &expected, 1e-5);
    }
}
