use super::*;
use crate::arch::Architecture;
use crate::step::{LossOptions, NormStatistics};
use rand::{RngExt, SeedableRng};

mod bf16;

const LOSS: LossOptions = LossOptions {
    label_smoothing: 0.1,
};

/// All parts of a step in one place.
struct OnePlace {
    images: Vec<usize>,
    sums: Vec<Option<Vec<f32>>>,
    gathered: usize,
    /// After how many calls the others are gone.
    last: usize,
}

impl SharedStep for OnePlace {
    type Error = &'static str;

    fn images(&self) -> &[usize] {
        &self.images
    }

    fn gather(&mut self, own: Vec<Vec<f64>>, length: usize) -> Result<Vec<Vec<f64>>, &'static str> {
        assert_eq!(own.len(), self.images.len());
        assert!(own.iter().all(|row| row.len() == length));
        if self.gathered == self.last {
            return Err("gone");
        }
        self.gathered += 1;
        Ok(own)
    }

    fn observe(&mut self, tensor: usize, gradients: &[Vec<f32>]) {
        assert!(self.sums[tensor].is_none(), "a gradient is shown once");
        let sum = (0..gradients[0].len()).map(|i| gradients.iter().map(|g| g[i]).sum());
        self.sums[tensor] = Some(sum.collect());
    }
}

/// A network and what it is trained on.
struct Batch {
    graph: Arc<Graph>,
    params: Params,
    images: Vec<f32>,
    labels: Vec<usize>,
}

impl Batch {
    fn new(spec: &str, count: usize) -> Self {
        let architecture: Architecture = spec.parse().unwrap();
        let graph = Arc::new(architecture.graph().unwrap());
        let size = graph.nodes[0].shape[1];
        let classes = architecture.num_classes;
        let mut noise = ChaCha8Rng::seed_from_u64(5);
        // Each image has a brightness of its own, so that parts differ in their statistics.
        let images = (0..count).flat_map(|_| {
            let brightness = noise.random::<f32>() * 4.0 - 2.0;
            let pixels: Vec<f32> = (0..3 * size * size)
                .map(|_| noise.random::<f32>() + brightness)
                .collect();
            pixels
        });
        Self {
            images: images.collect(),
            params: Params::init(&graph, 3),
            labels: (0..count).map(|image| image % classes).collect(),
            graph,
        }
    }

    fn engine(&self) -> TrainingEngine {
        TrainingEngine::new(Arc::clone(&self.graph))
    }

    /// The images `first..first + count`.
    fn part(&self, first: usize, count: usize) -> BatchPart<'_> {
        let image = self.images.len() / self.labels.len();
        BatchPart {
            images: &self.images[first * image..(first + count) * image],
            labels: &self.labels[first..first + count],
            rng: ChaCha8Rng::seed_from_u64(1),
        }
    }

    /// Gradients of the whole batch.
    fn whole(&self, options: &StepOptions<'_>) -> Gradients {
        let part = self.part(0, self.labels.len());
        self.engine()
            .gradients(&self.params, part, options, &mut |_, _| {})
    }

    fn parts(&self, images: &[usize]) -> Vec<BatchPart<'_>> {
        let mut first = 0;
        let parts = images.iter().map(|&count| {
            first += count;
            self.part(first - count, count)
        });
        parts.collect()
    }

    /// Gradients with one statistic over parts of so many images.
    fn synchronised(
        &self,
        images: &[usize],
        options: &StepOptions<'_>,
    ) -> (Vec<Option<Vec<f32>>>, SynchronisedOutput) {
        let mut shared = one_place(images, self.params.len());
        let mut engine = self.engine();
        let parts = self.parts(images);
        let output = engine.synchronised_gradients(&self.params, parts, options, &mut shared);
        (shared.sums, output.unwrap())
    }
}

fn one_place(images: &[usize], tensors: usize) -> OnePlace {
    OnePlace {
        images: images.to_vec(),
        sums: vec![None; tensors],
        gathered: 0,
        last: usize::MAX,
    }
}

/// The distance of a gradient from another one, as a share of that one's norm.
fn apart(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected);
    let squares = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    let scale: f64 = expected.iter().map(|&x| f64::from(x).powi(2)).sum();
    (squares / scale.max(1e-12)).sqrt()
}

fn assert_alike(found: &[NormStatistics], expected: &[NormStatistics], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.norm, expected.norm, "{what}");
        let found = found.mean.iter().chain(&found.unbiased_var);
        let expected = expected.mean.iter().chain(&expected.unbiased_var);
        for (found, expected) in found.zip(expected) {
            let apart = (found - expected).abs();
            assert!(apart < 1e-3 * (1.0 + expected.abs()), "{what}: statistics");
        }
    }
}

#[test]
fn parts_with_statistics_in_common_are_one_batch() {
    for (spec, max_drop) in [
        ("small-polynet; width = 0.125; dropout = 0", 0.0),
        (
            "small-ir-1-2-1; width = 0.25; B: (I + F)^2 x2; A: I + F + GF + HF; dropout = 0",
            0.5,
        ),
        (
            "small-ir-1-2-1; width = 0.25; sharing = release; B: poly-3 x2; C: F + GF; dropout = 0",
            0.0,
        ),
        ("resnet-50; width = 0.125; input = 64", 0.0),
    ] {
        let batch = Batch::new(spec, 8);
        let paths = Paths::draw(&batch.graph, max_drop, &mut ChaCha8Rng::seed_from_u64(5));
        let frozen = Frozen::new(batch.params.specs(), |spec| spec.name.starts_with("stem"));
        for (frozen, activations) in [
            (&Frozen::NOTHING, Activations::Kept),
            (&Frozen::NOTHING, Activations::Recomputed),
            (&frozen, Activations::Kept),
        ] {
            let options = StepOptions {
                activations,
                frozen,
                ..StepOptions::new(LOSS, &paths)
            };
            let whole = batch.whole(&options);
            for images in [&[4, 4][..], &[5, 1, 2]] {
                let (found, output) = batch.synchronised(images, &options);
                let what = format!("{spec} {activations:?} {images:?}");
                assert_eq!(output.parts.len(), images.len());
                let losses = output.parts.iter().zip(images);
                let loss: f64 = losses.map(|(part, &n)| part.loss * n as f64 / 8.0).sum();
                assert!((loss - whole.loss).abs() < 1e-4, "{what}: {loss}");
                assert_alike(&output.statistics, &whole.statistics, &what);
                for (index, tensor) in batch.params.specs().iter().enumerate() {
                    let name = &tensor.name;
                    let Some(whole) = &whole.tensors[index] else {
                        assert!(found[index].is_none(), "{what} {name}");
                        continue;
                    };
                    // One ReLU that rounding turns over moves a gradient by up to a per cent; what a
                    // step computes is held to less in tests/oracle.
                    let found = found[index].as_ref().expect("a gradient");
                    let apart = apart(found, whole);
                    assert!(apart < 0.05, "{what} {name}: {apart}");
                }
            }
        }
    }
}

#[test]
fn parts_with_statistics_of_their_own_are_not() {
    let batch = Batch::new("small-polynet; width = 0.125; dropout = 0", 8);
    let paths = Paths::all(&batch.graph);
    let options = StepOptions::new(LOSS, &paths);
    let whole = batch.whole(&options).tensors;
    let [first, second] = [0, 4].map(|first| {
        let part = batch.part(first, 4);
        let gradients = batch
            .engine()
            .gradients(&batch.params, part, &options, &mut |_, _| {});
        gradients.tensors
    });
    let mut far = 0;
    for ((first, second), whole) in first.into_iter().zip(second).zip(&whole) {
        if let (Some(first), Some(second), Some(whole)) = (first, second, whole) {
            let mean: Vec<f32> = first
                .iter()
                .zip(&second)
                .map(|(a, b)| (a + b) * 0.5)
                .collect();
            far += usize::from(apart(&mean, whole) > 0.2);
        }
    }
    assert!(far > whole.len() / 4, "{far} of {}", whole.len());
}

#[test]
fn one_part_is_the_usual_step() {
    let batch = Batch::new("small-polynet; width = 0.125", 6);
    let paths = Paths::all(&batch.graph);
    let options = StepOptions::new(LOSS, &paths);
    let (found, output) = batch.synchronised(&[6], &options);
    let whole = batch.whole(&options);
    assert_eq!(output.parts[0].loss, whole.loss);
    assert_eq!(output.parts[0].logits, whole.logits);
    assert_eq!(output.statistics, whole.statistics);
    assert_eq!(found, whole.tensors);
}

#[test]
fn frozen_norms_gather_nothing() {
    let batch = Batch::new("small-polynet; width = 0.0625", 4);
    let paths = Paths::all(&batch.graph);
    for (part, expected) in [("", 0), ("stage_", 2), ("never", 2)] {
        let frozen = Frozen::new(batch.params.specs(), |spec| {
            spec.name.starts_with(part) && !spec.name.starts_with("head.linear")
        });
        let options = StepOptions {
            frozen: &frozen,
            ..StepOptions::new(LOSS, &paths)
        };
        let mut shared = one_place(&[2, 2], batch.params.len());
        let parts = batch.parts(&[2, 2]);
        let mut engine = batch.engine();
        let output = engine.synchronised_gradients(&batch.params, parts, &options, &mut shared);
        // Once forward and once backward.
        let norms = output.unwrap().statistics.len();
        assert_eq!(shared.gathered, expected * norms, "{part}");
        assert_eq!(norms > 0, expected > 0);
    }
}

#[test]
fn a_step_that_loses_the_others_is_an_error_and_the_next_one_is_whole() {
    let batch = Batch::new("small-polynet; width = 0.0625", 4);
    let paths = Paths::all(&batch.graph);
    let options = StepOptions::new(LOSS, &paths);
    let (expected, _) = batch.synchronised(&[2, 2], &options);
    let mut engine = batch.engine();
    for last in [0, 1, 40] {
        let mut shared = one_place(&[2, 2], batch.params.len());
        shared.last = last;
        let parts = batch.parts(&[2, 2]);
        let output = engine.synchronised_gradients(&batch.params, parts, &options, &mut shared);
        assert_eq!(output, Err("gone"));
    }
    let mut shared = one_place(&[2, 2], batch.params.len());
    let parts = batch.parts(&[2, 2]);
    let output = engine.synchronised_gradients(&batch.params, parts, &options, &mut shared);
    assert!(output.is_ok());
    assert_eq!(shared.sums, expected);
}

/// Gradients by the kernels of every instruction set, each shown once when it is final.
#[test]
fn each_gradient_is_shown_once_when_it_is_final() {
    let batch = Batch::new("small-polynet; width = 0.125; dropout = 0", 4);
    let paths = Paths::all(&batch.graph);
    let options = StepOptions::new(LOSS, &paths);
    for isa in Isa::available() {
        let mut engine = TrainingEngine::with_isa(Arc::clone(&batch.graph), isa);
        let mut shown: Vec<(usize, Vec<f32>)> = Vec::new();
        let found = engine.gradients(
            &batch.params,
            batch.part(0, 4),
            &options,
            &mut |index, g| {
                shown.push((index, g.to_vec()));
            },
        );
        shown.sort_by_key(|(index, _)| *index);
        let every = found.tensors.into_iter().enumerate();
        let every: Vec<(usize, Vec<f32>)> =
            every.filter_map(|(index, g)| Some((index, g?))).collect();
        assert_eq!(shown, every, "{isa}");
        let parameters = batch
            .params
            .specs()
            .iter()
            .filter(|spec| spec.kind.is_parameter());
        assert_eq!(shown.len(), parameters.count(), "{isa}");
    }
}

#[test]
fn recomputed_gradients_are_the_kept_ones_bit_for_bit() {
    for spec in [
        "family = small; width = 0.125; A: 2-way x2; B: poly-3 -> mpoly-3; C: 3-way; dropout = 0.3",
        "family = small; width = 0.125; A: (I + F)^2; B: I -> F; C: I + F; sharing = release",
        "resnet-50; width = 0.0625; input = 32; classes = 10",
    ] {
        let batch = Batch::new(spec, 4);
        for max_drop in [0.0, 0.8] {
            let paths = Paths::draw(&batch.graph, max_drop, &mut ChaCha8Rng::seed_from_u64(5));
            let [kept, recomputed] = [Activations::Kept, Activations::Recomputed].map(|way| {
                batch.whole(&StepOptions {
                    activations: way,
                    ..StepOptions::new(LOSS, &paths)
                })
            });
            assert!(kept == recomputed, "{spec}, {max_drop}");
        }
    }
}

#[test]
fn a_dropped_block_has_no_gradient() {
    let batch = Batch::new(
        "family = small; width = 0.125; A: I; B: I; C: I -> 2-way",
        4,
    );
    // The paths of the last module are dropped with chance 1.
    for max_drop in [0.0, 1.0] {
        let paths = Paths::draw(&batch.graph, max_drop, &mut ChaCha8Rng::seed_from_u64(5));
        let gradients = batch.whole(&StepOptions::new(LOSS, &paths)).tensors;
        for (spec, gradient) in batch.params.specs().iter().zip(&gradients) {
            let dropped = max_drop == 1.0 && spec.name.starts_with("stage_c.1");
            let expected = spec.kind.is_parameter() && !dropped;
            assert_eq!(gradient.is_some(), expected, "{}", spec.name);
        }
    }
}

#[test]
fn frozen_parts_have_no_gradients_and_keep_their_statistics() {
    for spec in [
        "small-polynet; width = 0.0625; classes = 3; input = 16",
        "resnet-50; width = 0.0625; classes = 3; input = 32; 1: I + F; 2: 2-way; 3: I + F; 4: I",
    ] {
        let batch = Batch::new(spec, 4);
        let paths = Paths::all(&batch.graph);
        for part in ["stem", "stage_", "head"] {
            let is_frozen = |name: &str| name.starts_with(part);
            let frozen = Frozen::new(batch.params.specs(), |spec| is_frozen(&spec.name));
            for activations in [Activations::Kept, Activations::Recomputed] {
                let gradients = batch.whole(&StepOptions {
                    frozen: &frozen,
                    activations,
                    ..StepOptions::new(LOSS, &paths)
                });
                let mut after = batch.params.clone();
                after.update_statistics(&batch.graph, &gradients.statistics);
                for (index, spec) in batch.params.specs().iter().enumerate() {
                    let name = &spec.name;
                    let trained = spec.kind.is_parameter() && !is_frozen(name);
                    assert_eq!(
                        gradients.tensors[index].is_some(),
                        trained,
                        "{part}: {name}"
                    );
                    let moved = after[index] != batch.params[index];
                    let statistic = !spec.kind.is_parameter();
                    assert_eq!(moved, statistic && !is_frozen(name), "{part}: {name}");
                }
            }
        }
    }
}

#[test]
fn a_wholly_frozen_body_trains_on_the_features_of_prediction() {
    use crate::cpu::{Classifier, CompileOptions};
    let batch = Batch::new(
        "small-polynet; width = 0.0625; classes = 3; input = 16; dropout = 0",
        4,
    );
    let frozen = Frozen::new(batch.params.specs(), |spec| !spec.name.starts_with("head"));
    let paths = Paths::all(&batch.graph);
    let trained = batch.whole(&StepOptions {
        frozen: &frozen,
        ..StepOptions::new(LOSS, &paths)
    });
    let mut classifier =
        Classifier::new(&batch.graph, &batch.params, CompileOptions::own()).unwrap();
    let predicted = classifier.logits(&batch.images);
    assert_eq!(trained.logits.len(), predicted.len());
    for (trained, predicted) in trained.logits.iter().zip(predicted) {
        assert!((trained - predicted).abs() < 1e-4, "{trained} {predicted}");
    }
}

#[test]
fn prediction_follows_training_where_a_block_is_used_again() {
    use crate::cpu::{Classifier, CompileOptions};
    let spec = "small-ir-1-2-1; width = 0.125; B: poly-3 x2; input = 16; dropout = 0";
    let batch = Batch::new(spec, 64);
    let paths = Paths::all(&batch.graph);
    let options = StepOptions::new(LOSS, &paths);
    let gradients = batch.whole(&options);
    // The running statistics become those of the batch.
    let mut params = batch.params.clone();
    for _ in 0..200 {
        params.update_statistics(&batch.graph, &gradients.statistics);
    }
    let mut classifier = Classifier::new(&batch.graph, &params, CompileOptions::own()).unwrap();
    let predicted = classifier.logits(&batch.images);
    let trained = gradients.logits;
    let largest = trained.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    assert_eq!(trained.len(), predicted.len());
    for (trained, predicted) in trained.iter().zip(predicted) {
        let error = (trained - predicted).abs() / largest;
        assert!(error < 0.02, "{trained} in training, {predicted} after");
    }
}

#[test]
fn training_lowers_the_loss() {
    let batch = Batch::new("small-ir-1-2-1; dropout = 0; classes = 4", 8);
    let mut params = batch.params.clone();
    let paths = Paths::all(&batch.graph);
    let options = StepOptions::new(LossOptions::default(), &paths);
    let mut engine = batch.engine();
    let mut losses = Vec::new();
    for _ in 0..12 {
        let gradients = engine.gradients(&params, batch.part(0, 8), &options, &mut |_, _| {});
        params.update_statistics(&batch.graph, &gradients.statistics);
        losses.push(gradients.loss);
        for (index, gradient) in gradients.tensors.iter().enumerate() {
            for (weight, g) in params[index].iter_mut().zip(gradient.iter().flatten()) {
                *weight -= 0.002 * g;
            }
        }
    }
    assert!(losses[11] < 0.8 * losses[0], "{losses:?}");
}
