//! The processor against the slow device, operation by operation, on the same numbers.

use hearken_tensor::device::{
    AdamW, Attention, Cache, CacheMut, CachedRow, HeadOptions, HeadOutput, Heads, LinearPart,
    Precision, Prediction, PredictionGrad, Rotary, Rotation, Rows, View, ViewMut, Weight,
    WeightLayout, WeightShape, Write,
};
use hearken_tensor::draw::{Allowed, Choice, DrawRow};
use hearken_tensor::{AnyDevice, Device, Forest, Reference};

use crate::attention::blocks;
use crate::random;

/// The same operations on a device; what it gives by name.
type Script = Vec<(&'static str, Vec<f32>)>;

fn values<D: Device>(device: &D, buffer: &D::Buffer) -> Vec<f32> {
    device.read(buffer).into_owned()
}

#[track_caller]
fn assert_same(cpu: &Script, reference: &Script, tolerance: f64) {
    assert_eq!(cpu.len(), reference.len());
    for ((name, found), (_, expected)) in cpu.iter().zip(reference) {
        assert_eq!(found.len(), expected.len(), "{name}");
        let scale = expected.iter().fold(1e-3_f32, |max, x| max.max(x.abs()));
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            let error = f64::from((found - expected).abs() / scale);
            assert!(error <= tolerance, "{name} {i}: {found} instead of {expected}");
        }
    }
}

fn products<D: Device>(device: &D, precision: Precision) -> Script {
    let (rows, inputs, outputs) = (37, 70, 45);
    let mut script = Script::new();
    for layout in [WeightLayout::OutputsByInputs, WeightLayout::InputsByOutputs] {
        let shape = WeightShape { inputs, outputs, layout, precision };
        let weights = device.upload(&random(1, inputs * outputs));
        let bias = device.upload(&random(2, outputs));
        let prepared = D::Prepared::default();
        let weight = Weight { values: &weights, prepared: &prepared, shape };
        let x = device.upload(&random(3, rows * inputs));
        let dy = device.upload(&random(4, rows * outputs));
        let (x_rows, y_rows) = (Rows::dense(rows, inputs), Rows::dense(rows, outputs));
        for write in [Write::Overwrite, Write::Add] {
            let mut y = device.upload(&random(5, rows * outputs));
            let out = ViewMut::new(&mut y, y_rows);
            device.linear(View::new(&x, x_rows), weight, Some(&bias), out, write);
            script.push(("linear", values(device, &y)));
            let mut dx = device.upload(&random(6, rows * inputs));
            let out = ViewMut::new(&mut dx, x_rows);
            device.linear_backward_input(View::new(&dy, y_rows), weight, out, write);
            script.push(("linear_backward_input", values(device, &dx)));
        }
        let wide = Rows::dense(rows, 2 * outputs);
        let mut y = device.upload(&random(7, wide.end()));
        let part = |first: usize, bias| {
            let y = wide.columns(first * outputs, outputs);
            LinearPart { weight, bias, y }
        };
        let parts = vec![part(0, None), part(1, Some(&bias))];
        device.linear_parts(View::new(&x, x_rows), parts, &mut y, Write::Add);
        script.push(("linear_parts", values(device, &y)));
        let mut dweight = device.upload(&random(8, inputs * outputs));
        let views = (View::new(&dy, y_rows), View::new(&x, x_rows));
        device.linear_backward_weight(views.0, views.1, shape, &mut dweight);
        script.push(("linear_backward_weight", values(device, &dweight)));
        let mut dbias = device.upload(&random(9, outputs));
        device.sum_rows(views.0, &mut dbias);
        script.push(("sum_rows", values(device, &dbias)));
    }
    script
}

#[test]
fn products_agree() {
    let cpu = crate::families::cpu();
    for precision in [Precision::F32, Precision::Bf16] {
        assert_same(&products(&cpu, precision), &products(&Reference, precision), 2e-6);
    }
}

fn norms<D: Device>(device: &D) -> Script {
    let (rows, width) = (19, 48);
    let mut script = Script::new();
    let dense = Rows::dense(rows, width);
    let (x, dy) = (device.upload(&random(1, dense.end())), device.upload(&random(2, dense.end())));
    let (x, dy) = (View::new(&x, dense), View::new(&dy, dense));
    for (groups, write) in [(1, Write::Overwrite), (3, Write::Add)] {
        let weight = device.upload(&random(3, width / groups));
        let (mut y, mut rstd) = (device.scratch(dense.end()), device.scratch(rows * groups));
        device.rms_norm(x, groups, &weight, 1e-5, ViewMut::new(&mut y, dense), &mut rstd);
        let (mut dx, mut dweight) =
            (device.upload(&random(4, dense.end())), device.zeros(width / groups));
        let (out, dw) = (ViewMut::new(&mut dx, dense), Some(&mut dweight));
        device.rms_norm_backward(x, groups, &weight, &rstd, dy, out, write, dw);
        for (name, buffer) in [("rms y", &y), ("rms dx", &dx), ("rms dweight", &dweight)] {
            script.push((name, values(device, buffer)));
        }
    }
    let (weight, bias) = (device.upload(&random(5, width)), device.upload(&random(6, width)));
    let (mut y, mut statistics) = (device.scratch(dense.end()), device.scratch(2 * rows));
    device.layer_norm(x, &weight, &bias, 1e-5, ViewMut::new(&mut y, dense), &mut statistics);
    let (mut dweight, mut dbias) = (device.zeros(width), device.zeros(width));
    let mut dx = device.upload(&random(7, dense.end()));
    let (out, dw, db) = (ViewMut::new(&mut dx, dense), Some(&mut dweight), Some(&mut dbias));
    device.layer_norm_backward(x, &weight, &statistics, dy, out, Write::Add, dw, db);
    for (name, buffer) in [("y", &y), ("dx", &dx), ("dweight", &dweight), ("dbias", &dbias)] {
        script.push((name, values(device, buffer)));
    }
    script
}

#[test]
fn norms_agree() {
    assert_same(&norms(&crate::families::cpu()), &norms(&Reference), 5e-6);
}

/// A forest, then its longest path over a cache.
fn attention<D: Device>(device: &D, precision: Precision, softcap: Option<f32>) -> Script {
    let layout = blocks(4, 2, 24);
    let mut forest = Forest::new();
    let root = forest.push(None, 70);
    let left = forest.push(Some(root), 9);
    forest.push(Some(root), 20);
    forest.push(Some(left), 5);
    let (rows, attention) = (forest.rows(), Attention { scale: 0.2, window: Some(60), softcap });
    let mut qkv = device.upload(&random(1, rows * layout.row_stride));
    let positions = device.ids(&forest.positions());
    let table = |seed| device.upload(&random(seed, 100 * 8));
    let (cos, sin) = (table(2), table(3));
    let rotary = Rotary { cos: &cos, sin: &sin, rotary_dim: 16 };
    for heads in [layout.query, layout.key] {
        device.rotary(&mut qkv, layout, heads, &positions, rotary, Rotation::Forward);
    }
    if precision == Precision::Bf16 {
        device.round_heads(&mut qkv, layout, layout.key);
        device.round_heads(&mut qkv, layout, layout.value);
    }
    let (mut out, mut log_sum_exp) = (device.scratch(rows * 96), device.scratch(rows * 4));
    let plan = device.plan(&forest);
    device.attention(&qkv, layout, &plan, attention, &mut out, &mut log_sum_exp);
    let (dout, mut dqkv) = (device.upload(&random(4, rows * 96)), device.zeros(device.len(&qkv)));
    let saved = (&out, &log_sum_exp);
    device.attention_backward(&qkv, layout, &plan, attention, saved.0, saved.1, &dout, &mut dqkv);
    device.rotary(&mut dqkv, layout, layout.query, &positions, rotary, Rotation::Backward);
    let mut script = vec![("qkv", values(device, &qkv)), ("out", values(device, &out))];
    script.push(("log_sum_exp", values(device, &log_sum_exp)));
    script.push(("dqkv", values(device, &dqkv)));

    let (len, page_len) = (79, 8);
    let pages: Vec<u32> = (0..10).map(|page| (page * 7 + 3) % 10).collect();
    let row = |position: u32| CachedRow { pages: &pages, position };
    let rows: Vec<CachedRow<'_>> = (0..len as u32).map(row).collect();
    let size = 10 * page_len * 2 * device.head_words(24, precision);
    let (mut keys, mut kept) = (device.zeros(size), device.zeros(size));
    let plan = device.cache_plan(&rows, page_len);
    let path = device.upload(&values(device, &qkv)[..len * layout.row_stride]);
    let cache = CacheMut { keys: &mut keys, values: &mut kept, page_len, precision };
    device.cache_write(&path, layout, &plan, cache);
    let mut out = device.scratch(len * 96);
    let cache = Cache { keys: &keys, values: &kept, page_len, precision };
    device.attention_cached(&path, layout, cache, &plan, attention, &mut out);
    script.push(("cached", values(device, &out)));
    script
}

#[test]
fn attention_agrees_over_forests_and_caches() {
    let cpu = crate::families::cpu();
    for precision in [Precision::F32, Precision::Bf16] {
        // A value near the middle of two bfloat16s may fall to either side, half a unit away.
        let tolerance = if precision == Precision::F32 { 5e-6 } else { 8e-3 };
        for softcap in [None, Some(0.8)] {
            let found = attention(&cpu, precision, softcap);
            assert_same(&found, &attention(&Reference, precision, softcap), tolerance);
        }
    }
}

fn head<D: Device>(device: &D, layout: WeightLayout, softcap: Option<f32>) -> Script {
    let (rows, width, vocabulary) = (9, 20, 130);
    let precision = Precision::F32;
    let shape = WeightShape { inputs: width, outputs: vocabulary, layout, precision };
    let weights = device.upload(&random(1, width * vocabulary));
    let prepared = D::Prepared::default();
    let weight = Weight { values: &weights, prepared: &prepared, shape };
    let hidden = device.upload(&random(2, rows * width));
    let predictions: Vec<Prediction> =
        (0..2 * rows as u32).map(|i| Prediction { row: i / 2, token: i * 7 }).collect();
    let grad = |i: usize| PredictionGrad { logprob: 0.3 - i as f32 * 0.05, entropy: 0.1 };
    let grads: Vec<PredictionGrad> = (0..predictions.len()).map(grad).collect();
    let options =
        HeadOptions { temperature: 0.7, statistics: true, softcap, ..HeadOptions::default() };
    let mut logits = device.scratch(rows * vocabulary);
    let forward =
        device.wait(device.logprob_head(&hidden, weight, &predictions, options, Some(&mut logits)));
    let mut script = vec![("logits", values(device, &logits))];
    let (mut dhidden, mut dweight) =
        (device.scratch(rows * width), device.zeros(width * vocabulary));
    let backward = device.wait(device.logprob_head_backward(
        &hidden,
        weight,
        &predictions,
        &grads,
        options,
        Some(logits),
        &mut dhidden,
        Some(&mut dweight),
    ));
    for HeadOutput { logprobs, entropy, sum_squares, argmax_hit } in [forward, backward] {
        script.push(("logprobs", logprobs));
        script.push(("entropy", entropy));
        script.push(("sum_squares", sum_squares));
        script
            .push(("argmax_hit", argmax_hit.iter().map(|&hit| f32::from(u8::from(hit))).collect()));
    }
    script.push(("dhidden", values(device, &dhidden)));
    script.push(("dweight", values(device, &dweight)));
    script
}

#[test]
fn the_log_probability_head_agrees() {
    let cpu = crate::families::cpu();
    for layout in [WeightLayout::OutputsByInputs, WeightLayout::InputsByOutputs] {
        for softcap in [None, Some(1.5)] {
            assert_same(&head(&cpu, layout, softcap), &head(&Reference, layout, softcap), 2e-6);
        }
    }
}

fn the_rest<D: Device>(device: &D) -> Script {
    let len = 1003;
    let (from, mut to) = (device.upload(&random(1, len)), device.upload(&random(2, len)));
    device.add_scaled(&from, 0.3, &mut to);
    device.interpolate(&from, 0.1, &mut to);
    device.copy_within(&mut to, 10, 500, 200);
    let mut script = vec![("vectors", values(device, &to))];
    let (mut parameter, mut first, mut second) =
        (device.upload(&random(3, len)), device.zeros(len), device.zeros(len));
    for step in 1..=3 {
        let step = AdamW {
            lr: 1e-2,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.1,
            step,
            grad_scale: 0.5,
        };
        device.adamw(step, &mut parameter, &to, &mut first, &mut second);
    }
    for (name, buffer) in [("parameter", &parameter), ("first", &first), ("second", &second)] {
        script.push((name, values(device, buffer)));
    }
    let squares = device.wait(device.sums_of_squares(vec![&parameter, &first]));
    script.push(("sums_of_squares", squares.iter().map(|&sum| sum as f32).collect()));
    let bad = device.upload(&[1.0, f32::NAN]);
    assert_eq!(device.wait(device.first_non_finite(vec![&parameter, &bad])), Some((1, 1)));
    let ids = device.ids(&[4, 0, 4]);
    let (table, rows) = (device.upload(&random(4, 6 * 30)), Rows::dense(3, 30));
    let mut out = device.upload(&random(5, rows.end()));
    device.gather_rows(&table, &ids, ViewMut::new(&mut out, rows), Write::Add);
    let mut target = device.upload(&random(6, 6 * 30));
    device.scatter_add_rows(View::new(&out, rows), &ids, &mut target);
    script.push(("rows", values(device, &target)));
    let layout = blocks(1, 1, 6);
    let mut heads = device.upload(&random(7, 5 * layout.row_stride));
    device.round_heads(&mut heads, layout, Heads { offset: 6, ..layout.key });
    script.push(("round_heads", values(device, &heads)));
    device.softcap(0.6, &mut heads);
    script.push(("softcap", values(device, &heads)));
    script
}

#[test]
fn everything_else_agrees() {
    assert_same(&the_rest(&crate::families::cpu()), &the_rest(&Reference), 2e-6);
}

/// Tokens drawn by every kind of choice, with what is added and what is allowed; logits have ties.
fn draws<D: Device>(device: &D) -> Script {
    const V: usize = 150;
    let rows = 40;
    let logits: Vec<f32> = random(21, rows * V).iter().map(|x| (x * 20.0).round() / 4.0).collect();
    let logits = device.upload(&logits);
    let plain = Choice { temperature: 1.0, top_k: None, top_p: 1.0, min_p: 0.0, uniform: 0.5 };
    let choices = [
        plain,
        Choice { temperature: 0.0, ..plain },
        Choice { temperature: 0.6, ..plain },
        Choice { top_k: Some(5), ..plain },
        Choice { top_p: 0.9, ..plain },
        Choice { min_p: 0.2, ..plain },
        Choice { top_p: 0.8, top_k: Some(30), min_p: 0.01, temperature: 1.7, ..plain },
    ];
    let mut script = Script::new();
    for choice in choices {
        let row = |row: usize| DrawRow {
            logits: View::new(&logits, Rows { offset: row * V, ..Rows::dense(1, V) }),
            choice: Choice { uniform: (row as f64 + 0.5) / rows as f64, ..choice },
            added: if row.is_multiple_of(3) {
                vec![(7, 9.0), (7, -1.0), (9, -4.0)]
            } else {
                Vec::new()
            },
            allowed: match row % 4 {
                1 => Some(Allowed { bits: vec![0xffff_0ff0, 0x8000_0001], otherwise: vec![3] }),
                2 => Some(Allowed { bits: Vec::new(), otherwise: vec![3, 140] }),
                _ => None,
            },
            likeliest: row.is_multiple_of(2).then_some(row % 5),
        };
        let drawn = device.wait(device.draw((0..rows).map(row).collect()));
        let drawn: Vec<_> = drawn.into_iter().map(Result::unwrap).collect();
        script.push(("drawn", drawn.iter().map(|one| one.id as f32).collect()));
        script.push(("logprob", drawn.iter().map(|one| one.logprob as f32).collect()));
        let reports = drawn.iter().filter_map(|one| one.report.as_ref());
        let told = reports.flat_map(|of| {
            let likeliest = of.likeliest.iter().flat_map(|&(id, p)| [id as f32, p as f32]);
            std::iter::once(of.logprob as f32).chain(likeliest)
        });
        script.push(("report", told.collect()));
    }
    script
}

#[test]
fn draws_agree() {
    assert_same(&draws(&crate::families::cpu()), &draws(&Reference), 1e-6);
}

#[test]
fn a_row_without_a_distribution_is_an_error_of_that_row() {
    fn check<D: Device>(device: &D) {
        let logits = device.upload(&[0.0, f32::NAN, 1.0, 2.0]);
        let plain = Choice { temperature: 1.0, top_k: None, top_p: 1.0, min_p: 0.0, uniform: 0.5 };
        let row = |row: usize| DrawRow {
            logits: View::new(&logits, Rows { offset: 2 * row, ..Rows::dense(1, 2) }),
            choice: plain,
            added: Vec::new(),
            allowed: None,
            likeliest: None,
        };
        let drawn = device.wait(device.draw(vec![row(0), row(1)]));
        assert_eq!(drawn[0].as_ref().unwrap_err().id, 1);
        assert!(drawn[1].is_ok());
    }
    check(&crate::families::cpu());
    check(&Reference);
}

#[test]
fn a_device_that_is_chosen_computes_as_it_does_alone() {
    fn scripts<D: Device>(device: &D) -> Vec<Script> {
        let layout = WeightLayout::OutputsByInputs;
        let products = products(device, Precision::Bf16);
        vec![products, head(device, layout, None), draws(device), the_rest(device)]
    }
    let cpu = crate::families::cpu();
    assert_eq!(scripts(&AnyDevice::Cpu(cpu.clone())), scripts(&cpu));
    let chosen: AnyDevice = "reference".parse().unwrap();
    assert_eq!((chosen.name(), scripts(&chosen)), ("reference", scripts(&Reference)));
    let unknown = "gpu".parse::<AnyDevice>().unwrap_err();
    assert_eq!(unknown.to_string(), "found the device \"gpu\", expected \"cpu\" or \"reference\"");
}
