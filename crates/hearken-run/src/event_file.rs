//! Event files, as TensorBoard reads them.
//!
//! A file is records after one another, each of them
//!
//! ```text
//! length    8 bytes, little endian
//! checksum  4 bytes, of those 8
//! event     an Event, as Protocol Buffers encode it
//! checksum  4 bytes, of the event
//! ```
//!
//! with masked CRC-32C checksums: the format TFRecord, of TensorFlow's `core/lib/io/record_writer.h`; events
//! are those of its `core/util/event.proto`. The first event says the version of the format; each of the
//! others has the numbers of one record of `metrics.jsonl`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use hearken_data::write_whole;
use serde_json::Value;

use crate::error::RunDirError;
use crate::metrics_table::leaves;

/// What TensorBoard knows event files by.
const MARK: &str = "tfevents";
/// The version of the format that files begin with.
const VERSION: &str = "brain.Event:2";

/// An event file that grows.
#[derive(Debug)]
pub(crate) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Replaces the event files in `folder` by one with the records of a log, which `records` gives and which
    /// are read twice; it goes on from there. So a resumed run has every step once: what was written behind
    /// its checkpoint is gone with the older file.
    ///
    /// The records have no time of their own. The last one is now; a step was its successor's seconds
    /// before it.
    ///
    /// # Errors
    /// If a record cannot be read, or the system refuses; the older files are then still there.
    pub(crate) fn replace<R: Iterator<Item = Result<Value, RunDirError>>>(
        folder: &Path,
        records: impl Fn() -> Result<R, RunDirError>,
    ) -> Result<Self, RunDirError> {
        fs::create_dir_all(folder).map_err(RunDirError::io(folder, "be created"))?;
        let older = event_files(folder).map_err(RunDirError::io(folder, "be read"))?;
        let now = seconds_now();
        let (mut seconds, mut first) = (0.0, None);
        for record in records()? {
            let of_record = seconds_of(&record?);
            first.get_or_insert(of_record);
            seconds += of_record;
        }
        let mut time = now - seconds + first.unwrap_or(0.0);
        let mut bytes = [of_version(time), of_start(time)].map(|event| framed(&event)).concat();
        for (index, record) in records()?.enumerate() {
            let record = record?;
            if 0 < index {
                time += seconds_of(&record);
            }
            bytes.extend(of_record(time, &record).iter().flat_map(|event| framed(event)));
        }
        let path = new_path(folder, now);
        let at = |action| RunDirError::io(&path, action);
        write_whole(&path, |file| file.write_all(&bytes)).map_err(at("be written"))?;
        for old in &older {
            fs::remove_file(old).map_err(RunDirError::io(old, "be removed"))?;
        }
        let file = File::options().append(true).open(&path).map_err(at("be opened"))?;
        Ok(Self { path, file })
    }

    /// Appends the numbers of a record, where it has some.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn append(&mut self, record: &Value) -> Result<(), RunDirError> {
        let Some(event) = of_record(seconds_now(), record) else { return Ok(()) };
        let written = self.file.write_all(&framed(&event));
        written.map_err(RunDirError::io(&self.path, "be written"))
    }
}

pub(crate) fn event_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().contains(MARK) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// A name that no file in `folder` has: TensorBoard, which may be looking, takes a file for the one that it
/// was as long as its name stays. Names are in the order of time, which is the one that it reads them in.
fn new_path(folder: &Path, now: f64) -> PathBuf {
    let named = |number: u32| folder.join(format!("events.out.{MARK}.{:010}.{number}", now as u64));
    let mut paths = (0..).map(named);
    paths.find(|path| !path.exists()).expect("there are more numbers than files")
}

/// What a step took; an evaluation does not say.
fn seconds_of(record: &Value) -> f64 {
    record["seconds"].as_f64().unwrap_or(0.0)
}

fn seconds_now() -> f64 {
    // A clock before 1970 is no reason to end a run.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The numbers of a record but for its step, with their names.
fn numbers(record: &Value) -> impl Iterator<Item = (String, f64)> {
    let named = leaves(record).into_iter().filter(|(name, _)| name != "step");
    named.filter_map(|(name, value)| Some((name, value.as_f64()?)))
}

/// The event that a file begins with.
fn of_version(time: f64) -> Vec<u8> {
    let mut event = ProtoMessage::default();
    event.double(1, time);
    event.bytes(3, VERSION.as_bytes());
    event.0
}

/// The event that makes a TensorBoard which has read an older file forget all steps from 0 on.
fn of_start(time: f64) -> Vec<u8> {
    const START: u64 = 1;
    let mut session = ProtoMessage::default();
    session.integer(1, START);
    let mut event = ProtoMessage::default();
    event.double(1, time);
    event.bytes(7, &session.0);
    event.0
}

/// The event of a record, with a scalar for each of its numbers.
fn of_record(time: f64, record: &Value) -> Option<Vec<u8>> {
    let mut summary = ProtoMessage::default();
    for (tag, number) in numbers(record) {
        let mut value = ProtoMessage::default();
        value.bytes(1, tag.as_bytes());
        value.float(2, number as f32);
        summary.bytes(1, &value.0);
    }
    if summary.0.is_empty() {
        return None;
    }
    let mut event = ProtoMessage::default();
    event.double(1, time);
    event.integer(2, record["step"].as_u64().unwrap_or(0));
    event.bytes(5, &summary.0);
    Some(event.0)
}

/// A message of Protocol Buffers: fields after one another, each its number and kind, then its value.
#[derive(Debug, Default)]
struct ProtoMessage(Vec<u8>);

impl ProtoMessage {
    fn varint(&mut self, mut value: u64) {
        while 0x80 <= value {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn field(&mut self, number: u64, kind: u64) {
        self.varint(number << 3 | kind);
    }

    fn integer(&mut self, number: u64, value: u64) {
        self.field(number, 0);
        self.varint(value);
    }

    fn double(&mut self, number: u64, value: f64) {
        self.field(number, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, number: u64, value: &[u8]) {
        self.field(number, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    fn float(&mut self, number: u64, value: f32) {
        self.field(number, 5);
        self.0.extend(value.to_le_bytes());
    }
}

/// A record of a file.
fn framed(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let (of_length, of_event) = (masked_crc(&length), masked_crc(event));
    [&length[..], &of_length.to_le_bytes(), event, &of_event.to_le_bytes()].concat()
}

/// A checksum as files keep it: rotated and moved, since the checksum of something that holds its own
/// checksum says little.
pub(crate) fn masked_crc(bytes: &[u8]) -> u32 {
    const MOVED_BY: u32 = 0xa282_ead8;
    crc32c(bytes).rotate_right(15).wrapping_add(MOVED_BY)
}

/// CRC-32C: the polynomial of Castagnoli, bits in reverse.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < table.len() {
            let (mut crc, mut bit) = (byte as u32, 0);
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, &byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::metrics::Log;

    /// RFC 3720, appendix B.4.
    #[test]
    fn checksums_are_those_of_the_standard() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    /// The record that TensorBoard 2.21's own writer makes of `Event(wall_time=1.5, step=300,
    /// summary=Summary(value=[Summary.Value(tag="loss", simple_value=0.25)]))`.
    #[test]
    fn a_record_is_byte_for_byte_that_of_tensorboard() {
        let event = of_record(1.5, &json!({"step": 300, "loss": 0.25})).unwrap();
        let expected = "1b000000000000001a0d9e1309000000000000f83f10ac022a0d0a0b0a046c6f7373150000803e9908deed";
        assert_eq!(hearken_data::hexadecimal(&framed(&event)), expected);
        let version = framed(&of_version(1.5));
        assert_eq!(
            hearken_data::hexadecimal(&version),
            "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c"
        );
    }

    /// The steps and first tags in the only event file of a folder.
    fn steps(folder: &Path) -> Vec<(u64, String)> {
        let files = event_files(folder).unwrap();
        assert_eq!(files.len(), 1, "{files:?}");
        let bytes = fs::read(&files[0]).unwrap();
        let (mut rest, mut found) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(rest[8..12], masked_crc(&rest[..8]).to_le_bytes());
            let event = &rest[12..12 + length];
            assert_eq!(rest[12 + length..16 + length], masked_crc(event).to_le_bytes());
            // Behind the time, 9 bytes: the step in one byte, a summary of one value, its tag.
            if event[9] == 2 << 3 {
                let tag = usize::from(event[16]);
                let tag = String::from_utf8(event[17..17 + tag].to_vec()).unwrap();
                found.push((u64::from(event[10]), tag));
            }
            rest = &rest[16 + length..];
        }
        found
    }

    #[test]
    fn a_resumed_log_has_every_step_once_and_none_that_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let (path, events) = (folder.path().join("metrics.jsonl"), folder.path().join("events"));
        let open = |bytes| Log::open(&path, bytes).unwrap().with_events(events.clone());
        let step = |step: u64| json!({"step": step, "loss": 0.5});
        let mut log = open(0);
        assert!(!events.exists(), "nothing is written before there is something to write");
        log.append(&json!({"step": 0, "eval_loss": 0.5})).unwrap();
        log.append(&step(1)).unwrap();
        let kept = log.sync().unwrap();
        log.append(&step(2)).unwrap();
        log.append(&step(3)).unwrap();
        let of = |pairs: &[(u64, &str)]| -> Vec<_> {
            pairs.iter().map(|(step, tag)| (*step, (*tag).to_owned())).collect()
        };
        let whole = of(&[(0, "eval_loss"), (1, "loss"), (2, "loss"), (3, "loss")]);
        assert_eq!(steps(&events), whole);
        drop(log);
        let mut log = open(kept);
        assert_eq!(steps(&events), whole, "looking changes nothing");
        log.append(&step(2)).unwrap();
        assert_eq!(steps(&events), of(&[(0, "eval_loss"), (1, "loss"), (2, "loss")]));
        // Asked for later, the files begin with the first step all the same.
        let kept = log.sync().unwrap();
        drop(log);
        fs::remove_dir_all(&events).unwrap();
        open(kept).append(&step(3)).unwrap();
        assert_eq!(steps(&events), whole);
    }
}
