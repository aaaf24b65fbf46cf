//! The training loop.
//!
//! A step: the next batch, the gradients of its loss, running statistics, the optimizer's update.
//! Between steps: records, validation, checkpoints, all at step numbers that follow from the
//! recipe alone, so that a resumed run does the same things at the same steps. Where several ranks
//! train together, all do this with the same numbers, and rank 0 alone writes files.

use super::average::WeightAverage;
use super::checkpoint::{self, Position};
use super::error::TrainError;
use super::optimizer::Optimizer;
use super::progress::{Progress, RunStart, Warning};
use super::ranks::{self, Ranks};
use super::recipe::Recipe;
use super::run_data::{ChangedData, DataRecord, RunData};
use super::setup::{self, Setup};
use super::speed::Speed;
use super::step::GradientRule;
use crate::arch::{Architecture, Graph};
use crate::cpu::CompileOptions;
use crate::data::Dataset;
use crate::distributed::{Communicator, Exchange};
use crate::engine::{Predictor, TrainingEngine};
use crate::files::FolderLock;
use crate::params::{ModelConfig, ModelFolder, Params, TensorMap, WeightError};
use crate::report::{EvalReport, EventFile, EventRecord, MetricsLog, Record, RunFolder};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

#[cfg(test)]
mod crashes;
mod steps;

/// How a run ended without an error.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All steps are made; the last validation.
    Finished(EvalReport),
    /// It was asked to stop, and saved a checkpoint after `step` steps.
    Interrupted {
        /// Finished steps.
        step: u64,
    },
}

/// What the rank that writes has.
struct Writer {
    metrics: MetricsLog,
    /// The folder is this process's alone.
    _owner: FolderLock,
}

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

/// A run: recipe, data, network, optimizer and where it stands.
pub struct Trainer {
    recipe: Recipe,
    folder: RunFolder,
    setup: Setup,
    config: ModelConfig,
    rule: GradientRule,
    params: Params,
    engine: TrainingEngine,
    optimizer: Optimizer,
    average: Option<WeightAverage>,
    position: Position,
    /// Only rank 0 has one.
    writer: Option<Writer>,
    ranks: Ranks,
    saved_step: Option<u64>,
    /// The images of which it was told that they are left out.
    told: HashSet<String>,
    started: Instant,
    speed: Speed,
    exchange: Exchange,
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

    /// The network as it predicts now: of averaged weights where the recipe asks for them, and with
    /// paths scaled by their chance to survive where training has dropped some.
    pub fn network(&self) -> (&Graph, &Params) {
        let graph = match self.scaled() {
            Some((_, graph)) => graph,
            None => &self.setup.graph,
        };
        let average = self.average.as_ref();
        (graph, average.map_or(&self.params, WeightAverage::params))
    }

    /// Predicts by [`Trainer::network`], on the device that trains.
    pub fn predictor(&self) -> Predictor {
        let (graph, params) = self.network();
        let options = CompileOptions::own();
        let predictor = Predictor::new(graph, params, self.setup.device, options);
        predictor.expect("the tensors are those of the graph")
    }

    /// The architecture that predicts, if it is not the one that is trained.
    fn scaled(&self) -> Option<&(Architecture, Arc<Graph>)> {
        let Position { step, paths, .. } = &self.position;
        let scaled = self.setup.scaled.as_ref()?;
        let schedule = &self.setup.paths;
        schedule.scales_prediction(paths, *step).then_some(scaled)
    }

    /// Lets the model's config say what [`Trainer::network`] computes.
    fn describe_scale(&mut self) {
        if let Some((architecture, _)) = self.scaled() {
            self.config.architecture = architecture.to_string();
        }
    }

    /// Class names in the order of the logits, and what is done to an image first.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The images that are learned from.
    pub fn dataset(&self) -> &Dataset {
        self.setup.training.dataset()
    }

    /// The held-out images.
    pub fn validation(&self) -> &Dataset {
        self.setup.validation.dataset()
    }

    /// The run's folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// What exchanging gradients has cost this rank so far.
    pub fn exchange(&self) -> Exchange {
        self.exchange
    }

    /// Steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.recipe.training.duration.steps(&self.setup.epoch)
    }

    /// Trains to the end, or until `stop` is set, which saves a checkpoint first.
    ///
    /// # Errors
    /// If a batch cannot be loaded, a file cannot be written, or the loss is not finite.
    pub fn run(
        &mut self,
        progress: &mut dyn Progress,
        stop: &AtomicBool,
    ) -> Result<Outcome, TrainError> {
        progress.started(&RunStart {
            name: self.recipe.name.clone(),
            step: self.position.step,
            total_steps: self.total_steps(),
            epoch_steps: self.setup.epoch.steps(),
            batch_size: self.recipe.training.batch_size,
        });
        let outcome = self.run_to_end(progress, stop);
        progress.finished();
        outcome
    }

    fn run_to_end(
        &mut self,
        progress: &mut dyn Progress,
        stop: &AtomicBool,
    ) -> Result<Outcome, TrainError> {
        let total = self.total_steps();
        let epoch_steps = self.setup.epoch.steps();
        self.begin_events()?;
        self.started = Instant::now();
        if self.position.validation_due {
            self.validate_between_steps(progress)?;
            // Now of a position without the validation.
            self.saved_step = None;
            self.save_checkpoint()?;
        }
        while self.position.step < total {
            let epoch = self.position.step / epoch_steps;
            let first = (self.position.step % epoch_steps) as usize;
            for batch in self.setup.training.epoch(epoch, first) {
                let stop = stop.load(Ordering::Relaxed);
                let (batch, start) = match self.ranks.begin_step(batch, stop) {
                    Ok(begun) => begun,
                    Err(error) => {
                        // All ranks stand at the same step: nothing is lost.
                        self.save_checkpoint()?;
                        return Err(error);
                    }
                };
                if start.stop {
                    return self.interrupt(progress);
                }
                let before = self.position.clone();
                if let Err(error) = self.step(&batch, &start, progress) {
                    if matches!(error, TrainError::Communication(_)) {
                        // Weights change once every rank's share is there: this is the run before the step.
                        self.position = before;
                        self.save_checkpoint()?;
                    }
                    return Err(error);
                }
                self.after_step(progress)?;
                if self.position.step == total {
                    break;
                }
            }
        }
        self.finish(progress)
    }

    /// Begins an event file for TensorBoard, where the recipe asks for one.
    fn begin_events(&mut self) -> Result<(), TrainError> {
        let (true, Some(writer)) = (self.recipe.record.tensorboard, &mut self.writer) else {
            return Ok(());
        };
        let step = self.position.step;
        let events = writer
            .metrics
            .begin_events(&self.folder.tensorboard(), step)?;
        let recipe = format!("```toml\n{}```", self.recipe.to_toml()?);
        Ok(events.text(step, "recipe", &recipe)?)
    }

    /// What TensorBoard is shown by, if it is.
    fn events(&mut self) -> Option<&mut EventFile> {
        self.writer.as_mut()?.metrics.events()
    }

    fn interrupt(&mut self, progress: &mut dyn Progress) -> Result<Outcome, TrainError> {
        self.save_checkpoint()?;
        let step = self.position.step;
        self.record_event("interrupted")?;
        progress.warning(&Warning::Interrupted { step });
        Ok(Outcome::Interrupted { step })
    }

    fn finish(&mut self, progress: &mut dyn Progress) -> Result<Outcome, TrainError> {
        let report = self.validate_or_save(progress)?;
        self.announce(self.position.paths.summary(), progress)?;
        self.save_model()?;
        self.save_checkpoint()?;
        if let Some(writer) = &self.writer {
            writer.metrics.sync()?;
            self.folder.write_curves(&self.recipe.name)?;
            self.folder.write_report(&report)?;
        }
        Ok(Outcome::Finished(report))
    }

    fn save_model(&self) -> Result<(), TrainError> {
        if !self.ranks.is_writer() {
            return Ok(());
        }
        let (_, params) = self.network();
        Ok(ModelFolder::save(
            &self.folder.model(),
            &self.config,
            params,
        )?)
    }

    fn save_checkpoint(&mut self) -> Result<(), TrainError> {
        let Some(writer) = &self.writer else {
            return Ok(());
        };
        if self.saved_step == Some(self.position.step) {
            return Ok(());
        }
        // A run goes on after its checkpoint with the records that lead to it.
        writer.metrics.sync()?;
        let folder = self.folder.checkpoints();
        checkpoint::save(
            &folder,
            &self.params,
            &self.optimizer,
            self.average.as_ref(),
            &self.position,
        )?;
        self.saved_step = Some(self.position.step);
        Ok(())
    }

    fn record_event(&mut self, message: &str) -> Result<(), TrainError> {
        self.record(&Record::Event(EventRecord {
            step: self.position.step,
            epoch: self.epoch(),
            message: message.to_owned(),
        }))?;
        Ok(())
    }

    /// Whether it is recorded: by the rank that writes, and if it is new.
    fn record(&mut self, record: &Record) -> Result<bool, TrainError> {
        match &mut self.writer {
            Some(writer) => Ok(writer.metrics.record(record)?),
            None => Ok(false),
        }
    }

    fn epoch(&self) -> f64 {
        self.setup.epoch.epochs(self.position.step)
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
