mod faults;
mod round_trip;

use super::*;
use crate::step::{Activations, Precision};
use crate::train::duration::Duration;
use std::path::PathBuf;

const LEAST: &str = "[model]\narchitecture = 'ir-3-6-3'\n[data]\npath = 'photos'\n";

fn overrides(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn read(text: &str) -> Recipe {
    Recipe::parse(text, &[]).unwrap()
}

fn errors(text: &str, over: &[&str]) -> String {
    Recipe::parse(text, &overrides(over))
        .unwrap_err()
        .to_string()
}

#[test]
fn a_recipe_of_two_keys_is_the_training_of_the_paper() {
    let recipe = read(LEAST);
    assert_eq!(
        recipe.optimizer.algorithm,
        OptimizerAlgorithm::RmsProp {
            decay: 0.9,
            epsilon: 1.0,
            epsilon_position: EpsilonPosition::Inside,
            initial_square: 1.0,
            momentum_form: MomentumForm::Steps,
            momentum: 0.0,
        }
    );
    assert_eq!(recipe.stochastic_paths.when, When::Never);
    assert_eq!(recipe.stochastic_paths.max_drop, 0.25);
    assert_eq!(recipe.training.accumulate, 1);
    assert_eq!(recipe.training.ema, None);
    assert_eq!(
        recipe.schedule,
        ScheduleSection::Steps {
            learning_rate: 0.45,
            every: Duration::Steps(160_000),
            factor: 0.1,
        }
    );
    assert_eq!(
        recipe.augmentation,
        AugmentationSection::MultiArea {
            min_area: 0.08,
            aspect: [0.75, 4.0 / 3.0],
            flip: 0.5,
        }
    );
    assert_eq!(recipe.training.batch_size, 256);
    assert_eq!(recipe.training.duration, Duration::Steps(560_000));
    assert_eq!(recipe.training.label_smoothing, 0.0);
    assert_eq!(recipe.optimizer.weight_decay_on, DecayedParameters::Weights);
    assert_eq!(recipe.device, "cpu");
}

#[test]
fn every_key_can_be_written() {
    let recipe = read(
        r#"
        name = "a"
        seed = 0x10
        out = "runs/a"
        device = "vulkan"
        [model]
        architecture = "small-polynet; classes = 10"
        init = "models/b"
        [fine_tuning]
        frozen = ["stem", "A"]
        rates = { head = 10, B = 0.1 }
        [data]
        path = "photos.tar"
        validation_fraction = 0.1
        threads = 3
        on_error = "skip"
        [preprocessing]
        size = 32
        resize = "shorter-side:40"
        mean = [0.5, 0.5, 0]
        std = [1, 1, 1]
        [augmentation]
        kind = "pad-crop"
        padding = 2
        flip = 0
        [optimizer]
        kind = "sgd"
        momentum = 0.8
        nesterov = false
        dampening = 0.1
        weight_decay = 5e-4
        weight_decay_on = "all"
        [schedule]
        kind = "cosine"
        learning_rate = 0.1
        warm_up = "5 epochs"
        final_learning_rate = 1e-5
        [stochastic_paths]
        when = "adaptive"
        max_drop = 0.5
        gap = 0.2
        [training]
        batch_size = 1_024
        accumulate = 4
        clip_norm = 5
        clip_value = 0.5
        ema = 0.9999
        precision = "bf16"
        activations = "recomputed"
        duration = "1.5M images"
        label_smoothing = 0.1
        validate_every = "2 epochs"
        checkpoint_every = "0 steps"
        log_every = 10
        "#,
    );
    assert_eq!(recipe.seed, 16);
    assert_eq!(recipe.out, Some(PathBuf::from("runs/a")));
    assert_eq!(recipe.model.init, Some(PathBuf::from("models/b")));
    assert_eq!(recipe.fine_tuning.frozen, ["stem", "A"]);
    let rates = recipe.fine_tuning.rates.iter();
    let rates: Vec<(&str, f64)> = rates.map(|(name, rate)| (name.as_str(), *rate)).collect();
    assert_eq!(rates, [("B", 0.1), ("head", 10.0)]);
    assert_eq!(
        Recipe::parse(&recipe.to_toml().unwrap(), &[]).unwrap(),
        recipe
    );
    assert_eq!(recipe.data.on_error, OnError::Skip);
    assert_eq!(recipe.preprocessing.resize, Some(Resize::ShorterSide(40)));
    assert_eq!(recipe.preprocessing.mean, Some([0.5, 0.5, 0.0]));
    assert_eq!(
        recipe.augmentation,
        AugmentationSection::PadCrop {
            padding: 2,
            flip: 0.0,
            cutout: None,
        }
    );
    assert_eq!(
        recipe.optimizer.algorithm,
        OptimizerAlgorithm::Sgd {
            momentum: 0.8,
            nesterov: false,
            dampening: 0.1,
        }
    );
    assert_eq!(
        recipe.schedule,
        ScheduleSection::Cosine {
            learning_rate: 0.1,
            warm_up: Duration::Epochs(5.0),
            final_learning_rate: 1e-5,
        }
    );
    assert_eq!(recipe.training.batch_size, 1024);
    assert_eq!(recipe.training.duration, Duration::Images(1_500_000));
    assert_eq!(
        recipe.stochastic_paths,
        StochasticPathsSection {
            when: When::Adaptive,
            max_drop: 0.5,
            gap: Some(0.2),
            patience: Some(3),
        }
    );
    assert_eq!(recipe.training.accumulate, 4);
    assert_eq!(recipe.training.clip_norm, Some(5.0));
    assert_eq!(recipe.training.clip_value, Some(0.5));
    assert_eq!(recipe.training.ema, Some(0.9999));
    assert_eq!(recipe.training.precision, Precision::Bf16);
    assert_eq!(recipe.training.activations, Activations::Recomputed);
}

#[test]
fn every_recipe_of_the_project_can_be_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let mut names = Vec::new();
    let entries = |folder: &Path| -> Vec<_> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let mut paths = entries(&folder);
    paths.extend(entries(&folder.join("grown-start")));
    for path in paths.into_iter().filter(|path| path.is_file()) {
        let recipe = Recipe::load(&path, &[]).unwrap();
        let architecture = &recipe.model.architecture;
        let architecture: crate::arch::Architecture = architecture.parse().unwrap();
        architecture.graph().unwrap();
        let drops = recipe.stochastic_paths.when != When::Never;
        let survival = architecture.with_survival(recipe.stochastic_paths.max_drop);
        assert!(!drops || survival.is_some(), "{}", path.display());
        names.push(recipe.name);
    }
    assert!(names.contains(&"imagenet-very-deep-polynet".to_owned()));
}

#[test]
fn a_convention_gives_the_forms_of_rmsprop_their_defaults() {
    let forms = |over: &[&str]| match Recipe::parse(LEAST, &overrides(over))
        .unwrap()
        .optimizer
        .algorithm
    {
        OptimizerAlgorithm::RmsProp {
            epsilon_position,
            initial_square,
            momentum_form,
            ..
        } => (epsilon_position, initial_square, momentum_form),
        other => panic!("{other:?}"),
    };
    let (inside, outside) = (EpsilonPosition::Inside, EpsilonPosition::Outside);
    let (steps, directions) = (MomentumForm::Steps, MomentumForm::Directions);
    let pytorch = "optimizer.convention=pytorch";
    assert_eq!(
        forms(&["optimizer.convention=tensorflow"]),
        (inside, 1.0, steps)
    );
    assert_eq!(forms(&[pytorch]), (outside, 0.0, directions));
    assert_eq!(
        forms(&[pytorch, "optimizer.initial_square=0.5"]),
        (outside, 0.5, directions)
    );
}

#[test]
fn overrides_are_values_of_toml_or_bare_words() {
    let recipe = Recipe::parse(
        LEAST,
        &overrides(&[
            "training.duration=3 epochs",
            "model.architecture = small-polynet; classes = 10",
            "name=2026-01-02",
            "preprocessing.mean=[0.1, 0.2, 0.3]",
            "schedule={kind=\"constant\", learning_rate=0.5}",
            "seed=1",
            "seed=2",
            "data.path=\"my photos\"",
        ]),
    )
    .unwrap();
    assert_eq!(recipe.training.duration, Duration::Epochs(3.0));
    assert_eq!(recipe.model.architecture, "small-polynet; classes = 10");
    assert_eq!(recipe.name, "2026-01-02");
    assert_eq!(recipe.preprocessing.mean, Some([0.1, 0.2, 0.3]));
    assert_eq!(
        recipe.schedule,
        ScheduleSection::Constant { learning_rate: 0.5 }
    );
    assert_eq!(recipe.seed, 2);
    assert_eq!(recipe.data.path, PathBuf::from("my photos"));
}

#[test]
fn a_default_of_the_list_is_what_an_absent_key_means() {
    let mut checked = 0;
    for key in keys().iter().filter(|key| key.value != "section") {
        let path = match key.section {
            "" => key.name.to_owned(),
            section => format!("{section}.{}", key.name),
        };
        let mut over: Vec<String> = (key.kinds.first().iter())
            .map(|kind| format!("{}.kind={kind}", key.section))
            .collect();
        if key.section == "schedule" && !key.kinds.contains(&"steps") && !key.kinds.is_empty() {
            over.push("schedule.learning_rate=0.3".to_owned());
        }
        let absent = Recipe::parse(LEAST, &over).unwrap();
        if !["none", "required"].contains(&key.default.as_str()) {
            over.push(format!("{path}={}", key.default));
            assert_eq!(Recipe::parse(LEAST, &over).unwrap(), absent, "{over:?}");
            checked += 1;
        }
    }
    assert!(checked > 30, "{checked}");
}

#[test]
fn the_list_says_what_a_word_brings() {
    let keys = keys();
    let find = |name: &str, kind: &str| {
        let of_kind = |key: &&Key| key.name == name && key.kinds.contains(&kind);
        keys.iter().find(of_kind).unwrap()
    };
    assert_eq!(find("flip", "pad-crop").kinds, ["multi-area", "pad-crop"]);
    assert_eq!(find("epsilon", "adamw").kinds, ["adamw"]);
    let square = find("initial_square", "rmsprop");
    assert_eq!(square.defaults(), "1.0, 0.0 with convention = \"pytorch\"");
    let decay = keys.iter().find(|key| key.name == "weight_decay").unwrap();
    assert!(decay.kinds.is_empty());
    for key in keys.iter().filter(|key| key.value == "word") {
        for word in key.range.split("; ").next().unwrap().split(", ") {
            let over = format!("{}.{}={word}", key.section, key.name);
            let read = Recipe::parse(LEAST, &[over, "schedule.learning_rate=0.3".to_owned()]);
            assert!(read.is_ok(), "{read:?}");
        }
    }
}

#[test]
fn a_recipe_of_an_earlier_program_reads_as_it_did() {
    let written = r#"name = "pets"
seed = 3
device = "cpu"

[model]
architecture = "small-polynet; width = 0.125"

[data]
path = "pets.tar"
threads = 0
on_error = "fail"

[preprocessing]
resize = "shorter-side:40"

[augmentation]
kind = "multi-area"
min_area = 0.08
aspect = [0.75, 1.3333333333333333]
flip = 0.5

[optimizer]
kind = "rmsprop"
decay = 0.9
epsilon = 1.0
epsilon_position = "outside"
initial_square = 0.0
momentum_form = "directions"
momentum = 0.0
weight_decay = 0.00004
weight_decay_on = "weights"

[schedule]
kind = "one-cycle"
learning_rate = 0.004
warm_up = "2 epochs"
final_learning_rate = 0.0

[stochastic_paths]
when = "adaptive"
max_drop = 0.25
gap = 0.1
patience = 3

[training]
batch_size = 32
accumulate = 1
batch_norm = "local"
duration = "10 epochs"
label_smoothing = 0.0
precision = "f32"
activations = "kept"
validate_every = "1 epoch"
checkpoint_every = "1 epoch"
log_every = 50
"#;
    let recipe = read(written);
    let same = LEAST
        .replace("ir-3-6-3", "small-polynet; width = 0.125")
        .replace("photos", "pets.tar");
    let same = Recipe::parse(
        &same,
        &overrides(&[
            "name=pets",
            "seed=3",
            "preprocessing.resize=shorter-side:40",
            "optimizer={kind=\"rmsprop\", convention=\"pytorch\", weight_decay=4e-5}",
            "schedule={kind=\"one-cycle\", learning_rate=0.004, warm_up=\"2 epochs\"}",
            "stochastic_paths.when=adaptive",
            "training.batch_size=32",
            "training.duration=10 epochs",
        ]),
    );
    assert_eq!(recipe, same.unwrap());
    let mut text = recipe.to_toml().unwrap();
    for since in [
        "[fine_tuning]\nfrozen = []\n\n[fine_tuning.rates]\n\n",
        "hold_out_seed = 0\n",
        "\n[record]\ntensorboard = false\n",
    ] {
        text = text.replace(since, "");
    }
    assert_eq!(text, written);
}
