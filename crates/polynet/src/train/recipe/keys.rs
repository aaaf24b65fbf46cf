//! The table of keys: what each is, its type, default and range, in the notation of [`table`].
//!
//! [`table`]: super::table

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::de::DeValue;

use super::read::Table;
use super::table::Section;
use super::value::Bounds::{self, Count, Number, Relative, Rule};
use super::value::{Resize, Value, When, expected, quoted};
use crate::step::{Activations, Precision};
use crate::train::duration::Duration;

/// The largest image side, in pixels, that a recipe may ask for.
const LARGEST_SIDE: u64 = 1 << 14;

const ABOVE_ZERO: Bounds = Number("a number above 0", |x| x > 0.0);
const AT_LEAST_ZERO: Bounds = Number("a number of at least 0", |x| x >= 0.0);
const BELOW_ONE: Bounds = Number("a number of at least 0 and below 1", |x| {
    (0.0..1.0).contains(&x)
});
const CHANCE: Bounds = Number("a chance from 0 to 1", |x| (0.0..=1.0).contains(&x));

/// Time that passes.
fn some(time: Duration) -> Bounds {
    Rule("a finite duration above 0", !time.is_zero())
}

section! {
    /// A whole experiment. See the [module](super) for its text.
    pub struct Recipe {
        /// What the run is called; a recipe in a file has the file's name.
        name: String = "polynet".to_owned(), Rule("a name", !name.is_empty());
        /// Seed of everything random: weights, split, shuffles, crops.
        seed: u64 = 0, Rule("a seed below 2^63, which TOML can hold", i64::try_from(seed).is_ok());
        /// The run folder; without it the command takes `runs/` and the run's name.
        out: Option<PathBuf>;
        /// The device: `cpu`, or one that the program was built with.
        device: String = "cpu".to_owned(), Rule("a device such as \"cpu\"", !device.is_empty());
    }
    sections {
        model: ModelSection;
        fine_tuning: FineTuningSection;
        data: DataSection;
        preprocessing: PreprocessingSection;
        augmentation: AugmentationSection;
        optimizer: OptimizerSection;
        schedule: ScheduleSection;
        stochastic_paths: StochasticPathsSection;
        training: TrainingSection;
        record: RecordSection;
    }
}

section! {
    /// The network and where it starts from.
    pub struct ModelSection {
        /// A preset's name or a whole network in the algebra's language.
        architecture: String ["ir-3-6-3"],
            Rule("a preset such as \"ir-3-6-3\" or a network's text", !architecture.trim().is_empty());
        /// A model folder whose weights the run starts from; of the classifier, the rows of classes
        /// that have the same name in the data. Without it the weights are random.
        init: Option<PathBuf>;
        /// What the filters of the first convolution begin as; without it they are drawn as all others.
        first_filters: Option<FirstFilters>,
            Relative("no such key where the weights are those of model.init", init.is_none() || first_filters.is_none());
    }
}

words! {
    /// What the filters of a first convolution begin as.
    pub enum FirstFilters {
        /// The directions in which patches of training images vary most, and their negatives
        /// (Jordan 2024; the paper has none of it).
        Whitening = "whitening",
    }
}

section! {
    /// How the parts of the network are trained. A part is `stem`, a stage by its label (`A`, all of its
    /// modules), what stands between stages by its name (`reduction_a`), or `head`.
    #[derive(Default)]
    pub struct FineTuningSection {
        /// Parts that stay as they are: no gradients, and batch norm uses its running statistics.
        frozen: Vec<String>;
        /// Factors of the learning rate by part; 1 for each that is not named.
        rates: BTreeMap<String, f64>, ABOVE_ZERO;
    }
}

section! {
    /// The images.
    pub struct DataSection {
        /// The image folder or its `.tar`.
        path: PathBuf ["photos"],
            Rule("an image folder or a .tar of one", !path.as_os_str().is_empty());
        /// The share of images to hold out where the folder has no split of its own.
        validation_fraction: Option<f64>,
            Number("a share above 0 and below 1", |x| x > 0.0 && x < 1.0);
        /// Training images to hold out, each class its share: the run learns without them and
        /// validates on them alone, so that whoever chooses by its accuracy never looks at the images
        /// that the folder itself holds out.
        hold_out: Option<u64>, Count(1..=u64::MAX, "images");
        /// Decides which images `hold_out` takes; not the run's seed, so that a run that starts from
        /// another's model holds out the same.
        hold_out_seed: u64 = 0,
            Rule("a seed below 2^63, which TOML can hold", i64::try_from(hold_out_seed).is_ok());
        /// Threads that decode and augment; 0: one for each core.
        threads: u64 = 0, Count(0..=1024, "threads");
        /// What becomes of an image that can't be decoded.
        on_error: OnError = OnError::Fail;
    }
}

words! {
    /// What becomes of an image that can't be decoded.
    pub enum OnError {
        /// The run stops with its path.
        Fail = "fail",
        /// It is left out and counted.
        Skip = "skip",
    }
}

section! {
    /// What differs from the architecture's own preprocessing.
    #[derive(Default)]
    pub struct PreprocessingSection {
        /// Side of the square input, in pixels.
        size: Option<u32>, Count(1..=LARGEST_SIDE, "pixels");
        /// How an image is resized before its centre is cut out.
        resize: Option<Resize>, Count(1..=LARGEST_SIDE, "pixels");
        /// Mean of each channel (red, green, blue), for values in 0…1.
        mean: Option<[f64; 3]>, Number("finite numbers", |_| true);
        /// Standard deviation of each channel, for values in 0…1.
        std: Option<[f64; 3]>, ABOVE_ZERO;
    }
}

kinds! {
    /// What happens to a training image.
    pub enum AugmentationSection {
        /// A crop of random area and aspect ratio, resized to the input (the paper's, §4).
        MultiArea = "multi-area" {
            /// The smallest share of the image's area that a crop has.
            min_area: f64 = 0.08,
                Number("a share above 0 and at most 1", |x| x > 0.0 && x <= 1.0);
            /// The range of aspect ratios, width over height.
            aspect: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0],
                Rule("two numbers above 0, the smaller first", {
                    aspect[0] > 0.0 && aspect[0] <= aspect[1] && aspect[1].is_finite()
                });
            /// Chance of a horizontal flip.
            flip: f64 = 0.5, CHANCE;
        },
        /// Zeros around the image and a random window of the input's size.
        PadCrop = "pad-crop" {
            /// Padding on each side.
            padding: u32 = 4, Count(0..=LARGEST_SIDE, "pixels");
            /// Chance of a horizontal flip.
            flip: f64 = 0.5, CHANCE;
            /// Side of a square about a random pixel that is set to the mean (DeVries and Taylor 2017;
            /// the paper has none of it).
            cutout: Option<u32>, Count(1..=LARGEST_SIDE, "pixels");
        },
        /// As for evaluation.
        None = "none",
    }
}

section! {
    /// The algorithm and its weight decay.
    #[derive(Copy)]
    pub struct OptimizerSection {
        ..algorithm: OptimizerAlgorithm;
        /// Weight decay: added to the gradient (`rmsprop`, `sgd`) or, decoupled, taken from the weight
        /// itself times the learning rate (`adamw`, `muon`).
        weight_decay: f64 = 0.0, AT_LEAST_ZERO;
        /// Which parameters decay.
        weight_decay_on: DecayedParameters = DecayedParameters::Weights;
    }
}

kinds! {
    /// The update rule.
    pub enum OptimizerAlgorithm {
        /// The paper's (§4), which leaves all but decay and ε open.
        RmsProp = "rmsprop" (
            /// Whose defaults `epsilon_position`, `initial_square` and `momentum_form` have.
            convention: Convention = Convention::TensorFlow
        ) {
            /// How much of the running square is kept at a step.
            decay: f64 = 0.9, BELOW_ONE;
            /// ε.
            epsilon: f64 = 1.0, ABOVE_ZERO;
            /// Where ε stands.
            epsilon_position: EpsilonPosition =
                convention.of(EpsilonPosition::Inside, EpsilonPosition::Outside);
            /// The running square before the first step.
            initial_square: f64 = convention.of(1.0, 0.0), AT_LEAST_ZERO;
            /// What momentum gathers; the same without momentum or at a constant learning rate.
            momentum_form: MomentumForm = convention.of(MomentumForm::Steps, MomentumForm::Directions);
            /// Heavy-ball momentum.
            momentum: f64 = 0.0, BELOW_ONE;
        },
        /// Stochastic gradient descent with momentum.
        Sgd = "sgd" {
            /// Momentum.
            momentum: f64 = 0.9, BELOW_ONE;
            /// How much of the gradient is kept out of the momentum; 0 with Nesterov.
            dampening: f64 = 0.0, BELOW_ONE;
            /// Nesterov's look-ahead.
            nesterov: bool = true,
                Relative("momentum above 0 and dampening 0, or nesterov = false", {
                    !nesterov || (momentum > 0.0 && dampening == 0.0)
                });
        },
        /// Adam with decoupled weight decay.
        AdamW = "adamw" {
            /// Decay of the running mean.
            beta1: f64 = 0.9, BELOW_ONE;
            /// Decay of the running square.
            beta2: f64 = 0.999, BELOW_ONE;
            /// ε, outside the root.
            epsilon: f64 = 1e-8, ABOVE_ZERO;
        },
        /// Steps of hidden convolutions with all singular values about 1 (Jordan et al. 2024; the paper
        /// has none of it); AdamW for all other parameters, at the same learning rate.
        Muon = "muon" {
            /// Momentum of the matrices.
            momentum: f64 = 0.95, BELOW_ONE;
            /// Nesterov's look-ahead.
            nesterov: bool = true;
            /// AdamW's decay of the running mean.
            beta1: f64 = 0.9, BELOW_ONE;
            /// AdamW's decay of the running square.
            beta2: f64 = 0.999, BELOW_ONE;
            /// AdamW's ε, outside the root.
            epsilon: f64 = 1e-8, ABOVE_ZERO;
        },
    }
}

words! {
    /// A framework whose RMSProp is meant.
    enum Convention {
        /// ε inside, the square starts at 1, momentum gathers steps.
        TensorFlow = "tensorflow",
        /// ε outside, the square starts at 0, momentum gathers directions.
        PyTorch = "pytorch",
    }
}

impl Convention {
    fn of<T>(self, tensorflow: T, pytorch: T) -> T {
        match self {
            Self::TensorFlow => tensorflow,
            Self::PyTorch => pytorch,
        }
    }
}

words! {
    /// Where RMSProp's ε stands.
    pub enum EpsilonPosition {
        /// Gradient / √(square + ε).
        Inside = "inside",
        /// Gradient / (√square + ε).
        Outside = "outside",
    }
}

words! {
    /// What RMSProp's momentum gathers; the same without momentum or at a constant learning rate.
    pub enum MomentumForm {
        /// `m ← μ·m + η·u`, `w ← w − m`.
        Steps = "steps",
        /// `m ← μ·m + u`, `w ← w − η·m`.
        Directions = "directions",
    }
}

words! {
    /// Which parameters weight decay acts on.
    pub enum DecayedParameters {
        /// Those of convolutions and the linear layer; batch norm's affine parameters and biases are
        /// spared.
        Weights = "weights",
        /// Every parameter.
        All = "all",
    }
}

kinds! {
    /// The learning rate over time.
    pub enum ScheduleSection {
        /// Drops at equal intervals (the paper's, §4).
        Steps = "steps" {
            /// The first learning rate.
            learning_rate: f64 = 0.45, ABOVE_ZERO;
            /// Time between two drops.
            every: Duration = Duration::Steps(160_000), some(every);
            /// What a drop multiplies by.
            factor: f64 = 0.1,
                Number("a number above 0 and at most 1", |x| x > 0.0 && x <= 1.0);
        },
        /// Linear warm-up, then half a cosine down.
        Cosine = "cosine" {
            /// The peak.
            learning_rate: f64 [0.1], ABOVE_ZERO;
            /// Time to the peak.
            warm_up: Duration = Duration::Steps(0);
            /// The last learning rate.
            final_learning_rate: f64 = 0.0,
                Relative("a number from 0 to schedule.learning_rate", {
                    (0.0..=learning_rate).contains(&final_learning_rate)
                });
        },
        /// Linear warm-up, then linearly down.
        OneCycle = "one-cycle" {
            /// The peak.
            learning_rate: f64 [0.1], ABOVE_ZERO;
            /// Time to the peak.
            warm_up: Duration = Duration::Epochs(1.0);
            /// The last learning rate.
            final_learning_rate: f64 = 0.0,
                Relative("a number from 0 to schedule.learning_rate", {
                    (0.0..=learning_rate).contains(&final_learning_rate)
                });
        },
        /// Always the same.
        Constant = "constant" {
            /// The learning rate.
            learning_rate: f64 [0.1], ABOVE_ZERO;
        },
    }
}

section! {
    /// Terms of the modules are dropped at random (§4, Fig. 10).
    #[derive(Copy)]
    pub struct StochasticPathsSection {
        /// From when on.
        when: When = When::Never;
        /// The chance that a path of the last module is dropped; it rises linearly from 0 in the first.
        /// The default is the paper's.
        max_drop: f64 = 0.25, BELOW_ONE;
        /// For `adaptive`: by how much training top-1 must exceed validation top-1.
        gap: Option<f64> = (when == When::Adaptive).then_some(0.1),
            Relative("no such key unless when = \"adaptive\"", gap.is_none() || when == When::Adaptive),
            Number("a difference of accuracies above 0 and below 1", |x| x > 0.0 && x < 1.0);
        /// For `adaptive`: at how many validations in a row.
        patience: Option<u64> = (when == When::Adaptive).then_some(3),
            Relative("no such key unless when = \"adaptive\"", patience.is_none() || when == When::Adaptive),
            Count(1..=u64::MAX, "validation");
    }
}

section! {
    /// How long, in what batches, and what is kept on the way.
    pub struct TrainingSection {
        /// Images of a step.
        batch_size: u64 = 256, Count(1..=1 << 20, "images");
        /// Parts that a step's batch is computed in, one after the other, to save memory; batch norm sees
        /// one part at a time unless it is synchronised, and the gradient is the mean over all images.
        /// Ranks share the parts: where it is 1, there are as many as ranks.
        accumulate: u64 = 1,
            Relative("a number of parts that divides training.batch_size", {
                accumulate > 0 && batch_size.is_multiple_of(accumulate)
            });
        /// Whose images batch norm takes its statistics from.
        batch_norm: NormGroup = NormGroup::Local;
        /// Length of the whole run.
        duration: Duration = Duration::Steps(560_000), some(duration);
        /// Share of the target that is spread over all classes (§4: none).
        label_smoothing: f64 = 0.0, BELOW_ONE;
        /// The largest norm of all gradients together; a larger gradient is shortened to it.
        clip_norm: Option<f64>, ABOVE_ZERO;
        /// The largest absolute value of a gradient's element; larger ones are cut.
        clip_value: Option<f64>, ABOVE_ZERO;
        /// How much of the weights' moving average is kept at a step: the average is what is validated and
        /// saved. Without it the weights themselves are.
        ema: Option<f64>, BELOW_ONE;
        /// What feature maps and products are computed in, where the device has it; weights, sums, statistics
        /// and the optimizer are `f32` in either case.
        precision: Precision = Precision::F32;
        /// What of the forward pass is kept for the backward pass.
        activations: Activations = Activations::Kept;
        /// Time between two validations; zero: only at the end.
        validate_every: Duration = Duration::Epochs(1.0);
        /// Time between two checkpoints; zero: only at the end.
        checkpoint_every: Duration = Duration::Epochs(1.0);
        /// Steps of one training record.
        log_every: u64 = 50, Count(1..=u64::MAX, "step");
    }
}

section! {
    /// What a run leaves beside its metrics, curves, checkpoints and model.
    #[derive(Default)]
    pub struct RecordSection {
        /// Writes event files for TensorBoard into the run folder's `tensorboard`.
        tensorboard: bool = false;
    }
}

words! {
    /// Whose images batch norm takes its statistics from.
    pub enum NormGroup {
        /// Each part of a batch has its own (the paper's).
        Local = "local",
        /// All images of a step, in whatever parts and on whatever ranks (Peng et al. 2018, MegDet; the
        /// paper has none of it). All parts of a rank are in memory at the same time. On a GPU one rank
        /// computes its batches whole, and several are refused.
        Synchronised = "synchronised",
    }
}

words! {
    impl Precision {
        /// 32 bits.
        F32 = "f32",
        /// 16 bits with the exponent of `f32`.
        Bf16 = "bf16",
    }
}

words! {
    impl Activations {
        /// Every feature map.
        Kept = "kept",
        /// The inputs of modules: what is within is computed again, which trades time for memory.
        Recomputed = "recomputed",
    }
}
