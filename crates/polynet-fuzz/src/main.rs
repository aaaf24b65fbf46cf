//! One target, for a time: `polynet-fuzz jpeg --first 0 --seconds 60 --found FOLDER`.
//!
//! Standard output has a line `at NUMBER` every second, before the inputs from that number on are tried,
//! `found FILE PLACE: MESSAGE` for each finding, and last `done COUNT`.

use anyhow::{Context as _, Result};
use clap::Parser;
use polynet_fuzz::{Finding, TARGETS, attempt, listen_to_panics, mutant, seeds};
use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Of what is said of a finding no more is told, in characters; its file has the rest.
const LONGEST_MESSAGE: usize = 500;

/// One target, for a time
#[derive(Parser)]
struct Arguments {
    /// Which; none names all
    target: Option<String>,
    /// The number of the first input
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The last number; what it is for is looking closely
    #[arg(long)]
    last: Option<u64>,
    /// Where inputs are kept that do what they must not do
    #[arg(long, default_value = "found")]
    found: PathBuf,
    /// Keep each input there while it is tried, so that it is known if the process ends
    #[arg(long)]
    current: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let Some(name) = &arguments.target else {
        TARGETS
            .iter()
            .for_each(|target| println!("{}", target.name));
        return Ok(());
    };
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.with_context(|| format!("there is no target {name}"))?;
    let seeds = seeds(target)?;
    listen_to_panics();
    let (started, mut told) = (Instant::now(), None::<Instant>);
    let mut places = HashSet::new();
    let mut number = arguments.first;
    let is_over = |number| arguments.last.is_some_and(|last| number > last);
    while !is_over(number) {
        if told.is_none_or(|told| told.elapsed() >= Duration::from_secs(1)) {
            println!("at {number}");
            told = Some(Instant::now());
            if started.elapsed() >= Duration::from_secs(arguments.seconds) {
                break;
            }
        }
        let input = mutant(&seeds, target.words, number);
        if let Some(current) = &arguments.current {
            fs::write(current, &input)?;
        }
        if let Err(Finding { place, message }) = attempt(target, &input)
            && places.insert(place.clone())
        {
            fs::create_dir_all(&arguments.found)?;
            let path = arguments.found.join(format!("{}-{number}", target.name));
            fs::write(&path, &input)?;
            let message: String = message.chars().take(LONGEST_MESSAGE).collect();
            let message = message.replace('\n', " ");
            println!("found {} {place}: {message}", path.display());
        }
        number += 1;
    }
    println!("done {}", number - arguments.first);
    Ok(())
}
