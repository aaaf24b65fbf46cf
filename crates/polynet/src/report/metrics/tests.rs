use super::*;

fn train(step: u64) -> Record {
    Record::Train(TrainRecord {
        step,
        epoch: step as f64 / 10.0,
        images: step * 4,
        loss: 1.0 / 3.0 + step as f64,
        top1: 0.25,
        learning_rate: 0.1,
        images_per_s: 300.0 + step as f64,
    })
}

fn validation(step: u64) -> Record {
    Record::Validation(ValidationRecord {
        step,
        epoch: step as f64 / 10.0,
        loss: 2.5,
        top1: 0.5,
        top5: 0.75,
    })
}

fn event(step: u64, message: &str) -> Record {
    Record::Event(EventRecord {
        step,
        epoch: 0.5,
        message: message.to_owned(),
    })
}

struct Files {
    _folder: tempfile::TempDir,
    jsonl: PathBuf,
    csv: PathBuf,
}

fn files() -> Files {
    let folder = tempfile::tempdir().unwrap();
    Files {
        jsonl: folder.path().join("metrics.jsonl"),
        csv: folder.path().join("metrics.csv"),
        _folder: folder,
    }
}

fn write(files: &Files, records: &[Record]) {
    let mut log = MetricsLog::create(&files.jsonl, &files.csv).unwrap();
    for record in records {
        log.record(record).unwrap();
    }
}

#[test]
fn records_read_back_in_order() {
    let files = files();
    let records = [train(5), train(10), validation(10), event(10, "stopped")];
    write(&files, &records);
    let metrics = read_metrics(&files.jsonl).unwrap();
    assert_eq!(metrics.records, records);
    assert_eq!(metrics.torn_line, None);
}

#[test]
fn the_table_has_the_same_content() {
    let files = files();
    write(
        &files,
        &[train(5), validation(10), event(10, "a \"b\", c\nd")],
    );
    assert_eq!(
        fs::read_to_string(&files.csv).unwrap(),
        "kind,step,epoch,images,loss,top1,top5,learning_rate,images_per_s,message\n\
         train,5,0.5,20,5.333333333333333,0.25,,0.1,305,\n\
         validation,10,1,,2.5,0.5,0.75,,,\n\
         event,10,0.5,,,,,,,\"a \"\"b\"\", c d\"\n"
    );
}

#[test]
fn a_record_is_in_both_files_before_the_next_one() {
    let files = files();
    let mut log = MetricsLog::create(&files.jsonl, &files.csv).unwrap();
    for step in 1..4 {
        log.record(&train(step)).unwrap();
        assert_eq!(
            read_metrics(&files.jsonl).unwrap().records.len() as u64,
            step
        );
        let rows = fs::read_to_string(&files.csv).unwrap().lines().count() as u64;
        assert_eq!(rows, step + 1);
    }
}

#[test]
fn a_resumed_run_leaves_the_files_of_an_uninterrupted_one() {
    let whole = [
        train(5),
        validation(5),
        train(10),
        train(15),
        validation(15),
    ];
    let (straight, resumed) = (files(), files());
    write(&straight, &whole);
    write(&resumed, &whole[..4]);
    let (mut log, torn) = MetricsLog::resume(&resumed.jsonl, &resumed.csv, 10).unwrap();
    for record in &whole[3..] {
        log.record(record).unwrap();
    }
    assert_eq!(torn, None);
    let read = |path| fs::read_to_string(path).unwrap();
    assert_eq!(read(&resumed.jsonl), read(&straight.jsonl));
    assert_eq!(read(&resumed.csv), read(&straight.csv));
}

#[test]
fn a_torn_last_line_is_dropped_and_reported() {
    let files = files();
    write(&files, &[train(5), train(10)]);
    let text = fs::read_to_string(&files.jsonl).unwrap();
    let first = text.find('\n').unwrap() + 1;
    // Every cut inside the second record tears it; the one before its newline leaves it whole.
    for cut in first + 1..text.len() - 1 {
        fs::write(&files.jsonl, &text[..cut]).unwrap();
        let metrics = read_metrics(&files.jsonl).unwrap();
        assert_eq!(metrics.records, [train(5)], "cut at {cut}");
        assert_eq!(metrics.torn_line, Some(2));
    }
    let (mut log, torn) = MetricsLog::resume(&files.jsonl, &files.csv, 10).unwrap();
    assert_eq!(torn, Some(2));
    log.record(&train(10)).unwrap();
    assert_eq!(fs::read_to_string(&files.jsonl).unwrap(), text);
}

#[test]
fn a_whole_last_line_without_its_newline_counts() {
    let files = files();
    write(&files, &[train(5), train(10)]);
    let text = fs::read_to_string(&files.jsonl).unwrap();
    fs::write(&files.jsonl, text.trim_end()).unwrap();
    let (mut log, torn) = MetricsLog::resume(&files.jsonl, &files.csv, 10).unwrap();
    log.record(&train(15)).unwrap();
    assert_eq!(torn, None);
    let records = read_metrics(&files.jsonl).unwrap().records;
    assert_eq!(records, [train(5), train(10), train(15)]);
}

#[test]
fn a_damaged_line_is_an_error_with_its_place() {
    let files = files();
    write(&files, &[train(5), train(10)]);
    let text = fs::read_to_string(&files.jsonl).unwrap();
    for (damaged, place) in [
        (
            format!("{{}}\n{text}"),
            "metrics.jsonl:1: expected a metrics record",
        ),
        (
            format!("{text}{{\"kind\":\"tra\n{text}"),
            "metrics.jsonl:3: expected",
        ),
        (format!("{text}not a record\n"), "metrics.jsonl:3: expected"),
    ] {
        fs::write(&files.jsonl, damaged).unwrap();
        let error = read_metrics(&files.jsonl).unwrap_err().to_string();
        assert!(error.contains(place), "{error}");
    }
    fs::write(&files.jsonl, b"\xff\xfe\n").unwrap();
    assert!(read_metrics(&files.jsonl).is_err());
}

#[test]
fn resuming_without_metrics_starts_them() {
    let files = files();
    let (mut log, torn) = MetricsLog::resume(&files.jsonl, &files.csv, 10).unwrap();
    log.record(&train(15)).unwrap();
    assert_eq!(torn, None);
    assert_eq!(read_metrics(&files.jsonl).unwrap().records, [train(15)]);
}

#[test]
fn a_loss_that_is_no_number_is_null() {
    let files = files();
    let Record::Train(record) = train(5) else {
        unreachable!()
    };
    write(
        &files,
        &[Record::Train(TrainRecord {
            loss: f64::NAN,
            ..record
        })],
    );
    assert!(
        fs::read_to_string(&files.jsonl)
            .unwrap()
            .contains("\"loss\":null")
    );
    let records = read_metrics(&files.jsonl).unwrap().records;
    assert!(matches!(records[..], [Record::Train(r)] if r.loss.is_nan()));
}

#[test]
fn only_the_speed_and_the_events_differ_between_equal_runs() {
    let Some(Record::Train(record)) = train(5).deterministic() else {
        panic!("a train record has a deterministic part")
    };
    assert_eq!(record.images_per_s, 0.0);
    assert_eq!(validation(5).deterministic(), Some(validation(5)));
    assert_eq!(event(5, "interrupted").deterministic(), None);
}
