//! How fast each kernel runs at the shapes that training and decoding use.
//!
//! `cargo run --release -p hearken-tensor --example kernels [name]` prints, for each kernel whose name
//! contains `name`, the best time of several runs with GFLOP/s (products, attention) and GB/s of
//! what must be read and written at least. The environment variable `HEARKEN_KERNELS` forces a family.
#![expect(clippy::print_stdout, reason = "a program that prints a table")]

use std::time::{Duration, Instant};

use hearken_tensor::cpu::{Buffer, Prepared};
use hearken_tensor::device::{
    Activation, AdamW, Attention, Cache, CachedRow, Gate, Gelu, HeadOptions, Heads, Int8Scales,
    Precision, Prediction, PredictionGrad, QkvLayout, Rotary, Rotation, Rows, View, ViewMut,
    Weight, WeightLayout, WeightShape, Write,
};
use hearken_tensor::{Cpu, Device, Forest, KernelFamily};

/// Dimensions of a model and of a batch.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    width: usize,
    inner: usize,
    heads: usize,
    groups: usize,
    head_dim: usize,
    vocabulary: usize,
    sequences: usize,
    len: usize,
}

const SMALL: Shape = Shape {
    name: "small30",
    width: 512,
    inner: 1408,
    heads: 8,
    groups: 4,
    head_dim: 64,
    vocabulary: 8192,
    sequences: 8,
    len: 256,
};

/// One sequence of the same model: runs short enough to be seldom interrupted on a busy machine.
const ONE: Shape = Shape { name: "small30-one", sequences: 1, ..SMALL };

const GPT2: Shape = Shape {
    name: "gpt2",
    width: 768,
    inner: 3072,
    heads: 12,
    groups: 12,
    head_dim: 64,
    vocabulary: 50257,
    sequences: 4,
    len: 256,
};

/// What is selected, and where results go.
struct Bench {
    cpu: Cpu,
    filter: String,
}

impl Bench {
    fn values(&self, len: usize) -> Buffer {
        let value = |i: usize| ((i.wrapping_mul(2_654_435_761) >> 7) % 2000) as f32 / 1000.0 - 1.0;
        self.cpu.upload(&(0..len).map(value).collect::<Vec<_>>())
    }

    /// Whether none of the kernels is selected, so that their inputs need not be made.
    fn skips(&self, kernels: &[&str]) -> bool {
        let word = self.filter.split(' ').next().unwrap_or_default();
        kernels.iter().all(|kernel| !kernel.contains(word))
    }

    /// Runs for a fraction of a second and prints the best time.
    fn time(&self, name: &str, flops: usize, bytes: usize, mut run: impl FnMut()) {
        if !name.contains(&self.filter) {
            return;
        }
        run();
        let mut best = Duration::MAX;
        let start = Instant::now();
        let mut runs = 0;
        while runs < 3 || start.elapsed() < Duration::from_millis(400) {
            let begin = Instant::now();
            run();
            best = best.min(begin.elapsed());
            runs += 1;
        }
        let seconds = best.as_secs_f64();
        let (gflops, gbs) = (flops as f64 / seconds / 1e9, bytes as f64 / seconds / 1e9);
        println!("{name:<58} {:>10.1} µs {gflops:>8.1} GFLOP/s {gbs:>7.1} GB/s", seconds * 1e6);
    }

    /// The three products of a linear layer.
    fn linear(&self, name: &str, rows: usize, shape: WeightShape) {
        let WeightShape { inputs, outputs, precision, layout } = shape;
        let name = format!("{name} {rows}x{inputs}x{outputs} {precision:?} {layout:?}");
        let kernels = ["linear", "linear_backward_input", "linear_backward_weight", "pack"];
        if self.skips(&kernels)
            || kernels.iter().all(|k| !format!("{k} {name}").contains(&self.filter))
        {
            return;
        }
        let cpu = &self.cpu;
        let (x_rows, y_rows) = (Rows::dense(rows, inputs), Rows::dense(rows, outputs));
        let (mut x, mut y) = (self.values(rows * inputs), self.values(rows * outputs));
        let values = self.values(inputs * outputs);
        let weight = Weight { values: &values, prepared: &Prepared::default(), shape };
        let flops = 2 * rows * inputs * outputs;
        let weight_bytes = if precision == Precision::Bf16 { 2 } else { 4 } * inputs * outputs;
        let bytes = weight_bytes + 4 * rows * (inputs + outputs);
        self.time(&format!("linear {name}"), flops, bytes, || {
            let view = ViewMut::new(&mut y, y_rows);
            cpu.linear(View::new(&x, x_rows), weight, None, view, Write::Overwrite);
        });
        if precision == Precision::F32 {
            let weight = Weight { prepared: &Prepared::default(), ..weight };
            cpu.round_to_int8(weight, Int8Scales::PerOutput);
            let bytes = inputs * outputs + 4 * rows * (inputs + outputs);
            self.time(&format!("linear {name} Int8"), flops, bytes, || {
                let view = ViewMut::new(&mut y, y_rows);
                cpu.linear(View::new(&x, x_rows), weight, None, view, Write::Overwrite);
            });
        }
        if rows < 64 {
            return;
        }
        self.time(&format!("linear_backward_input {name}"), flops, bytes, || {
            let view = ViewMut::new(&mut x, x_rows);
            cpu.linear_backward_input(View::new(&y, y_rows), weight, view, Write::Overwrite);
        });
        let mut dweight = cpu.zeros(inputs * outputs);
        let bytes = 8 * inputs * outputs + 4 * rows * (inputs + outputs);
        self.time(&format!("linear_backward_weight {name}"), flops, bytes, || {
            let dy = View::new(&y, y_rows);
            cpu.linear_backward_weight(dy, View::new(&x, x_rows), shape, &mut dweight);
        });
        if precision == Precision::Bf16 {
            self.time(&format!("pack + 1 row {name}"), 0, 6 * inputs * outputs, || {
                let weight = Weight { values: &values, prepared: &Prepared::default(), shape };
                let x = View::new(&x, Rows::dense(1, inputs));
                let y = ViewMut::new(&mut y, Rows::dense(1, outputs));
                cpu.linear(x, weight, None, y, Write::Overwrite);
            });
        }
    }

    fn products(&self, shape: Shape) {
        let rows = shape.sequences * shape.len;
        let qkv = (shape.heads + 2 * shape.groups) * shape.head_dim;
        for precision in [Precision::F32, Precision::Bf16] {
            let layouts = [WeightLayout::OutputsByInputs, WeightLayout::InputsByOutputs];
            for layout in if shape.name == "gpt2" { &layouts[..] } else { &layouts[..1] } {
                for (inputs, outputs) in [
                    (shape.width, qkv),
                    (shape.width, shape.width),
                    (shape.width, 2 * shape.inner),
                    (shape.inner, shape.width),
                ] {
                    let layer = WeightShape { inputs, outputs, layout: *layout, precision };
                    self.linear(shape.name, rows, layer);
                }
                let layer = WeightShape {
                    inputs: shape.width,
                    outputs: 2 * shape.inner,
                    layout: *layout,
                    precision,
                };
                for rows in [1, 2, 4, 8, 16, 32] {
                    if shape.sequences > 1 {
                        self.linear(shape.name, rows, layer);
                    }
                }
            }
            let head = WeightShape {
                inputs: shape.width,
                outputs: shape.vocabulary,
                layout: WeightLayout::OutputsByInputs,
                precision,
            };
            for rows in [1, 8] {
                self.linear(shape.name, rows, head);
            }
        }
    }

    fn head(&self, shape: Shape) {
        if self.skips(&["logprob_head_backward"]) {
            return;
        }
        let rows = shape.sequences * shape.len;
        let hidden = self.values(rows * shape.width);
        let values = self.values(shape.vocabulary * shape.width);
        let mut dhidden = self.cpu.zeros(rows * shape.width);
        let mut dweight = self.cpu.zeros(shape.vocabulary * shape.width);
        let predictions: Vec<Prediction> =
            (0..rows as u32).map(|row| Prediction { row, token: row }).collect();
        let grads = vec![PredictionGrad { logprob: -1.0, entropy: 0.0 }; rows];
        let flops = 2 * rows * shape.width * shape.vocabulary;
        for precision in [Precision::F32, Precision::Bf16] {
            let weight = Weight {
                values: &values,
                prepared: &Prepared::default(),
                shape: WeightShape {
                    inputs: shape.width,
                    outputs: shape.vocabulary,
                    layout: WeightLayout::OutputsByInputs,
                    precision,
                },
            };
            let options = HeadOptions::default();
            self.time(&format!("logprob_head {} {precision:?}", shape.name), flops, 0, || {
                self.cpu.logprob_head(&hidden, weight, &predictions, options, None);
            });
            let name = format!("logprob_head_backward {} {precision:?}", shape.name);
            self.time(&name, 3 * flops, 0, || {
                self.cpu.logprob_head_backward(
                    &hidden,
                    weight,
                    &predictions,
                    &grads,
                    options,
                    None,
                    &mut dhidden,
                    Some(&mut dweight),
                );
            });
        }
    }

    fn attention(&self, shape: Shape) {
        if self.skips(&["attention_backward", "attention_cached", "rotary"]) {
            return;
        }
        let (cpu, rows) = (&self.cpu, shape.sequences * shape.len);
        let layout = layout(shape);
        let mut forest = Forest::new();
        (0..shape.sequences).for_each(|_| {
            forest.push(None, shape.len);
        });
        let plan = cpu.plan(&forest);
        let mut qkv = self.values(rows * layout.row_stride);
        let attention = Attention { scale: 0.125, window: None, softcap: None };
        let width = shape.heads * shape.head_dim;
        let (mut out, mut lse) = (cpu.zeros(rows * width), cpu.zeros(rows * shape.heads));
        let dout = self.values(rows * width);
        let mut dqkv = cpu.zeros(rows * layout.row_stride);
        // Half of the square, two products forward and five backward.
        let pairs = shape.sequences * shape.len * (shape.len + 1) / 2;
        let flops = 2 * pairs * width;
        self.time(&format!("attention {}", shape.name), 2 * flops, 0, || {
            cpu.attention(&qkv, layout, &plan, attention, &mut out, &mut lse);
        });
        self.time(&format!("attention_backward {}", shape.name), 5 * flops, 0, || {
            cpu.attention_backward(&qkv, layout, &plan, attention, &out, &lse, &dout, &mut dqkv);
        });
        let table = self.values(shape.len * shape.head_dim / 2);
        let rotary = Rotary { cos: &table, sin: &table, rotary_dim: shape.head_dim };
        let positions = cpu.ids(&forest.positions());
        self.time(&format!("rotary {}", shape.name), 0, 8 * rows * width, || {
            cpu.rotary(&mut qkv, layout, layout.query, &positions, rotary, Rotation::Forward);
        });
        self.cached(shape, layout);
    }

    fn cached(&self, shape: Shape, layout: QkvLayout) {
        let (cpu, page_len) = (&self.cpu, 16);
        let width = shape.heads * shape.head_dim;
        let kv_width = shape.groups * shape.head_dim;
        for (sequences, len) in [(1, 256), (32, 128), (8, 1024)] {
            let pages_each = len / page_len;
            let keys = self.values(sequences * len * kv_width);
            let values = self.values(sequences * len * kv_width);
            let qkv = self.values(sequences * layout.row_stride);
            let mut out = cpu.zeros(sequences * width);
            let pages: Vec<Vec<u32>> = (0..sequences)
                .map(|s| (0..pages_each).map(|p| (s * pages_each + p) as u32).collect())
                .collect();
            let rows: Vec<CachedRow<'_>> =
                pages.iter().map(|pages| CachedRow { pages, position: len as u32 - 1 }).collect();
            let rows = cpu.cache_plan(&rows, page_len);
            let name = format!("attention_cached {} {sequences} rows of {len}", shape.name);
            let flops = 4 * sequences * len * width;
            let attention = Attention { scale: 0.125, window: None, softcap: None };
            self.time(&name, flops, 8 * sequences * len * kv_width, || {
                let cache =
                    Cache { keys: &keys, values: &values, page_len, precision: Precision::F32 };
                cpu.attention_cached(&qkv, layout, cache, &rows, attention, &mut out);
            });
        }
        // A prompt: all rows of one sequence at once.
        let len = 256;
        let pages: Vec<u32> = (0..(len / page_len) as u32).collect();
        let keys = self.values(len * kv_width);
        let qkv = self.values(len * layout.row_stride);
        let mut out = cpu.zeros(len * width);
        let rows: Vec<CachedRow<'_>> =
            (0..len as u32).map(|position| CachedRow { pages: &pages, position }).collect();
        let flops = 4 * len * (len + 1) / 2 * width;
        let rows = cpu.cache_plan(&rows, page_len);
        let name = format!("attention_cached {} a prompt of {len}", shape.name);
        let attention = Attention { scale: 0.125, window: None, softcap: None };
        self.time(&name, flops, 0, || {
            let cache = Cache { keys: &keys, values: &keys, page_len, precision: Precision::F32 };
            cpu.attention_cached(&qkv, layout, cache, &rows, attention, &mut out);
        });
    }

    fn elementwise(&self, shape: Shape) {
        let names = ["rms_norm_backward", "layer_norm", "sum_rows", "add_scaled", "gather_rows"];
        let more = ["scatter_add_rows", "silu_gated_backward", "gelu_backward"];
        if self.skips(&names) && self.skips(&more) {
            return;
        }
        let (cpu, rows) = (&self.cpu, shape.sequences * shape.len);
        let dense = Rows::dense(rows, shape.width);
        let (x, dy) = (self.values(dense.end()), self.values(dense.end()));
        let (mut y, mut dx) = (cpu.zeros(dense.end()), cpu.zeros(dense.end()));
        let (w, mut dw) = (self.values(shape.width), cpu.zeros(shape.width));
        let (mut rstd, mut statistics) = (cpu.zeros(rows), cpu.zeros(2 * rows));
        let bytes = 4 * dense.end();
        let (x_view, dy_view) = (View::new(&x, dense), View::new(&dy, dense));
        self.time(&format!("rms_norm {}", shape.name), 0, 2 * bytes, || {
            cpu.rms_norm(x_view, 1, &w, 1e-5, ViewMut::new(&mut y, dense), &mut rstd);
        });
        self.time(&format!("rms_norm_backward {}", shape.name), 0, 3 * bytes, || {
            let dx = ViewMut::new(&mut dx, dense);
            let write = Write::Overwrite;
            cpu.rms_norm_backward(x_view, 1, &w, &rstd, dy_view, dx, write, Some(&mut dw));
        });
        self.time(&format!("layer_norm {}", shape.name), 0, 2 * bytes, || {
            let y = ViewMut::new(&mut y, dense);
            cpu.layer_norm(x_view, &w, &w, 1e-5, y, &mut statistics);
        });
        self.time(&format!("sum_rows {}", shape.name), 0, bytes, || {
            cpu.sum_rows(dy_view, &mut dw);
        });
        self.time(&format!("add_scaled {}", shape.name), 0, 3 * bytes, || {
            cpu.add_scaled(&x, 1.0, &mut y);
        });
        self.activations(shape, rows);
        let table = self.values(shape.vocabulary * shape.width);
        let mut dtable = cpu.zeros(shape.vocabulary * shape.width);
        let ids: Vec<u32> = (0..rows).map(|i| (i * 7919 % shape.vocabulary) as u32).collect();
        let ids = cpu.ids(&ids);
        self.time(&format!("gather_rows {}", shape.name), 0, 2 * bytes, || {
            cpu.gather_rows(&table, &ids, ViewMut::new(&mut y, dense), Write::Overwrite);
        });
        self.time(&format!("scatter_add_rows {}", shape.name), 0, 3 * bytes, || {
            cpu.scatter_add_rows(dy_view, &ids, &mut dtable);
        });
    }

    fn activations(&self, shape: Shape, rows: usize) {
        let (cpu, len) = (&self.cpu, rows * shape.inner);
        let (gate_up, dy) = (self.values(2 * len), self.values(len));
        let (mut y, mut dgate_up) = (cpu.zeros(len), cpu.zeros(2 * len));
        self.time(&format!("silu_gated {}", shape.name), 0, 12 * len, || {
            cpu.gated(Gate::Silu, &gate_up, shape.inner, &mut y);
        });
        self.time(&format!("silu_gated_backward {}", shape.name), 0, 20 * len, || {
            cpu.gated_backward(Gate::Silu, &gate_up, shape.inner, &dy, &mut dgate_up);
        });
        let x = self.values(len);
        for gelu in [Gelu::Tanh, Gelu::Erf] {
            self.time(&format!("gelu {gelu:?} {}", shape.name), 0, 8 * len, || {
                cpu.activation(Activation::Gelu(gelu), &x, &mut y);
            });
            self.time(&format!("gelu_backward {gelu:?} {}", shape.name), 0, 12 * len, || {
                cpu.activation_backward(Activation::Gelu(gelu), &x, &dy, &mut y);
            });
        }
    }

    fn optimizer(&self) {
        if self.skips(&["adamw", "sums_of_squares", "first_non_finite", "fill", "copy"]) {
            return;
        }
        let (cpu, len) = (&self.cpu, 16 << 20);
        let (mut parameter, grad) = (self.values(len), self.values(len));
        let (mut first, mut second) = (cpu.zeros(len), cpu.zeros(len));
        let step = AdamW {
            lr: 1e-4,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.1,
            step: 3,
            grad_scale: 1.0,
        };
        self.time("adamw 16Mi", 0, 28 * len, || {
            cpu.adamw(step, &mut parameter, &grad, &mut first, &mut second);
        });
        self.time("sums_of_squares 16Mi", 0, 4 * len, || {
            assert!(cpu.sums_of_squares(vec![&grad])[0] > 0.0);
        });
        self.time("first_non_finite 16Mi", 0, 4 * len, || {
            assert!(cpu.first_non_finite(vec![&grad]).is_none());
        });
        self.time("fill 16Mi", 0, 4 * len, || cpu.fill(&mut parameter, 0.0));
        self.time("copy 16Mi", 0, 8 * len, || cpu.copy(&grad, &mut parameter));
    }
}

fn layout(shape: Shape) -> QkvLayout {
    let d = shape.head_dim;
    let part = |offset, heads| Heads { offset: offset * d, head_stride: d, heads };
    QkvLayout {
        row_stride: (shape.heads + 2 * shape.groups) * d,
        head_dim: d,
        query: part(0, shape.heads),
        key: part(shape.heads, shape.groups),
        value: part(shape.heads + shape.groups, shape.groups),
    }
}

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    if let Ok(name) = std::env::var("HEARKEN_KERNELS") {
        let forced = name.parse::<KernelFamily>().and_then(KernelFamily::force);
        forced.expect("HEARKEN_KERNELS is a family that this processor has");
    }
    let bench = Bench { cpu: Cpu::new(), filter };
    // From within the pool, as a training loop runs.
    rayon::scope(|_| {
        for shape in [ONE, SMALL, GPT2] {
            bench.products(shape);
            bench.head(shape);
            bench.attention(shape);
            bench.elementwise(shape);
        }
        bench.optimizer();
    });
}
