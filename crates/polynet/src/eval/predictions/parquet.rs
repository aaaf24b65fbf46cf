//! Predictions as a Parquet file, made of their JSON lines.
//!
//! The columns are those of the CSV: `image`, `class_1`, `probability_1`, …, `error`. What a row does not
//! have is null.

use super::PredictionRow;
use crate::files::OpenFile;
use crate::model::Ranked;
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnPath, Type};
use serde::Deserialize;
use std::io::{self, BufRead, BufReader};
use std::sync::Arc;

/// Rows that are in the memory at once, and that readers can take by themselves.
const ROWS_OF_A_GROUP: usize = 32_768;

/// A row as JSON has it, where a probability that is no number is null.
#[derive(Deserialize)]
struct Line {
    image: String,
    #[serde(default)]
    classes: Vec<LineClass>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct LineClass {
    class: String,
    probability: Option<f64>,
}

impl From<Line> for PredictionRow {
    fn from(line: Line) -> Self {
        let ranked = |found: LineClass| Ranked {
            class: found.class,
            probability: found.probability.unwrap_or(f64::NAN),
        };
        Self {
            image: line.image,
            classes: line.classes.into_iter().map(ranked).collect(),
            error: line.error,
        }
    }
}

/// Writes rows with `top` classes, a JSON line each, as a Parquet file, which it gives back.
pub(super) fn of_lines(lines: &mut OpenFile, target: OpenFile, top: usize) -> io::Result<OpenFile> {
    write(lines, target, top, ROWS_OF_A_GROUP).map_err(|error| match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(refused) => *refused,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    })
}

/// As [`of_lines`], with so many rows in a group.
pub(super) fn write(
    lines: &mut OpenFile,
    target: OpenFile,
    top: usize,
    together: usize,
) -> Result<OpenFile, ParquetError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        // No two pictures have one name.
        .set_column_dictionary_enabled(ColumnPath::from("image"), false);
    let properties = Arc::new(properties.build());
    let mut writer = SerializedFileWriter::new(target, schema(top)?, properties)?;
    let mut lines = BufReader::new(lines).lines();
    loop {
        let rows = lines.by_ref().take(together).map(|line| {
            let line: Line = serde_json::from_str(&line?).map_err(io::Error::from)?;
            Ok(PredictionRow::from(line))
        });
        let rows: Vec<PredictionRow> = rows.collect::<io::Result<_>>()?;
        if rows.is_empty() {
            return writer.into_inner();
        }
        let mut group = writer.next_row_group()?;
        write_group(&mut group, &rows, top)?;
        group.close()?;
    }
}

fn schema(top: usize) -> Result<Arc<Type>, ParquetError> {
    let text = |name: &str, repetition| {
        let column = Type::primitive_type_builder(name, Physical::BYTE_ARRAY);
        let column = column.with_logical_type(Some(LogicalType::String));
        column.with_repetition(repetition).build().map(Arc::new)
    };
    let number = |name: &str| {
        let column = Type::primitive_type_builder(name, Physical::DOUBLE);
        let column = column.with_repetition(Repetition::OPTIONAL);
        column.build().map(Arc::new)
    };
    let mut columns = vec![text("image", Repetition::REQUIRED)?];
    for place in 1..=top {
        columns.push(text(&format!("class_{place}"), Repetition::OPTIONAL)?);
        columns.push(number(&format!("probability_{place}"))?);
    }
    columns.push(text("error", Repetition::OPTIONAL)?);
    let root = Type::group_type_builder("predictions").with_fields(columns);
    Ok(Arc::new(root.build()?))
}

fn write_group(
    group: &mut SerializedRowGroupWriter<'_, OpenFile>,
    rows: &[PredictionRow],
    top: usize,
) -> Result<(), ParquetError> {
    text_column(group, rows, |row| Some(&row.image))?;
    for place in 0..top {
        text_column(group, rows, |row| Some(&row.classes.get(place)?.class))?;
        number_column(group, rows, |row| Some(row.classes.get(place)?.probability))?;
    }
    text_column(group, rows, |row| row.error.as_ref())
}

fn text_column(
    group: &mut SerializedRowGroupWriter<'_, OpenFile>,
    rows: &[PredictionRow],
    text: impl Fn(&PredictionRow) -> Option<&String>,
) -> Result<(), ParquetError> {
    let values = rows.iter().filter_map(&text);
    let values: Vec<ByteArray> = values.map(|text| text.as_str().into()).collect();
    let is_there: Vec<i16> = rows.iter().map(|row| text(row).is_some().into()).collect();
    let mut column = group.next_column()?.ok_or_else(fewer_columns)?;
    if let ColumnWriter::ByteArrayColumnWriter(writer) = column.untyped() {
        writer.write_batch(&values, Some(&is_there), None)?;
    }
    column.close()
}

fn number_column(
    group: &mut SerializedRowGroupWriter<'_, OpenFile>,
    rows: &[PredictionRow],
    number: impl Fn(&PredictionRow) -> Option<f64>,
) -> Result<(), ParquetError> {
    let values: Vec<f64> = rows.iter().filter_map(&number).collect();
    let is_there: Vec<i16> = rows
        .iter()
        .map(|row| number(row).is_some().into())
        .collect();
    let mut column = group.next_column()?.ok_or_else(fewer_columns)?;
    if let ColumnWriter::DoubleColumnWriter(writer) = column.untyped() {
        writer.write_batch(&values, Some(&is_there), None)?;
    }
    column.close()
}

fn fewer_columns() -> ParquetError {
    ParquetError::General("the schema has fewer columns than a row".to_owned())
}
