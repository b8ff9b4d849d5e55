use hearken_tensor::device::{Dropout, Rows, View, ViewMut, Write};
use hearken_tensor::{Device, Reference};

use crate::{all, random};

#[test]
fn values_go_to_the_device_and_back() {
    let cpu = crate::families::cpu();
    for len in [0, 1, 100, 70_001] {
        let values = random(1, len);
        let mut buffer = cpu.upload(&values);
        assert_eq!(cpu.len(&buffer), len);
        assert_eq!(all(&cpu, &buffer), values);
        let mut other = cpu.zeros(len);
        assert!(all(&cpu, &other).iter().all(|&x| x == 0.0));
        cpu.copy(&buffer, &mut other);
        cpu.fill(&mut buffer, 1.0);
        cpu.add_scaled(&other, 2.0, &mut buffer);
        let expected: Vec<f32> = values.iter().map(|x| 1.0 + 2.0 * x).collect();
        assert_eq!(all(&cpu, &buffer), expected);
    }
}

#[test]
fn a_part_is_read_and_replaced() {
    let cpu = crate::families::cpu();
    let mut buffer = cpu.upload(&[1.0, 2.0, 3.0, 4.0]);
    cpu.write(&mut buffer, 1, &[7.0, 8.0]);
    let mut part = [0.0; 2];
    cpu.download(&buffer, 2, &mut part);
    assert_eq!(part, [8.0, 4.0]);
}

#[test]
fn rows_are_gathered_by_id() {
    let cpu = crate::families::cpu();
    let width = 19;
    let table = random(1, 5 * width);
    let ids = [4, 0, 4, 2];
    let rows = Rows { rows: 4, width, offset: 2, stride: width + 3 };
    let before = random(2, rows.end() + 4);
    for write in [Write::Overwrite, Write::Add] {
        let mut expected = before.clone();
        for (i, &id) in ids.iter().enumerate() {
            for j in 0..width {
                let to = &mut expected[2 + i * (width + 3) + j];
                let from = table[id as usize * width + j];
                *to = if write == Write::Add { *to + from } else { from };
            }
        }
        let mut out = cpu.upload(&before);
        cpu.gather_rows(&cpu.upload(&table), &cpu.ids(&ids), ViewMut::new(&mut out, rows), write);
        assert_eq!(all(&cpu, &out), expected);
    }
}

#[test]
fn ranges_are_copied_within_a_buffer_and_may_overlap() {
    let cpu = crate::families::cpu();
    let values = random(1, 100);
    for (from, to) in [(10, 50), (10, 20), (20, 10), (0, 0)] {
        let (mut expected, mut buffer) = (values.clone(), cpu.upload(&values));
        expected.copy_within(from..from + 30, to);
        cpu.copy_within(&mut buffer, from, to, 30);
        assert_eq!(all(&cpu, &buffer), expected);
    }
}

#[test]
fn rounding_at_random_draws_the_same_on_every_device() {
    let cpu = crate::families::cpu();
    let values = random(3, 5000);
    let (mut found, mut expected) = (cpu.upload(&values), Reference.upload(&values));
    cpu.round_randomly(&mut found, 77);
    Reference.round_randomly(&mut expected, 77);
    assert_eq!(all(&cpu, &found), Reference.read(&expected).into_owned());
    let changed = all(&cpu, &found).iter().zip(&values).filter(|(a, b)| a != b).count();
    assert!(4900 < changed, "{changed}");
}

#[test]
fn interpolation_is_rounded_once() {
    let cpu = crate::families::cpu();
    let (from, to) = (random(1, 5001), random(2, 5001));
    for mix in [0.0, 0.1, 1.0] {
        let mut buffer = cpu.upload(&to);
        cpu.interpolate(&cpu.upload(&from), mix, &mut buffer);
        let between = |(&from, &to): (&f32, &f32)| {
            (f64::from(to) * (1.0 - mix) + f64::from(from) * mix) as f32
        };
        let expected: Vec<f32> = from.iter().zip(&to).map(between).collect();
        assert_eq!(all(&cpu, &buffer), expected);
    }
}

#[test]
fn rows_are_scattered_in_order_and_others_left_alone() {
    let cpu = crate::families::cpu();
    for width in [3, 300, 513] {
        let ids = [4, 0, 4, 2, 4];
        let rows = random(1, 5 * width);
        let before = random(2, 6 * width);
        let mut expected = before.clone();
        for (i, &id) in ids.iter().enumerate() {
            for j in 0..width {
                expected[id as usize * width + j] += rows[i * width + j];
            }
        }
        let (rows, mut table) = (cpu.upload(&rows), cpu.upload(&before));
        cpu.scatter_add_rows(View::new(&rows, Rows::dense(5, width)), &cpu.ids(&ids), &mut table);
        assert_eq!(all(&cpu, &table), expected);
    }
}

#[test]
fn dropout_drops_the_same_elements_on_every_device_and_scales_the_others() {
    let cpu = crate::families::cpu();
    let (width, keys) = (83, [7, 1 << 31, 7, 12_345]);
    let rows = Rows { rows: 4, width, offset: 2, stride: width + 3 };
    let (x, before) = (random(1, rows.end()), random(2, rows.end()));
    let dropout = Dropout { site: 3, rate: 0.4 };
    for write in [Write::Overwrite, Write::Add] {
        let mut y = cpu.upload(&before);
        let (from, to) = (cpu.upload(&x), ViewMut::new(&mut y, rows));
        cpu.dropout(View::new(&from, rows), &cpu.ids(&keys), dropout, to, write);
        let found = all(&cpu, &y);

        let slow = Reference;
        let mut y = slow.upload(&before);
        let (from, to) = (slow.upload(&x), ViewMut::new(&mut y, rows));
        slow.dropout(View::new(&from, rows), &slow.ids(&keys), dropout, to, write);
        let expected = slow.read(&y).into_owned();
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
        }
        let stride = width + 3;
        let row = |row: usize| &found[2 + row * stride..][..width];
        if write == Write::Overwrite {
            let dropped = |row: &[f32]| row.iter().map(|x| *x == 0.0).collect::<Vec<_>>();
            assert_eq!(dropped(row(0)), dropped(row(2)), "rows with one key");
            assert_ne!(dropped(row(0)), dropped(row(1)));
        }
    }
}
