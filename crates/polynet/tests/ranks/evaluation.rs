//! Ranks that share the images of an evaluation.

use super::{SIZE, images, on_ranks, recipe};
use polynet::Model;
use polynet::data::{Dataset, Loader, LoaderConfig, OnError, Order, Share, Skipped, Split, View};
use polynet::distributed::Communicator;
use polynet::eval::crops::{CropPlan, Protocol};
use polynet::eval::pooling::{Pooled, Pooling, PoolingRule};
use polynet::eval::{self, CropView, MultiCrop, ScoreCache};
use polynet::report::EvalReport;
use polynet::train::Trainer;
use polynet::train::progress::Silent;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[test]
fn ranks_that_share_an_evaluation_report_what_one_reports() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    images(&data, 8);
    std::fs::write(data.join("val/light/2.png"), "broken").unwrap();
    let run = folder.path().join("run");
    let recipe = recipe(&data, &["data.on_error=skip", "training.duration=1 steps"]);
    let trainer = Trainer::start(recipe, &run, &[], &mut Silent);
    trainer
        .unwrap()
        .run(&mut Silent, &AtomicBool::new(false))
        .unwrap();
    let model = run.join("model");
    let dataset = Arc::new(Dataset::open(&data, Split::Validation).unwrap());
    // More ranks than batches too.
    for crops in [None, Some(Protocol::Crops288)] {
        let mut forwards = Vec::new();
        let reports = [1, 2, 3, 5].map(|ranks| {
            let evaluate = |ranks: &Arc<Communicator>| {
                let cache = folder.path().join("cache");
                evaluate(
                    ranks,
                    &model,
                    &dataset,
                    crops.map(|protocol| (protocol, &cache)),
                )
            };
            let all = on_ranks(ranks, evaluate);
            for rank in &all {
                assert_eq!(
                    (&rank.report, &rank.skipped),
                    (&all[0].report, &all[0].skipped)
                );
            }
            forwards.push(all.iter().map(|rank| rank.forwards).sum::<usize>());
            (all[0].report.clone(), all[0].skipped.clone())
        });
        // What one rank has put into the cache any other number finds.
        let [first, others @ ..] = &forwards[..] else {
            panic!("there are runs");
        };
        for other in others {
            assert!(other < first || crops.is_none(), "{forwards:?}");
            assert_eq!(other, &others[0], "{forwards:?}");
        }
        let (report, skipped) = &reports[0];
        assert_eq!((report.images, skipped.len()), (9, 1));
        assert!(skipped[0].path.ends_with("light/2.png"));
        for other in &reports {
            assert_eq!(other, &reports[0]);
        }
    }
}

/// What one rank knows of an evaluation.
struct Evaluated {
    report: EvalReport,
    skipped: Vec<Skipped>,
    forwards: usize,
}

fn evaluate(
    ranks: &Communicator,
    model: &Path,
    dataset: &Arc<Dataset>,
    crops: Option<(Protocol, &PathBuf)>,
) -> Evaluated {
    let mut opened = Model::open(model).unwrap();
    let config = opened.config().clone();
    let predictor = opened.predictor();
    let (mut skipped, mut forwards) = (Vec::new(), 0);
    let scores = match crops {
        None => {
            let view = View::Evaluate {
                preprocessing: config.preprocessing,
            };
            let loader = LoaderConfig {
                order: Order::InOrder,
                on_error: OnError::Skip,
                share: Share::OfEpoch(eval::share_of(ranks, dataset.len(), 3)),
                ..LoaderConfig::new(3, view)
            };
            let loader = Loader::new(Arc::clone(dataset), loader).unwrap();
            eval::score(predictor, &config.classes, &loader, |batch| {
                skipped.extend(batch.skipped.iter().cloned());
                forwards += 1;
            })
        }
        Some((protocol, cache)) => {
            let plan = CropPlan::new(protocol, SIZE as usize, None).unwrap();
            let cache = ScoreCache::open(cache, model, "cpu", &plan).unwrap();
            let view = CropView {
                plan,
                preprocessing: config.preprocessing,
                batch: 32,
            };
            let rule = PoolingRule {
                pooling: Pooling::TopShare(0.3),
                of: Pooled::Logits,
            };
            let evaluation = MultiCrop {
                view,
                rule,
                cache: Some(&cache),
                on_error: OnError::Skip,
            };
            let share = eval::share_of(ranks, dataset.len(), evaluation.together());
            let forward = |inputs: Vec<f32>, _| {
                forwards += 1;
                predictor.logits(&inputs)
            };
            evaluation.score(dataset, share, forward, |progress| {
                skipped.extend(progress.skipped.iter().cloned());
            })
        }
    };
    Evaluated {
        report: eval::merged(ranks, scores.unwrap()).unwrap().report(),
        skipped: eval::all_skipped(ranks, skipped).unwrap(),
        forwards,
    }
}
