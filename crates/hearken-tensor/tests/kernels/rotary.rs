use hearken_tensor::Device;
use hearken_tensor::device::{Heads, QkvLayout, Rotary, Rotation};

use crate::{all, assert_close, random};

#[test]
fn each_pair_turns_by_its_positions_angle_and_back() {
    let cpu = crate::families::cpu();
    for (head_dim, rotary_dim) in [(8, 8), (64, 64), (40, 12), (80, 40)] {
        let half = rotary_dim / 2;
        let heads = Heads { offset: 2, head_stride: head_dim + 3, heads: 3 };
        let layout = QkvLayout {
            row_stride: 3 * (head_dim + 3) + 2,
            head_dim,
            query: heads,
            key: heads,
            value: heads,
        };
        let positions = [4, 0, 2, 2];
        let angle = |p: usize, i: usize| p as f64 * 0.5_f64.powi(i as i32);
        let table = |f: fn(f64) -> f64| {
            let entries = (0..5).flat_map(|p| (0..half).map(move |i| f(angle(p, i)) as f32));
            entries.collect::<Vec<f32>>()
        };
        let (cos, sin) = (cpu.upload(&table(f64::cos)), cpu.upload(&table(f64::sin)));
        let before = random(1, 4 * layout.row_stride);
        let mut expected = crate::wide(&before);
        for (row, &position) in positions.iter().enumerate() {
            for head in 0..3 {
                for i in 0..half {
                    let first = row * layout.row_stride + 2 + head * (head_dim + 3) + i;
                    let (a, b) = (expected[first], expected[first + half]);
                    let (sin, cos) = angle(position as usize, i).sin_cos();
                    expected[first] = a * cos - b * sin;
                    expected[first + half] = b * cos + a * sin;
                }
            }
        }
        let mut buffer = cpu.upload(&before);
        let rotary = Rotary { cos: &cos, sin: &sin, rotary_dim };
        cpu.rotary(&mut buffer, layout, heads, &cpu.ids(&positions), rotary, Rotation::Forward);
        assert_close(&all(&cpu, &buffer), &expected, 1e-6);
        cpu.rotary(&mut buffer, layout, heads, &cpu.ids(&positions), rotary, Rotation::Backward);
        assert_close(&all(&cpu, &buffer), &crate::wide(&before), 1e-6);
    }
}
