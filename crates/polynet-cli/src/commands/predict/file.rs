//! `polynet predict MODEL PICTURES… --out FILE`: any number of pictures, in a memory that does not grow
//! with them but for their names. They are read and decoded ahead of the model.

use super::Arguments;
use crate::progress::Count;
use anyhow::{Result, ensure};
use polynet::data::{Batch, Dataset, Loader, LoaderConfig, OnError, Order, View};
use polynet::eval::{PredictionFile, PredictionRequest, PredictionRow};
use polynet::{Model, ranked};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

pub(super) fn run(arguments: &Arguments, out: &Path) -> Result<ExitCode> {
    let (mut model, images) = arguments.open()?;
    let pictures = Arc::new(Dataset::unlabelled(images)?);
    let preprocessing = model.config().preprocessing.clone();
    let crops = arguments.crops.read(&preprocessing, arguments.batch)?;
    ensure!(
        crops.is_none(),
        "--out is of single crops: leave out --crops, or --out"
    );
    let batch_size = usize::from(arguments.batch);
    let features = model.architecture().graph()?.linear.in_features;
    let request = PredictionRequest::new(
        model.digest()?,
        arguments.compute.to_string(),
        &pictures,
        [usize::from(arguments.top), batch_size],
        arguments.embeddings.as_ref().map(|_| features),
    );
    let mut file = PredictionFile::begin(out, arguments.embeddings.as_deref(), request)?;
    let config = LoaderConfig {
        order: Order::InOrder,
        on_error: OnError::Skip,
        ..LoaderConfig::new(batch_size, View::Evaluate { preprocessing })
    };
    let loader = Loader::new(Arc::clone(&pictures), config)?;
    let [done, _] = file.done();
    let mut progress = Count::new("pictures", done, pictures.len());
    for batch in loader.epoch(0, done.div_ceil(batch_size)) {
        let batch = batch?;
        let (logits, embeddings) = match arguments.embeddings {
            Some(_) => {
                let found = model.predict_inputs(&batch.images);
                (found.logits, found.embeddings)
            }
            None => (model.predictor().logits(&batch.images), Vec::new()),
        };
        let rows = rows(arguments, &pictures, &model, &batch, &logits);
        file.write(&rows, &embeddings)?;
        progress.reach(file.done()[0]);
    }
    progress.finish();
    let [done, failed] = file.done();
    file.finish()?;
    eprintln!("{done} pictures in {}", out.display());
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let out = out.display();
    eprintln!("error: {failed} of them can't be used; {out} says why");
    Ok(ExitCode::FAILURE)
}

/// The rows of a batch as it was drawn, those that were left out in their places.
fn rows(
    arguments: &Arguments,
    pictures: &Dataset,
    model: &Model,
    batch: &Batch,
    logits: &[f32],
) -> Vec<PredictionRow> {
    let batch_size = usize::from(arguments.batch);
    let first = batch.number * batch_size;
    let classes = model.classes();
    let mut logits = logits.chunks_exact(classes.len());
    let mut kept = batch.positions.iter().peekable();
    let mut skipped = batch.skipped.iter();
    let mut row = |position: usize| {
        let is_kept = kept.next_if(|kept| **kept == position).is_some();
        let logits = is_kept.then(|| logits.next()).flatten();
        let ranked = logits.map(|row| ranked(row, classes, usize::from(arguments.top)));
        let error = match ranked {
            Some(_) => None,
            None => skipped.next().map(|skipped| skipped.reason.clone()),
        };
        PredictionRow {
            image: pictures.location(first + position),
            classes: ranked.unwrap_or_default(),
            error,
        }
    };
    let drawn = batch_size.min(pictures.len() - first);
    (0..drawn).map(&mut row).collect()
}
