//! The range of every key.

use std::fmt;

use super::{
    AugmentationSection, OptimizerAlgorithm, OptimizerSection, PreprocessingSection, Recipe,
    Resize, ScheduleSection, StochasticPathsSection, TrainingSection, When,
};
use crate::train::duration::Duration;

/// The largest image side, in pixels, that a recipe may ask for.
const LARGEST_SIDE: u32 = 1 << 14;

/// A key whose value is out of its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OutOfRange {
    pub(super) key: &'static str,
    expected: &'static str,
    came: String,
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            expected,
            came,
        } = self;
        write!(f, "`{key}`: expected {expected}, came {came}")
    }
}

/// Every key of the recipe that is out of its range.
pub(super) fn faults(recipe: &Recipe) -> Vec<OutOfRange> {
    let mut ranges = Ranges(Vec::new());
    ranges.top(recipe);
    for rate in recipe.fine_tuning.rates.values() {
        ranges.above_zero("fine_tuning.rates", *rate);
    }
    ranges.preprocessing(&recipe.preprocessing);
    ranges.augmentation(&recipe.augmentation);
    ranges.optimizer(&recipe.optimizer);
    ranges.schedule(&recipe.schedule);
    ranges.stochastic_paths(&recipe.stochastic_paths);
    ranges.training(&recipe.training);
    ranges.0
}

struct Ranges(Vec<OutOfRange>);

impl Ranges {
    fn expect(
        &mut self,
        holds: bool,
        key: &'static str,
        expected: &'static str,
        came: &dyn fmt::Display,
    ) {
        if !holds {
            let came = came.to_string();
            self.0.push(OutOfRange {
                key,
                expected,
                came,
            });
        }
    }

    fn at_least_zero(&mut self, key: &'static str, value: f64) {
        let holds = value >= 0.0 && value.is_finite();
        self.expect(holds, key, "a number of at least 0", &value);
    }

    fn above_zero(&mut self, key: &'static str, value: f64) {
        let holds = value > 0.0 && value.is_finite();
        self.expect(holds, key, "a number above 0", &value);
    }

    fn chance(&mut self, key: &'static str, value: f64) {
        self.expect(
            (0.0..=1.0).contains(&value),
            key,
            "a chance from 0 to 1",
            &value,
        );
    }

    fn below_one(&mut self, key: &'static str, value: f64) {
        let expected = "a number of at least 0 and below 1";
        self.expect((0.0..1.0).contains(&value), key, expected, &value);
    }

    fn side(&mut self, key: &'static str, side: u32) {
        let holds = (1..=LARGEST_SIDE).contains(&side);
        self.expect(holds, key, "a side from 1 to 16384 pixels", &side);
    }

    fn duration(&mut self, key: &'static str, duration: &Duration) {
        let expected = "a finite duration, not negative";
        self.expect(duration.is_sayable(), key, expected, duration);
    }

    fn long_duration(&mut self, key: &'static str, duration: &Duration) {
        let holds = duration.is_sayable() && !duration.is_zero();
        self.expect(holds, key, "a finite duration above 0", duration);
    }

    fn top(&mut self, recipe: &Recipe) {
        let seed = i64::try_from(recipe.seed).is_ok();
        self.expect(
            seed,
            "seed",
            "a seed below 2^63, which TOML can hold",
            &recipe.seed,
        );
        self.expect(!recipe.name.is_empty(), "name", "a name", &"none");
        self.expect(
            !recipe.device.is_empty(),
            "device",
            "a device such as \"cpu\"",
            &"none",
        );
        let architecture = !recipe.model.architecture.trim().is_empty();
        let expected = "a preset such as \"ir-3-6-3\" or a network's text";
        self.expect(architecture, "model.architecture", expected, &"none");
        let path = !recipe.data.path.as_os_str().is_empty();
        self.expect(
            path,
            "data.path",
            "an image folder or a .tar of one",
            &"none",
        );
        if let Some(share) = recipe.data.validation_fraction {
            let key = "data.validation_fraction";
            let holds = share > 0.0 && share < 1.0;
            self.expect(holds, key, "a share above 0 and below 1", &share);
        }
        let threads = recipe.data.threads;
        let expected = "at most 1024 threads (0: one for each core)";
        self.expect(threads <= 1024, "data.threads", expected, &threads);
    }

    fn preprocessing(&mut self, preprocessing: &PreprocessingSection) {
        if let Some(size) = preprocessing.size {
            self.side("preprocessing.size", size);
        }
        if let Some(Resize::Exact(side) | Resize::ShorterSide(side)) = preprocessing.resize {
            self.side("preprocessing.resize", side);
        }
        for mean in preprocessing.mean.iter().flatten() {
            let key = "preprocessing.mean";
            self.expect(mean.is_finite(), key, "finite numbers", mean);
        }
        for std in preprocessing.std.iter().flatten() {
            self.above_zero("preprocessing.std", *std);
        }
    }

    fn augmentation(&mut self, augmentation: &AugmentationSection) {
        match *augmentation {
            AugmentationSection::MultiArea {
                min_area,
                aspect: [narrow, wide],
                flip,
            } => {
                let holds = min_area > 0.0 && min_area <= 1.0;
                let expected = "a share above 0 and at most 1";
                self.expect(holds, "augmentation.min_area", expected, &min_area);
                let holds = narrow > 0.0 && narrow <= wide && wide.is_finite();
                let expected = "two numbers above 0, the smaller first";
                let came = format!("[{narrow}, {wide}]");
                self.expect(holds, "augmentation.aspect", expected, &came);
                self.chance("augmentation.flip", flip);
            }
            AugmentationSection::PadCrop { padding, flip } => {
                let holds = padding <= LARGEST_SIDE;
                let expected = "at most 16384 pixels";
                self.expect(holds, "augmentation.padding", expected, &padding);
                self.chance("augmentation.flip", flip);
            }
            AugmentationSection::None => {}
        }
    }

    fn optimizer(&mut self, optimizer: &OptimizerSection) {
        self.at_least_zero("optimizer.weight_decay", optimizer.weight_decay);
        match optimizer.algorithm {
            OptimizerAlgorithm::RmsProp {
                decay,
                epsilon,
                initial_square,
                momentum,
                epsilon_position: _,
                momentum_form: _,
            } => {
                self.below_one("optimizer.decay", decay);
                self.above_zero("optimizer.epsilon", epsilon);
                self.at_least_zero("optimizer.initial_square", initial_square);
                self.below_one("optimizer.momentum", momentum);
            }
            OptimizerAlgorithm::Sgd {
                momentum,
                nesterov,
                dampening,
            } => {
                self.below_one("optimizer.momentum", momentum);
                self.below_one("optimizer.dampening", dampening);
                let holds = !nesterov || (momentum > 0.0 && dampening == 0.0);
                let expected = "momentum above 0 and dampening 0, or nesterov = false";
                let came = format!("momentum {momentum} and dampening {dampening}");
                self.expect(holds, "optimizer.nesterov", expected, &came);
            }
            OptimizerAlgorithm::AdamW {
                beta1,
                beta2,
                epsilon,
            } => {
                self.below_one("optimizer.beta1", beta1);
                self.below_one("optimizer.beta2", beta2);
                self.above_zero("optimizer.epsilon", epsilon);
            }
        }
    }

    fn schedule(&mut self, schedule: &ScheduleSection) {
        match *schedule {
            ScheduleSection::Constant { learning_rate } => {
                self.above_zero("schedule.learning_rate", learning_rate);
            }
            ScheduleSection::Steps {
                learning_rate,
                every,
                factor,
            } => {
                self.above_zero("schedule.learning_rate", learning_rate);
                self.long_duration("schedule.every", &every);
                let holds = factor > 0.0 && factor <= 1.0;
                let expected = "a number above 0 and at most 1";
                self.expect(holds, "schedule.factor", expected, &factor);
            }
            ScheduleSection::Cosine {
                learning_rate,
                final_learning_rate,
                warm_up,
            }
            | ScheduleSection::OneCycle {
                learning_rate,
                final_learning_rate,
                warm_up,
            } => {
                self.above_zero("schedule.learning_rate", learning_rate);
                self.duration("schedule.warm_up", &warm_up);
                let holds = (0.0..=learning_rate).contains(&final_learning_rate);
                let expected = "a number from 0 to schedule.learning_rate";
                self.expect(
                    holds,
                    "schedule.final_learning_rate",
                    expected,
                    &final_learning_rate,
                );
            }
        }
    }

    fn stochastic_paths(&mut self, paths: &StochasticPathsSection) {
        self.below_one("stochastic_paths.max_drop", paths.max_drop);
        if let When::From(duration) = &paths.when {
            self.duration("stochastic_paths.when", duration);
        }
        let adaptive = paths.when == When::Adaptive;
        let beside = "no such key unless when = \"adaptive\"";
        if let Some(gap) = paths.gap {
            self.expect(adaptive, "stochastic_paths.gap", beside, &gap);
            let holds = gap > 0.0 && gap < 1.0;
            let expected = "a difference of accuracies above 0 and below 1";
            self.expect(holds, "stochastic_paths.gap", expected, &gap);
        }
        if let Some(patience) = paths.patience {
            self.expect(adaptive, "stochastic_paths.patience", beside, &patience);
            let expected = "at least 1 validation";
            let key = "stochastic_paths.patience";
            self.expect(patience > 0, key, expected, &patience);
        }
    }

    fn training(&mut self, training: &TrainingSection) {
        let batch_size = training.batch_size;
        let accumulate = training.accumulate;
        let holds = accumulate > 0 && batch_size.is_multiple_of(accumulate);
        let expected = "a number of parts that divides training.batch_size";
        self.expect(holds, "training.accumulate", expected, &accumulate);
        if let Some(norm) = training.clip_norm {
            self.above_zero("training.clip_norm", norm);
        }
        if let Some(value) = training.clip_value {
            self.above_zero("training.clip_value", value);
        }
        if let Some(kept) = training.ema {
            self.below_one("training.ema", kept);
        }
        let holds = (1..=1 << 20).contains(&batch_size);
        let expected = "from 1 to 1048576 images";
        self.expect(holds, "training.batch_size", expected, &batch_size);
        self.long_duration("training.duration", &training.duration);
        self.duration("training.validate_every", &training.validate_every);
        self.duration("training.checkpoint_every", &training.checkpoint_every);
        self.below_one("training.label_smoothing", training.label_smoothing);
        let log_every = training.log_every;
        let expected = "at least 1 step";
        self.expect(log_every > 0, "training.log_every", expected, &log_every);
    }
}
