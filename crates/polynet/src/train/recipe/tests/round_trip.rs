//! Any recipe that can be written reads back as the same.

use super::super::*;
use super::{LEAST, read};
use crate::step::{Activations, Precision};
use crate::train::duration::Duration;
use crate::train::duration::tests::any_duration;
use proptest::prelude::*;
use std::path::PathBuf;

fn optimizers() -> impl Strategy<Value = OptimizerAlgorithm> {
    prop_oneof![
        (
            0.0..1.0_f64,
            1e-9..2.0_f64,
            any::<bool>(),
            0.0..2.0_f64,
            0.0..1.0_f64
        )
            .prop_map(|(decay, epsilon, inside, initial_square, momentum)| {
                let momentum_form = match inside {
                    true => MomentumForm::Directions,
                    false => MomentumForm::Steps,
                };
                OptimizerAlgorithm::RmsProp {
                    decay,
                    epsilon,
                    epsilon_position: if inside {
                        EpsilonPosition::Inside
                    } else {
                        EpsilonPosition::Outside
                    },
                    initial_square,
                    momentum_form,
                    momentum,
                }
            }),
        (0.1..1.0_f64).prop_map(|momentum| OptimizerAlgorithm::Sgd {
            momentum,
            nesterov: true,
            dampening: 0.0,
        }),
        (0.0..1.0_f64, 0.0..1.0_f64).prop_map(|(beta1, beta2)| OptimizerAlgorithm::AdamW {
            beta1,
            beta2,
            epsilon: 1e-8,
        }),
    ]
}

fn stochastic_paths() -> impl Strategy<Value = StochasticPathsSection> {
    let when = prop_oneof![
        Just(When::Never),
        Just(When::Always),
        Just(When::Adaptive),
        any_duration().prop_map(When::From),
    ];
    (when, 0.0..1.0_f64, 0.01..1.0_f64, 1..100_u64).prop_map(|(when, max_drop, gap, patience)| {
        let adaptive = when == When::Adaptive;
        StochasticPathsSection {
            when,
            max_drop,
            gap: adaptive.then_some(gap),
            patience: adaptive.then_some(patience),
        }
    })
}

fn schedules() -> impl Strategy<Value = ScheduleSection> {
    let rate = 1e-6..10.0_f64;
    prop_oneof![
        (rate.clone(), any_duration(), 0.01..1.0_f64).prop_map(|(learning_rate, every, factor)| {
            let every = if every.is_zero() {
                Duration::Steps(1)
            } else {
                every
            };
            ScheduleSection::Steps {
                learning_rate,
                every,
                factor,
            }
        }),
        (rate.clone(), any_duration()).prop_map(|(learning_rate, warm_up)| {
            ScheduleSection::Cosine {
                learning_rate,
                warm_up,
                final_learning_rate: learning_rate / 7.0,
            }
        }),
        (rate.clone(), any_duration()).prop_map(|(learning_rate, warm_up)| {
            ScheduleSection::OneCycle {
                learning_rate,
                warm_up,
                final_learning_rate: 0.0,
            }
        }),
        rate.prop_map(|learning_rate| ScheduleSection::Constant { learning_rate }),
    ]
}

fn augmentations() -> impl Strategy<Value = AugmentationSection> {
    prop_oneof![
        (0.01..1.0_f64, 0.1..1.0_f64, 0.0..1.0_f64).prop_map(|(min_area, narrow, flip)| {
            AugmentationSection::MultiArea {
                min_area,
                aspect: [narrow, 1.0 / narrow],
                flip,
            }
        }),
        (0..64_u32, 0.0..1.0_f64, prop::option::of(1..64_u32)).prop_map(
            |(padding, flip, cutout)| {
                AugmentationSection::PadCrop {
                    padding,
                    flip,
                    cutout,
                }
            }
        ),
        Just(AugmentationSection::None),
    ]
}

fn preprocessings() -> impl Strategy<Value = PreprocessingSection> {
    let resize = prop_oneof![
        (1..1000_u32).prop_map(Resize::Exact),
        (1..1000_u32).prop_map(Resize::ShorterSide),
        Just(Resize::None),
    ];
    (
        proptest::option::of(1..1000_u32),
        proptest::option::of(resize),
        proptest::option::of(proptest::array::uniform3(-1.0..1.0_f64)),
        proptest::option::of(proptest::array::uniform3(0.01..2.0_f64)),
    )
        .prop_map(|(size, resize, mean, std)| PreprocessingSection {
            size,
            resize,
            mean,
            std,
        })
}

prop_compose! {
    fn recipes()(
        texts in ("[^\\pC]{1,20}", "\\PC{0,9}x", proptest::option::of("[a-z/]{1,9}")),
        seed in 0..=i64::MAX.cast_unsigned(),
        share in proptest::option::of(0.01..0.99_f64),
        preprocessing in preprocessings(),
        augmentation in augmentations(),
        algorithm in optimizers(),
        schedule in schedules(),
        stochastic_paths in stochastic_paths(),
        method in (1..4_u64, proptest::option::of(0.0..1.0_f64), any::<bool>()),
        times in (any_duration(), any_duration(), 0.0..1.0_f64, 1..4096_u64),
    ) -> Recipe {
        let mut recipe = read(LEAST);
        (recipe.name, recipe.model.architecture) = (texts.0, texts.1);
        recipe.out = texts.2.map(PathBuf::from);
        recipe.seed = seed;
        recipe.data.validation_fraction = share;
        recipe.preprocessing = preprocessing;
        recipe.augmentation = augmentation;
        recipe.optimizer.algorithm = algorithm;
        recipe.schedule = schedule;
        recipe.training.validate_every = times.0;
        recipe.training.checkpoint_every = times.1;
        recipe.training.label_smoothing = times.2;
        recipe.stochastic_paths = stochastic_paths;
        recipe.training.batch_size = times.3 * method.0;
        recipe.training.accumulate = method.0;
        recipe.training.ema = method.1;
        if method.2 {
            recipe.training.precision = Precision::Bf16;
            recipe.training.activations = Activations::Recomputed;
        }
        recipe
    }
}

proptest! {
    #[test]
    fn a_written_recipe_reads_back_as_the_same(recipe in recipes()) {
        let text = recipe.to_toml().unwrap();
        let back = Recipe::parse(&text, &[]).map_err(|error| error.to_string());
        prop_assert_eq!(back.as_ref(), Ok(&recipe), "{}", text);
        prop_assert_eq!(back.unwrap().to_toml().unwrap(), text);
    }

    #[test]
    fn any_text_and_any_override_is_a_recipe_or_an_error(
        text in "[\\[\\]{}=.\"a-c0-9\\n é-]{0,60}", over in "[\\[\\]{}=.\"a-c0-9\\n é-]{0,30}",
    ) {
        if let Err(error) = Recipe::parse(&text, &[over]) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
