use super::*;
use proptest::prelude::*;

fn names(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("c{index}")).collect()
}

fn scored(classes: usize, logits: &[f32], labels: &[usize]) -> EvalReport {
    let mut scores = Scores::new(&names(classes));
    scores.add(logits, labels).unwrap();
    scores.report()
}

#[test]
fn top1_and_top5_count_what_beats_the_label() {
    // Six classes, logits falling: the label's index is its rank.
    let row = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0];
    for (label, top1, top5) in [(0, 1.0, 1.0), (1, 0.0, 1.0), (4, 0.0, 1.0), (5, 0.0, 0.0)] {
        let report = scored(6, &row, &[label]);
        assert_eq!(
            (report.top1, report.top5),
            (Some(top1), Some(top5)),
            "label {label}"
        );
    }
}

#[test]
fn a_tie_goes_to_the_lowest_index() {
    for label in 0..6 {
        let report = scored(6, &[1.0; 6], &[label]);
        assert_eq!(report.top1, Some(if label == 0 { 1.0 } else { 0.0 }));
        assert_eq!(report.top5, Some(if label < 5 { 1.0 } else { 0.0 }));
        assert_eq!(report.confusion.count(label, 0), 1);
    }
    // Zero and minus zero are the same logit.
    assert_eq!(scored(2, &[-0.0, 0.0], &[0]).top1, Some(1.0));
}

#[test]
fn top5_of_fewer_than_five_classes_is_everything() {
    let report = scored(3, &[0.0, 1.0, 2.0], &[0]);
    assert_eq!((report.top1, report.top5), (Some(0.0), Some(1.0)));
}

#[test]
fn the_loss_is_the_mean_cross_entropy() {
    // softmax(ln 1, ln 2, ln 5) = (1/8, 2/8, 5/8)
    let row = [1.0_f32.ln(), 2.0_f32.ln(), 5.0_f32.ln()];
    let report = scored(3, &[row, row].concat(), &[0, 2]);
    let expected = (8.0_f64.ln() + (8.0_f64 / 5.0).ln()) / 2.0;
    assert!((report.loss.unwrap() - expected).abs() < 1e-6);
    // Logits whose exponentials overflow.
    let report = scored(2, &[3e38, -3e38, 1000.0, 999.0], &[0, 0]);
    let expected = (1.0 + (-1.0_f64).exp()).ln() / 2.0;
    assert!((report.loss.unwrap() - expected).abs() < 1e-12);
}

#[test]
fn each_class_has_its_own_accuracy_and_confusions() {
    let (a, b, c) = ([2.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 1.0, 2.0]);
    let report = scored(3, &[a, a, b, c, c, c].concat(), &[0, 0, 0, 1, 1, 0]);
    assert_eq!(
        Vec::from(report.confusion.clone()),
        [[2, 1, 1], [0, 0, 2], [0, 0, 0]]
    );
    let counts: Vec<_> = report
        .classes
        .iter()
        .map(|c| (c.images, c.correct))
        .collect();
    assert_eq!(counts, [(4, 2), (2, 0), (0, 0)]);
    let shares: Vec<_> = report.classes.iter().map(|class| class.top1).collect();
    assert_eq!(shares, [Some(0.5), Some(0.0), None]);
    assert_eq!(report.top1, Some(2.0 / 6.0));
}

#[test]
fn what_can_not_be_scored_is_refused_and_not_counted() {
    let mut scores = Scores::new(&names(2));
    scores.add(&[1.0, 0.0], &[0]).unwrap();
    let before = scores.clone();
    for (logits, labels, message) in [
        (
            &[1.0, 0.0, 1.0][..],
            &[0][..],
            "expected 2 logits for 1 labels and 2 classes, came 3",
        ),
        (
            &[1.0, 0.0, 1.0, 0.0],
            &[0, 2],
            "image 2: expected a label below 2, came 2",
        ),
        (
            &[1.0, 0.0, 0.0, f32::NAN],
            &[0, 1],
            "image 2: expected finite logits, class 1 has NaN",
        ),
        (
            &[f32::INFINITY, 0.0],
            &[0],
            "image 1: expected finite logits, class 0 has inf",
        ),
    ] {
        let error = scores.add(logits, labels).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
        assert_eq!(scores, before);
    }
    assert!(Scores::new(&[]).add(&[], &[0]).is_err());
    assert!(Scores::new(&[]).add(&[], &[]).is_ok());
}

#[test]
fn without_images_there_are_no_shares() {
    let report = Scores::new(&names(2)).report();
    assert_eq!((report.loss, report.top1, report.top5), (None, None, None));
    assert!(report.to_string().contains("top-1           -"));
}

#[test]
fn the_table_is_aligned_and_names_the_usual_mistake() {
    let classes = ["bee".to_owned(), "wasp élégante".to_owned()];
    let mut scores = Scores::new(&classes);
    let logits = [1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0];
    scores.add(&logits, &[0, 0, 1, 0]).unwrap();
    assert_eq!(
        scores.report().to_string(),
        "images          4\n\
         loss       0.5633\n\
         top-1     75.00 %\n\
         top-5    100.00 %\n\
         \n\
         class           images  correct     top-1     top-5  most often taken for\n\
         bee                  3        2   66.67 %  100.00 %  wasp élégante (33.33 %)\n\
         wasp élégante        1        1  100.00 %  100.00 %\n"
    );
}

#[test]
fn a_report_is_plain_json() {
    let report = scored(2, &[0.0, 1.0, 1.0, 0.0], &[1, 1]);
    let json = serde_json::to_value(EvalReport {
        loss: Some(0.5),
        ..report
    })
    .unwrap();
    let class = |name: &str, images: u64, correct: u64, top1: Option<f64>, top5: Option<f64>| {
        serde_json::json!({
            "name": name, "images": images, "correct": correct, "top1": top1, "top5": top5,
        })
    };
    assert_eq!(
        json,
        serde_json::json!({
            "images": 2, "loss": 0.5, "top1": 0.5, "top5": 1.0,
            "classes": [class("c0", 0, 0, None, None), class("c1", 2, 1, Some(0.5), Some(1.0))],
            "confusion": [[0, 0], [1, 1]],
        })
    );
}

proptest! {
    #[test]
    fn batches_of_any_size_score_alike(
        rows in proptest::collection::vec((proptest::array::uniform7(-2_i8..3), 0..7_usize), 1..40),
        batch in 1..10_usize,
    ) {
        let logits = |rows: &[([i8; 7], usize)]| -> Vec<f32> {
            rows.iter().flat_map(|(row, _)| row.map(f32::from)).collect()
        };
        let labels = |rows: &[([i8; 7], usize)]| -> Vec<usize> {
            rows.iter().map(|(_, label)| *label).collect()
        };
        let mut batched = Scores::new(&names(7));
        for rows in rows.chunks(batch) {
            batched.add(&logits(rows), &labels(rows)).unwrap();
        }
        prop_assert_eq!(batched.report(), scored(7, &logits(&rows), &labels(&rows)));
    }

    #[test]
    fn the_label_is_among_the_best_k_when_a_stable_sort_puts_it_there(
        row in proptest::array::uniform9(-2_i8..3), label in 0..9_usize,
    ) {
        let row = row.map(f32::from);
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        let report = scored(9, &row, &[label]);
        prop_assert_eq!(report.top1, Some(f64::from(u8::from(order[0] == label))));
        prop_assert_eq!(report.top5, Some(f64::from(u8::from(order[..5].contains(&label)))));
    }
}
