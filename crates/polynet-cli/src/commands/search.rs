//! `polynet search SEARCH.toml`

use super::study::{Running, Watcher, aligned, ended, results_table};
use super::train::stop_on_signals;
use crate::output;
use anyhow::Result;
use polynet::search::{MeasuredTimes, Round, Search, Standing, StepTimes};
use polynet::study::{self, Entry, Outline, Results, RunOptions, Study, StudyFolder, Summary};
use polynet::{make_folder, write_text};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

/// Look for structures of the algebra that are good at little cost
///
/// A search file says where to begin, which structures are allowed and what they may cost. Candidates are
/// trained by successive halving: the best trade-offs of each rung go on to the next, as they are and as
/// larger structures that grow from them; in the end the best are compared with a baseline on fresh seeds.
/// The folder is a study's: the same command goes on after whatever stopped it, and `polynet study report`
/// draws it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The search
    search: PathBuf,
    /// Keys of every run's recipe with other values
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    #[command(flatten)]
    running: Running,
    /// Print the first rung's candidates and train none
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Found<'f> {
    title: &'f str,
    /// The last rung that is done, or under way.
    rung: usize,
    standings: &'f [Standing],
    confirmation: Option<&'f Results>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let search = Search::load(&arguments.search, &arguments.overrides)?;
    let folder = arguments.running.folder(&arguments.search);
    let root = folder.root();
    let options = arguments.running.options();
    let threads = options.threads_of_a_job();
    if arguments.dry_run {
        return show_first(&search, &mut MeasuredTimes::unsaved(threads));
    }
    make_folder(root)?;
    write_text(&root.join("search.toml"), &search.text)?;
    let mut times = MeasuredTimes::open(&root.join("times.json"), threads)?;
    let stop = stop_on_signals(true)?;
    let mut entries = folder.ledger().read()?;
    let (round, mut summary) = loop {
        let round = search.round(&entries, &mut times)?;
        let (summary, done) = train(&round.study, &folder, options, &stop)?;
        entries = done;
        if round.is_last || summary.left > 0 {
            break (round, summary);
        }
    };
    let confirmed = StudyFolder::new(root.join("confirm"));
    let mut confirmation = None;
    if summary.left == 0
        && let Some(study) = search.confirmation(&round, &entries)?
    {
        let (confirming, entries) = train(&study, &confirmed, options, &stop)?;
        summary.finished += confirming.finished;
        summary.failed += confirming.failed;
        summary.left += confirming.left;
        confirmation = Some(Results::new(&Outline::parse(&study.text)?, &entries));
    }
    let found = Found {
        title: &search.title,
        rung: round.rungs.len(),
        standings: &round.standings(&search, &entries),
        confirmation: confirmation.as_ref(),
    };
    match arguments.json {
        true => output::json(&found)?,
        false => found.print(&folder)?,
    }
    Ok(ended(summary, &folder))
}

/// Does what a study has left to do; what is in its ledger then.
fn train(
    study: &Study,
    folder: &StudyFolder,
    options: RunOptions,
    stop: &AtomicBool,
) -> Result<(Summary, Vec<Entry>)> {
    let command: Vec<String> = std::env::args().collect();
    let watcher = Watcher::new(study, folder)?;
    let summary = study::run(study, folder, options, &command, (&watcher, stop));
    watcher.finish();
    Ok((summary?, folder.ledger().read()?))
}

fn show_first(search: &Search, times: &mut dyn StepTimes) -> Result<ExitCode> {
    let Round {
        candidates, study, ..
    } = search.round(&[], times)?;
    output::line(&search.title)?;
    let head = ["network", "candidate", "MMAC", "parameters"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (candidate, job) in candidates.iter().zip(&study.jobs) {
        let cost = job.network.cost()?;
        rows.push(vec![
            candidate.network.clone(),
            candidate.name.clone(),
            format!("{:.2}", cost.macs as f64 / 1e6),
            cost.parameters.total().to_string(),
        ]);
    }
    output::line(aligned(&rows))?;
    Ok(ExitCode::SUCCESS)
}

impl Found<'_> {
    fn print(&self, folder: &StudyFolder) -> Result<()> {
        output::line(format_args!("{}: rung {}", self.title, self.rung))?;
        let head = [
            "network",
            "candidate",
            "top-1 error",
            "MMAC",
            "parameters",
            "ms a step",
            "grew from",
            "",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for standing in self.standings {
            let time = standing.ms_per_step;
            rows.push(vec![
                standing.network.clone(),
                standing.name.clone(),
                format!("{:.2} %", 100.0 * standing.top1_error),
                format!("{:.2}", standing.macs as f64 / 1e6),
                standing.parameters.to_string(),
                time.map_or_else(String::new, |time| format!("{time:.1}")),
                standing.parent.clone().unwrap_or_default(),
                if standing.is_on_front { "front" } else { "" }.to_owned(),
            ]);
        }
        output::line(aligned(&rows))?;
        if let Some(results) = self.confirmation {
            output::line(&results.title)?;
            output::line(results_table(results))?;
        }
        output::line(format_args!("ledger  {}", folder.ledger().path().display()))
    }
}
