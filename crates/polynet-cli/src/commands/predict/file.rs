//! `polynet predict MODEL PICTURES… --out FILE`: any number of pictures, in a memory that does not grow
//! with them but for their names. They are read and decoded ahead of the model.
//!
//! Several ranks take a part of each batch, the first rank writes.

use super::Arguments;
use crate::commands::ranks;
use crate::progress::Count;
use anyhow::{Context, Result, ensure};
use polynet::data::{Batch, Dataset, Loader, LoaderConfig, OnError, Order, Share, View};
use polynet::distributed::Communicator;
use polynet::eval::{self, PredictionFile, PredictionRequest, PredictionRow};
use polynet::{Model, ranked};
use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// What is classified by what.
struct Work {
    model: Model,
    pictures: Arc<Dataset>,
    request: PredictionRequest,
    loader: Loader,
    /// Pictures of all ranks at once, and this rank's places among them.
    together: usize,
    own: Range<usize>,
}

pub(super) fn run(arguments: &Arguments, out: &Path, ranks: &Communicator) -> Result<ExitCode> {
    let mut work = ranks::agree(ranks, Work::open(arguments, ranks))?;
    eval::agree_on(ranks, &work.request)?;
    let (mut file, done) = begin(arguments, out, ranks, &work.request)?;
    let mut progress = file
        .as_ref()
        .map(|_| Count::new("pictures", done, work.pictures.len()));
    for batch in work.loader.epoch(0, done / work.together) {
        let batch = batch?;
        let first = batch.number * work.together;
        let own = work.predict(arguments, &batch);
        let parts = eval::all_rows(ranks, own)?;
        let (Some(file), Some(progress)) = (&mut file, &mut progress) else {
            continue;
        };
        let each = work.own.len();
        for (rank, (rows, embeddings)) in parts.iter().enumerate() {
            // Another number of ranks may have ended within the batches of all.
            if !rows.is_empty() && first + rank * each >= file.done()[0] {
                file.write(rows, embeddings)?;
            }
        }
        progress.reach(file.done()[0]);
    }
    let (Some(file), Some(progress)) = (file, progress) else {
        return Ok(ExitCode::SUCCESS);
    };
    progress.finish();
    finish(file, out)
}

/// The file, which the first rank alone has, and how many pictures are done.
fn begin(
    arguments: &Arguments,
    out: &Path,
    ranks: &Communicator,
    request: &PredictionRequest,
) -> Result<(Option<PredictionFile>, usize)> {
    let begin = || {
        let embeddings = arguments.embeddings.as_deref();
        Ok(PredictionFile::begin(out, embeddings, request.clone())?)
    };
    let file = ranks::agree(ranks, ranks.is_writer().then(begin).transpose())?;
    let done = file.as_ref().map_or(0, |file| file.done()[0] as u64);
    let done = ranks.gather(done.to_le_bytes().to_vec())?;
    let done = done[0]
        .as_slice()
        .try_into()
        .context("rank 0 does not say what is done")?;
    Ok((file, u64::from_le_bytes(done) as usize))
}

/// Puts the file in its place, and tells what is in it.
fn finish(file: PredictionFile, out: &Path) -> Result<ExitCode> {
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

impl Work {
    fn open(arguments: &Arguments, ranks: &Communicator) -> Result<Self> {
        let (model, images) = arguments.open(ranks)?;
        let pictures = Arc::new(Dataset::unlabelled(images)?);
        let preprocessing = model.config().preprocessing.clone();
        let crops = arguments.crops.read(&preprocessing, arguments.batch())?;
        ensure!(
            crops.is_none(),
            "--out is of single crops: leave out --crops, or --out"
        );
        let each = usize::from(arguments.batch());
        let features = model.architecture().graph()?.linear.in_features;
        let request = PredictionRequest::new(
            model.digest()?,
            arguments.compute.to_string(),
            &pictures,
            [usize::from(arguments.top), each],
            arguments.embeddings.as_ref().map(|_| features),
        );
        let together = each * ranks.ranks();
        let own = ranks.rank() * each..(ranks.rank() + 1) * each;
        let config = LoaderConfig {
            order: Order::InOrder,
            on_error: OnError::Skip,
            share: Share::OfBatch(own.clone()),
            ..LoaderConfig::new(together, View::Evaluate { preprocessing })
        };
        Ok(Self {
            loader: Loader::new(Arc::clone(&pictures), config)?,
            model,
            pictures,
            request,
            together,
            own,
        })
    }

    /// The rows of this rank's part of a batch, and the embeddings if they are asked for.
    fn predict(&mut self, arguments: &Arguments, batch: &Batch) -> eval::PredictedRows {
        let (logits, embeddings) = match arguments.embeddings {
            Some(_) => {
                let found = self.model.predict_inputs(&batch.images);
                (found.logits, found.embeddings)
            }
            None => (self.model.predictor().logits(&batch.images), Vec::new()),
        };
        (self.rows(arguments, batch, &logits), embeddings)
    }

    /// The rows of a batch as it was drawn, those that were left out in their places.
    fn rows(&self, arguments: &Arguments, batch: &Batch, logits: &[f32]) -> Vec<PredictionRow> {
        let first = batch.number * self.together;
        let classes = self.model.classes();
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
                image: self.pictures.location(first + position),
                classes: ranked.unwrap_or_default(),
                error,
            }
        };
        let drawn = self.own.end.min(self.pictures.len() - first);
        (self.own.start.min(drawn)..drawn).map(&mut row).collect()
    }
}
