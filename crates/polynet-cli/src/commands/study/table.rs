//! Tables of a study for the terminal.

use crate::progress::in_words;
use polynet::study::{COLUMNS, Estimate, Results};
use std::time::Duration;

/// Cells in columns: the first to the left, the others to the right.
pub(in crate::commands) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells: Vec<String> = cells
            .map(|(column, (cell, width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        cells.join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

/// A line for each architecture and variant.
pub(super) fn estimates(estimates: &[Estimate]) -> String {
    let mut rows = vec![row(&[
        "network",
        "jobs",
        "parameters",
        "MMAC",
        "steps",
        "ms a step",
        "a job",
        "all",
    ])];
    for estimate in estimates {
        let time = |seconds| in_words(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        rows.push(vec![
            format!("{}/{}", estimate.architecture, estimate.variant),
            estimate.jobs.to_string(),
            estimate.parameters.to_string(),
            format!("{:.1}", estimate.macs as f64 / 1e6),
            estimate.steps.to_string(),
            format!("{:.1}", estimate.ms_per_step),
            time(estimate.seconds),
            time(estimate.jobs as f64 * estimate.seconds),
        ]);
    }
    aligned(&rows)
}

/// A line for each network: means over the seeds, and differences to what it is compared with.
pub(in crate::commands) fn results(results: &Results) -> String {
    let mut rows = vec![row(&COLUMNS)];
    rows.extend(results.table().into_iter().map(Vec::from));
    aligned(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_column_is_aligned_to_the_left_and_others_to_the_right() {
        let rows = [row(&["a", "10"]), row(&["long", "7"])];
        assert_eq!(aligned(&rows), "a     10\nlong   7");
    }
}
