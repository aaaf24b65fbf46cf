use super::*;
use crate::arch::Architecture;
use crate::grow::{ModuleMap, Placement};
use crate::study::{Entry, Figures, Machine, Outcome, StudyError};
use std::collections::HashSet;

const TEXT: &str = r#"
title = "t"
settings = "family = small; width = 0.0625; classes = 2"
start = "A: I + F; B: 2-way; C: I + F"
seed = 3
[recipe]
data.path = "photos"
[space]
stages = ["B", "C"]
[limits]
macs = 6e6
[rungs]
candidates = 8
durations = ["1 epoch", "1 epoch", "2 epochs"]
children = 2
"#;

fn search() -> Search {
    Search::parse(TEXT, &[]).unwrap()
}

/// A record of each job that has none: every structure errs by the number of its name.
fn with_records(round: &Round, mut entries: Vec<Entry>) -> Vec<Entry> {
    for job in &round.study.jobs {
        if entries.iter().any(|entry| entry.job == job.id) {
            continue;
        }
        let number: f64 = job
            .architecture
            .trim_start_matches('c')
            .parse()
            .unwrap_or(0.0);
        entries.push(Entry {
            job: job.id.clone(),
            architecture: job.architecture.clone(),
            variant: job.variant.clone(),
            seed: job.seed,
            network: job.network.to_string(),
            from: None,
            recipe: job.hash.clone(),
            outcome: Outcome::Finished(Figures {
                top1_error: 0.9 - number / 100.0,
                top5_error: 0.0,
                best_top1_error: 0.0,
                best_top5_error: 0.0,
                loss: None,
                parameters: 0,
                macs: job.network.cost().unwrap().macs,
                steps: 1,
                batch_size: 1,
                images: 1,
                total_images: 1,
                ms_per_step: None,
                seconds: None,
                peak_memory_bytes: None,
                validations: Vec::new(),
            }),
            machine: Machine {
                processor: String::new(),
                instructions: String::new(),
                threads: 1,
                device: String::new(),
                version: String::new(),
                ended: 0,
            },
        });
    }
    entries
}

fn network(candidate: &Candidate) -> Architecture {
    let settings = "family = small; width = 0.0625; classes = 2";
    format!("{}; {settings}", candidate.network)
        .parse()
        .unwrap()
}

#[test]
fn each_round_follows_from_the_records_of_the_one_before() {
    let search = search();
    let mut entries = Vec::new();
    let mut sizes = Vec::new();
    let round = loop {
        let round = search.round(&entries, &mut NoLimitOfTime).unwrap();
        let again = search.round(&entries, &mut NoLimitOfTime).unwrap();
        assert_eq!(round.candidates, again.candidates);
        assert_eq!(round.study.text, again.study.text);
        sizes.push(round.rungs.last().unwrap().len());
        if round.is_last {
            break round;
        }
        // While one record is missing, the rung is the same.
        let mut missing = with_records(&round, entries);
        let last = missing.pop().unwrap();
        let same = search.round(&missing, &mut NoLimitOfTime).unwrap();
        assert_eq!(same.rungs, round.rungs);
        missing.push(last);
        entries = missing;
    };
    // Half goes on, with two children each.
    assert_eq!(sizes, [8, 12, 18]);
    assert_eq!(round.rungs.len(), 3);

    let mut seen = HashSet::new();
    for candidate in &round.candidates {
        let network = network(candidate);
        assert!(network.cost().unwrap().macs <= 6_000_000, "{candidate:?}");
        assert!(
            candidate.network.starts_with("A: residual; B: "),
            "{candidate:?}"
        );
        let anonymous = network.stages.iter().map(|stage| {
            let modules = stage.modules.iter();
            modules
                .map(|module| module.polynomial.anonymous())
                .collect::<Vec<_>>()
        });
        assert!(
            seen.insert(anonymous.collect::<Vec<_>>()),
            "{candidate:?} came before"
        );
        let Some(parent) = &candidate.parent else {
            assert_eq!(candidate.since, 1);
            continue;
        };
        let parent = round.candidates.iter().find(|one| one.name == *parent);
        let parent = parent.unwrap();
        assert!(parent.since < candidate.since);
        let map = ModuleMap::new(&self::network(parent), &network, Placement::default());
        assert!(map.is_ok(), "{candidate:?} does not grow from {parent:?}");
    }
    // Whoever stands on a rung starts from the one before: itself, or what it grew from.
    for job in &round.study.jobs {
        let candidate = round
            .candidates
            .iter()
            .find(|one| one.name == job.architecture);
        let candidate = candidate.unwrap();
        let rung: usize = job.variant.trim_start_matches("rung-").parse().unwrap();
        let expected = match (&candidate.parent, rung == candidate.since) {
            (Some(parent), true) => Some(parent),
            (None, true) => None,
            _ => Some(&candidate.name),
        };
        let expected = expected.map(|from| format!("{from}/rung-{}/3", rung - 1));
        let found = job.growing.as_ref().map(|growing| growing.from.clone());
        assert_eq!(found, expected, "{}", job.id);
    }
}

#[test]
fn what_can_not_be_searched_is_told() {
    let fault = |from: &str, to: &str| {
        assert!(TEXT.contains(from));
        let search = Search::parse(&TEXT.replace(from, to), &[]);
        let round = search.and_then(|search| search.round(&[], &mut NoLimitOfTime));
        round.unwrap_err().to_string()
    };
    for (from, to, expected) in [
        (
            "macs = 6e6",
            "macs = 1000",
            "the start does not keep to the limits: macs = 1000",
        ),
        ("macs = 6e6", "mac = 3.0e6", "the nearest is `macs`"),
        ("macs = 6e6", "macs = -1", "a number above 0"),
        ("[\"B\", \"C\"]", "[\"D\"]", "its stages are A, B, C"),
        ("candidates = 8", "candidates = 1", "a whole number from 2"),
        ("I + F; B: 2-way", "I + ; B: 2-way", "`start`"),
        ("durations", "duration", "`durations`"),
        ("[space]", "[space]\nblocks = 1", "the start has 2"),
        (
            "children = 2",
            "[confirm]\nbaseline = \"A: I + F\"\nduration = \"1 epoch\"\nseeds = [3]",
            "not 3, which the search has seen",
        ),
        ("data.path", "data.pat", "the nearest is"),
    ] {
        let message = fault(from, to);
        assert!(message.contains(expected), "{to}\n{message}");
    }
    let failed = |entries: &[Entry]| search().round(entries, &mut NoLimitOfTime);
    let mut entries = with_records(&failed(&[]).unwrap(), Vec::new());
    for entry in &mut entries {
        entry.outcome = Outcome::Failed {
            reason: "NaN".to_owned(),
        };
    }
    let error = failed(&entries).unwrap_err();
    assert!(matches!(&error, StudyError::Faults(_)));
    assert!(
        error
            .to_string()
            .contains("every candidate of rung 1 failed")
    );
}

/// Steps as slow as networks are large.
struct BySize(usize);

impl StepTimes for BySize {
    fn ms_per_step(&mut self, job: &crate::study::Job) -> Result<f64, StudyError> {
        self.0 += 1;
        Ok(job.network.num_modules() as f64)
    }
}

#[test]
fn a_limit_of_time_is_one_of_what_was_measured() {
    let text = TEXT.replace("macs = 6e6", "ms_per_step = 3");
    let mut times = BySize(0);
    let round = Search::parse(&text, &[]).unwrap();
    let round = round.round(&[], &mut times).unwrap();
    assert!(times.0 >= round.candidates.len());
    assert_eq!(round.candidates.len(), 8);
    assert!(
        round
            .candidates
            .iter()
            .all(|one| network(one).num_modules() <= 3)
    );
}
