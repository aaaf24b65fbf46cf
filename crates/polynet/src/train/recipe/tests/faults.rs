//! What is wrong with a recipe is told with its place.

use super::*;

#[test]
fn an_unknown_key_names_the_nearest_and_its_line() {
    let text = format!("{LEAST}[optimizer]\nkind = 'rmsprop'\n  decai = 0.5\n");
    assert_eq!(
        errors(&text, &[]),
        "recipe:7:3: `decai` is no key of [optimizer] of kind \"rmsprop\": the nearest is `decay`, \
         all are kind, convention, decay, epsilon, epsilon_position, initial_square, \
         momentum_form, momentum, weight_decay, weight_decay_on\n  7 |   decai = 0.5\n    |   ^^^^^"
    );
}

#[test]
fn a_fault_of_an_override_shows_the_override() {
    assert_eq!(
        errors(LEAST, &["seed=1", "training.batch_sise=32"]),
        "override: `batch_sise` is no key of [training]: the nearest is `batch_size`, all are \
         batch_size, accumulate, batch_norm, duration, label_smoothing, clip_norm, clip_value, ema, \
         precision, activations, validate_every, checkpoint_every, log_every\n   \
         | training.batch_sise=32\n   |          ^^^^^^^^^^"
    );
}

#[test]
fn each_fault_says_what_was_expected_and_what_came() {
    for (override_text, expected) in [
        (
            "traning.batch_size=3",
            "`traning` is no key of the top of a recipe: the nearest is `training`",
        ),
        (
            "training.learning_rate=3",
            "`learning_rate` is no key of [training]: it is one of [schedule]",
        ),
        (
            "optimizer.nesterov=true",
            "`nesterov` is no key of [optimizer] of kind \"rmsprop\"",
        ),
        (
            "optimizer.kind=adam",
            "`optimizer.kind`: expected one of \"rmsprop\", \"sgd\", \"adamw\", \"muon\", came the string \"adam\"",
        ),
        (
            "schedule.kind=cosine",
            "`schedule.learning_rate`: expected this key, for example `learning_rate = 0.1`",
        ),
        (
            "fine_tuning.frozen=stem",
            "`fine_tuning.frozen`: expected an array of strings such as [\"stem\", \"A\"], came",
        ),
        (
            "fine_tuning.rates.head=fast",
            "`fine_tuning.rates`: `head`: expected a number, came the string \"fast\"",
        ),
        (
            "fine_tuning.rates={stem=0}",
            "`fine_tuning.rates`: expected a number above 0, came 0",
        ),
        (
            "optimizer.decay=1.0",
            "`optimizer.decay`: expected a number of at least 0 and below 1, came 1",
        ),
        (
            "optimizer.decay=nan",
            "`optimizer.decay`: expected a number of at least 0 and below 1, came NaN",
        ),
        (
            "optimizer.epsilon=inf",
            "`optimizer.epsilon`: expected a number above 0, came inf",
        ),
        (
            "training.batch_size=0",
            "`training.batch_size`: expected from 1 to 1048576 images, came 0",
        ),
        (
            "training.batch_size=many",
            "`training.batch_size`: expected a whole number, not negative, came the string \"many\"",
        ),
        (
            "training.batch_size=-1",
            "expected a whole number, not negative, came the integer -1",
        ),
        (
            "training.duration=0 steps",
            "`training.duration`: expected a finite duration above 0, came 0 steps",
        ),
        (
            "training.duration=90",
            "`training.duration`: expected a duration such as \"560000 steps\"",
        ),
        (
            "training.duration=3 hours",
            "the unit is none of steps, epochs, images",
        ),
        (
            "preprocessing.std=[1, 1, 0]",
            "`preprocessing.std`: expected a number above 0, came 0",
        ),
        (
            "preprocessing.std=[1, 1]",
            "`preprocessing.std`: expected an array of 3 numbers, came an array of 2",
        ),
        (
            "preprocessing.resize=big:3",
            "expected \"exact:378\", \"shorter-side:256\" or \"none\"",
        ),
        (
            "augmentation.aspect=[2, 1]",
            "expected two numbers above 0, the smaller first, came [2, 1]",
        ),
        (
            "augmentation.flip=2",
            "`augmentation.flip`: expected a chance from 0 to 1, came 2",
        ),
        (
            "seed=9223372036854775808",
            "`seed`: expected a seed below 2^63",
        ),
        (
            "training=3",
            "`training`: expected a section, came the integer 3",
        ),
        (
            "name=3",
            "`name`: expected a string in quotes, came the integer 3",
        ),
        (
            "seed.a=3",
            "`seed`: expected a whole number, not negative, came a table",
        ),
        (
            "training.accumulate=3",
            "`training.accumulate`: expected a number of parts that divides training.batch_size",
        ),
        (
            "training.accumulate=0",
            "`training.accumulate`: expected a number of parts",
        ),
        (
            "training.clip_norm=0",
            "`training.clip_norm`: expected a number above 0, came 0",
        ),
        (
            "training.ema=1",
            "`training.ema`: expected a number of at least 0 and below 1, came 1",
        ),
        (
            "training.precision=f16",
            "`training.precision`: expected one of \"f32\", \"bf16\", came the string \"f16\"",
        ),
        (
            "optimizer.convention=keras",
            "`optimizer.convention`: expected one of \"tensorflow\", \"pytorch\"",
        ),
        (
            "stochastic_paths.max_drop=1",
            "`stochastic_paths.max_drop`: expected a number of at least 0 and below 1, came 1",
        ),
        (
            "stochastic_paths.when=soon",
            "or a time such as \"from 20 epochs\", came the string \"soon\"",
        ),
        (
            "stochastic_paths.when=from 3 hours",
            "the unit is none of steps, epochs, images",
        ),
        (
            "stochastic_paths.gap=0.2",
            "`stochastic_paths.gap`: expected no such key unless when = \"adaptive\", came 0.2",
        ),
        (
            "stochastic_paths={when=\"adaptive\", patience=0}",
            "`stochastic_paths.patience`: expected at least 1 validation, came 0",
        ),
        ("name=\"open", "expected TOML"),
        (
            "=3",
            "expected a key such as training.batch_size before the `=`",
        ),
        ("a..b=3", "expected a key such as"),
        ("duration", "expected key.path=value"),
    ] {
        let error = errors(LEAST, &[override_text]);
        assert!(error.contains(expected), "{override_text}: {error}");
    }
    let error = errors(
        &format!("{LEAST}[optimizer]\nkind = 'sgd'\nmomentum = 0\n"),
        &[],
    );
    assert!(
        error.contains("momentum above 0 and dampening 0, or nesterov = false"),
        "{error}"
    );
}

#[test]
fn all_faults_are_reported_in_the_order_of_their_places() {
    let error = Recipe::parse(
        "sed = 1\n[data]\nthreads = 'all'\n[training]\nlog_every = 1.5\n",
        &overrides(&["device=3"]),
    )
    .unwrap_err();
    let positions: Vec<_> = error.faults_found().iter().map(Fault::position).collect();
    assert_eq!(
        positions,
        [
            Some((1, 1)),
            Some((3, 11)),
            Some((5, 13)),
            Some((1, 8)),
            None,
            None
        ]
    );
    let last = error.faults_found().last().unwrap().message();
    assert!(last.starts_with("recipe: `data.path`"), "{last}");
}

#[test]
fn broken_toml_is_shown_with_its_place() {
    let error = errors("[model]\narchitecture == 3\n", &[]);
    assert!(error.starts_with("recipe:2:"), "{error}");
    assert!(error.contains("2 | architecture == 3"), "{error}");
}

#[test]
fn hostile_text_is_an_error() {
    for text in [
        "[".repeat(100_000),
        format!("a = {}", "[".repeat(100_000)),
        format!("{} = 1", "a.".repeat(50_000)),
        format!("a = {}", "{a=".repeat(50_000)),
        "a = \u{1b}[31m".to_owned(),
        format!("{} = 1", "k".repeat(500_000)),
    ] {
        let error = Recipe::parse(&text, &[]).unwrap_err().to_string();
        assert!(error.len() < 4000, "{} bytes", error.len());
        assert!(!error.contains('\u{1b}'));
    }
    let deep = "a.".repeat(50_000) + "b=1";
    assert!(Recipe::parse(LEAST, &[deep]).is_err());
}

#[test]
fn a_recipe_file_names_its_run_and_its_faults() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("photos.toml");
    fs::write(&path, LEAST).unwrap();
    assert_eq!(Recipe::load(&path, &[]).unwrap().name, "photos");
    fs::write(&path, "seed = -1").unwrap();
    let error = Recipe::load(&path, &[]).unwrap_err().to_string();
    assert!(error.contains("photos.toml:1:8: `seed`"), "{error}");
    let missing = folder.path().join("none.toml");
    let error = Recipe::load(&missing, &[]).unwrap_err().to_string();
    assert!(error.contains("none.toml: expected a recipe"), "{error}");
    fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
    let error = Recipe::load(&path, &[]).unwrap_err().to_string();
    assert!(
        error.contains("at most 1048576 bytes, came 2097152"),
        "{error}"
    );
}

#[test]
fn a_recipe_made_by_a_program_is_checked_alike() {
    let mut recipe = read(LEAST);
    assert!(recipe.validate().is_ok());
    recipe.training.log_every = 0;
    recipe.training.duration = Duration::Epochs(f64::NAN);
    let error = recipe.validate().unwrap_err();
    assert_eq!(error.faults_found().len(), 2, "{error}");
}
