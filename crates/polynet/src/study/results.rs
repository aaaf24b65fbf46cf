//! What the jobs of a study that are done give together: of each network a spread over the seeds and the
//! difference to its baseline.

use super::outline::{Outline, ReportKind};
use super::{Difference, Entry, Figures, Outcome, Spread};
use crate::report::grouped;
use serde::Serialize;

/// What the columns of [`Results::table`] have; differences are top-1 errors', in percentage points, with
/// their intervals at 95 %.
pub const COLUMNS: [&str; 10] = [
    "network",
    "seeds",
    "top-1 error %",
    "top-5 error %",
    "parameters",
    "MMAC",
    "ms a step",
    "compared with",
    "difference",
    "so it is",
];

/// The results of a study, whether all its jobs are done or not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Results {
    /// The study's title.
    pub title: String,
    /// What was expected to come out.
    pub claim: String,
    /// How they are drawn.
    pub kind: ReportKind,
    /// The groups of the architectures.
    pub groups: Vec<String>,
    /// The seeds that each network should have.
    pub seeds: Vec<u64>,
    /// Every network, in the study's order.
    pub rows: Vec<ResultRow>,
    /// Processors, instruction sets and threads of the jobs.
    pub machines: Vec<String>,
}

/// One network: an architecture with a variant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ResultRow {
    /// What it is called in tables: the architecture, with the variant where the study has several.
    pub name: String,
    /// Its group, if it is of one.
    pub group: Option<String>,
    /// What each finished seed gave, in the study's order.
    pub results: Vec<SeedResult>,
    /// Seeds that are not done.
    pub missing: Vec<u64>,
    /// Seeds that failed, with the reason.
    pub failed: Vec<(u64, String)>,
    /// Top-1 error at the end in percent.
    pub top1_error: Option<Spread>,
    /// Top-5 error at the end in percent.
    pub top5_error: Option<Spread>,
    /// Milliseconds of a training step.
    pub ms_per_step: Option<Spread>,
    /// Parameters of the network.
    pub parameters: Option<u64>,
    /// Multiply-accumulates of one image.
    pub macs: Option<u64>,
    /// The row that it is compared with.
    pub baseline: Option<String>,
    /// Its top-1 error less the baseline's, in percentage points, over the seeds that both have.
    pub difference: Option<Difference>,
}

/// What one seed gave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SeedResult {
    /// The seed.
    pub seed: u64,
    /// Top-1 error at the end in percent.
    pub top1_error: f64,
}

impl Results {
    /// Of what a ledger has; records of networks and seeds that the study does not have are left out.
    pub fn new(outline: &Outline, entries: &[Entry]) -> Self {
        let has_variants = outline
            .networks
            .iter()
            .any(|(_, variant)| *variant != outline.networks[0].1);
        let collected = Collected {
            outline,
            entries,
            has_variants,
        };
        let mut rows: Vec<ResultRow> = (outline.networks.iter())
            .map(|(architecture, variant)| collected.row(architecture, variant))
            .collect();
        for index in 0..rows.len() {
            let name = rows[index].baseline.as_ref();
            let baseline = name.and_then(|name| rows.iter().find(|row| row.name == *name));
            rows[index].difference = baseline.and_then(|baseline| rows[index].less(baseline));
        }
        let mut machines: Vec<String> = collected.finished().map(machine).collect();
        machines.sort();
        machines.dedup();
        Self {
            title: outline.title.clone(),
            claim: outline.claim.trim().replace('\n', " "),
            kind: outline.kind,
            groups: outline.groups.clone(),
            seeds: outline.seeds.clone(),
            rows,
            machines,
        }
    }

    /// Jobs that are finished.
    pub fn finished(&self) -> usize {
        self.rows.iter().map(|row| row.results.len()).sum()
    }

    /// Jobs of the study.
    pub fn jobs(&self) -> usize {
        self.rows.len() * self.seeds.len()
    }

    /// The rows as text, under [`COLUMNS`].
    pub fn table(&self) -> Vec<[String; COLUMNS.len()]> {
        self.rows.iter().map(ResultRow::cells).collect()
    }

    /// How much of the study there is, in words.
    pub fn state(&self) -> String {
        let failed: usize = self.rows.iter().map(|row| row.failed.len()).sum();
        let (finished, jobs) = (self.finished(), self.jobs());
        match (jobs - finished - failed, failed) {
            (0, 0) => format!("All {jobs} runs are done."),
            (missing, 0) => format!("{finished} of {jobs} runs are done, {missing} are missing."),
            (missing, failed) => format!(
                "{finished} of {jobs} runs are done, {missing} are missing, {failed} failed."
            ),
        }
    }
}

struct Collected<'c> {
    outline: &'c Outline,
    entries: &'c [Entry],
    has_variants: bool,
}

impl Collected<'_> {
    fn name(&self, architecture: &str, variant: &str) -> String {
        match self.has_variants {
            true => format!("{architecture}/{variant}"),
            false => architecture.to_owned(),
        }
    }

    fn entry(&self, architecture: &str, variant: &str, seed: u64) -> Option<&Entry> {
        let mut entries = self.entries.iter();
        entries.find(|entry| {
            (entry.architecture.as_str(), entry.variant.as_str()) == (architecture, variant)
                && entry.seed == seed
        })
    }

    fn finished(&self) -> impl Iterator<Item = &Entry> {
        let networks = self.outline.networks.iter();
        networks
            .flat_map(|(architecture, variant)| {
                let seeds = self.outline.seeds.iter();
                seeds.filter_map(|seed| self.entry(architecture, variant, *seed))
            })
            .filter(|entry| entry.figures().is_some())
    }

    fn row(&self, architecture: &str, variant: &str) -> ResultRow {
        let mut figures: Vec<&Figures> = Vec::new();
        let (mut results, mut missing, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for seed in &self.outline.seeds {
            match self
                .entry(architecture, variant, *seed)
                .map(|one| &one.outcome)
            {
                None => missing.push(*seed),
                Some(Outcome::Failed { reason }) => failed.push((*seed, reason.clone())),
                Some(Outcome::Finished(found)) => {
                    figures.push(found);
                    results.push(SeedResult {
                        seed: *seed,
                        top1_error: 100.0 * found.top1_error,
                    });
                }
            }
        }
        let spread = |value: &dyn Fn(&Figures) -> Option<f64>| {
            let values: Vec<f64> = figures.iter().filter_map(|one| value(one)).collect();
            Spread::of(&values)
        };
        let baseline = self.outline.baseline_of(architecture, variant);
        ResultRow {
            name: self.name(architecture, variant),
            group: self.outline.group(architecture).map(str::to_owned),
            top1_error: spread(&|one| Some(100.0 * one.top1_error)),
            top5_error: spread(&|one| Some(100.0 * one.top5_error)),
            ms_per_step: spread(&|one| one.ms_per_step),
            parameters: figures.first().map(|one| one.parameters),
            macs: figures.first().map(|one| one.macs),
            baseline: baseline.map(|(architecture, variant)| self.name(&architecture, &variant)),
            difference: None,
            results,
            missing,
            failed,
        }
    }
}

impl ResultRow {
    /// This row's error less another's, by the seeds that both have.
    fn less(&self, other: &Self) -> Option<Difference> {
        let pairs = self.results.iter().filter_map(|own| {
            let other = other.results.iter().find(|one| one.seed == own.seed)?;
            Some(own.top1_error - other.top1_error)
        });
        Difference::of(&pairs.collect::<Vec<_>>())
    }

    fn cells(&self) -> [String; COLUMNS.len()] {
        let spread = |spread: Option<Spread>, digits| {
            spread.map_or_else(nothing, |spread| spread.text(digits))
        };
        let difference = self.difference;
        [
            self.name.clone(),
            self.seeds_text(),
            spread(self.top1_error, 2),
            spread(self.top5_error, 2),
            self.parameters.map_or_else(nothing, grouped),
            self.macs
                .map_or_else(nothing, |macs| format!("{:.1}", macs as f64 / 1e6)),
            spread(self.ms_per_step, 1),
            self.baseline.clone().unwrap_or_else(nothing),
            difference.map_or_else(nothing, |one| one.text(2)),
            difference.map_or_else(nothing, |one| one.verdict().to_string()),
        ]
    }

    /// How many seeds there are, and which are missing or failed.
    pub fn seeds_text(&self) -> String {
        let list = |seeds: &mut dyn Iterator<Item = u64>| {
            let seeds: Vec<String> = seeds.map(|seed| seed.to_string()).collect();
            seeds.join(", ")
        };
        let mut text = self.results.len().to_string();
        if !self.missing.is_empty() {
            text += &format!("; missing {}", list(&mut self.missing.iter().copied()));
        }
        if !self.failed.is_empty() {
            text += &format!(
                "; failed {}",
                list(&mut self.failed.iter().map(|one| one.0))
            );
        }
        text
    }
}

fn nothing() -> String {
    "–".to_owned()
}

fn machine(entry: &Entry) -> String {
    let machine = &entry.machine;
    let threads = match machine.threads {
        1 => "1 thread".to_owned(),
        threads => format!("{threads} threads"),
    };
    format!(
        "{}, {}, {}, {threads} a run, polynet {}",
        machine.processor, machine.instructions, machine.device, machine.version
    )
}
