//! A network on a data set, several crops an image.

use super::crop_logits::{CropView, ImageLogits};
use super::pooling::PoolingRule;
use super::score_cache::{CacheError, ScoreCache};
use super::{EvalError, Scores};
use crate::data::{DataError, Dataset, OnError, Skipped, decode};
use crate::report::EvalReport;
use rayon::prelude::*;
use std::ops::Range;

/// Crops whose logits make a file of the cache, about.
const CROPS_A_UNIT: usize = 1152;

/// The most images of a unit: their files are in memory.
const MAX_UNIT: usize = 32;

/// How a data set is evaluated by several crops an image.
#[derive(Debug)]
pub struct MultiCrop<'a> {
    /// The crops.
    pub view: CropView,
    /// How their scores become one.
    pub rule: PoolingRule,
    /// Where the scores are kept, if anywhere.
    pub cache: Option<&'a ScoreCache>,
    /// What happens when an image can't be read or decoded.
    pub on_error: OnError,
}

/// How far an evaluation is, after each of its units.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MultiCropProgress {
    /// Images done, skipped ones included.
    pub images: usize,
    /// How many of them had their scores in the cache.
    pub cached: usize,
    /// How many there are.
    pub of: usize,
    /// Images left out since the last time.
    pub skipped: Vec<Skipped>,
}

impl MultiCrop<'_> {
    /// Evaluates: the pooled scores of every image, counted as [`evaluate`](super::evaluate) counts
    /// logits. `forward` computes the logits `[n, classes]` of inputs `[n, 3, input, input]`; it is
    /// not called where the cache has the scores.
    ///
    /// # Errors
    /// If an image can't be loaded (unless such are skipped), a score is not finite, or the cache
    /// can't be written.
    pub fn evaluate(
        &self,
        dataset: &Dataset,
        forward: impl FnMut(Vec<f32>, [usize; 4]) -> Vec<f32>,
        observe: impl FnMut(&MultiCropProgress),
    ) -> Result<EvalReport, EvalError> {
        let scores = self.score(dataset, 0..dataset.len(), forward, observe)?;
        Ok(scores.report())
    }

    /// How many images are computed together: a file of the cache holds their scores.
    pub fn together(&self) -> usize {
        (CROPS_A_UNIT / self.view.plan.crops_per_image()).clamp(1, MAX_UNIT)
    }

    /// As [`MultiCrop::evaluate`] for some of the images, with scores that can be added to those of
    /// others. The cache is of use to other shares if this one begins at a multiple of
    /// [`MultiCrop::together`].
    ///
    /// # Errors
    /// As [`MultiCrop::evaluate`].
    pub fn score(
        &self,
        dataset: &Dataset,
        share: Range<usize>,
        mut forward: impl FnMut(Vec<f32>, [usize; 4]) -> Vec<f32>,
        mut observe: impl FnMut(&MultiCropProgress),
    ) -> Result<Scores, EvalError> {
        let classes = dataset.classes().len();
        let mut scores = Scores::new(dataset.classes());
        let mut progress = MultiCropProgress {
            of: share.len(),
            ..MultiCropProgress::default()
        };
        for start in share.clone().step_by(self.together()) {
            let indices: Vec<usize> = (start..share.end.min(start + self.together())).collect();
            let (results, cached) = self.unit(dataset, &indices, &mut forward)?;
            progress.skipped.clear();
            for (&index, result) in indices.iter().zip(results) {
                match result.map_err(|error| error.at(dataset.location(index))) {
                    Ok(logits) => {
                        let per_scale = self.view.plan.crops_per_scale();
                        let pooled = self.rule.pool(&logits, per_scale, classes);
                        scores.add(&pooled, &[dataset.sample(index).label])?;
                    }
                    Err(error) if self.on_error == OnError::Fail => return Err(error.into()),
                    Err(error) => progress.skipped.push(Skipped {
                        path: dataset.location(index),
                        reason: error.message().to_owned(),
                    }),
                }
            }
            progress.images += indices.len();
            progress.cached += if cached { indices.len() } else { 0 };
            observe(&progress);
        }
        Ok(scores)
    }

    /// The logits of some images, and whether they were cached.
    fn unit(
        &self,
        dataset: &Dataset,
        indices: &[usize],
        mut forward: impl FnMut(Vec<f32>, [usize; 4]) -> Vec<f32>,
    ) -> Result<(Vec<ImageLogits>, bool), CacheError> {
        let (crops, classes) = (self.view.plan.crops_per_image(), dataset.classes().len());
        let files: Vec<Result<Vec<u8>, DataError>> = indices
            .par_iter()
            .map(|&index| dataset.read(index))
            .collect();
        // Scores of images that can't be read are not kept.
        let path = self
            .cache
            .filter(|_| files.iter().all(Result::is_ok))
            .map(|cache| cache.path(files.iter().flatten().map(Vec::as_slice)));
        if let Some(path) = &path
            && let Some(logits) = ScoreCache::load(path, indices.len(), crops, classes)
        {
            return Ok((logits.into_iter().map(Ok).collect(), true));
        }
        let pixels = |image: usize| decode(files[image].as_ref().map_err(Clone::clone)?);
        let results = self.view.logits(indices.len(), pixels, &mut forward);
        if let Some(path) = &path {
            ScoreCache::save(path, &results, crops, classes)?;
        }
        Ok((results, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::sample_images::{picture_set, write_files};
    use crate::data::{Preprocessing, Split};
    use crate::eval::crops::{CropPlan, Protocol};
    use crate::eval::pooling::{Pooled, Pooling};
    use std::fs;
    use std::path::Path;

    const MEAN: PoolingRule = PoolingRule {
        pooling: Pooling::Mean,
        of: Pooled::Logits,
    };

    /// 70 pictures of two classes (three units), and a model folder of two files.
    fn world(folder: &Path) -> Dataset {
        write_files(
            folder,
            &picture_set("data/val/", &[("dark", 40), ("light", 30)]),
        );
        write_files(
            folder,
            &[
                ("model/config.json".into(), b"{}".to_vec()),
                ("model/model.safetensors".into(), b"weights".to_vec()),
            ],
        );
        Dataset::open(folder.join("data"), Split::All).unwrap()
    }

    struct Outcome {
        forwards: usize,
        cached: usize,
        report: Option<EvalReport>,
    }

    /// Evaluates by a network that scores brightness.
    fn evaluate(folder: &Path, protocol: Protocol, rule: PoolingRule) -> Outcome {
        let dataset = Dataset::open(folder.join("data"), Split::All).unwrap();
        let plan = CropPlan::new(protocol, 8, None).unwrap();
        let cache =
            ScoreCache::open(&folder.join("cache"), &folder.join("model"), "cpu", &plan).unwrap();
        let evaluation = MultiCrop {
            view: CropView {
                plan,
                preprocessing: Preprocessing::imagenet(8),
                batch: 40,
            },
            rule,
            cache: Some(&cache),
            on_error: OnError::Fail,
        };
        let (mut forwards, mut cached) = (0, 0);
        let forward = |inputs: Vec<f32>, shape: [usize; 4]| {
            forwards += 1;
            let length = inputs.len() / shape[0];
            let brightness = |input: &[f32]| [-input[0], input[0]];
            inputs.chunks_exact(length).flat_map(brightness).collect()
        };
        let report = evaluation
            .evaluate(&dataset, forward, |progress| cached = progress.cached)
            .ok();
        Outcome {
            forwards,
            cached,
            report,
        }
    }

    #[test]
    fn pooling_again_takes_no_forward_pass() {
        let folder = tempfile::tempdir().unwrap();
        let images = world(folder.path()).len();
        let best = PoolingRule {
            pooling: Pooling::TopShare(0.3),
            of: Pooled::Probabilities,
        };
        let first = evaluate(folder.path(), Protocol::Crops12, MEAN);
        assert_eq!((first.forwards, first.cached), (11 + 11 + 2, 0));
        let again = evaluate(folder.path(), Protocol::Crops12, MEAN);
        assert_eq!((again.forwards, again.cached), (0, images));
        assert_eq!(again.report, first.report);
        let other = evaluate(folder.path(), Protocol::Crops12, best);
        assert_eq!(other.forwards, 0);
        assert_ne!(other.report.unwrap().loss, first.report.unwrap().loss);
    }

    #[test]
    fn an_evaluation_that_ended_early_goes_on_after_its_last_unit() {
        let folder = tempfile::tempdir().unwrap();
        world(folder.path());
        let last = folder.path().join("data/val/light/029.png");
        let good = fs::read(&last).unwrap();
        fs::write(&last, b"not an image").unwrap();
        let first = evaluate(folder.path(), Protocol::Crops12, MEAN);
        assert!(first.report.is_none());
        fs::write(&last, good).unwrap();
        let second = evaluate(folder.path(), Protocol::Crops12, MEAN);
        assert_eq!((second.forwards, second.cached), (2, 64));
        fs::remove_dir_all(folder.path().join("cache")).unwrap();
        let whole = evaluate(folder.path(), Protocol::Crops12, MEAN);
        assert_eq!((whole.cached, whole.report), (0, second.report));
    }

    #[test]
    fn scores_of_other_weights_crops_or_images_are_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        world(folder.path());
        let run = |protocol| evaluate(folder.path(), protocol, MEAN).forwards;
        assert!(run(Protocol::Crops12) > 0);
        assert!(run(Protocol::Crops10) > 0);
        let weights = folder.path().join("model/model.safetensors");
        fs::write(&weights, b"others").unwrap();
        assert_eq!(run(Protocol::Crops12), 24);
        let image = |name: &str| folder.path().join("data/val/dark").join(name);
        fs::copy(image("001.png"), image("000.png")).unwrap();
        // Only the unit of that image.
        assert_eq!(run(Protocol::Crops12), 11);
        for file in fs::read_dir(folder.path().join("cache")).unwrap() {
            fs::write(file.unwrap().path(), b"damaged").unwrap();
        }
        assert_eq!(run(Protocol::Crops12), 24);
    }
}
