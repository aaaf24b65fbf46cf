use super::super::canvas::tests::assert_texts_are_apart;
use super::super::metrics::EventRecord;
use super::*;

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

fn drawn(name: &str, records: &[Record]) -> String {
    let svg = curves(records, name);
    super::super::look(name, &svg);
    assert_texts_are_apart(&svg);
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
        "prefers-color-scheme:dark",
    ] {
        assert!(svg.contains(text), "{text}");
    }
    assert!(svg.contains("<text") && !svg.contains("NaN"));
}

#[test]
fn a_rate_that_falls_by_steps_is_drawn_by_its_powers_of_ten() {
    let rate = |step| 0.45 * 0.1_f64.powi(i32::try_from(step / 1600).unwrap());
    let svg = drawn("paper", &run(5600, rate));
    for tick in [">0.1<", ">0.01<", ">0.001<"] {
        assert!(svg.contains(tick), "{tick}");
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
    let numbers = svg.split("<path").skip(1).flat_map(|rest| {
        let (_, path) = rest.split_once(" d=\"").unwrap();
        path.split('"')
            .next()
            .unwrap()
            .split(|c: char| !c.is_ascii_digit() && c != '.')
    });
    let numbers: Vec<f64> = numbers.filter_map(|number| number.parse().ok()).collect();
    assert!(numbers.len() > 100 && numbers.iter().all(|n| (0.0..=1000.0).contains(n)));
}

#[test]
fn titles_and_numbers_are_apart_on_every_scale() {
    for (steps, rate) in [
        (40, 1e-7),
        (3900, 4.5e-5),
        (1_000_000, 0.123),
        (20, 20_000.0),
    ] {
        let name = format!("{steps} steps at {rate}");
        drawn(&name, &run(steps, |step| rate * (1.0 - step as f64 / 2e6)));
        drawn(
            &format!("{name} in steps"),
            &run(steps, |step| match 2 * step > steps {
                true => rate / 10.0,
                false => rate,
            }),
        );
    }
}

#[test]
fn a_long_run_is_not_a_large_file() {
    assert!(drawn("long", &run(300_000, |_| 0.1)).len() < 200_000);
}
