use hearken_tensor::device::{Attention, Heads, QkvLayout};
use hearken_tensor::reference::Values;
use hearken_tensor::{Device, Forest, Reference};

use crate::{all, assert_close, dot, numeric_gradient, random, wide};

/// Query, key and value one after the other, each with its heads in a row (GPT-2, Llama).
pub(crate) fn blocks(heads: usize, groups: usize, head_dim: usize) -> QkvLayout {
    let part = |offset, heads| Heads { offset, head_stride: head_dim, heads };
    QkvLayout {
        row_stride: (heads + 2 * groups) * head_dim,
        head_dim,
        query: part(0, heads),
        key: part(heads * head_dim, groups),
        value: part((heads + groups) * head_dim, groups),
    }
}

/// Query, key and value of a head side by side (GPT-NeoX).
fn interleaved(heads: usize, head_dim: usize) -> QkvLayout {
    let part = |index| Heads { offset: index * head_dim, head_stride: 3 * head_dim, heads };
    QkvLayout {
        row_stride: 3 * heads * head_dim,
        head_dim,
        query: part(0),
        key: part(1),
        value: part(2),
    }
}

/// Two levels of branches, an empty branch, a second tree, one row alone.
fn branching() -> Forest {
    let mut forest = Forest::new();
    let root = forest.push(None, 4);
    let left = forest.push(Some(root), 3);
    let other = forest.push(None, 2);
    forest.push(Some(left), 2);
    forest.push(Some(root), 0);
    forest.push(Some(left), 1);
    forest.push(Some(other), 3);
    forest.push(None, 1);
    forest
}

fn packed(lens: &[usize]) -> Forest {
    let mut forest = Forest::new();
    for &len in lens {
        forest.push(None, len);
    }
    forest
}

/// The output of the reference, from queries, keys and values in f64.
fn reference(qkv: &[f64], layout: QkvLayout, forest: &Forest, attention: Attention) -> Vec<f64> {
    let heads = layout.query.heads;
    let mut out = Reference.scratch(forest.rows() * heads * layout.head_dim);
    let mut log_sum_exp = Reference.scratch(forest.rows() * heads);
    let qkv = Values(qkv.to_vec());
    Reference.attention(&qkv, layout, forest, attention, &mut out, &mut log_sum_exp);
    out.0
}

/// Its gradient of Σ out·dout.
fn reference_gradient(
    qkv: &[f64],
    layout: QkvLayout,
    forest: &Forest,
    attention: Attention,
    dout: &[f32],
) -> Vec<f64> {
    let (qkv, dout) = (Values(qkv.to_vec()), Reference.upload(dout));
    let (none, mut dqkv) = (Values::default(), Values(vec![0.0; qkv.0.len()]));
    Reference.attention_backward(&qkv, layout, forest, attention, &none, &none, &dout, &mut dqkv);
    dqkv.0
}

struct Case {
    forest: Forest,
    layout: QkvLayout,
    window: Option<usize>,
}

fn check(case: &Case) {
    for softcap in [None, Some(1.5)] {
        check_bounded(case, softcap);
    }
}

fn check_bounded(case: &Case, softcap: Option<f32>) {
    let Case { forest, layout, window } = case;
    let cpu = crate::families::cpu();
    let attention = Attention { scale: 0.7, window: *window, softcap };
    let (rows, width) = (forest.rows(), layout.query.heads * layout.head_dim);
    let values: Vec<f32> = random(1, rows * layout.row_stride).iter().map(|x| x * 2.0).collect();
    let dout = random(2, rows * width);
    let qkv = cpu.upload(&values);
    let mut out = cpu.upload(&vec![f32::NAN; rows * width]);
    let mut log_sum_exp = cpu.upload(&vec![f32::NAN; rows * layout.query.heads]);
    let plan = cpu.plan(forest);
    cpu.attention(&qkv, *layout, &plan, attention, &mut out, &mut log_sum_exp);
    let values = wide(&values);
    assert_close(&all(&cpu, &out), &reference(&values, *layout, forest, attention), 2e-6);

    let mut dqkv = cpu.upload(&vec![f32::NAN; rows * layout.row_stride]);
    let dout_buffer = cpu.upload(&dout);
    cpu.attention_backward(
        &qkv,
        *layout,
        &plan,
        attention,
        &out,
        &log_sum_exp,
        &dout_buffer,
        &mut dqkv,
    );
    let loss = |qkv: &[f64]| dot(&reference(qkv, *layout, forest, attention), &wide(&dout));
    let numeric = numeric_gradient(loss, &values);
    assert_close(&all(&cpu, &dqkv), &numeric, 5e-6);
    let derived = reference_gradient(&values, *layout, forest, attention, &dout);
    assert_close(&derived.iter().map(|&x| x as f32).collect::<Vec<_>>(), &numeric, 1e-6);
}

#[test]
fn forests_with_branches() {
    for window in [None, Some(1), Some(3), Some(100)] {
        check(&Case { forest: branching(), layout: blocks(2, 2, 4), window });
    }
}

#[test]
fn grouped_query_heads() {
    check(&Case { forest: branching(), layout: blocks(4, 2, 4), window: None });
    check(&Case { forest: branching(), layout: blocks(3, 1, 8), window: Some(4) });
}

#[test]
fn heads_with_query_key_and_value_side_by_side() {
    check(&Case { forest: branching(), layout: interleaved(3, 4), window: None });
}

#[test]
fn packed_sequences_and_a_single_row() {
    check(&Case { forest: packed(&[1]), layout: blocks(1, 1, 4), window: None });
    check(&Case { forest: packed(&[5, 1, 7]), layout: blocks(2, 1, 20), window: None });
}

#[test]
fn an_empty_root_with_branches() {
    let mut forest = Forest::new();
    let root = forest.push(None, 0);
    forest.push(Some(root), 3);
    forest.push(Some(root), 2);
    check(&Case { forest, layout: blocks(2, 2, 4), window: None });
}

/// Segments longer than a tile, where tiles of queries meet tiles of keys on and off the diagonal.
fn check_long(forest: &Forest, layout: QkvLayout, window: Option<usize>, softcap: Option<f32>) {
    let cpu = crate::families::cpu();
    let attention = Attention { scale: 0.3, window, softcap };
    let (rows, width) = (forest.rows(), layout.query.heads * layout.head_dim);
    let values: Vec<f32> = random(3, rows * layout.row_stride).iter().map(|x| x * 2.0).collect();
    let dout = random(4, rows * width);
    let qkv = cpu.upload(&values);
    let (mut out, mut log_sum_exp) =
        (cpu.scratch(rows * width), cpu.scratch(rows * layout.query.heads));
    let plan = cpu.plan(forest);
    cpu.attention(&qkv, layout, &plan, attention, &mut out, &mut log_sum_exp);
    let values = wide(&values);
    assert_close(&all(&cpu, &out), &reference(&values, layout, forest, attention), 2e-6);
    let mut dqkv = cpu.scratch(rows * layout.row_stride);
    let dout_buffer = cpu.upload(&dout);
    cpu.attention_backward(
        &qkv,
        layout,
        &plan,
        attention,
        &out,
        &log_sum_exp,
        &dout_buffer,
        &mut dqkv,
    );
    let expected = reference_gradient(&values, layout, forest, attention, &dout);
    assert_close(&all(&cpu, &dqkv), &expected, 5e-6);
}

#[test]
fn segments_longer_than_a_tile() {
    let mut forest = Forest::new();
    let root = forest.push(None, 150);
    let left = forest.push(Some(root), 70);
    forest.push(Some(root), 5);
    forest.push(Some(left), 20);
    forest.push(None, 65);
    for window in [None, Some(40), Some(130)] {
        for softcap in [None, Some(2.0)] {
            check_long(&forest, blocks(2, 1, 16), window, softcap);
        }
    }
    check_long(&forest, blocks(2, 2, 24), None, None);
}

/// A prompt computed once serves its completions as if each had been computed with it.
#[test]
fn a_branch_equals_the_whole_sequence() {
    let cpu = crate::families::cpu();
    let layout = blocks(2, 1, 8);
    let attention = Attention { scale: 0.5, window: None, softcap: None };
    let (prompt, completion) = (70, 30);
    let values = random(6, (prompt + completion) * layout.row_stride);
    let run = |forest: &Forest| {
        let qkv = cpu.upload(&values);
        let mut out = cpu.scratch(forest.rows() * 16);
        cpu.attention(
            &qkv,
            layout,
            &cpu.plan(forest),
            attention,
            &mut out,
            &mut cpu.scratch(forest.rows() * 2),
        );
        wide(&all(&cpu, &out))
    };
    let mut branched = Forest::new();
    let root = branched.push(None, prompt);
    branched.push(Some(root), completion);
    let whole = run(&packed(&[prompt + completion]));
    let found: Vec<f32> = run(&branched).iter().map(|&x| x as f32).collect();
    assert_close(&found, &whole, 1e-6);
}
