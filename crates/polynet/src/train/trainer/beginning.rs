//! How a run begins and goes on: data, network and checkpoint made ready, by all ranks alike.

use super::{Trainer, Writer};
use crate::distributed::{Communicator, Exchange};
use crate::engine::TrainingEngine;
use crate::files::FolderLock;
use crate::params::{ModelConfig, Params, TensorMap, WeightError};
use crate::report::{MetricsLog, RunFolder};
use crate::train::TrainError;
use crate::train::average::WeightAverage;
use crate::train::checkpoint::{self, Position};
use crate::train::optimizer::Optimizer;
use crate::train::progress::{Progress, Warning};
use crate::train::ranks::{self, Ranks};
use crate::train::recipe::Recipe;
use crate::train::run_data::{ChangedData, DataRecord, RunData};
use crate::train::setup::{self, Setup};
use crate::train::speed::Speed;
use crate::train::step::GradientRule;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

impl Writer {
    /// Goes on with the records of a run after its first `step` steps.
    fn resume(
        owner: FolderLock,
        folder: &RunFolder,
        step: u64,
        progress: &mut dyn Progress,
    ) -> Result<Self, TrainError> {
        let (metrics, torn_line) =
            MetricsLog::resume(&folder.metrics(), &folder.metrics_table(), step)?;
        if let Some(line) = torn_line {
            let path = folder.metrics();
            progress.warning(&Warning::TornMetrics { path, line });
        }
        Ok(Self {
            metrics,
            _owner: owner,
        })
    }
}

impl Trainer {
    /// A new run in an empty folder. Data and architecture are checked before the folder is made.
    ///
    /// # Errors
    /// If the recipe's data, architecture, device or initial weights cannot be had, or the folder
    /// is not empty.
    pub fn start(
        recipe: Recipe,
        folder: &Path,
        command: &[String],
        progress: &mut dyn Progress,
    ) -> Result<Self, TrainError> {
        Self::start_on(
            &Arc::new(Communicator::alone()),
            recipe,
            folder,
            command,
            progress,
        )
    }

    /// As [`Trainer::start`], as one of several ranks. The recipe's `training.accumulate`, if it is 1,
    /// becomes the number of ranks. Only rank 0 writes.
    ///
    /// # Errors
    /// As [`Trainer::start`], on every rank if on one; and if the ranks cannot share a batch evenly or
    /// differ in program, recipe, data or processor features.
    pub fn start_on(
        communicator: &Arc<Communicator>,
        mut recipe: Recipe,
        folder: &Path,
        command: &[String],
        progress: &mut dyn Progress,
    ) -> Result<Self, TrainError> {
        let mut prepare = || {
            let ranks = Ranks::new(communicator, &mut recipe)?;
            let setup = Setup::new(&recipe, &ranks, progress, |_| RunData::open(&recipe))?;
            let params = setup.initial_params(&recipe, progress)?;
            let (mut folder, mut writer) = (RunFolder::of_writer(folder), None);
            if ranks.is_writer() {
                let owner;
                (folder, owner) = RunFolder::create(folder.root())?;
                setup.data.write(&folder)?;
                folder.add_command(command)?;
                let metrics = MetricsLog::create(&folder.metrics(), &folder.metrics_table())?;
                // Last: what is there of a run with a recipe is whole.
                folder.write_recipe(&recipe.to_toml()?)?;
                writer = Some(Writer {
                    metrics,
                    _owner: owner,
                });
            }
            Ok(Self::new(
                recipe.clone(),
                folder,
                setup,
                params,
                writer,
                ranks,
            ))
        };
        let mut trainer = ranks::agree(communicator, prepare())?;
        trainer.compare_ranks()?;
        trainer.announce_paths(progress)?;
        Ok(trainer)
    }

    /// Goes on with a run from its newest checkpoint, or from its beginning where it has none.
    ///
    /// # Errors
    /// As [`Trainer::start`], and if the checkpoint does not fit the recipe.
    pub fn resume(
        folder: &Path,
        command: &[String],
        progress: &mut dyn Progress,
    ) -> Result<Self, TrainError> {
        Self::resume_on(&Arc::new(Communicator::alone()), folder, command, progress)
    }

    /// As [`Trainer::resume`], as one of several ranks: as many as before or another number that
    /// divides the recipe's `training.accumulate`. All ranks read the run's folder.
    ///
    /// # Errors
    /// As [`Trainer::resume`] and [`Trainer::start_on`].
    pub fn resume_on(
        communicator: &Arc<Communicator>,
        folder: &Path,
        command: &[String],
        progress: &mut dyn Progress,
    ) -> Result<Self, TrainError> {
        Self::resume_with(communicator, folder, ChangedData::Refuse, command, progress)
    }

    /// As [`Trainer::resume_on`], saying what becomes of a run whose data is not what it began with.
    ///
    /// # Errors
    /// As [`Trainer::resume_on`].
    pub fn resume_with(
        communicator: &Arc<Communicator>,
        folder: &Path,
        changed: ChangedData,
        command: &[String],
        progress: &mut dyn Progress,
    ) -> Result<Self, TrainError> {
        let prepared = Self::resume_alone(communicator, folder, changed, command, progress);
        let trainer = ranks::agree(communicator, prepared)?;
        trainer.compare_ranks()?;
        Ok(trainer)
    }

    fn resume_alone(
        communicator: &Arc<Communicator>,
        folder: &Path,
        changed: ChangedData,
        command: &[String],
        progress: &mut dyn Progress,
    ) -> Result<Self, TrainError> {
        let folder = RunFolder::open(folder)?;
        let mut recipe = Recipe::load(&folder.recipe(), &[])?;
        let ranks = Ranks::new(communicator, &mut recipe)?;
        let owner = ranks.is_writer().then(|| folder.own()).transpose()?;
        let kept = DataRecord::read(&folder)?;
        let placed = match &kept {
            Some(kept) => kept.placed(&recipe),
            None => recipe.clone(),
        };
        let mut differences = Vec::new();
        let mut setup = Setup::new(&placed, &ranks, progress, |progress| {
            let data = RunData::open(&placed)?;
            differences = compare_data(kept.as_ref(), &data, changed, &folder, progress)?;
            Ok(data)
        })?;
        let loaded = checkpoint::load_newest(&folder.checkpoints())?;
        let (params, saved) = match loaded {
            Some(loaded) => {
                if ranks.is_writer() {
                    set_aside(&loaded.damaged, progress)?;
                }
                let (position, mut tensors) = (loaded.position, loaded.tensors);
                let params = setup.params_from(&folder.checkpoints(), &mut tensors)?;
                (params, Some((position, tensors)))
            }
            None => (setup.initial_params(&recipe, progress)?, None),
        };
        let step = saved.as_ref().map_or(0, |(position, _)| position.step);
        if let Some(kept) = kept {
            setup.data = kept.changed_to(setup.data, step, &differences);
        }
        let writer = match owner {
            Some(owner) => Some(Writer::resume(owner, &folder, step, progress)?),
            None => None,
        };
        if writer.is_some() {
            folder.write_recipe(&recipe.to_toml()?)?;
            folder.add_command(command)?;
            setup.data.write(&folder)?;
        }
        let mut trainer = Self::new(recipe, folder, setup, params, writer, ranks);
        if let Some((position, tensors)) = saved {
            trainer.restore(position, tensors)?;
        }
        for difference in differences {
            trainer.record_event(&format!("goes on with changed data: {difference}"))?;
        }
        Ok(trainer)
    }

    /// Whether all ranks would compute the same.
    fn compare_ranks(&self) -> Result<(), TrainError> {
        self.ranks.compare(&format!(
            "polynet {}, kernels for {}, from step {}\n{}\n{}",
            env!("CARGO_PKG_VERSION"),
            polynet_kernels::Isa::best(),
            self.position.step,
            self.setup.data.summary(),
            self.recipe.to_toml().unwrap_or_default(),
        ))
    }

    fn new(
        recipe: Recipe,
        folder: RunFolder,
        setup: Setup,
        params: Params,
        writer: Option<Writer>,
        ranks: Ranks,
    ) -> Self {
        let origin = setup::origin(&recipe, &setup);
        let config = ModelConfig::new(
            &setup.architecture,
            setup.classes.clone(),
            setup.preprocessing.clone(),
            origin,
        );
        Self {
            rule: GradientRule::new(&recipe, setup.fine_tuning.frozen.clone()),
            optimizer: Optimizer::new(recipe.optimizer, &params)
                .with_rates(setup.fine_tuning.rates.clone()),
            average: (recipe.training.ema).map(|ema| WeightAverage::new(ema, &params)),
            engine: TrainingEngine::new(Arc::clone(&setup.graph), setup.device),
            recipe,
            folder,
            setup,
            config,
            params,
            position: Position::default(),
            writer,
            ranks,
            saved_step: None,
            told: HashSet::new(),
            started: Instant::now(),
            speed: Speed::default(),
            exchange: Exchange::default(),
        }
    }

    fn restore(&mut self, position: Position, mut tensors: TensorMap) -> Result<(), TrainError> {
        let mut restored = self.optimizer.restore(&self.params, &mut tensors);
        if let Some(average) = &mut self.average {
            restored = restored.and_then(|()| average.restore(&mut tensors));
        }
        if let Err(tensor) = restored {
            return Err(TrainError::Checkpoint {
                folder: self.folder.checkpoints(),
                tensor,
            });
        }
        self.saved_step = Some(position.step);
        self.position = position;
        self.describe_scale();
        Ok(())
    }
}

/// What of a run's data has changed since it began, and is let through.
fn compare_data(
    kept: Option<&DataRecord>,
    data: &RunData,
    changed: ChangedData,
    folder: &RunFolder,
    progress: &mut dyn Progress,
) -> Result<Vec<String>, TrainError> {
    let Some(kept) = kept else {
        progress.message(
            "the run began with a version that remembers nothing of its data; whether it is the \
             same is unchecked",
        );
        return Ok(Vec::new());
    };
    let differences = kept.differences(&data.record);
    if !differences.is_empty() && changed == ChangedData::Refuse {
        return Err(TrainError::DataChanged {
            path: data.train.path().to_owned(),
            folder: folder.root().to_owned(),
            differences,
        });
    }
    for difference in &differences {
        progress.message(&format!("going on with changed data: {difference}"));
    }
    Ok(differences)
}

/// Keeps damaged checkpoints out of the way, and says so.
fn set_aside(
    damaged: &[(PathBuf, WeightError)],
    progress: &mut dyn Progress,
) -> Result<(), TrainError> {
    for (path, error) in damaged {
        let aside = checkpoint::set_aside(path)?;
        let reason = error.to_string();
        progress.warning(&Warning::DamagedCheckpoint { aside, reason });
    }
    Ok(())
}
