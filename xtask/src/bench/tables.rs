//! The tables of docs/performance.md, made from the results in docs/performance.
//!
//! `peers/saved.py` writes one file a model of processor; the tables stand between two lines of the document.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const DOCUMENT: &str = "docs/performance.md";
const FOLDER: &str = "docs/performance";
const BEGIN: &str = "<!-- tables: cargo xtask bench tables -->";
const END: &str = "<!-- end of the tables -->";
/// How our own runs' names begin.
const OURS: &str = "polynet";

/// What was measured on one model of processor.
#[derive(Deserialize)]
struct Results {
    processor: String,
    core: Option<String>,
    cores: usize,
    caches: BTreeMap<String, String>,
    instruction_sets: Option<String>,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    work: String,
    threads: usize,
    rounds: usize,
    ratio: f64,
    memory_ratio: Option<f64>,
    runs: BTreeMap<String, Times>,
    date: String,
    polynet: String,
    versions: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Times {
    median_s: f64,
    min_s: f64,
    max_s: f64,
    error: Option<f64>,
}

/// Writes the tables into the document.
pub(super) fn write() -> Result<()> {
    let text = document(Path::new("."))?;
    std::fs::write(DOCUMENT, text).with_context(|| format!("cannot write {DOCUMENT}"))
}

/// The document of the project in `root` with the tables of its results.
fn document(root: &Path) -> Result<String> {
    let path = root.join(DOCUMENT);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.with_context(|| {
        format!(
            "expected the lines `{BEGIN}` and `{END}` in {}",
            path.display()
        )
    })?;
    let tables = tables(&root.join(FOLDER))?;
    Ok(format!("{before}{BEGIN}\n\n{tables}{END}{after}"))
}

fn tables(folder: &Path) -> Result<String> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "json")
    });
    files.sort();
    if files.is_empty() {
        bail!("expected results in {}", folder.display());
    }
    let tables = files.iter().map(|path| {
        let read = || anyhow::Ok(serde_json::from_slice(&std::fs::read(path)?)?);
        let results: Results = read().with_context(|| path.display().to_string())?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        table(&results, &name).with_context(|| path.display().to_string())
    });
    Ok(tables.collect::<Result<Vec<_>>>()?.concat())
}

fn table(results: &Results, file: &str) -> Result<String> {
    let core = results.core.as_ref();
    let core = core.map_or_else(String::new, |core| format!(" ({core})"));
    let caches = results.caches.iter();
    let caches: Vec<String> = caches
        .map(|(level, size)| format!("{level} {size}"))
        .collect();
    let mut text = format!(
        "### {}{core}, {} cores\n\nInstruction sets {}; a core's caches {}: [{file}](performance/{file}).\n\n",
        results.processor,
        results.cores,
        results.instruction_sets.as_deref().unwrap_or("unknown"),
        caches.join(", "),
    );
    text += "| work | threads | ours | best peer | others | ratio | memory, ratio | errors of logits | rounds, date |\n\
             |---|---:|---|---|---|---:|---:|---|---|\n";
    for row in &results.rows {
        text += &row.line().with_context(|| row.work.clone())?;
    }
    let row = results.rows.last().context("no rows")?;
    let versions = row.versions.iter();
    let versions: Vec<String> = versions
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    text += &format!("\npolynet {}; {}.\n\n", row.polynet, versions.join(", "));
    Ok(text)
}

impl Row {
    fn line(&self) -> Result<String> {
        let ours = self.runs.get(OURS).context("it has no run of ours")?;
        let mut peers: Vec<(&String, &Times)> = self.runs.iter().collect();
        peers.retain(|(name, _)| !name.starts_with(OURS));
        peers.sort_by(|(_, one), (_, other)| one.median_s.total_cmp(&other.median_s));
        let ((name, best), others) = peers.split_first().context("it has no peer")?;
        let others = others
            .iter()
            .map(|(name, times)| format!("{name} {}", time(times.median_s)));
        let errors =
            [ours.error, best.error].map(|error| error.map(|error| format!("{error:.1e}")));
        let errors = match errors {
            [Some(ours), Some(best)] => format!("{ours}; {best}"),
            _ => String::new(),
        };
        let memory = self.memory_ratio.map(|ratio| format!("{ratio:.2}"));
        Ok(format!(
            "| {} | {} | {} | {name} {} | {} | {:.2} | {} | {errors} | {}, {} |\n",
            self.work,
            self.threads,
            ours.with_spread(),
            best.with_spread(),
            others.collect::<Vec<_>>().join(", "),
            self.ratio,
            memory.unwrap_or_default(),
            self.rounds,
            self.date,
        ))
    }
}

impl Times {
    /// `155 ms (151 to 160)`
    fn with_spread(&self) -> String {
        let median = time(self.median_s);
        // All in the unit of the median.
        match self.median_s {
            1.0.. => format!("{median} ({:.2} to {:.2})", self.min_s, self.max_s),
            _ => format!("{median} ({} to {})", in_ms(self.min_s), in_ms(self.max_s)),
        }
    }
}

/// With three digits.
fn time(seconds: f64) -> String {
    match seconds {
        1.0.. => format!("{seconds:.2} s"),
        _ => format!("{} ms", in_ms(seconds)),
    }
}

fn in_ms(seconds: f64) -> String {
    let ms = 1e3 * seconds;
    match ms {
        100.0.. => format!("{ms:.0}"),
        _ => format!("{ms:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_those_of_the_results() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let found = std::fs::read_to_string(root.join(DOCUMENT)).unwrap();
        let is_current = found == document(&root).unwrap();
        assert!(
            is_current,
            "{DOCUMENT} is not current: cargo xtask bench tables"
        );
    }

    #[test]
    fn a_row_names_the_best_peer_and_every_spread() {
        let row = r#"{"work": "predict", "threads": 2, "rounds": 3, "ratio": 0.5, "date": "2026-01-02",
            "polynet": "0.2.0", "versions": {}, "runs": {
                "polynet": {"median_s": 0.05, "min_s": 0.049, "max_s": 0.15, "error": 1e-6},
                "polynet bf16": {"median_s": 0.01, "min_s": 0.01, "max_s": 0.01},
                "PyTorch": {"median_s": 1.5, "min_s": 1.25, "max_s": 2.0},
                "OpenVINO": {"median_s": 0.1, "min_s": 0.1, "max_s": 0.2, "error": 2e-6}}}"#;
        let row: Row = serde_json::from_str(row).unwrap();
        let expected = "| predict | 2 | 50.0 ms (49.0 to 150) | OpenVINO 100 ms (100 to 200) | PyTorch 1.50 s | \
                        0.50 |  | 1.0e-6; 2.0e-6 | 3, 2026-01-02 |\n";
        assert_eq!(row.line().unwrap(), expected);
    }
}
