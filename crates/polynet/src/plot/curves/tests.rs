use super::*;
use crate::train::metrics::EventRecord;

fn run(steps: u64, rate: impl Fn(u64) -> f64) -> Vec<Record> {
    let mut records = Vec::new();
    for step in (10..=steps).step_by(10) {
        let progress = step as f64 / steps as f64;
        // A noise without a random number generator.
        let noise = (step as f64 * 12.9898).sin() * 0.15;
        let loss = 2.3 * (-2.5 * progress).exp() + 0.2 + noise * (1.0 - 0.5 * progress);
        records.push(Record::Train(TrainRecord {
            step,
            epoch: step as f64 / 390.0,
            images: step * 128,
            loss,
            top1: (0.1 + 0.8 * progress + 0.2 * noise).clamp(0.0, 1.0),
            learning_rate: rate(step),
            images_per_s: 300.0,
        }));
        if step % 390 == 0 {
            records.push(Record::Validation(ValidationRecord {
                step,
                epoch: step as f64 / 390.0,
                loss: loss + 0.1 + 0.3 * progress,
                top1: 0.1 + 0.65 * progress,
                top5: 0.5 + 0.48 * progress,
            }));
        }
    }
    records
}

/// The SVG, and a copy to look at where `POLYNET_PLOTS` names a folder.
fn drawn(name: &str, records: &[Record]) -> String {
    let svg = curves(records, name).unwrap();
    if let Some(folder) = std::env::var_os("POLYNET_PLOTS") {
        std::fs::write(
            std::path::Path::new(&folder).join(format!("{name}.svg")),
            &svg,
        )
        .unwrap();
    }
    svg
}

#[test]
fn a_run_shows_its_losses_accuracies_and_rate() {
    let svg = drawn(
        "small-photos",
        &run(3900, |step| 0.4 * (1.0 - step as f64 / 3900.0)),
    );
    for text in [
        "small-photos",
        "loss (nats per image)",
        "accuracy (%)",
        "learning rate",
        "validation top-1",
        "validation top-5",
        "step",
        "epoch",
        "validation top-1 75.00 % at the end",
    ] {
        assert!(svg.contains(text), "{text}");
    }
    assert!(svg.contains("<text") && !svg.contains("NaN"));
}

#[test]
fn a_rate_that_falls_by_steps_is_drawn_by_its_powers_of_ten() {
    let rate = |step| 0.45 * 0.1_f64.powi(i32::try_from(step / 1600).unwrap());
    let svg = drawn("paper", &run(5600, rate));
    for tick in ["\n0.1\n", "\n0.01\n", "\n0.001\n"] {
        assert!(svg.contains(tick) || svg.contains(tick.trim()), "{tick:?}");
    }
}

#[test]
fn a_run_without_records_or_with_one_is_still_a_picture() {
    assert!(drawn("nothing", &[]).contains("no records yet"));
    let event = Record::Event(EventRecord {
        step: 3,
        epoch: 0.1,
        message: "stopped".to_owned(),
    });
    assert!(drawn("an event", &[event]).contains("no records yet"));
    assert!(drawn("a record", &run(10, |_| 0.1)).contains("10 steps"));
}

#[test]
fn values_that_are_no_numbers_leave_no_mark() {
    let mut records = run(400, |_| 0.1);
    for record in records.iter_mut().take(7) {
        if let Record::Train(record) = record {
            (record.loss, record.top1) = (f64::NAN, f64::INFINITY);
        }
    }
    let svg = drawn("diverged", &records);
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
    let bounded = |text: &str| {
        text.split(',')
            .all(|n| n.parse::<i32>().is_ok_and(|n| (0..=4000).contains(&n)))
    };
    let points = svg
        .split("points=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    assert!(points.flat_map(str::split_whitespace).all(bounded));
}

#[test]
fn a_long_run_is_not_a_large_file() {
    assert!(drawn("long", &run(300_000, |_| 0.1)).len() < 200_000);
}
