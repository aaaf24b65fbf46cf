//! Tables of a study for the terminal.

use crate::progress::in_words;
use polynet::study::{Entry, Estimate, Study};
use std::time::Duration;

/// Cells in columns: the first to the left, the others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
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

/// A line for each architecture and variant: means over the seeds, with standard deviations.
pub(super) fn results(study: &Study, entries: &[Entry]) -> String {
    let mut rows = vec![row(&[
        "network",
        "seeds",
        "top-1 error %",
        "best %",
        "top-5 error %",
        "ms a step",
    ])];
    for architecture in &study.architectures {
        for variant in &study.variants {
            let own = entries
                .iter()
                .filter(|entry| entry.architecture == *architecture && entry.variant == *variant);
            let figures: Vec<_> = own.filter_map(Entry::figures).collect();
            if figures.is_empty() {
                continue;
            }
            let of = |values: Vec<f64>| spread(&values);
            rows.push(vec![
                format!("{architecture}/{variant}"),
                figures.len().to_string(),
                of(figures.iter().map(|one| 100.0 * one.top1_error).collect()),
                of(figures
                    .iter()
                    .map(|one| 100.0 * one.best_top1_error)
                    .collect()),
                of(figures.iter().map(|one| 100.0 * one.top5_error).collect()),
                of(figures.iter().filter_map(|one| one.ms_per_step).collect()),
            ]);
        }
    }
    aligned(&rows)
}

/// Mean ± standard deviation (over n − 1); of one value that.
fn spread(values: &[f64]) -> String {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    match values.len() {
        0 => "-".to_owned(),
        1 => format!("{mean:.2}"),
        _ => {
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            format!("{mean:.2} ± {:.2}", (squares / (count - 1.0)).sqrt())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_spreads_are_over_n_minus_one() {
        let rows = [row(&["a", "10"]), row(&["long", "7"])];
        assert_eq!(aligned(&rows), "a     10\nlong   7");
        // Deviations -2, 0, 2: squares 8, over 2.
        assert_eq!(spread(&[1.0, 3.0, 5.0]), "3.00 ± 2.00");
        assert_eq!(spread(&[1.5]), "1.50");
        assert_eq!(spread(&[]), "-");
    }
}
