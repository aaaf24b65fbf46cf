//! What a recipe means: data, network and schedule made ready before the first step.

use super::error::TrainError;
use super::fine_tuning::{self, FineTuning};
use super::paths::PathSchedule;
use super::progress::{Progress, Warning};
use super::ranks::Ranks;
use super::recipe::{
    AugmentationSection, FirstFilters, NormGroup, OnError, Recipe, Resize as RecipeResize, When,
};
use super::run_data::{DataRecord, RunData};
use super::{Epoch, Schedule, whitening};
use crate::arch::{Architecture, Family, Graph};
use crate::data::{
    self, Augmentation, ClassNames, Dataset, LastBatch, Loader, LoaderConfig, Order, PadFill,
    Preprocessing, Resize, Share, View,
};
use crate::distributed;
use crate::engine::Device;
use crate::eval;
use crate::params::{ModelConfig, ModelFolder, Params, TensorMap, WeightError};
use crate::step::Precision;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Images that batch norm should see at a time (paper §4: at least 16 for each GPU).
const LEAST_NORM_GROUP: u64 = 16;
type LoadedBatch = Result<data::Batch, data::DataError>;

/// Images of a validation batch.
const VALIDATION_BATCH: u64 = 100;

/// All that a run needs and a recipe names.
pub(super) struct Setup {
    /// What the run remembers of its data.
    pub(super) data: DataRecord,
    /// The model that it begins with, where it lies.
    pub(super) init: Option<PathBuf>,
    pub(super) architecture: Architecture,
    pub(super) classes: ClassNames,
    pub(super) preprocessing: Preprocessing,
    pub(super) training: Loader,
    pub(super) validation: Loader,
    pub(super) epoch: Epoch,
    pub(super) schedule: Schedule,
    pub(super) fine_tuning: FineTuning,
    pub(super) paths: PathSchedule,
    /// The architecture that predicts after steps with stochastic paths, and its graph.
    pub(super) scaled: Option<(Architecture, Arc<Graph>)>,
    /// The network that is trained.
    pub(super) graph: Arc<Graph>,
    pub(super) device: Device,
}

impl Setup {
    /// `open` opens the data, once all is right that is known without it.
    pub(super) fn new(
        recipe: &Recipe,
        ranks: &Ranks,
        progress: &mut dyn Progress,
        open: impl FnOnce(&mut dyn Progress) -> Result<RunData, TrainError>,
    ) -> Result<Self, TrainError> {
        let device = recipe.device.parse::<Device>()?;
        let device = device
            .of_local_rank(distributed::local_rank().unwrap_or_default())
            .found()?;
        check_precision(recipe, device)?;
        let mut architecture: Architecture = recipe.model.architecture.parse()?;
        if let Some(size) = recipe.preprocessing.size {
            architecture.input_size = size as usize;
        }
        let graph = architecture.graph()?;
        let fine_tuning = FineTuning::new(&recipe.fine_tuning, &architecture, &graph)?;
        let scaled = scaled(recipe, &architecture)?;
        let preprocessing = preprocessing(recipe, &architecture);
        let data = open(progress)?;
        let classes = ClassNames::new(data.train.classes().to_vec())?;
        if classes.len() != architecture.num_classes {
            return Err(TrainError::Classes {
                expected: architecture.num_classes,
                found: classes.len(),
                path: recipe.data.path.clone(),
            });
        }
        let epoch = Epoch::new(data.train.len() as u64, recipe.training.batch_size)?;
        let config = LoaderConfig {
            last: LastBatch::Drop,
            share: Share::OfBatch(ranks.own_positions()),
            ..loader_config(
                recipe,
                View::Train {
                    augmentation: augmentation(&recipe.augmentation),
                    preprocessing: preprocessing.clone(),
                },
            )
        };
        let training = Loader::new(Arc::new(data.train), config)?;
        let validation = validation(recipe, data.validation, ranks, &preprocessing)?;
        let schedule = recipe.schedule.resolve(&epoch);
        let paths = PathSchedule::new(&recipe.stochastic_paths, &epoch);
        warn_of_warm_up(recipe, &epoch, &schedule, progress);
        warn_of_small_groups(recipe, progress);
        Ok(Self {
            data: data.record,
            init: recipe.model.init.clone(),
            architecture,
            classes,
            preprocessing,
            training,
            validation,
            epoch,
            schedule,
            fine_tuning,
            paths,
            scaled,
            graph: Arc::new(graph),
            device,
        })
    }

    /// The tensors that a run begins with: of the recipe's model, or drawn from its seed.
    pub(super) fn initial_params(
        &self,
        recipe: &Recipe,
        progress: &mut dyn Progress,
    ) -> Result<Params, TrainError> {
        let Some(folder) = &self.init else {
            let mut params = Params::init(&self.graph, recipe.seed);
            if recipe.model.first_filters == Some(FirstFilters::Whitening) {
                let batches = self.undisturbed(recipe)?;
                whitening::whiten(&mut params, &self.graph, batches)?;
            }
            return Ok(params);
        };
        let model = ModelFolder::open(folder)?;
        let mut tensors = model.params.to_map();
        let (old, new) = (&model.config.classes, &self.classes);
        let kept = fine_tuning::fit_head(&mut tensors, old, new, &self.graph, recipe.seed);
        if let Some(kept) = kept {
            progress.message(&format!(
                "the classes differ from those of {}: {kept} of {} keep their row of the \
                 classifier, the others are drawn",
                folder.display(),
                new.len()
            ));
        }
        let params = Params::from_source(&self.graph, &tensors);
        params.map_err(|mismatch| TrainError::Init {
            folder: folder.clone(),
            architecture: self.architecture.to_string(),
            source: Box::new(WeightError::mismatch(folder, mismatch)),
        })
    }

    /// The first training images as evaluation sees them, the same on every rank.
    fn undisturbed(
        &self,
        recipe: &Recipe,
    ) -> Result<impl Iterator<Item = LoadedBatch>, TrainError> {
        let preprocessing = self.preprocessing.clone();
        let config = loader_config(recipe, View::Evaluate { preprocessing });
        let batches = whitening::IMAGES.div_ceil(config.batch_size);
        let loader = Loader::new(Arc::clone(self.training.dataset()), config)?;
        Ok(loader.epoch(0, 0).take(batches))
    }

    /// The network's tensors, taken out of `tensors`.
    pub(super) fn params_from(
        &self,
        path: &Path,
        tensors: &mut TensorMap,
    ) -> Result<Params, TrainError> {
        let names = self.graph.tensors().map(|spec| spec.name);
        let own: TensorMap = names
            .filter_map(|name| tensors.remove_entry(&name))
            .collect();
        let params = Params::from_source(&self.graph, &own)
            .map_err(|mismatch| WeightError::mismatch(path, mismatch))?;
        Ok(params)
    }
}

/// The architecture that predicts after training with the recipe's stochastic paths.
fn scaled(
    recipe: &Recipe,
    architecture: &Architecture,
) -> Result<Option<(Architecture, Arc<Graph>)>, TrainError> {
    let section = &recipe.stochastic_paths;
    if section.when == When::Never {
        return Ok(None);
    }
    let scaled = architecture.with_survival(section.max_drop);
    let scaled = scaled.ok_or(TrainError::ScaledPaths)?;
    let graph = Arc::new(scaled.graph()?);
    Ok(Some((scaled, graph)))
}

/// Whether the device trains in the recipe's precision.
fn check_precision(recipe: &Recipe, device: Device) -> Result<(), TrainError> {
    if recipe.training.precision == Precision::F32 || device.trains_in_bf16() {
        return Ok(());
    }
    Err(TrainError::Precision {
        device: device.to_string(),
    })
}

fn loader_config(recipe: &Recipe, view: View) -> LoaderConfig {
    LoaderConfig {
        seed: recipe.seed,
        order: Order::Shuffled,
        threads: recipe.data.threads as usize,
        on_error: match recipe.data.on_error {
            OnError::Fail => data::OnError::Fail,
            OnError::Skip => data::OnError::Skip,
        },
        ..LoaderConfig::new(recipe.training.batch_size as usize, view)
    }
}

fn validation(
    recipe: &Recipe,
    dataset: Dataset,
    ranks: &Ranks,
    preprocessing: &Preprocessing,
) -> Result<Loader, TrainError> {
    let config = LoaderConfig {
        order: Order::InOrder,
        share: Share::OfEpoch(eval::share_of(ranks.communicator(), dataset.len(), 1)),
        batch_size: VALIDATION_BATCH.min(recipe.training.batch_size) as usize,
        ..loader_config(
            recipe,
            View::Evaluate {
                preprocessing: preprocessing.clone(),
            },
        )
    };
    Ok(Loader::new(Arc::new(dataset), config)?)
}

fn preprocessing(recipe: &Recipe, architecture: &Architecture) -> Preprocessing {
    let size = architecture.input_size;
    let mut preprocessing = match architecture.family {
        Family::Small | Family::Tiny => Preprocessing::small(size),
        _ => Preprocessing::imagenet(size),
    };
    let section = &recipe.preprocessing;
    if let Some(resize) = section.resize {
        preprocessing.resize = match resize {
            RecipeResize::Exact(size) => Resize::Exact {
                size: size as usize,
            },
            RecipeResize::ShorterSide(size) => Resize::ShorterSide {
                size: size as usize,
            },
            RecipeResize::None => Resize::None,
        };
    }
    if let Some(mean) = section.mean {
        preprocessing.mean = mean.map(|value| value as f32);
    }
    if let Some(std) = section.std {
        preprocessing.std = std.map(|value| value as f32);
    }
    preprocessing
}

fn augmentation(section: &AugmentationSection) -> Augmentation {
    match *section {
        AugmentationSection::MultiArea {
            min_area,
            aspect,
            flip,
        } => Augmentation::MultiAreaCrop {
            min_area,
            aspect,
            flip,
        },
        AugmentationSection::PadCrop {
            padding,
            flip,
            cutout,
        } => Augmentation::PadCrop {
            padding: padding as usize,
            fill: PadFill::Mean,
            flip,
            cutout: cutout.unwrap_or(0) as usize,
        },
        AugmentationSection::None => Augmentation::None,
    }
}

fn warn_of_warm_up(
    recipe: &Recipe,
    epoch: &Epoch,
    schedule: &Schedule,
    progress: &mut dyn Progress,
) {
    let total_steps = recipe.training.duration.steps(epoch);
    if let Schedule::Cosine { warm_up, .. } | Schedule::OneCycle { warm_up, .. } = *schedule
        && warm_up >= total_steps
    {
        progress.warning(&Warning::WarmUpTooLong {
            warm_up,
            total_steps,
        });
    }
}

fn warn_of_small_groups(recipe: &Recipe, progress: &mut dyn Progress) {
    let training = &recipe.training;
    let group = match training.batch_norm {
        NormGroup::Local => training.batch_size / training.accumulate.max(1),
        NormGroup::Synchronised => training.batch_size,
    };
    if group < LEAST_NORM_GROUP {
        progress.warning(&Warning::SmallNormGroup {
            is_whole_step: group == training.batch_size,
            group,
            least: LEAST_NORM_GROUP,
        });
    }
}

/// Where the weights of a run come from, for the model card: the recipe, and the history of the model
/// that it starts from, as far as that model is still there.
pub(super) fn origin(recipe: &Recipe, setup: &Setup) -> String {
    let trained = format!("Trained by the recipe `{}`", recipe.name);
    let (Some(name), Some(folder)) = (&recipe.model.init, &setup.init) else {
        return format!("{trained}.");
    };
    let name = name.display();
    match ModelConfig::read(folder) {
        Ok(config) => format!(
            "{trained}, from {name}.\n\nThe history of {name}: {}",
            config.origin
        ),
        Err(_) => format!("{trained}, from {name}."),
    }
}
