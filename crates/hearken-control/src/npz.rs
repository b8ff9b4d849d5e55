//! Arrays of NumPy's `.npz` files: a ZIP archive (PKWARE's APPNOTE.TXT 6.3, sections 4.3.7 to 4.3.16) of `.npy` files (NumPy's NEP 1).
//!
//! Read: members that are stored or deflated, numbers and truth values of any size and byte order, in C's order of indices. Not here: objects, which are Python's pickles, and
//! archives of more than 4 GiB.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::Crc;
use flate2::read::DeflateDecoder;

/// Why an archive has no such arrays.
#[derive(Debug, thiserror::Error)]
pub enum NpzError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no archive.
    #[error("{}: {message}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What was found, and what was expected.
        message: String,
    },
    /// An array cannot be read.
    #[error("{}: `{array}`: {message}", path.display())]
    Array {
        /// The file.
        path: PathBuf,
        /// Its name.
        array: String,
        /// What was found, and what was expected.
        message: String,
    },
}

/// An array's numbers, by kind.
#[derive(Clone, Debug, PartialEq)]
pub enum NpyNumbers {
    /// Truth values.
    Booleans(Vec<bool>),
    /// Integers.
    Integers(Vec<i64>),
    /// Floating-point numbers.
    Floats(Vec<f64>),
}

/// An array.
#[derive(Clone, Debug, PartialEq)]
pub struct NpyArray {
    /// Its sizes; none of a single number.
    pub shape: Vec<usize>,
    /// The numbers, the last index running fastest.
    pub numbers: NpyNumbers,
}

/// A member of the archive.
#[derive(Debug)]
struct Member {
    name: String,
    method: u16,
    crc: u32,
    stored: usize,
    size: usize,
    /// Where its header begins.
    header: usize,
}

/// An archive, as it lies in memory.
#[derive(Debug)]
pub struct Npz {
    path: PathBuf,
    bytes: Vec<u8>,
    members: Vec<Member>,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn usize_at(bytes: &[u8], at: usize) -> Option<usize> {
    u32_at(bytes, at).map(|number| number as usize)
}

impl Npz {
    /// Reads the directory of an archive.
    ///
    /// # Errors
    /// If the file cannot be read, or is no archive.
    pub fn open(path: &Path) -> Result<Self, NpzError> {
        let io = |source| NpzError::Io { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(io)?;
        let members = directory(&bytes)
            .map_err(|message| NpzError::Archive { path: path.to_owned(), message })?;
        Ok(Self { path: path.to_owned(), bytes, members })
    }

    /// The names of its arrays, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.name.as_str())
    }

    /// An array by name; `None` where there is none.
    ///
    /// # Errors
    /// If it is damaged, or of a kind that is not read.
    pub fn array(&self, name: &str) -> Result<Option<NpyArray>, NpzError> {
        let Some(member) = self.members.iter().find(|member| member.name == name) else {
            return Ok(None);
        };
        let wrong =
            |message| NpzError::Array { path: self.path.clone(), array: name.to_owned(), message };
        let content = self.content(member).map_err(wrong)?;
        npy(&content).map(Some).map_err(wrong)
    }

    /// A member's bytes, as they were before they were compressed.
    fn content(&self, member: &Member) -> Result<Vec<u8>, String> {
        let broken = || "the archive ends in the middle of it".to_owned();
        let at = member.header;
        if u32_at(&self.bytes, at) != Some(0x0403_4b50) {
            return Err("found no header where the archive says that it is".to_owned());
        }
        let lens = [26, 28].map(|field| u16_at(&self.bytes, at + field).map(usize::from));
        let [Some(name), Some(extra)] = lens else { return Err(broken()) };
        let start = at + 30 + name + extra;
        let stored = self.bytes.get(start..).and_then(|rest| rest.get(..member.stored));
        let stored = stored.ok_or_else(broken)?;
        let mut content = Vec::new();
        match member.method {
            0 => content.extend_from_slice(stored),
            // One byte more than there should be tells that there are more.
            8 => DeflateDecoder::new(stored)
                .take(member.size as u64 + 1)
                .read_to_end(&mut content)
                .map(|_| ())
                .map_err(|error| format!("cannot be decompressed: {error}"))?,
            other => {
                return Err(format!("found compression {other}, expected 0 (none) or 8 (deflate)"));
            }
        }
        let mut sum = Crc::new();
        sum.update(&content);
        if content.len() != member.size || sum.sum() != member.crc {
            return Err("its checksum or its length is another one than the archive says: the file is damaged".to_owned());
        }
        Ok(content)
    }
}

/// The members that are arrays.
fn directory(bytes: &[u8]) -> Result<Vec<Member>, String> {
    const END: [u8; 4] = *b"PK\x05\x06";
    const END_LEN: usize = 22;
    /// The end has a comment of at most 65,535 bytes.
    const SEARCHED: usize = END_LEN + 65_535;
    let no_archive = || "found no ZIP archive, expected what numpy.savez writes".to_owned();
    let first = bytes.len().saturating_sub(SEARCHED);
    let end = bytes[first..].windows(4).rposition(|window| window == END);
    let end = first + end.ok_or_else(no_archive)?;
    let count = u16_at(bytes, end + 10).ok_or_else(no_archive)?;
    let start = u32_at(bytes, end + 16).ok_or_else(no_archive)?;
    if count == u16::MAX || start == u32::MAX {
        return Err("found an archive of more than 4 GiB or 65,534 arrays, expected a smaller one"
            .to_owned());
    }
    let (mut at, mut members) = (start as usize, Vec::new());
    for _ in 0..count {
        let member = member(bytes, at).ok_or("its directory is damaged")?;
        at += 46 + member.1;
        if let Some(name) = member.0.name.strip_suffix(".npy") {
            members.push(Member { name: name.to_owned(), ..member.0 });
        }
    }
    Ok(members)
}

/// An entry of the directory, and the length of what it has behind its 46 bytes.
fn member(bytes: &[u8], at: usize) -> Option<(Member, usize)> {
    if u32_at(bytes, at)? != 0x0201_4b50 {
        return None;
    }
    let lens = [28, 30, 32].map(|field| u16_at(bytes, at + field).map(usize::from));
    let [Some(name), Some(extra), Some(comment)] = lens else { return None };
    let text = bytes.get(at + 46..at + 46 + name)?;
    let member = Member {
        name: String::from_utf8_lossy(text).into_owned(),
        method: u16_at(bytes, at + 10)?,
        crc: u32_at(bytes, at + 16)?,
        stored: usize_at(bytes, at + 20)?,
        size: usize_at(bytes, at + 24)?,
        header: usize_at(bytes, at + 42)?,
    };
    Some((member, name + extra + comment))
}

/// An array as `numpy.save` writes it.
fn npy(bytes: &[u8]) -> Result<NpyArray, String> {
    let no_array = || "found no array of NumPy's format .npy".to_owned();
    if bytes.get(..6) != Some(b"\x93NUMPY".as_slice()) {
        return Err(no_array());
    }
    let (len, start) = match bytes.get(6) {
        Some(1) => (u16_at(bytes, 8).map(usize::from), 10),
        Some(2 | 3) => (usize_at(bytes, 8), 12),
        _ => return Err(no_array()),
    };
    let end = len.and_then(|len| len.checked_add(start)).ok_or_else(no_array)?;
    let header = bytes.get(start..end).ok_or_else(no_array)?;
    let header = std::str::from_utf8(header).map_err(|_| no_array())?;
    let field = |name: &str| {
        let (_, rest) = header.split_once(&format!("'{name}':"))?;
        Some(rest.trim_start())
    };
    let kind = field("descr").ok_or_else(no_array)?;
    let quoted = kind.strip_prefix('\'').and_then(|kind| kind.split_once('\''));
    let (kind, _) = quoted.ok_or("found an array of records, expected one of numbers")?;
    if field("fortran_order").ok_or_else(no_array)?.starts_with("True") {
        return Err(
            "found Fortran's order, expected C's: numpy.ascontiguousarray makes it".to_owned()
        );
    }
    let shape = field("shape").and_then(|text| text.strip_prefix('(')?.split_once(')'));
    let (shape, _) = shape.ok_or_else(no_array)?;
    let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape: Vec<usize> =
        sizes.map(|size| size.parse().map_err(|_| no_array())).collect::<Result<_, _>>()?;
    let count = shape.iter().try_fold(1_usize, |count, &size| count.checked_mul(size));
    let numbers = numbers(kind, &bytes[end..], count)?;
    Ok(NpyArray { shape, numbers })
}

/// `count` numbers of a kind as NumPy writes it: `<f4`, `>i8`, `|b1`, ….
fn numbers(kind: &str, bytes: &[u8], count: Option<usize>) -> Result<NpyNumbers, String> {
    let unread = || {
        format!(
            "found the type {kind:?}, expected numbers or truth values, as `array.astype(\"f8\")` makes them"
        )
    };
    let mut letters = kind.chars();
    let (order, letter) = (letters.next(), letters.next());
    let width: usize = letters.as_str().parse().map_err(|_| unread())?;
    // A text's width counts letters.
    if !letter.is_some_and(|letter| "biuf".contains(letter)) {
        return Err(unread());
    }
    let is_big = order == Some('>');
    let expected = count.and_then(|count| count.checked_mul(width));
    if expected != Some(bytes.len()) || width == 0 {
        return Err(format!("found {} bytes, which its shape does not have", bytes.len()));
    }
    /// The numbers of one width, by what makes them of their bytes.
    macro_rules! each {
        ($type:ty, $into:expr) => {
            bytes
                .chunks_exact(size_of::<$type>())
                .map(|part| {
                    let part = part.try_into().expect("chunks are of this length");
                    let number = if is_big {
                        <$type>::from_be_bytes(part)
                    } else {
                        <$type>::from_le_bytes(part)
                    };
                    $into(number)
                })
                .collect()
        };
    }
    Ok(match (letter, width) {
        (Some('b'), 1) => NpyNumbers::Booleans(bytes.iter().map(|byte| *byte != 0).collect()),
        (Some('i'), 1) => NpyNumbers::Integers(each!(i8, i64::from)),
        (Some('i'), 2) => NpyNumbers::Integers(each!(i16, i64::from)),
        (Some('i'), 4) => NpyNumbers::Integers(each!(i32, i64::from)),
        (Some('i'), 8) => NpyNumbers::Integers(each!(i64, i64::from)),
        (Some('u'), 1) => NpyNumbers::Integers(each!(u8, i64::from)),
        (Some('u'), 2) => NpyNumbers::Integers(each!(u16, i64::from)),
        (Some('u'), 4) => NpyNumbers::Integers(each!(u32, i64::from)),
        (Some('f'), 4) => NpyNumbers::Floats(each!(f32, f64::from)),
        (Some('f'), 8) => NpyNumbers::Floats(each!(f64, f64::from)),
        _ => return Err(unread()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `.npy` file of version 1.
    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn numbers_are_read_by_their_kind_and_order() {
        let read = |kind: &str, shape: &str, data: &[u8]| {
            npy(&file(
                &format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n"),
                data,
            ))
        };
        let floats = [1.5_f32, -2.0].map(f32::to_le_bytes).concat();
        let array = read("<f4", "(1, 2)", &floats).unwrap();
        assert_eq!(array.shape, [1, 2]);
        assert_eq!(array.numbers, NpyNumbers::Floats(vec![1.5, -2.0]));
        let array = read(">i2", "(2,)", &[0, 7, 255, 255]).unwrap();
        assert_eq!(array.numbers, NpyNumbers::Integers(vec![7, -1]));
        let array = read("|b1", "()", &[1]).unwrap();
        assert_eq!((array.shape.len(), array.numbers), (0, NpyNumbers::Booleans(vec![true])));
        for (kind, shape, data, expected) in [
            ("|O", "(1,)", [0; 8].as_slice(), "found the type \"|O\", expected numbers"),
            ("<U3", "(1,)", &[0; 3], "found the type \"<U3\", expected numbers"),
            ("<f8", "(2,)", &[0; 8], "found 8 bytes, which its shape does not have"),
            ("<f8", "(18446744073709551615, 3)", &[0; 8], "found 8 bytes, which its shape"),
            ("<f8", "(1,", &[0; 8], "found no array of NumPy's format"),
        ] {
            let error = read(kind, shape, data).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        for bytes in [b"".as_slice(), b"PK", b"PK\x05\x06", b"nothing of the kind"] {
            assert!(directory(bytes).unwrap_err().contains("expected what numpy.savez writes"));
        }
        let mut end = b"PK\x05\x06".to_vec();
        end.extend([0; 18]);
        assert_eq!(directory(&end).unwrap().len(), 0);
        end[10] = 1;
        assert_eq!(directory(&end).unwrap_err(), "its directory is damaged");
    }
}
