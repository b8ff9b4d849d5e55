//! Files that others wrote, files that are written here, and files that are broken.
//!
//! `fixtures/make.py` wrote blocks.gguf and what the package gguf reads in it; the models are those of
//! `hearken-model/tests/fixtures/hf`.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use hearken_gguf::{BlockFormat, GgufFile, read_into, write_from};
use hearken_model::checkpoint::{NumberFormat, TensorFiles};
use hearken_model::tokenizer::Bos;
use hearken_model::{ModelConfig, Tokenizer};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn model(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../hearken-model/tests/fixtures/hf").join(family)
}

#[test]
fn blocks_of_every_format_are_read_as_ggml_reads_them() {
    let file = GgufFile::open(&fixture("blocks.gguf")).unwrap();
    let expected: Vec<f32> = fs::read(fixture("blocks.f32"))
        .unwrap()
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    let mut rest = expected.as_slice();
    assert_eq!(file.tensors().len(), 11);
    for (name, info) in file.tensors() {
        assert_eq!(info.format.name(), name);
        let values = file.values(info);
        let (own, left) = rest.split_at(values.len());
        for (at, (found, wanted)) in values.iter().zip(own).enumerate() {
            // Products of three factors may be taken in another order.
            assert!(
                (found - wanted).abs() <= 1e-6 * wanted.abs().max(1.0),
                "{name}[{at}]: {found} {wanted}"
            );
        }
        rest = left;
    }
    assert!(rest.is_empty());
}

#[test]
fn what_is_written_reads_as_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    for family in ["llama", "qwen2", "qwen3"] {
        let source = model(family);
        let path = folder.path().join(format!("{family}.gguf"));
        let back = folder.path().join(family);
        fs::create_dir(&back).unwrap();
        let written = write_from(&source, &path, BlockFormat::F32).unwrap();
        assert!(written.tokenizer);
        let file = GgufFile::open(&path).unwrap();
        read_into(&file, &back, NumberFormat::F32).unwrap();

        let (before, after) =
            (TensorFiles::open(&source).unwrap(), TensorFiles::open(&back).unwrap());
        assert_eq!(
            before.names().collect::<Vec<_>>(),
            after.names().collect::<Vec<_>>(),
            "{family}"
        );
        for name in before.names() {
            let shape = before.shape(name).unwrap();
            assert_eq!(
                before.read(name, shape).unwrap(),
                after.read(name, shape).unwrap(),
                "{name}"
            );
        }
        let (before, after) =
            (ModelConfig::read(&source).unwrap(), ModelConfig::read(&back).unwrap());
        let same = ModelConfig { raw: before.raw.clone(), ..after };
        let expected = ModelConfig { initializer_range: same.initializer_range, ..before };
        assert_eq!(same, expected, "{family}");

        let (before, after) = (Tokenizer::load(&source).unwrap(), Tokenizer::load(&back).unwrap());
        for text in
            ["The capital of France?", " a  b\n\n12345 it's", "äöü 你好 😀", "<|endoftext|>"]
        {
            assert_eq!(
                before.encode(text, Bos::AsConfigured).unwrap(),
                after.encode(text, Bos::AsConfigured).unwrap(),
                "{family}: {text}"
            );
        }
    }
}

#[test]
fn eight_bits_keep_a_model_to_within_half_a_step() {
    let folder = tempfile::tempdir().unwrap();
    let (path, back) = (folder.path().join("m.gguf"), folder.path().join("back"));
    fs::create_dir(&back).unwrap();
    let source = model("llama");
    for (format, relative) in [(BlockFormat::F16, 6e-4), (BlockFormat::Q8_0, 6e-3)] {
        write_from(&source, &path, format).unwrap();
        read_into(&GgufFile::open(&path).unwrap(), &back, NumberFormat::F32).unwrap();
        let (before, after) =
            (TensorFiles::open(&source).unwrap(), TensorFiles::open(&back).unwrap());
        for name in before.names() {
            let shape = before.shape(name).unwrap();
            let (before, after) =
                (before.read(name, shape).unwrap(), after.read(name, shape).unwrap());
            let most = before.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
            for (before, after) in before.iter().zip(after) {
                assert!((before - after).abs() <= relative * most, "{name}: {before} {after}");
            }
        }
    }
}

#[test]
fn what_has_no_place_in_the_other_format_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let error = write_from(&model("gpt2"), &path, BlockFormat::F16).unwrap_err().to_string();
    assert!(error.contains("config.json: found a family that is not written"), "{error}");
    assert!(!path.exists());
    let file = GgufFile::open(&fixture("blocks.gguf")).unwrap();
    let error = read_into(&file, folder.path(), NumberFormat::F32).unwrap_err().to_string();
    assert!(error.contains("key `llama.attention.head_count`: found nothing"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Cut anywhere, or with other bytes anywhere in the header: an error or another file, never a panic, and
/// nothing of a size that the file only claims.
#[test]
fn a_damaged_file_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    write_from(&model("llama"), &path, BlockFormat::Q8_0).unwrap();
    let whole = fs::read(&path).unwrap();
    let damaged = folder.path().join("damaged.gguf");
    let shown = damaged.display().to_string();
    for length in (0..whole.len()).step_by(whole.len() / 23) {
        fs::write(&damaged, &whole[..length]).unwrap();
        let error = GgufFile::open(&damaged).unwrap_err().to_string();
        assert!(error.starts_with(&shown), "{error}");
    }
    let back = folder.path().join("back");
    for at in (0..12_000).step_by(83) {
        let mut other = whole.clone();
        for (offset, byte) in other[at..].iter_mut().take(8).enumerate() {
            *byte ^= if offset % 2 == 0 { 0xff } else { 0x7f };
        }
        fs::write(&damaged, other).unwrap();
        let Ok(file) = GgufFile::open(&damaged) else { continue };
        let _ = fs::remove_dir_all(&back);
        fs::create_dir(&back).unwrap();
        if let Err(error) = read_into(&file, &back, NumberFormat::F32) {
            assert!(error.to_string().contains(&shown), "{error}");
        }
    }
}
