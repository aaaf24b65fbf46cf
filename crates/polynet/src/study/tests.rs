//! The text of a study, its grid and its ledger.

use super::*;

mod crashes;
mod report;

const LEAST: &str = "title = 'least'\n[recipe]\ndata.path = 'photos'\n\
                     [[architectures]]\nname = 'residual'\nnetwork = 'small-ir-1-2-1'\n";

fn fault(text: &str) -> String {
    Study::parse(text, &[]).unwrap_err().to_string()
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_name() {
    for (text, expected) in [
        (format!("seds = [1]\n{LEAST}"), "the nearest is `seeds`"),
        (
            format!("{LEAST}netwrk = 'x'"),
            "[[architectures]]: `netwrk` is no key here: the nearest is `network`",
        ),
        (
            format!("{LEAST}[[variants]]\nname = 'a'\ngrow = {{ frm = 'residual' }}"),
            "the nearest is `from`",
        ),
        // A recipe's own keys.
        (
            format!("{LEAST}recipe = {{ training.batchsize = 3 }}"),
            "the nearest is `batch_size`",
        ),
        (
            format!("{LEAST}[[variants]]\nname = 'a'\narchitectures = ['residul']"),
            "the nearest is \"residual\"",
        ),
    ] {
        let message = fault(&text);
        assert!(message.contains(expected), "{text}\n{message}");
    }
}

#[test]
fn every_fault_of_a_text_is_told() {
    let message = fault("titel = 'x'\nseeds = []\n[[architectures]]\nname = '../x'\nnetwork = 'y'");
    for expected in [
        "`title`: expected this key",
        "`titel` is no key",
        "`seeds`",
        "\"../x\"",
    ] {
        assert!(message.contains(expected), "{message}");
    }
    assert!(
        fault(&format!(
            "{LEAST}[[architectures]]\nname = 'residual'\nnetwork = 'a'"
        ))
        .contains("twice")
    );
    assert!(
        fault(&LEAST.replace("small-ir-1-2-1", "small-ir-1-2-2")).contains("job residual/plain/0")
    );
}

#[test]
fn the_nearer_text_of_a_recipe_wins() {
    let text = "title = 'x'\nsettings = 'width = 0.125'\n\
        [recipe]\ndata.path = 'photos'\ntraining = { batch_size = 1, log_every = 1 }\n\
        schedule = { kind = 'cosine', learning_rate = 0.1, warm_up = '1 epoch' }\n\
        [[architectures]]\nname = 'a'\nnetwork = 'small-ir-1-2-1'\nrecipe = { training.batch_size = 3 }\n\
        [[variants]]\nname = 'v'\nsettings = 'scale = 1'\n\
        recipe = { training = { batch_size = 2, ema = 0.5 }, schedule = { kind = 'constant', learning_rate = 0.2 } }\n";
    let study = Study::parse(text, &["training.ema=0.75".to_owned()]).unwrap();
    let [job] = &study.jobs[..] else {
        panic!("{:?}", study.jobs)
    };
    let training = &job.recipe.training;
    assert_eq!(
        (training.batch_size, training.log_every, training.ema),
        (3, 1, Some(0.75))
    );
    assert_eq!(
        job.recipe.schedule,
        crate::train::recipe::ScheduleSection::Constant { learning_rate: 0.2 }
    );
    assert_eq!(
        job.recipe.model.architecture,
        "small-ir-1-2-1; width = 0.125; scale = 1"
    );
    assert_eq!(job.network.residual_scales(), [1.0; 4]);
    // What a run leaves beside its metrics makes no other work of it.
    let hash = |more: &str| {
        let overrides = ["training.ema=0.75", more].map(str::to_owned);
        Study::parse(text, &overrides).unwrap().jobs[0].hash.clone()
    };
    assert_eq!(hash("record.tensorboard=true"), job.hash);
    assert_ne!(hash("training.batch_size=4"), job.hash);
}

#[test]
fn a_job_comes_after_the_one_that_it_starts_from() {
    let text = "title = 'x'\nseeds = [1, 2]\n[recipe]\ndata.path = 'photos'\n\
        [[architectures]]\nname = 'large'\nnetwork = 'small-polynet'\n\
        [[architectures]]\nname = 'small'\nnetwork = 'small-ir-1-2-1'\n\
        [[variants]]\nname = 'random'\narchitectures = ['small']\n\
        [[variants]]\nname = 'grown'\narchitectures = ['large']\ngrow = { from = 'small' }\n";
    let study = Study::parse(text, &[]).unwrap();
    let jobs: Vec<&str> = study.jobs.iter().map(|job| job.id.as_str()).collect();
    assert_eq!(
        jobs,
        [
            "small/random/1",
            "large/grown/1",
            "small/random/2",
            "large/grown/2"
        ]
    );
    // Another start is another experiment.
    let appended = text.replace("from = 'small'", "from = 'small', placement = 'append'");
    let appended = Study::parse(&appended, &[]).unwrap();
    assert_eq!(appended.jobs[0].hash, study.jobs[0].hash);
    assert_ne!(appended.jobs[1].hash, study.jobs[1].hash);
    let missing = text.replace("from = 'small'", "from = 'smal'");
    assert!(fault(&missing).contains("which the study does not have"));
    // Without `from` it is the architecture's, and itself where it has been trained in that variant.
    let unsaid = text.replace("grow = { from = 'small' }", "grow = {}");
    let message = fault(&unsaid);
    assert!(message.contains("`grow` has no `from`"), "{message}");
    let named = unsaid.replace("name = 'large'", "name = 'large'\nfrom = 'small'");
    let on = "[[variants]]\nname = 'on'\narchitectures = ['large']\ngrow = { variant = 'grown' }\n";
    let study = Study::parse(&(named + on), &[]).unwrap();
    let starts = study.jobs.iter().filter_map(|job| {
        let from = &job.growing.as_ref()?.from;
        Some((job.id.as_str(), from.as_str()))
    });
    let starts: Vec<_> = starts.take(2).collect();
    let expected = [
        ("large/grown/1", "small/random/1"),
        ("large/on/1", "large/grown/1"),
    ];
    assert_eq!(starts, expected);
    let circle = text.replace("from = 'small'", "from = 'large', variant = 'grown'");
    assert!(fault(&circle).contains("which waits for it in turn"));
}

fn entry(job: &str, outcome: Outcome) -> Entry {
    Entry {
        job: job.to_owned(),
        architecture: "a".to_owned(),
        variant: "b".to_owned(),
        seed: u64::MAX,
        network: "A: I + F, \"x\"".to_owned(),
        from: None,
        recipe: "0".to_owned(),
        outcome,
        machine: Machine {
            processor: "p".to_owned(),
            instructions: "avx2".to_owned(),
            threads: 2,
            device: "cpu".to_owned(),
            version: "1".to_owned(),
            ended: 7,
        },
    }
}

fn figures() -> Figures {
    Figures {
        top1_error: 0.1 + 0.2,
        top5_error: 0.0,
        best_top1_error: 0.25,
        best_top5_error: 0.0,
        loss: None,
        parameters: 1,
        macs: 2,
        steps: 3,
        batch_size: 4,
        images: 12,
        total_images: 12,
        ms_per_step: Some(1.5),
        seconds: None,
        peak_memory_bytes: Some(1),
        validations: vec![Validation {
            step: 3,
            images: 12,
            top1_error: 1.0 / 3.0,
            top5_error: 0.0,
            loss: Some(0.1),
        }],
    }
}

#[test]
fn a_ledger_gives_back_what_was_put_in_and_its_last_record_of_a_job() {
    let root = tempfile::tempdir().unwrap();
    let ledger = StudyFolder::new(root.path()).ledger();
    assert_eq!(ledger.read().unwrap(), []);
    let failed = || Outcome::Failed {
        reason: "a \"line\"\nmore".to_owned(),
    };
    for entry in [
        entry("a", failed()),
        entry("b", failed()),
        entry("a", Outcome::Finished(figures())),
    ] {
        ledger.append(&entry).unwrap();
    }
    let expected = [
        entry("b", failed()),
        entry("a", Outcome::Finished(figures())),
    ];
    assert_eq!(ledger.read().unwrap(), expected);
    let csv = csv(&expected);
    let (header, lines) = csv.split_once('\n').unwrap();
    assert_eq!(
        lines,
        "b,a,b,18446744073709551615,,failed,,,,,,,,,,,,,,,0,p,avx2,2,cpu,1,7,\
         \"A: I + F, \"\"x\"\"\",\"a \"\"line\"\" more\"\n\
         a,a,b,18446744073709551615,,finished,0.30000000000000004,0,0.25,0,,1,2,3,4,12,12,1.5,,1,0,\
         p,avx2,2,cpu,1,7,\"A: I + F, \"\"x\"\"\",\n"
    );
    // Every key of a record but its validations is a column.
    let records = serde_json::to_value(&expected).unwrap();
    for key in records
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|one| one.as_object().unwrap().keys())
    {
        assert!(
            header.split(',').any(|column| column == key) || key == "validations",
            "{key}"
        );
    }
}

#[test]
fn a_torn_last_line_is_left_out_and_then_removed() {
    let root = tempfile::tempdir().unwrap();
    let ledger = StudyFolder::new(root.path()).ledger();
    let whole = [
        entry("a", Outcome::Finished(figures())),
        entry("b", Outcome::Finished(figures())),
    ];
    ledger.append(&whole[0]).unwrap();
    let one = std::fs::read(ledger.path()).unwrap();
    ledger.append(&whole[1]).unwrap();
    let both = std::fs::read(ledger.path()).unwrap();
    for cut in one.len()..both.len() {
        std::fs::write(ledger.path(), &both[..cut]).unwrap();
        assert_eq!(ledger.read().unwrap(), whole[..1]);
    }
    ledger.append(&whole[1]).unwrap();
    assert_eq!(std::fs::read(ledger.path()).unwrap(), both);
    // A damaged line that is whole is no torn one.
    std::fs::write(ledger.path(), [b"{}\n", &both[..]].concat()).unwrap();
    let error = ledger.read().unwrap_err().to_string();
    assert!(
        error.contains("ledger.jsonl:1: expected a job's record"),
        "{error}"
    );
}

/// The text of a study that comes with the project.
fn shipped_text(name: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/studies");
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    let base = folder.join("base.toml").display().to_string();
    text.replace("recipes/studies/base.toml", &base)
}

fn shipped(name: &str) -> Study {
    Study::parse(&shipped_text(name), &[]).unwrap()
}

#[test]
fn the_studies_that_come_with_the_project_are_sound() {
    for (name, jobs) in [
        ("stages.toml", 19),
        ("mixed.toml", 5),
        ("budget.toml", 6),
        ("insertion.toml", 6),
        ("paths.toml", 3),
        ("sharing.toml", 4),
        ("residual-scale.toml", 6),
    ] {
        let study = shipped(name);
        assert_eq!(study.jobs.len(), jobs * study.seeds.len(), "{name}");
        assert!(
            study.jobs[..jobs]
                .iter()
                .all(|job| job.seed == study.seeds[0]),
            "{name}"
        );
        assert!(
            study
                .jobs
                .iter()
                .all(|job| job.recipe.data.hold_out.is_some()),
            "{name}"
        );
    }
}

#[test]
fn the_networks_of_a_budget_cost_the_same() {
    let study = shipped("budget.toml");
    let cost = |job: &Job| job.network.cost().unwrap().macs;
    for pair in study.jobs.chunks(2) {
        assert_eq!(cost(&pair[0]), cost(&pair[1]), "{}", pair[0].id);
    }
}
