//! `polynet study STUDY.toml`

mod table;
mod watcher;

use super::train::stop_on_signals;
use crate::output;
use crate::progress::in_words;
use anyhow::{Context, Result};
use polynet::study::{
    self, Estimate, FailedBefore, Outline, Report, Results, RunOptions, Study, StudyFolder, Summary,
};
use polynet::{make_folder, write_text};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

pub(super) use table::{aligned, results as results_table};
pub(super) use watcher::Watcher;

/// Train a grid of networks and gather what each gives
///
/// A study file names architectures, variants of a recipe and seeds. Every combination is a job; what
/// it gave is appended to ledger.jsonl in the study's folder the moment it ends. A study that was
/// stopped or killed goes on with the same command, inside a job from its checkpoint; several
/// processes and machines may share one folder.
///
/// Keys of the recipe can be given on the command line as well: `polynet study STUDY.toml
/// data.path=photos`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Arguments {
    /// The study
    #[arg(required = true)]
    study: Option<PathBuf>,
    /// Keys of every job's recipe with other values
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    #[command(flatten)]
    running: Running,
    /// Measure ten steps of each network and print the grid with its cost and time
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    done: Option<Done>,
}

/// Where jobs are done, and how many at once.
#[derive(clap::Args)]
pub(super) struct Running {
    /// The folder; runs/NAME by default
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Jobs at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// Threads of a job; the cores divided among the jobs by default
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Do failed jobs again
    #[arg(long)]
    retry_failed: bool,
}

impl Running {
    pub(super) fn options(&self) -> RunOptions {
        RunOptions {
            jobs: usize::from(self.jobs),
            threads: usize::from(self.threads.unwrap_or_default()),
            failed: match self.retry_failed {
                true => FailedBefore::Retried,
                false => FailedBefore::Kept,
            },
        }
    }

    /// The folder for what the text at `path` asks.
    pub(super) fn folder(&self, path: &Path) -> StudyFolder {
        let default = || PathBuf::from("runs").join(path.file_stem().unwrap_or_default());
        StudyFolder::new(self.out.clone().unwrap_or_else(default))
    }
}

/// What to do with a study's folder.
#[derive(clap::Subcommand)]
enum Done {
    /// Print the ledger of a study as CSV
    Csv {
        /// The study's folder
        folder: PathBuf,
    },
    /// Write what is done of a study as one HTML page and its plots as SVG
    Report {
        /// The study's folder
        folder: PathBuf,
        /// Where to; `report` in the study's folder by default
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
        /// The study's text; `study.toml` in the study's folder by default
        #[arg(long, value_name = "STUDY.toml")]
        study: Option<PathBuf>,
        /// Print the results as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the results of ledgers as a Markdown document, docs/results.md
    Results {
        /// The folder of the ledgers, NAME.jsonl
        ledgers: PathBuf,
        /// The folder of their studies, NAME.toml
        studies: PathBuf,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(done) = &arguments.done {
        return done.run();
    }
    let path = arguments.study.as_deref().context("expected a study")?;
    let study = Study::load(path, &arguments.overrides)?;
    let options = arguments.running.options();
    if arguments.dry_run {
        return estimate(&study, options, arguments.json);
    }
    let folder = arguments.running.folder(path);
    let stop = stop_on_signals(true)?;
    let command: Vec<String> = std::env::args().collect();
    let watcher = Watcher::new(&study, &folder)?;
    let summary = study::run(&study, &folder, options, &command, (&watcher, &stop));
    watcher.finish();
    let summary = summary?;
    let entries = folder.ledger().read()?;
    if arguments.json {
        output::json(&entries)?;
    } else {
        let results = Results::new(&Outline::parse(&study.text)?, &entries);
        output::line(&study.title)?;
        output::line(table::results(&results))?;
        output::line(format_args!("ledger  {}", folder.ledger().path().display()))?;
    }
    Ok(ended(summary, &folder))
}

impl Done {
    fn run(&self) -> Result<ExitCode> {
        match self {
            Self::Csv { folder } => {
                let entries = StudyFolder::new(folder).ledger().read()?;
                output::line(study::csv(&entries).trim_end())?;
            }
            Self::Report {
                folder,
                out,
                study,
                json,
            } => {
                let folder = StudyFolder::new(folder);
                let text = study.clone().unwrap_or_else(|| folder.study());
                let outline = Outline::load(&text)?;
                let results = Results::new(&outline, &folder.ledger().read()?);
                let out = out.clone();
                let out = out.unwrap_or_else(|| folder.root().join("report"));
                let page = write_report(&results, &out)?;
                if *json {
                    output::json(&results)?;
                } else {
                    output::line(&results.title)?;
                    output::line(table::results(&results))?;
                    output::line(results.state())?;
                    output::line(format_args!("page  {}", page.display()))?;
                }
            }
            Self::Results { ledgers, studies } => {
                output::line(study::markdown(ledgers, studies)?.trim_end())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes the page and the plots; gives the page's path.
fn write_report(results: &Results, out: &Path) -> Result<PathBuf> {
    let Report { page, plots } = study::report(results);
    make_folder(out).with_context(|| format!("can't make {}", out.display()))?;
    for (name, svg) in &plots {
        write_text(&out.join(format!("{name}.svg")), svg)?;
    }
    let path = out.join("index.html");
    write_text(&path, &page)?;
    Ok(path)
}

pub(super) fn ended(summary: Summary, folder: &StudyFolder) -> ExitCode {
    let Summary {
        finished,
        failed,
        left,
    } = summary;
    eprintln!("{finished} jobs finished, {failed} failed, {left} left");
    if left > 0 {
        eprintln!("the same command goes on in {}", folder.root().display());
    }
    match failed + left {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn estimate(study: &Study, options: RunOptions, json: bool) -> Result<ExitCode> {
    let threads = options.threads_of_a_job();
    let estimates = study::estimate(study, threads, |estimate| {
        let Estimate {
            architecture,
            variant,
            ms_per_step,
            ..
        } = estimate;
        eprintln!("{architecture}/{variant}  {ms_per_step:.1} ms a step");
    })?;
    if json {
        output::json(&estimates)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(&study.title)?;
    output::line(table::estimates(&estimates))?;
    let total: f64 = estimates
        .iter()
        .map(|one| one.jobs as f64 * one.seconds)
        .sum();
    output::line(format_args!(
        "{} jobs, {} one after another on {threads} threads",
        study.jobs.len(),
        in_words(Duration::try_from_secs_f64(total).unwrap_or_default())
    ))?;
    Ok(ExitCode::SUCCESS)
}
