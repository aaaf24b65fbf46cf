//! `polynet train --keys`

use crate::output;
use anyhow::Result;
use polynet::train::recipe::{self, Key};
use std::process::ExitCode;

/// Lists every key of a recipe: as a table of each section, as JSON or as docs/recipe.md.
pub(super) fn list(json: bool, markdown: bool) -> Result<ExitCode> {
    let keys = recipe::keys();
    if json {
        output::json(&keys)?;
    } else if markdown {
        output::line(recipe::markdown().trim_end())?;
    } else {
        for section in keys.chunk_by(|_, next| next.value != "section") {
            output::line(table(section))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The keys of a section below its name, in columns.
fn table(section: &[Key]) -> String {
    let (mut text, keys) = match section {
        [head, keys @ ..] if head.value == "section" => {
            (format!("[{}]  {}\n", head.name, head.about), keys)
        }
        keys => (String::new(), keys),
    };
    let rows: Vec<[String; 3]> = keys.iter().map(columns).collect();
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let widths: [usize; 3] = std::array::from_fn(width);
    for (row, key) in rows.iter().zip(keys) {
        for (cell, width) in row.iter().zip(widths) {
            text += &format!("  {cell:<width$}");
        }
        text += &format!("  {}\n", key.about);
    }
    text
}

/// Name, default and range; the type stands for the range of a key that has none.
fn columns(key: &Key) -> [String; 3] {
    let name = match key.kinds.as_slice() {
        [] => key.name.to_owned(),
        kinds => format!("{} ({})", key.name, kinds.join(", ")),
    };
    let range = match key.range.as_str() {
        "" => key.value,
        range => range,
    };
    [name, key.defaults(), range.to_owned()]
}
