//! Ranks that are threads make the runs that one process makes, to the bit.

#![allow(clippy::unwrap_used)] // a test may panic

use polynet::distributed::{CommunicationError, Communicator, Contribution, Transport, threads};
use polynet::train::progress::{Progress, RunStart, Silent, StepReport};
use polynet::train::{ChangedData, Outcome, Recipe, TrainError, Trainer};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

mod evaluation;
mod predictions;
mod synchronised;

const SIZE: u32 = 16;

/// Two classes of noise, `count` images each, as `train/CLASS/N.png`, and five a class in `val`.
fn images(folder: &Path, count: u32) {
    for (split, count) in [("train", count), ("val", 5)] {
        for (class, shade) in [("dark", 40), ("light", 200)] {
            let folder = folder.join(split).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for number in 0..count {
                let picture = image::RgbImage::from_fn(SIZE, SIZE, |x, y| {
                    let noise = (x * 31 + y * 17 + number * 101 + shade) * 7919 % 97;
                    image::Rgb([(shade + noise % 50) as u8, noise as u8, shade as u8])
                });
                picture.save(folder.join(format!("{number}.png"))).unwrap();
            }
        }
    }
}

fn recipe(data: &Path, overrides: &[&str]) -> Recipe {
    let text = format!(
        "name = 'ranks'\n[data]\npath = '{}'\nthreads = 1\n[model]\narchitecture = \
         'family = small; width = 0.0625; A: 2-way; B: poly-2; C: 2-way; input = 16; classes = 2'\n\
         [preprocessing]\nsize = 16\n[augmentation]\nkind = 'pad-crop'\npadding = 2\n\
         [schedule]\nkind = 'constant'\nlearning_rate = 0.02\n\
         [training]\nbatch_size = 8\nduration = '5 steps'\nlog_every = 2\n\
         validate_every = '2 steps'\ncheckpoint_every = '2 steps'\n",
        data.display()
    );
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    Recipe::parse(&text, &overrides).unwrap()
}

/// Lets every rank do the same on a thread of its own; the results by rank.
fn on_ranks<T: Send>(ranks: usize, run: impl Fn(&Arc<Communicator>) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = threads::group(ranks)
            .into_iter()
            .map(|transport| {
                let run = &run;
                scope.spawn(move || run(&Arc::new(Communicator::over(transport).unwrap())))
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

/// A whole run; the bytes of its model and its last checkpoint.
fn train(ranks: usize, recipe: &Recipe, folder: &Path) -> [Vec<u8>; 2] {
    let ends = on_ranks(ranks, |communicator| {
        let recipe = recipe.clone();
        let mut trainer = Trainer::start_on(communicator, recipe, folder, &[], &mut Silent)?;
        trainer.run(&mut Silent, &AtomicBool::new(false))
    });
    for end in ends {
        let Outcome::Finished(report) = end.unwrap() else {
            panic!("nobody has stopped the run");
        };
        // Each of the ten images is counted once.
        assert_eq!(report.images, 10);
    }
    results(folder)
}

fn results(folder: &Path) -> [Vec<u8>; 2] {
    let checkpoints = std::fs::read_dir(folder.join("checkpoints")).unwrap();
    let mut checkpoints: Vec<_> = checkpoints.map(|entry| entry.unwrap().path()).collect();
    checkpoints.sort();
    let model = folder.join("model/model.safetensors");
    [&model, checkpoints.last().unwrap()].map(|path| std::fs::read(path).unwrap())
}

const METHOD: [&str; 5] = [
    "stochastic_paths={when=\"from 2 steps\", max_drop=0.6}",
    "training.ema=0.9",
    "training.clip_norm=0.5",
    "training.clip_value=0.2",
    "training.activations=recomputed",
];

const SYNCHRONISED: &str = "training.batch_norm=synchronised";

#[test]
fn any_number_of_ranks_gives_the_weights_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    images(&data, 13);
    let synchronised_method = [&METHOD[..], &[SYNCHRONISED]].concat();
    for (name, overrides) in [
        ("plain", &[][..]),
        ("method", &METHOD[..]),
        ("synchronised", &[SYNCHRONISED]),
        ("synchronised-method", &synchronised_method),
        (
            "synchronised-frozen",
            &[SYNCHRONISED, "fine_tuning.frozen=[\"stem\"]"],
        ),
    ] {
        for (parts, numbers) in [(2, &[1, 2][..]), (4, &[1, 2, 4])] {
            let parts_of = format!("training.accumulate={parts}");
            let overrides = [overrides, &[parts_of.as_str()]].concat();
            let recipe = recipe(&data, &overrides);
            let runs = numbers.iter().map(|&ranks| {
                let folder = folder.path().join(format!("{name}-{parts}-{ranks}"));
                train(ranks, &recipe, &folder)
            });
            let runs: Vec<_> = runs.collect();
            for (run, ranks) in runs.iter().zip(numbers) {
                let same = *run == runs[0];
                assert!(
                    same,
                    "{name}: {parts} parts on {ranks} ranks differ from one"
                );
            }
        }
    }
}

#[test]
fn a_default_recipe_gets_a_part_for_each_rank() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    images(&data, 4);
    let [by_two, by_one] = ["two", "one"].map(|name| folder.path().join(name));
    let found = train(2, &recipe(&data, &[]), &by_two);
    let expected = train(1, &recipe(&data, &["training.accumulate=2"]), &by_one);
    assert!(found == expected);
    let written = Recipe::load(&by_two.join("recipe.toml"), &[]).unwrap();
    assert_eq!(written.training.accumulate, 2);
}

#[test]
fn images_that_only_one_rank_cannot_read_are_left_out_alike() {
    let folder = tempfile::tempdir().unwrap();
    // So many that some step leaves a rank without images; or so that parts of two images lose one.
    for (norm, batch, broken) in [
        ("local", 4, 6),
        ("synchronised", 4, 6),
        ("synchronised", 8, 2),
    ] {
        let data = folder.path().join(format!("data-{norm}-{batch}"));
        images(&data, 8);
        for class in ["dark", "light"] {
            for number in 0..broken {
                std::fs::write(data.join(format!("train/{class}/{number}.png")), "broken").unwrap();
            }
        }
        let overrides = [
            "data.on_error=skip",
            "training.accumulate=4",
            &format!("training.batch_size={batch}"),
            &format!("training.batch_norm={norm}"),
        ];
        let recipe = recipe(&data, &overrides);
        let runs = [1, 2, 4].map(|ranks| {
            let folder = folder.path().join(format!("{norm}-{batch}-{ranks}"));
            train(ranks, &recipe, &folder)
        });
        assert!(runs[0] == runs[1] && runs[0] == runs[2], "{norm} {batch}");
    }
}

#[test]
fn a_stopped_run_goes_on_with_another_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    images(&data, 13);
    let recipe = recipe(&data, &["training.accumulate=4", "training.ema=0.9"]);
    let expected = train(1, &recipe, &folder.path().join("whole"));
    let stopped = folder.path().join("stopped");
    // The last rank is asked to stop, and all do after the step.
    on_ranks(4, |communicator| {
        let recipe = recipe.clone();
        let mut trainer =
            Trainer::start_on(communicator, recipe, &stopped, &[], &mut Silent).unwrap();
        let stop = AtomicBool::new(false);
        let mut watcher = StopAt {
            step: 3,
            stop: (communicator.rank() == 3).then_some(&stop),
        };
        let outcome = trainer.run(&mut watcher, &stop).unwrap();
        assert_eq!(outcome, Outcome::Interrupted { step: 3 });
    });
    on_ranks(2, |communicator| {
        let mut trainer = Trainer::resume_on(communicator, &stopped, &[], &mut Silent).unwrap();
        trainer.run(&mut Silent, &AtomicBool::new(false)).unwrap();
    });
    assert!(results(&stopped) == expected);
}

struct StopAt<'a> {
    step: u64,
    stop: Option<&'a AtomicBool>,
}

impl polynet::train::Progress for StopAt<'_> {
    fn step(&mut self, report: &polynet::train::progress::StepReport) {
        if let Some(stop) = self.stop.filter(|_| report.step == self.step) {
            stop.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn an_error_on_one_rank_ends_all_with_its_words_and_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    images(&data, 8);
    let recipe = recipe(&data, &["training.checkpoint_every=0 steps"]);
    let expected = train(2, &recipe, &folder.path().join("whole"));
    let broken = data.join("train/dark/3.png");
    let picture = std::fs::read(&broken).unwrap();
    std::fs::write(&broken, "broken").unwrap();
    let failed = folder.path().join("failed");
    let errors = on_ranks(2, |communicator| {
        let recipe = recipe.clone();
        let mut trainer = Trainer::start_on(communicator, recipe, &failed, &[], &mut Silent)?;
        trainer.run(&mut Silent, &AtomicBool::new(false))
    });
    for error in &errors {
        let error = error.as_ref().unwrap_err();
        assert!(matches!(error, TrainError::Rank { .. }), "{error}");
        assert!(error.to_string().contains("dark/3.png"), "{error}");
    }
    assert_eq!(
        errors[0].as_ref().unwrap_err().to_string(),
        errors[1].as_ref().unwrap_err().to_string()
    );
    std::fs::write(&broken, picture).unwrap();
    on_ranks(2, |communicator| {
        // The mended picture is other data than the run began with.
        let accept = ChangedData::Accept;
        let mut trainer =
            Trainer::resume_with(communicator, &failed, accept, &[], &mut Silent).unwrap();
        trainer.run(&mut Silent, &AtomicBool::new(false)).unwrap();
    });
    assert!(results(&failed)[0] == expected[0]);
}

#[test]
fn batches_that_ranks_cannot_share_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    images(&data, 8);
    for (ranks, accumulate, words) in [
        (3, 1, "a batch of 8 images in 3 equal parts"),
        (
            4,
            2,
            "a batch of 8 images in 2 equal parts cannot be shared evenly by 4 ranks",
        ),
    ] {
        let recipe = recipe(&data, &[&format!("training.accumulate={accumulate}")]);
        let errors = on_ranks(ranks, |communicator| {
            let folder = folder.path().join("run");
            let trainer =
                Trainer::start_on(communicator, recipe.clone(), &folder, &[], &mut Silent);
            trainer.err().unwrap().to_string()
        });
        for error in errors {
            assert!(error.contains(words), "{error}");
        }
    }
    assert!(!folder.path().join("run").exists());
}

#[test]
fn ranks_with_different_recipes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    images(&data, 8);
    let errors = on_ranks(2, |communicator| {
        let recipe = recipe(&data, &[&format!("seed={}", communicator.rank())]);
        let folder = folder.path().join("run");
        let trainer = Trainer::start_on(communicator, recipe, &folder, &[], &mut Silent);
        trainer.err().unwrap().to_string()
    });
    for error in errors {
        assert!(error.contains("rank 1 differs from rank 0"), "{error}");
    }
}

#[test]
fn a_sum_is_in_the_order_of_ranks_and_parts() {
    // In any other order than from the left the small ones are lost, or come out otherwise.
    let parts = [1e8_f32, 3.0, -1e8, 1.5, 7.25, 1e-3];
    let expected = parts[1..].iter().fold(parts[0], |sum, part| sum + part);
    for rows in [
        vec![6],
        vec![1, 5],
        vec![3, 3],
        vec![2, 0, 4],
        vec![0, 1, 2, 3],
    ] {
        for length in [0, 1, 2, 5, 64] {
            let sums = on_ranks(rows.len(), |ranks| {
                let first = rows[..ranks.rank()].iter().sum::<usize>();
                let own = &parts[first..first + rows[ranks.rank()]];
                let own = Contribution {
                    parts: own.iter().map(|&part| vec![part; length]).collect(),
                    rows: rows.clone(),
                    length,
                };
                ranks.sum(own).wait().unwrap()
            });
            for sum in sums {
                assert_eq!(sum, vec![expected; length], "{rows:?}");
            }
        }
    }
}

#[test]
fn a_rank_that_leaves_ends_what_the_others_wait_for() {
    let results = on_ranks(3, |ranks| match ranks.rank() {
        1 => None,
        rank => Some(ranks.gather(vec![rank as u8; rank])),
    });
    assert_eq!(results[1], None);
    for rank in [0, 2] {
        let result = results[rank].clone().unwrap();
        assert!(
            matches!(result, Err(CommunicationError::Left { .. })),
            "{result:?}"
        );
    }
}

#[test]
fn a_rank_that_hangs_ends_the_others_with_what_to_do() {
    let [one, other] = <[_; 2]>::try_from(threads::group(2)).unwrap();
    let waiting = Communicator::over(one).unwrap();
    let waiting = waiting.with_patience(Duration::ZERO);
    let error = waiting.gather(vec![1]).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, CommunicationError::Silent { seconds: 0 }));
    assert!(
        message.contains("POLYNET_RANK_PATIENCE") && message.contains("--resume"),
        "{message}"
    );
    // It was there all the time.
    drop(other);
}

/// A rank whose network is gone after so many exchanges.
struct Cut<T> {
    whole: T,
    left: usize,
}

impl<T: Transport> Cut<T> {
    fn exchange<V>(
        &mut self,
        exchange: impl FnOnce(&mut T) -> Result<V, CommunicationError>,
    ) -> Result<V, CommunicationError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Err(CommunicationError::Silent { seconds: 0 });
        };
        self.left = left;
        exchange(&mut self.whole)
    }
}

impl<T: Transport> Transport for Cut<T> {
    fn rank(&self) -> usize {
        self.whole.rank()
    }

    fn ranks(&self) -> usize {
        self.whole.ranks()
    }

    fn all_gather(&mut self, own: Vec<u8>) -> Result<Vec<u8>, CommunicationError> {
        self.exchange(|whole| whole.all_gather(own))
    }

    fn all_gather_values(&mut self, own: Vec<f32>) -> Result<Vec<f32>, CommunicationError> {
        self.exchange(|whole| whole.all_gather_values(own))
    }

    fn all_to_all(&mut self, own: Vec<f32>) -> Result<Vec<f32>, CommunicationError> {
        self.exchange(|whole| whole.all_to_all(own))
    }
}

/// Finished steps, as a run tells of them.
#[derive(Default)]
struct Steps {
    at_start: u64,
    made: u64,
}

impl Progress for Steps {
    fn started(&mut self, run: &RunStart) {
        self.at_start = run.step;
    }

    fn step(&mut self, report: &StepReport) {
        self.made = report.step;
    }
}

#[test]
fn an_exchange_that_fails_loses_no_step() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    images(&data, 13);
    // A step has about ten exchanges, or two hundred where each batch norm has its own.
    for (name, overrides, every) in [
        ("local", &METHOD[..], 3),
        ("synchronised", &[SYNCHRONISED], 61),
    ] {
        let rare = [
            "training.accumulate=2",
            "training.duration=3 steps",
            "training.checkpoint_every=0 steps",
        ];
        let recipe = recipe(&data, &[overrides, &rare].concat());
        let expected = train(2, &recipe, &folder.path().join(name));
        let (mut cuts, mut has_finished) = (0, false);
        while !has_finished {
            let out = folder.path().join(format!("{name}-{cuts}"));
            let [one, other] = <[_; 2]>::try_from(threads::group(2)).unwrap();
            let run = |ranks: Communicator, steps: &mut Steps| {
                let ranks = Arc::new(ranks);
                let mut trainer = Trainer::start_on(&ranks, recipe.clone(), &out, &[], steps)?;
                trainer.run(steps, &AtomicBool::new(false))
            };
            let mut steps = Steps::default();
            let end = std::thread::scope(|scope| {
                scope.spawn(|| run(Communicator::over(other).unwrap(), &mut Steps::default()));
                let cut = Cut {
                    whole: one,
                    left: cuts,
                };
                run(Communicator::over(cut).unwrap(), &mut steps)
            });
            has_finished = end.is_ok();
            if !has_finished && steps.made > 0 {
                let mut told = Steps::default();
                let ranks = Arc::new(Communicator::alone());
                let mut trainer = Trainer::resume_on(&ranks, &out, &[], &mut told).unwrap();
                trainer.run(&mut told, &AtomicBool::new(false)).unwrap();
                assert_eq!(told.at_start, steps.made, "{name}, exchange {cuts}");
                assert!(results(&out) == expected, "{name}, exchange {cuts}");
            }
            cuts += every;
        }
        // Each step has several.
        assert!(cuts > 3 * 4, "{name}: {cuts} exchanges");
    }
}

#[test]
fn gathered_bytes_keep_their_ranks_and_lengths() {
    let results = on_ranks(4, |ranks| {
        ranks.gather(vec![ranks.rank() as u8; ranks.rank()])
    });
    for result in results {
        assert_eq!(result.unwrap(), [vec![], vec![1], vec![2; 2], vec![3; 3]]);
    }
}
