//! A ledger as a table for other programs.

use super::Entry;
use crate::report::quoted;
use serde_json::Value;

/// The keys of a [record](Entry) that are columns: all but the validations before the last.
const COLUMNS: [&str; 29] = [
    "job",
    "architecture",
    "variant",
    "seed",
    "from",
    "outcome",
    "top1_error",
    "top5_error",
    "best_top1_error",
    "best_top5_error",
    "loss",
    "parameters",
    "macs",
    "steps",
    "batch_size",
    "images",
    "total_images",
    "ms_per_step",
    "seconds",
    "peak_memory_bytes",
    "recipe",
    "processor",
    "instructions",
    "threads",
    "device",
    "version",
    "ended",
    "network",
    "reason",
];

/// The records as CSV with a header, one line a job; validations but the last are left out.
pub fn csv(entries: &[Entry]) -> String {
    let mut text = COLUMNS.join(",") + "\n";
    for entry in entries {
        let record = serde_json::to_value(entry).unwrap_or_default();
        text += &(COLUMNS.map(|key| cell(&record[key])).join(",") + "\n");
    }
    text
}

/// Nothing where a record has no such key.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => quoted(text),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(number) => number.to_string(),
            None => number.to_string(),
        },
        other => other.to_string(),
    }
}
