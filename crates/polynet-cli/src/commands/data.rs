//! `polynet data check PATH`: whether a data set is fit for training.

use crate::output;
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use polynet::data::{self, CheckReport, Finding, SplitReport};
use polynet::read_config;
use serde::Serialize;
use std::{path::PathBuf, process::ExitCode};

/// How many files of a sort are listed.
const LISTED: usize = 10;

/// Look at a data set
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    work: Work,
}

#[derive(clap::Subcommand)]
enum Work {
    /// Decode every image and report counts, sizes and what is odd; fail if training would
    Check(Check),
}

#[derive(clap::Args)]
struct Check {
    /// A folder or .tar of images by class
    data: PathBuf,
    /// Compare the classes with those of this model folder
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Print JSON, with every finding
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Work::Check(check) = &arguments.work;
    let classes = match &check.model {
        Some(folder) => Some(read_config(folder)?.0.classes),
        None => None,
    };
    let report = check_with_progress(check, classes.as_deref())?;
    if check.json {
        output::json(&Output {
            breaks_training: report.breaks_training(),
            report: &report,
        })?;
    } else {
        print(&report)?;
    }
    Ok(if report.breaks_training() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

#[derive(Serialize)]
struct Output<'a> {
    breaks_training: bool,
    #[serde(flatten)]
    report: &'a CheckReport,
}

/// The bar goes to stderr, and nowhere where that is no terminal.
fn check_with_progress(check: &Check, classes: Option<&[String]>) -> Result<CheckReport> {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{pos}/{len} {bar:20} {per_sec}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let report = data::check(&check.data, classes, |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    Ok(report?)
}

fn print(report: &CheckReport) -> Result<()> {
    output::line(format_args!(
        "read as {}",
        data::printable(&report.reading.to_string())
    ))?;
    for warning in &report.reading.warnings {
        output::line(format_args!("warning: {}", data::printable(warning)))?;
    }
    for problem in &report.problems {
        output::line(format_args!("error: {problem}"))?;
    }
    for split in &report.splits {
        print_split(split)?;
    }
    if report.ignored_files > 0 {
        let ignored = report.ignored_files;
        output::line(format_args!(
            "ignored: {ignored} files that are no images by name or place"
        ))?;
    }
    for (names, meaning) in [
        (&report.unknown_classes, "unknown classes"),
        (
            &report.missing_classes,
            "classes of the model without images",
        ),
    ] {
        if !names.is_empty() {
            let shown: Vec<&str> = names.iter().take(LISTED).map(String::as_str).collect();
            let rest = rest(names.len());
            output::line(format_args!("{meaning}: {}{rest}", shown.join(", ")))?;
        }
    }
    for (&title, &count) in &report.finding_counts {
        output::line(format_args!("{title}: {count}"))?;
        let files = report
            .findings
            .iter()
            .filter(|f| f.finding.title() == title);
        for file in files.take(LISTED) {
            let detail = Finding::detail(&file.finding).map_or(String::new(), |d| format!(": {d}"));
            output::line(format_args!("  {}{detail}", file.path))?;
        }
        let rest = rest(count);
        if !rest.is_empty() {
            output::line(format_args!(" {rest}; --json lists all"))?;
        }
    }
    output::line(if report.breaks_training() {
        "training would stop: see errors, broken, empty and unknown classes"
    } else {
        "fit for training"
    })
}

fn print_split(split: &SplitReport) -> Result<()> {
    let name = match split.split {
        data::Split::Train => "train",
        data::Split::Validation => "validation",
        data::Split::All => "all",
    };
    let megabytes = split.bytes as f64 / 1e6;
    let fewest = split.classes.values().min().copied().unwrap_or(0);
    let most = split.classes.values().max().copied().unwrap_or(0);
    output::line(format_args!(
        "{name}: {} images, {megabytes:.1} MB, {} classes of {fewest} to {most}",
        split.images,
        split.classes.len()
    ))?;
    if let Some(sizes) = split.sizes {
        let shown = |(width, height): (u32, u32)| format!("{width}x{height}");
        output::line(format_args!(
            "  sizes {} to {}, median {}",
            shown(sizes.smallest),
            shown(sizes.largest),
            shown(sizes.median)
        ))?;
    }
    Ok(())
}

fn rest(count: usize) -> String {
    match count.saturating_sub(LISTED) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    }
}
