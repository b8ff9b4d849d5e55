//! Pictures as an animated PNG: the chunks of PNG (ISO/IEC 15948), with `acTL`, `fcTL` and `fdAT` of its third edition, in which
//! animation is part of it.

use std::io::Write as _;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use hearken_env::Frame;

const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
/// Eight bits, red, green and blue; compressed and filtered as every PNG is, not interlaced.
const FORMAT: [u8; 5] = [8, 2, 0, 0, 0];
/// A line holds the differences from the line above it, which in drawings are mostly 0.
const UP: u8 = 2;

/// Length, type, data, and a checksum of the last two.
fn chunk(bytes: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    bytes.extend((data.len() as u32).to_be_bytes());
    let mut sum = Crc::new();
    for part in [&kind, data] {
        sum.update(part);
        bytes.extend_from_slice(part);
    }
    bytes.extend(sum.sum().to_be_bytes());
}

/// The lines of a picture, filtered and compressed.
fn compressed(frame: &Frame) -> Vec<u8> {
    let len = 3 * frame.width;
    let mut lines = Vec::with_capacity(frame.height * (1 + len));
    let mut above = vec![0; len];
    for line in frame.pixels.chunks_exact(len) {
        lines.push(UP);
        lines.extend(line.iter().zip(&above).map(|(byte, above)| byte.wrapping_sub(*above)));
        above.copy_from_slice(line);
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&lines).and_then(|()| encoder.finish()).expect("memory takes what is written")
}

/// Pictures of one size, one after another, over and over; the last one stands for as long as `rest` of the others.
///
/// # Panics
/// If there is none.
pub(crate) fn encode(frames: &[Frame], frames_per_second: u16, rest: u16) -> Vec<u8> {
    const FOREVER: u32 = 0;
    let size: Vec<u8> = [frames[0].width, frames[0].height]
        .into_iter()
        .flat_map(|side| (side as u32).to_be_bytes())
        .collect();
    let mut bytes = SIGNATURE.to_vec();
    chunk(&mut bytes, *b"IHDR", &[size.as_slice(), &FORMAT].concat());
    let count = frames.len() as u32;
    chunk(&mut bytes, *b"acTL", &[count.to_be_bytes(), FOREVER.to_be_bytes()].concat());
    // Control and data of the animation are numbered together.
    let mut number = 0_u32;
    let mut next = || {
        number += 1;
        (number - 1).to_be_bytes()
    };
    for (index, frame) in frames.iter().enumerate() {
        let mut control = next().to_vec();
        control.extend_from_slice(&size);
        // At the upper left corner, for so many of 1/frames_per_second, in place of what was there.
        control.extend([0; 8]);
        let times = if index + 1 == frames.len() { rest } else { 1 };
        control.extend(times.to_be_bytes());
        control.extend(frames_per_second.to_be_bytes());
        control.extend([0, 0]);
        chunk(&mut bytes, *b"fcTL", &control);
        let data = compressed(frame);
        if index == 0 {
            chunk(&mut bytes, *b"IDAT", &data);
        } else {
            chunk(&mut bytes, *b"fdAT", &[next().as_slice(), &data].concat());
        }
    }
    chunk(&mut bytes, *b"IEND", &[]);
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Types and data of the chunks, whose checksums are right.
    fn chunks(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut rest = bytes.strip_prefix(&SIGNATURE).unwrap();
        let mut chunks = Vec::new();
        while !rest.is_empty() {
            let len = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
            let mut sum = Crc::new();
            sum.update(&rest[4..8 + len]);
            assert_eq!(rest[8 + len..12 + len], sum.sum().to_be_bytes());
            let kind = String::from_utf8(rest[4..8].to_vec()).unwrap();
            chunks.push((kind, rest[8..8 + len].to_vec()));
            rest = &rest[12 + len..];
        }
        chunks
    }

    #[test]
    fn pictures_are_there_in_their_order_with_their_times() {
        let frame = |shade: u8| {
            let pixels = (0..18).map(|at| at * 7 + shade).collect();
            Frame { height: 2, width: 3, pixels }
        };
        let frames = [10, 20, 30].map(frame);
        let chunks = chunks(&encode(&frames, 25, 12));
        let kinds: Vec<&str> = chunks.iter().map(|(kind, _)| kind.as_str()).collect();
        let expected = ["IHDR", "acTL", "fcTL", "IDAT", "fcTL", "fdAT", "fcTL", "fdAT", "IEND"];
        assert_eq!(kinds, expected);
        assert_eq!(chunks[0].1, [0, 0, 0, 3, 0, 0, 0, 2, 8, 2, 0, 0, 0]);
        assert_eq!(chunks[1].1, [0, 0, 0, 3, 0, 0, 0, 0]);
        let numbers: Vec<u8> =
            [2, 4, 5, 6, 7].iter().map(|&place: &usize| chunks[place].1[3]).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
        assert_eq!(chunks[4].1[20..24], [0, 1, 0, 25]);
        assert_eq!(chunks[6].1[20..24], [0, 12, 0, 25], "the last one rests");
        for (frame, (place, skipped)) in frames.iter().zip([(3, 0), (5, 4), (7, 4)]) {
            let data = &chunks[place].1[skipped..];
            let mut lines = Vec::new();
            flate2::read::ZlibDecoder::new(data).read_to_end(&mut lines).unwrap();
            let (first, second) = lines.split_at(10);
            assert_eq!([first[0], second[0]], [UP, UP]);
            assert_eq!(first[1..], frame.pixels[..9]);
            let restored: Vec<u8> =
                second[1..].iter().zip(&first[1..]).map(|(a, b)| a.wrapping_add(*b)).collect();
            assert_eq!(restored, frame.pixels[9..]);
        }
    }
}
