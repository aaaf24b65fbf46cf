//! The results of studies as a document, `docs/results.md`: claim by claim.

use super::results::COLUMNS;
use super::{Ledger, Outline, ReportKind, Results, StudyError};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The columns of [`COLUMNS`] that a claim is judged by.
const JUDGED: [usize; 6] = [0, 1, 2, 7, 8, 9];
/// What a document of results is written anew by.
const COMMAND: &str = "polynet study results docs/results recipes/studies > docs/results.md";

/// The results of every ledger `NAME.jsonl` of a folder, whose studies are `NAME.toml` of another.
///
/// # Errors
/// If a folder, a ledger or its study can't be read.
pub fn markdown(ledgers: &Path, studies: &Path) -> Result<String, StudyError> {
    let fail = StudyError::file(ledgers);
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(ledgers).map_err(&fail)? {
        let path = entry.map_err(&fail)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            paths.push(path);
        }
    }
    paths.sort();
    let mut text = introduction();
    if paths.is_empty() {
        text.push_str("\nNo study has been run to its end yet.\n");
    }
    for path in paths {
        let study = studies
            .join(path.file_stem().unwrap_or_default())
            .with_extension("toml");
        let outline = Outline::load(&study)?;
        let entries = Ledger::new(&path).read()?;
        section(&mut text, &Results::new(&outline, &entries), &study);
    }
    Ok(text)
}

fn introduction() -> String {
    format!(
        "# Results of the studies\n\n\
         What each study of [recipes/studies](../recipes/studies) claims and what came out. Errors are those \
         at the end of training on the images that a run validates on: mean ± standard deviation over the \
         seeds. Networks are compared seed by seed; a difference is in percentage points, with Student's \
         interval at 95 %, each for itself: of twenty comparisons of equals about one lies outside its own. \
         A difference inside its interval is called that.\n\n\
         The ledgers are in [results](results); this page is `{COMMAND}`.\n"
    )
}

fn section(text: &mut String, results: &Results, study: &Path) {
    let name = study.file_name().unwrap_or_default().to_string_lossy();
    // Writing to a string does not fail.
    let _ = writeln!(text, "\n## {}\n", results.title);
    if !results.claim.is_empty() {
        let _ = writeln!(text, "Claim: {}\n", results.claim);
    }
    let _ = writeln!(
        text,
        "{} Study: [{name}](../recipes/studies/{name}).\n",
        results.state()
    );
    let line = |cells: [&str; JUDGED.len()]| format!("| {} |\n", cells.join(" | "));
    text.push_str(&line(JUDGED.map(|column| COLUMNS[column])));
    text.push_str("|---|---|---|---|---|---|\n");
    for cells in results.table() {
        text.push_str(&line(JUDGED.map(|column| cells[column].as_str())));
    }
    if results.kind == ReportKind::Budget {
        let _ = writeln!(
            text,
            "\nWhat the paper has for networks of these families on ILSVRC-2012 is in \
             [networks.md](networks.md)."
        );
    }
    for row in &results.rows {
        for (seed, reason) in &row.failed {
            let reason = reason.replace('\n', " ");
            let _ = writeln!(text, "\n{} with seed {seed} failed: {reason}", row.name);
        }
    }
    if !results.machines.is_empty() {
        let _ = writeln!(text, "\nOn {}.", results.machines.join("; on "));
    }
}
