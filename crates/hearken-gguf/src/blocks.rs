//! Weights in blocks of few bits: how many bytes a block has and what its values are.
//!
//! The layouts are those of ggml: a block of 32 or 256 values of one row has one scale, or several, and the
//! values as small integers of it.

use half::{bf16, f16};

/// How the values of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockFormat {
    /// 4 bytes each.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// 32 values: a scale, 8 bits each.
    Q8_0,
    /// 32 values: a scale, 4 bits each around 8.
    Q4_0,
    /// 32 values: a scale, the smallest value, 4 bits each.
    Q4_1,
    /// 32 values: a scale, 5 bits each around 16.
    Q5_0,
    /// 32 values: a scale, the smallest value, 5 bits each.
    Q5_1,
    /// 256 values in 8 groups, each with a scale and a smallest value of 6 bits: 4 bits each.
    Q4K,
    /// The same with 5 bits each.
    Q5K,
    /// 256 values in 16 groups, each with a scale of 8 bits: 6 bits each around 32.
    Q6K,
}

/// Values of a small block.
const SMALL: usize = 32;
/// Values of a large block.
const LARGE: usize = 256;

impl BlockFormat {
    /// Every format, with the number that files give it, its name in ggml, values and bytes of a block.
    const ALL: [(Self, u32, &'static str, usize, usize); 11] = [
        (Self::F32, 0, "F32", 1, 4),
        (Self::F16, 1, "F16", 1, 2),
        (Self::Bf16, 30, "BF16", 1, 2),
        (Self::Q8_0, 8, "Q8_0", SMALL, 34),
        (Self::Q4_0, 2, "Q4_0", SMALL, 18),
        (Self::Q4_1, 3, "Q4_1", SMALL, 20),
        (Self::Q5_0, 6, "Q5_0", SMALL, 22),
        (Self::Q5_1, 7, "Q5_1", SMALL, 24),
        (Self::Q4K, 12, "Q4_K", LARGE, 144),
        (Self::Q5K, 13, "Q5_K", LARGE, 176),
        (Self::Q6K, 14, "Q6_K", LARGE, 210),
    ];

    fn entry(self) -> (Self, u32, &'static str, usize, usize) {
        let found = Self::ALL.into_iter().find(|(format, ..)| *format == self);
        found.expect("the list has every format")
    }

    /// The format with a number of the file format.
    pub fn numbered(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|entry| entry.1 == number).map(|entry| entry.0)
    }

    /// Its number in files.
    pub fn number(self) -> u32 {
        self.entry().1
    }

    /// Its name in ggml: `Q4_K`.
    pub fn name(self) -> &'static str {
        self.entry().2
    }

    /// The names of all formats.
    pub(crate) fn names() -> String {
        Self::ALL.map(|entry| entry.2).join(", ")
    }

    /// Values of a block; a row holds whole blocks.
    pub fn values(self) -> usize {
        self.entry().3
    }

    /// Bytes of a block.
    pub fn bytes(self) -> usize {
        self.entry().4
    }

    /// The values of whole blocks, in order.
    pub fn read(self, bytes: &[u8]) -> Vec<f32> {
        let mut values = Vec::with_capacity(bytes.len() / self.bytes() * self.values());
        for block in bytes.chunks_exact(self.bytes()) {
            match self {
                Self::F32 => {
                    values.push(f32::from_le_bytes([block[0], block[1], block[2], block[3]]));
                }
                Self::F16 => values.push(half(block)),
                Self::Bf16 => values.push(bf16::from_le_bytes([block[0], block[1]]).to_f32()),
                Self::Q8_0 => {
                    let scale = half(block);
                    values.extend(block[2..].iter().map(|&q| scale * f32::from(q.cast_signed())));
                }
                Self::Q4_0 => {
                    let scale = half(block);
                    small(&block[2..], None, &mut values, |q| scale * (f32::from(q) - 8.0));
                }
                Self::Q4_1 => {
                    let (scale, least) = (half(block), half(&block[2..]));
                    small(&block[4..], None, &mut values, |q| scale * f32::from(q) + least);
                }
                Self::Q5_0 => {
                    let scale = half(block);
                    let (high, low) = block[2..].split_at(4);
                    small(low, Some(high), &mut values, |q| scale * (f32::from(q) - 16.0));
                }
                Self::Q5_1 => {
                    let (scale, least) = (half(block), half(&block[2..]));
                    let (high, low) = block[4..].split_at(4);
                    small(low, Some(high), &mut values, |q| scale * f32::from(q) + least);
                }
                Self::Q4K => four_or_five_bits(block, &block[16..], None, &mut values),
                Self::Q5K => {
                    let (high, low) = block[16..].split_at(LARGE / 8);
                    four_or_five_bits(block, low, Some(high), &mut values);
                }
                Self::Q6K => six_bits(block, &mut values),
            }
        }
        values
    }

    /// Rows of values as blocks; of the formats with few bits only Q8_0 is written.
    ///
    /// # Panics
    /// On another format, or if the values are no whole blocks.
    pub(crate) fn write(self, values: &[f32], into: &mut Vec<u8>) {
        match self {
            Self::F32 => {
                for value in values {
                    into.extend(value.to_le_bytes());
                }
            }
            Self::F16 => {
                for value in values {
                    into.extend(f16::from_f32(*value).to_le_bytes());
                }
            }

            Self::Bf16 => {
                for value in values {
                    into.extend(bf16::from_f32(*value).to_le_bytes());
                }
            }

            Self::Q8_0 => {
                assert!(values.len().is_multiple_of(SMALL), "{} values", values.len());
                for block in values.chunks_exact(SMALL) {
                    let largest = block.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
                    let scale = largest / 127.0;
                    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
                    into.extend(f16::from_f32(scale).to_le_bytes());
                    into.extend(block.iter().map(|value| {
                        let rounded = (value * inverse).round() as i8;
                        rounded.cast_unsigned()
                    }));
                }
            }
            other => panic!("{} is read and not written", other.name()),
        }
    }
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// 32 values whose lower four bits stand in 16 bytes, the first half of them in the lower half of each; a
/// fifth bit, if there is one, in 4 bytes more.
fn small(low: &[u8], high: Option<&[u8]>, values: &mut Vec<f32>, value: impl Fn(u8) -> f32) {
    let fifth = high.map_or(0, |bits| u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]));
    let bit = |index: usize| (fifth >> index & 1) as u8;
    let half = SMALL / 2;
    values.extend((0..half).map(|at| value(low[at] & 0xf | bit(at) << 4)));
    values.extend((0..half).map(|at| value(low[at] >> 4 | bit(at + half) << 4)));
}

/// The scale and the smallest value of one of eight groups, six bits each, out of twelve bytes.
fn group(packed: &[u8], index: usize) -> (f32, f32) {
    let (scale, least) = if index < 4 {
        (packed[index] & 63, packed[index + 4] & 63)
    } else {
        let (low, high) = (packed[index + 4], packed[index - 4]);
        (low & 0xf | high >> 6 << 4, low >> 4 | packed[index] >> 6 << 4)
    };
    (f32::from(scale), f32::from(least))
}

/// Q4_K and Q5_K: eight groups of 32, two and two of which share their bytes.
fn four_or_five_bits(block: &[u8], low: &[u8], high: Option<&[u8]>, values: &mut Vec<f32>) {
    let (scale, least) = (half(block), half(&block[2..]));
    let packed = &block[4..16];
    for (pair, low) in low.chunks_exact(SMALL).enumerate() {
        for upper in [0, 1] {
            let index = 2 * pair + upper;
            let (group_scale, group_least) = group(packed, index);
            let (scale, least) = (scale * group_scale, least * group_least);
            values.extend(low.iter().enumerate().map(|(at, byte)| {
                let fifth = high.map_or(0, |bits| bits[at] >> index & 1);
                scale * f32::from(byte >> (4 * upper) & 0xf | fifth << 4) - least
            }));
        }
    }
}

/// Q6_K: two halves of 128 values; in each, four runs of 32 share their bytes.
fn six_bits(block: &[u8], values: &mut Vec<f32>) {
    let (low, rest) = block.split_at(LARGE / 2);
    let (high, rest) = rest.split_at(LARGE / 4);
    let (scales, scale) = rest.split_at(LARGE / 16);
    let scale = half(scale);
    for part in 0..2 {
        let (low, high) = (&low[64 * part..], &high[32 * part..]);
        for run in 0..4 {
            for at in 0..SMALL {
                let nibble = low[at + SMALL * (run % 2)] >> (4 * (run / 2)) & 0xf;
                let bits = nibble | (high[at] >> (2 * run) & 3) << 4;
                let group_scale = scales[8 * part + 2 * run + at / 16].cast_signed();
                values.push(scale * f32::from(group_scale) * (f32::from(bits) - 32.0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bits_are_off_by_half_a_step_at_most() {
        let values: Vec<f32> = (0..64).map(|n| (n as f32 * 0.37).sin() * 3.0).collect();
        let mut bytes = Vec::new();
        BlockFormat::Q8_0.write(&values, &mut bytes);
        assert_eq!(bytes.len(), 2 * BlockFormat::Q8_0.bytes());
        let back = BlockFormat::Q8_0.read(&bytes);
        for (value, back) in values.iter().zip(back) {
            // Half a step, and the rounding of the scale to f16.
            assert!((value - back).abs() <= 3.0 / 127.0 * 0.5 + 3.0 / 2048.0, "{value} {back}");
        }
        let mut zeros = Vec::new();
        BlockFormat::Q8_0.write(&[0.0; 32], &mut zeros);
        assert_eq!(BlockFormat::Q8_0.read(&zeros), [0.0; 32]);
    }
}
