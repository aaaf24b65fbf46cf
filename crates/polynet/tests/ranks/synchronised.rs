//! Batch norm that sees the images of all parts of a step.

use super::{SYNCHRONISED, images, recipe, train};
use polynet::distributed::{CommunicationError, Communicator, Transport, threads};
use polynet::train::Trainer;
use polynet::train::progress::Silent;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[test]
fn synchronised_parts_train_as_one_batch() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    images(&data, 13);
    // One step, without dropout; the optimizer's update has the direction of the gradient.
    let common = [
        "training.duration=1 steps",
        "model.architecture=family = small; width = 0.0625; A: 2-way; B: poly-2; C: 2-way; input = 16; \
         classes = 2; dropout = 0",
        "optimizer={kind=\"sgd\", momentum=0.0, nesterov=false}",
    ];
    let run = |name: &str, overrides: &[&str]| {
        let recipe = recipe(&data, &[&common[..], overrides].concat());
        let folder = folder.path().join(name);
        train(1, &recipe, &folder);
        tensors(&folder.join("model"))
    };
    let whole = run("whole", &[]);
    let parts = run("parts", &[SYNCHRONISED, "training.accumulate=4"]);
    let local = run("local", &["training.accumulate=4"]);
    let distance = |other: &[f32]| -> f64 {
        let apart = whole
            .iter()
            .zip(other)
            .map(|(a, b)| f64::from(a - b).powi(2));
        apart.sum::<f64>().sqrt()
    };
    let (parts, local) = (distance(&parts), distance(&local));
    assert!(parts < 1e-3 * local, "{parts} synchronised, {local} local");
}

#[test]
fn a_small_group_is_warned_of_by_the_images_that_share_statistics() {
    struct Warned(Option<String>);
    impl polynet::train::Progress for Warned {
        fn warning(&mut self, warning: &polynet::train::progress::Warning) {
            if let polynet::train::progress::Warning::SmallNormGroup { .. } = warning {
                self.0 = Some(warning.to_string());
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    images(&data, 8);
    for (name, overrides, group) in [
        ("local", &[][..], Some("from 8 images")),
        ("synchronised", &[SYNCHRONISED], None),
        (
            "small",
            &[SYNCHRONISED, "training.batch_size=8"],
            Some("from 8 images"),
        ),
    ] {
        let common = ["training.accumulate=2", "training.batch_size=16"];
        let recipe = recipe(&data, &[&common[..], overrides].concat());
        let mut warned = Warned(None);
        Trainer::start(recipe, &folder.path().join(name), &[], &mut warned).unwrap();
        match (group, &warned.0) {
            (Some(group), Some(words)) => assert!(words.contains(group), "{name}: {words}"),
            (group, words) => assert_eq!(group, words.as_deref(), "{name}"),
        }
    }
}

/// All numbers of a model, running statistics included, in the order of the names.
fn tensors(model: &Path) -> Vec<f32> {
    let model = polynet::ModelFolder::open(model).unwrap();
    let mut tensors: Vec<_> = model.params.to_map().into_iter().collect();
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    tensors
        .into_iter()
        .flat_map(|(_, tensor)| tensor.values)
        .collect()
}

/// A rank whose transport fails at a collective of its own choice.
struct Failing {
    transport: threads::ThreadTransport,
    left: usize,
}

impl Failing {
    fn count(&mut self) -> Result<(), CommunicationError> {
        self.left = self.left.saturating_sub(1);
        match self.left {
            0 => Err(CommunicationError::Closed),
            _ => Ok(()),
        }
    }
}

impl Transport for Failing {
    fn rank(&self) -> usize {
        self.transport.rank()
    }

    fn ranks(&self) -> usize {
        self.transport.ranks()
    }

    fn all_gather(&mut self, own: Vec<u8>) -> Result<Vec<u8>, CommunicationError> {
        self.count()?;
        self.transport.all_gather(own)
    }

    fn all_gather_values(&mut self, own: Vec<f32>) -> Result<Vec<f32>, CommunicationError> {
        self.count()?;
        self.transport.all_gather_values(own)
    }

    fn all_to_all(&mut self, own: Vec<f32>) -> Result<Vec<f32>, CommunicationError> {
        self.count()?;
        self.transport.all_to_all(own)
    }
}

#[test]
fn a_rank_that_fails_between_two_batch_norms_ends_all() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    images(&data, 8);
    let recipe = recipe(&data, &[SYNCHRONISED, "training.accumulate=4"]);
    // Some of them forward, some backward; a step has far more collectives.
    for collectives in [12, 13, 40, 61] {
        let errors = std::thread::scope(|scope| {
            let transports = threads::group(2).into_iter().enumerate();
            let ranks = transports.map(|(rank, transport)| {
                let transport = Failing {
                    transport,
                    left: if rank == 1 { collectives } else { usize::MAX },
                };
                let (recipe, folder) = (recipe.clone(), folder.path());
                scope.spawn(move || {
                    let communicator = Arc::new(Communicator::over(transport).unwrap());
                    let out = folder.join(format!("run-{collectives}"));
                    let trainer = Trainer::start_on(&communicator, recipe, &out, &[], &mut Silent);
                    let ended = trainer.unwrap().run(&mut Silent, &AtomicBool::new(false));
                    ended.unwrap_err().to_string()
                })
            });
            let ranks: Vec<_> = ranks.collect();
            ranks
                .into_iter()
                .map(|rank| rank.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert!(errors[0].contains("rank 1 has left the run"), "{errors:?}");
        assert!(errors[1].contains("has ended"), "{errors:?}");
    }
}
