//! The classes of ILSVRC's devkit: `meta.mat`, a file of MATLAB's level 5.
//!
//! ```text
//! file    := 124 bytes of text, version (2), "IM" (2), element*
//! element := type (4), length (4), so many bytes, up to a multiple of eight
//!          | type (2), length (2), four bytes                                  a small one
//! ```
//!
//! An element may hold elements, deflated by zlib, or a matrix: flags, dimensions, name, and what its class
//! has, which for a struct is the length of a field's name, the names, and a matrix for each field of each of
//! its elements. Of all this only the numbers and synsets of the struct `synsets` are read.

use flate2::read::ZlibDecoder;
use std::io::Read;

/// Bytes before the first element.
const HEADER: usize = 128;
/// How large deflated elements may become, in bytes; the devkit's are some hundred thousand.
const LARGEST: u64 = 1 << 26;

/// Types of elements.
const INT8: u32 = 1;
const UINT8: u32 = 2;
const INT16: u32 = 3;
const UINT16: u32 = 4;
const INT32: u32 = 5;
const UINT32: u32 = 6;
const SINGLE: u32 = 7;
const DOUBLE: u32 = 9;
const INT64: u32 = 12;
const UINT64: u32 = 13;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
const UTF8: u32 = 16;

/// The class of a matrix whose elements have fields.
const STRUCT: u32 = 2;

/// `490 n01751748` for each class, a line each.
pub(super) fn classes(file: &[u8]) -> Result<String, &'static str> {
    if file.get(HEADER - 2..HEADER) != Some(b"IM") {
        return Err("expected a file of MATLAB's level 5 in little-endian order");
    }
    let mut elements = Elements(&file[HEADER..]);
    while let Some((kind, bytes)) = elements.next()? {
        let inflated;
        let bytes = match kind {
            MATRIX => bytes,
            COMPRESSED => {
                inflated = inflate(bytes)?;
                match Elements(&inflated).next()? {
                    Some((MATRIX, matrix)) => matrix,
                    _ => continue,
                }
            }
            _ => continue,
        };
        let mut matrix = Elements(bytes);
        let class = matrix.numbers()?.first().map(|flags| *flags as u32 & 0xff);
        let dimensions = matrix.numbers()?;
        if (class, matrix.text()?.as_str()) == (Some(STRUCT), "synsets") {
            return synsets(matrix, &dimensions);
        }
    }
    Err("expected the struct `synsets`")
}

/// The numbers and synsets of a struct, from the length of its fields' names on.
fn synsets(mut matrix: Elements<'_>, dimensions: &[f64]) -> Result<String, &'static str> {
    let length = matrix
        .numbers()?
        .first()
        .map_or(0, |length| *length as usize);
    let names = matrix.text()?;
    let names: Vec<&str> = match length {
        0 => Vec::new(),
        _ => names.as_bytes().chunks(length).map(field_name).collect(),
    };
    let place = |name| names.iter().position(|known| *known == name);
    let (Some(number), Some(synset)) = (place("ILSVRC2012_ID"), place("WNID")) else {
        return Err("expected `synsets` with the fields ILSVRC2012_ID and WNID");
    };
    let mut lines = String::new();
    for _ in 0..dimensions.iter().product::<f64>() as u64 {
        let (mut id, mut wnid) = (None, None);
        for field in 0..names.len() {
            let Some((MATRIX, value)) = matrix.next()? else {
                return Err("it ends inside `synsets`");
            };
            if field == number {
                id = Elements(value).value()?.numbers()?.first().copied();
            } else if field == synset {
                wnid = Some(Elements(value).value()?.text()?);
            }
        }
        let (Some(id), Some(wnid)) = (id, wnid) else {
            return Err("expected a number and a synset for each of `synsets`");
        };
        lines.push_str(&format!("{id} {wnid}\n"));
    }
    Ok(lines)
}

/// A name that is filled up with zeros.
fn field_name(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|byte| *byte == 0);
    std::str::from_utf8(&bytes[..end.unwrap_or(bytes.len())]).unwrap_or_default()
}

fn inflate(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut inflated = Vec::new();
    let mut decoder = ZlibDecoder::new(bytes).take(LARGEST);
    let read = decoder.read_to_end(&mut inflated);
    read.map_err(|_| "its deflated bytes are damaged")?;
    Ok(inflated)
}

/// Elements, one after another.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// The type and the bytes of the next; nothing at the end.
    fn next(&mut self) -> Result<Option<(u32, &'a [u8])>, &'static str> {
        const ENDS: &str = "it ends inside an element";
        if self.0.is_empty() {
            return Ok(None);
        }
        let (tag, rest) = self.0.split_first_chunk::<8>().ok_or(ENDS)?;
        let [kind, length] = [0, 4].map(|place| {
            let word = [tag[place], tag[place + 1], tag[place + 2], tag[place + 3]];
            u32::from_le_bytes(word)
        });
        let small = (kind >> 16) as usize;
        if small > 0 {
            let bytes = self.0.get(4..4 + small.min(4)).ok_or(ENDS)?;
            self.0 = rest;
            return Ok(Some((kind & 0xffff, bytes)));
        }
        let length = length as usize;
        let bytes = rest.get(..length).ok_or(ENDS)?;
        // Deflated elements are not filled up, and the last need not be.
        let filled = match kind {
            COMPRESSED => length,
            _ => length.next_multiple_of(8).min(rest.len()),
        };
        self.0 = &rest[filled..];
        Ok(Some((kind, bytes)))
    }

    /// What follows a matrix's flags, dimensions and name.
    fn value(mut self) -> Result<Self, &'static str> {
        for _ in 0..3 {
            self.next()?;
        }
        Ok(self)
    }

    /// The numbers of the next, of whatever type.
    fn numbers(&mut self) -> Result<Vec<f64>, &'static str> {
        let (kind, bytes) = self.next()?.ok_or("it ends before an element")?;
        Ok(match kind {
            INT8 => bytes.iter().map(|byte| f64::from(*byte as i8)).collect(),
            UINT8 | UTF8 => bytes.iter().copied().map(f64::from).collect(),
            INT16 => each(bytes, |bytes| f64::from(i16::from_le_bytes(bytes))),
            UINT16 => each(bytes, |bytes| f64::from(u16::from_le_bytes(bytes))),
            INT32 => each(bytes, |bytes| f64::from(i32::from_le_bytes(bytes))),
            UINT32 => each(bytes, |bytes| f64::from(u32::from_le_bytes(bytes))),
            SINGLE => each(bytes, |bytes| f64::from(f32::from_le_bytes(bytes))),
            DOUBLE => each(bytes, f64::from_le_bytes),
            INT64 => each(bytes, |bytes| i64::from_le_bytes(bytes) as f64),
            UINT64 => each(bytes, |bytes| u64::from_le_bytes(bytes) as f64),
            _ => return Err("expected numbers"),
        })
    }

    /// The characters of the next.
    fn text(&mut self) -> Result<String, &'static str> {
        let codes = self.numbers()?;
        let characters = codes.iter().map(|code| char::from_u32(*code as u32));
        Ok(characters
            .map(|character| character.unwrap_or('\u{FFFD}'))
            .collect())
    }
}

fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|bytes| number(*bytes))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [&[u8]; 2] = [
        include_bytes!("../fixtures/meta.mat"),
        include_bytes!("../fixtures/meta_deflated.mat"),
    ];

    #[test]
    fn numbers_and_synsets_are_those_that_scipy_wrote() {
        for file in FILES {
            let expected = "1 n02119789\n490 n01751748\n1001 n00001740\n";
            assert_eq!(classes(file).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_cut_off_or_changed_is_an_error_or_another_text() {
        for file in FILES {
            for end in 0..file.len() {
                assert!(classes(&file[..end]).is_err(), "{end}");
            }
            for place in HEADER..file.len() {
                let mut changed = file.to_vec();
                changed[place] ^= 0xff;
                // Whatever it says, it says it.
                let _ = classes(&changed);
            }
        }
        assert!(classes(b"").is_err());
    }
}
