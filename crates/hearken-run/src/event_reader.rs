//! Scalars out of TensorBoard's event files, whoever wrote them; see `event_file` for what such a file is.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::RunDirError;
use crate::event_file::{event_files, masked_crc};

/// Bytes of a record besides its event: length, checksum, checksum.
const FRAME: usize = 16;

/// The scalars of an event file, or of all of a folder in the order of their names: a record for each step, with what
/// was written of it, by tag. A tag that a step has twice has what was written last.
///
/// A file whose last record is cut off, as that of a program that still writes, is read up to there.
///
/// # Errors
/// If a file cannot be read, or a checksum or an event is wrong.
pub fn read_scalars(path: &Path) -> Result<Vec<Value>, RunDirError> {
    let files = if path.is_dir() {
        let mut files = event_files(path).map_err(RunDirError::io(path, "be read"))?;
        files.sort();
        files
    } else {
        vec![path.to_owned()]
    };
    let mut steps: BTreeMap<u64, Map<String, Value>> = BTreeMap::new();
    for file in files {
        let bytes = std::fs::read(&file).map_err(RunDirError::io(&file, "be read"))?;
        let events = events(&bytes).map_err(|reason| broken(&file, reason))?;
        for event in events {
            let event = ScalarEvent::read(event)
                .map_err(|NoMessage| broken(&file, "an event that is none"))?;
            let step = steps.entry(event.step).or_default();
            step.extend(event.scalars.into_iter().map(|(tag, number)| (tag, json!(number))));
        }
    }
    let with_step = |(step, mut scalars): (u64, Map<String, Value>)| {
        scalars.insert("step".to_owned(), json!(step));
        Value::Object(scalars)
    };
    Ok(steps.into_iter().filter(|(_, scalars)| !scalars.is_empty()).map(with_step).collect())
}

/// Whether a file is one by its name.
pub fn is_event_file(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains("tfevents"))
}

fn broken(path: &Path, found: &str) -> RunDirError {
    let message = format!("found {found}, expected an event file of TensorBoard");
    RunDirError::Broken { path: path.to_owned(), message }
}

/// The events of a file.
fn events(bytes: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let (mut rest, mut found) = (bytes, Vec::new());
    while FRAME <= rest.len() {
        let length = u64::from_le_bytes(rest[..8].try_into().expect("eight bytes"));
        if rest[8..12] != masked_crc(&rest[..8]).to_le_bytes() {
            return Err("a wrong checksum");
        }
        let Some(end) = usize::try_from(length).ok().and_then(|length| length.checked_add(12))
        else {
            return Err("a record of impossible length");
        };
        let (Some(event), Some(checksum)) = (rest.get(12..end), rest.get(end..end + 4)) else {
            break;
        };
        if *checksum != masked_crc(event).to_le_bytes() {
            return Err("a wrong checksum");
        }
        found.push(event);
        rest = &rest[end + 4..];
    }
    Ok(found)
}

/// What is read is no message of Protocol Buffers.
#[derive(Debug)]
struct NoMessage;

/// An event with the scalars that it has.
#[derive(Default)]
struct ScalarEvent {
    step: u64,
    scalars: Vec<(String, f64)>,
}

impl ScalarEvent {
    fn read(bytes: &[u8]) -> Result<Self, NoMessage> {
        let mut event = Self::default();
        for field in MessageFields(bytes) {
            match field? {
                (2, Wire::Integer(step)) => event.step = step,
                (5, Wire::Bytes(summary)) => {
                    for value in MessageFields(summary) {
                        if let (1, Wire::Bytes(value)) = value? {
                            event.scalars.extend(scalar(value)?);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(event)
    }
}

/// A value of a summary with its tag, if it is a scalar.
fn scalar(bytes: &[u8]) -> Result<Option<(String, f64)>, NoMessage> {
    let (mut tag, mut number) = (None, None);
    for field in MessageFields(bytes) {
        match field? {
            (1, Wire::Bytes(name)) => tag = Some(String::from_utf8_lossy(name).into_owned()),
            (2, Wire::Four(bytes)) => number = Some(f32::from_le_bytes(bytes).into()),
            (8, Wire::Bytes(tensor)) => number = number_of(tensor)?.or(number),
            _ => {}
        }
    }
    Ok(tag.zip(number))
}

/// The number of a tensor that has one, in f32 or f64; others, as those of histograms, have none.
fn number_of(tensor: &[u8]) -> Result<Option<f64>, NoMessage> {
    const FLOAT: u64 = 1;
    const DOUBLE: u64 = 2;
    let (mut dtype, mut number) = (0, None);
    for field in MessageFields(tensor) {
        number = match field? {
            (1, Wire::Integer(which)) => {
                dtype = which;
                number
            }
            (4 | 5, Wire::Bytes(bytes)) if dtype == FLOAT => {
                bytes.try_into().ok().map(|bytes| f32::from_le_bytes(bytes).into())
            }
            (4 | 6, Wire::Bytes(bytes)) if dtype == DOUBLE => {
                bytes.try_into().ok().map(f64::from_le_bytes)
            }
            (5, Wire::Four(bytes)) => Some(f32::from_le_bytes(bytes).into()),
            (6, Wire::Eight(bytes)) => Some(f64::from_le_bytes(bytes)),
            _ => number,
        };
    }
    Ok(number)
}

/// The fields of a message of Protocol Buffers, each its number and value; an error where it breaks off.
struct MessageFields<'a>(&'a [u8]);

enum Wire<'a> {
    Integer(u64),
    Eight([u8; 8]),
    Bytes(&'a [u8]),
    Four([u8; 4]),
}

impl<'a> MessageFields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let key = self.varint()?;
        let wire = match key & 7 {
            0 => Wire::Integer(self.varint()?),
            1 => Wire::Eight(self.take()?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Wire::Bytes(bytes)
            }
            5 => Wire::Four(self.take()?),
            _ => return None,
        };
        Some((key >> 3, wire))
    }
}

impl<'a> Iterator for MessageFields<'a> {
    type Item = Result<(u64, Wire<'a>), NoMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field().ok_or(NoMessage);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::metrics::Log;

    fn written(records: &[Value]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let events = folder.path().join("events");
        let mut log =
            Log::open(&folder.path().join("metrics.jsonl"), 0).unwrap().with_events(events.clone());
        for record in records {
            log.append(record).unwrap();
        }
        log.sync().unwrap();
        (folder, events)
    }

    #[test]
    fn what_is_written_is_read() {
        let records = [
            json!({"step": 1, "loss": 0.5, "objective/kl": 0.25}),
            json!({"step": 300, "loss": -2.0}),
        ];
        let (_folder, events) = written(&records);
        assert_eq!(read_scalars(&events).unwrap(), records);
        let file = event_files(&events).unwrap().remove(0);
        assert!(is_event_file(&file));
        assert_eq!(read_scalars(&file).unwrap(), records);
    }

    #[test]
    fn a_file_that_is_cut_off_ends_there_and_one_that_is_damaged_is_named() {
        let records = [json!({"step": 1, "loss": 0.5}), json!({"step": 2, "loss": 0.25})];
        let (_folder, events) = written(&records);
        let file = event_files(&events).unwrap().remove(0);
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
        assert_eq!(read_scalars(&events).unwrap(), records[..1]);
        let mut damaged = bytes.clone();
        let last = damaged.len() - 8;
        damaged[last] ^= 1;
        std::fs::write(&file, &damaged).unwrap();
        let error = read_scalars(&events).unwrap_err().to_string();
        assert!(error.contains("tfevents") && error.contains("a wrong checksum"), "{error}");
        std::fs::write(&file, b"{\"step\": 1, \"loss\": 0.5}").unwrap();
        assert!(read_scalars(&events).is_err());
    }

    /// A scalar as TensorFlow 2 and `SummaryWriter(new_style=True)` write it, in a tensor.
    #[test]
    fn scalars_in_tensors_are_read_too() {
        let tensor = [&[8, 1, 18, 0, 42, 4][..], &0.75_f32.to_le_bytes()].concat();
        let value = [&[10, 1, b'x', 66, tensor.len() as u8][..], &tensor].concat();
        let found = scalar(&value).unwrap().unwrap();
        assert_eq!(found, ("x".to_owned(), 0.75));
        assert!(scalar(&[10, 9, b'x']).is_err());
        assert!(scalar(&[10, 1, b'x']).unwrap().is_none());
    }
}
