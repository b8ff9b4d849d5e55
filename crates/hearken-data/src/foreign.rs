//! What is given where a file of records is expected: files of other programs, folders, addresses. An error names it and says what to do.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

/// How a kind of file starts, what it is, and what to do.
struct Known {
    offset: usize,
    start: &'static [u8],
    what: &'static str,
    advice: &'static str,
}

const fn known(
    offset: usize,
    start: &'static [u8],
    what: &'static str,
    advice: &'static str,
) -> Known {
    Known { offset, start, what, advice }
}

const PARQUET: &str = "it is read from its end: give the file by its name";
const ARROW: &str = "in Python, datasets.Dataset.from_file(\"FILE\").to_json(\"FILE.jsonl\")";
const UNPACK: &str = "unpack it first";
/// How many bytes of a file tell what it is.
const START_BYTES: u64 = 512;
const MODEL: &str = "a model's folder belongs into model.path";
const CONVERT: &str = "`hearken convert --model FILE --output DIR` makes a model's folder of it";
const HUB_NAME: &str =
    "a name of the Hugging Face Hub has its owner before it, as openai-community/gpt2";
const ENCODE: &str = "save it as UTF-8";

const KNOWN: [Known; 18] = [
    known(0, b"PAR1", "a Parquet file", PARQUET),
    known(0, b"ARROW1", "an Arrow file", ARROW),
    known(0, b"\xff\xff\xff\xff", "an Arrow stream", ARROW),
    known(0, b"FEA1", "a Feather file", ARROW),
    known(0, b"GGUF", "a GGUF file, a model for llama.cpp", CONVERT),
    known(
        0,
        b"SQLite format 3\0",
        "an SQLite file",
        "a store of judgements is read by its own way",
    ),
    known(0, b"PK\x03\x04", "a zip archive (also what PyTorch and Excel write)", UNPACK),
    known(0, b"BZh", "a file that is compressed by bzip2", "bunzip2 FILE"),
    known(0, b"\xfd7zXZ\0", "a file that is compressed by xz", "unxz FILE"),
    known(0, b"\x04\x22\x4d\x18", "a file that is compressed by lz4", UNPACK),
    known(0, b"\x89HDF", "an HDF5 file", "write its columns as JSON lines"),
    known(0, b"%PDF", "a PDF document", ""),
    known(0, b"\x80\x04", "a pickle of Python", "write it as JSON lines"),
    known(0, b"\x80\x05", "a pickle of Python", "write it as JSON lines"),
    known(257, b"ustar", "a tar archive", UNPACK),
    known(
        0,
        b"version https://git-lfs",
        "a pointer of Git LFS in place of the file",
        "`git lfs pull` fetches it",
    ),
    known(0, b"\xff\xfe", "text in UTF-16, as PowerShell writes it", ENCODE),
    known(0, b"\xfe\xff", "text in UTF-16", ENCODE),
];

/// What a file that starts with these bytes is, if that is known to be no file of records, and what
/// to do about it, behind a colon.
pub(crate) fn in_file(path: &Path, start: &[u8]) -> Option<(&'static str, String)> {
    let starts = |known: &&Known| {
        start.get(known.offset..).is_some_and(|start| start.starts_with(known.start))
    };
    let (what, advice) = match KNOWN.iter().find(starts) {
        _ if is_safetensors(start) => ("a safetensors file, the weights of a model", MODEL),
        Some(known) => (known.what, known.advice),
        None if is_html(start) => {
            ("an HTML page", "the address of a download leads to a page where one has to sign in")
        }
        None => return None,
    };
    Some((what, as_advice(':', advice, &path.display().to_string())))
}

/// Advice on a name that cannot be opened, behind a semicolon.
pub(crate) fn advice_on_opening(path: &Path, error: &io::Error) -> String {
    let name = path.display().to_string();
    let advice = match error.kind() {
        _ if path.is_dir() => in_folder(path).to_owned(),
        io::ErrorKind::NotFound if name.contains(":/") => {
            "an address is not fetched: download the file first".into()
        }
        io::ErrorKind::NotFound if is_bare(&name) => HUB_NAME.into(),
        _ => return String::new(),
    };
    as_advice(';', &advice, &name)
}

/// What stands at a path where the folder of a model is expected, and what to do about it, behind a
/// semicolon; empty where nothing is known.
pub fn advice_on_model(path: &Path) -> String {
    const EXPECTED: &str = "expected a folder with config.json and model.safetensors";
    let name = path.display().to_string();
    let has = |file: &str| path.join(file).exists();
    let advice = if path.is_file() {
        let start = fs::File::open(path).and_then(|file| {
            let mut start = Vec::new();
            file.take(START_BYTES).read_to_end(&mut start).map(|_| start)
        });
        match start.ok().and_then(|start| in_file(path, &start)) {
            Some((what, advice)) if advice.contains("convert") => format!("it is {what}{advice}"),
            Some((what, _)) => format!("it is {what}; {EXPECTED}"),
            None => EXPECTED.into(),
        }
    } else if has("adapter_config.json") {
        "it holds an adapter, which changes a model and is none: `hearken merge --adapter FILE --output DIR` makes \
         a model of both"
            .into()
    } else if has("final/config.json") {
        "it is the directory of a run, whose model is FILE/final".into()
    } else if ends(path, ".gguf") {
        "it holds GGUF files, models for llama.cpp: `hearken convert --model FILE.gguf --output DIR` makes a \
         model's folder of one"
            .into()
    } else if path.is_dir() {
        "expected a folder with config.json and model.safetensors".into()
    } else if name.contains(":/") {
        "an address is not fetched: download the model first".into()
    } else if is_bare(&name) {
        HUB_NAME.into()
    } else {
        return String::new();
    };
    as_advice(';', &advice, &name)
}

/// A word that is neither a path nor a name of the hub.
fn is_bare(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\\', '.', ':', '*', ' '])
}

/// Whether a folder has a file whose name ends so.
fn ends(folder: &Path, end: &str) -> bool {
    let mut entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name().to_string_lossy().ends_with(end))
}

fn as_advice(mark: char, advice: &str, name: &str) -> String {
    if advice.is_empty() {
        String::new()
    } else {
        format!("{mark} {}", advice.replace("FILE", name))
    }
}

/// Whether a folder is known to be something else than a folder of files of records.
pub(crate) fn is_known_folder(path: &Path) -> bool {
    !in_folder(path).is_empty()
}

/// What a folder is, if it is known to be no folder of files of records, and what to do.
fn in_folder(path: &Path) -> &'static str {
    let has = |name: &str| path.join(name).exists();
    if has("adapter_config.json") {
        return "it holds an adapter of a model; expected a file of records";
    }
    if has("config.json") {
        return "it holds a model: a model's folder belongs into model.path; expected a file of records";
    }
    if has("dataset_info.json") && ends(path, ".arrow") || has("dataset_dict.json") {
        return "it holds a data set of the library datasets; expected a file of records: in Python, \
                datasets.load_from_disk(\"FILE\").to_json(\"train.jsonl\")";
    }
    ""
}

/// Eight bytes that are the length of a JSON header, and its start.
fn is_safetensors(start: &[u8]) -> bool {
    const HEADER_BYTES_MAX: u64 = 100_000_000;
    let Some((length, header)) = start.split_first_chunk::<8>() else { return false };
    (2..HEADER_BYTES_MAX).contains(&u64::from_le_bytes(*length)) && header.starts_with(b"{\"")
}

fn is_html(start: &[u8]) -> bool {
    let start = start.trim_ascii_start();
    let starts =
        |with: &[u8]| start.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    starts(b"<!doctype") || starts(b"<html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_told_from_lines() {
        let header = [&24_u64.to_le_bytes()[..], b"{\"a\":{}}"].concat();
        assert!(is_safetensors(&header));
        assert!(!is_safetensors(b"{\"prompt\": {\"a\": 1}}"));
    }
}
