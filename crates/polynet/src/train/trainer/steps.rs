//! One step of a run, and what is due after it: records, validation, the rule of stochastic paths,
//! checkpoints.

use super::Trainer;
use crate::data::{Batch, Loader, Share, Skipped};
use crate::engine::Predictor;
use crate::eval::{self, Scores};
use crate::report::{EvalReport, Record, TrainRecord, ValidationRecord};
use crate::train::progress::{Progress, StepReport, Warning};
use crate::train::ranks::StepStart;
use crate::train::step::Trainee;
use crate::train::{Duration, TrainError};
use std::time::Instant;

/// Images of the first batch that TensorBoard is shown.
const FIRST_SHOWN: usize = 16;

impl Trainer {
    /// One step of the optimizer. A batch whose images were all skipped counts as a step without
    /// an update.
    pub(super) fn step(
        &mut self,
        batch: &Batch,
        start: &StepStart,
        progress: &mut dyn Progress,
    ) -> Result<(), TrainError> {
        self.position.skipped += start.skipped.len() as u64;
        self.tell_skipped(&start.skipped, progress);
        let step = self.position.step;
        let rate = self.setup.schedule.learning_rate(step, self.total_steps());
        self.position.step += 1;
        if start.total() == 0 {
            return self.expect_updates();
        }
        if step == 0 {
            self.show_first(batch)?;
        }
        let paths = {
            let (graph, state) = (&self.setup.graph, &mut self.position.paths);
            self.setup.paths.draw(graph, self.recipe.seed, step, state)
        };
        let trainee = Trainee {
            graph: &self.setup.graph,
            params: &mut self.params,
            engine: &mut self.engine,
        };
        let (rule, ranks) = (&self.rule, &self.ranks);
        let gradients = rule.gradients(trainee, (batch, start), &paths, step, ranks)?;
        self.exchange.communication += gradients.exchange.communication;
        self.exchange.waited += gradients.exchange.waited;
        if !gradients.loss.is_finite() {
            return Err(TrainError::NotFinite {
                step: step + 1,
                loss: gradients.loss,
                learning_rate: rate,
            });
        }
        self.optimizer
            .update(&mut self.params, &gradients.tensors, rate);
        self.position.updates += 1;
        if let Some(average) = &mut self.average {
            average.update(&self.params, self.position.updates);
        }
        let (images, correct, loss) = (start.total() as u64, gradients.correct, gradients.loss);
        self.position.window.add(images, correct, loss);
        self.position.paths.add(images, correct, loss);
        self.describe_scale();
        self.speed
            .add(start.total(), self.started.elapsed().as_secs_f64());
        progress.step(&StepReport {
            step: self.position.step,
            epoch: self.epoch(),
            loss: self.position.window.loss(),
            top1: self.position.window.top1(),
            images_per_s: self.speed.images_per_s(),
        });
        Ok(())
    }

    /// Lets TensorBoard see the first images as the network does, augmented.
    fn show_first(&mut self, batch: &Batch) -> Result<(), TrainError> {
        let preprocessing = self.setup.preprocessing.clone();
        let Some(events) = self.events() else {
            return Ok(());
        };
        let inputs = batch.images.chunks_exact(preprocessing.input_len());
        let inputs = inputs.take(FIRST_SHOWN);
        let pictures: Vec<_> = inputs.map(|input| preprocessing.picture(input)).collect();
        Ok(events.pictures(0, "train/images", &pictures)?)
    }

    /// Refuses to go on after an epoch, or all steps of a run, without a single image.
    fn expect_updates(&self) -> Result<(), TrainError> {
        let tried = self.setup.epoch.steps().min(self.total_steps());
        if self.position.updates > 0 || self.position.step < tried {
            return Ok(());
        }
        Err(self.unusable("training"))
    }

    fn unusable(&self, split: &'static str) -> TrainError {
        let path = self.dataset().path().to_owned();
        TrainError::Unusable { path, split }
    }

    /// Tells of each image that was left out, once.
    fn tell_skipped(&mut self, skipped: &[Skipped], progress: &mut dyn Progress) {
        for Skipped { path, reason } in skipped {
            if self.told.insert(path.clone()) {
                let (path, reason) = (path.clone(), reason.clone());
                progress.warning(&Warning::SkippedImage { path, reason });
            }
        }
    }

    /// Records, validation and checkpoint where the step number asks for them.
    pub(super) fn after_step(&mut self, progress: &mut dyn Progress) -> Result<(), TrainError> {
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
            self.validate_between_steps(progress)?;
        }
        if !is_last {
            self.announce_paths(progress)?;
        }
        if save && !is_last {
            self.save_checkpoint()?;
        }
        Ok(())
    }

    /// Validates, and lets the rule of stochastic paths see it.
    pub(super) fn validate_between_steps(
        &mut self,
        progress: &mut dyn Progress,
    ) -> Result<(), TrainError> {
        self.position.validation_due = true;
        let report = self.validate_or_save(progress)?;
        self.position.validation_due = false;
        if let Some(top1) = report.top1 {
            let (state, step) = (&mut self.position.paths, self.position.step);
            let said = self.setup.paths.observe(state, step, top1);
            self.announce(said, progress)?;
        }
        Ok(())
    }

    /// Validates; if that fails, the steps made so far are saved first.
    pub(super) fn validate_or_save(
        &mut self,
        progress: &mut dyn Progress,
    ) -> Result<EvalReport, TrainError> {
        let report = self.validate(progress);
        if report.is_err() {
            self.save_checkpoint()?;
        }
        report
    }

    /// Says so if the next step is the first that drops paths, by the recipe alone.
    pub(super) fn announce_paths(&mut self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        self.announce(self.setup.paths.announcement(self.position.step), progress)
    }

    pub(super) fn announce(
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
        self.record(&Record::Train(TrainRecord {
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

    fn validate(&mut self, progress: &mut dyn Progress) -> Result<EvalReport, TrainError> {
        let paused = Instant::now();
        let (predictor, loader) = (&mut self.predictor(), &self.setup.validation);
        let scores = validate(predictor, loader, &self.config.classes, progress);
        let (scores, skipped) = self.ranks.agree(scores)?;
        let communicator = self.ranks.communicator();
        let report = eval::merged(communicator, scores)?.report();
        let skipped = eval::all_skipped(communicator, skipped)?;
        self.tell_skipped(&skipped, progress);
        if report.images == 0 {
            return Err(self.unusable("validation"));
        }
        let record = ValidationRecord {
            step: self.position.step,
            epoch: self.epoch(),
            loss: report.loss.unwrap_or(f64::NAN),
            top1: report.top1.unwrap_or_default(),
            top5: report.top5.unwrap_or_default(),
        };
        if self.record(&Record::Validation(record))?
            && let Some(events) = self.events()
        {
            events.confusion(record.step, &report.confusion)?;
        }
        progress.validation(&record);
        let best = self.position.best_top1;
        self.position.best_top1 = Some(best.map_or(record.top1, |best| best.max(record.top1)));
        self.save_model()?;
        self.started += paused.elapsed();
        Ok(report)
    }
}

/// Scores this rank's share of the validation images, and says which were left out.
fn validate(
    predictor: &mut Predictor,
    loader: &Loader,
    classes: &[String],
    progress: &mut dyn Progress,
) -> Result<(Scores, Vec<Skipped>), TrainError> {
    let total = match &loader.config().share {
        Share::OfEpoch(images) => images.len() as u64,
        Share::Whole | Share::OfBatch(_) => loader.dataset().len() as u64,
    };
    let (mut done, mut skipped) = (0, Vec::new());
    let scores = eval::score(predictor, classes, loader, |batch| {
        done += (batch.len() + batch.skipped.len()) as u64;
        skipped.extend_from_slice(&batch.skipped);
        progress.validating(done, total);
    })?;
    Ok((scores, skipped))
}
