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
use super::ranks::Ranks;
use super::recipe::Recipe;
use super::setup::Setup;
use super::speed::Speed;
use super::step::GradientRule;
use crate::arch::{Architecture, Graph};
use crate::cpu::CompileOptions;
use crate::data::Dataset;
use crate::distributed::Exchange;
use crate::engine::{Predictor, TrainingEngine};
use crate::files::FolderLock;
use crate::params::{ModelConfig, ModelFolder, Params};
use crate::report::{EvalReport, EventFile, EventRecord, MetricsLog, Record, RunFolder};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

mod beginning;
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
