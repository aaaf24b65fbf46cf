//! The training loop.
//!
//! A step: the next batch, the gradients of its loss, running statistics, the optimizer's update.
//! Between steps: records, validation, checkpoints, all at step numbers that follow from the
//! recipe alone, so that a resumed run does the same things at the same steps.

use super::average::WeightAverage;
use super::checkpoint::{self, Position};
use super::error::TrainError;
use super::metrics::{EventRecord, MetricsLog, Record, TrainRecord, ValidationRecord};
use super::optimizer::Optimizer;
use super::progress::{Progress, RunStart, StepReport, Warning};
use super::recipe::Recipe;
use super::setup::{self, Setup};
use super::speed::Speed;
use super::step::GradientRule;
use super::{Duration, RunFolder};
use crate::arch::{Architecture, Graph};
use crate::data::{Batch, Dataset, Loader};
use crate::eval::{self, EvalReport};
use crate::nn::Network;
use crate::weights::{Model, ModelConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// How a run ended without an error.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All steps are made; the last validation, where there is something to validate on.
    Finished(Option<EvalReport>),
    /// It was asked to stop, and saved a checkpoint after `step` steps.
    Interrupted {
        /// Finished steps.
        step: u64,
    },
}

/// A run: recipe, data, network, optimizer and where it stands.
pub struct Trainer {
    recipe: Recipe,
    folder: RunFolder,
    setup: Setup,
    config: ModelConfig,
    rule: GradientRule,
    network: Network,
    optimizer: Optimizer,
    average: Option<WeightAverage>,
    position: Position,
    metrics: MetricsLog,
    saved_step: Option<u64>,
    started: Instant,
    speed: Speed,
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
        let setup = Setup::new(&recipe, progress)?;
        let network = setup.initial_network(&recipe)?;
        let folder = RunFolder::create(folder)?;
        folder.write_recipe(&recipe)?;
        folder.add_command(command)?;
        let metrics = MetricsLog::create(&folder.metrics(), &folder.metrics_table())?;
        let mut trainer = Self::new(recipe, folder, setup, network, metrics);
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
        let folder = RunFolder::open(folder)?;
        let recipe = Recipe::load(&folder.recipe(), &[])?;
        let setup = Setup::new(&recipe, progress)?;
        let saved = checkpoint::load_newest(&folder.checkpoints())?;
        let (network, saved) = match saved {
            Some((position, mut tensors)) => {
                let network = setup.network_from(&folder.checkpoints(), &mut tensors)?;
                (network, Some((position, tensors)))
            }
            None => (setup.initial_network(&recipe)?, None),
        };
        let step = saved.as_ref().map_or(0, |(position, _)| position.step);
        folder.add_command(command)?;
        let (metrics, torn_line) =
            MetricsLog::resume(&folder.metrics(), &folder.metrics_table(), step)?;
        if let Some(line) = torn_line {
            let path = folder.metrics();
            progress.warning(&Warning::TornMetrics { path, line });
        }
        let mut trainer = Self::new(recipe, folder, setup, network, metrics);
        if let Some((position, tensors)) = saved {
            trainer.restore(position, tensors)?;
        }
        Ok(trainer)
    }

    fn new(
        recipe: Recipe,
        folder: RunFolder,
        setup: Setup,
        network: Network,
        metrics: MetricsLog,
    ) -> Self {
        let origin = format!("Trained by the recipe `{}`.", recipe.name);
        let config = ModelConfig::new(
            &setup.architecture,
            setup.classes.clone(),
            setup.preprocessing.clone(),
            origin,
        );
        Self {
            rule: GradientRule::new(&recipe),
            optimizer: Optimizer::new(recipe.optimizer, &network),
            average: (recipe.training.ema).map(|ema| WeightAverage::new(ema, &network)),
            recipe,
            folder,
            setup,
            config,
            network,
            position: Position::default(),
            metrics,
            saved_step: None,
            started: Instant::now(),
            speed: Speed::default(),
        }
    }

    fn restore(
        &mut self,
        position: Position,
        mut tensors: crate::weights::TensorMap,
    ) -> Result<(), TrainError> {
        let mut restored = self.optimizer.restore(&self.network, &mut tensors);
        if let Some(average) = &mut self.average {
            restored = restored.and_then(|()| average.restore(&self.network, &mut tensors));
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
    pub fn network(&self) -> Network {
        let graph = match self.scaled() {
            Some((_, graph)) => Arc::clone(graph),
            None => self.network.shared_graph(),
        };
        let average = self.average.as_ref();
        let tensors = average.map_or(self.network.tensors(), WeightAverage::tensors);
        self.network.with(graph, tensors)
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

    /// The held-out images, where there are any.
    pub fn validation(&self) -> Option<&Dataset> {
        let loader = self.setup.validation.as_ref()?;
        Some(loader.dataset())
    }

    /// The run's folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
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
        self.started = Instant::now();
        while self.position.step < total {
            let epoch = self.position.step / epoch_steps;
            let first = (self.position.step % epoch_steps) as usize;
            for batch in self.setup.training.epoch(epoch, first) {
                if stop.load(Ordering::Relaxed) {
                    return self.interrupt(progress);
                }
                self.step(&batch?, progress)?;
                self.after_step(progress)?;
                if self.position.step == total {
                    break;
                }
            }
        }
        self.finish(progress)
    }

    fn interrupt(&mut self, progress: &mut dyn Progress) -> Result<Outcome, TrainError> {
        self.save_checkpoint()?;
        let step = self.position.step;
        self.record_event("interrupted")?;
        progress.warning(&Warning::Interrupted { step });
        Ok(Outcome::Interrupted { step })
    }

    /// One step of the optimizer. A batch whose images were all skipped counts as a step without
    /// an update.
    fn step(&mut self, batch: &Batch, progress: &mut dyn Progress) -> Result<(), TrainError> {
        self.note_skipped(batch, progress);
        let step = self.position.step;
        let rate = self.setup.schedule.learning_rate(step, self.total_steps());
        self.position.step += 1;
        if batch.is_empty() {
            return Ok(());
        }
        let paths = {
            let (graph, state) = (self.network.graph(), &mut self.position.paths);
            self.setup.paths.draw(graph, self.recipe.seed, step, state)
        };
        let gradients = self.rule.gradients(&mut self.network, batch, &paths, step);
        if !gradients.loss.is_finite() {
            return Err(TrainError::NotFinite {
                step: step + 1,
                loss: gradients.loss,
                learning_rate: rate,
            });
        }
        self.optimizer
            .update(&mut self.network, gradients.tensors, rate);
        self.position.updates += 1;
        if let Some(average) = &mut self.average {
            average.update(&self.network, self.position.updates);
        }
        let correct = eval::count_correct(&gradients.logits, &batch.labels);
        let (images, loss) = (batch.len() as u64, gradients.loss);
        self.position.window.add(images, correct, loss);
        self.position.paths.add(images, correct, loss);
        self.describe_scale();
        self.speed
            .add(batch.len(), self.started.elapsed().as_secs_f64());
        progress.step(&StepReport {
            step: self.position.step,
            epoch: self.epoch(),
            loss: self.position.window.loss(),
            top1: self.position.window.top1(),
            images_per_s: self.speed.images_per_s(),
        });
        Ok(())
    }

    fn note_skipped(&mut self, batch: &Batch, progress: &mut dyn Progress) {
        let Some(first) = batch.skipped.first() else {
            return;
        };
        if self.position.skipped == 0 {
            progress.warning(&Warning::SkippedImages {
                count: batch.skipped.len() as u64,
                first: PathBuf::from(&first.path),
                reason: first.reason.clone(),
            });
        }
        self.position.skipped += batch.skipped.len() as u64;
    }

    /// Records, validation and checkpoint where the step number asks for them.
    fn after_step(&mut self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        let (step, training) = (self.position.step, &self.recipe.training);
        let is_last = step == self.total_steps();
        let due = |every: Duration| {
            let steps = every.steps(&self.setup.epoch);
            steps > 0 && step.is_multiple_of(steps)
        };
        let validate = is_last || due(training.validate_every);
        let save = is_last || due(training.checkpoint_every);
        if step.is_multiple_of(training.log_every.max(1)) || is_last {
            self.record_window()?;
        }
        if validate && !is_last {
            let report = self.validate(progress)?;
            if let Some(top1) = report.and_then(|report| report.top1) {
                let state = &mut self.position.paths;
                let said = self.setup.paths.observe(state, step, top1);
                self.announce(said, progress)?;
            }
        }
        if !is_last {
            self.announce_paths(progress)?;
        }
        if save && !is_last {
            self.save_checkpoint()?;
        }
        Ok(())
    }

    /// Says so if the next step is the first that drops paths, by the recipe alone.
    fn announce_paths(&mut self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        self.announce(self.setup.paths.announcement(self.position.step), progress)
    }

    fn announce(
        &mut self,
        said: Option<String>,
        progress: &mut dyn Progress,
    ) -> Result<(), TrainError> {
        let Some(said) = said else { return Ok(()) };
        progress.message(&format!("step {}  {said}", self.position.step));
        self.record_event(&said)
    }

    fn record_window(&mut self) -> Result<(), TrainError> {
        let window = std::mem::take(&mut self.position.window);
        if window.images() == 0 {
            return Ok(());
        }
        let step = self.position.step;
        let schedule = &self.setup.schedule;
        self.metrics.record(&Record::Train(TrainRecord {
            step,
            epoch: self.epoch(),
            images: step * self.recipe.training.batch_size,
            loss: window.loss(),
            top1: window.top1(),
            learning_rate: schedule.learning_rate(step - 1, self.total_steps()),
            images_per_s: self.speed.images_per_s(),
        }))?;
        Ok(())
    }

    fn validate(&mut self, progress: &mut dyn Progress) -> Result<Option<EvalReport>, TrainError> {
        let Some(loader) = &self.setup.validation else {
            return Ok(None);
        };
        let paused = Instant::now();
        let report = validate(&self.network(), loader, &self.config.classes, progress)?;
        let record = ValidationRecord {
            step: self.position.step,
            epoch: self.epoch(),
            loss: report.loss.unwrap_or(f64::NAN),
            top1: report.top1.unwrap_or_default(),
            top5: report.top5.unwrap_or_default(),
        };
        self.metrics.record(&Record::Validation(record))?;
        progress.validation(&record);
        let best = self.position.best_top1;
        self.position.best_top1 = Some(best.map_or(record.top1, |best| best.max(record.top1)));
        self.save_model()?;
        self.started += paused.elapsed();
        Ok(Some(report))
    }

    fn finish(&mut self, progress: &mut dyn Progress) -> Result<Outcome, TrainError> {
        let report = self.validate(progress)?;
        self.announce(self.position.paths.summary(), progress)?;
        self.save_model()?;
        self.save_checkpoint()?;
        setup::write_curves(&self.folder, &self.recipe.name)?;
        Ok(Outcome::Finished(report))
    }

    fn save_model(&self) -> Result<(), TrainError> {
        Ok(Model::save(
            &self.folder.model(),
            &self.config,
            &self.network(),
        )?)
    }

    fn save_checkpoint(&mut self) -> Result<(), TrainError> {
        if self.saved_step == Some(self.position.step) {
            return Ok(());
        }
        let folder = self.folder.checkpoints();
        checkpoint::save(
            &folder,
            &self.network,
            &self.optimizer,
            self.average.as_ref(),
            &self.position,
        )?;
        self.saved_step = Some(self.position.step);
        Ok(())
    }

    fn record_event(&mut self, message: &str) -> Result<(), TrainError> {
        self.metrics.record(&Record::Event(EventRecord {
            step: self.position.step,
            epoch: self.epoch(),
            message: message.to_owned(),
        }))?;
        Ok(())
    }

    fn epoch(&self) -> f64 {
        self.setup.epoch.epochs(self.position.step)
    }
}

/// Scores the validation images.
fn validate(
    network: &Network,
    loader: &Loader,
    classes: &[String],
    progress: &mut dyn Progress,
) -> Result<EvalReport, TrainError> {
    let total = loader.dataset().len() as u64;
    let mut done = 0;
    Ok(eval::evaluate(network, classes, loader, |batch| {
        done += (batch.len() + batch.skipped.len()) as u64;
        progress.validating(done, total);
    })?)
}
