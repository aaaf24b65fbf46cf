//! Ranks that share a prediction of many pictures.

use super::{images, on_ranks};
use polynet::Ranked;
use polynet::data::Dataset;
use polynet::eval::{PredictionRequest, PredictionRow, agree_on, all_rows};

/// What a rank makes of its part of a batch: a picture with classes, and one with an error; those of the last
/// rank may have come to an end.
fn made_by(rank: usize) -> (Vec<PredictionRow>, Vec<f32>) {
    let place = |picture: usize| format!("pictures, of rank {rank}/{picture}.png");
    let ranked = Ranked {
        class: "an \"owl\"".to_owned(),
        probability: 1.0 / (rank as f64 + 3.0),
    };
    let rows = [
        PredictionRow {
            image: place(0),
            classes: vec![ranked],
            error: None,
        },
        PredictionRow {
            image: place(1),
            classes: Vec::new(),
            error: Some("no picture\nat all".to_owned()),
        },
    ];
    match rank {
        3 => (Vec::new(), Vec::new()),
        _ => (rows.to_vec(), vec![rank as f32 * 0.1, f32::MIN_POSITIVE]),
    }
}

#[test]
fn every_rank_has_the_rows_of_all_in_their_order() {
    for ranks in [1, 2, 4] {
        let expected: Vec<_> = (0..ranks).map(made_by).collect();
        let all = on_ranks(ranks, |ranks| {
            all_rows(ranks, made_by(ranks.rank())).unwrap()
        });
        for found in all {
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn ranks_that_are_asked_something_else_are_told() {
    let folder = tempfile::tempdir().unwrap();
    images(folder.path(), 2);
    let pictures = Dataset::unlabelled(&[folder.path().join("train")]).unwrap();
    let fewer = Dataset::unlabelled(&[folder.path().join("train/dark")]).unwrap();
    let request = |model: &str, pictures| {
        PredictionRequest::new(model.to_owned(), "cpu", pictures, [5, 8], None)
    };
    for (other, expected) in [
        (request("a model", &pictures), None),
        (request("a newer model", &pictures), Some("the model")),
        (request("a model", &fewer), Some("pictures")),
    ] {
        let told = on_ranks(3, |ranks| {
            let own = match ranks.rank() {
                1 => other.clone(),
                _ => request("a model", &pictures),
            };
            agree_on(ranks, &own).map_err(|error| error.to_string())
        });
        for (rank, told) in told.into_iter().enumerate() {
            let Some(expected) = expected else {
                assert_eq!(told, Ok(()));
                continue;
            };
            let told = told.unwrap_err();
            // The first that differs from the rank that is asked.
            let other = if rank == 1 { "rank 0" } else { "rank 1" };
            assert!(told.contains(expected) && told.contains(other), "{told}");
        }
    }
}
