//! The formats of predictions: lines that can be added to, and how the embeddings' file begins.

use super::{PredictionFileError, PredictionRow};
use crate::report::quoted;
use std::path::Path;

/// What a file's name asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    JsonLines,
    /// Ends with a table of its parts, so that nothing can be added: it is made of JSON lines at the end.
    Parquet,
}

impl Format {
    pub(super) fn of(path: &Path) -> Result<Self, PredictionFileError> {
        let reason = match path.extension().and_then(|extension| extension.to_str()) {
            Some("csv") => return Ok(Self::Csv),
            Some("jsonl") => return Ok(Self::JsonLines),
            Some("parquet") if cfg!(feature = "parquet") => return Ok(Self::Parquet),
            Some("parquet") => {
                "this build writes no Parquet: build with `--features parquet`, or choose .csv or .jsonl"
            }
            _ => "expected a name that ends in .csv, .jsonl or .parquet",
        };
        Err(PredictionFileError {
            path: path.to_owned(),
            reason: reason.to_owned(),
        })
    }

    pub(super) fn header(self, top: usize) -> Option<String> {
        let columns = (1..=top).map(|place| format!("class_{place},probability_{place},"));
        (self == Self::Csv).then(|| format!("image,{}error\n", columns.collect::<String>()))
    }

    /// A row with its newline, the only one in it.
    pub(super) fn line(self, row: &PredictionRow, top: usize) -> String {
        match self {
            Self::JsonLines | Self::Parquet => {
                serde_json::to_string(row).unwrap_or_default() + "\n"
            }
            Self::Csv => {
                let mut line = quoted(&row.image) + ",";
                for place in 0..top {
                    line += &row.classes.get(place).map_or(",,".to_owned(), |found| {
                        format!("{},{},", quoted(&found.class), found.probability)
                    });
                }
                line + &quoted(row.error.as_deref().unwrap_or_default()) + "\n"
            }
        }
    }

    /// Whether a line is that of a picture without classes.
    pub(super) fn has_error(self, line: &[u8]) -> bool {
        match self {
            Self::Csv => !line.trim_ascii_end().ends_with(b","),
            Self::JsonLines | Self::Parquet => {
                let row = serde_json::from_slice::<serde_json::Value>(line);
                row.is_ok_and(|row| row.get("error").is_some())
            }
        }
    }
}

/// The head of NumPy's format 1.0 for `f32` in row-major order.
pub(super) fn npy_header([rows, columns]: [usize; 2]) -> Vec<u8> {
    let text =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    // What comes after it is aligned to 64 bytes.
    let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((length as u16).to_le_bytes());
    header.extend(format!("{text:<width$}\n", width = length - 1).bytes());
    header
}
